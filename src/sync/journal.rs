//! The journal of a cache of many threads. No shard is locked while it is written. Until then, the
//! keys of a call are in flight to all others.
//!
//! A commit keeps its claim, in a state that does not expire, until the key is in the journal, and
//! inserts the key then. An `insert` cannot wait so long: its key would be looked up among the
//! claims by every delivery. It inserts first and marks the key pending, which only a duplicate
//! looks at.

use super::batch::{self, PendingCall};
use super::commits::{Begun, Queue};
use super::shards::{Admitted, Shards};
use crate::engine::{ClaimId, Full, Held, IndexHash};
use crate::journal::{self, Cache, Ops, Recovery, STEPS_PER_PROGRESS, Shared};
use crate::{Error, Fingerprint, Timestamp, Verdict};

/// Entries of a batch that are appended by one write. They are pending for that long.
const ENTRIES_PER_WRITE: usize = 1 << 14;

pub(super) struct Journal {
    pub(super) shared: Shared,
    pub(super) recovery: Recovery,
    pub(super) queue: Queue,
}

impl Journal {
    pub(super) fn new(shared: Shared, recovery: Recovery) -> Self {
        Self { shared, recovery, queue: Queue::default() }
    }

    pub(super) fn insert(
        &self,
        shards: &Shards,
        hash: IndexHash,
        key: Fingerprint,
        time: Admitted,
    ) -> Result<Verdict, Error> {
        let call = self.shared.next_call();
        let verdict = shards.insert_pending(hash, key, time, call)?;
        if verdict != Verdict::Fresh {
            return Ok(verdict);
        }
        // If the watermark has moved on, this is a later time than in memory: late is safe.
        let time = time.past(shards.published.watermark());
        let mut ops = Ops::default();
        ops.insert(key, time);
        let committed = self.commit_ops(shards, &mut ops);
        shards.with_caught_up(hash, |shard| {
            shard.clear_pending(call);
            if committed.is_err() {
                shard.undo_insert(hash, key);
            }
        });
        self.maintain(shards);
        committed?;
        Ok(verdict)
    }

    pub(super) fn insert_batch(
        &self,
        shards: &Shards,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), Error> {
        let mut ops = Ops::default();
        for part in entries.chunks(ENTRIES_PER_WRITE) {
            let mut call = PendingCall { number: self.shared.next_call(), in_shard: vec![false; shards.shards.len()] };
            let first = verdicts.len();
            let ceiling = shards.published.ceiling();
            let inserted = batch::insert(shards, part, verdicts, Some(&mut call));
            let answers = &verdicts[first..];
            let fresh = || part.iter().zip(answers).filter(|(_, verdict)| **verdict == Verdict::Fresh);
            // A time may be clamped to a later one here than in memory: late is safe. The first
            // `now` of a manual clock brings the ceiling down.
            let ceiling = ceiling.max(shards.published.ceiling());
            fresh().for_each(|((key, time), _)| ops.insert(*key, time.as_millis().min(ceiling)));
            let committed = if ops.is_empty() { Ok(()) } else { self.commit_ops(shards, &mut ops) };
            if committed.is_err() {
                for ((key, _), _) in fresh() {
                    let hash = shards.hasher.hash(*key);
                    shards.with_caught_up(hash, |shard| shard.undo_insert(hash, *key));
                }
            }
            for (shard, _) in call.in_shard.iter().enumerate().filter(|(_, has_some)| **has_some) {
                shards.with_entered(shard, |shard| shard.clear_pending(call.number));
            }
            if let Err(error) = committed {
                verdicts.truncate(first);
                return Err(error.into());
            }
            self.maintain(shards);
            inserted?;
        }
        Ok(())
    }

    /// Commits the claims that are still open; `lost` hears of the others, by position. After an
    /// error none is committed, and all are released.
    pub(super) fn commit(
        &self,
        shards: &Shards,
        claims: &[ClaimId],
        lost: impl FnMut(usize),
    ) -> Result<(), journal::Error> {
        let begun = self.begin(shards, claims, lost);
        if begun.claims.is_empty() { Ok(()) } else { self.finish(shards, begun) }
    }

    pub(super) fn begin(&self, shards: &Shards, claims: &[ClaimId], mut lost: impl FnMut(usize)) -> Begun {
        let mut begun = Begun { claims: Vec::with_capacity(claims.len()), ops: Ops::default() };
        for (at, claim) in claims.iter().enumerate() {
            match shards.with_caught_up(claim.hash, |shard| shard.begin_commit(claim)) {
                Some(time) => {
                    begun.ops.insert(claim.key, time);
                    begun.claims.push(*claim);
                }
                None => lost(at),
            }
        }
        begun
    }

    pub(super) fn finish(&self, shards: &Shards, mut begun: Begun) -> Result<(), journal::Error> {
        let committed = self.commit_ops(shards, &mut begun.ops);
        for claim in &begun.claims {
            shards.with_caught_up(claim.hash, |shard| match committed {
                Ok(()) => drop(shard.commit(claim)),
                Err(_) => shard.abort(claim),
            });
        }
        self.maintain(shards);
        committed
    }

    /// Takes no more commits and frees the directory. What was handed over before is carried out.
    pub(super) fn close(&self, shards: &Shards) -> Result<(), journal::Error> {
        self.queue.close();
        self.shared.close(shards.published.watermark())
    }

    /// The tombstone is written before the key is removed. If it cannot be written, the key stays.
    pub(super) fn remove(&self, shards: &Shards, hash: IndexHash, key: Fingerprint) -> Result<bool, journal::Error> {
        let call = self.shared.next_call();
        let is_held = shards.with_caught_up(hash, |shard| {
            let is_held = shard.held(hash, key) == Held::Yes;
            if is_held {
                shard.mark_pending(key, call);
            }
            is_held
        });
        if !is_held {
            return Ok(false);
        }
        let mut ops = Ops::default();
        ops.remove(key);
        let committed = self.commit_ops(shards, &mut ops);
        let is_removed = shards.with_caught_up(hash, |shard| {
            shard.clear_pending(call);
            committed.is_ok() && shard.remove(hash, key)
        });
        self.maintain(shards);
        committed.map(|()| is_removed)
    }

    /// Writes the watermark if it has moved.
    pub(super) fn commit_watermark(&self, shards: &Shards) -> Result<(), journal::Error> {
        let committed = self.commit_ops(shards, &mut Ops::default());
        self.shared.maintain(shards, shards.published.watermark(), STEPS_PER_PROGRESS, false);
        committed
    }

    fn commit_ops(&self, shards: &Shards, ops: &mut Ops) -> Result<(), journal::Error> {
        self.shared.commit(ops, shards.published.watermark())
    }

    fn maintain(&self, shards: &Shards) {
        self.shared.maintain(shards, shards.published.watermark(), 1, true);
    }
}

impl Cache for Shards {
    fn len(&self) -> usize {
        self.len()
    }

    fn held(&self, key: Fingerprint) -> Held {
        self.held(key)
    }

    fn watermark(&self) -> u64 {
        self.published.watermark()
    }

    fn evicts(&self) -> bool {
        self.evicts
    }

    fn advance(&mut self, watermark: u64) {
        self.change_progress(|progress| progress.restore(watermark));
    }

    fn restore(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        batch::restore(self, entries)
    }

    fn remove(&mut self, key: Fingerprint) {
        let hash = self.hasher.hash(key);
        self.with_caught_up(hash, |shard| shard.remove(hash, key));
    }
}
