//! The timing wheel: it owns the keys, orders them by deadline, and hands out those that expire.
//!
//! The wheel does not cascade, like the Linux kernel's timers since 4.8 (Gleixner, "timers: Switch
//! to a non-cascading wheel", 2016). A key goes to one slot of one level and stays there, so an
//! insert is O(1). The price is that a key is held a little longer than its deadline.
//!
//! # Levels and slots
//!
//! A key's *life* is its deadline minus the watermark at its insert. Level L has 1024 slots of 8^L
//! milliseconds. A key goes to the finest level at which its life is less than 512 slots (1024 at
//! the last level).
//!
//! ```text
//! level   slot width   lives
//!   0          1 ms          0 .. 511
//!   1          8 ms        512 .. 4,095
//!   2         64 ms      4,096 .. 32,767
//!   L        8^L ms   64 * 8^L .. 512 * 8^L - 1
//!  18       2^54 ms       2^60 .. 2^64 - 1
//!
//! tick of a deadline   deadline >> 3L
//! its slot             ring[tick % 1024]
//! due                  watermark >> 3L > tick: the watermark has passed all deadlines of the slot
//!
//! the ring of level 1 at the watermark 80,000:
//!
//! tick     10,000    10,064           10,511                  11,023
//!          base      ├─── new keys ───┤                       base + 1023
//! index    784       848 .. 1023, 0 .. 271                    783
//! ```
//!
//! **Bound on lateness.** A key expires when the watermark has passed the last deadline of its
//! slot: at most one slot width after its own deadline. From level 1 on a life is at least 64 slots
//! long, so a key is at most 1/64 of its life late. At level 0 it is not late at all.
//!
//! **Invariant: a ring holds the ticks `base ..= base + 1023`, each in a slot of its own.** If two
//! ticks shared a slot, a key would expire 1024 slots early. Two rules keep it:
//!
//! * With a watermark, `base` is the watermark's tick and a new tick is at most 512 above it. (It
//!   is 512 if the watermark lies inside a slot. A ring of 512 slots would be one too short.)
//! * `base` never passes an occupied slot: `advance` moves a slot that is due to the chain of
//!   expired chunks before anything else is done under the new watermark.
//!
//! **Before the first watermark** no key has a life to choose a level by. Such keys have a second
//! set of levels (`LEVELS ..`) and go to the span's level there. A ring begins 512 slots before its
//! first deadline. A deadline that it cannot hold goes a level up, and the last level holds every
//! `u64`. The set is separate because its rings may lie anywhere: their keys would keep a ring of
//! the first set from following the watermark. The bound on lateness does not hold for these keys.
//!
//! # Why 19 levels
//!
//! They cover every `u64` millisecond, so no deadline needs a special case. A level takes 8 KiB,
//! allocated with its first key, and a shard uses few of them.
//!
//! An insert requires `msg_time >= watermark`, so a new key has a life of at least the span
//! (`max_retry + max_network`). It goes to `level_of(span)`, or to coarser levels while the queue
//! lags. Finer levels are reached only by keys with less life left:
//!
//! * the key of a claim, if the watermark has moved between `claim` and `commit`. If it has passed
//!   the key's deadline, the key is *overdue* and goes to the slot of the watermark itself;
//! * a key that is restored from a journal;
//! * a key whose deadline saturates at `u64::MAX`.
//!
//! Without levels finer than `level_of(span)` these keys would be up to span/64 late, instead of
//! 1/64 of the life that they had left. That would save some rings, and a 512-byte chunk for each
//! of their occupied slots. But it would weaken the documented bound, and it would delete no code:
//! the choice of a level would need a minimum, and the levels would be an array of boxes as before.

mod recent;

use super::pool::{NONE, Pool, chunk_of, slot_at};
use crate::Fingerprint;
use recent::Recent;
pub(super) use recent::Run;

const LEVELS: usize = 19;
const RING: u64 = 1024;
const WORDS: usize = RING as usize / 64;

