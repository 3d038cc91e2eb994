//! How a cache with a journal is opened, and what the opening found.

use std::fmt;
use std::path::PathBuf;

/// What a cache still knows after it ended, however it ended.
///
/// ```
/// use oncewheel::{Config, Durability, Horizon, Verdict, unsync::DedupCache};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: no journal is kept, and the directory is not touched. A restart forgets every key.
    Memory,
    /// When `commit` or `insert` returns, a crash of the process loses nothing: the key is with the operating system, by
    /// one `write` for each call or batch, and now and then a `fdatasync` before a segment is removed. *Not promised:* a
    /// crash of the machine or loss of power may lose what the system had not written yet, the last half minute or so:
    /// those keys are `Fresh` again, and a `forget` of that time is undone.
    Process,
    /// Nor does loss of power lose anything: `commit` and `insert` return after `fdatasync`. Many that wait share one, and
    /// a batch takes one, so take batches or many threads. *Not promised:* anything against a disk that says that it has
    /// stored what it has not, or against the loss of the disk.
    Power,
}

/// What to do about bytes in a journal that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// Take all that is whole and report the rest ([`Recovery::damage`]). A last write that was torn by a crash, which no
    /// call had returned for, is cut off and kept aside in a file that ends in `.damaged`.
    #[default]
    Salvage,
    /// Refuse, with [`Problem::Damaged`](crate::Problem::Damaged), and change nothing. Also refuses a torn last write,
    /// which a crash may leave behind in good order: open once with `Salvage` then.
    Strict,
}

/// How to open a cache with a journal: plain data in the style of a builder.
///
/// ```
/// use oncewheel::{Config, Durability, Horizon, OpenMode, OpenOptions, unsync::DedupCache};
/// use std::time::Duration;
///
/// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-options-{}", std::process::id()));
/// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
/// let options = OpenOptions::new()
///     .mode(OpenMode::Strict)
///     .on_progress(|progress| eprintln!("{} of {} bytes", progress.bytes_read, progress.bytes_in_all));
/// let cache = DedupCache::open_with(&dir, config, Durability::Process, options)?;
/// assert!(cache.recovery().unwrap().damage.is_empty());
/// # drop(cache);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Default)]
pub struct OpenOptions<'a> {
    pub(crate) mode: OpenMode,
    pub(crate) on_progress: Option<Box<dyn FnMut(OpenProgress) + 'a>>,
}

impl<'a> OpenOptions<'a> {
    /// Salvage what is damaged, and say nothing meanwhile.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do about damage.
    #[must_use]
    pub fn mode(mut self, mode: OpenMode) -> Self {
        self.mode = mode;
        self
    }

    /// Calls `on_progress` as the journal is read, after every few thousand keys, and once at the end.
    #[must_use]
    pub fn on_progress(mut self, on_progress: impl FnMut(OpenProgress) + 'a) -> Self {
        self.on_progress = Some(Box::new(on_progress));
        self
    }
}

impl fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// How far the reading of a journal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenProgress {
    /// Bytes of segments that were read.
    pub bytes_read: u64,
    /// Bytes of all segments.
    pub bytes_in_all: u64,
    /// Keys that were read; those whose time is over are among them.
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
    /// Keys in them; those whose time is over are among them, and a key that was rewritten may count twice.
    pub keys_read: u64,
    /// Keys that the cache holds again.
    pub keys_restored: usize,
    /// What could not be read. A key that stood there is `Fresh` again, a `forget` that stood there is undone; no other
    /// answer is touched.
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
    /// Where they are kept, if they were the segment's end: they were cut off. Such a file is for people to look at and to
    /// delete. On a full disk they stay where they are.
    pub kept_in: Option<PathBuf>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} unreadable bytes at {}", self.path.display(), self.bytes, self.offset)?;
        match &self.kept_in {
            Some(kept_in) => write!(f, ", cut off and kept in {}", kept_in.display()),
            None => f.write_str(", skipped"),
        }
    }
}
