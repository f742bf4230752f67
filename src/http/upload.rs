//! A recording on its way in: streamed from the body to a file of its own, never held in memory, never longer than allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::http::StatusCode;
use serde_json::{Map, Value};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_stream::StreamExt;

use super::error::{Refusal, Result};
use crate::error::Error;
use crate::storage::Incoming;

/// Of one text field of a form: the longest option is metadata of 64 KiB.
pub(super) const MAX_FIELD_BYTES: usize = 128 * 1024;
/// More fields than there are options are no honest form.
pub(super) const MAX_FIELDS: usize = 64;
const MAX_NAME_CHARS: usize = 255;
const FILE: &str = "file";
const METADATA: &str = "metadata";
/// What may arrive of a form before it makes a part of it or a piece of one: the rest is held in memory.
const MAX_UNCLAIMED_BYTES: usize = 1024 * 1024;

/// What a form held.
pub(super) struct Form {
    pub(super) file_name: String,
    pub(super) bytes: u64,
    pub(super) options: Map<String, Value>,
}

/// Counts what has arrived of a body and was not handed out by the parser of forms, which has no limit of its own.
#[derive(Clone, Default)]
pub(super) struct Unclaimed(Arc<AtomicUsize>);

impl Unclaimed {
    /// The body, which breaks off when too much of it is unclaimed.
    pub(super) fn watch(&self, body: Body) -> Body {
        let unclaimed = self.0.clone();
        Body::from_stream(body.into_data_stream().map(move |piece| {
            let piece = piece?;
            if unclaimed.fetch_add(piece.len(), Ordering::Relaxed) > MAX_UNCLAIMED_BYTES {
                return Err(axum::Error::new("a form that is no form"));
            }
            Ok(piece)
        }))
    }

    fn claim(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn explain(&self, error: MultipartError) -> Refusal {
        if self.0.load(Ordering::Relaxed) > MAX_UNCLAIMED_BYTES {
            let message = format!("more than {MAX_UNCLAIMED_BYTES} bytes of the form belong to no part of it");
            return Refusal::bad_request("invalid_form", message);
        }
        broken(error)
    }
}

/// Reads a form: its file into `incoming`, everything else as options.
pub(super) async fn read_form(
    mut form: Multipart,
    unclaimed: &Unclaimed,
    incoming: &Incoming,
    max_bytes: u64,
) -> Result<Form> {
    let mut options = Map::new();
    let mut file = None;
    for _ in 0..=MAX_FIELDS {
        unclaimed.claim();
        let Some(field) = form.next_field().await.map_err(|error| unclaimed.explain(error))? else {
            let (file_name, bytes) = file.ok_or_else(|| {
                Refusal::bad_request(
                    "file_missing",
                    "the form has no part named file: send the recording as one, as in curl -F file=@talk.mp3",
                )
            })?;
            return Ok(Form { file_name, bytes, options });
        };
        let name = field.name().unwrap_or_default().to_owned();
        if name == FILE {
            if file.is_some() {
                return Err(Refusal::bad_request("one_file_only", "the form has two files: send one request for each"));
            }
            let file_name =
                field.file_name().unwrap_or(FILE).chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
            file = Some((file_name, store_field(field, unclaimed, incoming, max_bytes).await?));
            continue;
        }
        if name.eq_ignore_ascii_case(FILE) {
            let message = format!("the form has a part named {name}: name it {FILE}");
            return Err(Refusal::bad_request("invalid_option", message));
        }
        let text = text(field, unclaimed, &name).await?;
        // The one option that may be any JSON; as JSON it comes back.
        let value = if name == METADATA { metadata(text) } else { Value::String(text) };
        if options.insert(name.clone(), value).is_some() {
            return Err(Refusal::bad_request("invalid_option", format!("{name} is given twice: send it once")));
        }
    }
    Err(Refusal::bad_request("invalid_form", format!("the form has more than {MAX_FIELDS} parts")))
}

fn metadata(text: String) -> Value {
    if text.trim().is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

async fn store_field(mut field: Field<'_>, unclaimed: &Unclaimed, incoming: &Incoming, max_bytes: u64) -> Result<u64> {
    let mut file = Sink::create(incoming, max_bytes).await?;
    while let Some(piece) = field.chunk().await.map_err(|error| unclaimed.explain(error))? {
        unclaimed.claim();
        file.write(piece).await?;
    }
    file.finish().await
}

async fn text(mut field: Field<'_>, unclaimed: &Unclaimed, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| unclaimed.explain(error))? {
        unclaimed.claim();
        if bytes.len() + piece.len() > MAX_FIELD_BYTES {
            return Err(Refusal::bad_request(
                "invalid_option",
                format!("{name} is longer than {MAX_FIELD_BYTES} bytes"),
            ));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::bad_request("invalid_option", format!("{name} is not UTF-8 text")))
}

/// A file that grows up to a limit.
pub(super) struct Sink {
    file: File,
    bytes: u64,
    max_bytes: u64,
}

impl Sink {
    pub(super) async fn create(incoming: &Incoming, max_bytes: u64) -> Result<Self> {
        let file = File::create(incoming.path()).await.map_err(cannot_store)?;
        Ok(Self { file, bytes: 0, max_bytes })
    }

    pub(super) async fn write(&mut self, piece: Bytes) -> Result<()> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.max_bytes {
            return Err(too_large(self.max_bytes));
        }
        self.file.write_all(&piece).await.map_err(cannot_store)
    }

    /// The length in bytes.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.file.flush().await.map_err(cannot_store)?;
        Ok(self.bytes)
    }
}

pub(super) fn too_large(max_bytes: u64) -> Refusal {
    let message = format!("the recording is longer than {max_bytes} bytes (MAX_AUDIO_BYTES): compress it or cut it up");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

fn cannot_store(error: std::io::Error) -> Refusal {
    if error.kind() == std::io::ErrorKind::StorageFull {
        let message = "no room on disk for the recording: try again later";
        return Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message);
    }
    Error::Internal(anyhow::Error::new(error).context("cannot store an upload")).into()
}

/// A form that is none, or a body that stopped arriving.
pub(super) fn broken(error: MultipartError) -> Refusal {
    if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
        return Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_incomplete",
            "the body stopped arriving: send it again",
        );
    }
    Refusal::new(error.status(), "invalid_form", format!("the form cannot be read: {}", error.body_text()))
}
