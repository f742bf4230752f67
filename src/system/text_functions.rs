//! SQLite's functions on text whose time grows with the product of their arguments, in linear time: a single call of theirs,
//! which nothing can interrupt, could take minutes.

use std::collections::HashSet;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result, ffi};

/// Puts them in the place of SQLite's own.
pub(super) fn replace_slow_ones(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let most = connection.limit(Limit::SQLITE_LIMIT_LENGTH)?.unsigned_abs() as usize;
    connection.create_scalar_function("trim", 2, flags, |context| trim(context, true, true))?;
    connection.create_scalar_function("ltrim", 2, flags, |context| trim(context, true, false))?;
    connection.create_scalar_function("rtrim", 2, flags, |context| trim(context, false, true))?;
    connection.create_scalar_function("instr", 2, flags, instr)?;
    connection.create_scalar_function("replace", 3, flags, move |context| replace(context, most))
}

/// As SQLite sees a value where it wants text.
fn text(context: &Context<'_>, n: usize) -> Option<String> {
    match context.get_raw(n) {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(real(number)),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// As SQLite writes it, but for the last of 17 digits: always with a point, and with an exponent where it is very large or small.
fn real(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    // It knows no negative zero.
    let number = if number == 0.0 { 0.0 } else { number };
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let with_point = |text: String| if text.contains('.') { text } else { text + ".0" };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..=16).contains(&exponent) => format!("{}e{exponent:+03}", with_point(digits.to_owned())),
        _ => with_point(number.to_string()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what SQLite calls may fail")]
fn trim(context: &Context<'_>, start: bool, end: bool) -> Result<Option<String>> {
    let (Some(text), Some(set)) = (text(context, 0), text(context, 1)) else { return Ok(None) };
    let set: HashSet<char> = set.chars().collect();
    let text = if start { text.trim_start_matches(|c| set.contains(&c)) } else { &text };
    Ok(Some(if end { text.trim_end_matches(|c| set.contains(&c)) } else { text }.to_owned()))
}

/// The place of the first occurrence in characters from 1, or 0.
#[expect(clippy::unnecessary_wraps, reason = "what SQLite calls may fail")]
fn instr(context: &Context<'_>) -> Result<Option<i64>> {
    let (Some(text), Some(wanted)) = (text(context, 0), text(context, 1)) else { return Ok(None) };
    Ok(Some(text.find(&wanted).map_or(0, |at| text[..at].chars().count() as i64 + 1)))
}

fn replace(context: &Context<'_>, most: usize) -> Result<Option<String>> {
    let (Some(text), Some(from), Some(to)) = (text(context, 0), text(context, 1), text(context, 2)) else {
        return Ok(None);
    };
    if from.is_empty() {
        return Ok(Some(text));
    }
    let found = text.matches(&from).count();
    if found.saturating_mul(to.len()) > most {
        return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None));
    }
    Ok(Some(text.replace(&from, &to)))
}
