"""Recordings to measure on: two clean ones, mixed with noise, babble and synthetic music, and with long gaps put in."""

import subprocess
from pathlib import Path

import numpy as np
from scipy import signal
from scipy.io import wavfile

RATE = 16_000
FRAME = 256
STEP = 512
CHORDS = [(261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7)]
MUSIC = ["piano", "organ", "lead", "drums", "band"]


def load(path, seconds=None):
    limit = ["-t", str(seconds)] if seconds else []
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-ac", "1", "-ar", str(RATE), *limit, "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32).copy()


def save(path, samples):
    wavfile.write(path, RATE, np.round(samples * 32768).astype(np.int16))


def quantized(samples):
    """What a file holds of it, in whole steps of the detector."""
    samples = samples[: len(samples) // STEP * STEP]
    return (np.clip(np.round(samples * 32768), -32768, 32767) / 32768).astype(np.float32)


def frames(samples):
    return samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)


def decibels(samples):
    return 10 * np.log10((frames(samples) ** 2).mean(1) + 1e-12)


def runs(mask):
    return np.flatnonzero(np.diff(np.r_[0, mask.astype(int), 0])).reshape(-1, 2)


def speech_truth(clean, gap_frames=10):
    """Speech by loudness, which on clean recordings is exact: gaps under 160 ms belong to it, clicks do not."""
    loudness = decibels(clean)
    speech = loudness > max(np.percentile(loudness, 95) - 38, -60)
    for start, end in runs(~speech):
        if end - start < gap_frames and 0 < start and end < len(speech):
            speech[start:end] = True
    for start, end in runs(speech):
        if end - start < 3:
            speech[start:end] = False
    return speech


def level(samples):
    power = (frames(samples) ** 2).mean(1)
    return np.sqrt(power[power > power.max() * 1e-3].mean())


def at_level(samples, dbfs):
    return samples / np.sqrt(np.mean(samples**2)) * 10 ** (dbfs / 20)


def mix(speech, noise, snr):
    mixed = speech + at_level(noise, 0) * level(speech) * 10 ** (-snr / 20)
    return (mixed / max(1, np.abs(mixed).max() / 0.95)).astype(np.float32)


def coloured(length, exponent, rng):
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.maximum(np.arange(len(spectrum)), 20)
    return np.fft.irfft(spectrum / frequency**exponent, length)


def hum(length):
    time = np.arange(length) / RATE
    return sum(part / n * np.sin(2 * np.pi * 50 * n * time) for n, part in [(1, 1), (2, 1.2), (3, 1.2), (5, 1)])


def babble(length, voices, rng, speakers=8):
    return sum(np.roll(voices, -int(rng.integers(len(voices))))[:length] for _ in range(speakers))


def note(pitch, seconds, kind):
    time = np.arange(int(seconds * RATE)) / RATE
    swell = np.minimum(1, time * 20) * np.minimum(1, (seconds - time) * 20)
    if kind == "piano":
        return sum(np.sin(2 * np.pi * pitch * n * time) * np.exp(-time * (2 + n)) / n for n in range(1, 8))
    if kind == "organ":
        return sum(np.sin(2 * np.pi * pitch * n * time) / n for n in (1, 2, 3, 4, 6, 8)) * swell
    vibrato = time + 0.0006 * np.sin(2 * np.pi * 5.5 * time)
    band = signal.butter(2, [300, 2500], "band", fs=RATE)
    return signal.lfilter(*band, signal.sawtooth(2 * np.pi * pitch * vibrato)) * swell


def drum(kind, rng):
    time = np.arange(RATE // 4) / RATE
    if kind == "kick":
        return 2 * np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-time * 30)))) * np.exp(-time * 18)
    hiss = rng.standard_normal(len(time))
    if kind == "snare":
        return (0.7 * hiss + np.sin(2 * np.pi * 190 * time)) * np.exp(-time * 22)
    return np.diff(hiss, prepend=0) * np.exp(-time * 60) / 2


