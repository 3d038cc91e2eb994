//! The engine: one shard with its index, wheel and claims. All access goes through [`Shard`].
//!
//! The engine reads no clock, takes no lock and does no I/O. The time and the watermark are passed
//! in. Its only refusal is [`Full`].
//!
//! ```text
//! insert, claim ──► index: is the key held?      bucket ──► slot number ──► key in the pool
//!                   claims: is it in progress?   a hash map
//!                   wheel: hold it until         slots by deadline, each a chain of chunks
//!                          its deadline
//! advance ────────► wheel: due slots expire ──► reclaim queue: a few keys with every call
//! ```

mod arch;
mod claims;
mod counts;
mod decide;
pub(crate) mod index;
mod pending;
pub(crate) mod pool;
mod staged;
pub(crate) mod wheel;

pub(crate) use claims::ClaimId;
pub(crate) use counts::Counts;
pub(crate) use index::{IndexHash, IndexHasher};

use crate::Fingerprint;
use claims::Claims;
use index::{Index, Place};
use pending::Pending;
use pool::Pool;
use staged::{Lookahead, ReclaimQueue};
use wheel::Wheel;

/// Expired keys and chunks that `reclaim_some` reclaims at most: some tens of microseconds.
const RECLAIMED_PER_ADVANCE: usize = 2048;

/// The engine's part of a configuration.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) hasher: IndexHasher,
    /// The most keys that this shard is likely to hold. Sets the number of partitions.
    pub(crate) keys_max: usize,
    /// `max_retry + max_network` in milliseconds. A key is held for this long after its
    /// message's time.
    pub(crate) span: u64,
    /// How long a claim is protected, in milliseconds. `None`: without limit.
    pub(crate) lease: Option<u64>,
    /// When the quota is used up, evict the key that would expire first instead of returning
    /// `Full`.
    pub(crate) evicts: bool,
}

/// The quota is used up and no key may go. The delivery changed nothing and was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Whether a key is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    No,
    Yes,
    /// It is being added or removed by another call.
    Pending,
}

pub(crate) struct Shard {
    index: Index,
    wheel: Wheel,
    pool: Pool,
    claims: Claims,
    watermark: u64,
    span: u64,
    evicts: bool,
    /// How many more keys and claims may be held. The front hands it out and takes it back.
    ///
    /// Keys + claims + quota changes only where the front changes `quota`.
    pub(crate) quota: usize,
    reclaim_queue: ReclaimQueue,
    /// Buffers kept between batches, so that a batch allocates nothing.
    lookahead: [Lookahead; 2],
    pending: Pending,
    counts: Counts,
    /// Where `shrink` goes on: page, partition.
    shrink_cursors: (usize, usize),
}

impl Shard {
    pub(crate) fn new(settings: &Settings, quota: usize) -> Self {
        Self {
            index: Index::new(settings.keys_max, settings.hasher),
            wheel: Wheel::new(settings.span),
            pool: Pool::new(),
            claims: Claims::new(settings.lease),
            watermark: 0,
            span: settings.span,
            evicts: settings.evicts,
            quota,
            reclaim_queue: ReclaimQueue::NONE,
            lookahead: Default::default(),
            pending: Pending::default(),
            counts: Counts::default(),
            shrink_cursors: (0, 0),
        }
    }

    #[inline(always)]
    pub(crate) fn hash(&self, key: Fingerprint) -> IndexHash {
        self.index.hash(key)
    }

    #[inline(always)]
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Keys held, including expired ones that are not reclaimed yet.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn claims_open(&self) -> usize {
        self.claims.len()
    }

    pub(crate) fn is_open(&self, claim: &ClaimId) -> bool {
        self.claims.is_open(claim)
    }

    pub(crate) fn has_leases(&self) -> bool {
        self.claims.have_leases()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.index.memory_bytes()
            + self.wheel.memory_bytes()
            + self.pool.memory_bytes()
            + self.claims.memory_bytes()
            + self.pending.memory_bytes()
    }

    /// Moves the watermark, which the caller never moves back. Keys that are due expire; later
    /// calls reclaim them a few at a time.
    #[inline(always)]
    pub(crate) fn advance(&mut self, watermark: u64) {
        if watermark != self.watermark {
            self.watermark = watermark;
            self.wheel.advance(&mut self.pool, watermark);
        }
    }

    /// Reclaims a bounded number of expired keys. All shards together share the bound.
    pub(crate) fn reclaim_some(&mut self, shards: usize) {
        let mut budget = RECLAIMED_PER_ADVANCE / shards;
        while self.wheel.has_expired() {
            match budget.checked_sub(self.reclaim()) {
                Some(left) => budget = left,
                None => break,
            }
        }
    }

    /// Inserts a key that was committed before a restart, unless it has expired. A key that is
    /// held already gets the later of the two deadlines.
    #[inline(always)]
    fn restore(&mut self, place: Place, key: Fingerprint, time: u64) -> Result<(), Full> {
        if is_past(time, self.span, self.watermark) {
            return Ok(());
        }
        let mut time = time;
        if let Some(slot) = self.index.find(place, key, &self.pool) {
            let (first, last, _) = Wheel::deadlines(&self.pool, slot);
            if time.saturating_add(self.span) <= first {
                return Ok(());
            }
            time = time.max(last.saturating_sub(self.span)); // holding a key longer is safe
            self.remove(place.hash(), key);
        }
        if !self.ensure_quota(place.hash(), key, None) {
            return Err(Full);
        }
        self.insert_new(place, key, time);
        Ok(())
    }

