//! Whisper transcription as a serverless GPU worker: recordings become jobs in SQLite, engine threads take them from
//! there chunk by chunk, and a process that is killed at any moment goes on where it was. This page is the architecture.
//!
//! # The path of one job
//!
//! 1. A front door ([`cli`]) turns what a user typed into a [`job`] and submits it: one row, and one `prepare` task.
//! 2. A preparing thread claims that task. [`prepare`] has the recording fetched where it is elsewhere ([`storage`]) and decoded to 16 kHz mono ([`audio`], in a process
//!    of its own), cuts it where nobody speaks, and hands on each chunk of at most 30 s while decoding goes on: its samples
//!    to the disk ([`spool`]), a `transcribe` task to the [`queue`]. What holds no speech goes nowhere.
//! 3. Engine threads claim chunks, in an order that is fair between jobs. [`transcribe`] reads the samples of a chunk,
//!    runs the engine ([`whisper`], behind [`transcript::Transcriber`]) and records the segments in the transaction that
//!    finishes the task. A translation is a second such pass over every chunk.
//! 4. Whoever finishes the last chunk of a recording that is decoded to its end assembles the [`transcript`] and completes
//!    the job, in that same transaction.
//! 5. The front door, woken by the commit, reads the transcript and writes it in the format that was asked for. What is to go
//!    elsewhere, files to S3 and a message to a webhook, became `deliver` tasks in that transaction, and [`deliver`] claims them.
//!
//! Beside them a [`keeper`] thread renews leases, stops work that was cancelled, and takes over from processes that died.
//!
//! # Code map
//!
//! Each module uses only modules above it in this list.
//!
//! Vocabulary, without outside resources:
//!
//! - [`error`]: the one error type, by what callers do about it
//! - [`config`]: every setting, read once and checked
//! - [`job`]: what a user asks for and what becomes of it
//! - [`transcript`]: segments, transcripts and their formats; the seam at the engine
//! - [`runpod_payload`]: the input and output of a job as RunPod's users know them
//! - [`shutdown`]: the request to stop
//!
//! Resources, each the only owner of its outside crates:
//!
//! - [`audio`]: from a file to samples, in a child process; speech, and where a recording can be cut
//! - [`spool`]: the samples of waiting chunks on disk, within bounds
//! - [`http_client`]: requests to others: guarded where users name the address; a plain download; the client of a server's API
//! - [`storage`]: where recordings come from and results go: uploads, S3, addresses; the secrets of jobs
//! - [`runpod_platform`]: the requests of a worker to RunPod's queue
//! - [`crash`]: which task a thread held when it killed the process
//! - [`db`]: the database file, its settings, its one writer
//! - [`models`]: model files, found, fetched, converted, checked
//! - [`gpu`]: how busy and how full the GPUs are
//! - [`whisper`]: whisper.cpp, and the GPUs it sees
//!
//! The engine room:
//!
//! - [`queue`]: every change of state of a job or a task; start reading here
//! - [`system`]: what is going on, as SQL views
//! - [`worker`]: the loop around a thread's step, and how a claimed task ends
//! - [`keeper`]: leases, cancellations, the dead
//! - [`turns`]: how many decode, or compute, at the same time, and who is next
//! - [`prepare`], [`transcribe`], [`deliver`]: the three steps
//! - [`app`]: the one place where all of it is put together and taken apart
//! - [`supervise`]: the process around the process, which starts it again when it died
//!
//! Front doors:
//!
//! - [`http`]: the HTTP API
//! - [`runpod`]: a worker of RunPod's: jobs from its queue, and signs of life
//! - [`lambda`]: an AWS Lambda function: the HTTP API, and events of S3 and SQS
//! - [`cli`]: the command line
//!
//! # Invariants
//!
//! - A state changes only in [`queue`], by one guarded UPDATE whose count of rows is checked. Terminal states absorb.
//! - Only the attempt that claimed a task can finish it: work is done at least once, and recorded exactly once.
//! - A claim is one probe of a partial index; finished, delayed and blocked tasks cost it nothing.
//! - No other thread than the database's writer writes, and nothing is told to a user before it is committed.
//! - A wake-up is for speed only: whoever waits for one also looks by itself after a while.
//!
//! And what is absent:
//!
//! - SQL outside [`db`], [`queue`] and [`system`]; whisper.cpp outside [`whisper`]; decoders outside [`audio`]; reads of the
//!   environment outside [`config`]; printing outside [`cli`].
//! - `unsafe` outside [`whisper`] and [`crash`], where C calls back.
//! - A queue that knows what an engine is, or a worker that knows which engine it runs: [`app`] brings them together.
//! - A mock of the database: tests run on the real one. The engine alone has a seam, for machines without a model.
//!
//! `tests/architecture.rs` checks the order of the list, the owners and the absences.

pub mod error;
pub mod config;
pub mod job;
pub mod transcript;
pub mod runpod_payload;
pub mod shutdown;

pub mod audio;
pub mod spool;
pub mod http_client;
pub mod storage;
pub mod runpod_platform;
pub mod crash;
pub mod db;
pub mod models;
pub mod gpu;
pub mod whisper;

pub mod queue;
pub mod system;
pub mod worker;
pub mod keeper;
pub mod turns;
pub mod prepare;
pub mod transcribe;
pub mod deliver;
pub mod app;
pub mod supervise;

pub mod http;
pub mod runpod;
pub mod lambda;
pub mod cli;

// The tests of the queue name the crate as everyone does, wherever they are built.
#[cfg(test)]
extern crate self as whisperq;
