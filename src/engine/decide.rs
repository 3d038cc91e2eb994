//! The verdict on a delivery, and the life of its key: insert, claim, commit, abort.
//!
//! Two paths lead to a verdict. The *single-probe fast path* inserts a key after one look at its
//! home bucket. It applies if that bucket proves the key new (`Index::vacancy`), the message is not
//! too old, no claim is open and there is quota. About nine keys of ten take it. All other keys
//! take the *slow path* (`insert_slow`), which is a complete decision of its own: the fast path
//! only saves time.

use super::claims::{ClaimId, ClaimState};
use super::index::{IndexHash, Place};
use super::staged::RECLAIMED_PER_KEY;
use super::wheel::Wheel;
use super::{Full, Shard, is_past};
use crate::verdict::Known;
use crate::{Claimed, Fingerprint, Verdict};

impl Shard {
    /// Inserts a key at once, without a claim. `time` is the message's.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        hash: IndexHash,
        key: Fingerprint,
        time: u64,
        now: Option<u64>,
    ) -> Result<Verdict, Full> {
        let place = self.index.prefetch_home(hash); // loads while expired keys are reclaimed
        self.reclaim_step(RECLAIMED_PER_KEY);
        if self.quota > 0 && self.claims.is_empty() && self.insert_fast(place, &key, time) {
            self.count_inserted(1);
            self.counts.fresh += 1;
            return Ok(Verdict::Fresh);
        }
        self.insert_slow(place, &key, time, now)
    }

    /// The single-probe fast path: inserts the key if its home bucket proves that it is new.
    /// `false` proves nothing: the key may be new or held, and nothing has changed.
    ///
    /// Everything that `known` and `ensure_quota` check must be ruled out. Done here: a key that is
    /// held, a message that is too old. Left to the caller: open claims, a quota of 0. The caller
    /// also counts the key (`count_inserted`).
    #[inline(always)]
    pub(super) fn insert_fast(&mut self, place: Place, key: &Fingerprint, time: u64) -> bool {
        if time >= self.watermark
            && let Some(deadline) = time.checked_add(self.span)
            && let Some(vacancy) = self.index.vacancy(place)
        {
            vacancy.fill(self.wheel.push_live(&mut self.pool, key, deadline, self.watermark));
            return true;
        }
        false
    }

    /// Counts keys that `insert_fast` or `insert_run` has inserted.
    #[inline(always)]
    pub(super) fn count_inserted(&mut self, count: usize) {
        self.index.count_added(count);
        self.quota -= count;
    }

    /// The slow path: decides every delivery. Out of line, so that it does not slow the fast path.
    #[inline(never)]
    pub(super) fn insert_slow(
        &mut self,
        place: Place,
        key: &Fingerprint,
        time: u64,
        now: Option<u64>,
    ) -> Result<Verdict, Full> {
        let (hash, key) = (place.hash(), *key);
        if let Some(known) = self.known(place, hash, key, time, now) {
            return Ok(known.into());
        }
        if !self.ensure_quota(hash, key, now) {
            return Err(Full);
        }
        self.counts.fresh += 1;
        self.insert_new(place, key, time);
        Ok(Verdict::Fresh)
    }

    /// Opens a claim on a key that is neither held, nor claimed, nor too old. Returns the claim's
    /// generation.
    pub(crate) fn claim(
        &mut self,
        hash: IndexHash,
        key: Fingerprint,
        time: u64,
        now: Option<u64>,
    ) -> Result<Claimed<u64>, Full> {
        let place = self.index.prefetch_home(hash);
        self.reclaim_step(RECLAIMED_PER_KEY);
        if let Some(known) = self.known(place, hash, key, time, now) {
            return Ok(known.into());
        }
        if !self.ensure_quota(hash, key, now) {
            return Err(Full);
        }
        let (watermark, span) = (self.watermark, self.span);
        self.quota += self.claims.sweep(now, false, |time| is_past(time, span, watermark));
        self.counts.fresh += 1;
        self.quota -= 1;
        Ok(Claimed::Fresh(self.claims.open(hash, key, time, now)))
    }

    /// Keeps a claim open, whatever its lease, until it is committed or aborted: while its key is
    /// appended to a journal. Returns its message's time, or `None` if the claim was lost.
    pub(crate) fn begin_commit(&mut self, claim: &ClaimId) -> Option<u64> {
        self.claims.begin_commit(claim)
    }

    /// Inserts the key of a claim. Returns its message's time, or `None` if the claim was lost.
    ///
    /// The watermark may have moved since the claim was opened, even beyond the key's deadline.
    pub(crate) fn commit(&mut self, claim: &ClaimId) -> Option<u64> {
        let time = self.claims.close(claim)?;
        self.quota += 1;
        self.insert_new(self.index.place(claim.hash), claim.key, time);
        Some(time)
    }

    /// Aborts a claim. Does nothing if the claim was lost.
    pub(crate) fn abort(&mut self, claim: &ClaimId) {
        self.quota += usize::from(self.claims.close(claim).is_some());
    }

    /// Undoes a claim that was not returned to anyone.
    pub(crate) fn undo_claim(&mut self, claim: &ClaimId) {
        self.counts.fresh -= 1;
        self.abort(claim);
    }

    /// The verdict on a delivery that is not fresh. A claim whose lease has expired does not count.
    #[inline(always)]
    fn known(&mut self, place: Place, hash: IndexHash, key: Fingerprint, time: u64, now: Option<u64>) -> Option<Known> {
        if let Some(slot) = self.index.find(place, key, &self.pool) {
            if self.pending.is_pending_elsewhere(key) {
                self.counts.in_flight += 1;
                return Some(Known::InFlight);
            }
            self.counts.duplicate += 1;
            self.note_age(slot, time);
            return Some(Known::Duplicate);
        }
        if !self.claims.is_empty() && self.claims.state(hash, key, now) == ClaimState::Open {
            self.counts.in_flight += 1;
            return Some(Known::InFlight);
        }
        if time < self.watermark {
            self.counts.too_old += 1;
            return Some(Known::TooOld);
        }
        None
    }

    /// Makes sure that one more key or claim may be held; `false` if that is not possible. Uses, in
    /// this order: the key's own claim if its lease has expired, the quota, expired keys, abandoned
    /// claims, and eviction if it is on.
    #[inline(always)]
    pub(super) fn ensure_quota(&mut self, hash: IndexHash, key: Fingerprint, now: Option<u64>) -> bool {
        if !self.claims.is_empty() && self.claims.state(hash, key, now) == ClaimState::LeaseExpired {
            self.claims.take_over(hash, key);
            self.quota += 1;
        }
        self.quota > 0 || self.find_quota(now)
    }

    #[cold]
    fn find_quota(&mut self, now: Option<u64>) -> bool {
        self.gather_quota(now);
        self.quota > 0 || (self.evicts && self.evict())
    }

    /// Inserts a key that is not in the index, for which there is quota.
    #[inline(always)]
    pub(super) fn insert_new(&mut self, place: Place, key: Fingerprint, time: u64) {
        let deadline = time.saturating_add(self.span);
        let slot = self.wheel.push(&mut self.pool, &key, deadline, self.watermark);
        self.index.insert(place, slot, &self.pool);
        self.quota -= 1;
    }

    /// Counts how far apart the times of the two copies are.
    ///
    /// The first copy's time is known only as a range, since a chunk keeps one deadline for 31
    /// keys. The greatest possible age is counted. The least possible one tells a late duplicate.
    #[inline]
    fn note_age(&mut self, slot: u32, time: u64) {
        let (first, last, none_overdue) = Wheel::deadlines(&self.pool, slot);
        let (first, last) = (first.saturating_sub(self.span), last.saturating_sub(self.span));
        let age_max = time.abs_diff(first).max(time.abs_diff(last));
        // An overdue key was given a later deadline than its own: the first copy may be earlier
        // than `first` says, but not later than `last`.
        let before = if none_overdue { first.saturating_sub(time) } else { 0 };
        let age_min = time.saturating_sub(last).max(before);
        self.counts.ages.record(age_max);
        self.counts.late_duplicates += u64::from(age_min > self.span);
    }
}
