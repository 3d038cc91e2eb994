//! The wheel against a list of keys and deadlines.

use super::Choices;
use crate::Fingerprint;
use crate::engine::pool::{NONE, Pool, chunk_of};
use crate::engine::wheel::Wheel;
use std::collections::BTreeMap;

/// Enough to fill a chunk.
const MANY: usize = 40;

/// Keys are stored, expire as the watermark moves, are evicted and are removed. None may expire
/// early, or later than 1/64 of its life.
pub fn wheel(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut steps = || {
        let (span, origin) = (choices.span()?, choices.time(1 << 40)?);
        let mut run = Run::new(span);
        loop {
            run.step(&mut choices, origin)?;
            run.validate();
        }
    };
    let _: Option<()> = steps();
}

struct Kept {
    key: Fingerprint,
    /// If the key was overdue: the watermark at which it was stored.
    deadline: u64,
    was_overdue: bool,
    /// The highest watermark at which it may still be live.
    held_until: u64,
}

struct Run {
    wheel: Wheel,
    pool: Pool,
    watermark: u64,
    /// By slot number.
    kept: BTreeMap<u32, Kept>,
    keys_pushed: u64,
}

impl Run {
    fn new(span: u64) -> Self {
        Self { wheel: Wheel::new(span), pool: Pool::new(), watermark: 0, kept: BTreeMap::new(), keys_pushed: 0 }
    }

    /// While there is no watermark, deadlines are around `origin`.
    fn step(&mut self, choices: &mut Choices<'_>, origin: u64) -> Option<()> {
        let around = if self.watermark == 0 { origin } else { self.watermark };
        let what = choices.byte()?;
        match what % 8 {
            0..=3 => {
                let deadline = choices.time(around)?;
                let times = if what >= 192 { MANY } else { 1 };
                if what % 8 == 3 {
                    self.push_in_a_run(deadline, times);
                }
                (0..times).for_each(|_| self.push(deadline));
            }
            4 => {
                self.watermark = self.watermark.max(choices.time(around)?);
                self.wheel.advance(&mut self.pool, self.watermark);
            }
            5 => self.free_expired_head(),
            6 => self.evict(),
            _ => {
                let at = choices.among(self.kept.len())?;
                self.remove(at);
            }
        }
        Some(())
    }

    fn push(&mut self, deadline: u64) {
        self.keys_pushed += 1;
        let key = Fingerprint([self.keys_pushed, 0]);
        let slot = self.wheel.push(&mut self.pool, &key, deadline, self.watermark);
        self.keep(slot, key, deadline);
    }

    /// Stores up to `times` keys, for as long as they go to the chunk of the last one.
    fn push_in_a_run(&mut self, deadline: u64, times: usize) {
        let mut pushed = Vec::new();
        let mut run = self.wheel.run(&mut self.pool, self.watermark);
        for at in 0..times as u64 {
            let (key, deadline) = (Fingerprint([self.keys_pushed + at + 1, 0]), deadline.wrapping_add(at % 3));
            match run.push(&key, deadline) {
                Some(slot) => pushed.push((slot, key, deadline)),
                None => break,
            }
        }
        drop(run);
        self.keys_pushed += pushed.len() as u64;
        pushed.into_iter().for_each(|(slot, key, deadline)| self.keep(slot, key, deadline));
    }

    fn keep(&mut self, slot: u32, key: Fingerprint, deadline: u64) {
        let was_overdue = deadline < self.watermark;
        let deadline = deadline.max(self.watermark);
        let life = deadline - self.watermark;
        // Without a watermark there is no bound.
        let held_until = if self.watermark == 0 { u64::MAX } else { deadline.saturating_add(life / 64) };
        let before = self.kept.insert(slot, Kept { key, deadline, was_overdue, held_until });
        assert!(before.is_none(), "two keys at one slot number");
    }

    fn free_expired_head(&mut self) {
        let chunk = self.wheel.expired_head();
        if chunk != NONE {
            self.kept.retain(|slot, _| chunk_of(*slot) != chunk);
            self.wheel.free_expired_head(&mut self.pool);
        }
    }

    fn evict(&mut self) {
        let live = self.live();
        let Some(evicted) = self.wheel.evict(&mut self.pool) else {
            assert!(live.is_empty(), "there is a key to evict");
            return;
        };
        assert!(live.contains(&evicted.slot), "an expired key cannot be evicted");
        let gone = self.kept.remove(&evicted.slot).expect("a key that is there");
        assert_eq!(gone.key, evicted.key, "the evicted key");
        assert!(gone.deadline <= evicted.last_deadline, "the last deadline that the key can have");
        let next = live.iter().filter_map(|slot| self.kept.get(slot)).map(|kept| kept.held_until).min();
        assert!(next.is_none_or(|next| evicted.last_deadline <= next), "another would expire first for certain");
    }

    fn remove(&mut self, at: usize) {
        let live = self.live();
        let Some(slot) = live.get(at % live.len().max(1)) else { return };
        self.kept.remove(slot);
        if let Some((stood_at, key)) = self.wheel.remove(&mut self.pool, *slot, self.watermark) {
            let moved = self.kept.remove(&stood_at).expect("a key that is there");
            assert_eq!(moved.key, key);
            self.kept.insert(*slot, moved);
        }
    }

    fn live(&self) -> Vec<u32> {
        let mut live = Vec::new();
        self.wheel.validate(&self.pool, self.watermark, |slot, is_expired| {
            if !is_expired {
                live.push(slot);
            }
        });
        live
    }

    fn validate(&self) {
        let mut found = 0;
        let chunks = self.wheel.validate(&self.pool, self.watermark, |slot, is_expired| {
            found += 1;
            let kept = self.kept.get(&slot).expect("a key that was pushed");
            assert_eq!(self.pool.key(slot), kept.key);
            if is_expired {
                assert!(kept.deadline < self.watermark, "expired early");
            } else {
                assert!(self.watermark <= kept.held_until, "expired late");
            }
            let (first, last, none_overdue) = Wheel::deadlines(&self.pool, slot);
            assert!((first..=last).contains(&kept.deadline), "{first}..={last}: not {}", kept.deadline);
            let level = u32::from(self.pool.header(chunk_of(slot)).level) % 19;
            assert!(last - first < 1 << (3 * level), "{first}..={last} is wider than the slot");
            assert!(!(none_overdue && kept.was_overdue), "a key that was overdue is known as such");
        });
        assert_eq!(found, self.kept.len(), "every key is in the wheel");
        self.pool.validate(chunks);
    }
}
