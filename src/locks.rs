//! The locks and atomics of what threads share. They come through one place so that the tests of
//! interleavings run the same code under a scheduler that decides which thread goes next
//! (`testing/scheduled.rs`). Two things order nothing and do not come through here: the number of
//! shards in this process, and the outcome of a write, which one thread sets once.

#[cfg(all(test, shuttle))]
#[path = "testing/scheduled.rs"]
mod scheduled;
#[cfg(all(test, shuttle))]
pub(crate) use scheduled::*;

#[cfg(not(all(test, shuttle)))]
mod real {
    #[cfg(feature = "registry")]
    pub(crate) use dashmap::DashMap;
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use std::thread;
}
#[cfg(not(all(test, shuttle)))]
pub(crate) use real::*;

pub(crate) use std::sync::atomic::Ordering;
