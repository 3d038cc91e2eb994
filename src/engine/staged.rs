//! Work in groups whose cache misses overlap: batches, and the reclaiming of dead keys.
//!
//! One at a time, every key waits for its bucket, then for its chunk. Staged, a line is asked for long before it is used.
//! While one group of a batch is decided, the next one's buckets and likely matches are on their way; so are the buckets of
//! the dead keys that are removed next.

use super::index::Place;
use super::pool::{CHUNK_KEYS, NONE, slot_at};
use super::{Full, Shard};
use crate::{Fingerprint, Timestamp, Verdict};

/// Keys whose lines are asked for together.
const GROUP: usize = 128;

/// Dead keys that a call removes on the side for each key that it may add.
pub(super) const RECLAIMED_PER_KEY: usize = 2;
/// Dead keys whose buckets are on their way at a time, at most: four chunks.
const QUEUE_MAX: usize = 128;

/// Dead keys whose buckets have been touched, and that are removed next: all of some chunks, the first of the wheel's dead.
pub(super) struct ReclaimQueue {
    /// A ring, from `first` on.
    places: [Place; QUEUE_MAX],
    first: usize,
    len: usize,
    /// The first one's slot number, and how many of its chunk there are; the others' slot numbers follow on it.
    slot: u32,
    left: usize,
    /// The chunk of the last; `NONE` if there are none.
    last_chunk: u32,
    /// The places are good while the index is at this generation.
    resizes: u64,
}

/// Where a group's keys belong, before its turn.
#[derive(Default)]
pub(super) struct Lookahead {
    places: Vec<Place>,
    /// The places are good while the index is at this generation.
    resizes: u64,
}

/// Keys of a group that need more than one look, in order.
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
    /// Decides on deliveries in order, as `insert` would one by one; stops at one that finds no room. Returns how many it has
    /// decided, and tells `answer` of those that are not fresh. Times are at most the ceiling already.
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

    /// Holds keys again that a journal has kept.
    pub(crate) fn restore_batch(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        let (restored, _) = self.staged(entries, |shard, _, place, key, time| shard.restore(place, *key, time));
        if restored < entries.len() { Err(Full) } else { Ok(()) }
    }

    /// Records the keys of entries for which one look is enough, group by group, and then has `decide` see to each of the
    /// others, in order. Stops where that fails. Returns how many entries are done, and how many with one look.
    #[inline(always)]
    fn staged(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        mut decide: impl FnMut(&mut Self, usize, Place, &Fingerprint, u64) -> Result<(), Full>,
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
                if decide(self, done + at, place, key, time.as_millis()).is_err() {
                    done += at;
                    break 'groups;
                }
            }
            self.reclaim_step(group.len()); // so that the dead become fewer though each key may die
            done += group.len();
            std::mem::swap(&mut this, &mut next);
            group = following;
        }
        self.lookahead = [this, next];
        (done, fast)
    }

    /// Records the keys of a group for which a look at the home bucket is enough; leaves the others, and asks for their next
    /// lines. A key that comes twice stays in order: nothing is removed here, so what hides its first copy hides the second;
    /// and none is recorded after one whose time is over. Nor can it take the room of one before it: as many keys as there is
    /// room for find some.
    #[inline(always)]
    fn insert_group(&mut self, group: &[(Fingerprint, Timestamp)], lookahead: &Lookahead, slow: &mut SlowKeys) {
        let is_current = self.index.resizes() == lookahead.resizes && self.claims.is_empty();
        let mut end = if is_current { group.len().min(self.quota) } else { 0 };
        let mut from = 0;
        while let Some(other) = self.insert_run(&group[..end], &lookahead.places, from, slow) {
            let ((key, time), place) = (&group[other], lookahead.places[other]);
            // What stands against it is its time, which does not hide a second copy.
            let is_inserted = self.insert_fast(place, key, time.as_millis());
            (from, end) = if is_inserted { (other + 1, end) } else { (other, other) };
        }
        self.count_inserted(end - slow.count);
        (end..group.len()).for_each(|at| slow.add(at));
        slow.iter().for_each(|at| self.index.prefetch_next(lookahead.places[at], &self.pool));
    }

    /// Records keys until one comes that does not belong where the last one went; which one that is.
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
                Some(vacancy) => match run.push(key, time.as_millis().wrapping_add(span)) {
                    Some(slot) => vacancy.fill(slot),
                    None => return Some(at),
                },
            }
        }
        None
    }

    /// Works out where the keys of a group belong, and touches their buckets.
    #[inline(always)]
    fn prefetch_buckets(&self, entries: &[(Fingerprint, Timestamp)], lookahead: &mut Lookahead) {
        lookahead.resizes = self.index.resizes();
        lookahead.places.clear();
        lookahead.places.extend(entries.iter().map(|(key, _)| self.index.prefetch_home(self.index.hash(*key))));
    }

    /// Does a call's share of reclaiming: removes up to `count` dead keys whose buckets an earlier call has
    /// touched. Callers ask for more than they add keys, so the dead become fewer with every call.
    #[inline(always)]
    pub(super) fn reclaim_step(&mut self, count: usize) {
        if self.wheel.has_expired() {
            self.reclaim_queued(count);
            self.enqueue_expired();
        }
    }

    /// Reclaims up to a chunk's worth of dead keys; how many keys and chunks that were.
    pub(super) fn reclaim(&mut self) -> usize {
        self.enqueue_expired();
        self.reclaim_queued(usize::from(CHUNK_KEYS))
    }

    /// Chooses the dead keys to be removed next and touches their buckets, where there is room for a whole chunk of them.
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

    /// Works the places out anew if a partition has taken another size.
    #[inline(always)]
    fn refresh_places(&mut self) {
        if self.reclaim_queue.resizes != self.index.resizes() {
            self.reclaim_queue.resizes = self.index.resizes();
            self.reclaim_queue.places = self.reclaim_queue.places.map(|place| self.index.place(place.hash()));
        }
    }

    /// Removes up to `count` of the doomed keys from the index, and frees chunks with their last; how many keys and chunks
    /// that were.
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

    /// Checks that the doomed are the first of the dead.
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
