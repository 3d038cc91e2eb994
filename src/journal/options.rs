//! How a cache with a journal is opened, and what the opening found.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a cache still knows after its process ended, however it ended.
///
/// ```
/// use oncewheel::{Config, Horizon, Verdict, journal::Durability, unsync::DedupCache};
/// use std::time::Duration;
///
/// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-durability-{}", std::process::id()));
/// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
/// let mut cache = DedupCache::open(&dir, config.clone(), Durability::Power)?;
/// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
/// drop(cache); // or a crash, or the power gone
/// let mut cache = DedupCache::open(&dir, config, Durability::Power)?;
/// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
/// # drop(cache);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: no journal is kept, and the directory is not touched. A restart loses every key.
    Memory,
    /// When `commit` or `insert` returns, a crash of the process loses nothing: the operating
    /// system has the key, by one `write` for each call or batch. Now and then there is an
    /// `fdatasync` before a segment is removed. *Not promised:* a crash of the machine or a loss of
    /// power may lose what the system had not written yet, the last half minute or so. Those keys
    /// are `Fresh` again, and a `remove` of that time is undone.
    Process,
    /// A loss of power loses nothing either: `commit` and `insert` return after `fdatasync`. Calls
    /// that wait at the same time share one, and a batch takes one, so use batches or many threads.
    /// *Not promised:* anything against a disk that reports as stored what it has not stored, or
    /// against the loss of the disk.
    Power,
}

/// `memory`, `process` or `power`.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Power => "power",
        })
    }
}

/// What to do about bytes in a journal that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenMode {
    /// Take everything that is readable and report the rest ([`Recovery::damage`]). A truncated
    /// tail, left by a crash in a write for which no call had returned, is quarantined in a file
    /// that ends in `.damaged`.
    #[default]
    Recover,
    /// Refuse, with [`ErrorKind::Damaged`](super::ErrorKind::Damaged), and change nothing. It also
    /// refuses a truncated tail, which every crash may leave: open once with `Recover` then.
    Strict,
}

/// `recover` or `strict`.
impl fmt::Display for OpenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recover => "recover",
            Self::Strict => "strict",
        })
    }
}

/// How to open a cache with a journal: plain data in the style of a builder.
///
/// ```
/// use oncewheel::journal::{Durability, OpenMode, OpenOptions};
/// use oncewheel::{Config, Horizon, unsync::DedupCache};
/// use std::time::Duration;
///
/// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-options-{}", std::process::id()));
/// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
/// let options = OpenOptions::new()
///     .durability(Durability::Power)
///     .mode(OpenMode::Strict)
///     .on_progress(|progress| eprintln!("{} of {} bytes", progress.bytes_read, progress.bytes_in_all));
/// let cache = DedupCache::open(&dir, config, options)?;
/// assert!(cache.recovery().unwrap().damage.is_empty());
/// # drop(cache);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), oncewheel::Error>(())
/// ```
///
/// Where only the durability matters, it serves as the options:
/// `DedupCache::open(dir, config, Durability::Process)`.
pub struct OpenOptions<'a> {
    pub(crate) durability: Durability,
    pub(crate) mode: OpenMode,
    pub(crate) lock_timeout: Duration,
    pub(crate) on_progress: Option<Box<dyn FnMut(OpenProgress) + 'a>>,
}

impl<'a> OpenOptions<'a> {
    /// [`Durability::Process`]; recover what is readable; wait half a second for the directory;
    /// report no progress.
    #[must_use]
    pub fn new() -> Self {
        Self {
            durability: Durability::Process,
            mode: OpenMode::Recover,
            lock_timeout: Duration::from_millis(500),
            on_progress: None,
        }
    }

    /// What a committed key outlasts.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long to wait for the directory while another cache has it open; by default half a
    /// second, in steps of 20 ms. Zero tries once, for callers that must not block. (A child
    /// process has a copy of every open file between its `fork` and its `exec`, and so of a lock
    /// that was released just now: try again.)
    #[must_use]
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    /// What to do about damage.
    #[must_use]
    pub fn mode(mut self, mode: OpenMode) -> Self {
        self.mode = mode;
        self
    }

    /// Calls `on_progress` as the journal is read: after every few thousand keys, and once at the
    /// end.
    #[must_use]
    pub fn on_progress(mut self, on_progress: impl FnMut(OpenProgress) + 'a) -> Self {
        self.on_progress = Some(Box::new(on_progress));
        self
    }
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Durability> for OpenOptions<'_> {
    fn from(durability: Durability) -> Self {
        Self::new().durability(durability)
    }
}

impl fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("durability", &self.durability)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// How much of a journal is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenProgress {
    /// Bytes of segments that were read.
    pub bytes_read: u64,
    /// Bytes of all segments.
    pub bytes_in_all: u64,
    /// Keys that were read, expired ones among them.
    pub keys_read: u64,
}

/// What the opening of a journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Segments that were there.
    pub segments: usize,
    /// Their bytes.
    pub bytes_read: u64,
    /// Keys in them, expired ones among them. A key that was rewritten may count twice.
    pub keys_read: u64,
    /// Keys that the cache holds again.
    pub keys_restored: usize,
    /// What could not be read. A key that stood there is `Fresh` again, and a `remove` that stood
    /// there is undone. No other answer is affected.
    pub damage: Vec<Damage>,
}

/// Bytes of a journal that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where in it they begin.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
    /// Where they are quarantined, if they were the segment's tail. Such a file is for people to
    /// look at and to delete. On a full disk they stay where they are.
    pub quarantined_in: Option<PathBuf>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} unreadable bytes at {}", self.path.display(), self.bytes, self.offset)?;
        match &self.quarantined_in {
            Some(file) => write!(f, ", quarantined in {}", file.display()),
            None => f.write_str(", skipped"),
        }
    }
}
