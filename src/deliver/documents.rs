//! The files that a job's results become: their names and what is in them.

use anyhow::Context;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::transcript::{Format, Transcript};

/// Address and format of each file; `None` is the JSON with the job in it. Below an `s3://` place there is that, and one file
/// for each format; an address that takes one file by PUT gets the JSON, or the one format that was asked for.
pub(super) fn of(job: &Job, completed: bool, place: &str, formats: &[String]) -> Result<Vec<(String, Option<Format>)>> {
    let asked = formats.iter().map(|name| name.parse()).collect::<Result<Vec<Format>, _>>();
    let asked = asked.map_err(|error| Error::invalid("invalid_option", format!("output_formats: {error}")))?;
    let wanted = |format: &Format| *format != Format::Json && asked.contains(format);
    let formats: Vec<Format> = Format::ALL.into_iter().filter(wanted).collect();
    if !place.starts_with("s3://") {
        let only = formats.first().copied().filter(|_| asked.len() == 1);
        // There is nothing to write in another form about a job that failed.
        let silent = only.is_some() && !completed;
        return Ok(if silent { Vec::new() } else { vec![(place.to_owned(), only)] });
    }
    let separator = if place.ends_with('/') { "" } else { "/" };
    let name = |extension: &str| format!("{place}{separator}{}.{extension}", job.id);
    let texts = formats.into_iter().filter(|_| completed).map(|format| (name(format.extension()), Some(format)));
    // The JSON last: where it is, everything is.
    Ok(texts.chain([(name("json"), None)]).collect())
}

pub(super) fn render(job: &Job, transcript: Option<&Transcript>, format: Option<Format>) -> Result<String> {
    match (format, transcript) {
        (Some(format), Some(transcript)) => Ok(transcript.render(format)),
        _ => whole(job, transcript),
    }
}

/// The transcript as `format=json` gives it, and the job beside it; of a failed job only that.
fn whole(job: &Job, transcript: Option<&Transcript>) -> Result<String> {
    let text = transcript.map_or_else(|| "{}".to_owned(), |transcript| transcript.render(Format::Json));
    let mut document: Value = serde_json::from_str(&text).context("the transcript is no JSON")?;
    // Whether this very file has arrived is not for it to say.
    document["job"] = json!(Job { deliveries: Vec::new(), ..job.clone() });
    Ok(serde_json::to_string_pretty(&document).context("cannot write the results of a job")? + "\n")
}
