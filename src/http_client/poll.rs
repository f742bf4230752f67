//! Requests that wait for news and come back without any as a rule, to an address that the operator chose.

use std::pin::pin;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};

use super::outbound::{Answer, Outbound, OutboundError, TICK, Target, Wait, block_on};

/// What a poll may bring, and when it ends.
pub struct Poll {
    /// For the beginning of the answer, and again for the rest of it.
    pub time: Duration,
    pub max_bytes: usize,
}

impl Outbound {
    /// Asks with GET; `wait` may end the wait for an answer, but not one that has begun: what a server has handed out, it
    /// does not hand out again.
    pub fn poll(&self, target: &Target, poll: &Poll, wait: &mut Wait) -> Result<Answer, OutboundError> {
        block_on(async {
            let request = self.request(Method::GET, target, &target.url)?;
            let mut sent = pin!(request.send());
            let since = Instant::now();
            let response = loop {
                match tokio::time::timeout(TICK.min(poll.time), &mut sent).await {
                    Ok(response) => break response.map_err(|error| super::outbound::failed(&error))?,
                    Err(_) if since.elapsed() >= poll.time => return Err(silent(poll.time)),
                    Err(_) => wait().map_err(OutboundError::Stopped)?,
                }
            };
            let read = whole(response, poll.max_bytes);
            tokio::time::timeout(poll.time, read).await.unwrap_or_else(|_| Err(silent(poll.time)))
        })?
    }
}

async fn whole(mut response: Response, max_bytes: usize) -> Result<Answer, OutboundError> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| super::outbound::failed(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > max_bytes {
            return Err(OutboundError::TooLong(None));
        }
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn silent(time: Duration) -> OutboundError {
    OutboundError::BrokenOff(format!("nothing came for {} s", time.as_secs_f32()))
}
