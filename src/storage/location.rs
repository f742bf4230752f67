//! Where a recording is or a result goes, as users write it: an object in S3 or an address. What may be shown of it never has
//! the query of an address in it, which is where its signature is.

use crate::error::{Error, Result};
use crate::http_client::Url;

/// Presigned addresses with a session token have about two thousand.
const MAX_CHARS: usize = 8192;
pub(super) const MAX_KEY_BYTES: usize = 1024;

/// A place outside this machine.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Location {
    Http(Url),
    S3 { bucket: String, key: String },
}

impl Location {
    /// # Errors
    /// `InvalidInput` with `address_not_allowed` for everything else; the text is not repeated, it may hold secrets.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_CHARS {
            return Err(not_allowed(format!("the address is longer than {MAX_CHARS} characters")));
        }
        if let Some(object) = text.strip_prefix("s3://") {
            return s3(object);
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(Self::Http).ok_or_else(|| no_address(text))
    }

    /// Without user, password, query and fragment.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::S3 { bucket, key } => format!("s3://{bucket}/{key}"),
            Self::Http(url) => shown_url(url),
        }
    }
}

/// As much of what was meant for an address as is surely no secret.
pub(super) fn shown_text(text: &str) -> String {
    let has_place = |url: &Url| url.host_str().is_some_and(|host| !host.is_empty()) || url.scheme() == "file";
    let url = Url::parse(text).ok().filter(has_place);
    url.map_or_else(|| "the address".to_owned(), |url| shown_url(&url))
}

/// The part of an address that is no secret.
pub(super) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Both fail only for addresses that can have neither.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

/// Whether a job's `source` is a place outside this machine.
pub(super) fn is_remote(source: &str) -> bool {
    let scheme = source.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| ["s3", "http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// The bucket and what comes before each key, from `s3://bucket/prefix` or a bucket's name alone.
pub(super) fn bucket_and_prefix(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    is_bucket(bucket).then_some((bucket, prefix))
}

fn s3(object: &str) -> Result<Location> {
    let (bucket, key) = object.split_once('/').unwrap_or((object, ""));
    if !is_bucket(bucket) {
        return Err(not_allowed("the bucket's name has 3 to 63 letters, digits, dots and hyphens: s3://bucket/key"));
    }
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !is_key(key) {
        return Err(not_allowed(format!("the address names no object in the bucket {bucket}: s3://bucket/key")));
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
}

/// Folders that lead upwards are resolved in an address, so that it would be that of another object.
pub(super) fn is_key(key: &str) -> bool {
    !key.contains(char::is_control) && !key.split('/').any(|part| part == "." || part == "..")
}

fn is_bucket(name: &str) -> bool {
    (3..=63).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c))
}

pub(super) fn no_address(text: &str) -> Error {
    let shown = shown_text(text);
    not_allowed(format!("{shown} cannot be fetched: allowed are s3://bucket/key, https:// and http:// addresses"))
}

pub(super) fn not_allowed(why: impl std::fmt::Display) -> Error {
    Error::invalid("address_not_allowed", format!("{why}; trying again as it is does not help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Location::parse(text).unwrap().shown()
    }

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        let signed = "https://user:word@b.example:8443/in/talk.mp3?X-Amz-Signature=0123#part";
        assert_eq!(shown(signed), "https://b.example:8443/in/talk.mp3");
        assert_eq!(shown("s3://talks/2026/a talk?.mp3"), "s3://talks/2026/a talk?.mp3");
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for text in [
            "",
            "talk.mp3",
            "/etc/passwd",
            "file:///etc/passwd",
            "ftp://a/b",
            "data:audio/wav;base64,secret",
            "s3://",
            "s3://a/b",
            "s3://talks",
            "s3://talks/",
            "s3://talks/../secret/a",
            "s3://talks/./secret",
            "s3://ta lks/secret",
            "s3://key:secret@talks/a.mp3",
            "ftp://user:secret@a/b?secret",
            "gopher:///user:secret@a/b",
            "http://",
            "https:secret",
        ] {
            let Err(error) = Location::parse(text) else {
                // A missing slash is mended by the rules of addresses.
                assert_eq!(text, "https:secret");
                continue;
            };
            assert_eq!(error.code(), "address_not_allowed", "{text}");
            assert!(!error.to_string().contains("secret") && error.to_string().contains("s3://bucket/key"), "{error}");
        }
        assert!(Location::parse(&format!("https://a/{}", "b".repeat(MAX_CHARS))).is_err());
    }

    #[test]
    fn what_is_no_address_is_named_as_far_as_it_is_no_secret() {
        assert_eq!(shown_text("ftp://user:word@a.example/b.mp3?c#d"), "ftp://a.example/b.mp3");
        assert_eq!(shown_text("file:///etc/passwd"), "file:///etc/passwd");
        for text in ["data:audio/wav;base64,secret", "gopher:///user:word@a/b", "talk.mp3"] {
            assert_eq!(shown_text(text), "the address");
        }
    }

    #[test]
    fn the_scheme_of_an_address_is_read_in_any_case() {
        assert!(is_remote("HTTPS://a.example/b") && is_remote("s3://talks/a") && !is_remote("/https/a"));
        assert_eq!(shown("HTTPS://A.example/b"), "https://a.example/b");
        assert!(Location::parse("S3://talks/a").is_err_and(|error| error.code() == "address_not_allowed"));
    }

    #[test]
    fn a_bucket_may_come_with_a_prefix() {
        assert_eq!(bucket_and_prefix("talks"), Some(("talks", "")));
        assert_eq!(bucket_and_prefix("s3://talks/out/"), Some(("talks", "out/")));
        assert_eq!(bucket_and_prefix("https://talks"), None);
    }
}
