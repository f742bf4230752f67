//! Bodies of requests: given up when nothing arrives, and read to their end before a refusal, because a client that is
//! still sending when the connection closes never sees why.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Frame;
use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tower_http::timeout::TimeoutBody;

use super::IDLE;
use super::error::{Refusal, Result};

/// What is read of a refused body: more would only keep the client busy.
const MAX_DRAIN_BYTES: u64 = 64 * 1024 * 1024;
const MAX_DRAIN: Duration = Duration::from_secs(10);

/// A body that comes back when its handler is done with it.
struct Lent {
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

/// Runs the handler; should it refuse, the rest of the body is read first.
pub(super) async fn read_before_refusal(request: Request, next: Next) -> Response {
    let is_worth_it = will_end_soon(&request);
    let (back, mut returned) = oneshot::channel();
    let lend = |body| Body::new(Lent { body: Body::new(TimeoutBody::new(IDLE, body)), back: Some(back) });
    let response = next.run(request.map(lend)).await;
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    if let (true, Ok(body)) = (is_refusal && is_worth_it, returned.try_recv()) {
        // Whatever is left after this is the client's loss.
        let _ = tokio::time::timeout(MAX_DRAIN, drain(body)).await;
    }
    response
}

/// A client that waits for a go-ahead has not begun to send, and one that has gigabytes to send will not be waited for.
fn will_end_soon(request: &Request) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    !request.headers().contains_key(header::EXPECT) && length.is_none_or(|length: u64| length <= MAX_DRAIN_BYTES)
}

/// A body that belongs in memory; `instead` says what to do with a longer one.
pub(super) async fn read_whole(body: Body, max_bytes: usize, instead: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let broken_off = "the body stopped arriving: send it again";
        let piece = piece.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_incomplete", broken_off))?;
        if bytes.len() + piece.len() > max_bytes {
            let message = format!("JSON may have {max_bytes} bytes here: {instead}");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn drain(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len() as u64;
        if bytes > MAX_DRAIN_BYTES {
            return;
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            // Nobody takes it back where the request itself was given up.
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}
