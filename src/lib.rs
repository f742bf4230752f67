//! Whisper transcription as a serverless GPU worker.
pub mod error;
pub mod transcript;
