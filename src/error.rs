//! The one error type, with only the variants that some caller branches on. It knows nothing of exit codes or HTTP
//! statuses: the front doors map it.

/// What went wrong, in words that a user may read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad usage or configuration: nothing was started, and the message says what to change.
    #[error("{0}")]
    Config(String),
    /// The input can never be transcribed (not audio, empty, too long): trying again is no use.
    #[error("{message}")]
    InvalidInput { code: &'static str, message: String },
    /// Something outside this machine was in the way: trying again may help.
    #[error("{message}")]
    Transient { code: &'static str, message: String },
    /// No such job.
    #[error("{0}")]
    NotFound(String),
    /// The job is in a state that does not allow this.
    #[error("{0}")]
    Conflict(String),
    /// The queue is at its limit: try again later.
    #[error("{0}")]
    Overloaded(String),
    /// Another attempt owns the task now, or its job has ended: the work done for it is void.
    #[error("the claim on this task was lost")]
    ClaimLost,
    /// The engine was told to stop in the middle of a chunk.
    #[error("the work was stopped on request")]
    Aborted,
    /// Anything else: a fault of ours or of the machine, worth another try.
    #[error("{0:#}")]
    Internal(#[from] anyhow::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Shorthand for an input that cannot be transcribed; `code` is what a program reads, `message` what a person does.
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidInput { code, message: message.into() }
    }

    /// The stable name of this kind of error, as stored with a failed job.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "configuration",
            Self::InvalidInput { code, .. } | Self::Transient { code, .. } => code,
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Overloaded(_) => "overloaded",
            Self::ClaimLost => "claim_lost",
            Self::Aborted => "aborted",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the same work may succeed when it is tried again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Internal(_) | Self::Transient { .. })
    }
}
