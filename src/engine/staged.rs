//! Work in groups, so that cache misses overlap: batches, and the reclaiming of expired keys.
//!
//! Handled one by one, each key waits for its bucket and then for its chunk. Here each cache line
//! is prefetched one stage before it is used:
//!
//! ```text
//! turn n      group n + 1   compute places, prefetch the home buckets
//!             group n       insert_group: the keys that the fast path can insert (nine of ten)
//!             group n       collect the others; prefetch their likely matches and next buckets
//!             reclaim queue remove queued keys, whose buckets an earlier turn has prefetched;
//!                           then queue others and prefetch their buckets
//!             group n       the slow path for the others, in order
//!             reclaim queue once more
//! turn n + 1  the same, one group further
//! ```
//!
//! **Invariant: the verdicts are those of single calls in order of the entries**, although the slow
//! keys of a group are decided after fast keys that stand behind them. Three things could break it:
//!
//! * *Two copies of a key in one group.* The second must not be inserted before the first. The
//!   index sends the first copy to the slow path: its tag is in the home bucket, the bucket is full
//!   or has overflowed, or the partition must grow. `insert_group` only adds entries, so the same
//!   is true for the second copy.
//! * *A message that is too old.* It goes to the slow path for its time, so the rule above does not
//!   cover it. All keys behind it take the slow path, too.
//! * *The quota.* If it is less than the group, a fast key could take what a slow key in front of
//!   it needs. So only the first keys of the group, as many as the quota, may take the fast path.
//!
//! **Invariant: a place is valid while `Index::resizes` is unchanged.** A resize changes the home
//! buckets of a partition. Each holder of places keeps the value at which it computed them, and
//! computes them again if the value differs. A stale place would miss keys that are held.

