//! Why a run ended early: what is said, and with which exit status.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// A line of the input, as messages name it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u64,
}

/// The exit statuses are those of BSD's `sysexits.h`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for what cannot be.
    Usage(String),
    /// A line that is no delivery, and no `--rejects` to send it to.
    BadLine { place: Place, what: String },
    /// An input that cannot be opened.
    NoInput { file: String, error: io::Error },
    /// An input that broke off.
    Read { place: Place, error: io::Error },
    /// An output that cannot be made.
    Create { file: String, error: io::Error },
    /// An output that does not take what it is given.
    Write { file: String, error: io::Error },
    /// The cache refused a delivery, for now: it is full.
    Refused { place: Place, what: String },
    /// Whoever read standard output has seen enough (`head`). Not a failure to the outside.
    OutputClosed,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 64,
            Self::BadLine { .. } => 65,
            Self::NoInput { .. } => 66,
            Self::Create { .. } => 73,
            Self::Read { .. } | Self::Write { .. } => 74,
            Self::Refused { .. } => 75,
            Self::OutputClosed => 0,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "oncewheel: {what}"),
            Self::BadLine { place, what } => {
                write!(f, "{place}: {what} (--rejects FILE sets such lines aside and goes on)")
            }
            Self::NoInput { file, error } => write!(f, "oncewheel: cannot open {file}: {error}"),
            Self::Read { place, error } => {
                write!(f, "{place}: the input cannot be read from here on: {error}; the lines before were judged")
            }
            Self::Create { file, error } => write!(f, "oncewheel: cannot create {file}: {error}"),
            Self::Write { file, error } => write!(f, "oncewheel: cannot write to {file}: {error}"),
            Self::Refused { place, what } => write!(f, "{place}: {what}"),
            Self::OutputClosed => f.write_str("oncewheel: standard output was closed"),
        }
    }
}
