//! The disk holds what is needed and little more.

use super::*;
use crate::engine::Held;
use crate::journal::Ops;
use crate::journal::record::{Frames, HEADER_BYTES, Header, Item, Kind};
use crate::testing::disk::Fault;
use std::io::ErrorKind;

const ENTRY_BYTES: u64 = 24;
/// `Stats::journal_bytes` promises three times the bytes of the live keys, plus this.
const SLACK: u64 = 256 << 10;

/// A cache of so many keys that holds every key it is asked for.
fn holding(len: usize) -> FixedCache {
    FixedCache { len, held: Held::Yes, watermark: 0 }
}

pub(super) fn large() -> Config {
    config().max_keys(1_000_000)
}

pub(super) fn batch(keys: impl Iterator<Item = u128>, time: u64) -> Vec<(Fingerprint, Timestamp)> {
    keys.map(|key| (Fingerprint::from_u128(key), Timestamp::from_millis(time))).collect()
}

fn disk_bytes(storage: &Simulated) -> u64 {
    let files = storage.disk().contents();
    files.iter().filter(|(name, _)| name.ends_with(".segment")).map(|(_, bytes)| bytes.len() as u64).sum()
}

on_both_fronts! {
    fn segments_are_removed_when_their_last_key_has_expired<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        for step in 0..400u64 {
            let time = 10_000 + step * 100;
            cache.put_all(&batch((0..200).map(|key| u128::from(step) * 200 + key), time), &mut Vec::new()).unwrap();
            cache.follow(time - 1_000).unwrap();
            let live = (cache.count() as u64) * ENTRY_BYTES;
            assert!(disk_bytes(&storage) <= 3 * live + SLACK, "step {step}: {} of {live}", disk_bytes(&storage));
        }
        assert!(cache.count() < 10_000, "keys expire");
        let before = segments(&storage.disk());
        cache.follow(1_000_000).unwrap();
        for _ in 0..10 {
            cache.follow(1_000_000).unwrap();
        }
        let after = segments(&storage.disk());
        assert!(after.len() <= 2 && after.iter().all(|name| !before[..before.len() - 1].contains(name)));
        drop(cache);
        let cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        assert_eq!((cache.count(), cache.progress()), (0, 1_000_000), "the watermark outlives the segments");
    }

    fn without_changes_nothing_is_rewritten<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        for step in 0..40 {
            cache.put_all(&batch(step * 500..(step + 1) * 500, 10_000), &mut Vec::new()).unwrap();
        }
        (0..20).for_each(|_| cache.follow(9_000).unwrap());
        let calls = storage.calls();
        (0..20).for_each(|_| cache.follow(9_000).unwrap());
        assert_eq!(storage.calls(), calls);
    }

    fn a_few_live_keys_do_not_keep_expired_segments<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        // One key in fifty lives long, in every segment.
        for step in 0..200u32 {
            let keys = (0..500).map(|key| u128::from(step) * 500 + key);
            let (long, short): (Vec<_>, Vec<_>) = keys.partition(|key| key % 50 == 0);
            cache.put_all(&batch(short.into_iter(), 10_000), &mut Vec::new()).unwrap();
            cache.put_all(&batch(long.into_iter(), 1_000_000), &mut Vec::new()).unwrap();
        }
        assert!(disk_bytes(&storage) > 100_000 * ENTRY_BYTES);
        for _ in 0..60 {
            cache.follow(100_000).unwrap();
        }
        assert_eq!(cache.count(), 2_000);
        let bytes = disk_bytes(&storage);
        assert!(bytes <= 3 * 2_000 * ENTRY_BYTES + SLACK, "{bytes}");
        drop(cache);
        let cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        assert_eq!(cache.count(), 2_000);
        cache.check();
    }

    fn rewriting_makes_one_frame_of_many_and_undoes_no_removal<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        for key in ["a", "b", "c", "d"] {
            let _ = cache.put(key, 10_000).unwrap();
        }
        assert!(cache.remove_key("b").unwrap());
        assert!(cache.remove_key("c").unwrap());
        assert_eq!(cache.put("c", 10_001), Ok(Verdict::Fresh));
        cache.with_writer(|writer, keys, watermark| {
            writer.seal();
            writer.rewrite_some(keys, watermark).unwrap();
        });
        assert!(cache.remove_key("d").unwrap(), "after its rewriting");
        let disk = storage.disk().contents();
        let [name] = &*segments(&storage.disk()) else { panic!("the old one is removed") };
        let bytes = &disk[name];
        let salt = Header::decode(bytes).unwrap().salt;
        let frames: Vec<_> = Frames::new(bytes, HEADER_BYTES, salt)
            .filter_map(|item| match item {
                Item::Frame(frame) => Some((frame.mark.kind, frame.entries().len())),
                Item::Damage { .. } => None,
            })
            .collect();
        // `c` once, and only the last tombstone: no key in the journal is older than the others.
        assert_eq!(frames, [(Kind::Keys, 3), (Kind::Removed, 1)]);
        drop(cache);
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let held = ["a", "b", "c", "d"].map(|key| cache.is_held(key));
        assert_eq!(held, [true, false, true, false]);
        // And again, with tombstones that are older than the keys around them.
        cache.with_writer(|writer, keys, watermark| (0..3).for_each(|_| writer.rewrite_some(keys, watermark).unwrap()));
        drop(cache);
        let cache = S::open(&storage, Durability::Process).unwrap();
        assert_eq!(["a", "b", "c", "d"].map(|key| cache.is_held(key)), held);
    }

    fn a_tombstone_is_kept_for_as_long_as_the_keys_that_it_covers<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("late", 20_000).unwrap();
        cache.with_writer(|writer, _, _| writer.seal());
        let _ = cache.put("early", 10_000).unwrap();
        assert!(cache.remove_key("late").unwrap());
        cache.with_writer(|writer, _, _| writer.seal());
        // `early` has expired, and so has its segment but for the tombstone.
        cache.follow(10_000 + SPAN + 1).unwrap();
        cache.follow(10_000 + SPAN + 2).unwrap();
        drop(cache);
        let cache = S::open(&storage, Durability::Process).unwrap();
        assert!(!cache.is_held("late"));
    }

    fn a_tombstone_is_rewritten_while_a_damaged_segment_keeps_its_key<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        for key in ["a", "b"] {
            let _ = cache.put(key, 10_000).unwrap(); // a frame each
        }
        drop(cache);
        let mut files = storage.disk().contents();
        let first = segments(&storage.disk()).remove(0);
        files.get_mut(&first).unwrap()[HEADER_BYTES] ^= 1; // the frame of a: such a segment is not rewritten
        let storage = Simulated::on(Disk::of(files));
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        assert!(!cache.is_held("a") && cache.remove_key("b").unwrap());
        cache.with_writer(|writer, keys, watermark| {
            writer.seal();
            writer.rewrite_some(keys, watermark).unwrap();
        });
        assert!(segments(&storage.disk()).contains(&first));
        drop(cache);
        assert!(!S::open(&storage, Durability::Process).unwrap().is_held("b"));
    }

    fn a_key_that_is_in_the_journal_twice_is_held_until_its_later_deadline<S: Subject>() {
        for is_rewritten in [false, true] {
            let storage = Simulated::default();
            let mut cache = S::open(&storage, Durability::Process).unwrap();
            let _ = cache.put("a", 10_000).unwrap();
            assert!(cache.remove_key("a").unwrap());
            assert_eq!(cache.put("a", 15_000), Ok(Verdict::Fresh));
            if is_rewritten {
                cache.with_writer(|writer, keys, watermark| {
                    writer.seal();
                    writer.rewrite_some(keys, watermark).unwrap();
                });
            }
            drop(cache);
            let mut cache = S::open(&storage, Durability::Process).unwrap();
            cache.follow(10_000 + SPAN + 1_000).unwrap();
            assert_eq!(cache.put("a", 15_000), Ok(Verdict::Duplicate));
        }
    }

    fn a_key_inserted_again_after_it_expired_is_held_under_a_longer_horizon<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        cache.follow(12_500).unwrap();
        cache.follow(12_501).unwrap();
        assert_eq!(cache.put("a", 15_000), Ok(Verdict::Fresh));
        drop(cache);
        let longer = Config { horizon: Horizon::new(Duration::from_millis(4_000), Duration::ZERO), ..config() };
        let mut cache = S::open_on(&storage, longer, Durability::Process, OpenOptions::new()).unwrap();
        cache.follow(14_500).unwrap();
        assert_eq!(cache.put("a", 15_000), Ok(Verdict::Duplicate));
    }

    fn inserting_and_removing_keys_does_not_fill_the_disk<S: Subject>() {
        for is_one_key in [false, true] {
            let storage = Simulated::default();
            let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
            for number in 0..20_000u64 {
                let key = if is_one_key { 0 } else { number };
                let _ = cache.put(&key.to_string(), 10_000).unwrap();
                assert!(cache.remove_key(&key.to_string()).unwrap());
            }
            let _ = cache.put("last", 10_000).unwrap();
            (0..100).for_each(|step| cache.follow(9_500 + step).unwrap());
            assert!(disk_bytes(&storage) <= SLACK, "{} bytes for one key", disk_bytes(&storage));
            drop(cache);
            let cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
            assert!(cache.count() == 1 && cache.is_held("last"));
        }
    }

    fn evicting_keys_does_not_fill_the_disk<S: Subject>() {
        let storage = Simulated::default();
        let config = config().max_keys(1_000).when_full(crate::WhenFull::EvictOldest);
        let mut cache = S::open_on(&storage, config, Durability::Process, OpenOptions::new()).unwrap();
        for number in 0..100_000u64 {
            let _ = cache.put(&(number % 1_001).to_string(), 10_000).unwrap();
            if number % 100 == 0 {
                cache.follow(9_000 + number / 1_000).unwrap();
                assert!(disk_bytes(&storage) <= 3 * 1_000 * ENTRY_BYTES + SLACK, "{} bytes", disk_bytes(&storage));
            }
        }
    }

    /// Without any call of `observe` meanwhile.
    fn evicting_keys_in_batches_does_not_fill_the_disk_and_an_opening_holds_the_same_keys<S: Subject>() {
        let storage = Simulated::default();
        const KEYS: usize = 12_000;
        let config = config().max_keys(KEYS).when_full(crate::WhenFull::EvictOldest);
        let mut cache = S::open_on(&storage, config.clone(), Durability::Process, OpenOptions::new()).unwrap();
        cache.follow(9_000).unwrap();
        let mut names = Vec::new();
        // More at once than one step rewrites.
        for number in 0..30 {
            names = (0..KEYS / 2).map(|key| (number * KEYS + key).to_string()).chain(names).take(3 * KEYS).collect();
            let time = Timestamp::from_millis(10_000 + 100 * number as u64); // a slot of the wheel each
            let entries: Vec<_> = names[..KEYS / 2].iter().map(|name| (cache.fingerprint_of(name), time)).collect();
            cache.put_all(&entries, &mut Vec::new()).unwrap();
            assert!(disk_bytes(&storage) <= 3 * KEYS as u64 * ENTRY_BYTES + SLACK, "{} bytes", disk_bytes(&storage));
        }
        let held = |cache: &S| names.iter().map(|name| cache.is_held(name)).collect::<Vec<_>>();
        let before = held(&cache);
        drop(cache);
        let cache = S::open_on(&storage, config, Durability::Process, OpenOptions::new()).unwrap();
        assert_eq!(cache.count(), KEYS);
        assert!(held(&cache) == before && before.iter().filter(|is_held| **is_held).count() == KEYS);
    }

    fn removing_the_keys_of_batches_one_by_one_does_not_fill_the_disk<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        let names: Vec<_> = (0..2_000).map(|key: u32| key.to_string()).collect();
        let entries = names.iter().map(|name| (cache.fingerprint_of(name), Timestamp::from_millis(10_000)));
        let entries: Vec<_> = entries.collect();
        for round in 0..20 {
            cache.put_all(&entries, &mut Vec::new()).unwrap();
            names.iter().for_each(|name| assert!(cache.remove_key(name).unwrap()));
            assert!(disk_bytes(&storage) <= SLACK, "round {round}: {} bytes", disk_bytes(&storage));
        }
        drop(cache);
        assert_eq!(S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap().count(), 0);
    }

    /// So that no call takes long.
    fn a_call_that_appends_little_rewrites_little<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        cache.with_writer(|writer, keys, watermark| {
            let mut ops = Ops::default();
            (0..2_500).for_each(|key| ops.insert(Fingerprint::from_u128(key), 10_000));
            for _ in 0..10 {
                writer.commit(&ops, watermark).unwrap();
                writer.seal();
            }
            writer.maintain(&holding(1_000_000), watermark, 1);
            let before = segments(&storage.disk()).len();
            ops.clear();
            ops.insert(Fingerprint::from_u128(1), 10_000);
            writer.commit(&ops, watermark).unwrap();
            writer.maintain(keys, watermark, 1);
            assert_eq!((before, segments(&storage.disk()).len()), (10, 10), "one was created, and one removed");
        });
    }

    fn the_limit_of_segments_grows_with_the_live_keys<S: Subject>() {
        // There are 59 sealed segments. The limit is 32, and three more for each 64 MiB of nine.
        for (keys, are_left) in [(26_000_000, true), (25_000_000, false)] {
            let storage = Simulated::default();
            let mut cache = S::open(&storage, Durability::Process).unwrap();
            cache.with_writer(|writer, _, watermark| {
                let mut ops = Ops::default();
                ops.insert(Fingerprint::from_u128(1), 10_000);
                for _ in 0..60 {
                    writer.seal();
                    writer.commit(&ops, watermark).unwrap();
                }
                writer.maintain(&holding(keys), watermark, 100);
            });
            assert_eq!(segments(&storage.disk()).len() == 60, are_left);
        }
    }

    fn a_removed_key_evicts_no_other_when_a_cache_is_opened_again<S: Subject>() {
        let storage = Simulated::default();
        let config = config().max_keys(2).when_full(crate::WhenFull::EvictOldest);
        let mut cache = S::open_on(&storage, config.clone(), Durability::Process, OpenOptions::new()).unwrap();
        cache.follow(9_000).unwrap();
        let _ = cache.put("oldest", 10_000).unwrap();
        let _ = cache.put("removed", 20_000).unwrap();
        cache.with_writer(|writer, _, _| writer.seal());
        assert!(cache.remove_key("removed").unwrap());
        let _ = cache.put("newest", 20_000).unwrap();
        drop(cache);
        let cache = S::open_on(&storage, config, Durability::Process, OpenOptions::new()).unwrap();
        assert!(cache.is_held("oldest") && cache.is_held("newest") && cache.count() == 2);
    }

    fn a_segment_is_a_quarter_of_the_live_keys_and_a_small_one_is_not_rewritten<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        for number in 0..200u32 {
            cache.put_all(&batch((0..500).map(|key| u128::from(number) * 500 + key), 10_000), &mut Vec::new()).unwrap();
        }
        let files = segments(&storage.disk()).len();
        assert!(files <= 24, "{files} segments of 2.4 MB");
        cache.follow(20_000).unwrap();
        (0..100).for_each(|step| cache.follow(20_001 + step).unwrap());
        let before = segments(&storage.disk());
        for time in [30_000, 40_000, 50_000] {
            let _ = cache.put(&time.to_string(), time).unwrap();
            cache.follow(time + SPAN + 1).unwrap();
        }
        let after = segments(&storage.disk());
        assert!(after.len() == 1 && after[0] == before[before.len() - 1], "{before:?} became {after:?}");
    }

    fn many_openings_for_a_few_keys_leave_few_segments<S: Subject>() {
        let storage = Simulated::default();
        for number in 0..1_000u64 {
            let mut cache = S::open(&storage, Durability::Process).unwrap();
            let _ = cache.put("a", 10_000 + number).unwrap();
            assert!(cache.remove_key("a").unwrap());
        }
        let files = segments(&storage.disk()).len();
        assert!(files < 40, "{files} segments, {} bytes", disk_bytes(&storage));
    }

    fn a_full_disk_gets_space_from_expired_segments<S: Subject>() {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let storage = Simulated::default();
            let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
            for number in 0..10_000u64 {
                let _ = cache.put(&number.to_string(), 10_000).unwrap();
            }
            let full = disk_bytes(&storage);
            storage.fail(storage.calls()..usize::MAX, Fault::Short(kind));
            // Not even the watermark can be written.
            (0..20).for_each(|step| assert!(cache.follow(20_000 + step).is_err()));
            assert!(disk_bytes(&storage) < full / 2, "{} of {full} bytes, all expired", disk_bytes(&storage));
        }
    }

    fn a_segment_that_another_program_removed_is_no_error<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        for number in 0..10_000u64 {
            let _ = cache.put(&number.to_string(), 10_000).unwrap();
        }
        storage.boxed().remove(&segments(&storage.disk())[0]).unwrap();
        (0..10).for_each(|step| cache.follow(20_000 + step).unwrap());
        assert!(disk_bytes(&storage) <= SLACK, "{} bytes of expired keys", disk_bytes(&storage));
    }

    /// As when the calls of many threads share a write.
    fn more_keys_are_removed_at_once_than_fit_into_a_frame<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        let entries = batch(0..3_000, 10_000);
        cache.put_all(&entries, &mut Vec::new()).unwrap();
        let mut ops = Ops::default();
        entries[..2_500].iter().for_each(|(key, _)| ops.remove(*key));
        cache.with_writer(|writer, _, watermark| writer.commit(&ops, watermark).unwrap());
        drop(cache);
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        let mut verdicts = Vec::new();
        cache.put_all(&entries, &mut verdicts).unwrap();
        assert!(verdicts[..2_500].iter().all(|verdict| *verdict == Verdict::Fresh));
        assert!(verdicts[2_500..].iter().all(|verdict| *verdict == Verdict::Duplicate));
    }

    fn every_opening_creates_a_file_of_its_own_and_no_name_is_used_twice<S: Subject>() {
        let storage = Simulated::default();
        let mut names = Vec::new();
        for step in 0..20 {
            let mut cache = S::open(&storage, Durability::Power).unwrap();
            let _ = cache.put(&format!("key {step}"), 10_000 + step * 1_000).unwrap();
            cache.follow(10_000 + step * 1_000).unwrap();
            names.extend(segments(&storage.disk()));
        }
        names.sort();
        names.dedup();
        assert!(names.len() >= 20 && segments(&storage.disk()).len() < 8);
    }
}
