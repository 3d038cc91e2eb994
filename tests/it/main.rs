//! The promises of the crate, each tested on both fronts.
#![allow(clippy::unwrap_used, reason = "a test that panics fails")]

mod capacity;
mod claims;
#[cfg(feature = "testing")]
mod conformance;
mod edges;
#[cfg(feature = "serde")]
mod files;
mod fronts;
#[cfg(feature = "testing")]
mod handover;
mod hostile;
mod kills;
#[cfg(all(feature = "metrics", not(shuttle)))]
mod metrics;
mod model;
#[cfg(feature = "registry")]
mod registry;
mod rule;
mod scale;
#[cfg(feature = "tower")]
mod tower;
