#!/usr/bin/env bash
# How fast one GPU is with more workers, each with a model of its own or all with one: gpu.sh PROGRAM FILES...
#
# PROGRAM is a whisperq built with `--features cuda` (infra/cuda.sh builds one without a GPU), FILES are recordings. Takes
# MODEL_NAME, MODEL_DIR and, as lists, WORKERS. Prints a row for each combination: audio seconds per second with twice as
# many clients as workers, the same for one client, the GPU's utilization and memory meanwhile, CPU seconds per second of
# audio. Without nvidia-smi it runs as well, and says nothing of the GPU.
set -euo pipefail
program=$1
shift
folder=$(mktemp -d)
server='' sampler=''
trap 'kill $server $sampler 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
export PORT=${PORT:-18432}
ready_seconds=300
# In milliseconds for a chunk; the rest of `took` is the queue and the disk.
chunks="select count(*) as chunks, sum(end_ms - start_ms) / 1000 as audio_seconds, round(avg(engine_ms), 1) as engine,
        round(avg(took_ms), 1) as took from chunks where kind = 'transcribe' and outcome = 'done'"

sample_gpu() {
    command -v nvidia-smi >/dev/null || return 0
    nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits --loop-ms=500 >"$1" &
    sampler=$!
}

# Median utilization and greatest memory of what was sampled.
gpu_figures() {
    [ -s "$1" ] || { echo "-	-"; return; }
    sort -n "$1" | awk -F', *' '{ use[NR] = $1; if ($2 > most) most = $2 } END { print use[int((NR + 1) / 2)] "	" most }'
}

# CPU seconds of the service so far: its child computes.
cpu_seconds() {
    local pid ticks=0 more
    for pid in $server $(pgrep -P "$server"); do
        more=$(awk '{ print $14 + $15 + $16 + $17 }' "/proc/$pid/stat")
        ticks=$((ticks + more))
    done
    awk -v ticks="$ticks" -v hz="$(getconf CLK_TCK)" 'BEGIN { print ticks / hz }'
}

start() {
    DATA_DIR=$folder/$1-$2 WORKER_COUNT=$1 MODEL_INSTANCES=$2 "$program" serve 2>"$folder/log" &
    server=$!
    for _ in $(seq $((ready_seconds * 5))); do
        ! curl -sf "http://127.0.0.1:$PORT/health" >/dev/null || return 0
        kill -0 "$server" || break
        sleep 0.2
    done
    cat "$folder/log" >&2
    echo "gpu: the service did not start" >&2
    exit 1
}

row() {
    local workers=$1 instances=$2 before
    shift 2
    start "$workers" "$instances"
    before=$(cpu_seconds)
    sample_gpu "$folder/gpu"
    "$program" load --clients $((workers * 2)) --requests $((workers * 8)) "$@" >"$folder/load"
    [ -z "$sampler" ] || { kill "$sampler"; wait "$sampler" 2>/dev/null || true; sampler=''; }
    echo "== $workers workers, $instances models"
    cat "$folder/load"
    echo "GPU %, MiB: $(gpu_figures "$folder/gpu"); CPU seconds: $before before, $(cpu_seconds) after"
    DATA_DIR=$folder/$workers-$instances "$program" sql "$chunks"
    kill -TERM "$server"
    wait "$server" || true
    server=''
    rm -f "$folder/gpu"
}

for workers in ${WORKERS:-1 2 4 8}; do
    row "$workers" 1 "$@"
    [ "$workers" -eq 1 ] || row "$workers" "$workers" "$@"
done
