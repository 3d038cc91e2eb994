//! For tests: the [conformance suite](conformance) that every store runs (feature `testing`).
//!
//! Everything else is for this crate's own tests and fuzzers: models, a simulated disk, a
//! scheduler.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;

#[cfg(any(test, oncewheel_fuzzing))]
pub(crate) mod disk;
#[cfg(any(test, oncewheel_fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, shuttle))]
pub(crate) mod interleavings;
