"""What was measured, as a table in Markdown, as JSON and as a plot."""
import json
import statistics

from loads import percentile

COLUMNS = {
    "audio_per_second": ("audio s/s", "{:.1f}"),
    "p50": ("p50 s", "{:.2f}"),
    "p95": ("p95 s", "{:.2f}"),
    "wer": ("words wrong", "{:.2%}"),
    "cpu_per_audio": ("CPU s per audio s", "{:.3f}"),
    "peak_mib": ("peak MiB", "{:.0f}"),
}


def numbers(result, word_error_rate, peak_bytes):
    return {
        "audio_per_second": result.audio_seconds / result.wall_seconds,
        "p50": percentile(result.latencies, 0.5),
        "p95": percentile(result.latencies, 0.95),
        "wer": word_error_rate,
        "cpu_per_audio": result.cpu_seconds / result.audio_seconds,
        "peak_mib": peak_bytes / 2**20,
    }


def medians(rounds):
    return {key: statistics.median(numbers[key] for numbers in rounds) for key in COLUMNS}


def table(found, machine):
    """One table for each load; the ratio is whisperq's rate to that engine's."""
    lines = [f"{machine}; medians of the rounds.", ""]
    for load in dict.fromkeys(load for load, _ in found):
        engines = {engine: medians(rounds) for (name, engine), rounds in found.items() if name == load}
        ours = engines.get("whisperq", {}).get("audio_per_second")
        lines += [f"### {load}", "", "| | " + " | ".join(title for title, _ in COLUMNS.values()) + " | whisperq is |"]
        lines += ["|---" * (len(COLUMNS) + 2) + "|"]
        for engine, row in engines.items():
            cells = [form.format(row[key]) for key, (_, form) in COLUMNS.items()]
            ratio = f"{ours / row['audio_per_second']:.2f} times" if ours and engine != "whisperq" else ""
            lines.append(f"| {engine} | " + " | ".join(cells) + f" | {ratio} |")
        lines.append("")
    return "\n".join(lines)


def plot(path, found):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    loads = list(dict.fromkeys(load for load, _ in found))
    engines = list(dict.fromkeys(engine for _, engine in found))
    figure, axes = pyplot.subplots(figsize=(11, 5))
    width = 0.8 / len(engines)
    for n, engine in enumerate(engines):
        rates = [medians(found[load, engine])["audio_per_second"] if (load, engine) in found else 0 for load in loads]
        axes.bar([place + n * width for place in range(len(loads))], rates, width, label=engine)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(loads))], loads)
    axes.set_ylabel("seconds of audio per second")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def write(path, found, machine):
    path.parent.mkdir(exist_ok=True)
    text = table(found, machine)
    path.with_suffix(".md").write_text(text)
    rows = [{"load": load, "engine": engine, "rounds": rounds} for (load, engine), rounds in found.items()]
    path.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(path.with_suffix(".png"), found)
    print(text)
