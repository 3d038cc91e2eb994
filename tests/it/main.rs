//! The promises of the crate, each tested on both fronts.

mod capacity;
mod claims;
#[cfg(feature = "cli")]
mod cli;
mod fronts;
mod model;
#[cfg(feature = "registry")]
mod registry;
mod rule;
mod scale;
