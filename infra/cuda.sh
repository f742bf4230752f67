#!/usr/bin/env bash
# Builds whisperq for NVIDIA GPUs on a machine that has neither GPU nor CUDA: the toolkit comes from PyPI. The binary needs
# an x86-64 CPU with AVX2, libgomp 1, libcublas 13, libcudart 13 and, to use a GPU, its driver. `make cuda` calls this.
#
# CUDA_ARCHITECTURES: compute capabilities, as CMake names them; each adds about half an hour on two cores.
# TOOLKIT_DIR: where the toolkit goes (2 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
toolkit=${TOOLKIT_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/whisperq/cuda-13.0}
root=$toolkit/nvidia/cu13

fetch_toolkit() {
    [ ! -e "$toolkit/complete" ] || return 0
    echo "cuda: installing the CUDA 13.0 toolkit into $toolkit"
    rm -rf "$toolkit"
    python3 -m pip install --quiet --no-deps --only-binary :all: --target "$toolkit" \
        nvidia-cuda-{nvcc,crt}==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 \
        nvidia-cuda-{cccl,culibos}==13.0.85 nvidia-cublas==13.0.2.14
    chmod +x "$root"/bin/* "$root"/nvvm/bin/*
    # What the linker and CMake look for, and the packages lack.
    ln -sfn lib "$root/lib64"
    local library
    for library in cublas cublasLt cudart; do
        ln -sfn "lib$library.so.13" "$root/lib/lib$library.so"
    done
    mkdir -p "$root/lib/stubs"
    echo 'int no_driver_here(void) { return 0; }' |
        cc -shared -fPIC -Wl,-soname,libcuda.so.1 -x c - -o "$root/lib/stubs/libcuda.so"
    touch "$toolkit/complete"
}

fetch_toolkit
# A folder of its own, because the engine's build does not notice changed settings.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda
export CARGO_TARGET_DIR
export CUDACXX=$root/bin/nvcc CUDAToolkit_ROOT=$root CUDA_PATH=$root CMAKE_CUDA_COMPILER=$root/bin/nvcc
export CMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES:-90-real}
# Memory by cudaMalloc: the other way needs the driver's own library to link.
export GGML_CUDA_NO_VMM=ON
export GGML_NATIVE=OFF GGML_SSE42=ON GGML_AVX=ON GGML_AVX2=ON GGML_FMA=ON GGML_F16C=ON GGML_BMI2=ON
export RUSTFLAGS="${RUSTFLAGS:-} -L native=$root/lib -L native=$root/lib/stubs"
cargo build --release --locked --features cuda
strip -o "$CARGO_TARGET_DIR/whisperq" "$CARGO_TARGET_DIR/release/whisperq"
echo "cuda: $CARGO_TARGET_DIR/whisperq; run it with LD_LIBRARY_PATH=$root/lib where the machine has no CUDA 13"
