//! A job's text as it grows, for those who watch: segments in order of time, up to the first chunk that is not done.
//! Reads only.

use rusqlite::{OptionalExtension, named_params};

use super::Queue;
use super::read::not_found;
use crate::db::Statements;
use crate::error::Result;

/// A look at a job takes at most so many segments, so that one watcher does not hold a reader for long.
const SEGMENTS_AT_ONCE: i64 = 500;

/// The place of a segment in its job: chunk, then number within the chunk. It never changes, so a watcher that comes back
/// goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub seq: i64,
    pub n: i64,
}

/// A segment on its way to a watcher; times count from the start of the recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub position: Position,
    pub start_ms: i64,
    pub end_ms: i64,
    pub text: String,
}

impl Queue {
    /// The next segments of a job after `after`: the translation where one was asked for. Chunks that are done before an
    /// earlier one wait for it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn heard_after(&self, job_id: &str, after: Option<Position>) -> Result<Vec<Heard>> {
        let after = after.unwrap_or(Position { seq: -1, n: -1 });
        self.db.read(|conn| {
            let job: Option<(i64, i64)> = conn
                .statement("select pk, coalesce(options ->> '$.translate', 0) from jobs where id = ?1")?
                .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (job_pk, pass) = job.ok_or_else(|| not_found(job_id))?;
            let mut statement = conn.statement(
                "select seq, n, start_ms, end_ms, text from chunk_segments
                 where job_pk = :job and pass = :pass and (seq, n) > (:seq, :n)
                     and seq < coalesce((select min(seq) from tasks where job_pk = :job and kind = 'transcribe'
                                             and pass = :pass and state <> 'done'), 9223372036854775807)
                 order by seq, n limit :limit",
            )?;
            let params = named_params! {
                ":job": job_pk, ":pass": pass, ":seq": after.seq, ":n": after.n, ":limit": SEGMENTS_AT_ONCE,
            };
            let heard = statement.query_map(params, |row| {
                let position = Position { seq: row.get(0)?, n: row.get(1)? };
                Ok(Heard { position, start_ms: row.get(2)?, end_ms: row.get(3)?, text: row.get(4)? })
            })?;
            Ok(heard.collect::<Result<_, _>>()?)
        })
    }
}
