//! What `GET /system` reads, beside a long history.

use std::time::Instant;

use whisperq::system;

use crate::crew::{Crew, Threads};
use crate::ground::Ground;
use crate::quantile;
use crate::step::Step;

const CALLS: usize = 101;
/// Done within the minute that is shown.
const RECENT: u64 = 200;
const MOST_MS: f64 = 5.0;

pub(crate) fn report(ground: &Ground) {
    Threads(1).run(ground, Step::Job, RECENT);
    let db = ground.hand.queue.db();
    let mut milliseconds: Vec<f64> = (0..CALLS)
        .map(|_| {
            let began = Instant::now();
            system::system(db).unwrap();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let shown = system::system(db).unwrap();
    println!("system: jobs {}, last minute {}", shown.jobs, shown.throughput);
    let (median, p99) = (quantile(&mut milliseconds, 0.5), quantile(&mut milliseconds, 0.99));
    println!("  median {median:.2} ms, p99 {p99:.2} ms of {CALLS}; the bound is {MOST_MS} ms");
}
