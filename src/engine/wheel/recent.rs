//! The wheel's fast path: the chunk of the last key. Most keys go where the one before them went,
//! since messages arrive nearly in the order of their times.
//!
//! Which deadlines belong to the chunk is worked out once for a chunk and a watermark, as a range:
//!
//! ```text
//! wheel slot                              [ tick << 3L ........ (tick + 1) << 3L )
//! lives for which its level is finest          [ watermark + first ............. watermark + end )
//! accepted                                     [ .............. )
//! ```
//!
//! **Invariant: a deadline is accepted only if the slow path would choose the same slot.** So the
//! range is worked out again when the watermark moves, and dropped when slots expire or a key is
//! removed, since both may free the chunk.

use super::{LEVELS, due_at, lives_of, shift_of};
use crate::Fingerprint;
use crate::engine::pool::{Filling, NONE, Pool};

/// The last chunk of an occupied slot.
#[derive(Clone, Copy)]
pub(super) struct Recent {
    chunk: u32,
    level: usize,
    tick: u64,
    /// The deadlines that belong to it under the present watermark.
    accepted: Deadlines,
}

impl Recent {
    /// Accepts nothing. It has no level, so it accepts nothing under a later watermark either.
    pub(super) const NOWHERE: Self = Self { chunk: NONE, level: LEVELS, tick: 0, accepted: Deadlines::NONE };

    pub(super) fn new(chunk: u32, level: usize, tick: u64, watermark: u64) -> Self {
        Self { chunk, level, tick, ..Self::NOWHERE }.under(watermark)
    }

    /// Works out the accepted deadlines. Without a watermark the level does not depend on the life.
    fn under(self, watermark: u64) -> Self {
        let lives = if self.level < LEVELS { lives_of(self.level) } else { (0, u64::MAX) };
        let slot = Deadlines::between(self.tick << shift_of(self.level), due_at(self.tick, self.level));
        let accepted = slot.within(watermark.saturating_add(lives.0), watermark.saturating_add(lives.1));
        Self { accepted, ..self }
    }

    /// The same chunk after the watermark has moved. `NOWHERE` if it belongs to a level for keys
    /// without a watermark, since no more keys go there.
    pub(super) fn after_move(self, watermark: u64) -> Self {
        if self.level < LEVELS { self.under(watermark) } else { Self::NOWHERE }
    }

    /// Stores a key in the chunk; `None` if it belongs elsewhere or the chunk is full.
    #[inline(always)]
    pub(super) fn push(&self, pool: &mut Pool, key: &Fingerprint, deadline: u64) -> Option<u32> {
        if self.accepted.contain(deadline) { pool.push(self.chunk, key, deadline) } else { None }
    }

    pub(super) fn run<'a>(&self, pool: &'a mut Pool, first: u64) -> Run<'a> {
        Run { accepted: self.accepted.within(first, u64::MAX), filling: pool.fill(self.chunk) }
    }
}

/// Stores keys in the chunk of the last one, for as long as they belong there.
pub(crate) struct Run<'a> {
    accepted: Deadlines,
    filling: Filling<'a>,
}

impl Run<'_> {
    /// Stores a key; `None` if it belongs elsewhere or the chunk is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: &Fingerprint, deadline: u64) -> Option<u32> {
        if self.accepted.contain(deadline) { self.filling.push(key, deadline) } else { None }
    }
}

/// A range of deadlines: `count` of them from `first` on.
#[derive(Clone, Copy)]
struct Deadlines {
    first: u64,
    count: u64,
}

impl Deadlines {
    const NONE: Self = Self { first: 0, count: 0 };

    fn between(first: u64, end: u64) -> Self {
        Self { first, count: end.saturating_sub(first) }
    }

    fn within(self, first: u64, end: u64) -> Self {
        Self::between(self.first.max(first), (self.first + self.count).min(end))
    }

    #[inline(always)]
    fn contain(self, deadline: u64) -> bool {
        deadline.wrapping_sub(self.first) < self.count
    }
}
