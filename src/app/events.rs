//! What S3 brings: addresses that recordings are uploaded to, and jobs out of notifications.

use std::time::Duration;

use super::{Intake, Source};
use crate::error::{Error, Result};
use crate::http_client::Answer;
use crate::job::{FrontDoor, Options};
use crate::queue::{Submitted, format_rfc3339, new_id, unix_now_ms};
use crate::storage::{Created, Notification, Storage, parse_bucket, refusal};

/// Within which an upload must begin.
const UPLOAD_SECONDS: u64 = 3600;
const MAX_NAME_CHARS: usize = 200;

/// Where a recording can be sent, and how it is submitted afterwards.
pub struct Upload {
    /// Signed: whoever has it can write there, until then.
    pub url: String,
    /// RFC 3339, UTC.
    pub expires_at: String,
    /// The `s3://` name for a job.
    pub audio: String,
}

/// What became of a notification.
pub struct Taken {
    pub jobs: Vec<TakenJob>,
    /// Records that make no job.
    pub ignored: usize,
    /// Objects that could be no job, and why.
    pub refused: Vec<(String, Error)>,
}

/// A job that a notification asks for.
pub struct TakenJob {
    pub id: String,
    pub source: String,
    /// Whether it was there already.
    pub is_repeated: bool,
}

/// A signed address in UPLOAD_BUCKET for a recording of this name.
///
/// # Errors
/// `Config` without UPLOAD_BUCKET; `InvalidInput` with `denied` without credentials.
pub fn new_upload(storage: &Storage, upload_bucket: Option<&str>, name: &str) -> Result<Upload> {
    let (bucket, prefix) = upload_bucket.and_then(parse_bucket).ok_or_else(|| {
        Error::Config(
            "no bucket takes uploads: set UPLOAD_BUCKET, or send the recording itself to POST /jobs".to_owned(),
        )
    })?;
    let separator = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    let key = format!("{prefix}{separator}{}/{}", new_id(), plain(name));
    let (url, audio) = storage.presigned_upload(bucket, &key, Duration::from_secs(UPLOAD_SECONDS))?;
    let expires_at = format_rfc3339(unix_now_ms() + UPLOAD_SECONDS as i64 * 1000);
    Ok(Upload { url: url.into(), expires_at, audio })
}

/// Why an address for uploads took nothing, and whether trying again helps.
pub fn upload_refused(audio: &str, answer: &Answer) -> Error {
    refusal(audio, answer)
}

impl Intake {
    /// Makes a job of every object that a notification tells of, unless there is one already.
    ///
    /// # Errors
    /// `InvalidInput` where it is no notification; `Overloaded` when the queue is full, with the jobs before that submitted:
    /// sent again it makes only the rest.
    pub fn take_notification(&self, body: &[u8], is_wanted: impl Fn(&str) -> bool) -> Result<Taken> {
        let Notification { created, others } = Notification::parse(body)?;
        let mut taken = Taken { jobs: Vec::new(), ignored: others, refused: Vec::new() };
        for object in created {
            if !is_wanted(&object.key) || self.is_ours(&object) {
                taken.ignored += 1;
                continue;
            }
            let address = object.address();
            match self.take_object(&object) {
                Ok(Submitted { id, resumed }) => {
                    taken.jobs.push(TakenJob { id, source: address, is_repeated: resumed });
                }
                // One that can be no job must not keep the others from being some.
                Err(error @ (Error::InvalidInput { .. } | Error::Config(_))) => {
                    tracing::warn!(source = address, %error, "an object that was stored is not taken");
                    taken.refused.push((address, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn take_object(&self, object: &Created) -> Result<Submitted> {
        let source = Source { name: object.address(), version: object.tag.clone(), bytes: object.bytes };
        let mut draft = self.new_job(new_id(), FrontDoor::S3, source, Options::default(), None)?;
        draft.job.idempotency_key = object.identity();
        let source = draft.job.source.clone();
        let submitted = self.submit(draft)?;
        tracing::info!(job = submitted.id, source, repeated = submitted.resumed, "submitted by a notification");
        Ok(submitted)
    }

    /// What we wrote ourselves must not come back as a job.
    fn is_ours(&self, object: &Created) -> bool {
        let place = self.output_uri.as_deref().and_then(parse_bucket);
        let written =
            object.key.rsplit('.').next().is_some_and(|end| ["json", "txt", "srt", "vtt", "tsv"].contains(&end));
        written && place.is_some_and(|(bucket, prefix)| object.bucket == bucket && object.key.starts_with(prefix))
    }
}

/// A name that is one part of a key and needs no encoding.
fn plain(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let plain: String = name.chars().take(MAX_NAME_CHARS).map(allowed).collect();
    if plain.trim_matches('.').is_empty() { "audio".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn the_name_of_an_upload_stays_in_its_folder() {
        for (name, expected) in [
            ("talk.mp3", "talk.mp3"),
            ("../../etc/passwd", "passwd"),
            ("Grüße 1.mp3", "Gr__e_1.mp3"),
            ("..", "audio"),
            ("", "audio"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
