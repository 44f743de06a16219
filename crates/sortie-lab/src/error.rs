//! What can go wrong in a lab, and what to do about it.

use std::fmt;
use std::io;
use std::panic::Location;
use std::process::ExitStatus;
use std::time::Duration;

/// The result of a lab's operation.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// A failure of a lab. Its `Debug` is its `Display`, so that a test that returns it reads well.
#[derive(thiserror::Error)]
pub enum LabError {
    /// The caller is not root.
    #[error("a lab makes network namespaces and needs root: run it as root")]
    NotRoot,
    /// A system call or a file operation failed.
    #[error("{operation} {object}: {source}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// What it was tried on.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program that the lab needs could not be started.
    #[error("cannot start {program}: {source}; scripts/install.sh installs what a lab needs")]
    Program {
        /// Its name, as looked up in PATH.
        program: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// An address or a prefix that a lab was described with cannot be read.
    #[error("{text:?} is not {expected}: write it as {example}")]
    Address {
        /// The text as given.
        text: String,
        /// What was expected there.
        expected: &'static str,
        /// A good value.
        example: &'static str,
    },
    /// A condition did not become true in time.
    #[error("{what}: not within {limit:?}{last}")]
    Deadline {
        /// The condition, in words.
        what: String,
        /// How long it was waited for.
        limit: Duration,
        /// The last answer, if there was one.
        last: String,
    },
    /// The kernel dropped frames before the reader took them, so nothing can be proved from it.
    #[error(
        "the frame reader of {uplink} lost {lost} frames: send less at once, or read more often"
    )]
    FramesLost {
        /// The uplink it reads.
        uplink: String,
        /// How many frames were lost.
        lost: u64,
    },
    /// An engine's binaries are not there.
    #[error("{engine} is not at {path}: run scripts/install.sh {goal}")]
    EngineMissing {
        /// Which engine.
        engine: String,
        /// Where it was looked for.
        path: String,
        /// The goal of install.sh that brings it.
        goal: &'static str,
    },
    /// An engine refused a request.
    #[error("{operation} {object} on {engine}: {source}")]
    Engine {
        /// What was asked, as a verb.
        operation: &'static str,
        /// The container, network or image.
        object: String,
        /// Which engine.
        engine: String,
        /// Its answer.
        source: Box<bollard::errors::Error>,
    },
    /// Something is not as a test expects it.
    #[error("{message}\n  expected at {location}")]
    Unexpected {
        /// What was expected and what was seen.
        message: String,
        /// The line that expected it.
        location: &'static Location<'static>,
    },
    /// A thing that does not exist in this lab was asked for.
    #[error("{object} has no {what}")]
    Missing {
        /// Whom it was asked of.
        object: String,
        /// What it lacks.
        what: String,
    },
}

impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl LabError {
    #[track_caller]
    pub(crate) fn unexpected(message: impl Into<String>) -> Self {
        Self::Unexpected {
            message: message.into(),
            location: Location::caller(),
        }
    }
}

/// Says what was tried, and on what, about a failed system call.
pub(crate) trait Doing<T> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, operation: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|source| LabError::Io {
            operation,
            object: object.to_string(),
            source: source.into(),
        })
    }
}
