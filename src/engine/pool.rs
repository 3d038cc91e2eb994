//! The memory of the keys: chunks of 31 fingerprints, in pages of 512 chunks.
//!
//! A key's *slot number* is `chunk * 32 + position`, so 32 bits name any key:
//!
//! ```text
//! slot number   | page (18) | chunk in page (9) | position (5): 0 ..= 30 |
//! chunk, 512 B  | header, 16 B | key 0 | key 1 | ... | key 30 |
//!
//! keys of a chunk   0 .. first   first .. len   len .. 31
//!                   evicted or   held, or a     free
//!                   moved away   hole
//! ```
//!
//! Chunks are allocated from the lowest page that has a free one. After a burst the pages above
//! become empty and can be freed.

use super::arch::prefetch;
use crate::Fingerprint;

/// Keys in a chunk.
pub(crate) const CHUNK_KEYS: u8 = 31;
/// No chunk.
pub(crate) const NONE: u32 = u32::MAX;

const SLOT_BITS: u32 = 5;
const PAGE_BITS: u32 = 9;
const PAGE_CHUNKS: u32 = 1 << PAGE_BITS;
/// Pages that one call of `shrink` looks at.
const PAGES_PER_SHRINK: usize = 256;
/// A slot number can name every chunk. A cache holds at most 2^31 keys, expired ones included.
/// Holes come on top, but each new key reclaims two expired keys or holes, so keys and holes
/// together are no more. Each of the wheel's 2 * 19 * 1024 slots has at most two chunks that are
/// not full.
const _: () = assert!((1 << 31) / CHUNK_KEYS as u64 + 2 * 2 * 19 * 1024 < (1 << (32 - SLOT_BITS)) - 1);

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Header {
    /// The deadline of the first key that was stored in the chunk.
    pub(crate) deadline: u64,
    /// The next chunk of the chain, or of the page's free list.
    pub(crate) next: u32,
    /// Positions below this hold no key any more.
    pub(crate) first: u8,
    /// Positions from this on are free.
    pub(crate) len: u8,
    /// The wheel level of the chunk. Level and deadline together name the wheel slot.
    pub(crate) level: u8,
    /// How far deadlines differ from that of the first key:
    ///
    /// ```text
    /// bit   7                        6 .. 0
    ///       some key was overdue     n: each differs by less than 2^n
    /// ```
    ///
    /// An overdue key was stored with the watermark instead of its own deadline, which was earlier.
    spread: u8,
}

const HAS_OVERDUE: u8 = 0x80;

impl Header {
    /// The most by which a deadline can differ from the first one.
    pub(crate) fn spread(&self) -> u64 {
        let bits = self.spread & !HAS_OVERDUE;
        1u64.checked_shl(bits.into()).map_or(u64::MAX, |power| power - 1)
    }

    #[inline(always)]
    fn widen(&mut self, distance: u64) {
        let bits = u64::BITS - distance.leading_zeros();
        self.spread = (self.spread & HAS_OVERDUE) | (self.spread & !HAS_OVERDUE).max(bits as u8);
    }

    pub(crate) fn has_overdue(&self) -> bool {
        self.spread & HAS_OVERDUE != 0
    }

    pub(crate) fn note_overdue(&mut self) {
        self.spread |= HAS_OVERDUE;
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk {
    header: Header,
    keys: [Fingerprint; CHUNK_KEYS as usize],
}

const _: () = assert!(size_of::<Chunk>() == 512);

struct Page {
    /// Grows to `PAGE_CHUNKS` within the capacity reserved at first. No capacity: the page was
    /// freed.
    chunks: Vec<Chunk>,
    /// The free list: freed chunks, linked by their headers.
    free: u32,
    used: u32,
}

pub(crate) struct Pool {
    pages: Vec<Page>,
    /// One bit for each page that has a free chunk.
    open: Vec<u64>,
    /// No page below this has a free chunk.
    lowest_open: usize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { pages: Vec::new(), open: Vec::new(), lowest_open: 0 }
    }

    #[inline(always)]
    pub(crate) fn key(&self, slot: u32) -> Fingerprint {
        self.chunk(chunk_of(slot)).keys[position_of(slot) as usize]
    }

    /// The keys of a chunk, holes included.
    #[inline(always)]
    pub(crate) fn keys(&self, chunk: u32) -> &[Fingerprint] {
        let Chunk { header, keys } = self.chunk(chunk);
        keys.get(header.first.into()..header.len.into()).unwrap_or_default()
    }

    #[inline(always)]
    pub(crate) fn header(&self, chunk: u32) -> &Header {
        &self.chunk(chunk).header
    }

    #[inline(always)]
    pub(crate) fn header_mut(&mut self, chunk: u32) -> &mut Header {
        &mut self.chunk_mut(chunk).header
    }

    /// Appends a key to a chunk and returns its slot number; `None` if the chunk is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, chunk: u32, key: &Fingerprint, deadline: u64) -> Option<u32> {
        let Chunk { header, keys } = self.chunk_mut(chunk);
        let position = header.len;
        *keys.get_mut(usize::from(position))? = *key;
        header.len = position + 1;
        header.widen(deadline.abs_diff(header.deadline));
        Some(slot_at(chunk, position))
    }

