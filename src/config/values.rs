//! How the text of a setting becomes its value; every refusal names the setting, the text and what is allowed.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Error, Result};

pub(super) const KIB: u64 = 1024;
pub(super) const GIB: u64 = KIB * KIB * KIB;

pub(super) fn refused(name: &str, value: &str, allowed: &str) -> Error {
    Error::Config(format!("{name}={value} is not understood: allowed is {allowed}"))
}

pub(super) fn whole(name: &str, value: Option<&str>, allowed: RangeInclusive<u64>, default: u64) -> Result<u64> {
    let Some(value) = value else { return Ok(default) };
    value
        .trim()
        .parse()
        .ok()
        .filter(|number| allowed.contains(number))
        .ok_or_else(|| refused(name, value, &format!("a whole number from {} to {}", allowed.start(), allowed.end())))
}

pub(super) fn seconds(name: &str, value: Option<&str>, allowed: RangeInclusive<u64>, default: u64) -> Result<Duration> {
    Ok(Duration::from_secs(whole(name, value, allowed, default)?))
}

/// A size: a number of bytes, or with one of the units KiB, MiB and GiB.
pub(super) fn bytes(name: &str, value: Option<&str>, default: u64) -> Result<u64> {
    let Some(value) = value else { return Ok(default) };
    let text = value.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim() {
        "" | "B" => Some(1),
        "KiB" => Some(KIB),
        "MiB" => Some(KIB * KIB),
        "GiB" => Some(GIB),
        _ => None,
    };
    let size = text[..digits].parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    size.filter(|&size| size > 0)
        .ok_or_else(|| refused(name, value, "a number of bytes, such as 2147483648, 500 MiB or 2 GiB"))
}

/// Off unless it is set.
pub(super) fn truth(name: &str, value: Option<&str>) -> Result<bool> {
    match value.map(str::trim) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(refused(name, other, "true or false")),
    }
}

/// The parts between commas.
pub(super) fn list(value: Option<&str>) -> Vec<String> {
    let parts = value.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

/// What a browser sends as the origin of a page: scheme, host and port.
pub(super) fn cors_origins(value: Option<&str>) -> Result<Vec<String>> {
    let origins = list(value);
    let is_origin = |origin: &String| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        origin == "*"
            || host.is_some_and(|host| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && c != '/'))
    };
    if origins.iter().all(is_origin) {
        return Ok(origins);
    }
    Err(refused(
        "CORS_ORIGINS",
        value.unwrap_or_default(),
        "* or a list such as https://example.org,http://localhost:3000",
    ))
}
