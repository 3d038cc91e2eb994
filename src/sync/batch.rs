//! Many keys at once: sorted by shard, so that a lock is taken once for many keys.

use super::shards::{Local, Shards};
use crate::engine::Full;
use crate::locks::MutexGuard;
use crate::{Error, Fingerprint, Timestamp, Verdict};
use std::cell::RefCell;

/// Entries that are sorted at a time: some 50 KiB, which stay in the processor's cache.
const BLOCK: usize = 1024;

/// A call whose keys stay pending until they are in the journal, and which shards have some.
pub(super) struct PendingCall {
    pub(super) number: u64,
    pub(super) in_shard: Vec<bool>,
}

/// Appends an answer for each entry to `verdicts`.
pub(super) fn insert(
    shards: &Shards,
    entries: &[(Fingerprint, Timestamp)],
    verdicts: &mut Vec<Verdict>,
    mut pending: Option<&mut PendingCall>,
) -> Result<(), Error> {
    verdicts.reserve(entries.len());
    with_sorted(|sorted| {
        for block in entries.chunks(BLOCK) {
            // Quota for all, or else one by one: an entry that finds none must leave those after it
            // untouched. Likewise where a time is clamped, which is rare.
            let latest = block.iter().fold(Timestamp::from_millis(0), |latest, (_, time)| latest.max(*time));
            if shards.is_believed(latest) && shards.spare.lend(block.len()) {
                sorted.sort(shards, block);
                let unused = sorted.insert(shards, block.len(), verdicts, pending.as_deref_mut());
                shards.spare.return_unused(block.len(), unused);
            } else {
                for (key, time) in block {
                    let (hash, time) = (shards.hasher.hash(*key), shards.admit_known(*time));
                    verdicts.push(match pending.as_deref_mut() {
                        None => shards.insert(hash, *key, time)?,
                        Some(call) => {
                            call.in_shard[hash.shard(shards.shards.len())] = true;
                            shards.insert_pending(hash, *key, time, call.number)?
                        }
                    });
                }
            }
        }
        Ok(())
    })
}

/// Holds keys again that a journal has kept.
pub(super) fn restore(shards: &Shards, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
    with_sorted(|sorted| {
        for block in entries.chunks(BLOCK) {
            if shards.spare.lend(block.len()) {
                sorted.sort(shards, block);
                let mut unused = block.len();
                for shard in 0..shards.shards.len() {
                    let mut local = shards.enter(shard, 0);
                    let (entries, _) = sorted.of(shard);
                    unused -= supply(&mut local, entries.len());
                    let restored = local.shard.restore_batch(entries);
                    debug_assert!(restored.is_ok(), "quota was set aside");
                    shards.spare.take_surplus(&mut local.shard);
                }
                shards.spare.return_unused(block.len(), unused);
            } else {
                for entry in block {
                    let hash = shards.hasher.hash(entry.0);
                    let restore = |shard: &mut crate::engine::Shard| shard.restore_batch(std::slice::from_ref(entry));
                    shards.with_quota(hash, restore).map_err(|_| Full)?;
                }
            }
        }
        Ok(())
    })
}

/// Lends the thread's own buffers, so that a batch allocates nothing.
fn with_sorted<R>(call: impl FnOnce(&mut Sorted) -> R) -> R {
    let mut sorted = SORTED.take();
    let result = call(&mut sorted);
    SORTED.set(sorted);
    result
}

thread_local! {
    static SORTED: RefCell<Sorted> = RefCell::default();
}

/// The entries of a block in the order of their shards.
#[derive(Default)]
struct Sorted {
    /// Which shard each entry belongs to, in the order in which they came.
    shards: Vec<u32>,
    entries: Vec<(Fingerprint, Timestamp)>,
    /// Where in the block each entry stood.
    origins: Vec<u32>,
    /// Where each shard's entries begin; one more for where the last end.
    starts: Vec<u32>,
    /// Shards that are still to be visited.
    unvisited: Vec<u32>,
}

