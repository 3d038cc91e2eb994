//! Many keys at once: sorted by shard, so that a lock is taken once for many keys.

use super::Inner;
use crate::engine::{GROUP, IndexHash};
use crate::{Error, Fingerprint, Timestamp, Verdict};

/// Entries that are sorted at a time: some 50 KiB, which stay in the cache.
const BLOCK: usize = 1024;

/// The entries of a block in the order of their shards, and where each came from.
#[derive(Default)]
struct Sorted {
    entries: Vec<(Fingerprint, Timestamp)>,
    hashes: Vec<IndexHash>,
    origins: Vec<u32>,
    /// Where each shard's entries end.
    ends: Vec<u32>,
}

pub(super) fn insert_batch(
    inner: &Inner,
    entries: &[(Fingerprint, Timestamp)],
    verdicts: &mut Vec<Verdict>,
) -> Result<(), Error> {
    verdicts.clear();
    verdicts.reserve(entries.len());
    let mut sorted = Sorted::default();
    for block in entries.chunks(BLOCK) {
        // Room for all, or else one by one: an entry that finds none must leave those after it untouched.
        if inner.spare.lend(block.len()) {
            sorted.sort(inner, block);
            let unused = sorted.insert(inner, block.len(), verdicts);
            inner.spare.take_back(block.len(), unused);
        } else {
            for (key, time) in block {
                let time = inner.admit_known(*time);
                verdicts.push(inner.insert(inner.hasher.hash(*key), *key, time)?);
            }
        }
    }
    Ok(())
}

impl Sorted {
    /// A counting sort: entries of one shard keep their order.
    fn sort(&mut self, inner: &Inner, block: &[(Fingerprint, Timestamp)]) {
        let shards = inner.shards.len();
        self.ends.clear();
        self.ends.resize(shards + 1, 0);
        self.entries.resize(block.len(), (Fingerprint([0; 2]), Timestamp::from_millis(0)));
        self.hashes.resize(block.len(), IndexHash::default());
        self.origins.resize(block.len(), 0);
        for (key, _) in block {
            self.ends[inner.hasher.hash(*key).shard(shards) + 1] += 1;
        }
        for shard in 1..=shards {
            self.ends[shard] += self.ends[shard - 1];
        }
        for (origin, (key, time)) in (0..).zip(block) {
            let hash = inner.hasher.hash(*key);
            let next = &mut self.ends[hash.shard(shards)];
            let at = *next as usize;
            *next += 1;
            self.entries[at] = (*key, Timestamp::from_millis(inner.admit_known(*time)));
            self.hashes[at] = hash;
            self.origins[at] = origin;
        }
    }

    /// Inserts every shard's entries, for which `room` was set aside; what of it was not needed.
    fn insert(&self, inner: &Inner, mut room: usize, verdicts: &mut Vec<Verdict>) -> usize {
        let first = verdicts.len();
        verdicts.resize(first + self.entries.len(), Verdict::Fresh);
        let answers = &mut verdicts[first..];
        let now = inner.published.now();
        let mut start = 0;
        for shard in 0..inner.shards.len() {
            let range = start..self.ends[shard] as usize;
            start = range.end;
            if range.is_empty() {
                continue;
            }
            let mut local = inner.enter(shard, u32::try_from(range.len()).unwrap_or(u32::MAX));
            let missing = range.len().saturating_sub(local.shard.room);
            local.shard.room += missing;
            room -= missing;
            for from in range.clone().step_by(GROUP) {
                let group = from..(from + GROUP).min(range.end);
                let (entries, hashes) = (&self.entries[group.clone()], &self.hashes[group.clone()]);
                let origins = &self.origins[group];
                let inserted = local.shard.insert_group(entries, hashes, now, |at, verdict| {
                    answers[origins[at] as usize] = verdict;
                });
                debug_assert!(inserted.is_ok(), "room was set aside");
            }
            inner.spare.settle(&mut local.shard);
        }
        room
    }
}
