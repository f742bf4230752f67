//! A request as Lambda hands it over, given to the routes that plain HTTP has, and their answer in the shape that the sender
//! of the request expects.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lambda_http::http::{StatusCode, Uri};
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::tower::{Service, ServiceExt};
use lambda_http::{Adapter, Body, Context, IntoResponse, LambdaEvent, Request, RequestExt, Response, service_fn};
use serde_json::{Value, json};

use crate::error::Result;
use crate::http::{Api, Invocation};

/// An API Gateway gives up after 29 s at the earliest, whatever time the function has; a function URL does not.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(27);
/// What the name of an API Gateway has in it that has no name of its own.
const GATEWAY: &str = ".execute-api.";
/// The stage that is no part of a path.
const NO_STAGE: &str = "$default";
/// Lambda takes no longer answer, and what it is wrapped in takes a little of that.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024 - 64 * 1024;

/// For how long whoever sent the request waits, where that is less than the function has.
pub(super) fn patience(request: &LambdaRequest) -> Option<Duration> {
    let is_gateway = match request {
        LambdaRequest::ApiGatewayV1(_) => true,
        LambdaRequest::ApiGatewayV2(request) => {
            request.request_context.domain_name.as_deref().is_some_and(|name| name.contains(GATEWAY))
        }
        _ => false,
    };
    is_gateway.then_some(GATEWAY_PATIENCE)
}

/// The answer of `api`, with `grace` beyond the end of the invocation's time for what does not look at that.
pub(super) async fn answer(
    api: Api,
    request: LambdaRequest,
    context: Context,
    invocation: Invocation,
    grace: Duration,
) -> Result<Value> {
    let service = service_fn(move |mut request: Request| {
        let (api, end) = (api.clone(), invocation.until + grace);
        strip_stage(&mut request);
        request.extensions_mut().insert(invocation.clone());
        async move {
            let left = end.saturating_duration_since(Instant::now());
            let answered = tokio::time::timeout(left, async { whole(api.oneshot(request).await).await }).await;
            Ok::<_, Infallible>(match answered {
                Ok(answer) => answer,
                Err(_) => late().await,
            })
        }
    });
    let answered = Adapter::from(service).call(LambdaEvent::new(request, context)).await;
    let answered = answered.unwrap_or_else(|never| match never {});
    Ok(serde_json::to_value(answered).context("an answer is no JSON")?)
}

/// The path as it is behind the stage of an API Gateway.
fn strip_stage(request: &mut Request) {
    let stage = match request.request_context_ref() {
        // Where its own path begins like the stage, nothing was put before it.
        Some(RequestContext::ApiGatewayV1(context)) => {
            let own = |stage: &&String| !request.raw_http_path().starts_with(&format!("/{stage}/"));
            context.stage.as_ref().filter(own)
        }
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_ref(),
        _ => None,
    };
    let path_and_query = request.uri().path_and_query().map_or("/", |part| part.as_str());
    let stripped = stage.filter(|stage| *stage != NO_STAGE).and_then(|stage| behind(path_and_query, stage));
    if let Some(uri) = stripped.and_then(|stripped| stripped.parse::<Uri>().ok()) {
        *request.uri_mut() = uri;
    }
}

fn behind(path_and_query: &str, stage: &str) -> Option<String> {
    let rest = path_and_query.strip_prefix('/')?.strip_prefix(stage)?;
    match rest.chars().next() {
        Some('/') => Some(rest.to_owned()),
        Some('?') | None => Some(format!("/{rest}")),
        Some(_) => None,
    }
}

/// The answer with its body in memory, unless that is longer than Lambda carries.
async fn whole(answered: Result<impl IntoResponse, Infallible>) -> Response<Body> {
    let answer = answered.unwrap_or_else(|never| match never {}).into_response().await;
    if carried_bytes(answer.body()) > MAX_ANSWER_BYTES {
        let message = "the answer is longer than Lambda carries (6 MiB): ask for the transcript as txt or srt, or have \
             it written to S3 with output_uri";
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).await;
    }
    answer
}

/// Text stands in JSON, everything else in base64.
fn carried_bytes(body: &Body) -> usize {
    match body {
        Body::Text(text) => text.len() + text.bytes().filter(|byte| b"\"\\\n\r\t".contains(byte)).count(),
        Body::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        _ => 0,
    }
}

async fn late() -> Response<Body> {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "timeout", "no answer before the function's time was over: try again")
        .await
}

async fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    (status, json!({"error": {"code": code, "message": message}})).into_response().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_stripped_where_it_is_the_first_part_of_the_path() {
        for (path, stripped) in [
            ("/prod/jobs?wait=5", Some("/jobs?wait=5")),
            ("/prod", Some("/")),
            ("/prod?a=b", Some("/?a=b")),
            ("/production/jobs", None),
            ("/jobs/prod", None),
        ] {
            assert_eq!(behind(path, "prod").as_deref(), stripped, "{path}");
        }
    }

    #[test]
    fn what_makes_an_answer_longer_on_its_way_is_counted() {
        assert_eq!(carried_bytes(&Body::from("a\"b\n")), 6);
        assert_eq!(carried_bytes(&Body::from(vec![0; 4])), 8);
    }
}
