//! What a load test prints: a table per file, the totals of one client beside those of all, failures, GPUs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::super::table::{TableFormat, render as render_table};
use super::client::Outcome;
use super::crowd::Phase;
use super::figures::{Latencies, audio_seconds, distinct, speed_up, throughput};
use super::gpus::Gpu;
use crate::error::Result;
use crate::system::Table;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// All tables that have rows, an empty line between them.
pub(super) fn render(files: &[PathBuf], phases: &[Phase], gpus: &[Gpu]) -> Result<String> {
    let tables = [per_file(files, phases), totals(phases), failures(phases), per_gpu(gpus)];
    let texts: Result<Vec<String>> = tables
        .iter()
        .filter(|table| !table.rows.is_empty())
        .map(|table| render_table(table, TableFormat::Table))
        .collect();
    Ok(texts?.join("\n"))
}

/// Of the last phase, which is the one with all clients unless it was interrupted before.
fn per_file(files: &[PathBuf], phases: &[Phase]) -> Table {
    let outcomes = phases.last().map(|phase| phase.outcomes.as_slice()).unwrap_or_default();
    let rows = files.iter().enumerate().map(|(n, file)| {
        let of_file: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.file == n).collect();
        let latencies = Latencies::of(of_file.iter().copied());
        let length = of_file.iter().find_map(|outcome| outcome.result.as_ref().ok());
        vec![
            file.display().to_string(),
            of_file.len().to_string(),
            seconds(latencies.percentile(50)),
            seconds(latencies.worst()),
            length.map(|length| format!("{length:.1}")).unwrap_or_default(),
        ]
    });
    table(&["file", "requests", "median_s", "worst_s", "audio_s"], rows)
}

/// One column per phase, so that the clients can be compared with one alone.
fn totals(phases: &[Phase]) -> Table {
    let latency = |percent| move |phase: &Phase| seconds(Latencies::of(phase.outcomes.iter()).percentile(percent));
    let row = |name: &str, figure: &dyn Fn(&Phase) -> String| {
        [name.to_owned()].into_iter().chain(phases.iter().map(figure)).collect::<Vec<_>>()
    };
    let rows = [
        row("requests", &|phase| phase.outcomes.len().to_string()),
        row("failures", &|phase| phase.failures().to_string()),
        row("refused with 429 and tried again", &|phase| {
            phase.outcomes.iter().map(|outcome| outcome.refusals).sum::<u32>().to_string()
        }),
        row("wall seconds", &|phase| seconds(Some(phase.wall))),
        row("audio seconds", &|phase| format!("{:.1}", audio_seconds(phase.outcomes.iter()))),
        row("audio seconds per second", &|phase| decimal(throughput(phase))),
        row("latency p50, seconds", &latency(50)),
        row("latency p95, seconds", &latency(95)),
        row("latency p99, seconds", &latency(99)),
        row("speed-up over one client", &|phase| decimal(speed_up(&phases[0], phase))),
    ];
    let clients = phases.iter().map(|phase| match phase.clients {
        1 => "1 client".to_owned(),
        more => format!("{more} clients"),
    });
    let columns: Vec<String> = ["all files".to_owned()].into_iter().chain(clients).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    table(&columns, rows.into_iter())
}

fn failures(phases: &[Phase]) -> Table {
    let rows = distinct(phases).into_iter();
    let rows = rows.map(|(count, failure)| vec![count.to_string(), failure.code.clone(), failure.message.clone()]);
    table(&["failures", "code", "message"], rows)
}

fn per_gpu(gpus: &[Gpu]) -> Table {
    let gib = |bytes: Option<u64>| bytes.map(|bytes| format!("{:.1}", bytes as f64 / GIB)).unwrap_or_default();
    let rows = gpus.iter().enumerate().map(|(n, gpu)| {
        let utilization = gpu.utilization_percent.map(|percent| format!("{percent:.0} %")).unwrap_or_default();
        vec![n.to_string(), gpu.name.clone(), utilization, gib(gpu.memory_peak_bytes), gib(gpu.memory_total_bytes)]
    });
    table(&["gpu", "name", "mean utilization", "peak memory, GiB", "of GiB"], rows)
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    Table {
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        rows: rows.map(|row| row.into_iter().map(Value::String).collect()).collect(),
        truncated: false,
    }
}

fn seconds(duration: Option<Duration>) -> String {
    decimal(duration.map(|duration| duration.as_secs_f64()))
}

fn decimal(number: Option<f64>) -> String {
    number.map(|number| format!("{number:.2}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::client::Failure;
    use super::*;

    fn outcome(file: usize, latency_ms: u64, refusals: u32) -> Outcome {
        Outcome { file, latency: Duration::from_millis(latency_ms), refusals, result: Ok(10.0) }
    }

    #[test]
    fn the_report_sets_one_client_beside_all() {
        let failure = Failure { code: "not_audio".to_owned(), message: "this is text".to_owned() };
        let alone = Phase { clients: 1, outcomes: vec![outcome(0, 2_000, 0)], wall: Duration::from_secs(2) };
        let mut outcomes: Vec<Outcome> = (1..=4).map(|n| outcome(0, n * 1_000, 1)).collect();
        outcomes.push(Outcome { result: Err(failure), ..outcome(1, 10, 0) });
        let together = Phase { clients: 4, outcomes, wall: Duration::from_secs(4) };
        let gpu = Gpu {
            name: "H".to_owned(),
            utilization_percent: Some(81.6),
            memory_peak_bytes: Some(3 << 30),
            memory_total_bytes: None,
        };
        let files = ["talk.mp3", "note.txt"].map(PathBuf::from);
        let text = render(&files, &[alone, together], &[gpu]).unwrap();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "talk.mp3 4 2.00 4.00 10.0",
            "note.txt 1",
            "all files 1 client 4 clients",
            "requests 1 5",
            "failures 0 1",
            "refused with 429 and tried again 0 4",
            "audio seconds per second 5.00 10.00",
            "latency p95, seconds 2.00 4.00",
            "speed-up over one client 1.00 2.00",
            "1 not_audio this is text",
            "0 H 82 % 3.0",
        ] {
            assert!(lines.iter().any(|seen| seen == line), "{line} is not in:\n{text}");
        }
    }
}
