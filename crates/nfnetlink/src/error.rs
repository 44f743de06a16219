//! What can go wrong, in terms of the operation that was asked for.

use std::fmt;
use std::io;

use crate::wire::Malformed;

/// The crate's errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The netlink socket cannot be opened or configured.
    #[error("{operation} on a NETLINK_NETFILTER socket: {source}")]
    Socket {
        /// The system call or option, such as `socket` or `SO_SNDBUFFORCE`.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused an operation; nothing of its batch was applied.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The kernel's answer overflowed the socket's receive buffer (`ENOBUFS`): whether the
    /// request was applied is unknown. Read the state again.
    #[error(
        "the answer to {operation} was lost, the socket's receive buffer overflowed: read the state again"
    )]
    AnswerLost {
        /// What was asked for.
        operation: String,
    },
    /// No answer came in time.
    #[error("no answer to {operation} within {seconds} s: the kernel or the socket is stuck")]
    Timeout {
        /// What was asked for.
        operation: String,
        /// How long it was waited, in seconds.
        seconds: u64,
    },
    /// A dump was interrupted by changes again and again (`NLM_F_DUMP_INTR`).
    #[error("{operation} was interrupted by other changes {attempts} times: try again later")]
    Interrupted {
        /// What was listed.
        operation: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// An operation does not fit a netlink message.
    #[error("{operation} does not fit a netlink message: make it smaller")]
    TooLarge {
        /// The operation.
        operation: String,
    },
    /// The kernel sent something that is not what its interface says.
    #[error("malformed answer to {operation}: {source}")]
    Malformed {
        /// What was asked for.
        operation: String,
        /// What is wrong with it.
        source: Malformed,
    },
}

impl Error {
    /// The kernel's error number, where the kernel refused an operation.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(refusal) => Some(refusal.errno),
            Self::Socket { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the object asked for does not exist (`ENOENT`).
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }

    /// Whether an object to be created exists already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether the ruleset is another generation than the batch was made for (`ERESTART`):
    /// somebody changed it in between.
    pub fn is_stale_generation(&self) -> bool {
        self.errno() == Some(libc::ERESTART)
    }

    pub(crate) fn malformed(operation: &str, source: Malformed) -> Self {
        Self::Malformed {
            operation: operation.to_owned(),
            source,
        }
    }
}

/// An operation that the kernel refused, with all that it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The operation, such as `add element inet filter allowed`.
    pub operation: String,
    /// Its place among the batch's operations, from 0; `None` when it was not in a batch
    /// or when the batch was refused as a whole.
    pub index: Option<usize>,
    /// Which of the operation's elements was refused, from 0, where the kernel pointed at one.
    pub element: Option<usize>,
    /// The error number, such as `EEXIST`.
    pub errno: i32,
    /// The extended ack's text (`NLMSGERR_ATTR_MSG`).
    pub text: Option<String>,
    /// The extended ack's offset of the offending attribute, in bytes from the start of
    /// the message (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<u32>,
    /// How many further operations of the batch were refused as well.
    pub others: usize,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)?;
        if let Some(element) = self.element {
            write!(f, " (its element {element})")?;
        }
        if let Some(index) = self.index {
            write!(f, " (operation {index} of the batch)")?;
        }
        match self.errno {
            // The two whose general text misleads here.
            libc::ERESTART => f.write_str(": the ruleset changed since it was read (ERESTART)")?,
            libc::EPERM => f.write_str(
                ": not permitted (EPERM): CAP_NET_ADMIN is missing, or it belongs to another socket",
            )?,
            errno => write!(f, ": {}", io::Error::from_raw_os_error(errno))?,
        }
        if let Some(text) = &self.text {
            write!(f, ", the kernel says: {text}")?;
        }
        if self.others > 0 {
            write!(f, " (and {} more)", self.others)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
