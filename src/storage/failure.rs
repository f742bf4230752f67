//! What went wrong with a transfer, in few codes and in words that name the host and the object, never a query, and say
//! whether trying again helps.

use crate::error::Error;
use crate::http_client::{Answer, OutboundError};

/// S3's own names of what is not there.
const NOT_THERE: [&str; 3] = ["NoSuchKey", "NoSuchBucket", "NoSuchVersion"];
const AGAIN: &str = "trying again may help";
const NOT_AGAIN: &str = "trying again as it is does not help";
/// Longer than any region's name: servers of anyone's may say anything.
const MAX_REGION_CHARS: usize = 64;
const EXPIRED: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed"];
/// Where a bucket lies in another region than the one that signed.
const ELSEWHERE: [&str; 4] =
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect"];
/// What a signature in the address gets there; without a region in the answer something else is wrong with it.
const MISSIGNED: &str = "AuthorizationQueryParametersError";
/// What comes with 400, though it is about rights.
const NO_RIGHTS: [&str; 2] = [MISSIGNED, "InvalidToken"];

/// Of a request that got no answer, or not the file.
pub(super) fn explain(shown: &str, error: OutboundError) -> Error {
    let stays = |code, why: &str| invalid(code, shown, why);
    match error {
        OutboundError::Forbidden(reason) => stays("address_not_allowed", &reason),
        OutboundError::Unreachable(reason) => transient("unreachable", shown, &format!("cannot be reached ({reason})")),
        OutboundError::BrokenOff(reason) => transient("transfer_failed", shown, &format!("broke off ({reason})")),
        OutboundError::Refused(answer) => refused(shown, &answer),
        OutboundError::RedirectedTooOften => stays("transfer_failed", "was redirected more than five times"),
        OutboundError::Packed(how) => {
            stays("not_audio", &format!("is sent packed ({how}): store it without Content-Encoding"))
        }
        OutboundError::TooLong(None) => stays("too_large", "is longer than MAX_AUDIO_BYTES allows"),
        OutboundError::TooLong(Some(bytes)) => {
            stays("too_large", &format!("has {bytes} bytes, more than MAX_AUDIO_BYTES allows"))
        }
        OutboundError::Read(error) | OutboundError::Write(error) => {
            anyhow::Error::new(error).context("cannot write the recording to DATA_DIR").into()
        }
        OutboundError::Stopped(error) => error,
    }
}

/// Of an answer that says no.
pub(super) fn refused(shown: &str, answer: &Answer) -> Error {
    let (code, message) = (element(&answer.body, "Code"), element(&answer.body, "Message").unwrap_or_default());
    let said = code.filter(|code| code.len() <= 64 && code.bytes().all(|c| c.is_ascii_alphanumeric()));
    let status = answer.status;
    let words = said.map_or_else(|| format!("the server answered {status}"), |code| format!("the server says {code}"));
    let is = |names: &[&str]| said.is_some_and(|code| names.contains(&code));
    let region = answer.header("x-amz-bucket-region").or_else(|| element(&answer.body, "Region"));
    let is_elsewhere = is(&ELSEWHERE) || (is(&[MISSIGNED]) && region.is_some());
    if is_elsewhere || (status == 301 && said.is_some()) {
        let is_name = |region: &&str| region.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let region = region.filter(|region| region.len() <= MAX_REGION_CHARS).filter(is_name);
        let where_to = region.map_or("the bucket's region".to_owned(), |region| format!("AWS_REGION={region}"));
        return invalid("denied", shown, &format!("the bucket is in another region ({words}): set {where_to}"));
    }
    if is(&EXPIRED) || (status == 403 && message.contains("expired")) {
        return invalid("expired", shown, &format!("the signed address has expired ({words}): sign a new one"));
    }
    match status {
        404 | 410 => invalid("not_found", shown, &format!("is not there ({words})")),
        _ if is(&NOT_THERE) => invalid("not_found", shown, &format!("is not there ({words})")),
        _ if matches!(status, 401 | 403 | 407) || is(&NO_RIGHTS) => {
            invalid("denied", shown, &format!("may not be accessed ({words}): check the signature and the rights"))
        }
        408 | 425 | 429 | 500..=599 => transient("transfer_failed", shown, &words),
        _ => invalid("transfer_failed", shown, &words),
    }
}

/// Of a request with the operator's own keys. It is signed anew each time, so that what has expired are the keys.
pub(super) fn own_keys(shown: &str, error: Error) -> Error {
    match error {
        Error::InvalidInput { code: "expired", .. } => {
            let why = "the credentials for S3 have expired: renew them, and check this machine's clock";
            transient("expired", shown, why)
        }
        error => error,
    }
}

/// Of a message that its receiver did not take. Most of what receivers answer passes when they are mended.
pub(super) fn unheard(shown: &str, answer: &Answer) -> Error {
    let status = answer.status;
    match status {
        410 => invalid("not_found", shown, "is gone for good (the server answered 410)"),
        300..=399 => invalid("transfer_failed", shown, "redirects elsewhere: name that address instead"),
        _ => transient("transfer_failed", shown, &format!("the server answered {status}")),
    }
}

/// Of a document that was not taken. Rights and buckets are mended within the hours in which it is tried; only a signature
/// whose time is over stays so.
pub(super) fn unwritten(shown: &str, answer: &Answer) -> Error {
    match refused(shown, answer) {
        Error::InvalidInput { code, message } if code != "expired" => {
            Error::Transient { code, message: message.replace(NOT_AGAIN, AGAIN) }
        }
        error => error,
    }
}

/// What arrived is not what was sent.
pub(super) fn damaged(shown: &str) -> Error {
    transient("transfer_failed", shown, "arrived damaged (its checksum is wrong)")
}

pub(super) fn invalid(code: &'static str, shown: &str, why: &str) -> Error {
    Error::invalid(code, format!("{shown}: {why}; {NOT_AGAIN}"))
}

pub(super) fn transient(code: &'static str, shown: &str, why: &str) -> Error {
    Error::Transient { code, message: format!("{shown}: {why}; {AGAIN}") }
}

/// The text of an element in S3's errors, which have no attributes and nothing nested.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let start = xml.find(&format!("<{name}>"))? + name.len() + 2;
    xml[start..].split_once('<').map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_an_error_are_found_and_nothing_else_is() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>There is none.</Message></Error>";
        assert_eq!((element(xml, "Code"), element(xml, "Message")), (Some("NoSuchKey"), Some("There is none.")));
        assert_eq!((element(xml, "Region"), element("<Code>cut", "Code")), (None, None));
    }
}
