//! One cache line of the index.

use crate::engine::arch::{LANES, Lanes, lanes_equal};

/// Twelve keys' tags and slot numbers, and how many keys had to go further:
///
/// ```text
/// byte   0 ..= 11       12 ..= 15            16 ..= 63
///        tags, 0: free  overflow, u32 (LE)   slot numbers, u32 each
/// ```
///
/// The overflow count (F14 of Facebook's Folly) is the number of keys in the table that passed this bucket because it
/// was full. A search ends at a bucket with none, and removals take the counts back, so there are no tombstones.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    control: [u8; 16],
    slots: [u32; LANES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

pub(crate) const FREE: u8 = 0;

impl Bucket {
    pub(crate) const EMPTY: Self = Self { control: [0; 16], slots: [0; LANES] };

    #[inline(always)]
    pub(crate) fn with_tag(&self, tag: u8) -> Lanes {
        lanes_equal(&self.control, tag)
    }

    #[inline(always)]
    pub(crate) fn slot(&self, lane: usize) -> u32 {
        self.slots[lane]
    }

    #[inline(always)]
    pub(crate) fn tag(&self, lane: usize) -> u8 {
        self.control[lane]
    }

    /// The slot numbers of its keys.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = u32> + '_ {
        (0..LANES).filter(|lane| self.control[*lane] != FREE).map(|lane| self.slots[lane])
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, lane: usize, tag: u8, slot: u32) {
        self.control[lane] = tag;
        self.slots[lane] = slot;
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self, lane: usize) {
        self.control[lane] = FREE;
    }

    #[inline(always)]
    pub(crate) fn overflow(&self) -> u32 {
        let [.., a, b, c, d] = self.control;
        u32::from_le_bytes([a, b, c, d])
    }

    /// A table holds fewer than 2^32 keys, so the count fits.
    #[inline]
    pub(crate) fn add_overflow(&mut self, change: i32) {
        let overflow = self.overflow().wrapping_add_signed(change);
        self.control[LANES..].copy_from_slice(&overflow.to_le_bytes());
    }
}
