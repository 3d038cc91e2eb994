//! What a delivery is told, and what becomes of its key.

use super::claims::ClaimState;
use super::index::{IndexHash, Place};
use super::staged::RECLAIMED_PER_KEY;
use super::wheel::Wheel;
use super::{Full, Shard, is_past};
use crate::answer::Known;
use crate::{Claimed, Fingerprint, Verdict};

impl Shard {
    /// Records a key on sight. `time` is the message's.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        hash: IndexHash,
        key: Fingerprint,
        time: u64,
        now: Option<u64>,
    ) -> Result<Verdict, Full> {
        let place = self.index.prefetch_home(hash); // on its way while dead keys are removed
        self.reclaim_step(RECLAIMED_PER_KEY);
        if self.quota > 0 && self.claims.is_empty() && self.insert_fast(place, &key, time) {
            self.count_inserted(1);
            self.counts.fresh += 1;
            return Ok(Verdict::Fresh);
        }
        self.insert_slow(place, &key, time, now)
    }

    /// Records a key in the usual case, in which a look at its home bucket is enough to know that it is fresh; `false` says
    /// nothing. Whatever else `known` and `make_room` look at must be ruled out here or by the caller: that there are claims,
    /// and no room.
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

    /// Counts keys that were recorded by one look.
    #[inline(always)]
    pub(super) fn count_inserted(&mut self, count: usize) {
        self.index.count_added(count);
        self.quota -= count;
    }

    /// Out of line: what is rare must not slow down what is not.
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

    /// Opens a claim, which its generation names, on a key that is neither known, nor claimed, nor too old.
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

    /// Records the key of a claim; its message's time, or `None` if the claim was lost.
    pub(crate) fn commit(&mut self, hash: IndexHash, key: Fingerprint, generation: u64) -> Option<u64> {
        let time = self.claims.close(hash, key, generation)?;
        self.quota += 1;
        self.insert_new(self.index.place(hash), key, time);
        Some(time)
    }

    /// Gives a claim up; nothing happens if it was lost already.
    pub(crate) fn abort(&mut self, hash: IndexHash, key: Fingerprint, generation: u64) {
        self.quota += usize::from(self.claims.close(hash, key, generation).is_some());
    }

    /// Takes back a claim that its caller was never told of.
    pub(crate) fn undo_claim(&mut self, hash: IndexHash, key: Fingerprint, generation: u64) {
        self.counts.fresh -= 1;
        self.abort(hash, key, generation);
    }

    /// The verdict on a delivery that is not fresh. A claim whose lease is over does not count as one.
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
        if !self.claims.is_empty() && self.claims.state(hash, key, now) == ClaimState::Held {
            self.counts.in_flight += 1;
            return Some(Known::InFlight);
        }
        if time < self.watermark {
            self.counts.too_old += 1;
            return Some(Known::TooOld);
        }
        None
    }

    /// Makes sure that one more key or claim may be held: by what is there, by the key's own claim if that is over, by
    /// the dead, by abandoned claims, and by eviction if that is wanted.
    #[inline(always)]
    pub(super) fn ensure_quota(&mut self, hash: IndexHash, key: Fingerprint, now: Option<u64>) -> bool {
        if !self.claims.is_empty() && self.claims.state(hash, key, now) == ClaimState::Expired {
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

    #[inline(always)]
    pub(super) fn insert_new(&mut self, place: Place, key: Fingerprint, time: u64) {
        let deadline = time.saturating_add(self.span);
        let slot = self.wheel.push(&mut self.pool, &key, deadline, self.watermark);
        self.index.insert(place, slot, &self.pool);
        self.quota -= 1;
    }

    /// How far apart the two copies' times were. The first one's is known as exactly as those of the 31 keys that it shares
    /// a chunk with are alike: the age is the most that it can be, and late is only what is so for certain.
    #[inline]
    fn note_age(&mut self, slot: u32, time: u64) {
        let (first, last, none_overdue) = Wheel::deadlines(&self.pool, slot);
        let (first, last) = (first.saturating_sub(self.span), last.saturating_sub(self.span));
        let age_max = time.abs_diff(first).max(time.abs_diff(last));
        // The first copy may have been earlier than the wheel says, but not later.
        let before = if none_overdue { first.saturating_sub(time) } else { 0 };
        let age_min = time.saturating_sub(last).max(before);
        self.counts.ages.record(age_max);
        self.counts.late_duplicates += u64::from(age_min > self.span);
    }
}
