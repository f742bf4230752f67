//! A recording on its way in: streamed from the body to a file of its own, never held in memory, never longer than allowed.

use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::http::StatusCode;
use serde_json::{Map, Value};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::error::{Refusal, Result};
use crate::error::Error;
use crate::storage::Incoming;

/// Of one text field of a form: the longest option is metadata of 64 KiB.
const MAX_FIELD_BYTES: usize = 128 * 1024;
/// More fields than there are options are no honest form.
const MAX_FIELDS: usize = 64;
const MAX_NAME_CHARS: usize = 255;
const FILE: &str = "file";

/// What a form held.
pub(super) struct Form {
    pub(super) file_name: String,
    pub(super) bytes: u64,
    pub(super) options: Map<String, Value>,
}

/// Reads a form: its file into `incoming`, everything else as options.
pub(super) async fn read_form(mut form: Multipart, incoming: &Incoming, max_bytes: u64) -> Result<Form> {
    let mut options = Map::new();
    let mut file = None;
    for _ in 0..MAX_FIELDS {
        let Some(field) = form.next_field().await.map_err(broken)? else {
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
            file = Some((file_name, store_field(field, incoming, max_bytes).await?));
        } else if options.insert(name.clone(), Value::String(text(field, &name).await?)).is_some() {
            return Err(Refusal::bad_request("invalid_option", format!("{name} is given twice: send it once")));
        }
    }
    Err(Refusal::bad_request("invalid_form", format!("the form has more than {MAX_FIELDS} parts")))
}

async fn store_field(mut field: Field<'_>, incoming: &Incoming, max_bytes: u64) -> Result<u64> {
    let mut file = Sink::create(incoming, max_bytes).await?;
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        file.write(piece).await?;
    }
    file.finish().await
}

async fn text(mut field: Field<'_>, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(broken)? {
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
