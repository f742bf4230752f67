//! The claim beside a long history: time and steps of its one statement, inside an open transaction.

use std::time::Instant;

use rusqlite::{Connection, StatementStatus, named_params};
use whisperq::db::Durability;
use whisperq::error::Result;
use whisperq::queue::CLAIM;

use crate::ground::{Ground, MODEL, WORKER};
use crate::quantile;

const CLAIMS: usize = 2001;
const MOST_STEPS: f64 = 0.1;
const MOST_US: f64 = 100.0;

pub(crate) struct Cost {
    microseconds: Vec<f64>,
    steps: i32,
}

/// Claims the same chunk again and again; each claim is undone.
pub(crate) fn measure(ground: &Ground) -> Cost {
    ground.hand.queue.db().write(Durability::Normal, claims).unwrap()
}

fn claims(conn: &Connection) -> Result<Cost> {
    let mut statement = conn.prepare(CLAIM)?;
    let mut cost = Cost { microseconds: Vec::with_capacity(CLAIMS), steps: 0 };
    for _ in 0..CLAIMS {
        conn.execute_batch("savepoint probe")?;
        statement.reset_status(StatementStatus::VmStep);
        let began = Instant::now();
        let params = named_params! {
            ":process": "p", ":worker": WORKER, ":lease": 1, ":kind": "transcribe", ":lane": MODEL,
        };
        statement.query_row(params, |row| row.get::<_, i64>("id"))?;
        cost.microseconds.push(began.elapsed().as_secs_f64() * 1e6);
        cost.steps = statement.get_status(StatementStatus::VmStep);
        conn.execute_batch("rollback to probe; release probe")?;
    }
    Ok(cost)
}

pub(crate) fn report(alone: &Cost, beside: &Cost) {
    println!("claim, its statement alone; median of {CLAIMS}");
    for (name, cost) in [("with no other task", alone), ("with 1,000,000 finished, 100,000 delayed", beside)] {
        let mut times = cost.microseconds.clone();
        let (median, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        println!("  {name}: median {median:.1} us, p99 {p99:.1} us, {} steps", cost.steps);
    }
    let more = f64::from(beside.steps) / f64::from(alone.steps) - 1.0;
    println!("  steps differ by {:.1} %, the bound is {:.0} %", more * 100.0, MOST_STEPS * 100.0);
    println!("  the bound of the median is {MOST_US} us");
}
