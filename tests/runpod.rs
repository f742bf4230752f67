//! A worker of RunPod's: what it asks the queue for, what it tells it, and that no result is lost or told twice.

mod endings;
mod folders;
mod local;
mod platform;
mod results;
mod running;
mod taking;
mod worker;
