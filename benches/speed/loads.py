"""The loads: which recordings, from how many clients, and what is measured of each."""
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field


@dataclass
class Clip:
    path: str
    seconds: float
    text: str


@dataclass
class Result:
    """One engine under one load, once."""

    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list = field(default_factory=list)
    said: list = field(default_factory=list)
    heard: list = field(default_factory=list)


def asked(server, clip):
    begun = time.monotonic()
    text = server.transcribe(clip.path)
    return clip, text, time.monotonic() - begun


def collect(result, answers):
    for clip, text, seconds in answers:
        result.audio_seconds += clip.seconds
        result.latencies.append(seconds)
        result.said.append(clip.text)
        result.heard.append(text)


def measured(server, load):
    """`load(result)` with the time it takes and what it computes."""
    result, cpu, begun = Result(), server.usage.cpu_seconds(), time.monotonic()
    load(result)
    result.wall_seconds = time.monotonic() - begun
    result.cpu_seconds = server.usage.cpu_seconds() - cpu
    return result


def clips(server, recordings, clients):
    """So many clients, each with one request at a time, until all recordings are done."""

    def load(result):
        with ThreadPoolExecutor(clients) as pool:
            collect(result, pool.map(lambda clip: asked(server, clip), recordings))

    return measured(server, load)


def mixed(server, long, short, pause_seconds):
    """Short recordings, one after the other with pauses between, while the long ones are worked on by a client each.
    Latencies are those of the short ones; short ones that outlast the long are not counted."""

    def load(result):
        with ThreadPoolExecutor(len(long)) as pool:
            running = [pool.submit(asked, server, clip) for clip in long]
            answers = []
            for clip in short:
                time.sleep(pause_seconds)
                answer = asked(server, clip)
                if all(future.done() for future in running):
                    break
                answers.append(answer)
            collect(result, answers)
            shorts = list(result.latencies)
            collect(result, [future.result() for future in running])
            result.latencies = shorts

    return measured(server, load)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values):
    return statistics.median(values)
