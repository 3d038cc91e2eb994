//! The index against a map.

use super::Choices;
use crate::Fingerprint;
use crate::engine::index::{Index, IndexHasher, Place};
use crate::engine::pool::Pool;
use std::collections::BTreeMap;
use std::ops::Range;

/// The most keys: if all have one home bucket, and if they are spread.
const KEYS_MAX: [usize; 2] = [150, 2_000];
const MANY: usize = 100;

/// Keys are inserted, removed and moved, and partitions grow and shrink. Every key that is held is
/// found at its slot number, and no other key is found.
pub fn index(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let Some(how) = choices.byte() else { return };
    let is_spread = how % 2 == 1;
    // With the first of these every key below 2^64 has the hash 0: one partition, one bucket, one
    // tag.
    let secret = if is_spread { [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9] } else { [0; 2] };
    let hasher = IndexHasher::new(secret);
    let keys_max = if how % 4 < 2 { 1 } else { 100_000 }; // one partition, or sixteen
    let mut run = Run {
        index: Index::new(keys_max, hasher),
        pool: Pool::new(),
        last_chunk: None,
        keys_max: KEYS_MAX[usize::from(is_spread)],
        held: BTreeMap::new(),
        places: Vec::new(),
        shrinking: 0,
    };
    while let Some(changed) = run.step(&mut choices) {
        run.validate(changed);
    }
    run.validate(0..2 * run.keys_max);
}

struct Run {
    index: Index,
    pool: Pool,
    last_chunk: Option<u32>,
    keys_max: usize,
    /// Keys and slot numbers.
    held: BTreeMap<usize, u32>,
    /// Places, with the value of `Index::resizes` at which they were computed.
    places: Vec<(usize, Place, u64)>,
    shrinking: usize,
}

impl Run {
    /// Returns the keys that the step may have changed.
    fn step(&mut self, choices: &mut Choices<'_>) -> Option<Range<usize>> {
        let what = choices.byte()?;
        let times = if what >= 192 { MANY } else { 1 };
        let first = choices.among(2 * self.keys_max)?;
        match what % 8 {
            0..=2 => (first..first + times).for_each(|key| self.insert(key)),
            3 | 4 => (first..first + times).for_each(|key| self.remove(key)),
            5 => self.repoint(first),
            6 => self.places.push((first, self.place(first), self.index.resizes())),
            _ => while self.index.shrink(&mut self.shrinking, &self.pool) {},
        }
        if what % 8 == 7 {
            self.shrinking = 0;
        }
        Some(first..first + times)
    }

    fn place(&self, key: usize) -> Place {
        self.index.place(self.index.hash(fingerprint(key)))
    }

    fn store(&mut self, key: usize) -> u32 {
        let key = fingerprint(key);
        loop {
            if let Some(slot) = self.last_chunk.and_then(|chunk| self.pool.push(chunk, &key, 0)) {
                return slot;
            }
            self.last_chunk = Some(self.pool.allocate(0, 0));
        }
    }

    fn insert(&mut self, key: usize) {
        if self.held.contains_key(&key) || self.held.len() >= self.keys_max {
            return;
        }
        let slot = self.store(key);
        self.index.insert(self.place(key), slot, &self.pool);
        self.held.insert(key, slot);
    }

    fn remove(&mut self, key: usize) {
        if let Some(slot) = self.held.remove(&key) {
            let removed = |index: &mut Index, place| index.remove_all(std::iter::once((place, slot)));
            let place = self.place(key);
            assert_eq!(removed(&mut self.index, place), 1, "it was there");
            assert_eq!(removed(&mut self.index, place), 0, "it is gone");
        }
    }

    fn repoint(&mut self, key: usize) {
        if let Some(from) = self.held.get(&key).copied() {
            let to = self.store(key);
            self.index.repoint(self.place(key), from, to);
            self.held.insert(key, to);
        }
    }

    /// Checks that all entries are found, and for some keys whether they are.
    fn validate(&self, keys: Range<usize>) {
        self.index.validate(&self.pool);
        assert_eq!(self.index.len(), self.held.len());
        for key in keys {
            let found = self.index.find(self.place(key), fingerprint(key), &self.pool);
            assert_eq!(found, self.held.get(&key).copied(), "key {key}");
        }
        for (key, place, _) in self.places.iter().filter(|(_, _, resizes)| *resizes == self.index.resizes()) {
            let found = self.index.find(*place, fingerprint(*key), &self.pool);
            assert_eq!(found, self.held.get(key).copied(), "key {key}: a place is valid until a partition is resized");
        }
    }
}

fn fingerprint(key: usize) -> Fingerprint {
    Fingerprint([key as u64, 0])
}
