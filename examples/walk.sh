#!/bin/sh
# From a folder of images to a report: measure, train, tune, bundle, judge.
#
#     sh walk.sh CANDIDATES IMAGES LABELS.csv OUT
#
# CANDIDATES is a folder of candidates, such as adaptive zoo export or adaptive candidates makes;
# IMAGES a folder of images that no candidate was trained on, LABELS.csv has the columns image and
# label. OUT must not be there: it gets table, premodel, policy, certificate, bundle and report.html.
set -eu
candidates=$1 images=$2 labels=$3 out=$4
mkdir "$out"

# 1 is "done with omissions": they are listed above, and the walk goes on
adaptive profile --candidates "$candidates" --images "$images" --labels "$labels" \
    -o "$out/outcomes.csv" || [ $? = 1 ]
adaptive train "$out/outcomes.csv" --classifier outcome-knn -k 20 -o "$out/premodel"

# Five points worse than the reference at most, and 95% sure of it. Where that cannot be promised,
# the most accurate policy that takes a second an image at most, of which nothing is promised.
adaptive tune "$out/outcomes.csv" --premodel "$out/premodel" --max-accuracy-drop 0.05 \
    -o "$out/policy.json" ||
    adaptive tune "$out/outcomes.csv" --premodel "$out/premodel" --budget-ms 1000 \
        -o "$out/policy.json"

set --
[ ! -e "$out/certificate.json" ] || set -- --certificate "$out/certificate.json"
adaptive bundle --candidates "$candidates" --premodel "$out/premodel" --table "$out/outcomes.csv" \
    --policy "$out/policy.json" "$@" -o "$out/bundle"
adaptive evaluate "$out/bundle" "$out/outcomes.csv" --images "$images" \
    --report "$out/report.html"
echo "look at $out/report.html, then: adaptive serve $out/bundle"
