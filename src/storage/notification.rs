//! What S3 tells when objects are stored: the shapes of AWS (which MinIO shares) and of SeaweedFS, read into one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// How the paths of SeaweedFS begin.
const BUCKETS: &str = "/buckets/";
/// Where it keeps the parts of what is still being sent.
const PARTS: &str = ".uploads/";

/// An object that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub bucket: String,
    pub key: String,
    pub bytes: Option<u64>,
    /// Its ETag.
    pub tag: Option<String>,
    /// What tells this version of it from all others: its version id, else its ETag, else its place in the order of events.
    pub version: Option<String>,
}

/// What a notification holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    pub created: Vec<Created>,
    /// Records of something else: removals, folders, tests.
    pub others: usize,
}

impl Created {
    /// The `s3://` name.
    pub fn address(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    /// The same for every notification of the same version.
    /// `None` where nothing tells its versions apart.
    pub fn identity(&self) -> Option<String> {
        Some(format!("s3:{}/{}@{}", self.bucket, self.key, self.version.as_ref()?))
    }
}

impl Notification {
    /// # Errors
    /// `InvalidInput` with `invalid_event` where it is nothing that S3 sends.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let event: Value = serde_json::from_slice(body).map_err(|error| unknown(&format!("no JSON: {error}")))?;
        if let Some(records) = event.get("Records") {
            let records: Vec<Value> =
                Deserialize::deserialize(records).map_err(|error| unknown(&format!("its Records: {error}")))?;
            let created = |record: Value| serde_json::from_value::<Record>(record).ok().and_then(Record::created);
            return Ok(records.into_iter().map(created).collect());
        }
        if event.get("event_type").is_some() {
            let event: Seaweed = Deserialize::deserialize(&event).map_err(|error| unknown(&error.to_string()))?;
            return Ok(std::iter::once(event.created()).collect());
        }
        // What AWS sends when a bucket is set up.
        if event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
            return Ok(Self { created: Vec::new(), others: 1 });
        }
        Err(unknown("it has neither Records (AWS, MinIO) nor event_type (SeaweedFS)"))
    }
}

impl FromIterator<Option<Created>> for Notification {
    fn from_iter<I: IntoIterator<Item = Option<Created>>>(records: I) -> Self {
        let mut notification = Self::default();
        for record in records {
            match record {
                Some(created) => notification.created.push(created),
                None => notification.others += 1,
            }
        }
        notification
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    s3: Option<RecordS3>,
}

#[derive(Deserialize)]
struct RecordS3 {
    bucket: RecordBucket,
    object: RecordObject,
}

#[derive(Deserialize)]
struct RecordBucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordObject {
    /// Encoded as in a form: `+` is a blank.
    key: String,
    size: Option<i64>,
    e_tag: Option<String>,
    version_id: Option<String>,
    sequencer: Option<String>,
}

impl Record {
    /// The name begins with `s3:` at MinIO.
    fn created(self) -> Option<Created> {
        let name = self.event_name.strip_prefix("s3:").unwrap_or(&self.event_name);
        let s3 = self.s3.filter(|_| name.starts_with("ObjectCreated:"))?;
        let key = decoded(&s3.object.key);
        if key.is_empty() || key.ends_with('/') {
            return None;
        }
        let tag = s3.object.e_tag.filter(|tag| !tag.is_empty()).map(|tag| tag.trim_matches('"').to_owned());
        let version = s3.object.version_id.filter(|id| !id.is_empty() && id != "null").or_else(|| tag.clone());
        let version = version.or(s3.object.sequencer);
        let bytes = s3.object.size.and_then(|size| u64::try_from(size).ok());
        Some(Created { bucket: s3.bucket.name, key, bytes, tag, version })
    }
}

#[derive(Deserialize)]
struct Seaweed {
    event_type: String,
    key: String,
    message: Option<SeaweedMessage>,
}

#[derive(Deserialize)]
struct SeaweedMessage {
    new_entry: Option<SeaweedEntry>,
}

#[derive(Deserialize)]
struct SeaweedEntry {
    #[serde(default)]
    is_directory: bool,
    attributes: Option<SeaweedAttributes>,
    #[serde(default)]
    extended: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct SeaweedAttributes {
    /// Absent for an empty file.
    #[serde(default)]
    file_size: u64,
    #[serde(default)]
    mtime: u64,
}

impl Seaweed {
    /// An object that was stored over another comes as an update.
    fn created(self) -> Option<Created> {
        let entry = self.message?.new_entry.filter(|entry| !entry.is_directory)?;
        let (bucket, key) = self.key.strip_prefix(BUCKETS)?.split_once('/')?;
        let is_object = !bucket.starts_with('.') && !key.is_empty() && !key.starts_with(PARTS);
        if !is_object || !matches!(self.event_type.as_str(), "create" | "update") {
            return None;
        }
        let attributes = entry.attributes.unwrap_or(SeaweedAttributes { file_size: 0, mtime: 0 });
        let tag = entry.extended.get("Seaweed-X-Amz-ETag").and_then(Value::as_str).and_then(from_base64);
        let version = tag.clone().unwrap_or_else(|| format!("{}-{}", attributes.mtime, attributes.file_size));
        Some(Created {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            bytes: Some(attributes.file_size),
            tag,
            version: Some(version),
        })
    }
}

fn from_base64(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

/// Undoes the encoding of forms; what is not encoded well stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex =
            (bytes[at] == b'%').then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        match (bytes[at], hex.flatten()) {
            (_, Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', None) => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn unknown(why: &str) -> Error {
    Error::invalid("invalid_event", format!("that is no event of S3: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, object: &str) -> String {
        format!(
            r#"{{"Records": [{{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "{name}",
                "s3": {{"bucket": {{"name": "talks"}}, "object": {object}}}}}]}}"#
        )
    }

