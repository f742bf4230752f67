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
/// What the name of a function URL has in it, and what cargo lambda calls its own. An API Gateway, which may have a name of the
/// user's, has any other.
const FUNCTION_URLS: [&str; 2] = [".lambda-url.", "localhost"];
/// The stage that is no part of a path.
const NO_STAGE: &str = "$default";
/// Lambda takes no longer answer, and a load balancer one of 1 MiB at most; what it is wrapped in takes a little of that.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024 - WRAPPING_BYTES;
const MAX_BALANCED_BYTES: usize = 1024 * 1024 - WRAPPING_BYTES;
const WRAPPING_BYTES: usize = 64 * 1024;

/// For how long whoever sent the request waits, where that is less than the function has.
pub(super) fn patience(request: &LambdaRequest) -> Option<Duration> {
    let is_gateway = match request {
        LambdaRequest::ApiGatewayV1(_) => true,
        LambdaRequest::ApiGatewayV2(request) => {
            let is_gateway = |name: &str| !FUNCTION_URLS.iter().any(|url| name.contains(url));
            request.request_context.domain_name.as_deref().is_some_and(is_gateway)
        }
        _ => false,
    };
    is_gateway.then_some(GATEWAY_PATIENCE)
}

/// How long an answer can be that reaches whoever sent the request.
fn max_answer_bytes(request: &LambdaRequest) -> usize {
    if matches!(request, LambdaRequest::Alb(_)) { MAX_BALANCED_BYTES } else { MAX_ANSWER_BYTES }
}

/// The answer of `api`, with `grace` beyond the end of the invocation's time for what does not look at that.
pub(super) async fn answer(
    api: Api,
    request: LambdaRequest,
    context: Context,
    invocation: Invocation,
    grace: Duration,
) -> Result<Value> {
    let max_bytes = max_answer_bytes(&request);
    let service = service_fn(move |mut request: Request| {
        let (api, end) = (api.clone(), invocation.until + grace);
        strip_stage(&mut request);
        request.extensions_mut().insert(invocation.clone());
        async move {
            let left = end.saturating_duration_since(Instant::now());
            let answered =
                tokio::time::timeout(left, async { whole(api.oneshot(request).await, max_bytes).await }).await;
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

/// The answer with its body in memory, unless that is longer than what can be carried.
async fn whole(answered: Result<impl IntoResponse, Infallible>, max_bytes: usize) -> Response<Body> {
    let answer = answered.unwrap_or_else(|never| match never {}).into_response().await;
    if carried_bytes(answer.body()) > max_bytes {
        let message = "the answer is longer than Lambda carries (6 MiB, to a load balancer 1 MiB): ask for the transcript \
             as txt or srt, or have it written to S3 with output_uri";
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

    /// As a function URL or an HTTP API of this name sends it.
    fn named(domain: &str) -> LambdaRequest {
        let request = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/ping", "rawQueryString": "", "headers": {},
            "requestContext": {
                "domainName": domain, "stage": "$default", "timeEpoch": 0, "http": {"method": "GET", "path": "/ping"},
            },
            "isBase64Encoded": false,
        });
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn an_api_gateway_gives_up_whatever_its_name_and_a_function_url_does_not() {
        for gateway in ["id.execute-api.us-east-1.amazonaws.com", "api.example.org"] {
            assert_eq!(patience(&named(gateway)), Some(GATEWAY_PATIENCE), "{gateway}");
        }
        for url in ["id.lambda-url.us-east-1.on.aws", "localhost"] {
            assert_eq!(patience(&named(url)), None, "{url}");
        }
    }

    #[test]
    fn a_load_balancer_carries_less() {
        let request = json!({
            "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/t/1"}},
            "httpMethod": "GET", "path": "/ping", "queryStringParameters": {}, "headers": {}, "body": "",
            "isBase64Encoded": false,
        });
        let balanced: LambdaRequest = serde_json::from_value(request).unwrap();
        let status = |request: &LambdaRequest| {
            let long = Ok("x".repeat(MAX_BALANCED_BYTES + 1));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(whole(long, max_answer_bytes(request))).status()
        };
        assert_eq!(status(&balanced), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(status(&named("localhost")), StatusCode::OK);
    }

    #[test]
    fn what_makes_an_answer_longer_on_its_way_is_counted() {
        assert_eq!(carried_bytes(&Body::from("a\"b\n")), 6);
        assert_eq!(carried_bytes(&Body::from(vec![0; 4])), 8);
    }
}
