#!/bin/sh
# From sentence pairs to translators, premodels, policies and what these are worth:
# docs/results.md shows it for Multi30k.
#     sh examples/translation/run.sh DATA WORK
# DATA has train.en and train.de, and such pairs of val, test_2016_flickr and test_2017_flickr.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
data=$1 work=$2

for network in gru-128 transformer-128 transformer-256; do
    python "$here/train.py" "$data" "$work" --network "$network" --seed 1
done
python "$here/table.py" "$data" "$work" --parts val test_2016_flickr -o tuning.csv \
    --search transformer-256 --repeats 2
python "$here/table.py" "$data" "$work" --parts test_2017_flickr -o test.csv \
    --search transformer-256 --repeats 2

cd "$work"
adaptive train tuning.csv --split all --features words,pieces,word_length,piece_length,punctuation \
    -o premodel-knn
adaptive train tuning.csv --split all --classifier logistic -o premodel-logistic
adaptive tune tuning.csv --premodel premodel-logistic --budget-ms "${3:-15}" -o policy.json
adaptive evaluate policy.json test.csv --premodel premodel-logistic --report report.html
python "$here/results.py" .