const _: () = assert!(u64::MAX >> shift_of(LEVELS - 1) < RING, "the last level holds every deadline");

/// A chain of chunks, oldest first, linked by their headers. `head == NONE`: empty.
#[derive(Clone, Copy)]
struct Chain {
    head: u32,
    tail: u32,
}

const EMPTY: Chain = Chain { head: NONE, tail: NONE };

struct Level {
    /// The first tick that the ring can hold.
    base: u64,
    occupied_slots: u32,
    /// One bit for each slot, at `tick % RING`: finds the next occupied one in few steps.
    occupancy: [u64; WORDS],
    ring: [Chain; RING as usize],
}

pub(crate) struct Wheel {
    /// Levels for keys that are inserted with a watermark, then as many for those without.
    levels: [Option<Box<Level>>; 2 * LEVELS],
    /// No slot is due while the watermark is below this.
    next_due: u64,
    /// Chunks of slots that were due, not reclaimed yet.
    expired: Chain,
    /// Chooses the level of a key while no watermark is known.
    span: u64,
    /// Where the last key went: the fast path for the next one.
    recent: Recent,
}

impl Wheel {
    pub(crate) fn new(span: u64) -> Self {
        Self { levels: [const { None }; 2 * LEVELS], next_due: u64::MAX, expired: EMPTY, span, recent: Recent::NOWHERE }
    }

    /// Stores a key until the watermark has passed `deadline`, and returns its slot number. A key
    /// that is overdue is stored with the watermark as its deadline: it expires with the next slot.
    #[inline(always)]
    pub(crate) fn push(&mut self, pool: &mut Pool, key: &Fingerprint, deadline: u64, watermark: u64) -> u32 {
        if deadline < watermark {
            let slot = self.push_live(pool, key, watermark, watermark);
            pool.header_mut(chunk_of(slot)).note_overdue();
            return slot;
        }
        self.push_live(pool, key, deadline, watermark)
    }

    /// As `push`, for a deadline that has not passed.
    #[inline(always)]
    pub(crate) fn push_live(&mut self, pool: &mut Pool, key: &Fingerprint, deadline: u64, watermark: u64) -> u32 {
        let slot = self.recent.push(pool, key, deadline);
        slot.unwrap_or_else(|| self.push_slow(pool, key, deadline, watermark))
    }

