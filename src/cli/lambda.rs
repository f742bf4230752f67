//! `whisperq lambda`: the function's process on AWS Lambda. Lambda itself watches over it, so there is one process only.

use super::{Done, interrupt};
use crate::config::Config;
use crate::error::Result;
use crate::lambda;
use crate::shutdown::Shutdown;

/// Answer the invocations of an AWS Lambda function: HTTP requests, S3 notifications and SQS batches. This is also what
/// whisperq does without a command where AWS_LAMBDA_RUNTIME_API is set.
#[derive(clap::Args)]
#[command(
    after_help = "Example: whisperq lambda\n\nTo try it: cargo lambda watch --release; the README goes on from there."
)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, config: &Config) -> Result<Done> {
    let shutdown = Shutdown::default();
    interrupt::watch(&shutdown)?;
    lambda::run(config, &shutdown).map(|()| Done::Well)
}
