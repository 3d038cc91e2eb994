//! Replays the inputs that the fuzzer found worth keeping, and altered copies of them, the same in
//! every run. So every change is fuzzed a little without a fuzzer, and no run fails by chance.

use std::panic::catch_unwind;
use std::path::Path;

/// Altered copies of each kept input, unless `ONCEWHEEL_ALTERED` is set.
const ALTERED: u64 = 20;

pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    // Beside the package or above it; the published package has none.
    let mut dirs = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("fuzz"));
    let Some(fuzz) = dirs.find(|fuzz| fuzz.exists()) else { return };
    let files = std::fs::read_dir(fuzz.join("corpus").join(target)).unwrap().map(|file| file.unwrap().path());
    let mut kept: Vec<_> = files.map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    kept.sort_by(|(_, one), (_, other)| one.cmp(other));
    assert!(!kept.is_empty(), "a corpus is kept");
    let altered = std::env::var("ONCEWHEEL_ALTERED").ok().and_then(|count| count.parse().ok()).unwrap_or(ALTERED);
    let mut random = Random(0);
    for (bytes, path) in &kept {
        assert!(catch_unwind(|| run(bytes)).is_ok(), "{}", path.display());
        for _ in 0..altered {
            let mut bytes = bytes.clone();
            let (other, _) = &kept[random.below(kept.len())];
            (0..=random.below(4)).for_each(|_| random.alter(&mut bytes, other));
            assert!(catch_unwind(|| run(&bytes)).is_ok(), "{}, altered: {bytes:?}", path.display());
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    /// Changes a byte, removes some, doubles some, or inserts some of another input.
    fn alter(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(5) {
            0 if at < end => bytes[at] = self.below(256) as u8,
            1 if at < end => bytes[at] ^= 1 << self.below(8),
            2 if at < end => drop(bytes.drain(at..end)),
            3 if at < end => bytes.extend_from_within(at..end),
            _ => {
                let from = self.below(other.len());
                let to = (from + 1 + self.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
}
