//! The work of searches in a table, counted.

use super::{Bucket, Partition};

impl Partition {
    /// The number of buckets that searches for all keys pass before they reach the key's own
    /// bucket.
    pub(crate) fn passed(&self) -> u64 {
        self.buckets.iter().map(|bucket| u64::from(bucket.overflow())).sum()
    }

    /// The number of pairs of keys in one bucket that have equal tags: a search for the one may
    /// compare the other.
    pub(crate) fn confused(&self) -> u64 {
        let confused = |bucket: &Bucket| {
            let tags: Vec<_> = bucket.occupied().map(|(tag, _)| tag).collect();
            (0..tags.len()).map(|at| tags[..at].iter().filter(|tag| **tag == tags[at]).count() as u64).sum::<u64>()
        };
        self.buckets.iter().map(confused).sum()
    }
}
