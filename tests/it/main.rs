//! The promises of the crate, each tested on both fronts.

mod fronts;
mod model;
