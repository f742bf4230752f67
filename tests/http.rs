//! The HTTP API as clients meet it: the real binary on a port of its own, a client that can also misbehave, and nothing
//! lost whatever happens to either.

pub(crate) mod client;
mod conventions;
mod events;
mod jobs;
mod limits;
mod readme;
mod refusals;
mod shutdown;
