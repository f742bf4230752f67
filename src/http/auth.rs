//! Keys: whether a request carries one that is known.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::error::{Refusal, Result};
use crate::config::Secret;

const KEY_HEADER: &str = "x-api-key";
const BEARER: &str = "bearer ";

/// Lets a request through that carries one of `keys`; all of them where there are none.
pub(super) async fn check(State(keys): State<Arc<[Secret]>>, request: Request, next: Next) -> Result<Response> {
    if keys.is_empty() || is_known(&keys, request.headers()) {
        return Ok(next.run(request).await);
    }
    let message = match given(request.headers()) {
        None => "a key is needed: send it as Authorization: Bearer KEY or as X-API-Key: KEY",
        Some(_) => "this key is not known here: compare it with API_KEY of the service",
    };
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
}

/// Takes the same time for every wrong key of one length.
fn is_known(keys: &[Secret], headers: &HeaderMap) -> bool {
    let Some(given) = given(headers) else { return false };
    keys.iter().fold(false, |known, key| known | bool::from(key.reveal().as_bytes().ct_eq(given)))
}

/// `Authorization: Bearer K`, `Authorization: K` or `X-API-Key: K`.
fn given(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(KEY_HEADER) {
        return Some(key.as_bytes().trim_ascii());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes().trim_ascii();
    let scheme = value.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER.as_bytes()));
    Some(scheme.map_or(value, |scheme| value[scheme.len()..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn known(name: &'static str, value: &'static str) -> bool {
        let keys = [Secret::new("first"), Secret::new("second")];
        is_known(
            &keys,
            &HeaderMap::from_iter([(header::HeaderName::from_static(name), HeaderValue::from_static(value))]),
        )
    }

    #[test]
    fn a_key_comes_in_three_ways() {
        for (name, value) in [
            ("authorization", "Bearer first"),
            ("authorization", "bearer  second "),
            ("authorization", "second"),
            ("x-api-key", "first"),
        ] {
            assert!(known(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        for value in ["", "Bearer", "Bearer ", "Bearer firs", "firstsecond", "Basic first"] {
            assert!(!known("authorization", value), "{value}");
        }
        assert!(!is_known(&[Secret::new("first")], &HeaderMap::new()));
    }
}
