//! What the queue alone can do, without audio or engine. The commands and their figures are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops where it fails")]

mod bulk;
mod claim;
mod crew;
mod durable;
mod ground;
mod step;
mod system;

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};

use crew::{Crew, Processes, Threads};
use ground::Ground;
use step::Step;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["targets", ..] => targets(),
        ["rates", jobs, threads, ..] => rates(jobs.parse().unwrap(), threads.parse().unwrap()),
        ["hand", folder] => crew::serve(Path::new(folder)),
        _ => steps(),
    }
}

/// Every step from one thread, four threads and four processes.
fn steps() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    for step in [Step::Submit, Step::Claim, Step::Finish, Step::Job] {
        let mut group = criterion.benchmark_group(step.name());
        // As many times in every sample: what a step costs must not grow with the queue.
        group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::Elements(1));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        bench(&mut group, "1 thread", step, |_| Threads(1));
        bench(&mut group, "4 threads", step, |_| Threads(4));
        bench(&mut group, "4 processes", step, |ground| Processes::start(ground.folder(), 4));
        group.finish();
    }
    criterion.final_summary();
}

fn bench<C: Crew>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    step: Step,
    hire: impl Fn(&Ground) -> C + Copy,
) {
    group.bench_function(name, |bencher| {
        let ground = Ground::new();
        let mut crew = hire(&ground);
        bencher.iter_custom(|count| {
            step.lay_out(&ground, count);
            crew.run(&ground, step, count)
        });
    });
}

/// The figures that have a bound.
fn targets() {
    durable::report();
    let ground = Ground::new();
    bulk::waiting(&ground, 1, "queued");
    let alone = claim::measure(&ground);
    bulk::finished(&ground, 1_000_000);
    bulk::waiting(&ground, 100_000, "delayed");
    claim::report(&alone, &claim::measure(&ground));
    system::report(&ground);
}

/// Jobs per second, for `benches/rivals/run.py`.
fn rates(jobs: u64, threads: usize) {
    let ground = Ground::new();
    let rate = |step| jobs as f64 / Threads(threads).run(&ground, step, jobs).as_secs_f64();
    let (submit, work) = (rate(Step::Submit), rate(Step::Work));
    println!("{}", serde_json::json!({"submit": submit, "do": work}));
}

/// The value that so many of `values` are below; 0.5 is the median.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
