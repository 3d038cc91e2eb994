//! Why a run ended early: the message and the exit status.

use oncewheel::journal::{self, ErrorKind};
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
    /// A command line that is wrong.
    Usage(String),
    /// A line that is no delivery, and no `--rejects` to send it to.
    BadLine { place: Place, what: String },
    /// An input that is no text, or in another encoding; what to do about it.
    WrongFormat { file: String, what: String },
    /// An input that cannot be opened.
    NoInput { file: String, error: io::Error },
    /// An input that cannot be read to its end.
    Read { place: Place, error: io::Error },
    /// An output that cannot be made.
    Create { file: String, error: io::Error },
    /// An output that cannot be written to.
    Write { file: String, error: io::Error },
    /// The cache refused a delivery, for now: it is full.
    Refused { place: Place, what: String },
    /// A journal that cannot be opened.
    Journal(journal::Error),
    /// A journal that holds more keys than the cache may.
    JournalTooLarge { keys_max: usize },
    /// Lines were written, and committing them to the journal failed.
    NotCommitted { what: String, lines: usize },
    /// More than a tenth of the deliveries were too old, and no `--too-old` to send them to.
    /// Reported already where the summary in JSON is what standard error holds.
    TooOld { too_old: u64, deliveries: u64, is_reported: bool },
    /// The reader of standard output has closed it, as `head` does. Exit status 0.
    OutputClosed,
}

impl Failure {
    /// Whether standard error should hold a line about it.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::OutputClosed | Self::TooOld { is_reported: true, .. })
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 64,
            Self::BadLine { .. } | Self::WrongFormat { .. } => 65,
            Self::NoInput { .. } => 66,
            Self::Create { .. } => 73,
            Self::Read { .. } | Self::Write { .. } | Self::NotCommitted { .. } => 74,
            Self::Refused { .. } | Self::JournalTooLarge { .. } => 75,
            Self::Journal(error) => match error.kind() {
                ErrorKind::Locked => 75,
                ErrorKind::Io(_) | ErrorKind::Poisoned => 74,
                _ => 66,
            },
            Self::TooOld { .. } => 76, // EX_PROTOCOL: the times contradict the deliveries
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
                write!(f, "{place}: {what} (with --rejects FILE, such lines go there and the run goes on)")
            }
            Self::WrongFormat { file, what } => write!(f, "{file}: {what}"),
            Self::NoInput { file, error } => write!(f, "oncewheel: cannot open {file}: {error}"),
            Self::Read { place, error } => {
                write!(f, "{place}: the input cannot be read from here on: {error}; the lines before were judged")
            }
            Self::Create { file, error } => write!(f, "oncewheel: cannot create {file}: {error}"),
            Self::Write { file, error } => write!(f, "oncewheel: cannot write to {file}: {error}"),
            Self::Refused { place, what } => write!(f, "{place}: {what}"),
            Self::Journal(error) => write!(f, "oncewheel: {}", in_terms_of_options(error)),
            Self::JournalTooLarge { keys_max } => {
                write!(
                    f,
                    "oncewheel: the journal holds more than {keys_max} keys: raise --max-keys to what it was before"
                )
            }
            Self::NotCommitted { what, lines } => {
                write!(
                    f,
                    "oncewheel: {what}. {lines} lines were written and not committed: a run that is started again may \
                     write them again"
                )
            }
            Self::TooOld { too_old, deliveries, .. } => write!(
                f,
                "oncewheel: {too_old} of {deliveries} deliveries were too old and were written nowhere: name a file for \
                 them with --too-old"
            ),
            Self::OutputClosed => f.write_str("oncewheel: standard output was closed"),
        }
    }
}

/// The library's messages name its own settings.
fn in_terms_of_options(error: &journal::Error) -> String {
    let (path, text) = (error.path().display(), error.to_string());
    match error.kind() {
        ErrorKind::Damaged => {
            let (what, _) = text.split_once("; ").unwrap_or((&text, ""));
            format!("{what}; nothing was changed: leave --strict out to recover what is readable")
        }
        ErrorKind::SecretMismatch => format!("{path} belongs to another journal: it was written under another secret"),
        ErrorKind::SecretMissing => format!(
            "{path} is missing or damaged, and without the secret the journal cannot be read: put it back, or empty the \
             directory to begin anew"
        ),
        _ => text,
    }
}
