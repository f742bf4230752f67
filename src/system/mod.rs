//! What the service is doing, read from the SQL views, and the users' own questions in SQL. Reads only.

mod check;
mod text_functions;
mod user_sql;

use std::collections::BTreeSet;

use rusqlite::types::ValueRef;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::db::Db;
use crate::error::Result;
pub use check::drift;
pub use user_sql::{UserSql, VIEWS};

const QUEUE: &str = "select size, processing, oldest_wait_ms from queue";

/// Rows of text, numbers and nulls under their column names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// Whether there was more than was returned.
    pub truncated: bool,
}

/// Answers a question of our own; whatever it asks for is bounded.
fn query(db: &Db, sql: &str) -> Result<Table> {
    db.read(|conn| {
        let mut statement = conn.prepare_cached(sql)?;
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut table = Table { columns, rows: Vec::new(), truncated: false };
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let cells = (0..table.columns.len()).map(|n| row.get_ref(n).map(json));
            table.rows.push(cells.collect::<Result<_, _>>()?);
        }
        Ok(table)
    })
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()).into(),
    }
}

/// What `GET /system` shows.
#[derive(Clone, Debug, Serialize)]
pub struct System {
    pub workers: Vec<Value>,
    pub queue: Value,
    pub models: Vec<Value>,
    /// Jobs by state.
    pub jobs: Value,
    pub throughput: Value,
}

/// What a load balancer and RunPod ask for.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    pub status: &'static str,
    /// Copies of the model that the workers use; on a CPU they are one in memory.
    pub model_instances: i64,
    /// Workers that are ready for work or at it.
    pub active_workers: i64,
    pub queue_size: i64,
    pub jobs: Value,
    pub workers: Value,
}

impl Health {
    pub fn is_ready(&self) -> bool {
        self.active_workers > 0
    }

    /// Workers that are not loading any more.
    pub fn settled_workers(&self) -> i64 {
        self.active_workers + self.workers["unhealthy"].as_i64().unwrap_or(0)
    }
}

/// The workers, the queue and the last minute.
pub fn system(db: &Db) -> Result<System> {
    let workers = objects(
        db,
        "select worker_id, process_id, status, device, model, model_instance, current_job, chunks_done,
             round(audio_seconds, 3) as audio_seconds, round(busy_ratio, 3) as busy_ratio, error
         from workers order by process_id, worker_id",
    )?;
    let models = objects(
        db,
        "select model as name, count(distinct process_id || '/' || model_instance) as instances, count(*) as workers
         from workers where status in ('ready', 'busy') group by model order by model",
    )?;
    let throughput = "select window_seconds, jobs_completed, chunks, round(audio_seconds, 3) as audio_seconds,
                          round(audio_seconds_per_second, 3) as audio_seconds_per_second from throughput";
    Ok(System {
        workers,
        queue: objects(db, QUEUE)?.pop().unwrap_or_default(),
        models,
        jobs: counts(db)?.into(),
        throughput: objects(db, throughput)?.pop().unwrap_or_default(),
    })
}

/// How `process_id` is, and the queue.
pub fn health(db: &Db, process_id: &str) -> Result<Health> {
    let counts = counts(db)?;
    let jobs = |state: &str| counts.get(state).and_then(Value::as_i64).unwrap_or(0);
    let retried = objects(db, "select retried from totals")?.pop().map(|mut row| row["retried"].take());
    let mut workers =
        Map::from_iter(["loading", "ready", "busy", "failed", "stopped"].map(|status| (status.to_owned(), 0.into())));
    let mut instances = BTreeSet::new();
    for worker in objects(db, "select process_id, status, model_instance from workers")? {
        let status = worker["status"].as_str().unwrap_or_default();
        if worker["process_id"] == process_id {
            workers[status] = (workers[status].as_i64().unwrap_or(0) + 1).into();
            if ["ready", "busy"].contains(&status) {
                instances.insert(worker["model_instance"].as_i64());
            }
        }
    }
    let number = |status: &str| workers[status].as_i64().unwrap_or(0);
    let active_workers = number("ready") + number("busy");
    let status = match (active_workers, number("loading")) {
        (1.., _) => "ready",
        (_, 1..) => "loading",
        _ => "failed",
    };
    Ok(Health {
        status,
        model_instances: instances.len() as i64,
        active_workers,
        queue_size: jobs("queued"),
        jobs: json!({
            "completed": jobs("completed"), "failed": jobs("failed") + jobs("timed_out"), "inProgress": jobs("running"),
            "inQueue": jobs("queued"), "retried": retried,
        }),
        workers: json!({
            "idle": number("ready"), "running": number("busy"), "initializing": number("loading"),
            "ready": active_workers, "throttled": 0, "unhealthy": number("failed"),
        }),
    })
}

fn counts(db: &Db) -> Result<Map<String, Value>> {
    let rows = query(db, "select state, jobs from job_counts")?.rows.into_iter();
    Ok(rows.filter_map(|mut row| Some((row.first()?.as_str()?.to_owned(), row.pop()?))).collect())
}

/// Each row as an object of its columns.
fn objects(db: &Db, sql: &str) -> Result<Vec<Value>> {
    let table = query(db, sql)?;
    let object = |row: Vec<Value>| Value::Object(table.columns.iter().cloned().zip(row).collect());
    Ok(table.rows.into_iter().map(object).collect())
}

/// The tables that `whisperq system` shows, each under its title.
pub fn overview(db: &Db) -> Result<Vec<(&'static str, Table)>> {
    let workers = "select worker_id, status, device, model, model_instance, current_job, current_chunk, chunks_done,
                       round(audio_seconds, 1) as audio_seconds, round(busy_ratio, 2) as busy_ratio, error
                   from workers order by process_id, worker_id";
    Ok(vec![
        ("queue", query(db, QUEUE)?),
        ("jobs", query(db, "select state, jobs from job_counts order by state")?),
        ("workers", query(db, workers)?),
    ])
}
