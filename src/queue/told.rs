//! What RunPod was told of a job, kept so that a worker that starts again neither repeats nor contradicts it.

use rusqlite::{Connection, OptionalExtension, Row};

use super::fail::find;
use super::{Position, Queue};
use crate::db::{Durability, Statements};
use crate::error::Result;
use crate::job::JobError;

/// What is said in place of an output that RunPod does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Where in S3 it is.
    Address(String),
    Error(JobError),
}

/// How far it has come with telling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The last segment that was taken.
    pub streamed: Option<Position>,
    /// The status with which the output was refused as too long.
    pub refused: Option<u16>,
    pub instead: Option<Instead>,
}

impl Queue {
    pub fn told(&self, job_id: &str) -> Result<Told> {
        self.db.read(|conn| {
            let mut statement = conn.statement(
                "select streamed_seq, streamed_n, refused_status, output_address, error_code, error_message
                 from runpod_told where job_pk = (select pk from jobs where id = ?1)",
            )?;
            Ok(statement.query_row([job_id], from_row).optional()?.unwrap_or_default())
        })
    }

    /// Notes that a segment and all before it were taken. After a power loss the last ones may be sent again.
    pub fn note_streamed(&self, job_id: &str, Position { seq, n }: Position) -> Result<()> {
        let id = job_id.to_owned();
        self.db.write(Durability::Normal, move |conn| {
            let pk = row_for(conn, &id)?;
            conn.statement("update runpod_told set streamed_seq = ?2, streamed_n = ?3 where job_pk = ?1")?
                .execute((pk, seq, n))?;
            Ok(())
        })
    }

    /// Notes that the output is not sent again: it was refused as too long.
    pub fn note_refused(&self, job_id: &str, status: u16) -> Result<()> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            let pk = row_for(conn, &id)?;
            conn.statement("update runpod_told set refused_status = ?2 where job_pk = ?1 and refused_status is null")?
                .execute((pk, status))?;
            Ok(())
        })
    }

    /// Decides what is said in place of the output; returns what was decided, which is the first that anybody did.
    pub fn decide_instead(&self, job_id: &str, instead: Instead) -> Result<Instead> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            let pk = row_for(conn, &id)?;
            let (address, error) = match &instead {
                Instead::Address(address) => (Some(address), None),
                Instead::Error(error) => (None, Some(error)),
            };
            conn.statement(
                "update runpod_told set output_address = ?2, error_code = ?3, error_message = ?4
                 where job_pk = ?1 and output_address is null and error_code is null",
            )?
            .execute((pk, address, error.map(|error| &error.code), error.map(|error| &error.message)))?;
            let mut statement = conn.statement(
                "select streamed_seq, streamed_n, refused_status, output_address, error_code, error_message
                 from runpod_told where job_pk = ?1",
            )?;
            Ok(statement.query_row([pk], from_row)?.instead.unwrap_or(instead))
        })
    }
}

/// The job's row, made where there is none.
fn row_for(conn: &Connection, job_id: &str) -> Result<i64> {
    let (pk, _) = find(conn, job_id)?;
    conn.statement("insert into runpod_told (job_pk) values (?1) on conflict do nothing")?.execute([pk])?;
    Ok(pk)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Told> {
    let (seq, n): (Option<i64>, Option<i64>) = (row.get("streamed_seq")?, row.get("streamed_n")?);
    let address: Option<String> = row.get("output_address")?;
    let error: Option<String> = row.get("error_code")?;
    let instead = match (address, error) {
        (Some(address), _) => Some(Instead::Address(address)),
        (None, Some(code)) => Some(Instead::Error(JobError { code, message: row.get("error_message")? })),
        (None, None) => None,
    };
    let streamed = seq.zip(n).map(|(seq, n)| Position { seq, n });
    Ok(Told { streamed, refused: row.get("refused_status")?, instead })
}
