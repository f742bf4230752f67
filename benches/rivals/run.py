#!/usr/bin/env python3
"""Jobs per second of whisperq's queue, huey and apalis-sqlite, all as durable as ours: run.py [JOBS] [REPETITIONS].

They take turns, so that a slow moment of the machine meets all of them. Each job is submitted by itself, and its result
is kept. CARGO_TARGET_DIR is where both packages are built.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")).absolute()
THREADS = (1, 4)
PHASES = ("submit", "do")


def build_ours():
    """The bench program, which cargo names in its messages."""
    command = ["cargo", "bench", "--locked", "--bench", "queue", "--no-run", "--message-format", "json"]
    lines = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "queue")


def build_apalis():
    target = TARGET / "rival-apalis"
    command = ["cargo", "build", "--release", "--locked", "--target-dir", target]
    subprocess.run(command, cwd=HERE / "apalis", check=True)
    return target / "release" / "rival-apalis"


def install_huey(folder):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "huey==3.5.4"]
    subprocess.run(pip, check=True)
    return {**os.environ, "PYTHONPATH": str(folder)}


def rates(command, env=None):
    with tempfile.TemporaryDirectory() as folder:
        words = [str(word).replace("FOLDER", folder) for word in command]
        return json.loads(subprocess.run(words, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(jobs, repetitions, work):
    """{(queue, threads, phase): rates}"""
    ours, apalis, python_path = build_ours(), build_apalis(), install_huey(Path(work) / "huey")
    found = {}
    for _ in range(repetitions):
        for threads in THREADS:
            turns = {
                "whisperq": rates([ours, "rates", jobs, threads]),
                "huey": rates([sys.executable, HERE / "huey_rates.py", "FOLDER", jobs, threads], python_path),
                "apalis": rates([apalis, "FOLDER", jobs, threads]),
            }
            for queue, result in turns.items():
                for phase in PHASES:
                    found.setdefault((queue, threads, phase), []).append(result[phase])
    return found


def main():
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as work:
        found = measure(jobs, repetitions, work)
    medians = {key: statistics.median(values) for key, values in found.items()}
    print(f"jobs per second, medians of {repetitions} turns of {jobs} jobs")
    for phase in PHASES:
        for threads in THREADS:
            ours, huey, apalis = (medians[queue, threads, phase] for queue in ("whisperq", "huey", "apalis"))
            print(
                f"{phase:6} {threads} thread(s): whisperq {ours:5.0f}, huey {huey:5.0f} (x {ours / huey:.2f}),"
                f" apalis {apalis:5.0f} (x {ours / apalis:.2f})"
            )


if __name__ == "__main__":
    main()