def music(length, style, rng):
    beat = 60 / rng.uniform(80, 130)
    out = np.zeros(length + 20 * RATE)

    def play(sound, at, gain):
        out[int(at * RATE) :][: len(sound)] += gain * sound

    for count in range(int(length / RATE / beat)):
        at, chord = count * beat, CHORDS[count // 4 % 4]
        for pitch in chord:
            if style in ("piano", "band"):
                play(note(pitch, beat * (1 + count % 2), "piano"), at, 0.5)
            if style == "organ" and count % 4 == 0:
                play(note(pitch, beat * 4, "organ"), at, 0.4)
        if style in ("lead", "band"):
            pitch = chord[rng.integers(3)] * rng.choice([0.5, 1, 2])
            play(note(pitch, beat * rng.choice([0.5, 1, 1.5]), "lead"), at, 0.6)
        if style in ("drums", "band"):
            play(drum("snare" if count % 2 else "kick", rng), at, 0.8)
            play(drum("hat", rng), at + beat / 2, 0.6)
    return out[:length]


def noise(kind, length, voices, rng):
    if kind == "babble":
        return babble(length, voices, rng)
    if kind in MUSIC:
        return music(length, kind, rng)
    return hum(length) if kind == "hum" else coloured(length, {"white": 0, "pink": 0.5, "brown": 1}[kind], rng)


def with_gaps(clean, fillings):
    """Puts each filling into one of the recording's pauses, evenly spread; also says where speech is then."""
    truth = speech_truth(clean)
    pauses = [(start + end) // 2 for start, end in runs(~truth) if end - start >= 20 and start > 0]
    places = [pauses[len(pauses) * (i + 1) // (len(fillings) + 1)] for i in range(len(fillings))]
    parts, speech, last = [], [], 0
    for place, filling in zip(places, fillings):
        parts += [clean[last * FRAME : place * FRAME], filling]
        speech += [truth[last:place], np.zeros(len(filling) // FRAME, bool)]
        last = place
    samples = np.concatenate([*parts, clean[last * FRAME :]]).astype(np.float32)
    return samples, np.concatenate([*speech, truth[last:]])


def recordings(folder, licence_seconds=None, seed=3):
    """name → (samples, where speech is, which recording is spoken)."""
    rng = np.random.default_rng(seed)
    voices = quantized(load(folder / "licence-11min.mp3"))
    clean = {"gettysburg": quantized(load(folder / "gettysburg.mp3")), "licence": voices[: licence_seconds and licence_seconds * RATE]}
    found = {}
    for spoken, samples in clean.items():
        truth = speech_truth(samples)
        found[f"{spoken} clean"] = (samples, truth, spoken)
        found[f"{spoken} quiet"] = (samples * 10 ** (-30 / 20), truth, spoken)
        for kind in ["white", "pink", "babble", "piano", "band"]:
            for snr in (10, 5):
                mixed = mix(samples, noise(kind, len(samples), voices, rng), snr)
                found[f"{spoken} {kind}{snr}"] = (mixed, truth, spoken)
        fillings = [np.zeros(60 * RATE // STEP * STEP)]
        for kind, seconds, dbfs in [("pink", 30, -45), ("band", 30, -20), ("piano", 30, -25), ("hum", 20, -30)]:
            length = seconds * RATE // STEP * STEP
            fillings.append(at_level(noise(kind, length, voices, rng), dbfs))
        found[f"{spoken} gaps"] = (*with_gaps(samples, fillings), spoken)
    return {name: (quantized(samples), truth[: len(samples) // STEP * 2], spoken) for name, (samples, truth, spoken) in found.items()}


def without_speech(seconds=30, seed=4):
    rng, length = np.random.default_rng(seed), seconds * RATE
    found = {"silence": np.zeros(length)}
    for kind in ["white", "pink", "brown", "hum", *MUSIC]:
        for dbfs in (-20, -40):
            found[f"{kind} {dbfs} dB"] = quantized(at_level(noise(kind, length, None, rng), dbfs))
    return found
