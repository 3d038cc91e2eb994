//! Where the keys live: chunks of 31 fingerprints in pages of 512 chunks.
//!
//! A key's *slot number* is `chunk * 32 + position`, so that 32 bits name any key:
//!
//! ```text
//! slot number   | page (18) | chunk in page (9) | position (5): 0 ..= 30 |
//! chunk, 512 B  | header, 16 B | key 0 | key 1 | ... | key 30 |
//! ```
//!
//! Chunks come from the lowest page that has a free one, so that the pages above empty out after a burst and can be
//! given back.

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
/// A slot number names any chunk there can be: 2^31 keys in full chunks, twice as many while the dead of a whole cache
/// wait to be reclaimed, less those that each new key reclaims; and two chunks that are not full in each of the wheel's
/// 2 * 19 * 1024 slots.
const _: () = assert!((1 << 31) / CHUNK_KEYS as u64 + 2 * 2 * 19 * 1024 < (1 << (32 - SLOT_BITS)) - 1);

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Header {
    /// The deadline of the key that came first.
    pub(crate) deadline: u64,
    /// The next chunk of the chain, or of the page's free list.
    pub(crate) next: u32,
    /// Positions below this were evicted.
    pub(crate) first: u8,
    /// Positions from here on are not filled yet.
    pub(crate) len: u8,
    /// The wheel level that the chunk belongs to; with the deadline, it tells the wheel slot.
    pub(crate) level: u8,
    /// The other keys' deadlines differ from the first one's by less than 2 to the power of this, but for its highest bit:
    /// that says that some key's deadline was over when it came, and was moved up.
    spread: u8,
}

const HAS_OVERDUE: u8 = 0x80;

impl Header {
    /// How far the other keys' deadlines may be from the first one's.
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
    /// Grows to `PAGE_CHUNKS` within the capacity that it was made with; no capacity: the page was given back.
    chunks: Vec<Chunk>,
    /// Chunks that were freed, linked by their headers.
    free: u32,
    used: u32,
}

pub(crate) struct Pool {
    pages: Vec<Page>,
    /// One bit for each page that has room.
    open: Vec<u64>,
    /// No page below has room.
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

    /// The keys of a chunk that were not evicted.
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

    /// Appends a key to a chunk; its slot number, or `None` if the chunk is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, chunk: u32, key: &Fingerprint, deadline: u64) -> Option<u32> {
        let Chunk { header, keys } = self.chunk_mut(chunk);
        let position = header.len;
        *keys.get_mut(usize::from(position))? = *key;
        header.len = position + 1;
        header.widen(deadline.abs_diff(header.deadline));
        Some(slot_at(chunk, position))
    }

    /// Begins to append keys to a chunk; if it is `NONE`, to one that is full.
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

    /// Puts a key that stood at another slot number in the place of one that is gone.
    pub(crate) fn replace(&mut self, slot: u32, key: Fingerprint, stood_at: u32) {
        let from = *self.header(chunk_of(stood_at));
        let into = self.chunk_mut(chunk_of(slot));
        into.keys[usize::from(position_of(slot))] = key;
        into.header.widen(from.deadline.abs_diff(into.header.deadline).saturating_add(from.spread()));
        into.header.spread |= from.spread & HAS_OVERDUE;
    }

    /// A chunk for keys of one wheel slot; `deadline` is the first one's.
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

    /// Touches a key and the header of its chunk, which tells a duplicate's age.
    #[inline(always)]
    pub(crate) fn prefetch_key(&self, slot: u32) {
        let chunk = self.chunk(chunk_of(slot));
        prefetch(&chunk.header);
        prefetch(&chunk.keys[position_of(slot) as usize]);
    }

    /// Touches all lines of a chunk.
    #[inline]
    pub(crate) fn prefetch_chunk(&self, chunk: u32) {
        let chunk = self.chunk(chunk);
        prefetch(&chunk.header);
        for key in chunk.keys.iter().skip(3).step_by(4) {
            prefetch(key);
        }
    }

    /// Gives back the next page from `cursor` on that holds nothing, looking at a bounded number of them; `false` at the
    /// end.
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

    /// Touches the header of a key's chunk.
    #[inline(always)]
    pub(crate) fn prefetch_header(&self, slot: u32) {
        prefetch(&self.chunk(chunk_of(slot)).header);
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let chunks: usize = self.pages.iter().map(|page| page.chunks.len()).sum();
        chunks * size_of::<Chunk>() + self.pages.capacity() * size_of::<Page>() + self.open.capacity() * 8
    }

    /// Checks the free lists, and that exactly `used` chunks are in use.
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

/// Appends keys to one chunk, of which the header hears in the end.
pub(crate) struct Filling<'a> {
    header: Option<&'a mut Header>,
    free: std::slice::IterMut<'a, Fingerprint>,
    /// The next key's slot number.
    slot: u32,
    /// The first key's.
    deadline: u64,
    /// How far the others' are from that: each bit that one distance has.
    distances: u64,
}

impl Filling<'_> {
    /// Appends a key; its slot number, or `None` if the chunk is full.
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
            // Address space for the whole page at once, so that it never moves; memory as it is first written.
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
