//! Error: the one public error, told apart by who can act on it.
//!
//! A message is a sentence that says what was attempted, on what, what was found and, if known, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any boxed error of user code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Who can act on an error; a restart strategy looks at this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program or its options are wrong: running it again changes nothing.
    Usage,
    /// Code of the user failed or panicked.
    User,
    /// The outside world: a file, a disk, a limit of the machine.
    Environment,
    /// The input has bytes that the format does not allow.
    Data,
    /// The job was cancelled.
    Cancelled,
    /// A bug of ours.
    Internal,
}

/// The error of every public call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A mistake in the plan, found before anything ran.
    #[error("operator '{operator}': {message}")]
    Plan {
        /// Name of the operator where the mistake is.
        operator: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// An option, environment variable or configuration entry that cannot be used.
    #[error("{0}")]
    Config(String),
    /// An operation on a file failed.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `open`, `read`, `write`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Input that the format does not allow.
    #[error("'{}' at byte {offset}: {message}", path.display())]
    Data {
        /// The input file.
        path: PathBuf,
        /// Offset in bytes where the offending data starts (in the decompressed data of a compressed file).
        offset: u64,
        /// What is wrong there.
        message: String,
    },
    /// A file of the engine does not hold what was written to it.
    #[error("'{}' at byte {offset} is damaged: {message}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Offset of the damaged block.
        offset: u64,
        /// What was expected and what was found.
        message: String,
    },
    /// A record or a key that cannot be encoded, or comes back changed.
    #[error("{0}")]
    Codec(String),
    /// The memory budget does not suffice.
    #[error("{0}")]
    Memory(String),
    /// A user function returned an error.
    #[error("user code failed: {0}")]
    User(#[source] BoxError),
    /// A user function panicked.
    #[error("user code panicked: {0}")]
    Panic(String),
    /// An error inside a running operator.
    #[error("operator '{operator}' (subtask {subtask}): {source}")]
    Operator {
        /// Name of the operator.
        operator: String,
        /// Index of the subtask, from 0.
        subtask: usize,
        /// What happened.
        #[source]
        source: Box<Error>,
    },
    /// The job was cancelled before it ended.
    #[error("job cancelled")]
    Cancelled,
    /// An invariant of the engine does not hold.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

impl Error {
    /// An I/O error with what was attempted on which path.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Error {
        Error::Io { action, path: path.as_ref().to_path_buf(), source }
    }

    /// A plan error at an operator.
    pub fn plan(operator: impl fmt::Display, message: impl fmt::Display) -> Error {
        Error::Plan { operator: operator.to_string(), message: message.to_string() }
    }

    /// A configuration error.
    pub fn config(message: impl fmt::Display) -> Error {
        Error::Config(message.to_string())
    }

    /// An error of user code.
    pub fn user(source: impl Into<BoxError>) -> Error {
        Error::User(source.into())
    }

    /// The payload of a panic in user code as an error.
    pub fn panic(payload: Box<dyn std::any::Any + Send>) -> Error {
        let text = payload
            .downcast_ref::<&str>()
            .map(|s| s.to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a value that is not text".to_string());
        Error::Panic(text)
    }

    /// Wraps the error with the operator it happened in, unless it already names one.
    pub fn in_operator(self, operator: &str, subtask: usize) -> Error {
        match self {
            e @ (Error::Operator { .. } | Error::Plan { .. } | Error::Cancelled) => e,
            e => Error::Operator { operator: operator.to_string(), subtask, source: Box::new(e) },
        }
    }

    /// Who can act on it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Plan { .. } | Error::Config(_) | Error::Codec(_) => ErrorKind::Usage,
            Error::Io { .. } | Error::Corrupt { .. } | Error::Memory(_) => ErrorKind::Environment,
            Error::Data { .. } => ErrorKind::Data,
            Error::User(_) | Error::Panic(_) => ErrorKind::User,
            Error::Operator { source, .. } => source.kind(),
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Internal(_) => ErrorKind::Internal,
        }
    }

    /// The name of the operator the error happened in, if it is known.
    pub fn operator(&self) -> Option<&str> {
        match self {
            Error::Operator { operator, .. } | Error::Plan { operator, .. } => Some(operator),
            _ => None,
        }
    }
}
