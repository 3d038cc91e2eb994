//! What can go wrong with a journal.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a journal could not be opened or written: [`problem`](Self::problem) for programs, `Display` for people, who are
/// told what to do.
///
/// ```
/// use oncewheel::{Config, Durability, Error, Horizon, Problem, unsync::DedupCache};
/// use std::time::Duration;
///
/// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-error-{}", std::process::id()));
/// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
/// let first = DedupCache::open(&dir, config.clone(), Durability::Process)?;
/// match DedupCache::open(&dir, config, Durability::Process) {
///     Err(Error::Journal(error)) => assert_eq!(error.problem(), Problem::Locked),
///     _ => panic!("two processes must not share a directory"),
/// }
/// # drop(first);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    problem: Problem,
    path: PathBuf,
    /// What was being done, and what the system said.
    detail: String,
}

/// The kinds of [`JournalError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Another process, or another cache in this one, has the directory open.
    Locked,
    /// The journal was written under another secret than [`Config::secret`](crate::Config::secret) gives.
    OtherSecret,
    /// The file with the secret is gone or damaged, and without it the keys in the journal mean nothing.
    NoSecret,
    /// Something in the journal is unreadable, and [`OpenMode::Strict`](crate::OpenMode::Strict) was asked for.
    Damaged,
    /// A later version of this library wrote the journal.
    LaterVersion,
    /// The file system refused. What was being written is not recorded (of a batch, what its verdicts do not answer), and a
    /// later call may succeed.
    Io(io::ErrorKind),
    /// The file system failed to sync or to undo a write, and failed again in another file. This cache records nothing
    /// more; what it holds it still answers. Whether the calls that failed count after a restart is not known.
    Stopped,
}

impl JournalError {
    pub(crate) fn new(problem: Problem, path: PathBuf) -> Self {
        Self(Box::new(Inner { problem, path, detail: String::new() }))
    }

    pub(crate) fn io(doing: &str, path: PathBuf, error: &io::Error) -> Self {
        Self::with_detail(Problem::Io(error.kind()), path, format!("cannot {doing}: {error}"))
    }

    pub(crate) fn with_detail(problem: Problem, path: PathBuf, detail: String) -> Self {
        Self(Box::new(Inner { problem, path, detail }))
    }

    /// This, and the cache gives up.
    pub(crate) fn stopping(self) -> Self {
        Self(Box::new(Inner { problem: Problem::Stopped, ..*self.0 }))
    }

    /// Whether the disk, or what of it this user may take, is full.
    pub(super) fn is_for_want_of_room(&self) -> bool {
        matches!(self.0.problem, Problem::Io(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// What kind of error this is.
    #[must_use]
    pub fn problem(&self) -> Problem {
        self.0.problem
    }

    /// The file or directory that it is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, detail) = (self.0.path.display(), &self.0.detail);
        match self.0.problem {
            Problem::Locked => write!(
                f,
                "the journal is in use ({path} is locked): give every cache a directory of its own, and wait for the \
                 process before this one to end"
            ),
            Problem::OtherSecret => write!(
                f,
                "{path} was written under another secret: give the one that made it, or leave Config::secret out to \
                 take the one that is stored in the directory"
            ),
            Problem::NoSecret => write!(
                f,
                "{path} is missing or damaged, and without the secret the journal cannot be read: put it back, or give \
                 it by Config::secret; to begin anew, empty the directory"
            ),
            Problem::Damaged => {
                write!(f, "{path}: {detail}; nothing was changed: open it with OpenMode::Salvage to take what is whole")
            }
            Problem::LaterVersion => {
                write!(f, "{path} was written by a later version ({detail}): open it with that version")
            }
            Problem::Io(_) => {
                write!(f, "{path}: {detail}; what was being written is not recorded: mend the cause and try again")
            }
            Problem::Stopped => write!(
                f,
                "{path}: {detail}; the journal cannot be trusted any more and takes no further keys: stop consuming, do \
                 not acknowledge what was not committed, mend the disk and open the cache again"
            ),
        }
    }
}

impl std::error::Error for JournalError {}
