//! The files that a job's results become: their names and what is in them.

use anyhow::Context;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::transcript::{Format, Transcript};

/// Address and content of each file. Below an `s3://` place there is `{job id}.json` and one file for each format; an address
/// that takes one file by PUT gets the JSON, or the one format that was asked for.
pub(super) fn of(
    job: &Job,
    transcript: Option<&Transcript>,
    place: &str,
    formats: &[String],
) -> Result<Vec<(String, String)>> {
    let formats = formats.iter().map(|name| name.parse()).collect::<Result<Vec<Format>, _>>();
    let formats = formats.map_err(|error| Error::invalid("invalid_option", format!("output_formats: {error}")))?;
    let formats: Vec<Format> = formats.into_iter().filter(|format| *format != Format::Json).collect();
    if !place.starts_with("s3://") {
        let document = match (formats.as_slice(), transcript) {
            ([format], Some(transcript)) => transcript.render(*format),
            // There is nothing to write in another form about a job that failed.
            ([_], None) => return Ok(Vec::new()),
            _ => whole(job, transcript)?,
        };
        return Ok(vec![(place.to_owned(), document)]);
    }
    let separator = if place.ends_with('/') { "" } else { "/" };
    let name = |extension: &str| format!("{place}{separator}{}.{extension}", job.id);
    // The JSON last: where it is, everything is.
    let mut documents: Vec<(String, String)> = Vec::new();
    if let Some(transcript) = transcript {
        documents.extend(formats.iter().map(|format| (name(format.extension()), transcript.render(*format))));
    }
    documents.push((name("json"), whole(job, transcript)?));
    Ok(documents)
}

/// The transcript as `format=json` gives it, and the job beside it; of a failed job only that.
fn whole(job: &Job, transcript: Option<&Transcript>) -> Result<String> {
    let text = transcript.map_or_else(|| "{}".to_owned(), |transcript| transcript.render(Format::Json));
    let mut document: Value = serde_json::from_str(&text).context("the transcript is no JSON")?;
    // Whether this very file has arrived is not for it to say.
    document["job"] = json!(Job { deliveries: Vec::new(), ..job.clone() });
    Ok(serde_json::to_string_pretty(&document).context("cannot write the results of a job")? + "\n")
}
