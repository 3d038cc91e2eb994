//! The pool against lists of keys.

use super::Choices;
use crate::Fingerprint;
use crate::engine::pool::{CHUNK_KEYS, Pool, slot_at};
use std::collections::BTreeMap;

/// As drawn in the pool's file.
const PAGE_CHUNKS: u32 = 512;
const CHUNK_BYTES: usize = 512;
const CHUNKS_MAX: usize = 1_300;
/// Enough to reach the next page in a few steps.
const MANY: usize = 200;

/// Chunks are allocated, filled, drained and freed, and pages are freed. Each chunk holds the keys
/// that were stored in it.
pub fn pool(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut run = Run { pool: Pool::new(), chunks: BTreeMap::new(), keys_pushed: 0, shrinking: 0 };
    let mut steps = || loop {
        run.step(&mut choices)?;
        run.validate();
    };
    let _: Option<()> = steps();
}

#[derive(Default)]
struct Chunk {
    /// Keys before this have been taken out.
    first: usize,
    keys: Vec<(Fingerprint, u64)>,
}

struct Run {
    pool: Pool,
    chunks: BTreeMap<u32, Chunk>,
    keys_pushed: u64,
    shrinking: usize,
}

impl Run {
    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let what = choices.byte()?;
        let times = if what >= 192 { MANY } else { 1 };
        match what % 8 {
            0 | 1 => {
                let deadline = choices.time(1 << 40)?;
                for _ in 0..times.min(CHUNKS_MAX.saturating_sub(self.chunks.len())) {
                    self.allocate(deadline, what % 38);
                }
            }
            2 | 3 => {
                let chunk = self.any(choices)?;
                let deadline = choices.time(1 << 40)?;
                self.push(chunk, deadline, times, what >= 128);
            }
            4 => {
                for _ in 0..times.min(self.chunks.len()) {
                    let chunk = self.any(choices)?;
                    self.pool.free(chunk);
                    self.chunks.remove(&chunk);
                }
            }
            5 => {
                let (from, into) = (self.any(choices)?, self.any(choices)?);
                let at = choices.byte()?;
                self.take_first(from, into, usize::from(at));
            }
            _ => self.shrink(),
        }
        Some(())
    }

    /// A chunk that is in use; one is made if there is none.
    fn any(&mut self, choices: &mut Choices<'_>) -> Option<u32> {
        if self.chunks.is_empty() {
            self.allocate(0, 0);
        }
        let at = choices.among(self.chunks.len())?;
        self.chunks.keys().nth(at).copied()
    }

    fn allocate(&mut self, deadline: u64, level: u8) {
        let lowest = (0..).find(|page| self.used_of(*page) < PAGE_CHUNKS as usize);
        let chunk = self.pool.allocate(deadline, level);
        assert_eq!(Some(chunk / PAGE_CHUNKS), lowest, "the lowest page that has a free one");
        let header = self.pool.header(chunk);
        assert_eq!((header.deadline, header.level, header.first, header.len), (deadline, level, 0, 0));
        assert!(self.chunks.insert(chunk, Chunk::default()).is_none(), "a chunk that is in use");
        self.push(chunk, deadline, 1, false); // an empty chunk is in nobody's chain
    }

    /// Appends keys one by one, or in one go with different deadlines.
    fn push(&mut self, chunk: u32, deadline: u64, times: usize, is_one_go: bool) {
        let kept = self.chunks.get_mut(&chunk).expect("in use");
        let keys: Vec<_> = (0..times as u64)
            .map(|at| (Fingerprint([self.keys_pushed + at, 0]), deadline.wrapping_add(at % 3 * u64::from(is_one_go))))
            .collect();
        self.keys_pushed += times as u64;
        let slots: Vec<_> = if is_one_go {
            let mut filling = self.pool.fill(chunk);
            keys.iter().map(|(key, deadline)| filling.push(key, *deadline)).collect()
        } else {
            keys.iter().map(|(key, deadline)| self.pool.push(chunk, key, *deadline)).collect()
        };
        for (key, slot) in keys.into_iter().zip(slots) {
            let is_full = kept.keys.len() == usize::from(CHUNK_KEYS);
            assert_eq!(slot, (!is_full).then(|| slot_at(chunk, kept.keys.len() as u8)));
            if !is_full {
                kept.keys.push(key);
            }
        }
    }

    /// Takes the first key out of a chunk and puts it in the place of another.
    fn take_first(&mut self, from: u32, into: u32, at: usize) {
        let source = &self.chunks[&from];
        if source.first + 1 >= source.keys.len() {
            return;
        }
        let moved = source.keys[source.first];
        let stood_at = slot_at(from, source.first as u8);
        self.pool.header_mut(from).first += 1;
        self.chunks.get_mut(&from).expect("in use").first += 1;
        let kept = self.chunks.get_mut(&into).expect("in use");
        let at = kept.first + at % (kept.keys.len() - kept.first);
        self.pool.replace(slot_at(into, at as u8), moved.0, stood_at);
        kept.keys[at] = moved;
    }

    fn shrink(&mut self) {
        while self.pool.shrink(&mut self.shrinking) {}
        self.shrinking = 0;
        let last = self.chunks.keys().next_back().map_or(0, |chunk| chunk / PAGE_CHUNKS + 1);
        let pages = (0..last).filter(|page| self.used_of(*page) > 0).count();
        // And the headers of all pages there ever were.
        let bookkeeping = 2 * 64 * (CHUNKS_MAX / PAGE_CHUNKS as usize + 4);
        let bytes = self.pool.memory_bytes();
        assert!(bytes <= pages * PAGE_CHUNKS as usize * CHUNK_BYTES + bookkeeping, "{bytes} bytes for {pages} pages");
    }

    fn used_of(&self, page: u32) -> usize {
        self.chunks.range(page * PAGE_CHUNKS..(page + 1) * PAGE_CHUNKS).count()
    }

    fn validate(&self) {
        self.pool.validate(self.chunks.len());
        for (chunk, kept) in &self.chunks {
            let held = kept.keys.iter().skip(kept.first);
            assert!(self.pool.keys(*chunk).iter().eq(held.clone().map(|(key, _)| key)), "the keys of a chunk");
            let header = self.pool.header(*chunk);
            for (_, deadline) in held {
                assert!(deadline.abs_diff(header.deadline) <= header.spread(), "a deadline is within the spread");
            }
        }
    }
}