    fn parse(body: &str) -> Notification {
        Notification::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn an_object_stored_at_aws_comes_with_its_key_decoded() {
        let object = r#"{"key": "in/m%C3%B6te+1%2B2.mp3", "size": 11, "eTag": "4d5d", "sequencer": "00"}"#;
        let created = parse(&record("ObjectCreated:Put", object)).created.remove(0);
        assert_eq!((created.address().as_str(), created.bytes), ("s3://talks/in/möte 1+2.mp3", Some(11)));
        assert_eq!(created.identity().unwrap(), "s3:talks/in/möte 1+2.mp3@4d5d");
        let versioned = r#"{"key": "a.mp3", "size": 11, "eTag": "4d5d", "versionId": "v7"}"#;
        assert_eq!(parse(&record("ObjectCreated:Copy", versioned)).created[0].identity().unwrap(), "s3:talks/a.mp3@v7");
        let untold = parse(&record("ObjectCreated:Put", r#"{"key": "a.mp3", "size": -1}"#)).created.remove(0);
        assert_eq!((untold.identity(), untold.bytes), (None, None));
    }

    #[test]
    fn an_object_stored_at_minio_differs_in_the_name_of_the_event() {
        let minio = record("s3:ObjectCreated:CompleteMultipartUpload", r#"{"key": "a%2Fb.mp3", "eTag": "1-2"}"#);
        let minio = minio.replacen('{', r#"{"EventName": "s3:ObjectCreated:Put", "Key": "talks/a/b.mp3", "#, 1);
        assert_eq!(parse(&minio).created[0].address(), "s3://talks/a/b.mp3");
    }

    #[test]
    fn an_object_stored_at_seaweedfs_comes_by_its_path() {
        let event = r#"{"event_type": "create", "key": "/buckets/talks/in/möte 1 \u0026 2.mp3", "message": {"new_entry":
            {"name": "x", "attributes": {"file_size": 11000, "mtime": 1795519502, "inode": 2079653893391463611},
             "extended": {"Seaweed-X-Amz-ETag": "NGQ1ZA=="}}}}"#;
        let created = parse(event).created.remove(0);
        assert_eq!((created.address().as_str(), created.bytes), ("s3://talks/in/möte 1 & 2.mp3", Some(11_000)));
        assert_eq!((created.tag.as_deref(), created.version.as_deref()), (Some("4d5d"), Some("4d5d")));
        assert_eq!(parse(&event.replace("\"create\"", "\"update\"")).created.len(), 1);
    }

    #[test]
    fn what_stored_no_object_is_counted_and_makes_no_job() {
        let entry = r#""message": {"new_entry": {"attributes": {}}}"#;
        for body in [
            record("ObjectRemoved:Delete", r#"{"key": "a.mp3"}"#),
            record("ObjectCreated:Put", r#"{"key": "folder/"}"#),
            r#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "talks"}"#.to_owned(),
            format!(r#"{{"event_type": "delete", "key": "/buckets/talks/a.mp3", {entry}}}"#),
            format!(r#"{{"event_type": "create", "key": "/buckets/talks/.uploads/1/0001.part", {entry}}}"#),
            format!(r#"{{"event_type": "create", "key": "/buckets/.system/owners/a", {entry}}}"#),
            format!(r#"{{"event_type": "create", "key": "/etc/a.mp3", {entry}}}"#),
            r#"{"event_type": "create", "key": "/buckets/talks/in", "message": {"new_entry": {"is_directory": true}}}"#
                .to_owned(),
        ] {
            assert_eq!(parse(&body), Notification { created: Vec::new(), others: 1 }, "{body}");
        }
    }

    #[test]
    fn what_s3_does_not_send_is_refused() {
        for body in ["", "[]", "{}", r#"{"Records": 1}"#, r#"{"event_type": "create"}"#] {
            assert_eq!(Notification::parse(body.as_bytes()).expect_err(body).code(), "invalid_event");
        }
    }
}
