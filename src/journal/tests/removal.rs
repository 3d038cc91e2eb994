//! What must be on disk before a segment is removed, and what happens to segments that cannot be
//! read or synced.

use super::upkeep::{batch, large};
use super::*;
use crate::engine::Held;
use crate::testing::disk::Fault;
use std::io::ErrorKind;

on_both_fronts! {
    /// With `Process`, too: a loss of power may lose the last half minute, but nothing older that
    /// was on disk.
    fn a_segment_is_removed_only_when_what_replaces_it_is_on_disk<S: Subject>() {
        const TIMES: [(&str, u64); 2] = [("early", 10_000), ("late", 20_000)];
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        for (key, time) in TIMES {
            let _ = cache.put(key, time).unwrap();
        }
        drop(cache);
        let storage = Simulated::on(storage.disk().at_rest());
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let [old] = &*segments(&storage.disk()) else { panic!("one segment") };
        storage.watch();
        let _ = cache.put("active", 20_000).unwrap();
        cache.with_writer(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        assert!(!segments(&storage.disk()).contains(old), "it was rewritten");
        cache.with_writer(|writer, _, _| writer.seal());
        cache.follow(20_000 + SPAN + 1).unwrap();
        assert!(segments(&storage.disk()).len() <= 1, "all others have expired");
        drop(cache);
        for disk in storage.take_history() {
            for image in disk.after_loss_of_power(1_000).0 {
                let cache = S::open(&Simulated::on(image), Durability::Process).unwrap();
                for (key, time) in TIMES {
                    assert!(cache.is_held(key) || time + SPAN < cache.progress(), "{key} is lost");
                }
            }
        }
    }

    /// The same if a sync fails between two steps of a rewriting.
    fn a_rewriting_starts_again_after_a_failed_sync_of_its_new_file<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        let keys = batch(0..5_000, 20_000);
        cache.put_all(&keys, &mut Vec::new()).unwrap();
        drop(cache);
        let storage = Simulated::on(storage.disk().at_rest());
        let mut cache = S::open_on(&storage, large(), Durability::Process, OpenOptions::new()).unwrap();
        let [old] = &*segments(&storage.disk()) else { panic!("one segment") };
        cache.with_writer(|writer, keys, watermark| {
            writer.rewrite_some(keys, watermark).unwrap();
            storage.fail(storage.calls()..storage.calls() + 1, Fault::Error(ErrorKind::Other));
            assert!(writer.sync_all(watermark).is_err());
            while segments(&storage.disk()).contains(old) {
                writer.rewrite_some(keys, watermark).unwrap();
            }
        });
        drop(cache);
        for image in storage.disk().after_loss_of_power(1_000).0 {
            let mut cache = S::open_on(&Simulated::on(image), large(), Durability::Process, OpenOptions::new()).unwrap();
            let mut verdicts = Vec::new();
            cache.put_all(&keys, &mut verdicts).unwrap();
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Duplicate));
        }
    }

    fn a_segment_that_could_not_be_read_is_rewritten_later<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        let [old] = &*segments(&storage.disk()) else { panic!("one segment") };
        cache.with_writer(|writer, keys, watermark| {
            writer.seal();
            storage.fail(storage.calls()..storage.calls() + 1, Fault::Error(ErrorKind::Other));
            assert!(writer.rewrite_some(keys, watermark).is_err());
            (0..3).for_each(|_| writer.rewrite_some(keys, watermark).unwrap());
        });
        assert!(!segments(&storage.disk()).contains(old) && cache.is_held("a"));
    }

    /// The name of the file that a rewriting writes to is not synced when the file is created.
    fn a_segment_is_removed_only_when_the_names_of_new_ones_are_on_disk<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        drop(cache);
        let storage = Simulated::on(storage.disk().at_rest());
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let [old] = &*segments(&storage.disk()) else { panic!("one segment") };
        storage.watch();
        let names_are_synced = storage.calls() + 3; // after reading, creating a file, and appending
        storage.fail(names_are_synced..names_are_synced + 1, Fault::Error(ErrorKind::Other));
        cache.with_writer(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        assert!(!segments(&storage.disk()).contains(old) && cache.failures() == 1);
        drop(cache);
        for disk in storage.take_history() {
            for image in disk.after_loss_of_power(1_000).0 {
                assert!(S::open(&Simulated::on(image), Durability::Process).unwrap().is_held("a"));
            }
        }
    }

    fn a_segment_is_removed_only_when_the_watermark_that_allows_it_is_on_disk<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("past", 10_000).unwrap();
        cache.with_writer(|writer, _, _| writer.seal());
        let _ = cache.put("not past", 50_000).unwrap();
        cache.with_writer(|writer, keys, _| writer.maintain(keys, 30_000, 1));
        assert_eq!(segments(&storage.disk()).len(), 1);
        drop(cache);
        assert_eq!(S::open(&storage, Durability::Process).unwrap().progress(), 30_000);
    }

    /// Another thread moves the watermark, and the key expires, while its segment is rewritten
    /// under an earlier watermark.
    fn a_key_is_dropped_only_together_with_the_watermark_that_allows_it<S: Subject>() {
        let expired = FixedCache { len: 0, held: Held::No, watermark: 10_000 + SPAN + 1 };
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Power).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        let [old] = &*segments(&storage.disk()) else { panic!("one segment") };
        cache.follow(9_000).unwrap();
        cache.with_writer(|writer, keys, watermark| {
            assert_eq!((keys.watermark(), watermark), (9_000, 9_000));
            writer.seal();
            writer.rewrite_some(&expired, watermark).unwrap();
        });
        assert!(!segments(&storage.disk()).contains(old));
        drop(cache);
        assert_eq!(S::open(&storage, Durability::Power).unwrap().progress(), 10_000 + SPAN + 1);
    }

    /// If a file could neither be synced nor removed, it is not known what it holds after a
    /// restart.
    fn a_tombstone_stays_while_a_file_that_could_not_be_removed_has_its_key<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Power).unwrap();
        storage.fail(storage.calls() + 2..storage.calls() + 4, Fault::Error(ErrorKind::Other));
        assert_eq!(cache.put("a", 10_000), Ok(Verdict::Fresh), "appended to another segment");
        assert_eq!(segments(&storage.disk()).len(), 2);
        assert!(cache.remove_key("a").unwrap());
        cache.with_writer(|writer, keys, watermark| {
            writer.seal();
            (0..6).for_each(|_| writer.rewrite_some(keys, watermark).unwrap());
        });
        drop(cache);
        assert!(!S::open(&storage, Durability::Power).unwrap().is_held("a"));
    }

    fn a_tombstone_stays_while_a_segment_that_could_not_be_read_has_its_key<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        cache.with_writer(|writer, _, _| writer.seal());
        assert!(cache.remove_key("a").unwrap());
        cache.with_writer(|writer, keys, watermark| {
            writer.seal();
            storage.fail(storage.calls()..storage.calls() + 1, Fault::Error(ErrorKind::Other));
            assert!(writer.rewrite_some(keys, watermark).is_err());
            writer.rewrite_some(keys, watermark).unwrap();
        });
        drop(cache);
        assert!(!S::open(&storage, Durability::Process).unwrap().is_held("a"));
    }
}
