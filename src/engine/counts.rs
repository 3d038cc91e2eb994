//! What a shard counts.

use crate::stats::DuplicateAges;

/// Verdicts returned, and keys that left the cache; both since the shard was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) fresh: u64,
    pub(crate) duplicate: u64,
    pub(crate) in_flight: u64,
    pub(crate) too_old: u64,
    /// Keys reclaimed after the watermark had passed their deadline.
    pub(crate) expired: u64,
    /// Keys evicted before their deadline, because the cache was full.
    pub(crate) evicted: u64,
    /// No key whose message has this time, in milliseconds, or a later one was evicted.
    /// 0: no key was evicted at all.
    pub(crate) complete_since: u64,
    /// Duplicates whose copies were further apart than `max_retry + max_network`, for certain.
    pub(crate) late_duplicates: u64,
    pub(crate) ages: DuplicateAges,
}
