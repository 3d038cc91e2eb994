//! What a user would build or choose instead, each with its defaults. These include the hashers,
//! because users get them.

use super::stream::{SPAN_MS, START_MS};
use super::{Contender, Delivery};
use dashmap::DashMap;
use hashbrown::{HashMap, HashSet};
use oncewheel::Timestamp;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A concurrent map, and beside it a timing wheel with a second copy of each key.
#[derive(Clone)]
pub(super) struct DashMapWheel {
    map: Arc<DashMap<u128, ()>>,
    wheel: Arc<Mutex<Wheel>>,
    /// The slot that is being reclaimed. It is outside the wheel's lock.
    doomed: Vec<u128>,
}

/// A thousand slots for a window, and as many for each of three more, if the queue is behind.
struct Wheel {
    slots: Box<[Vec<u128>]>,
    next_due: u64,
}

const SLOTS: u64 = 4096;
const SLOT_MS: u64 = SPAN_MS / 1000;

impl Wheel {
    fn push(&mut self, key: u128, deadline: u64) {
        self.slots[(deadline.div_ceil(SLOT_MS) % SLOTS) as usize].push(key);
    }

    /// Replaces the next slot that is due by an empty one.
    fn take_due(&mut self, watermark: u64, into: &mut Vec<u128>) -> bool {
        let is_due = self.next_due * SLOT_MS < watermark;
        if is_due {
            std::mem::swap(&mut self.slots[(self.next_due % SLOTS) as usize], into);
            self.next_due += 1;
        }
        is_due
    }
}

impl DashMapWheel {
    pub(super) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        let wheel = Wheel { slots, next_due: START_MS / SLOT_MS };
        Self { map: Arc::default(), wheel: Arc::new(Mutex::new(wheel)), doomed: Vec::new() }
    }
}

impl Contender for DashMapWheel {
    fn observe(&mut self, watermark: Timestamp) {
        while self.wheel.lock().take_due(watermark.as_millis(), &mut self.doomed) {
            for key in self.doomed.drain(..) {
                self.map.remove(&key);
            }
        }
    }

    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        let mut duplicates = 0;
        for (key, time) in deliveries {
            if self.map.insert(key.as_u128(), ()).is_some() {
                duplicates += 1;
            } else {
                self.wheel.lock().push(key.as_u128(), time.as_millis() + SPAN_MS);
            }
        }
        duplicates
    }

    fn held(&self) -> usize {
        self.map.len()
    }
}

/// A map for the check and a queue of the same keys in the order of their deadlines, as gossip
/// libraries have it. Works only if times never decrease.
pub(super) struct HashMapFifo {
    map: HashMap<u128, ()>,
    fifo: VecDeque<(u128, u64)>,
}

impl HashMapFifo {
    pub(super) fn new() -> Self {
        Self { map: HashMap::new(), fifo: VecDeque::new() }
    }
}

impl Contender for HashMapFifo {
    fn observe(&mut self, watermark: Timestamp) {
        while let Some((key, deadline)) = self.fifo.front()
            && *deadline < watermark.as_millis()
        {
            self.map.remove(key);
            self.fifo.pop_front();
        }
    }

    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        let mut duplicates = 0;
        for (key, time) in deliveries {
            if self.map.insert(key.as_u128(), ()).is_some() {
                duplicates += 1;
            } else {
                self.fifo.push_back((key.as_u128(), time.as_millis() + SPAN_MS));
            }
        }
        duplicates
    }

    fn held(&self) -> usize {
        self.map.len()
    }
}

/// Two sets. When the younger is as old as the window, the older is cleared and they swap. Keys are
/// held for up to two windows.
pub(super) struct TwoGenerations {
    young: HashSet<u128>,
    old: HashSet<u128>,
    rotates_at: u64,
}

impl TwoGenerations {
    pub(super) fn new() -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), rotates_at: START_MS + SPAN_MS }
    }
}

impl Contender for TwoGenerations {
    fn observe(&mut self, watermark: Timestamp) {
        while watermark.as_millis() > self.rotates_at {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.rotates_at += SPAN_MS;
        }
    }

    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        let known = |(key, _): &Delivery| self.old.contains(&key.as_u128()) || !self.young.insert(key.as_u128());
        deliveries.iter().map(known).map(usize::from).sum()
    }

    fn held(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// A cache with time to live. It expires keys by the wall clock, so deliveries are paced: in one
/// time to live, as many arrive as must be held.
#[derive(Clone)]
pub(super) struct MokaTtl {
    cache: moka::sync::Cache<u128, ()>,
    time_to_live: Duration,
}

/// Slow enough for `moka` to keep up. It reclaims everything that has expired within one call. If
/// that takes longer than the keys took to arrive, more have expired meanwhile: it stalls for
/// seconds, and is empty afterwards.
const MOKA_TIME_PER_KEY: Duration = Duration::from_nanos(10_000);

impl MokaTtl {
    pub(super) fn new(live: usize) -> Self {
        let time_to_live = MOKA_TIME_PER_KEY.mul_f64(live as f64);
        Self { cache: moka::sync::Cache::builder().time_to_live(time_to_live).build(), time_to_live }
    }
}

impl Contender for MokaTtl {
    fn observe(&mut self, _: Timestamp) {}

    /// In two steps, which are faster than `entry(..).or_insert(..)`. Two threads with the same key
    /// could both pass.
    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        let mut duplicates = 0;
        for (key, _) in deliveries {
            if self.cache.contains_key(&key.as_u128()) {
                duplicates += 1;
            } else {
                self.cache.insert(key.as_u128(), ());
            }
        }
        duplicates
    }

    fn held(&self) -> usize {
        self.cache.run_pending_tasks();
        self.cache.entry_count() as usize
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(self.time_to_live)
    }
}

/// A cache bounded by a count, here that of the live keys. It evicts by its own policy, which the
/// missed duplicates show.
pub(super) struct QuickCache(quick_cache::unsync::Cache<u128, ()>);

impl QuickCache {
    pub(super) fn new(live: usize) -> Self {
        Self(quick_cache::unsync::Cache::new(live))
    }
}

impl Contender for QuickCache {
    fn observe(&mut self, _: Timestamp) {}

    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        let mut duplicates = 0;
        for (key, _) in deliveries {
            if self.0.get(&key.as_u128()).is_some() {
                duplicates += 1;
            } else {
                self.0.insert(key.as_u128(), ());
            }
        }
        duplicates
    }

    fn held(&self) -> usize {
        self.0.len()
    }
}
