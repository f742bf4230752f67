//! Questions that users ask in SQL, answered without trusting them: one reading statement on the published views, for a
//! few seconds, with a bounded answer. What may be read is decided by base table and column, never by the name of a view,
//! which a statement can give to something of its own.

use std::collections::HashSet;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode};

use super::{Table, json, text_functions};
use crate::db::{Db, Readers};
use crate::error::{Error, Result};

/// What is promised to users: columns are only ever added to these.
pub const VIEWS: [&str; 11] = [
    "system",
    "workers",
    "queue",
    "job_history",
    "segments",
    "chunks",
    "failures",
    "deliveries",
    "throughput",
    "throughput_minutely",
    "throughput_hourly",
];
/// An answer ends here; the user is told.
const MAX_ROWS: usize = 10_000;
const MAX_BYTES: usize = 8 << 20;
/// An open question keeps the write-ahead log from being reused, so that it grows.
const DEADLINE: Duration = Duration::from_secs(5);
/// Steps of SQLite's virtual machine between two looks at the clock: a step may be a function on 300 kB of text.
const STEPS: c_int = 20;

/// Tables that SQLite makes out of a JSON value.
const TABLE_FUNCTIONS: [&str; 2] = ["json_each", "json_tree"];
/// Functions that only look at their arguments, and at nothing outside the statement but the clock.
const FUNCTIONS: &str = "abs avg ceil ceiling char coalesce concat concat_ws count cume_dist current_date current_time
    current_timestamp date datetime dense_rank exp first_value floor format glob group_concat hex ifnull iif if instr json
    json_array json_array_length json_extract json_group_array json_group_object json_object json_quote json_type
    json_valid julianday lag last_value lead length like ln log log10 log2 lower ltrim max min mod nth_value ntile nullif
    octet_length percent_rank pow power printf quote random rank replace round row_number rtrim sign sqrt strftime
    string_agg substr substring sum time timediff total trim trunc typeof unicode unixepoch upper -> ->>";

/// The way to ask; its connections are apart from those of the service.
pub struct UserSql {
    readers: Readers,
    allowed: Arc<Allowed>,
}

/// What a statement may touch.
struct Allowed {
    /// Table and column.
    columns: HashSet<(String, String)>,
    /// The tables that no view reads, in lower case.
    closed: HashSet<String>,
    functions: HashSet<&'static str>,
}

impl UserSql {
    pub fn open(db: &Db) -> Result<Self> {
        let readers = db.for_strangers()?;
        let columns = readers.read(columns_of_views)?;
        let mut closed = db.read(tables)?;
        closed.retain(|table| columns.iter().all(|(open, _)| open != table));
        let allowed = Allowed { columns, closed, functions: FUNCTIONS.split_whitespace().collect() };
        Ok(Self { readers, allowed: Arc::new(allowed) })
    }

    /// Answers one question, or stops over it as soon as `gone` is set: nobody waits for the answer any more.
    ///
    /// # Errors
    /// `InvalidInput` that says what is allowed (codes `sql_refused`, `sql_invalid`, `sql_too_expensive`), `Overloaded`.
    pub fn ask(&self, sql: &str, gone: &Arc<AtomicBool>) -> Result<Table> {
        self.readers.read(|conn| {
            let refused = Arc::<Mutex<Option<String>>>::default();
            let (allowed, reason) = (self.allowed.clone(), refused.clone());
            conn.authorizer(Some(move |context: AuthContext<'_>| match allowed.refusal(&context) {
                None => Authorization::Allow,
                Some(refusal) => {
                    *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
                    Authorization::Deny
                }
            }))?;
            let (until, gone) = (Instant::now() + DEADLINE, gone.clone());
            text_functions::replace_slow_ones(conn)?;
            conn.progress_handler(STEPS, Some(move || gone.load(Ordering::Relaxed) || Instant::now() >= until))?;
            let answer = answer(conn, sql);
            conn.progress_handler(0, None::<fn() -> bool>)?;
            answer.map_err(|error| {
                let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
                explain(error, refused)
            })
        })
    }
}

impl Allowed {
    /// Whether no view has to do with the table of this name.
    fn is_closed(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.closed.contains(&name) || name.starts_with("sqlite_") || name.starts_with("pragma_")
    }

