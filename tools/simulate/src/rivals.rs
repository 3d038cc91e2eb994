//! What one would use instead, on the same deliveries: caches that expire keys by the wall clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// The time until which each of them holds a key, in the order of
/// [`Tally::rivals`](crate::Tally::rivals).
pub const NAMES: [&str; 3] =
    ["`now + retention + retry + network`", "`min_msg_time + retry + network`", "time to live: `retry + network`"];

/// Keys, each with the time of the wall clock until which it is held.
#[derive(Default)]
struct WallCache {
    held: HashMap<u64, u64>,
    by_expiry: BinaryHeap<Reverse<(u64, u64)>>,
    keys_max: usize,
}

impl WallCache {
    /// Whether the key is new.
    fn insert(&mut self, key: u64, expiry: u64, now: u64) -> bool {
        while let Some(Reverse((expiry, key))) = self.by_expiry.peek().copied()
            && expiry < now
        {
            self.by_expiry.pop();
            self.held.remove(&key);
        }
        if self.held.contains_key(&key) {
            return false;
        }
        self.held.insert(key, expiry);
        self.by_expiry.push(Reverse((expiry, key)));
        self.keys_max = self.keys_max.max(self.held.len());
        true
    }
}

pub(crate) struct Rivals {
    caches: [WallCache; 3],
    span: u64,
    retention: u64,
    /// As last reported by the broker, with 0 for null.
    min_msg_time: u64,
}

impl Rivals {
    pub(crate) fn new(span: u64, retention: u64) -> Self {
        Self { caches: Default::default(), span, retention, min_msg_time: 0 }
    }

    pub(crate) fn observe(&mut self, min_msg_time: u64) {
        self.min_msg_time = min_msg_time;
    }

    /// Which of them would process this delivery.
    pub(crate) fn deliver(&mut self, key: u64, now: u64) -> [bool; 3] {
        let expiries = [now + self.retention + self.span, self.min_msg_time.saturating_add(self.span), now + self.span];
        let mut fresh = [false; 3];
        for ((fresh, cache), expiry) in fresh.iter_mut().zip(&mut self.caches).zip(expiries) {
            *fresh = cache.insert(key, expiry, now);
        }
        fresh
    }

    pub(crate) fn keys_max(&self) -> [usize; 3] {
        [0, 1, 2].map(|rival: usize| self.caches[rival].keys_max)
    }
}
