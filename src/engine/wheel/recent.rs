//! Where the last key went: most often the next one's place too, as messages come nearly in the order of their times.

use super::{LEVELS, due_at, lives_of, shift_of};
use crate::Fingerprint;
use crate::engine::pool::{Filling, NONE, Pool};

/// A chunk of an occupied slot.
#[derive(Clone, Copy)]
pub(super) struct Recent {
    chunk: u32,
    level: usize,
    tick: u64,
    /// The deadlines that belong there under the present watermark.
    accepted: Deadlines,
}

impl Recent {
    /// Of no level, so that no watermark brings it to life.
    pub(super) const NOWHERE: Self = Self { chunk: NONE, level: LEVELS, tick: 0, accepted: Deadlines::NONE };

    pub(super) fn new(chunk: u32, level: usize, tick: u64, watermark: u64) -> Self {
        Self { chunk, level, tick, ..Self::NOWHERE }.under(watermark)
    }

    /// Deadlines of the slot for which its level is the finest that is allowed.
    fn under(self, watermark: u64) -> Self {
        let lives = if self.level < LEVELS { lives_of(self.level) } else { (0, u64::MAX) };
        let slot = Deadlines::between(self.tick << shift_of(self.level), due_at(self.tick, self.level));
        let accepted = slot.within(watermark.saturating_add(lives.0), watermark.saturating_add(lives.1));
        Self { accepted, ..self }
    }

    /// The same place under a watermark that has moved, if keys still go there: without a watermark they go to other levels.
    pub(super) fn after_move(self, watermark: u64) -> Self {
        if self.level < LEVELS { self.under(watermark) } else { Self::NOWHERE }
    }

    /// Stores a key there; `None` if it belongs elsewhere, or there is no place left.
    #[inline(always)]
    pub(super) fn push(&self, pool: &mut Pool, key: &Fingerprint, deadline: u64) -> Option<u32> {
        if self.accepted.contain(deadline) { pool.push(self.chunk, key, deadline) } else { None }
    }

    pub(super) fn run<'a>(&self, pool: &'a mut Pool, first: u64) -> Run<'a> {
        Run { accepted: self.accepted.within(first, u64::MAX), filling: pool.fill(self.chunk) }
    }
}

/// Stores keys where the last one went, as long as they belong there.
pub(crate) struct Run<'a> {
    accepted: Deadlines,
    filling: Filling<'a>,
}

impl Run<'_> {
    /// Stores a key; `None` if it belongs elsewhere, or there is no place left.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: &Fingerprint, deadline: u64) -> Option<u32> {
        if self.accepted.contain(deadline) { self.filling.push(key, deadline) } else { None }
    }
}

/// A range.
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
