"""Compares voice detectors under the planner's rules; the tables are in benches/README.md, with the command.

    measure.py SPEECH_FOLDER WORK_FOLDER PLAN_PROGRAM            detectors, all recordings
    measure.py SPEECH_FOLDER WORK_FOLDER PLAN_PROGRAM --sweep    the numbers of the chosen one
"""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import earshot
import numpy as np
import webrtcvad

import material
import planner
from planner import Rules

RULES = {
    "energy": Rules(),
    "webrtc": Rules(on=0.5, off=0.5),
    "earshot": Rules(),
    "silero": Rules(),
}
# Recordings on which the numbers are tried.
SWEPT = ["clean", "quiet", "white5", "pink5", "babble10", "band5", "gaps"]


def webrtc(samples, mode=2):
    detector = webrtcvad.Vad(mode)
    pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
    found = [detector.is_speech(pcm[at : at + 160].tobytes(), 16_000) for at in range(0, len(pcm) - 159, 160)]
    count = len(samples) // material.FRAME
    return np.array(found, float)[np.minimum((np.arange(count) * 16 + 8) // 10, len(found) - 1)]


def earshot_network(samples):
    detector = earshot.Detector()
    return np.array([detector.predict_f32(frame) for frame in np.ascontiguousarray(material.frames(samples), np.float32)])


def ours(program, folder, recordings):
    """The program's own probabilities and plans, by name; it is given files."""
    files = {name: folder / f"{name.replace(' ', '-')}.wav" for name in recordings}
    for name, path in files.items():
        material.save(path, recordings[name])
    lines = subprocess.run([program, *files.values()], capture_output=True, check=True, text=True).stdout.splitlines()
    return dict(zip(files, map(json.loads, lines)))


def probabilities(program, folder, recordings, others=True):
    """detector → name → one probability per frame, and the cost of each detector as a share of real time."""
    found, cost = {"energy": dict.fromkeys(recordings)}, {"energy": 0.0}
    plans = ours(program, folder, recordings)
    found["silero"] = {
        name: np.repeat(plans[name]["probabilities"], 2)[: len(samples) // material.FRAME]
        for name, samples in recordings.items()
    }
    total = sum(plan["seconds"] for plan in plans.values())
    cost["silero"] = sum(plan["probabilities_seconds"] for plan in plans.values()) / total
    for name, detector in [("webrtc", webrtc), ("earshot", earshot_network)] if others else []:
        begin = time.process_time()
        found[name] = {key: detector(samples) for key, samples in recordings.items()}
        cost[name] = (time.process_time() - begin) / total
    return found, cost, plans


def chunks(probability, samples, rules):
    labels = None if probability is None else planner.speech(probability, rules)
    return planner.plan(labels, (material.frames(samples) ** 2).mean(1), rules)


def judge(plan, truth):
    """Speech that is in no chunk, non-speech that is in one, cuts, cuts inside a word, hard ones."""
    inside = np.zeros(len(truth), bool)
    for start, end, _ in plan:
        inside[start:end] = True
    cuts = [end for (_, end, _), (start, _, _) in zip(plan, plan[1:])]
    words = sum(bool(truth[max(at - 1, 0) : at + 1].all()) for at in cuts if at < len(truth))
    return np.array([(truth & ~inside).sum(), truth.sum(), (inside & ~truth).sum(), (~truth).sum(), len(cuts), words,
                     sum(hard for *_, hard in plan), len(plan)])


def row(title, sums):
    missed, speech, kept, rest, cuts, words, hard, count = sums
    return (f"| {title} | {100 * missed / max(speech, 1):.2f} % | {100 * kept / max(rest, 1):.0f} % | {words} of {cuts} "
            f"| {hard} | {count} |")


HEADER = "| | speech missed | non-speech kept | cuts in a word | hard cuts | chunks |\n|---|---|---|---|---|---|"


def groups(names):
    kinds = dict.fromkeys(name.split()[1].rstrip("0123456789") for name in names)
    return {kind: [name for name in names if name.split()[1].rstrip("0123456789") == kind] for kind in kinds}


def compare(spoken, found, limit):
    for kind, names in groups(spoken).items():
        print(f"\n{kind}, chunks of at most {limit} s\n\n{HEADER}")
        for detector, rules in RULES.items():
            rules = replace(rules, max_chunk=limit * 1000 // 16)
            print(row(detector, sum(judge(chunks(found[detector][name], spoken[name][0], rules), spoken[name][1]) for name in names)))


def silent(empty, found):
    print("\nkept of 30 s without speech\n\n| | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
    for name, samples in empty.items():
        kept = [sum(end - start for start, end, _ in chunks(found[d][name], samples, RULES[d])) for d in found]
        print(f"| {name} | " + " | ".join(f"{planner.seconds(frames):.1f} s" for frames in kept) + " |")


def sweep(spoken, empty, found):
    base = RULES["silero"]
    variants = {"as chosen": base}
    variants |= {f"on {on}, off {off}": replace(base, on=on, off=off)
                 for on, off in [(0.2, 0.1), (0.3, 0.15), (0.4, 0.25), (0.5, 0.2), (0.6, 0.4), (0.7, 0.5)]}
    variants |= {f"least speech {16 * n} ms": replace(base, min_speech=n) for n in (2, 8, 16)}
    variants |= {f"pad {16 * n} ms": replace(base, pad=n) for n in (0, 6, 12, 25)}
    variants |= {f"long silence {16 * n} ms": replace(base, long_silence=n) for n in (94, 188, 250)}
    variants |= {f"least pause {16 * n} ms": replace(base, min_pause=n) for n in (4, 6, 16)}
    variants |= {f"pauses by {order} first": replace(base, order=order) for order in ("energy",)}
    spoken = {name: of for name, of in spoken.items() if name.split()[1] in SWEPT}
    for limit in (28,):
        print(f"\nchunks of at most {limit} s\n\n{HEADER[:-1]}|---|".replace("chunks |\n", "chunks | kept of no speech |\n"))
        for title, rules in variants.items():
            rules = replace(rules, max_chunk=limit * 1000 // 16)
            sums = sum(judge(chunks(found[name], samples, rules), truth) for name, (samples, truth, _) in spoken.items())
            kept = sum(end - start for name, samples in empty.items() for start, end, _ in chunks(found[name], samples, rules))
            print(row(title, sums) + f" {planner.seconds(kept):.1f} s |", flush=True)


def main():
    speech, folder, program = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    spoken, empty = material.recordings(speech), material.without_speech()
    everything = {name: samples for name, (samples, *_) in spoken.items()} | empty
    found, cost, plans = probabilities(program, folder, everything, others="--sweep" not in sys.argv)
    check(plans, everything, found["silero"])
    if "--sweep" in sys.argv:
        return sweep(spoken, empty, found["silero"])
    print("cost as a share of real time: " + ", ".join(f"{name} {share:.4f}" for name, share in cost.items()))
    for limit in (10, 28):
        compare(spoken, found, limit)
    silent(empty, found)


def check(plans, recordings, found):
    """Complains where the program plans otherwise than the rules here: the tables are about the program."""
    for name, samples in recordings.items():
        for ours, rules in ((plans[name]["vad"], RULES["silero"]), (plans[name]["energy"], RULES["energy"])):
            here = chunks(found[name] if ours is plans[name]["vad"] else None, material.frames(samples).ravel(), rules)
            there = [(start // material.FRAME, end // material.FRAME, hard) for start, end, hard in ours["chunks"]]
            if here != there:
                print(f"{name}: planned {there}, here {here}", file=sys.stderr)


if __name__ == "__main__":
    main()
