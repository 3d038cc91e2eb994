//! How much work a table is, counted.

use super::{Bucket, Partition};

impl Partition {
    /// How many buckets a search for each of the keys passes before it comes to the one where it is.
    pub(crate) fn passed(&self) -> u64 {
        self.buckets.iter().map(|bucket| u64::from(bucket.overflow())).sum()
    }

    /// How many tags a search for each of the keys finds equal that are another key's, in the bucket where it begins.
    pub(crate) fn confused(&self) -> u64 {
        let confused = |bucket: &Bucket| {
            let tags: Vec<_> = bucket.occupied().map(|(tag, _)| tag).collect();
            (0..tags.len()).map(|at| tags[..at].iter().filter(|tag| **tag == tags[at]).count() as u64).sum::<u64>()
        };
        self.buckets.iter().map(confused).sum()
    }
}
