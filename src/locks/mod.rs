//! Where what threads share gets its locks and atomics from (but the number of caches in this process, and the outcome of a
//! write, which one thread sets once). There is one place for them so that the tests of
//! interleavings run the same code under a scheduler that decides who goes next (`scheduled.rs`).

#[cfg(all(test, shuttle))]
mod scheduled;
#[cfg(all(test, shuttle))]
pub(crate) use scheduled::*;

#[cfg(not(all(test, shuttle)))]
mod real {
    #[cfg(feature = "registry")]
    pub(crate) use dashmap::DashMap;
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub(crate) use std::thread::yield_now;
}
#[cfg(not(all(test, shuttle)))]
pub(crate) use real::*;

pub(crate) use std::sync::atomic::Ordering;
