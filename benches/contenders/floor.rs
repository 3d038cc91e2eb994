//! A lower bound for any exact cache of this size, set by the memory of this machine.

use super::{Contender, Delivery};
use oncewheel::Timestamp;

/// Keys in a cache line of the index, on average, between two growths of its partition.
const KEYS_PER_LINE: f64 = 5.85;
/// Keys whose lines are prefetched before the first is used.
const GROUP: usize = 32;

/// Reads and writes one random cache line for each key that enters, and one for each that leaves,
/// over as many lines as oncewheel's index has. Stores no key.
pub(super) struct Floor {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

impl Floor {
    pub(super) fn new(live: usize) -> Self {
        // Not zeros: until they are written, the system would map them to one shared page.
        Self { lines: vec![Line([1; 8]); (live as f64 / KEYS_PER_LINE).ceil() as usize] }
    }

    /// The line of a key, by half of its bits.
    fn line(&self, bits: u128) -> usize {
        ((u128::from(bits as u64) * self.lines.len() as u128) >> 64) as usize
    }
}

impl Contender for Floor {
    fn observe(&mut self, _: Timestamp) {}

    fn take(&mut self, deliveries: &[Delivery]) -> usize {
        let mut wanted = [[0; 2]; GROUP];
        for group in deliveries.chunks(GROUP) {
            for (wanted, (key, _)) in wanted.iter_mut().zip(group) {
                *wanted = [self.line(key.as_u128()), self.line(key.as_u128() >> 64)];
                wanted.iter().for_each(|line| prefetch(&self.lines[*line]));
            }
            for line in wanted[..group.len()].as_flattened() {
                let Line(words) = &mut self.lines[*line];
                words[0] = words[0].wrapping_add(words[7]);
            }
        }
        0
    }

    fn held(&self) -> usize {
        0
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a prefetch has no safe form; the floor must not wait for each line in turn")]
fn prefetch(line: &Line) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86_64. A prefetch changes nothing that a program can see, and faults
    // on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_: &Line) {}
