//! What survives a restart: committed keys, appended to segments in a directory.
//!
//! Lookups come from memory alone. The journal is written, and read when a cache is opened or a segment rewritten; a whole
//! segment goes when its last key may be forgotten. So all that it asks of a file system is to append, sync, create and unlink.

mod error;
mod opening;
mod options;
mod record;
mod segment;
mod shared;
mod storage;
mod upkeep;
mod writer;

pub use error::{JournalError, Problem};
pub(crate) use opening::{Opening, Restore};
pub use options::{Damage, Durability, OpenMode, OpenOptions, OpenProgress, Recovery};
pub(crate) use shared::Shared;
pub(crate) use storage::{Directory, Storage};
pub(crate) use upkeep::{Keys, STEPS_PER_OPENING, STEPS_PER_PROGRESS};
pub(crate) use writer::{Ops, Writer};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
mod simulated;
#[cfg(test)]
mod tests;