use super::index::Place;
use super::pool::{CHUNK_KEYS, NONE, slot_at};
use super::{Full, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys in a group: their cache lines are prefetched together.
const GROUP: usize = 128;

/// Expired keys that a call reclaims for each key that it may add. More than one, so that a backlog
/// shrinks while keys come in.
pub(super) const RECLAIMED_PER_KEY: usize = 2;
/// The most keys in the reclaim queue: four chunks.
const QUEUE_MAX: usize = 128;

/// Expired keys that are reclaimed next. Their buckets have been prefetched.
///
/// They are the keys of the first chunks in the wheel's chain of expired chunks. The queue holds
/// places only. The keys stay in their chunks, and a chunk is freed after its last key:
///
/// ```text
/// expired chain   chunk a ──────► chunk b ──────► chunk c ──► ...
///                  ▓▓▓▓░░░░░       ░░░░░░░░░       not queued yet
///                      │   │               │
/// queue                first             last      ▓ removed from the index, ░ queued
///                      slot               last_chunk = b
///                      └───┘ left
/// ```
///
/// **Invariant:** the queue holds the first chunks of the chain, in order and whole, except for the
/// keys of the first one that are removed already. Slot numbers stay valid meanwhile: no key is
/// added to an expired chunk or moved within it (`Wheel::remove` leaves holes there), and only this
/// queue frees expired chunks.
pub(super) struct ReclaimQueue {
    /// A ring: `len` places from `first` on.
    places: [Place; QUEUE_MAX],
    first: usize,
    len: usize,
    /// The slot number of the first key. Those behind it in its chunk follow without a gap.
    slot: u32,
    /// How many keys of the first chunk are queued; 0: the first chunk is not begun.
    left: usize,
    /// The chunk of the last key; `NONE` if the queue is empty.
    last_chunk: u32,
    /// The places are valid while `Index::resizes` is this.
    resizes: u64,
}

/// The places of a group's keys, computed one turn ahead.
#[derive(Default)]
pub(super) struct Lookahead {
    places: Vec<Place>,
    /// The places are valid while `Index::resizes` is this.
    resizes: u64,
}

/// The positions in a group, in order, of the keys that take the slow path.
struct SlowKeys {
    at: [u8; GROUP],
    count: usize,
}

impl SlowKeys {
    const NONE: Self = Self { at: [0; GROUP], count: 0 };

    #[inline(always)]
    fn add(&mut self, at: usize) {
        self.at[self.count % GROUP] = at as u8;
        self.count += 1;
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.at.iter().take(self.count).map(|at| usize::from(*at))
    }
}

impl Shard {
    /// Decides deliveries in order, as `insert` would one by one. Stops at the first that gets
    /// `Full`. Returns how many were decided. Calls `answer` for each that is not `Fresh`.
    pub(crate) fn insert_batch(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        now: Option<u64>,
        mut answer: impl FnMut(usize, Verdict),
    ) -> usize {
        let (decided, fast) = self.staged(entries, |shard, at, place, key, time| {
            match shard.insert_slow(place, key, time, now)? {
                Verdict::Fresh => {}
                verdict => answer(at, verdict),
            }
            Ok(())
        });
        self.counts.fresh += fast;
        decided
    }

    /// Inserts keys that were committed before a restart.
    pub(crate) fn restore_batch(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        let (restored, _) = self.staged(entries, |shard, _, place, key, time| shard.restore(place, *key, time));
        if restored < entries.len() { Err(Full) } else { Ok(()) }
    }

    /// Takes entries group by group: first the fast path for those that it can insert, then
    /// `insert_slow` for each of the others, in order. Stops where that fails. Returns how many
    /// entries are done, and how many of all took the fast path.
    #[inline(always)]
    fn staged(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        mut insert_slow: impl FnMut(&mut Self, usize, Place, &Fingerprint, u64) -> Result<(), Full>,
    ) -> (usize, u64) {
        let [mut this, mut next] = std::mem::take(&mut self.lookahead);
        let mut groups = entries.chunks(GROUP);
        let mut group = groups.next().unwrap_or_default();
        self.prefetch_buckets(group, &mut this);
        let (mut done, mut fast) = (0, 0);
        'groups: while !group.is_empty() {
            let following = groups.next().unwrap_or_default();
            self.prefetch_buckets(following, &mut next);
            let mut slow = SlowKeys::NONE;
            self.insert_group(group, &this, &mut slow);
            fast += (group.len() - slow.count) as u64;
            self.reclaim_step(group.len());
            for at in slow.iter() {
                let ((key, time), place) = (&group[at], this.places[at]);
                let is_current = self.index.resizes() == this.resizes;
                let place = if is_current { place } else { self.index.place(place.hash()) };
                if insert_slow(self, done + at, place, key, time.as_millis()).is_err() {
                    done += at;
                    break 'groups;
                }
            }
            // Once more, so that a backlog shrinks even if each key of the batch expires one.
            self.reclaim_step(group.len());
            done += group.len();
            std::mem::swap(&mut this, &mut next);
            group = following;
        }
        self.lookahead = [this, next];
        (done, fast)
    }

    /// Inserts the keys of a group that can take the fast path. Collects the others in `slow` and
    /// prefetches what they need next. The head of this file says why the order of verdicts holds.
    #[inline(always)]
    fn insert_group(&mut self, group: &[(Fingerprint, Timestamp)], lookahead: &Lookahead, slow: &mut SlowKeys) {
        let is_current = self.index.resizes() == lookahead.resizes && self.claims.is_empty();
        let mut end = if is_current { group.len().min(self.quota) } else { 0 };
        let mut from = 0;
        while let Some(at) = self.insert_run(&group[..end], &lookahead.places, from, slow) {
            let ((key, time), place) = (&group[at], lookahead.places[at]);
            let is_inserted = self.insert_fast(place, key, time.as_millis());
            // If not, the message is too old, or its deadline overflows. The bucket would not stop
            // a second copy, so the rest of the group takes the slow path.
            (from, end) = if is_inserted { (at + 1, end) } else { (at, at) };
        }
        self.count_inserted(end - slow.count);
        (end..group.len()).for_each(|at| slow.add(at));
        slow.iter().for_each(|at| self.index.prefetch_next(lookahead.places[at], &self.pool));
    }

    /// Inserts keys for as long as they go to the chunk that the last key went to. Returns the
    /// position of the first that does not, if any. Not inlined, so that fewer registers spill.
    #[inline(never)]
    fn insert_run(
        &mut self,
        group: &[(Fingerprint, Timestamp)],
        places: &[Place],
        from: usize,
        slow: &mut SlowKeys,
    ) -> Option<usize> {
        let span = self.span;
        let mut run = self.wheel.run(&mut self.pool, self.watermark.saturating_add(span));
        let index = &mut self.index;
        for (at, ((key, time), place)) in (from..).zip(group[from..].iter().zip(&places[from..])) {
            match index.vacancy(*place) {
                None => slow.add(at),
                // A deadline that overflows wraps to less than `span`, which the run never accepts.
                Some(vacancy) => match run.push(key, time.as_millis().wrapping_add(span)) {
                    Some(slot) => vacancy.fill(slot),
                    None => return Some(at),
                },
            }
        }
        None
    }

    /// Computes the places of a group's keys and prefetches their home buckets.
    #[inline(always)]
    fn prefetch_buckets(&self, entries: &[(Fingerprint, Timestamp)], lookahead: &mut Lookahead) {
        lookahead.resizes = self.index.resizes();
        lookahead.places.clear();
        lookahead.places.extend(entries.iter().map(|(key, _)| self.index.prefetch_home(self.index.hash(*key))));
    }

    /// One call's share of reclaiming: reclaims up to `count` queued keys, whose buckets an earlier
    /// call has prefetched, and fills the queue up. `count` is greater than the number of keys that
    /// the call may add, so a backlog shrinks with every call.
    #[inline(always)]
    pub(super) fn reclaim_step(&mut self, count: usize) {
        if self.wheel.has_expired() {
            self.reclaim_queued(count);
            self.enqueue_expired();
        }
    }

    /// Reclaims up to one chunk's number of expired keys. Returns how many keys and chunks it took.
    pub(super) fn reclaim(&mut self) -> usize {
        self.enqueue_expired();
        self.reclaim_queued(usize::from(CHUNK_KEYS))
    }

    /// Fills the queue up with the next expired chunks, as far as whole chunks fit, and prefetches
    /// the buckets of their keys.
    #[inline(always)]
    fn enqueue_expired(&mut self) {
        while self.reclaim_queue.len <= QUEUE_MAX - usize::from(CHUNK_KEYS) {
            let chunk = match self.reclaim_queue.last_chunk {
                NONE => self.wheel.expired_head(),
                last => self.pool.header(last).next,
            };
            if chunk == NONE {
                break;
            }
            self.enqueue_chunk(chunk);
        }
    }

    #[inline(never)]
    fn enqueue_chunk(&mut self, chunk: u32) {
        self.refresh_places();
        let next = self.pool.header(chunk).next;
        if next != NONE {
            self.pool.prefetch_chunk(next);
        }
        let keys = self.pool.keys(chunk);
        for (at, key) in (self.reclaim_queue.first + self.reclaim_queue.len..).zip(keys) {
            self.reclaim_queue.places[at % QUEUE_MAX] = self.index.prefetch_home(self.index.hash(*key));
        }
        self.reclaim_queue.len += keys.len();
        self.reclaim_queue.last_chunk = chunk;
    }

    /// Computes the places again if a partition was resized.
    #[inline(always)]
    fn refresh_places(&mut self) {
        if self.reclaim_queue.resizes != self.index.resizes() {
            self.reclaim_queue.resizes = self.index.resizes();
            self.reclaim_queue.places = self.reclaim_queue.places.map(|place| self.index.place(place.hash()));
        }
    }

    /// Removes up to `count` queued keys from the index, and frees each chunk with its last key.
    /// Returns how many keys and chunks it took.
    #[inline(always)]
    fn reclaim_queued(&mut self, count: usize) -> usize {
        self.refresh_places();
        let mut count = count.min(self.reclaim_queue.len);
        let (mut cost, mut removed) = (count, 0);
        while count > 0 {
            if self.reclaim_queue.left == 0 {
                let (chunk, header) = (self.wheel.expired_head(), self.pool.header(self.wheel.expired_head()));
                self.reclaim_queue.slot = slot_at(chunk, header.first);
                self.reclaim_queue.left = usize::from(header.len - header.first);
            }
            let run = count.min(self.reclaim_queue.left);
            let ReclaimQueue { places, first, slot, .. } = &self.reclaim_queue;
            let places = (*first..first + run).map(|at| places[at % QUEUE_MAX]);
            removed += self.index.remove_all(places.zip(*slot..));
            self.reclaim_queue.first = (self.reclaim_queue.first + run) % QUEUE_MAX;
            self.reclaim_queue.len -= run;
            self.reclaim_queue.slot += run as u32;
            self.reclaim_queue.left -= run;
            count -= run;
            if self.reclaim_queue.left == 0 {
                self.wheel.free_expired_head(&mut self.pool);
                cost += 1;
            }
        }
        if self.reclaim_queue.len == 0 {
            self.reclaim_queue.last_chunk = NONE;
        }
        self.quota += removed;
        self.counts.expired += removed as u64;
        cost
    }

    /// Checks that the queued keys are the first of the expired ones.
    pub(super) fn validate_reclaim_queue(&self) {
        let ReclaimQueue { places, first, len, slot, left, last_chunk, resizes } = &self.reclaim_queue;
        let (mut chunk, mut found) = (if *len == 0 { NONE } else { self.wheel.expired_head() }, 0);
        assert_eq!(*last_chunk == NONE, *len == 0, "the last chunk of the queue");
        while found < *len {
            let keys = self.pool.keys(chunk);
            let keys = if found == 0 && *left > 0 { &keys[keys.len() - left..] } else { keys };
            for key in keys {
                let place = self.index.place(self.index.hash(*key));
                let is_current = *resizes == self.index.resizes();
                assert!(!is_current || places[(first + found) % QUEUE_MAX] == place, "the place of a queued key");
                found += 1;
            }
            assert!(found != *len || chunk == *last_chunk, "the queue ends with a chunk");
            chunk = self.pool.header(chunk).next;
        }
        assert_eq!(found, *len, "the queue is whole chunks");
        if *left > 0 {
            let (head, header) = (self.wheel.expired_head(), self.pool.header(self.wheel.expired_head()));
            assert_eq!(*slot as usize + left, slot_at(head, header.first) as usize + self.pool.keys(head).len());
        }
    }
}

impl ReclaimQueue {
    pub(super) const NONE: Self =
        Self { places: [Place::ZERO; QUEUE_MAX], first: 0, len: 0, slot: 0, left: 0, last_chunk: NONE, resizes: 0 };
}
