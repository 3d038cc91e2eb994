//! The workload: random keys, 5 % of them duplicates of uniform age, and time that advances as they
//! enter.

use oncewheel::{Clock, Config, Fingerprint, Horizon, Timestamp};
use std::time::Duration;

/// A delivery as the consumer gets it. All contenders get 128 bits, so hashing of longer keys is
/// not compared.
pub(crate) type Delivery = (Fingerprint, Timestamp);

/// Deliveries between two moves of the watermark: what a consumer polls at once.
pub(crate) const BATCH: usize = 1024;
/// `max_retry + max_network`: how long a key must be held.
pub(super) const SPAN_MS: u64 = 60_000;
/// The time of the first delivery.
pub(super) const START_MS: u64 = 1_700_000_000_000;

const DUPLICATE_SHARE: f64 = 0.05;
/// The oldest duplicates stay away from the end of the window, so that each must be found.
const AGE_MAX: f64 = 0.98;

/// The configuration for this workload. The capacity is larger than the number of live keys,
/// because a key is held up to 1/64 longer than its window.
pub(crate) fn config(live: usize) -> Config {
    let horizon = Horizon::new(Duration::from_millis(SPAN_MS), Duration::ZERO);
    Config::new(horizon).max_keys(live + live / 4 + 4 * BATCH).clock(Clock::Manual).secret([7; 16])
}

/// The deliveries of one consumer. Each is a function of the seed and its number, so a duplicate
/// needs no memory of its first copy.
pub(crate) struct Stream {
    seed: u64,
    next: u64,
    /// Deliveries in a window, such that `live` of their keys are distinct.
    per_span: u64,
}

impl Stream {
    pub(crate) fn new(live: usize, seed: u64) -> Self {
        Self { seed: mix(seed), next: 0, per_span: (live as f64 / (1.0 - DUPLICATE_SHARE)) as u64 }
    }

    pub(crate) fn per_span(&self) -> u64 {
        self.per_span
    }

    /// Replaces the contents of `deliveries` by the next ones. Returns how many of those are
    /// duplicates.
    pub(crate) fn fill(&mut self, deliveries: &mut Vec<Delivery>, count: usize) -> usize {
        let mut duplicates = 0;
        deliveries.clear();
        deliveries.extend((self.next..self.next + count as u64).map(|at| {
            let time = Timestamp::from_millis(START_MS + at * SPAN_MS / self.per_span);
            duplicates += usize::from(self.is_duplicate(at));
            (self.key(self.original(at)), time)
        }));
        self.next += count as u64;
        duplicates
    }

    fn is_duplicate(&self, at: u64) -> bool {
        at > 0 && self.random(at, 0) < (DUPLICATE_SHARE * u64::MAX as f64) as u64
    }

    /// The first copy. A duplicate of a duplicate could be older than the window, so the latest
    /// delivery before it is taken that is no duplicate. Delivery 0 is none.
    fn original(&self, at: u64) -> u64 {
        if !self.is_duplicate(at) {
            return at;
        }
        let oldest = ((self.per_span as f64 * AGE_MAX) as u64).clamp(1, at);
        let age = 1 + ((u128::from(self.random(at, 1)) * u128::from(oldest)) >> 64) as u64;
        let mut original = at - age;
        while self.is_duplicate(original) {
            original -= 1;
        }
        original
    }

    fn key(&self, at: u64) -> Fingerprint {
        Fingerprint::from_u128(u128::from(self.random(at, 2)) << 64 | u128::from(self.random(at, 3)))
    }

    fn random(&self, at: u64, which: u64) -> u64 {
        mix(self.seed.wrapping_add((4 * at + which).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