impl Sorted {
    /// A counting sort: entries of one shard keep their order.
    fn sort(&mut self, all: &Shards, block: &[(Fingerprint, Timestamp)]) {
        let shards = all.shards.len();
        self.entries.resize(block.len(), (Fingerprint([0; 2]), Timestamp::from_millis(0)));
        self.origins.resize(block.len(), 0);
        self.shards.clear();
        self.shards.extend(block.iter().map(|(key, _)| all.hasher.hash(*key).shard(shards) as u32));

        // Two ahead, so that placing the entries leaves each count at the start of the next shard.
        self.starts.clear();
        self.starts.resize(shards + 2, 0);
        for shard in &self.shards {
            self.starts[*shard as usize + 2] += 1;
        }
        for shard in 2..shards + 2 {
            self.starts[shard] += self.starts[shard - 1];
        }
        for ((origin, entry), shard) in (0..).zip(block).zip(&self.shards) {
            let next = &mut self.starts[*shard as usize + 1];
            let at = *next as usize;
            *next += 1;
            self.entries[at] = *entry;
            self.origins[at] = origin;
        }
    }

    /// Inserts every shard's entries, for which `quota` was set aside; how much of it was not
    /// needed.
    ///
    /// A shard that another thread has locked is left for later, rather than waited for while
    /// others are free.
    fn insert(
        &mut self,
        shards: &Shards,
        mut quota: usize,
        verdicts: &mut Vec<Verdict>,
        mut pending: Option<&mut PendingCall>,
    ) -> usize {
        let first = verdicts.len();
        verdicts.resize(first + self.entries.len(), Verdict::Fresh);
        let answers = &mut verdicts[first..];
        let mut unvisited = std::mem::take(&mut self.unvisited);
        unvisited.extend((0..).zip(self.starts.windows(2)).filter(|(_, at)| at[0] < at[1]).map(|(shard, _)| shard));
        while !unvisited.is_empty() {
            let before = unvisited.len();
            unvisited.retain(|shard| match shards.try_enter(*shard as usize) {
                Some(local) => {
                    quota -= self.insert_into(*shard as usize, shards, local, answers, pending.as_deref_mut());
                    false
                }
                None => true,
            });
            if unvisited.len() == before
                && let Some(shard) = unvisited.pop()
            {
                let local = shards.enter(shard as usize, 0);
                quota -= self.insert_into(shard as usize, shards, local, answers, pending.as_deref_mut());
            }
        }
        self.unvisited = unvisited;
        quota
    }

    /// Inserts one shard's entries; how much quota it took for them.
    fn insert_into(
        &self,
        shard: usize,
        shards: &Shards,
        mut local: MutexGuard<'_, Local>,
        answers: &mut [Verdict],
        pending: Option<&mut PendingCall>,
    ) -> usize {
        let (entries, origins) = self.of(shard);
        let supplied = supply(&mut local, entries.len());
        let call = pending.as_ref().map_or(0, |call| call.number);
        local.shard.set_call(call);
        let inserted = local.shard.insert_batch(entries, shards.now(), |at, verdict| {
            answers[origins[at] as usize] = verdict;
        });
        debug_assert_eq!(inserted, entries.len(), "quota was set aside");
        local.shard.set_call(0);
        if let Some(pending) = pending {
            pending.in_shard[shard] = true;
            for ((key, _), origin) in entries.iter().zip(origins) {
                if answers[*origin as usize] == Verdict::Fresh {
                    local.shard.mark_pending(*key, call);
                }
            }
        }
        shards.spare.take_surplus(&mut local.shard);
        supplied
    }

    /// The entries of one shard, and where they stood.
    fn of(&self, shard: usize) -> (&[(Fingerprint, Timestamp)], &[u32]) {
        let entries = self.starts[shard] as usize..self.starts[shard + 1] as usize;
        (&self.entries[entries.clone()], &self.origins[entries])
    }
}

/// Gives a shard the quota that it lacks for `count` keys; how much.
fn supply(local: &mut Local, count: usize) -> usize {
    let missing = count.saturating_sub(local.shard.quota);
    local.shard.quota += missing;
    missing
}
