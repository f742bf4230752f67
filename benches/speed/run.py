#!/usr/bin/env python3
"""whisperq beside faster-whisper and pywhispercpp, on the same weights and recordings: `make bench`, or

    run.py PROGRAM CT2_FOLDER SPEECH_FOLDER [--rounds 3] [--engines a,b] [--loads one,clips,long,mix] [--out NAME]

PROGRAM is the whisperq to measure, CT2_FOLDER has the weights for faster-whisper, SPEECH_FOLDER recordings as `NAME.mp3`
or `.wav` with what is said in them as `NAME.txt`. Within a round every engine has its turn under each load before the next
load comes, so that a slow moment of the machine meets all. Writes a table and a plot into benches/results.
"""
import argparse
import json
import os
import platform
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import jiwer

import report
from loads import Clip, clips, mixed
from servers import Rival, Whisperq

HERE = Path(__file__).parent
MODEL = "tiny.en"
PORT = 18_431
CLIENTS = (1, 2, 4, 8)
LONG_AT_ONCE = 4
PAUSE_SECONDS = 0.5


def engines(args):
    """What can be started, by name. A rival's numbers are calls at once and threads of each."""
    weights, ggml = str(args.ct2), str(Path(args.models) / f"ggml-{MODEL}.bin")

    def rival(name, engine, weights, workers, threads):
        return name, lambda: Rival(name, engine, weights, workers, threads)

    def ours(name, workers, model=MODEL):
        return name, lambda: Whisperq(name, args.program, model, PORT, workers)

    return dict([
        ours("whisperq", None),
        ours("whisperq 2", 2),
        rival("faster-whisper 1x2", "faster-whisper", weights, 1, 2),
        rival("faster-whisper 2x1", "faster-whisper", weights, 2, 1),
        rival("faster-whisper 4x1", "faster-whisper", weights, 4, 1),
        rival("faster-whisper batched 1x2", "faster-whisper-batched", weights, 1, 2),
        rival("faster-whisper batched 2x1", "faster-whisper-batched", weights, 2, 1),
        rival("pywhispercpp 1x2", "pywhispercpp", ggml, 1, 2),
    ])


def seconds_of(path):
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def recording(folder, name):
    path = next(path for path in (folder / f"{name}.mp3", folder / f"{name}.wav") if path.exists())
    return Clip(str(path), seconds_of(path), (folder / f"{name}.txt").read_text())


def cut_clips(folder, work):
    """The short recordings of clips.json, cut out of the long ones."""
    found = []
    for n, clip in enumerate(json.loads((HERE / "clips.json").read_text())):
        path = Path(work) / f"clip-{n:02}.wav"
        span = ["-ss", str(clip["start"]), "-to", str(clip["end"])]
        source = ["-i", folder / clip["file"]]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *span, "-ac", "1", "-ar", "16000", path], check=True)
        found.append(Clip(str(path), clip["end"] - clip["start"], clip["text"]))
    return found


def loads(args, work):
    """{name: what to do with a server}"""
    folder = Path(args.speech)
    short, long = cut_clips(folder, work), recording(folder, "licence-11min")
    one = [recording(folder, "jfk")] * 5
    chosen = {"one clip of 11 s": lambda server: clips(server, one, 1)}
    for clients in CLIENTS:
        chosen[f"40 clips, {clients} at once"] = lambda server, clients=clients: clips(server, short, clients)
    chosen["11 minutes"] = lambda server: clips(server, [long], 1)
    chosen["mix"] = lambda server: mixed(server, [long] * LONG_AT_ONCE, short, PAUSE_SECONDS)
    wanted = {"one": "one", "clips": "40", "long": "11", "mix": "mix"}
    prefixes = tuple(wanted[name] for name in args.loads.split(","))
    return {name: load for name, load in chosen.items() if name.startswith(prefixes)}


def plain(texts):
    """Words as they are compared: without case and punctuation."""
    return [" ".join(re.sub(r"[^\w\s]", "", text.lower().replace("-", " ")).split()) for text in texts]


def word_error_rate(result):
    return jiwer.wer(plain([" ".join(result.said)]), plain([" ".join(result.heard)]))


def measure(args):
    """{(load, engine): [result as numbers]}, a result for each round."""
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as work:
        makers, chosen = engines(args), loads(args, work)
        names = args.engines.split(",") if args.engines else list(makers)
        for turn in range(args.rounds):
            for load_name, load in chosen.items():
                for name in names:
                    server = makers[name]()
                    try:
                        # The first call of a process pays for what is set up then.
                        server.transcribe(recording(Path(args.speech), "jfk").path)
                        result = load(server)
                        numbers = report.numbers(result, word_error_rate(result), server.usage.peak)
                    finally:
                        server.close()
                    found[load_name, name].append(numbers)
                    print(turn, load_name, name, json.dumps(numbers), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("ct2", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--models", default=Path.home() / ".cache/whisperq/models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="")
    parser.add_argument("--loads", default="one,clips,long,mix")
    parser.add_argument("--out", default="cpu")
    args = parser.parse_args()
    if not (args.speech / "licence-11min.mp3").exists():
        raise SystemExit(f"{args.speech} has no licence-11min.mp3: name the folder with the recordings in SPEECH")
    found = measure(args)
    machine = f"{os.cpu_count()} cores of {platform.machine()}, {args.rounds} rounds"
    report.write(HERE.parent / "results" / args.out, found, machine)


if __name__ == "__main__":
    main()
