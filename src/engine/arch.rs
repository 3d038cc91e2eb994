//! Processor instructions that plain Rust does not reach: the only unsafe code of the crate.
//!
//! Each function has a portable version, which tests hold equal. `--cfg oncewheel_portable` selects
//! it on all processors.
#![cfg_attr(all(target_arch = "x86_64", not(oncewheel_portable)), allow(unsafe_code))]

/// Bytes that `lanes_equal` compares.
pub(crate) const LANES: usize = 12;

/// A set of lanes, one bit each, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes(u32);

impl Iterator for Lanes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let lane = (self.0 != 0).then(|| self.0.trailing_zeros() as usize);
        self.0 &= self.0.wrapping_sub(1);
        lane
    }
}

/// The lanes among the first `LANES` bytes that equal `wanted`.
#[inline(always)]
pub(crate) fn lanes_equal(bytes: &[u8; 16], wanted: u8) -> Lanes {
    Lanes(bytes_equal(bytes, wanted) & ((1 << LANES) - 1))
}

/// Which bytes equal `wanted`, one bit each, lowest first.
#[inline(always)]
pub(crate) fn bytes_equal(bytes: &[u8; 16], wanted: u8) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(oncewheel_portable)))]
    let equal = bytes_equal_sse2(bytes, wanted);
    #[cfg(any(oncewheel_portable, not(target_arch = "x86_64")))]
    let equal = bytes_equal_portable(bytes, wanted);
    equal
}

#[cfg(all(target_arch = "x86_64", not(oncewheel_portable)))]
#[inline(always)]
fn bytes_equal_sse2(bytes: &[u8; 16], wanted: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi32};
    // Cheaper than `_mm_set1_epi8`, which SSE2 has no single instruction for.
    let wanted = u32::from(wanted) * 0x0101_0101;
    // SAFETY: SSE2 is part of x86_64. The load reads 16 bytes at any alignment. The reference
    // guarantees that these 16 bytes are readable.
    let equal = unsafe {
        let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi32(wanted.cast_signed())))
    };
    equal.cast_unsigned()
}

#[cfg(any(test, oncewheel_portable, not(target_arch = "x86_64")))]
#[inline(always)]
fn bytes_equal_portable(bytes: &[u8; 16], wanted: u8) -> u32 {
    bytes.iter().enumerate().fold(0, |equal, (at, byte)| equal | u32::from(*byte == wanted) << at)
}

/// Starts to load the cache line at which `line` begins. Affects nothing but speed.
#[inline(always)]
pub(crate) fn prefetch<T>(line: &T) {
    #[cfg(all(target_arch = "x86_64", not(oncewheel_portable)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86_64. A prefetch has no effect that a program can observe, and
        // it faults on no address. Besides, this address comes from a live reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) }
    }
    #[cfg(any(oncewheel_portable, not(target_arch = "x86_64")))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_versions_find_the_lanes_that_are_equal(any: [u8; 16], few in proptest::array::uniform16(0u8..3), wanted: u8) {
            for (bytes, wanted) in [(&any, wanted), (&few, wanted % 3)] {
                let expected: Vec<usize> = (0..LANES).filter(|lane| bytes[*lane] == wanted).collect();
                prop_assert_eq!(lanes_equal(bytes, wanted).collect::<Vec<_>>(), expected);
                let expected = (0..16).filter(|at| bytes[*at] == wanted).map(|at| 1 << at).sum::<u32>();
                prop_assert_eq!(bytes_equal(bytes, wanted), expected);
                prop_assert_eq!(bytes_equal_portable(bytes, wanted), expected);
            }
        }
    }

    /// Every tag in every lane, among tags that differ from it in one bit, and at every alignment.
    /// The 16 bytes are the last of their allocation, so that a load beyond them can be noticed.
    #[test]
    fn both_versions_agree_on_every_tag_in_every_lane_at_every_alignment() {
        for offset in 0..16 {
            for wanted in 0..=u8::MAX {
                for lane in 0..16 {
                    let mut bytes = vec![wanted ^ 1 << (lane % 8); offset + 16].into_boxed_slice();
                    bytes[offset + lane] = wanted;
                    let bytes: &[u8; 16] = bytes[offset..].try_into().expect("16 bytes");
                    assert_eq!(bytes_equal(bytes, wanted), 1 << lane);
                    assert_eq!(bytes_equal_portable(bytes, wanted), 1 << lane);
                }
            }
        }
    }
}
