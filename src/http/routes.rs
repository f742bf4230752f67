//! Which path goes where, and what all answers have in common: keys, request ids, time limits, compression, origins.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Router, http};
use tower::util::option_layer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;

use super::error::Refusal;
use super::invocation::Invocation;
use super::{ANSWER, Service, Settings, auth, body, events, jobs, places, runpod_api, sql, status, submit};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 200;
/// How long a browser may remember what it may do here.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);

/// All routes over one service.
pub(super) fn router(service: Service, settings: &Settings) -> Router {
    let keys: Arc<[_]> = settings.api_keys.clone().into();
    let short = Router::new()
        .route("/system", get(status::system))
        .route("/sql", post(sql::ask))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{id}", get(jobs::show).merge(delete(jobs::cancel)))
        .route("/jobs/{id}/retry", post(jobs::retry))
        .route("/jobs/{id}/redeliver", post(jobs::redeliver))
        .route("/uploads", post(places::upload))
        .route("/events/s3", post(places::events))
        .route("/jobs/{id}/transcript", get(jobs::transcript))
        .layer(middleware::from_fn(in_time));
    let guarded = short
        .route("/jobs", post(submit::submit))
        .route("/jobs/{id}/events", get(events::events))
        .layer(middleware::from_fn_with_state(keys, auth::check));
    let open = Router::new()
        .route("/health", get(status::health))
        .route("/ping", get(status::ping))
        .layer(middleware::from_fn(in_time));
    let keys: Arc<[_]> = settings.api_keys.clone().into();
    let runpod = runpod_api::routes().layer(middleware::from_fn_with_state(keys, auth::check));
    let runpod = runpod_api::with_plain_errors(runpod.merge(runpod_api::health().layer(middleware::from_fn(in_time))));
    let all = guarded
        .merge(open)
        .merge(runpod)
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(service);
    let all = all.layer(middleware::from_fn(options)).layer(DefaultBodyLimit::disable());
    with_conventions(all, settings)
}

fn with_conventions(router: Router, settings: &Settings) -> Router {
    router
        .layer(middleware::from_fn(body::read_before_refusal))
        .layer(CompressionLayer::new())
        .layer(option_layer(cors(&settings.cors_origins)))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::from_fn(short_request_id))
}

/// A client may name its request, in a word: the name is in every line of the log.
async fn short_request_id(mut request: Request, next: Next) -> Response {
    if request.headers().get(REQUEST_ID).is_some_and(|id| id.len() > MAX_REQUEST_ID_BYTES) {
        request.headers_mut().remove(REQUEST_ID);
    }
    next.run(request).await
}

/// Nothing of the query: it may hold secrets.
fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info_span!("http", method = %request.method(), path = request.uri().path(), request_id = id)
}

/// Off without origins: a page from elsewhere then gets nothing to read.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let listed = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let allowed =
        if origins.iter().any(|origin| origin == "*") { AllowOrigin::any() } else { AllowOrigin::list(listed) };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID, header::CONTENT_DISPOSITION, header::LOCATION, header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE);
    Some(layer)
}

/// Whoever stops the process between requests has a time limit of his own.
async fn in_time(request: Request, next: Next) -> Response {
    if request.extensions().get::<Invocation>().is_some() {
        return next.run(request).await;
    }
    let late = "no answer in time: try again";
    tokio::time::timeout(ANSWER, next.run(request))
        .await
        .unwrap_or_else(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", late).into_response())
}

async fn nowhere(uri: http::Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "no_such_route",
        format!("there is nothing at {}; the README lists the routes", uri.path()),
    )
}

async fn wrong_method(method: Method) -> Refusal {
    let message = format!("{method} is not possible here; the Allow header lists what is");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// OPTIONS on any route tells its methods; needs no key, as a browser sends none.
async fn options(request: Request, next: Next) -> Response {
    let asked = request.method() == Method::OPTIONS;
    let response = next.run(request).await;
    if !asked || response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let headers: HeaderMap = allow.map(|allow| (header::ALLOW, allow)).into_iter().collect();
    (StatusCode::NO_CONTENT, headers).into_response()
}