    /// Begins to store keys in the chunk of the last one, for deadlines from `first` on.
    #[inline]
    pub(crate) fn run<'a>(&self, pool: &'a mut Pool, first: u64) -> Run<'a> {
        self.recent.run(pool, first)
    }

    /// Finds level, slot and chunk. Ends because the last level accepts every deadline.
    #[inline(never)]
    fn push_slow(&mut self, pool: &mut Pool, key: &Fingerprint, deadline: u64, watermark: u64) -> u32 {
        // The finest that is allowed. With a watermark its ring accepts the deadline at once.
        let mut level = if watermark == 0 { LEVELS + level_of(self.span) } else { level_of(deadline - watermark) };
        loop {
            let shift = shift_of(level);
            let tick = deadline >> shift;
            let ring = self.levels[level].get_or_insert_with(Level::boxed);
            if ring.accepts(tick, watermark >> shift, u64::MAX >> shift) {
                if ring.occupy(tick) {
                    self.next_due = self.next_due.min(due_at(tick, level));
                }
                let chain = &mut ring.ring[ring_index(tick)];
                loop {
                    if chain.tail != NONE
                        && let Some(slot) = pool.push(chain.tail, key, deadline)
                    {
                        self.recent = Recent::new(chain.tail, level, tick, watermark);
                        return slot;
                    }
                    let chunk = pool.allocate(deadline, level as u8);
                    append(pool, chain, Chain { head: chunk, tail: chunk });
                }
            }
            level += 1;
        }
    }

    /// Moves the slots that are due at `watermark` to the expired chain. Costs some ten
    /// instructions if none is due.
    #[inline]
    pub(crate) fn advance(&mut self, pool: &mut Pool, watermark: u64) {
        self.recent = self.recent.after_move(watermark);
        if watermark >= self.next_due {
            self.expire_due(pool, watermark);
        }
    }

    #[cold]
    fn expire_due(&mut self, pool: &mut Pool, watermark: u64) {
        self.recent = Recent::NOWHERE;
        for (number, level) in self.levels.iter_mut().enumerate() {
            let Some(level) = level else { continue };
            while let Some(tick) = level.first_tick()
                && tick < watermark >> shift_of(number)
            {
                append(pool, &mut self.expired, level.vacate(tick));
            }
        }
        self.find_next_due();
    }

    #[inline(always)]
    pub(crate) fn has_expired(&self) -> bool {
        self.expired.head != NONE
    }

    /// The watermark at which the next slot is due; `u64::MAX` if none ever is.
    pub(crate) fn next_due(&self) -> u64 {
        self.next_due
    }

    /// The first of the expired chunks, which are linked by their headers; `NONE` if there are
    /// none.
    pub(crate) fn expired_head(&self) -> u32 {
        self.expired.head
    }

    /// Frees the first of the expired chunks, whose keys the caller has removed from the index.
    pub(crate) fn free_expired_head(&mut self, pool: &mut Pool) {
        free_head(pool, &mut self.expired);
    }

    /// Removes the key that would expire first. The caller then removes it from the index.
    pub(crate) fn evict(&mut self, pool: &mut Pool) -> Option<Evicted> {
        let (level, tick) = self.earliest()?;
        let (slot, key) = self.take_first(pool, level, tick)?;
        Some(Evicted { slot, key, last_deadline: last_deadline(tick, level) })
    }

    /// Removes a key that the caller has removed from the index. The first key of its wheel slot
    /// moves to its position, so that keys that come and go leave no holes:
    ///
    /// ```text
    /// chain of the slot   [· · c d]──►[e f g h]──►[i j]      first: c
    /// remove g            [· · · d]──►[e f c h]──►[i j]      returns c and its old slot number
    /// ```
    ///
    /// Returns `None` if no key moved: the key was the first itself, or it has expired. An expired
    /// key leaves a hole, which is reclaimed with its chunk.
    pub(crate) fn remove(&mut self, pool: &mut Pool, slot: u32, watermark: u64) -> Option<(u32, Fingerprint)> {
        let header = pool.header(chunk_of(slot));
        let level = usize::from(header.level);
        let tick = header.deadline >> shift_of(level);
        if tick < watermark >> shift_of(level) {
            return None;
        }
        let (first, key) = self.take_first(pool, level, tick)?;
        if first == slot {
            return None;
        }
        pool.replace(slot, key, first);
        Some((first, key))
    }

    /// Takes the first key out of an occupied wheel slot, and frees the chunk with its last key.
    fn take_first(&mut self, pool: &mut Pool, level: usize, tick: u64) -> Option<(u32, Fingerprint)> {
        self.recent = Recent::NOWHERE;
        let ring = self.levels[level].as_mut()?;
        let chain = &mut ring.ring[ring_index(tick)];
        let header = pool.header_mut(chain.head);
        let slot = slot_at(chain.head, header.first);
        header.first += 1;
        let is_drained = header.first == header.len;
        let key = pool.key(slot);
        if is_drained {
            free_head(pool, chain);
            if chain.head == NONE {
                ring.vacate(tick);
                self.find_next_due();
            }
        }
        Some((slot, key))
    }

    /// The first and the last deadline that the key at this slot number can have, and whether it is
    /// certain that it was not overdue.
    ///
    /// A key has no deadline of its own. The range is that of its chunk (rounded up to a power of
    /// two), cut to that of its wheel slot.
    pub(crate) fn deadlines(pool: &Pool, slot: u32) -> (u64, u64, bool) {
        let header = pool.header(chunk_of(slot));
        let level = usize::from(header.level);
        let tick = header.deadline >> shift_of(level);
        let first = header.deadline.saturating_sub(header.spread()).max(tick << shift_of(level));
        let last = header.deadline.saturating_add(header.spread()).min(last_deadline(tick, level));
        (first, last, !header.has_overdue())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.levels.iter().flatten().count() * size_of::<Level>()
    }

    /// Checks rings, bits and bounds, and returns the number of chunks. Calls `visit` with each
    /// slot number that holds a key or a hole, and with whether it has expired.
    pub(crate) fn validate(&self, pool: &Pool, watermark: u64, mut visit: impl FnMut(u32, bool)) -> usize {
        let mut chunks = walk(pool, self.expired, |slot, _| visit(slot, true));
        let mut earliest = u64::MAX;
        for (number, level) in self.levels.iter().enumerate() {
            let Some(level) = level else { continue };
            let mut occupied = 0;
            for offset in 0..RING {
                let Some(tick) = level.base.checked_add(offset) else { continue };
                let chain = level.ring[ring_index(tick)];
                let bit = level.occupancy[ring_index(tick) / 64] >> (tick % 64) & 1 == 1;
                assert_eq!(bit, chain.head != NONE, "level {number}, tick {tick}: occupancy");
                if bit {
                    occupied += 1;
                    earliest = earliest.min(due_at(tick, number));
                    assert!(
                        tick >= watermark >> shift_of(number),
                        "level {number}, tick {tick} is due and not expired"
                    );
                    chunks += walk(pool, chain, |slot, header| {
                        assert_eq!((usize::from(header.level), header.deadline >> shift_of(number)), (number, tick));
                        visit(slot, false);
                    });
                }
            }
            assert_eq!(occupied, level.occupied_slots, "level {number}: occupied slots");
        }
        assert_eq!(earliest, self.next_due, "next due");
        chunks
    }

    fn earliest(&self) -> Option<(usize, u64)> {
        let firsts = self.levels.iter().enumerate().filter_map(|(number, level)| {
            let tick = level.as_ref()?.first_tick()?;
            Some((number, tick))
        });
        firsts.min_by_key(|(number, tick)| due_at(*tick, *number))
    }

    fn find_next_due(&mut self) {
        self.next_due = self.earliest().map_or(u64::MAX, |(number, tick)| due_at(tick, number));
    }
}

