//! Damaged segments: no key is invented, and every whole frame is read.

use super::*;
use crate::journal::{self, Damage, OpenMode};

const KEYS_PER_FRAME: usize = 16;
const SEGMENT_BYTES: usize = 16 << 10;

/// A disk with one full segment, its name, and the number of its frames.
fn filled() -> (Disk, String, usize) {
    let storage = Simulated::default();
    let mut cache = open(&storage, OpenMode::Recover).unwrap();
    let mut frames = 0;
    loop {
        let entries = frame(frames).map(|key| (Fingerprint::from_u128(key), Timestamp::from_millis(10_000)));
        cache.insert_batch(&entries.collect::<Vec<_>>(), &mut Vec::new()).unwrap();
        frames += 1;
        let next_bytes = cache.stats().journal_bytes as usize + KEYS_PER_FRAME * 24 + 32;
        if next_bytes > SEGMENT_BYTES {
            break;
        }
    }
    drop(cache);
    let disk = storage.disk().at_rest();
    let names = segments(&disk);
    assert_eq!(names.len(), 1);
    (disk, names[0].clone(), frames)
}

fn frame(number: usize) -> impl Iterator<Item = u128> {
    (0..KEYS_PER_FRAME).map(move |at| (number * KEYS_PER_FRAME + at) as u128)
}

fn open(storage: &Simulated, mode: OpenMode) -> Result<unsync::DedupCache, Error> {
    let config = config().max_keys(4_096);
    unsync::DedupCache::open_in(|| Ok(storage.boxed()), config, OpenOptions::new().mode(mode))
}

/// Opens a disk with one segment replaced by these bytes. Returns how many frames are held, and the
/// damage. No frame may be held in part, and no other key may be held.
fn frames_of(disk: &Disk, name: &str, bytes: Vec<u8>, frames: usize) -> (usize, Vec<Damage>) {
    let mut files = disk.contents();
    files.insert(name.to_owned(), bytes);
    let cache = open(&Simulated::on(Disk::of(files)), OpenMode::Recover).unwrap();
    let mut whole = 0;
    for number in 0..frames {
        let held = frame(number).filter(|key| cache.holds(Fingerprint::from_u128(*key))).count();
        assert!(held == 0 || held == KEYS_PER_FRAME, "frame {number}: {held} keys");
        whole += usize::from(held > 0);
    }
    assert_eq!(cache.len(), whole * KEYS_PER_FRAME, "no key is invented");
    (whole, cache.recovery().unwrap().damage.clone())
}

#[test]
fn any_flipped_bit_loses_one_frame_at_most() {
    let (disk, name, frames) = filled();
    let good = disk.contents()[&name].clone();
    let mut lost = 0;
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (whole, damage) = frames_of(&disk, &name, bytes, frames);
        assert!(whole + 1 >= frames, "bit {bit}: {whole} of {frames} frames");
        assert_eq!(whole < frames, !damage.is_empty(), "bit {bit}: what is lost is reported, and nothing else");
        lost += frames - whole;
    }
    assert_eq!(lost, (good.len() - super::super::record::HEADER_BYTES) * 8, "every bit of a frame matters");
}

#[test]
fn any_truncation_leaves_the_frames_before_it() {
    let (disk, name, frames) = filled();
    let good = disk.contents()[&name].clone();
    let (header, frame) = (super::super::record::HEADER_BYTES, KEYS_PER_FRAME * 24 + 32);
    for length in 0..good.len() {
        let (whole, damage) = frames_of(&disk, &name, good[..length].to_vec(), frames);
        assert_eq!(whole, length.saturating_sub(header) / frame, "{length} bytes");
        let unreadable = length - if length < header / 2 { 0 } else { (header + whole * frame).min(length) };
        assert_eq!(damage.iter().map(|damage| damage.bytes).sum::<u64>(), unreadable as u64, "{length} bytes");
    }
}

#[test]
fn a_truncated_tail_is_quarantined_other_damage_stays_and_strict_refuses_both() {
    let (disk, name, frames) = filled();
    let good = disk.contents()[&name].clone();
    for (bytes, is_tail) in [
        (good[..good.len() - 5].to_vec(), true),
        (good.iter().enumerate().map(|(at, byte)| if at == 1_000 { byte ^ 4 } else { *byte }).collect(), false),
    ] {
        let mut files = disk.contents();
        files.insert(name.clone(), bytes.clone());
        let storage = Simulated::on(Disk::of(files.clone()));
        let Err(Error::Journal(error)) = open(&storage, OpenMode::Strict) else { panic!("damaged") };
        assert_eq!(error.kind(), journal::ErrorKind::Damaged);
        assert!(error.to_string().contains("unreadable bytes at"), "{error}");
        assert_eq!(storage.disk().contents(), files, "nothing was changed");

        let cache = open(&storage, OpenMode::Recover).unwrap();
        assert_eq!(cache.len(), (frames - 1) * KEYS_PER_FRAME);
        let [damage] = &*cache.recovery().unwrap().damage else { panic!("one place") };
        let [offset, length] = [damage.offset, damage.bytes].map(|number| number as usize);
        assert_eq!(damage.quarantined_in.is_some(), is_tail);
        let after = storage.disk().contents();
        if let Some(kept) = &damage.quarantined_in {
            assert_eq!(after[kept.to_str().unwrap()], bytes[offset..offset + length]);
            assert_eq!(after[&name], bytes[..offset]);
        } else {
            assert_eq!(after[&name], bytes);
        }
        drop(cache);
        // That fixed the truncated tail. Other damage is reported again until its segment is
        // removed.
        assert_eq!(open(&storage, OpenMode::Strict).is_ok(), is_tail);
    }
}

#[test]
fn a_segment_of_a_later_version_is_refused_and_not_taken_for_damage() {
    let (disk, name, _) = filled();
    let mut files = disk.contents();
    let bytes = files.get_mut(&name).unwrap();
    for copy in bytes[..96].chunks_exact_mut(48) {
        copy[8] = 2;
        let checksum = crc32c::crc32c(&copy[..40]);
        copy[40..44].copy_from_slice(&checksum.to_le_bytes());
    }
    let Err(Error::Journal(error)) = open(&Simulated::on(Disk::of(files)), OpenMode::Recover) else { panic!("later") };
    assert_eq!(error.kind(), journal::ErrorKind::UnsupportedVersion);
}

#[test]
fn a_frame_of_another_segment_is_not_read() {
    let (disk, name, frames) = filled();
    let (other, other_name, _) = filled();
    let mut bytes = disk.contents()[&name].clone();
    let frame = KEYS_PER_FRAME * 24 + 32;
    bytes.extend_from_slice(&other.contents()[&other_name][96..96 + frame]);
    let (whole, damage) = frames_of(&disk, &name, bytes, frames);
    assert_eq!((whole, damage.len()), (frames, 1), "an old block of the file system, for example");
}
