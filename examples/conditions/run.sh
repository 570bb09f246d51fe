#!/bin/sh
# From a camera's unlabelled images to conditions and a policy: docs/conditions.md explains it.
#     sh examples/conditions/run.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python "$here/camera.py" "$1"
cd "$1"

adaptive features camera -o camera.csv \
    --features laplacian_deviation,noise,avg_brightness,contrast,brightness_rms
adaptive profile --candidates candidates --images labelled --labels labelled/labels.csv -o outcomes.csv
adaptive train outcomes.csv --classifier mixture -k 2 --unlabelled camera.csv --images labelled -o premodel
adaptive tune outcomes.csv --premodel premodel --max-accuracy-drop 0.1 -o policy.json
adaptive bundle --candidates candidates --table outcomes.csv --premodel premodel \
    --policy policy.json --certificate certificate.json --all-candidates -o bundle
adaptive evaluate bundle outcomes.csv --images labelled --report report.html

python "$here/watch.py" bundle evening decisions.jsonl
adaptive replay decisions.jsonl --policy fixed:both --bundle bundle