pub(crate) struct Evicted {
    pub(crate) slot: u32,
    pub(crate) key: Fingerprint,
    /// The last deadline that the key can have.
    pub(crate) last_deadline: u64,
}

impl Level {
    fn boxed() -> Box<Self> {
        Box::new(Self { base: 0, occupied_slots: 0, occupancy: [0; WORDS], ring: [EMPTY; RING as usize] })
    }

    /// Whether the ring can hold `tick`. First moves the base as far as it can: up to the
    /// watermark's tick, since none below is occupied, or anywhere if the ring is empty.
    #[inline]
    fn accepts(&mut self, tick: u64, watermark_tick: u64, last_tick: u64) -> bool {
        if self.occupied_slots == 0 {
            // Without a watermark, the next messages may be older or newer than the first. The end
            // of the ring is at most the last tick: so the last level has base 0 and accepts
            // everything.
            let base = if watermark_tick == 0 { tick.saturating_sub(RING / 2) } else { watermark_tick };
            self.base = base.min(last_tick - (RING - 1));
        } else {
            self.base = self.base.max(watermark_tick);
        }
        tick.checked_sub(self.base).is_some_and(|offset| offset < RING)
    }

    /// Marks the slot occupied; `true` if it was free.
    #[inline]
    fn occupy(&mut self, tick: u64) -> bool {
        let word = &mut self.occupancy[ring_index(tick) / 64];
        let was_free = *word >> (tick % 64) & 1 == 0;
        *word |= 1 << (tick % 64);
        // Not `+= u32::from(was_free)`: optimised by rustc 1.95, that adds 0. The comparison is
        // folded into the caller's branch on the result and its value is lost. Release-mode tests
        // see it.
        if was_free {
            self.occupied_slots += 1;
        }
        was_free
    }

