//! Whether a file that came over the network is the one that was sent: its checksum, where the server says one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use aws_smithy_checksums::ChecksumAlgorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::error::Result;
use crate::http_client::Fetched;

const BUFFER_BYTES: usize = 256 * 1024;
/// As S3 names them in `x-amz-checksum-…`.
const ALGORITHMS: [&str; 5] = ["crc64nvme", "crc32", "crc32c", "sha256", "sha1"];

/// What the file must come to, and how that is computed.
struct Expected {
    algorithm: Option<ChecksumAlgorithm>,
    sum: Vec<u8>,
}

/// Whether the file has the checksum that came with it; true where none came.
pub(super) fn is_intact(file: &Path, fetched: &Fetched) -> Result<bool> {
    let Some(expected) = expected(|name| fetched.header(name).map(str::to_owned)) else { return Ok(true) };
    let file = File::open(file).context("cannot read what was fetched")?;
    let sum = match expected.algorithm {
        Some(algorithm) => {
            let mut sum = algorithm.into_impl();
            read(file, |piece| sum.update(piece))?;
            sum.finalize().to_vec()
        }
        None => {
            let mut sum = Md5::new();
            read(file, |piece| sum.update(piece))?;
            sum.finalize().to_vec()
        }
    };
    Ok(sum == expected.sum)
}

/// S3's own checksum, else an MD5: said as such, or as the ETag of an object that was stored in one piece and unencrypted.
fn expected(header: impl Fn(&str) -> Option<String>) -> Option<Expected> {
    for name in ALGORITHMS {
        // That of an object in parts is made of those of its parts, and says so with a hyphen.
        let Some(text) = header(&format!("x-amz-checksum-{name}")) else { continue };
        if let (Ok(algorithm), Ok(sum)) = (name.parse(), STANDARD.decode(text)) {
            return Some(Expected { algorithm: Some(algorithm), sum });
        }
    }
    if let Some(sum) = header("content-md5").and_then(|text| STANDARD.decode(text).ok()).filter(|sum| sum.len() == 16) {
        return Some(Expected { algorithm: None, sum });
    }
    header("x-amz-request-id")?;
    // In these buckets it is made of something else.
    if header("x-amz-storage-class").as_deref() == Some("EXPRESS_ONEZONE") {
        return None;
    }
    let encrypted = header("x-amz-server-side-encryption").is_some_and(|how| how.starts_with("aws:"))
        || header("x-amz-server-side-encryption-customer-algorithm").is_some();
    let sum = header("etag").as_deref().and_then(from_hex).filter(|_| !encrypted)?;
    Some(Expected { algorithm: None, sum })
}

/// The 16 bytes of an MD5 in quotes.
fn from_hex(tag: &str) -> Option<Vec<u8>> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"').filter(|digits| digits.len() == 32 && digits.is_ascii())?;
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

fn read(mut file: File, mut update: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).context("cannot read what was fetched")?;
        if count == 0 {
            return Ok(());
        }
        update(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn algorithm(headers: &[(&str, &str)]) -> Option<String> {
        let found = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        expected(found)
            .map(|expected| expected.algorithm.map_or("md5".to_owned(), |algorithm| algorithm.as_str().to_owned()))
    }

    const MD5: &str = "\"d41d8cd98f00b204e9800998ecf8427e\"";

    #[test]
    fn the_best_checksum_that_is_said_is_taken() {
        let id = ("x-amz-request-id", "1");
        assert_eq!(algorithm(&[id, ("etag", MD5), ("x-amz-checksum-crc32", "AAAAAA==")]).as_deref(), Some("crc32"));
        assert_eq!(algorithm(&[id, ("etag", MD5)]).as_deref(), Some("md5"));
        assert_eq!(algorithm(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]).as_deref(), Some("md5"));
    }

    #[test]
    fn what_is_no_checksum_of_the_whole_is_not_taken_for_one() {
        let id = ("x-amz-request-id", "1");
        assert_eq!(algorithm(&[("etag", MD5)]), None, "of a server that is no S3");
        assert_eq!(algorithm(&[id, ("etag", "\"d41d8cd98f00b204e9800998ecf8427e-3\"")]), None);
        assert_eq!(algorithm(&[id, ("x-amz-checksum-crc32", "AAAAAA==-3")]), None);
        assert_eq!(algorithm(&[id, ("etag", MD5), ("x-amz-server-side-encryption", "aws:kms")]), None);
    }
}
