//! One cache line of the index.

use crate::Fingerprint;
use crate::engine::arch::{LANES, Lanes, bytes_equal, lanes_equal};
use crate::engine::pool::Pool;

/// The tags and slot numbers of twelve keys, and the number of keys that had to go further:
///
/// ```text
/// byte   0 ..= 11       12 ..= 15            16 ..= 63
///        tags, 0: free  overflow, u32 (LE)   slot numbers, u32 each
/// ```
///
/// The overflow count is that of F14 (Facebook's Folly): the number of keys in the table that
/// passed this bucket because it was full. A search ends at a bucket whose count is 0. Removals
/// decrement the counts, so there are no tombstones.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    control: [u8; 16],
    slots: [u32; LANES],
}

const _: () = assert!(size_of::<Bucket>() == 64);

pub(super) const FREE: u8 = 0;

impl Bucket {
    pub(crate) const EMPTY: Self = Self { control: [0; 16], slots: [0; LANES] };

    /// The slot number of a key in this bucket.
    #[inline(always)]
    pub(crate) fn find(&self, tag: u8, key: Fingerprint, pool: &Pool) -> Option<u32> {
        for lane in self.lanes_with(tag) {
            let slot = self.slots[lane];
            pool.prefetch_header(slot); // needed next, for the age of a duplicate
            if pool.key(slot) == key {
                return Some(slot);
            }
        }
        None
    }

    /// The first slot number with this tag.
    #[inline(always)]
    pub(crate) fn candidate(&self, tag: u8) -> Option<u32> {
        self.lanes_with(tag).next().map(|lane| self.slots[lane])
    }

    /// A free lane, if this bucket alone proves that no key with this tag is in the table: no lane
    /// has the tag, and no key has gone further.
    #[inline(always)]
    pub(crate) fn vacancy(&self, tag: u8) -> Option<usize> {
        let free = bytes_equal(&self.control, FREE);
        // One comparison for both conditions: bits 12 to 15 are those of the overflow count's
        // bytes, and all of them are set if the count is 0. Then `free` is greater than these four
        // bits exactly if a lane is free.
        let has_a_lane_and_no_overflow = free > 0xffff << LANES & 0xffff;
        (has_a_lane_and_no_overflow && bytes_equal(&self.control, tag) == 0).then(|| free.trailing_zeros() as usize)
    }

    /// Fills a free lane.
    #[inline(always)]
    pub(crate) fn fill(&mut self, lane: usize, tag: u8, slot: u32) {
        self.control[lane] = tag;
        self.slots[lane] = slot;
    }

    /// Adds an entry if a lane is free.
    #[inline(always)]
    pub(crate) fn try_add(&mut self, tag: u8, slot: u32) -> bool {
        let Some(lane) = self.lanes_with(FREE).next() else { return false };
        self.fill(lane, tag, slot);
        true
    }

    /// Removes the entry of a slot number if it is in this bucket.
    #[inline(always)]
    pub(crate) fn try_remove(&mut self, tag: u8, slot: u32) -> bool {
        let Some(lane) = self.lanes_with(tag).find(|lane| self.slots[*lane] == slot) else { return false };
        self.control[lane] = FREE;
        true
    }

    /// Changes an entry to another slot number if it is in this bucket.
    pub(crate) fn try_repoint(&mut self, tag: u8, from: u32, to: u32) -> bool {
        let lane = self.lanes_with(tag).find(|lane| self.slots[*lane] == from);
        lane.is_some_and(|lane| {
            self.slots[lane] = to;
            true
        })
    }

    /// Tags and slot numbers.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (u8, u32)> + '_ {
        let lanes = self.control.iter().zip(&self.slots).map(|(tag, slot)| (*tag, *slot));
        lanes.filter(|(tag, _)| *tag != FREE)
    }

    #[inline(always)]
    fn lanes_with(&self, tag: u8) -> Lanes {
        lanes_equal(&self.control, tag)
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
