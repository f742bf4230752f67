//! The queue on a real database, without an engine: what may happen to a job, in what order, and what must never happen.
//! Time is an argument, so nothing sleeps. Every bench checks the invariants of its database when its test ends.

mod cost;
mod crash;
mod database;
mod deliver;
mod endings;
mod errors;
mod fence;
mod full;
mod invariants;
mod keeper;
mod kill;
mod leases;
mod life;
mod model;
mod mutants;
mod order;
mod process;
mod retain;
mod retry;
mod runpod;
mod schema;
mod stream;
mod submit;
mod support;
mod turns;
mod worker;
