//! What the service is doing, read from the SQL views, and the users' own questions in SQL. Reads only.

use rusqlite::types::ValueRef;
use serde::Serialize;
use serde_json::Value;

use crate::db::Db;
use crate::error::{Error, Result};

/// A question's answer ends here; the user is told.
const MAX_ROWS: usize = 10_000;
/// What may begin a question. The connection is read-only besides; this keeps settings of the connection out of reach.
const QUESTIONS: [&str; 4] = ["select", "with", "values", "explain"];

/// Rows of text, numbers and nulls under their column names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// Whether there was more than was returned.
    pub truncated: bool,
}

/// Answers one SELECT.
///
/// # Errors
/// `Config` with SQLite's own words where the statement is wrong or would write.
pub fn query(db: &Db, sql: &str) -> Result<Table> {
    let first_word = sql.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if !QUESTIONS.contains(&first_word.as_str()) {
        return Err(Error::Config("only reading is allowed: begin with select, with, values or explain".to_owned()));
    }
    db.read(|conn| {
        let wrong = |error: rusqlite::Error| Error::Config(format!("the question was not understood: {error}"));
        let mut statement = conn.prepare(sql).map_err(wrong)?;
        if !statement.readonly() {
            return Err(Error::Config("only reading is allowed: this statement would write".to_owned()));
        }
        let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut table = Table { columns, rows: Vec::new(), truncated: false };
        let mut rows = statement.query([]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            if table.rows.len() == MAX_ROWS {
                table.truncated = true;
                break;
            }
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

/// The tables that `whisperq system` shows, each under its title.
pub fn overview(db: &Db, now_ms: i64) -> Result<Vec<(&'static str, Table)>> {
    let queue =
        format!("select size, processing, max(0, {now_ms} - oldest_created_at_ms) as oldest_wait_ms from queue");
    let workers = "select worker_id, status, device, model, model_instance, current_job, current_chunk, chunks_done,
                       round(audio_seconds, 1) as audio_seconds, error
                   from workers order by process_id, worker_id";
    Ok(vec![
        ("queue", query(db, &queue)?),
        ("jobs", query(db, "select state, jobs from job_counts order by state")?),
        ("workers", query(db, workers)?),
    ])
}