    /// Undoes an insert that returned `Fresh`.
    pub(crate) fn undo_insert(&mut self, hash: IndexHash, key: Fingerprint) {
        self.counts.fresh -= 1;
        self.remove(hash, key);
    }

    /// Tells the shard which call uses it now: 0 for none. A call sees its own pending keys as
    /// they are.
    pub(crate) fn set_call(&mut self, call: u64) {
        self.pending.set_call(call);
    }

    /// Marks a key pending for `call`: other calls get `InFlight` for it.
    pub(crate) fn mark_pending(&mut self, key: Fingerprint, call: u64) {
        self.pending.add(key, call);
    }

    /// Ends the pending state of all keys of `call`.
    pub(crate) fn clear_pending(&mut self, call: u64) {
        self.pending.remove(call);
    }

    /// Whether a key is committed, or another call has it pending or commits its claim.
    pub(crate) fn held(&self, hash: IndexHash, key: Fingerprint) -> Held {
        match self.index.find(self.index.place(hash), key, &self.pool) {
            None if self.claims.is_committing(hash, key) => Held::Pending,
            None => Held::No,
            Some(_) if self.pending.has_elsewhere(key) => Held::Pending,
            Some(_) => Held::Yes,
        }
    }

    #[cfg(test)]
    pub(crate) fn commits_begun(&self) -> usize {
        self.claims.keys().filter(|key| self.claims.is_committing(self.hash(*key), *key)).count()
    }

    /// Removes a committed key; `false` if there is none.
    pub(crate) fn remove(&mut self, hash: IndexHash, key: Fingerprint) -> bool {
        let place = self.index.place(hash);
        let Some(slot) = self.index.find(place, key, &self.pool) else { return false };
        self.index.remove(place, slot);
        if let Some((moved, key)) = self.wheel.remove(&mut self.pool, slot, self.watermark) {
            self.index.repoint(self.index.place(self.index.hash(key)), moved, slot);
        }
        self.quota += 1;
        true
    }

    /// Whether a full shard evicts.
    pub(crate) fn evicts(&self) -> bool {
        self.evicts
    }

    /// Evicts the key that would expire first; `false` if there is none.
    pub(crate) fn evict(&mut self) -> bool {
        let Some(evicted) = self.wheel.evict(&mut self.pool) else { return false };
        self.index.remove(self.index.place(self.index.hash(evicted.key)), evicted.slot);
        let last_time = match evicted.last_deadline {
            u64::MAX => u64::MAX, // a saturated deadline: the time is not known
            deadline => deadline.saturating_sub(self.span),
        };
        self.counts.complete_since = self.counts.complete_since.max(last_time.saturating_add(1));
        self.counts.evicted += 1;
        self.quota += 1;
        true
    }

    /// Frees memory that is no longer needed; `true` if there may be more. Each call does a bounded
    /// amount of work: first it reclaims expired keys, then it frees at most one page and shrinks
    /// at most one partition.
    pub(crate) fn shrink(&mut self) -> bool {
        if self.wheel.has_expired() {
            self.reclaim_some(1);
            return true;
        }
        let has_more_pages = self.pool.shrink(&mut self.shrink_cursors.0);
        let has_more_partitions = self.index.shrink(&mut self.shrink_cursors.1, &self.pool);
        let goes_on = has_more_pages || has_more_partitions;
        if !goes_on {
            self.shrink_cursors = (0, 0);
        }
        goes_on
    }

    /// The watermark at which the next slot of keys expires; `u64::MAX` if none ever does.
    pub(crate) fn next_due(&self) -> u64 {
        self.wheel.next_due()
    }

    /// With a quota of 0: gets some from expired keys and abandoned claims, if there are any.
    pub(crate) fn gather_quota(&mut self, now: Option<u64>) {
        while self.wheel.has_expired() && self.quota == 0 {
            self.reclaim();
        }
        if self.quota == 0 && !self.claims.is_empty() {
            let (watermark, span) = (self.watermark, self.span);
            self.quota += self.claims.sweep(now, true, |time| is_past(time, span, watermark));
        }
    }

    /// Recounts everything from scratch and panics if anything does not add up. For tests and
    /// fuzzing: the cost is linear in the keys held. Returns keys + claims + quota.
    pub(crate) fn validate(&self) -> usize {
        let mut found = 0;
        let chunks = self.wheel.validate(&self.pool, self.watermark, |slot, expired| {
            let key = self.pool.key(slot);
            let place = self.index.place(self.hash(key));
            let is_held = self.index.find(place, key, &self.pool) == Some(slot);
            assert!(expired || is_held, "there are no holes among live keys");
            if is_held {
                found += 1;
                let (_, last, _) = Wheel::deadlines(&self.pool, slot);
                assert!(!expired || last < self.watermark, "a key expired early");
            }
        });
        assert_eq!(found, self.index.len(), "every key is in the wheel once");
        self.pool.validate(chunks);
        self.index.validate(&self.pool);
        self.validate_reclaim_queue();
        for key in self.claims.keys() {
            let place = self.index.place(self.hash(key));
            assert_eq!(self.index.find(place, key, &self.pool), None, "a claimed key is not committed");
        }
        self.index.len() + self.claims.len() + self.quota
    }
}

/// Whether the deadline of a message of this time has passed: no copy of it can arrive any more.
fn is_past(time: u64, span: u64, watermark: u64) -> bool {
    time.saturating_add(span) < watermark
}

#[cfg(test)]
mod tests;
