//! What the workers of a child do. It is a function of the seed, so the parent can compute it.

use oncewheel::{Clock, Config, Horizon};
use std::time::Duration;

/// In milliseconds of the cache's clock. With each step, a worker advances it by one.
pub(super) const SPAN: u64 = 1000;
/// How far the watermark lies behind the workers.
pub(super) const LAG: u64 = 500;
pub(super) const RETENTION: u64 = 5_000;
/// Some messages come from far ahead. Their keys are still held when all others of their segment
/// have expired, so the segment is rewritten.
const AHEAD: u64 = 10 * SPAN;
const BATCH_MAX: u64 = 60;
/// How many steps back a worker may look for a key to remove or to insert again.
const REACH: u64 = 20;

pub(super) fn config() -> Config {
    let ms = Duration::from_millis;
    let horizon = Horizon::new(ms(SPAN), ms(0)).max_retention(ms(RETENTION)).max_clock_skew(Duration::from_secs(3600));
    Config::new(horizon).clock(Clock::Manual).max_keys(1 << 20)
}

/// One child's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) seed: u64,
    /// Different for each child over one directory.
    pub(super) number: u64,
    pub(super) workers: u64,
    /// The cache's clock when the life begins.
    pub(super) start: u64,
}

/// What a worker does in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Commit(u64),
    Insert(u64),
    InsertBatch(Vec<u64>),
    CommitBatch(Vec<u64>),
    Remove(u64),
    /// One of the keys that all workers insert, at about the same time.
    Contend,
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) call: Call,
    /// How far ahead of the clock its messages' times are.
    pub(super) ahead: u64,
}

/// The key that the cache gets.
pub(super) fn key(id: u64) -> String {
    format!("{id:x}")
}

impl Life {
    /// Keys of one step are `first_id + 0 ..`; no two steps, workers or lives have one in common.
    ///
    /// ```text
    /// bit   63 .. 48   47 .. 40   39 .. 8   7 .. 0
    ///       life       worker     step      key
    /// ```
    fn first_id(&self, worker: u64, step: u64) -> u64 {
        self.number << 48 | worker << 40 | step << 8
    }

    /// Keys that all workers insert.
    pub(super) fn contended_id(&self, count: u64) -> u64 {
        self.first_id(0xff, count)
    }

    /// The time of a key that all workers insert. It is the same for all of them; otherwise it
    /// would not be known when the key may expire. It advances about as fast as the clock.
    pub(super) fn contended_time(&self, count: u64) -> u64 {
        self.start + AHEAD + 20 * count
    }

    /// Keys that no child inserts.
    pub(super) fn unused_id(&self, count: u64) -> u64 {
        self.first_id(0xfe, count)
    }

    pub(super) fn step(&self, worker: u64, step: u64) -> Step {
        let mut random = self.random(worker, step);
        let ahead = if random.below(16) == 0 { AHEAD } else { 0 };
        let first = self.first_id(worker, step);
        let earlier = |random: &mut Random| {
            let step = step.checked_sub(1 + random.below(REACH))?;
            self.makes_key(worker, step).then(|| self.first_id(worker, step))
        };
        let call = match self.kind(worker, step) {
            0 | 1 => Call::Commit(first),
            2 | 3 => Call::Insert(first),
            4 => Call::InsertBatch((first..=first + random.below(BATCH_MAX)).collect()),
            5 => Call::CommitBatch((first..=first + random.below(BATCH_MAX)).collect()),
            6 => earlier(&mut random).map_or(Call::Contend, Call::Remove),
            7 => earlier(&mut random).map_or(Call::Contend, Call::Insert),
            _ => Call::Contend,
        };
        Step { call, ahead }
    }

    /// Whether the step has a key of its own, and not one of an earlier step.
    fn makes_key(&self, worker: u64, step: u64) -> bool {
        self.kind(worker, step) < 6
    }

    fn kind(&self, worker: u64, step: u64) -> u64 {
        Random(self.random(worker, step).0 ^ 1).below(9)
    }

    fn random(&self, worker: u64, step: u64) -> Random {
        Random(self.seed ^ self.first_id(worker, step).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
