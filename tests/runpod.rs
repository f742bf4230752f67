//! A worker of RunPod's: what it asks the queue for, what it tells it, and that no result is lost or told twice.

mod differences;
mod endings;
mod exchange;
mod folders;
mod local;
mod official;
mod platform;
mod results;
mod running;
mod scenarios;
mod taking;
mod worker;
