//! A clock that drifts. Now and then it is set right, and so steps forward or back.

use super::random::Random;

/// How often clocks are set, in milliseconds.
pub(crate) const SET_EVERY: u64 = 3_600_000;

/// At most `bound` milliseconds from the truth, either way.
#[derive(Clone, Default)]
pub(crate) struct DriftingClock {
    bound: i64,
    offset: i64,
    since: u64,
    parts_per_million: i64,
}

impl DriftingClock {
    pub(crate) fn new(bound: u64) -> Self {
        Self { bound: bound as i64, ..Self::default() }
    }

    pub(crate) fn read(&self, truth: u64) -> u64 {
        let drift = (truth - self.since) as i64 * self.parts_per_million / 1_000_000;
        (truth as i64 + (self.offset + drift).clamp(-self.bound, self.bound)) as u64
    }

    /// Half of the bound is for the offset, and half for the drift until the clock is set again.
    pub(crate) fn set(&mut self, truth: u64, random: &mut Random) {
        if self.bound == 0 {
            return;
        }
        let half = self.bound / 2;
        let either_way = |random: &mut Random, max: i64| random.extreme(2 * max as u64) as i64 - max;
        self.offset = either_way(random, half);
        self.parts_per_million = either_way(random, half * 1_000_000 / SET_EVERY as i64);
        self.since = truth;
    }

    /// Breaks the bound on purpose.
    pub(crate) fn jump(&mut self, by: i64) {
        self.bound = self.bound.max(by.abs());
        self.offset = by;
    }
}
