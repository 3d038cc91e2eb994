//! What survives a restart: committed keys, appended to segments in a directory.
//!
//! Lookups are answered from memory alone. The journal is written, and read when a cache is opened
//! or a segment is rewritten. A whole segment is removed when its last key has expired. So the
//! journal asks a file system only to append, sync, create and unlink.
//!
//! A cache keeps one if it is opened in a directory:
//! [`sync::DedupCache::open`](crate::sync::DedupCache::open).

mod cache;
mod error;
mod opening;
mod options;
mod reading;
pub(crate) mod record;
mod segment;
mod shared;
mod storage;
mod upkeep;
mod writer;

pub use error::{Error, ErrorKind};
pub use options::{Damage, Durability, OpenMode, OpenOptions, OpenProgress, Recovery};

pub(crate) use cache::Cache;
pub(crate) use opening::open;
pub(crate) use shared::Shared;
pub(crate) use storage::{Directory, Storage};
pub(crate) use upkeep::{STEPS_PER_OPENING, STEPS_PER_PROGRESS};
pub(crate) use writer::{Ops, Writer};

#[cfg(any(test, oncewheel_fuzzing))]
pub(crate) use storage::Appender;

#[cfg(test)]
mod tests;
