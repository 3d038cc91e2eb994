//! oncewheel
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod config;
mod engine;
mod error;
mod fingerprint;
#[cfg(feature = "registry")]
mod registry;
mod stats;
pub mod sync;
mod time;
pub mod unsync;
mod watermark;

pub use answer::{Claimed, Outcome, Verdict};
pub use config::{Clock, Config, WhenFull};
pub use error::Error;
pub use fingerprint::{Fingerprint, Key};
#[cfg(feature = "registry")]
pub use registry::Registry;
pub use stats::{DuplicateAges, Stats};
pub use time::Timestamp;
pub use watermark::{Horizon, MinMsgTime};
