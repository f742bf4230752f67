# `make run` and `make test` do everything, on a fresh machine too; `make help` lists the rest. Taken from the
# environment: MODEL_NAME, MODEL_DIR, DATA_DIR and all other settings of README.md, and CARGO_TARGET_DIR.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := run
# The order of prerequisites matters: install, check, build, fetch, run.
.NOTPARALLEL:

# Small enough to fetch and run anywhere; the program's own default is turbo.
MODEL_NAME := $(or $(MODEL_NAME),tiny.en)
# Kept across clones, like the models.
export TOOLS_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/whisperq/tools
export PATH := $(TOOLS_DIR)/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.PHONY: help run test check soak bench build portable cuda model setup

help: ## List what make can do
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 10

run: model ## Set up, build, fetch MODEL_NAME (tiny.en), transcribe a sample and print it
	@MODEL_NAME="$(MODEL_NAME)" cargo run --release --locked --quiet -- transcribe tests/fixtures/sample.mp3

test: check build ## Set up, then every check and every test
	@infra/fetch-model.sh tiny.en
	cargo test --release --locked

# Everything in the release profile, so that the engine is compiled once. Of cargo-deny's checks, advisories need the
# network at every run and are left out.
check: ## Formatting, lints, documentation, dependencies, the image
	@infra/setup.sh check
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --release --locked --no-deps --document-private-items
	cargo deny --locked --config infra/deny.toml check bans licenses sources
	hadolint runpod/Dockerfile infra/Dockerfile
	PYTHONPATH="$$TOOLS_DIR/cfn-lint" "$$TOOLS_DIR/cfn-lint/bin/cfn-lint" infra/template.yaml

soak: build ## 1,800 engine calls in one process, watching memory; 1,000 kills; 5,000 random walks; 40 files from S3; RunPod's faults
	@infra/fetch-model.sh tiny.en
	KILLS=1000 cargo test --release --locked --lib killed_processes -- --nocapture
	PROPTEST_CASES=5000 cargo test --release --locked --lib the_queue_does_what_its_model_does
	SOAK_CALLS=1800 cargo test --release --locked --test integration soak -- --nocapture
	SOAK_FILES=40 cargo test --release --locked --test integration the_engine_does_not_wait -- --nocapture
	python3 benches/runpod.py "$(or $(CARGO_TARGET_DIR),target)/release/whisperq" tests/fixtures/sample.wav kill 30
	python3 benches/runpod.py "$(or $(CARGO_TARGET_DIR),target)/release/whisperq" tests/fixtures/sample.wav term 30
	python3 benches/runpod.py "$(or $(CARGO_TARGET_DIR),target)/release/whisperq" tests/fixtures/sample.wav down 60

# SPEECH: a folder with the recordings of benches/speed/run.py and their texts. BENCH: its options, such as --rounds 1.
bench: build ## Measure whisperq beside its rivals on the recordings in SPEECH; the table goes to benches/results
	@infra/setup.sh bench
	@infra/fetch-model.sh tiny.en
	@infra/bench.sh "$(or $(SPEECH),../shared/speech)" $(BENCH)

build: setup ## Build target/release/whisperq for this machine
	cargo build --release --locked

# The engine is otherwise compiled for the CPU at hand, and crashes on a lesser one. A folder of its own, because the
# engine's build does not notice changed settings.
portable: export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)/portable
portable: export GGML_NATIVE := OFF
portable: export GGML_SSE42 := ON
portable: export GGML_AVX := ON
portable: export GGML_AVX2 := ON
portable: export GGML_FMA := ON
portable: export GGML_F16C := ON
portable: export GGML_BMI2 := ON
portable: setup ## Build target/portable/release/whisperq for any x86-64 CPU with AVX2
	cargo build --release --locked

cuda: setup ## Build target/cuda/whisperq for NVIDIA GPUs, without one and without CUDA
	infra/cuda.sh

model: build ## Fetch MODEL_NAME into MODEL_DIR
	@infra/fetch-model.sh "$(MODEL_NAME)"

setup: ## Install what building and running need and this machine lacks
	@infra/setup.sh build