    /// Why an action is not allowed, if so.
    fn refusal(&self, context: &AuthContext<'_>) -> Option<String> {
        match context.action {
            AuthAction::Select | AuthAction::Recursive => None,
            AuthAction::Read { table_name, .. } if is_view(table_name) || TABLE_FUNCTIONS.contains(&table_name) => None,
            AuthAction::Read { table_name, column_name } => {
                let through_view = context.accessor.is_some_and(is_view);
                let is_open = match column_name {
                    // Nothing but the number of its rows is asked for; the name is as the statement has it, and whether a
                    // view is in between is not told.
                    "" => !self.is_closed(table_name),
                    // Only what the statement itself has named has no database: its common table expressions.
                    _ if context.database_name.is_none() => true,
                    _ => through_view && self.columns.contains(&(table_name.to_owned(), column_name.to_owned())),
                };
                (!is_open).then(|| format!("reading the table {table_name}"))
            }
            AuthAction::Function { function_name } => {
                let name = function_name.to_ascii_lowercase();
                (!self.functions.contains(name.as_str())).then(|| format!("the function {function_name}"))
            }
            AuthAction::Pragma { pragma_name, .. } => Some(format!("the pragma {pragma_name}")),
            AuthAction::Attach { .. } => Some("other files".to_owned()),
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Some("transactions".to_owned()),
            _ => Some("anything but reading".to_owned()),
        }
    }
}

fn is_view(name: &str) -> bool {
    VIEWS.iter().any(|view| view.eq_ignore_ascii_case(name))
}

fn tables(conn: &Connection) -> Result<HashSet<String>> {
    let mut statement = conn.prepare("select lower(name) from sqlite_schema where type = 'table'")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Every column of a table that some view shows.
fn columns_of_views(conn: &Connection) -> Result<HashSet<(String, String)>> {
    let seen = Arc::<Mutex<HashSet<(String, String)>>>::default();
    let notes = seen.clone();
    conn.authorizer(Some(move |context: AuthContext<'_>| {
        if let AuthAction::Read { table_name, column_name } = context.action {
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.insert((table_name.to_owned(), column_name.to_owned()));
        }
        Authorization::Allow
    }))?;
    for view in VIEWS {
        conn.prepare(&format!("select * from {view}"))?;
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *seen))
}

fn answer(conn: &Connection, sql: &str) -> Result<Table, Trouble> {
    let mut statements = Batch::new(conn, sql);
    let Some(mut statement) = statements.next()? else { return Err(Trouble::Refused("an empty question")) };
    if statements.next().map_or(true, |next| next.is_some()) {
        return Err(Trouble::Refused("several statements"));
    }
    if !statement.readonly() {
        return Err(Trouble::Refused("writing"));
    }
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut table = Table { columns, rows: Vec::new(), truncated: false };
    let mut bytes = 0;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let mut cells = Vec::with_capacity(table.columns.len());
        for n in 0..table.columns.len() {
            let value = row.get_ref(n)?;
            bytes += size(value);
            if table.rows.len() == MAX_ROWS || bytes > MAX_BYTES {
                table.truncated = true;
                return Ok(table);
            }
            cells.push(json(value));
        }
        table.rows.push(cells);
    }
    Ok(table)
}

/// About what a value takes in an answer.
fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(text) => text.len(),
        _ => size_of::<i64>(),
    }
}

/// Why there is no answer.
enum Trouble {
    Refused(&'static str),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn explain(trouble: Trouble, refused: Option<String>) -> Error {
    let what = match trouble {
        Trouble::Refused(what) => what.to_owned(),
        Trouble::Sqlite(error) => match (refused, error.sqlite_error_code()) {
            (Some(what), _) => what,
            (None, Some(ErrorCode::OperationInterrupted)) => {
                let seconds = DEADLINE.as_secs();
                let message = format!(
                    "the question took longer than {seconds} s: ask for less, or ask a copy of the database, which \
                     `whisperq backup FILE` makes"
                );
                return Error::invalid("sql_too_expensive", message);
            }
            (None, Some(ErrorCode::TooBig)) => {
                let message = "the question makes a value of more than 300 kB: ask for less, or use substr";
                return Error::invalid("sql_too_expensive", message);
            }
            (None, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::DatabaseBusy)) => {
                return error.into();
            }
            (None, _) => {
                return Error::invalid("sql_invalid", format!("the question was not understood: {}", words(&error)));
            }
        },
    };
    Error::invalid("sql_refused", format!("not allowed: {what}; allowed is one SELECT on {}", VIEWS.join(", ")))
}

/// SQLite's own words, without the text of the statement that rusqlite adds.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } | rusqlite::Error::SqliteFailure(_, Some(msg)) => msg.clone(),
        other => other.to_string(),
    }
}
