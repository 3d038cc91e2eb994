//! A journal of any bytes.

use super::disk::{Disk, Simulated};
use crate::journal::OpenOptions;
use crate::journal::record::{FRAME_HEADER_BYTES, Frames, HEADER_BYTES, Header, Item, checksum, encode_frame};
use crate::{Clock, Config, Fingerprint, Horizon, Timestamp, unsync::DedupCache};
use std::time::Duration;

/// Any bytes, and the same with checksums that are right: few get past those by chance.
pub fn journal_decode(bytes: &[u8]) {
    check_items(bytes);
    let mut fixed = bytes.to_vec();
    fix_checksums(&mut fixed);
    check_items(&fixed);
}

fn fix_checksums(bytes: &mut [u8]) {
    let mut at = HEADER_BYTES;
    while let Some((header, rest)) = bytes.get_mut(at..).and_then(|rest| rest.split_at_mut_checked(FRAME_HEADER_BYTES))
    {
        let length = usize::from(header[24]).min(rest.len());
        header[4..8].copy_from_slice(&checksum(0, &rest[..length]).to_le_bytes());
        let of_header = checksum(0, &header[4..]);
        header[..4].copy_from_slice(&of_header.to_le_bytes());
        at += FRAME_HEADER_BYTES + length;
    }
}

/// Frames and damage cover all bytes, in order, and what passes for a frame is one.
fn check_items(bytes: &[u8]) {
    let salt = Header::decode(bytes).map_or(0, |header| header.salt);
    let start = HEADER_BYTES.min(bytes.len());
    let mut covered = start;
    for item in Frames::new(bytes, start, salt) {
        match item {
            Item::Damage { offset, bytes } => {
                assert!(offset == covered && bytes > 0);
                covered += bytes;
            }
            Item::Frame(frame) => {
                let mut again = Vec::new();
                encode_frame(salt, &frame.mark, frame.contents(), &mut again);
                let there = &bytes[covered..covered + frame.bytes()];
                // The last byte of a header means nothing.
                assert!(again == there || there[31] != 0);
                covered += frame.bytes();
            }
        }
    }
    assert_eq!(covered, bytes.len());
}

/// A journal with some keys is damaged as `script` says, and opened: no key is invented, and opening it again finds the
/// same. Each six bytes of the script are a place, what to do there, and with what.
pub fn journal_open(script: &[u8]) {
    const KEYS: u128 = 40;
    let storage = Simulated::default();
    let mut cache = open(&storage).expect("an empty disk");
    for key in 0..KEYS {
        let _ = cache.insert(Fingerprint::from_u128(key), Timestamp::from_millis(10_000)).expect("room");
        if key % 7 == 3 {
            cache.remove(Fingerprint::from_u128(key - 1)).expect("a disk that works");
        }
    }
    drop(cache);
    let mut files = storage.disk().contents();
    for step in script.chunks_exact(6) {
        let names: Vec<_> = files.keys().filter(|name| *name != "secret").cloned().collect();
        let place = usize::from(u16::from_le_bytes([step[1], step[2]]));
        let Some(file) = files.get_mut(&names[usize::from(step[0]) % names.len()]) else { continue };
        let (at, with) = (place % file.len().max(1), usize::from(step[4]));
        match step[3] % 5 {
            0 => file.truncate(at),
            1 => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= step[5]),
            2 => file.extend(std::iter::repeat_n(step[5], with)),
            3 => file.extend_from_within(at..(at + with).min(file.len())),
            _ => drop(file.drain(at..(at + with).min(file.len()))),
        }
    }
    let storage = Simulated::on(Disk::of(files));
    let Ok(cache) = open(&storage) else { return };
    let held = |cache: &DedupCache| -> Vec<u128> {
        (0..2 * KEYS).filter(|key| cache.holds(Fingerprint::from_u128(*key))).collect()
    };
    let first = held(&cache);
    assert!(first.iter().all(|key| *key < KEYS) && first.len() == cache.len(), "no key is invented");
    cache.validate();
    drop(cache);
    let again = open(&storage).expect("it was opened before");
    assert_eq!(held(&again), first);
    assert!(
        again.recovery().is_some_and(|recovery| recovery.damage.iter().all(|damage| damage.quarantined_in.is_none()))
    );
}

fn open(storage: &Simulated) -> Result<DedupCache, crate::Error> {
    let horizon = Horizon::new(Duration::from_secs(1), Duration::from_secs(1));
    let config = Config::new(horizon).clock(Clock::Manual).max_keys(64).secret([7; 16]);
    DedupCache::open_in(|| Ok(storage.boxed()), config, OpenOptions::new())
}