    fn vacate(&mut self, tick: u64) -> Chain {
        self.occupancy[ring_index(tick) / 64] &= !(1 << (tick % 64));
        self.occupied_slots -= 1;
        std::mem::replace(&mut self.ring[ring_index(tick)], EMPTY)
    }

    fn first_tick(&self) -> Option<u64> {
        if self.occupied_slots == 0 {
            return None;
        }
        let start = ring_index(self.base);
        let from_start = self.occupancy[start / 64] & (u64::MAX << (start % 64));
        let words = (1..=WORDS).map(|step| (start / 64 + step) % WORDS).map(|at| (at, self.occupancy[at]));
        let (at, word) = std::iter::once((start / 64, from_start)).chain(words).find(|(_, word)| *word != 0)?;
        let index = at as u64 * 64 + u64::from(word.trailing_zeros());
        Some(self.base + (index.wrapping_sub(self.base) % RING))
    }
}

/// The lives for which a level is the finest that is allowed: the first one and the end.
#[inline]
fn lives_of(level: usize) -> (u64, u64) {
    let first = if level == 0 { 0 } else { 1 << (6 + 3 * level) };
    let end = if level == LEVELS - 1 { u64::MAX } else { 1 << (9 + 3 * level) };
    (first, end)
}

/// The finest level at which `life` is less than 512 slots, or the last.
#[inline]
fn level_of(life: u64) -> usize {
    (u64::BITS - life.leading_zeros()).saturating_sub(9).div_ceil(3).min(LEVELS as u32 - 1) as usize
}

#[inline]
const fn shift_of(level: usize) -> u32 {
    3 * (level % LEVELS) as u32
}

/// The watermark at which the slot is due; `u64::MAX` if it never is. (`expire_due` compares ticks
/// itself, so at a watermark of `u64::MAX` it expires nothing that is not due.)
#[inline]
fn due_at(tick: u64, level: usize) -> u64 {
    tick.checked_add(1).and_then(|next| next.checked_mul(1 << shift_of(level))).unwrap_or(u64::MAX)
}

#[inline]
fn ring_index(tick: u64) -> usize {
    (tick % RING) as usize
}

fn last_deadline(tick: u64, level: usize) -> u64 {
    (tick << shift_of(level)) | ((1 << shift_of(level)) - 1)
}

fn append(pool: &mut Pool, chain: &mut Chain, more: Chain) {
    if chain.tail == NONE {
        chain.head = more.head;
    } else {
        pool.header_mut(chain.tail).next = more.head;
    }
    chain.tail = more.tail;
}

fn free_head(pool: &mut Pool, chain: &mut Chain) {
    let chunk = chain.head;
    chain.head = pool.header(chunk).next;
    if chain.head == NONE {
        chain.tail = NONE;
    }
    pool.free(chunk);
}