    /// Begins to append keys to a chunk. `NONE` counts as a full one.
    #[inline]
    pub(crate) fn fill(&mut self, chunk: u32) -> Filling<'_> {
        if chunk == NONE {
            return Filling { header: None, free: [].iter_mut(), slot: 0, deadline: 0, distances: 0 };
        }
        let Chunk { header, keys } = self.chunk_mut(chunk);
        let free = keys.get_mut(usize::from(header.len)..).unwrap_or_default().iter_mut();
        let (slot, deadline) = (slot_at(chunk, header.len), header.deadline);
        Filling { header: Some(header), free, slot, deadline, distances: 0 }
    }

    /// Replaces the key at `slot` by the one from `stood_at`.
    pub(crate) fn replace(&mut self, slot: u32, key: Fingerprint, stood_at: u32) {
        let from = *self.header(chunk_of(stood_at));
        let into = self.chunk_mut(chunk_of(slot));
        into.keys[usize::from(position_of(slot))] = key;
        into.header.widen(from.deadline.abs_diff(into.header.deadline).saturating_add(from.spread()));
        into.header.spread |= from.spread & HAS_OVERDUE;
    }

    /// Allocates a chunk for keys of one wheel slot; `deadline` is that of the first.
    pub(crate) fn allocate(&mut self, deadline: u64, level: u8) -> u32 {
        let page = self.lowest_open_page().unwrap_or_else(|| self.add_page());
        self.lowest_open = page;
        let header = Header { deadline, next: NONE, first: 0, len: 0, level, spread: 0 };
        let chunk = self.pages[page].take(header);
        if self.pages[page].used == PAGE_CHUNKS {
            self.open[page / 64] &= !(1 << (page % 64));
        }
        (page as u32) << PAGE_BITS | chunk
    }

    pub(crate) fn free(&mut self, chunk: u32) {
        let page = (chunk >> PAGE_BITS) as usize;
        let into = &mut self.pages[page];
        let within = chunk & (PAGE_CHUNKS - 1);
        into.chunks[within as usize].header.next = into.free;
        into.free = within;
        into.used -= 1;
        self.open[page / 64] |= 1 << (page % 64);
        self.lowest_open = self.lowest_open.min(page);
    }

    /// Prefetches a key and the header of its chunk. A duplicate's age is computed from the header.
    #[inline(always)]
    pub(crate) fn prefetch_key(&self, slot: u32) {
        let chunk = self.chunk(chunk_of(slot));
        prefetch(&chunk.header);
        prefetch(&chunk.keys[position_of(slot) as usize]);
    }

    /// Prefetches all cache lines of a chunk.
    #[inline]
    pub(crate) fn prefetch_chunk(&self, chunk: u32) {
        let chunk = self.chunk(chunk);
        prefetch(&chunk.header);
        for key in chunk.keys.iter().skip(3).step_by(4) {
            prefetch(key);
        }
    }

    /// Frees the next empty page from `cursor` on; `false` at the end of the pages. Looks at a
    /// bounded number of them.
    pub(crate) fn shrink(&mut self, cursor: &mut usize) -> bool {
        let first = (*cursor).min(self.pages.len());
        for page in self.pages[first..].iter_mut().take(PAGES_PER_SHRINK) {
            *cursor += 1;
            if page.used == 0 && page.chunks.capacity() > 0 {
                *page = Page::EMPTY;
                break;
            }
        }
        *cursor < self.pages.len()
    }

    /// Prefetches the header of a key's chunk.
    #[inline(always)]
    pub(crate) fn prefetch_header(&self, slot: u32) {
        prefetch(&self.chunk(chunk_of(slot)).header);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let chunks: usize = self.pages.iter().map(|page| page.chunks.len()).sum();
        chunks * size_of::<Chunk>() + self.pages.capacity() * size_of::<Page>() + self.open.capacity() * 8
    }

    /// Checks the free lists and bits, and that exactly `used` chunks are in use.
    pub(crate) fn validate(&self, used: usize) {
        assert_eq!(self.pages.iter().map(|page| page.used as usize).sum::<usize>(), used, "chunks in use");
        for (number, page) in self.pages.iter().enumerate() {
            let mut free = 0;
            let mut next = page.free;
            while next != NONE {
                free += 1;
                next = page.chunks[next as usize].header.next;
            }
            assert_eq!(page.used as usize + free, page.chunks.len(), "page {number}: free list");
            let is_open = self.open[number / 64] >> (number % 64) & 1 == 1;
            assert_eq!(is_open, page.used < PAGE_CHUNKS, "page {number}: open bit");
            assert!(!is_open || number >= self.lowest_open, "page {number}: below the lowest open page");
        }
    }

    #[inline(always)]
    fn chunk(&self, chunk: u32) -> &Chunk {
        &self.pages[(chunk >> PAGE_BITS) as usize].chunks[(chunk & (PAGE_CHUNKS - 1)) as usize]
    }

    #[inline(always)]
    fn chunk_mut(&mut self, chunk: u32) -> &mut Chunk {
        &mut self.pages[(chunk >> PAGE_BITS) as usize].chunks[(chunk & (PAGE_CHUNKS - 1)) as usize]
    }

    fn lowest_open_page(&self) -> Option<usize> {
        let first = self.lowest_open / 64;
        let words = self.open.iter().enumerate().skip(first);
        words.filter(|(_, word)| **word != 0).map(|(at, word)| at * 64 + word.trailing_zeros() as usize).next()
    }

    fn add_page(&mut self) -> usize {
        let page = self.pages.len();
        if page.is_multiple_of(64) {
            self.open.push(0);
        }
        self.open[page / 64] |= 1 << (page % 64);
        self.pages.push(Page::EMPTY);
        page
    }
}

