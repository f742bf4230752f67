//! AWS Lambda as a front door: each invocation is a request for the routes of `http`, or an event whose recordings become
//! jobs. Lambda stops the process between invocations, so whatever is to be done is done within one, or goes on in the
//! next. Nothing but this instance knows its jobs.

mod event;
mod model;
mod records;
mod request;
mod start;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow};
use lambda_http::lambda_runtime::{Diagnostic, Runtime};
use lambda_http::{LambdaEvent, service_fn};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::app::{App, Intake};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{self, Api, Invocation};
use crate::shutdown::Shutdown;
use event::Event;

/// Threads that only move bytes; all work is elsewhere.
const THREADS: usize = 2;
/// No invocation lasts longer.
const LONGEST: Duration = Duration::from_secs(900);

/// Takes invocations until `shutdown`. The model is loaded before the first is asked for, in the phase that Lambda has for it.
///
/// # Errors
/// `Config` where this is no function's environment, or cannot hold the model; Lambda is told as well.
pub fn run(config: &Config, shutdown: &Shutdown) -> Result<()> {
    let Some(runtime_api) = &config.lambda.runtime_api else {
        let message = "AWS_LAMBDA_RUNTIME_API is not set, so this is no Lambda function: start cargo lambda watch, \
             or whisperq serve for plain HTTP";
        return Err(Error::Config(message.to_owned()));
    };
    let app = start::start(config, shutdown).inspect_err(|error| start::report_failure(runtime_api, error))?;
    let taken = take_invocations(config, &app, shutdown);
    app.shut_down(config.shutdown)?;
    taken
}

fn take_invocations(config: &Config, app: &App, shutdown: &Shutdown) -> Result<()> {
    let settings = http::Settings {
        api_keys: config.api_keys.clone(),
        cors_origins: config.cors_origins.clone(),
        max_audio_bytes: config.max_audio_bytes,
    };
    let desk = Arc::new(Desk {
        api: http::api(app.intake().clone(), &settings, shutdown)?,
        intake: app.intake().clone(),
        margin: config.lambda.margin,
        may_leave_work: config.lambda.allow_ephemeral,
        instance: config.lambda.instance.as_str().into(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("lambda")
        .enable_all()
        .build()
        .context("cannot start the threads of the Lambda runtime")?;
    let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let desk = desk.clone();
        async move { desk.answer(event).await.map_err(|error| diagnostic(&error)) }
    });
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = Runtime::new(handler).run() => ended.map_err(|error| anyhow!(error).context("the Lambda runtime ended").into()),
            () = asked_to_stop(shutdown) => Ok(()),
        }
    });
    runtime.shutdown_background();
    ended
}

/// What all invocations share.
struct Desk {
    api: Api,
    intake: Intake,
    margin: Duration,
    may_leave_work: bool,
    instance: Arc<str>,
}

impl Desk {
    async fn answer(&self, LambdaEvent { payload, context }: LambdaEvent<Box<RawValue>>) -> Result<Value> {
        let until = Instant::now() + time(context.deadline, SystemTime::now(), self.margin);
        match Event::parse(payload.get())? {
            Event::Http(request) => {
                let until = request::patience(&request).map_or(until, |patience| until.min(Instant::now() + patience));
                let (may_leave_work, instance) = (self.may_leave_work, self.instance.clone());
                let invocation = Invocation { until, may_leave_work, instance };
                request::answer(self.api.clone(), *request, context, invocation, self.margin / 2).await
            }
            Event::Records(records) => {
                let intake = self.intake.clone();
                let work = tokio::task::spawn_blocking(move || records.work(&intake, until)).await;
                work.context("the work on an event panicked").map_err(Error::Internal)?
            }
        }
    }
}

/// How long an invocation may last from `now` on, which ends `margin` before its deadline in milliseconds since 1970.
fn time(deadline_unix_ms: u64, now: SystemTime, margin: Duration) -> Duration {
    let deadline = SystemTime::UNIX_EPOCH + Duration::from_millis(deadline_unix_ms);
    // Nobody is invoked after his deadline: cargo lambda gives one in 1970, and has none.
    deadline.duration_since(now).unwrap_or(LONGEST).saturating_sub(margin)
}

/// What Lambda shows of a failure, and hands on with the event.
fn diagnostic(error: &Error) -> Diagnostic {
    tracing::warn!(%error, "an invocation failed");
    Diagnostic { error_type: format!("whisperq.{}", error.code()), error_message: error.to_string() }
}

/// Resolves when the process is asked to stop.
async fn asked_to_stop(shutdown: &Shutdown) {
    let shutdown = shutdown.clone();
    // Only a panic ends it otherwise, and it has none.
    let _ = tokio::task::spawn_blocking(move || while !shutdown.wait(Duration::from_secs(60)) {}).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_lasts_until_a_margin_before_its_deadline() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |deadline_ms| time(deadline_ms, now, Duration::from_secs(1));
        assert_eq!(at(1_000_010_000), Duration::from_secs(9));
        assert_eq!(at(1_000_000_500), Duration::ZERO);
        assert_eq!(at(600), LONGEST - Duration::from_secs(1));
    }
}
