//! A Lambda function as its users meet it: the real binary under an emulator of the runtime API that stops it between
//! invocations, as Lambda does, and under cargo lambda.

mod cargo_lambda;
mod emulator;
mod events;
mod frozen;
mod requests;
mod start;
