//! A process that works on a journal is killed at random moments. What it has reported as committed
//! is still held when the directory is opened again.
//!
//! The child is this test binary, running [`child`]. Each of its workers follows a script that
//! parent and child share, step by step, and reports to the parent after each call that has
//! returned. So the parent knows what was done for certain, and for each worker the one step that
//! may have been under way.

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
