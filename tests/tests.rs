//! The one test binary; each module is a behavior of the system.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot, in shared functions too")]

mod architecture;
mod audio;
mod cli;
mod client;
mod engine;
mod http;
mod lambda;
mod models;
mod packaging;
mod plan;
mod prepare;
mod runpod;
mod runpod_api;
mod s3;
mod scripted;
mod sql;
mod supervise;
mod support;