/// Appends keys to one chunk. The chunk's header is updated once, when this is dropped.
pub(crate) struct Filling<'a> {
    header: Option<&'a mut Header>,
    free: std::slice::IterMut<'a, Fingerprint>,
    /// The slot number of the next key.
    slot: u32,
    /// The header's deadline.
    deadline: u64,
    /// The bitwise OR of all distances from it: as many bits as the greatest one has.
    distances: u64,
}

impl Filling<'_> {
    /// Appends a key and returns its slot number; `None` if the chunk is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, key: &Fingerprint, deadline: u64) -> Option<u32> {
        *self.free.next()? = *key;
        self.distances |= deadline.abs_diff(self.deadline);
        self.slot += 1;
        Some(self.slot - 1)
    }
}

impl Drop for Filling<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(header) = &mut self.header {
            header.len = CHUNK_KEYS - self.free.len() as u8;
            header.widen(self.distances);
        }
    }
}

impl Page {
    const EMPTY: Self = Self { chunks: Vec::new(), free: NONE, used: 0 };

    fn take(&mut self, header: Header) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let within = self.free;
            let chunk = &mut self.chunks[within as usize];
            self.free = chunk.header.next;
            chunk.header = header;
            return within;
        }
        if self.chunks.capacity() == 0 {
            // Reserves address space for the whole page, so that it never moves. The system
            // provides memory when a chunk is first written.
            self.chunks.reserve_exact(PAGE_CHUNKS as usize);
        }
        self.chunks.push(Chunk { header, keys: [Fingerprint([0; 2]); CHUNK_KEYS as usize] });
        self.chunks.len() as u32 - 1
    }
}

#[inline(always)]
pub(crate) fn chunk_of(slot: u32) -> u32 {
    slot >> SLOT_BITS
}

#[inline(always)]
pub(crate) fn position_of(slot: u32) -> u8 {
    (slot & ((1 << SLOT_BITS) - 1)) as u8
}

#[inline(always)]
pub(crate) fn slot_at(chunk: u32, position: u8) -> u32 {
    chunk << SLOT_BITS | u32::from(position)
}
