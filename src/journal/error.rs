//! What can go wrong with a journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// Why a journal could not be opened or written.
///
/// [`kind`](Self::kind) is for programs. The message is for people: it names the file and tells
/// what to do. The [`source`](std::error::Error::source) is the [`io::Error`], where the system
/// reported one.
///
/// ```
/// use oncewheel::journal::{Durability, ErrorKind};
/// use oncewheel::{Config, Error, Horizon, unsync::DedupCache};
/// use std::time::Duration;
///
/// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-error-{}", std::process::id()));
/// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
/// let first = DedupCache::open(&dir, config.clone(), Durability::Process)?;
/// match DedupCache::open(&dir, config, Durability::Process) {
///     Err(Error::Journal(error)) => assert_eq!(error.kind(), ErrorKind::Locked),
///     _ => panic!("two processes must not share a directory"),
/// }
/// # drop(first);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    path: PathBuf,
    /// What was being done, or what was found.
    detail: String,
    source: Option<Arc<io::Error>>,
}

/// The kinds of a journal's [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another process, or another cache in this one, has the directory open: try again later, or
    /// wait longer ([`OpenOptions::lock_timeout`](super::OpenOptions::lock_timeout)).
    Locked,
    /// The cache was closed. Nothing more is committed here; the directory may belong to another
    /// cache now.
    Closed,
    /// The journal was written under another secret than
    /// [`Config::secret`](crate::Config#structfield.secret) gives.
    SecretMismatch,
    /// The file with the secret is missing or damaged, and without it the keys in the journal mean
    /// nothing.
    SecretMissing,
    /// Something in the journal is unreadable, and [`OpenMode::Strict`](super::OpenMode::Strict)
    /// was chosen.
    Damaged,
    /// A later version of this library wrote the journal.
    UnsupportedVersion,
    /// The journal holds more keys than [`Config::max_keys`](crate::Config#structfield.max_keys).
    TooManyKeys,
    /// The file system refused. What was being written is not in the journal (of a batch, what its
    /// verdicts do not answer), and a later call may succeed.
    Io(io::ErrorKind),
    /// The file system failed to sync or to undo a write, and failed again in another file. This
    /// cache commits no further keys, and answers from what it holds. Whether the keys of the calls
    /// that failed are committed after a restart is not known.
    Poisoned,
}

/// The name of the kind in snake case: to serve as a label.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Locked => "locked",
            Self::Closed => "closed",
            Self::SecretMismatch => "secret_mismatch",
            Self::SecretMissing => "secret_missing",
            Self::Damaged => "damaged",
            Self::UnsupportedVersion => "unsupported_version",
            Self::TooManyKeys => "too_many_keys",
            Self::Io(_) => "io",
            Self::Poisoned => "poisoned",
        })
    }
}

impl Error {
    pub(super) fn new(kind: ErrorKind, path: PathBuf) -> Self {
        Self::with_detail(kind, path, String::new())
    }

    pub(super) fn with_detail(kind: ErrorKind, path: PathBuf, detail: String) -> Self {
        Self(Box::new(Inner { kind, path, detail, source: None }))
    }

    pub(super) fn io(doing: &str, path: PathBuf, error: io::Error) -> Self {
        let (kind, detail) = (ErrorKind::Io(error.kind()), format!("cannot {doing}: {error}"));
        Self(Box::new(Inner { kind, path, detail, source: Some(Arc::new(error)) }))
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, PathBuf::new())
    }

    pub(crate) fn no_thread(error: io::Error) -> Self {
        Self::io("start the thread for async commits", PathBuf::new(), error)
    }

    /// The same failure, after which the journal cannot be trusted.
    pub(super) fn poisoning(self) -> Self {
        Self(Box::new(Inner { kind: ErrorKind::Poisoned, ..*self.0 }))
    }

    /// Whether the disk is full, or the quota of this user.
    pub(super) fn is_storage_full(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Io(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or directory that it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Two errors are equal if kind, path and message are.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        let parts = |error: &Self| (error.0.kind, error.0.path.clone(), error.0.detail.clone());
        parts(self) == parts(other)
    }
}

impl Eq for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, detail) = (self.0.path.display(), &self.0.detail);
        match self.0.kind {
            ErrorKind::Locked => write!(
                f,
                "the journal is in use ({path} is locked): give every cache a directory of its own, and wait for the \
                 process before this one to end"
            ),
            ErrorKind::Closed => f.write_str(
                "the cache was closed and its directory may be another's: do not acknowledge, so that the message is \
                 redelivered",
            ),
            ErrorKind::SecretMismatch => write!(
                f,
                "{path} was written under another secret: give the one that made it, or leave Config::secret out to \
                 take the one that is stored in the directory"
            ),
            ErrorKind::SecretMissing => write!(
                f,
                "{path} is missing or damaged, and without the secret the journal cannot be read: restore the file, \
                 or give the secret by Config::secret; to begin anew, empty the directory"
            ),
            ErrorKind::Damaged => write!(
                f,
                "{path}: {detail}; nothing was changed: open it with OpenMode::Recover to take what is readable"
            ),
            ErrorKind::UnsupportedVersion => {
                write!(f, "{path} was written by a later version ({detail}): open it with that version")
            }
            ErrorKind::TooManyKeys => {
                write!(f, "{path} holds more keys than max_keys allows: raise max_keys")
            }
            ErrorKind::Io(_) => {
                write!(f, "{path}: {detail}; what was being written is not committed: fix the cause and try again")
            }
            ErrorKind::Poisoned => write!(
                f,
                "{path}: {detail}; the journal is poisoned and takes no further keys: stop consuming, do not \
                 acknowledge what was not committed, fix the disk and open the cache again"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|error| error as _)
    }
}
