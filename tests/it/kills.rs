//! Real kills: a process at work on a journal is killed at random moments, and what it had been told was committed is still
//! known when the directory is opened again.
//!
//! The child is this test binary itself, running [`child`]. Each of its workers does what a script says that parent and
//! child share: step after step, telling the parent after each call that returned. So the parent knows what was done for
//! certain, and the one step of each worker that may have been under way when the child was killed.

mod child;
mod parent;
mod recovery;
mod script;

use crate::fronts::Front;
use oncewheel::journal::Durability;
use oncewheel::{Config, Error, sync, unsync};
use std::path::Path;

/// What a front can do in a directory.
trait Durable: Front {
    fn open(dir: &Path, config: Config) -> Result<Self, Error>;
    fn damages(&self) -> usize;
}

impl Durable for unsync::DedupCache {
    fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        Self::open(dir, config, Durability::Process)
    }

    fn damages(&self) -> usize {
        self.recovery().map_or(0, |recovery| recovery.damage.len())
    }
}

impl Durable for sync::DedupCache {
    fn open(dir: &Path, config: Config) -> Result<Self, Error> {
        Self::open(dir, config, Durability::Process)
    }

    fn damages(&self) -> usize {
        self.recovery().map_or(0, |recovery| recovery.damage.len())
    }
}
