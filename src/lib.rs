//! Whisper transcription as a serverless GPU worker.
pub mod audio;
pub mod config;
pub mod db;
pub mod error;
pub mod job;
pub mod queue;
pub mod shutdown;
pub mod transcript;
