"""The rules of src/audio/{speech,plan,cut}.rs once more, over any detector, so that detectors and numbers can be tried."""

from dataclasses import dataclass

import numpy as np

from material import FRAME, RATE, runs


@dataclass
class Rules:
    on: float = 0.5
    off: float = 0.35
    min_speech: int = 4
    pad: int = 19
    long_silence: int = 125
    max_chunk: int = 1750
    min_chunk: int = 64
    min_pause: int = 10
    pause_search: int = 437
    order: str = "speech"  # which pauses are looked for first


def speech(probabilities, rules):
    labels, on = np.zeros(len(probabilities), bool), False
    for i, probability in enumerate(probabilities):
        on = probability >= (rules.off if on else rules.on)
        labels[i] = on
    for start, end in runs(labels):
        if end - start < rules.min_speech:
            labels[start:end] = False
    return labels


def longest_pause(silent, earliest, latest, rules):
    best, recent = None, max(earliest, latest - rules.pause_search)
    for start, end in runs(silent[earliest:]) + earliest:
        if start >= latest:
            break
        if end - start >= rules.min_pause and (best is None or best[1] <= recent or end - start >= best[1] - best[0]):
            best = (start, end)
    return best and min(sum(best) // 2, latest)


def cut(labels, energies, earliest, latest, rules):
    ranked = np.sort(energies)
    floor = min((60 / 32768) ** 2, ranked[int(len(ranked) * 0.95)] * 0.018**2)
    threshold = max(ranked[int(len(ranked) * 0.2)], floor, 1e-37)
    by_speech = longest_pause(~labels, earliest, latest, rules)
    by_energy = longest_pause(energies < threshold, earliest, latest, rules)
    first, second = (by_speech, by_energy) if rules.order == "speech" else (by_energy, by_speech)
    for found in (first, second):
        if found is not None:
            return found, False
    around = np.convolve(energies, np.ones(12), "full")[5:]
    begin = max(earliest, latest - 625)
    return latest - int(np.argmin(around[begin : latest + 1][::-1])), True


def plan(labels, energies, rules):
    """[(start, end, hard)] in frames; None as labels plans by loudness alone."""
    count = len(energies)
    labels = np.ones(count, bool) if labels is None else labels
    chunks, base = [], 0
    while labels[base:].any():
        first = base + int(np.argmax(labels[base:]))
        start = max(base, first - rules.pad)
        long = [(a, b) for a, b in runs(~labels[first:]) + first if b - a >= rules.long_silence or b == count]
        speech_end = long[0][0] if long else count
        known = min(speech_end + rules.long_silence, count)
        if min(speech_end + rules.pad, count) - start <= rules.max_chunk and known - start < rules.max_chunk + rules.min_chunk or (
            known == count and min(speech_end + rules.pad, count) - start <= rules.max_chunk
        ):
            end, hard = min(speech_end + rules.pad, count), False
        else:
            known = min(start + rules.max_chunk + rules.min_chunk, count)
            latest = min(start + rules.max_chunk, known - rules.min_chunk)
            at, hard = cut(labels[base:known], energies[base:known], start + rules.min_chunk - base, latest - base, rules)
            at += base
            spoken = np.flatnonzero(labels[base:at])
            end = min(at, base + int(spoken[-1]) + 1 + rules.pad)
        end = min(max(end, start + rules.min_chunk), count)
        start = max(min(start, end - rules.min_chunk), base)
        chunks.append((start, end, hard))
        base = end
    return chunks


def seconds(frames):
    return frames * FRAME / RATE