fn walk(pool: &Pool, chain: Chain, mut visit: impl FnMut(u32, &super::pool::Header)) -> usize {
    let mut chunks = 0;
    let (mut chunk, mut last) = (chain.head, NONE);
    while chunk != NONE {
        let header = pool.header(chunk);
        (header.first..header.len).for_each(|position| visit(slot_at(chunk, position), header));
        (last, chunk) = (chunk, header.next);
        chunks += 1;
    }
    assert_eq!(last, chain.tail, "a chain's tail");
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_at_most_a_64th_of_the_life_wide() {
        for bits in 0..64 {
            for life in [1u64 << bits, (1 << bits) - 1, (1 << bits) + 1, u64::MAX] {
                let level = level_of(life);
                assert!(life >> shift_of(level) < 512 || level == LEVELS - 1);
                assert!(level == 0 || 1 << shift_of(level) <= life / 64, "life {life}: level {level}");
                let (first, end) = lives_of(level);
                assert!((first..end).contains(&life) || life == u64::MAX, "life {life}: level {level}");
            }
        }
    }

    #[test]
    fn levels_and_slots_follow_on_each_other() {
        for level in 1..LEVELS {
            let (first, _) = lives_of(level);
            assert_eq!((level_of(first - 1), level_of(first)), (level - 1, level));
            assert_eq!(lives_of(level - 1).1, first);
        }
        for (tick, level, due) in [(0, 0, 1), (5, 0, 6), (5, 1, 48), (5, LEVELS + 1, 48), (1023, 18, u64::MAX)] {
            assert_eq!(due_at(tick, level), due);
            assert_eq!(last_deadline(tick, level), if due == u64::MAX { due } else { due - 1 });
        }
    }

    /// The level and the slot number of a key that is pushed.
    fn pushed(wheel: &mut Wheel, pool: &mut Pool, deadline: u64, watermark: u64) -> (usize, u32) {
        let slot = wheel.push(pool, &Fingerprint([deadline, 0]), deadline, watermark);
        wheel.validate(pool, watermark, |_, _| ());
        (usize::from(pool.header(chunk_of(slot)).level), slot)
    }

    #[test]
    fn a_key_goes_to_the_finest_level_for_its_life() {
        for watermark in [1, 1_000, 1 << 40, u64::MAX - (1 << 30)] {
            for life in [0, 1, 511, 512, 4_095, 4_096, 1 << 20, 1 << 29] {
                let (mut wheel, mut pool) = (Wheel::new(1), Pool::new());
                wheel.advance(&mut pool, watermark);
                let (level, slot) = pushed(&mut wheel, &mut pool, watermark + life, watermark);
                assert_eq!(level, level_of(life), "life {life} at {watermark}");
                assert!(Wheel::deadlines(&pool, slot).2, "it was not overdue");
                let (_, late) = pushed(&mut wheel, &mut pool, watermark - 1, watermark);
                assert!(!Wheel::deadlines(&pool, late).2, "it was overdue");
            }
        }
    }

    #[test]
    fn keys_inserted_before_the_first_watermark_have_levels_of_their_own() {
        for span in [1, 512, 1 << 30, u64::MAX / 2, u64::MAX] {
            let (mut wheel, mut pool) = (Wheel::new(span), Pool::new());
            // Far beyond what a ring holds, and back: each key goes as many levels up as it must.
            for deadline in [1 << 40, 0, 1 << 50, u64::MAX, 1, u64::MAX - 1] {
                let (level, _) = pushed(&mut wheel, &mut pool, deadline, 0);
                assert!((LEVELS + level_of(span)..2 * LEVELS).contains(&level), "{deadline}: level {level}");
            }
        }
    }

    #[test]
    fn older_and_newer_ones_than_the_first_go_where_it_went() {
        for (span, deadline) in [(1, 700), (512, 1 << 40), (1 << 30, 1 << 50), (1 << 30, 1 << 63)] {
            let (mut wheel, mut pool) = (Wheel::new(span), Pool::new());
            let level = LEVELS + level_of(span);
            let width = 1 << shift_of(level);
            for deadline in [deadline, deadline - 511 * width, deadline + 511 * width] {
                assert_eq!(pushed(&mut wheel, &mut pool, deadline, 0).0, level, "span {span}, {deadline}");
            }
            assert_eq!(pushed(&mut wheel, &mut pool, deadline + 1024 * width, 0).0, level + 1, "span {span}");
        }
    }

    #[test]
    fn a_level_takes_memory_when_its_first_key_comes() {
        let (mut wheel, mut pool) = (Wheel::new(1), Pool::new());
        assert_eq!(wheel.memory_bytes(), 0);
        for (watermark, levels) in [(1, 1), (1_000, 1), (1_000, 2)] {
            wheel.advance(&mut pool, watermark);
            let _ = pushed(&mut wheel, &mut pool, watermark + 1_000 * (levels as u64 - 1), watermark);
            assert_eq!(wheel.memory_bytes(), levels * size_of::<Level>());
        }
        assert!(size_of::<Level>() < 9_000, "{} bytes", size_of::<Level>());
    }
}
