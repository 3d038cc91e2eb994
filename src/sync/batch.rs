//! Many keys at once: sorted by shard, so that a lock is taken once for many keys.

use super::inner::{Inner, Local};
use crate::engine::Full;
use crate::locks::MutexGuard;
use crate::{Error, Fingerprint, Timestamp, Verdict};
use std::cell::RefCell;

/// Entries that are sorted at a time: some 50 KiB, which stay in the cache.
const BLOCK: usize = 1024;

pub(super) fn insert_batch(
    inner: &Inner,
    entries: &[(Fingerprint, Timestamp)],
    verdicts: &mut Vec<Verdict>,
) -> Result<(), Error> {
    if let Some(journal) = &inner.journal {
        return inner.insert_batch_durably(journal, entries, verdicts);
    }
    verdicts.clear();
    Ok(insert_part(inner, entries, verdicts, 0)?)
}

/// Appends to `verdicts`. The keys of a `call` with a number are left unsettled.
pub(super) fn insert_part(
    inner: &Inner,
    entries: &[(Fingerprint, Timestamp)],
    verdicts: &mut Vec<Verdict>,
    call: u64,
) -> Result<(), Full> {
    verdicts.reserve(entries.len());
    with_sorted(|sorted| insert_blocks(inner, entries, verdicts, sorted, call))
}

/// Holds keys again that a journal has kept.
pub(super) fn restore(inner: &Inner, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
    with_sorted(|sorted| {
        for block in entries.chunks(BLOCK) {
            if inner.spare.lend(block.len()) {
                sorted.sort(inner, block);
                let mut room = block.len();
                for shard in 0..inner.shards.len() {
                    let mut local = inner.enter(shard, 0);
                    let (entries, _) = sorted.of(shard);
                    room -= supply(&mut local, entries.len());
                    let restored = local.shard.restore_batch(entries);
                    debug_assert!(restored.is_ok(), "room was set aside");
                    inner.spare.settle(&mut local.shard);
                }
                inner.spare.take_back(block.len(), room);
            } else {
                for entry in block {
                    let hash = inner.hasher.hash(entry.0);
                    inner.with_room(hash, |shard| shard.restore_batch(std::slice::from_ref(entry)))?;
                }
            }
        }
        Ok(())
    })
}

/// Lends what the thread keeps, so that a batch allocates nothing.
fn with_sorted<R>(call: impl FnOnce(&mut Sorted) -> R) -> R {
    let mut sorted = SORTED.take();
    let result = call(&mut sorted);
    SORTED.set(sorted);
    result
}

thread_local! {
    static SORTED: RefCell<Sorted> = RefCell::default();
}

fn insert_blocks(
    inner: &Inner,
    entries: &[(Fingerprint, Timestamp)],
    verdicts: &mut Vec<Verdict>,
    sorted: &mut Sorted,
    call: u64,
) -> Result<(), Full> {
    for block in entries.chunks(BLOCK) {
        // Room for all, or else one by one: an entry that finds none must leave those after it untouched. Likewise where a
        // time is clamped, which is seldom.
        let latest = block.iter().fold(Timestamp::from_millis(0), |latest, (_, time)| latest.max(*time));
        if inner.is_believed(latest) && inner.spare.lend(block.len()) {
            sorted.sort(inner, block);
            let unused = sorted.insert(inner, block.len(), verdicts, call);
            inner.spare.take_back(block.len(), unused);
        } else {
            for (key, time) in block {
                let time = inner.admit_known(*time);
                verdicts.push(inner.insert_unsettled(inner.hasher.hash(*key), *key, time, call)?);
            }
        }
    }
    Ok(())
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
    pending: Vec<u32>,
}

impl Sorted {
    /// A counting sort: entries of one shard keep their order.
    fn sort(&mut self, inner: &Inner, block: &[(Fingerprint, Timestamp)]) {
        let shards = inner.shards.len();
        self.entries.resize(block.len(), (Fingerprint([0; 2]), Timestamp::from_millis(0)));
        self.origins.resize(block.len(), 0);
        self.shards.clear();
        self.shards.extend(block.iter().map(|(key, _)| inner.hasher.hash(*key).shard(shards) as u32));

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

    /// Inserts every shard's entries, for which `room` was set aside; what of it was not needed.
    ///
    /// A shard that another thread has is left for later, rather than waited for while others are free.
    fn insert(&mut self, inner: &Inner, mut room: usize, verdicts: &mut Vec<Verdict>, call: u64) -> usize {
        let first = verdicts.len();
        verdicts.resize(first + self.entries.len(), Verdict::Fresh);
        let answers = &mut verdicts[first..];
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend((0..).zip(self.starts.windows(2)).filter(|(_, at)| at[0] < at[1]).map(|(shard, _)| shard));
        while !pending.is_empty() {
            let before = pending.len();
            pending.retain(|shard| match inner.try_enter(*shard as usize) {
                Some(local) => {
                    room -= self.insert_into(*shard as usize, inner, local, answers, call);
                    false
                }
                None => true,
            });
            if pending.len() == before
                && let Some(shard) = pending.pop()
            {
                room -= self.insert_into(shard as usize, inner, inner.enter(shard as usize, 0), answers, call);
            }
        }
        self.pending = pending;
        room
    }

    /// Inserts one shard's entries; how much room it took for them.
    fn insert_into(
        &self,
        shard: usize,
        inner: &Inner,
        mut local: MutexGuard<'_, Local>,
        answers: &mut [Verdict],
        call: u64,
    ) -> usize {
        let (entries, origins) = self.of(shard);
        let missing = supply(&mut local, entries.len());
        local.shard.set_call(call);
        let inserted = local.shard.insert_batch(entries, inner.now(), |at, verdict| {
            answers[origins[at] as usize] = verdict;
        });
        debug_assert_eq!(inserted, entries.len(), "room was set aside");
        if call != 0 {
            local.shard.set_call(0);
            for ((key, _), origin) in entries.iter().zip(origins) {
                if answers[*origin as usize] == Verdict::Fresh {
                    local.shard.mark_pending(*key, call);
                }
            }
        }
        inner.spare.settle(&mut local.shard);
        missing
    }

    /// The entries of one shard, and where they stood.
    fn of(&self, shard: usize) -> (&[(Fingerprint, Timestamp)], &[u32]) {
        let entries = self.starts[shard] as usize..self.starts[shard + 1] as usize;
        (&self.entries[entries.clone()], &self.origins[entries])
    }
}

/// Gives a shard the room that it lacks for `count` keys; how much.
fn supply(local: &mut Local, count: usize) -> usize {
    let missing = count.saturating_sub(local.shard.quota);
    local.shard.quota += missing;
    missing
}
