//! Every call to the file system fails, once or from then on: every answer stays true.

use super::*;
use crate::journal::{self, OpenMode};
use crate::testing::disk::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

const FAULTS: [Fault; 3] =
    [Fault::Error(ErrorKind::Other), Fault::Error(ErrorKind::StorageFull), Fault::Short(ErrorKind::StorageFull)];

/// The answers while calls failed.
#[derive(Default)]
struct Answers {
    committed: BTreeMap<&'static str, u64>,
    /// Keys that may be held or not after a restart, because their calls poisoned the journal.
    unknown: BTreeSet<&'static str>,
    /// The least and the greatest value that it may have.
    watermark: (u64, u64),
    is_poisoned: bool,
}

impl Answers {
    fn note(&mut self, keys: &[&'static str], time: u64, result: Result<(), Error>) {
        match result {
            Ok(()) => keys.iter().for_each(|key| {
                self.committed.insert(key, time);
            }),
            Err(Error::Journal(error)) => {
                if error.kind() == journal::ErrorKind::Poisoned {
                    self.unknown.extend(keys);
                    self.is_poisoned = true;
                }
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn check_memory<S: Subject>(&self, cache: &S) {
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            let time = self.committed.get(key);
            let may_be_expired = time.is_some_and(|time| time + SPAN < cache.progress());
            assert!(cache.is_held(key) == time.is_some() || may_be_expired, "{key} in memory: {time:?}");
        }
        cache.check();
    }

    fn check_disk<S: Subject>(&self, image: Disk, durability: Durability) {
        let cache = S::open(&Simulated::on(image), durability).expect("what faults leave can be opened");
        let watermark = cache.progress();
        assert!((self.watermark.0..=self.watermark.1).contains(&watermark), "{watermark}: {:?}", self.watermark);
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            match self.committed.get(key) {
                _ if self.unknown.contains(key) => {}
                Some(time) => assert!(cache.is_held(key) || time + SPAN < watermark, "{key} was committed"),
                None => assert!(!cache.is_held(key), "{key} was refused or removed"),
            }
        }
    }
}

/// Runs the life of a service with a fault in it. Returns how many calls to the file system there
/// were.
fn live<S: Subject>(durability: Durability, calls: std::ops::Range<usize>, fault: Fault) -> usize {
    let storage = Simulated::default();
    storage.fail(calls.clone(), fault);
    let mut answers = Answers::default();
    // If the disk fails at once, no cache is opened.
    let Ok(mut cache) = S::open(&storage, durability).or_else(|error| match calls.end {
        usize::MAX => Err(error),
        _ => S::open(&storage, durability),
    }) else {
        return storage.calls();
    };
    let first = cache.put("a", 10_000).map(|_| ());
    answers.note(&["a"], 10_000, first);
    let entries = ["b", "c", "b"].map(|key| (cache.fingerprint_of(key), Timestamp::from_millis(10_500)));
    let mut verdicts = Vec::new();
    let batch = cache.put_all(&entries, &mut verdicts);
    assert_eq!(verdicts.len(), if batch.is_ok() { 3 } else { 0 });
    answers.note(&["b", "c"], 10_500, batch);
    answers.check_memory(&cache);
    match cache.begin("d", 11_000) {
        Ok(Claimed::Fresh(claim)) => {
            let commit = cache.finish(claim);
            answers.note(&["d"], 11_000, commit);
        }
        Err(Error::Journal(error)) => assert!(error.kind() == journal::ErrorKind::Poisoned && answers.is_poisoned),
        other => panic!("{:?}", other.map(|_| ())),
    }
    match cache.remove_key("a") {
        Ok(true) => drop(answers.committed.remove("a")),
        Ok(false) => assert!(!answers.committed.contains_key("a")),
        Err(Error::Journal(error)) if error.kind() == journal::ErrorKind::Poisoned => {
            answers.unknown.insert("a"); // a tombstone may have been written before that
            answers.is_poisoned = true;
        }
        Err(Error::Journal(_)) => {}
        Err(other) => panic!("{other}"),
    }
    cache.with_writer(|writer, keys, watermark| {
        writer.seal();
        let _ = writer.rewrite_some(keys, watermark);
        let _ = writer.rewrite_some(keys, watermark);
    });
    answers.check_memory(&cache);
    let claims: Vec<_> = ["e", "f"]
        .into_iter()
        .filter_map(|key| match cache.begin(key, 12_600) {
            Ok(Claimed::Fresh(claim)) => Some(claim),
            _ => None,
        })
        .collect();
    if claims.len() == 2 {
        let committed = cache.finish_all(claims).map(|committed| assert_eq!(committed.all(), Ok(())));
        answers.note(&["e", "f"], 12_600, committed);
    }
    cache.with_writer(|writer, _, _| writer.seal());
    let moved = cache.follow(12_550);
    answers.watermark = (if moved.is_ok() { 12_550 } else { 0 }, 12_550);
    assert_eq!(cache.progress(), 12_550, "the watermark still moves in memory");
    let last = cache.put("g", 12_700).map(|_| ());
    answers.note(&["g"], 12_700, last);
    answers.check_memory(&cache);
    drop(cache);
    let calls = storage.calls();
    storage.fail(0..0, fault);
    answers.check_disk::<S>(storage.disk().at_rest(), durability);
    if durability == Durability::Power {
        storage
            .disk()
            .after_loss_of_power(64)
            .0
            .into_iter()
            .for_each(|image| answers.check_disk::<S>(image, durability));
    }
    calls
}

on_both_fronts! {
    fn whichever_call_fails_no_answer_is_wrong<S: Subject>() {
        for durability in [Durability::Process, Durability::Power] {
            let calls = live::<S>(durability, 0..0, FAULTS[0]);
            assert!(calls > 15, "{calls} calls were tried");
            for fault in FAULTS {
                for first in 0..calls + 10 {
                    live::<S>(durability, first..first + 1, fault);
                    live::<S>(durability, first..first + 2, fault);
                    live::<S>(durability, first..usize::MAX, fault);
                }
            }
        }
    }

    fn a_full_disk_refuses_inserts_until_there_is_space_again<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        storage.fail(storage.calls()..usize::MAX, Fault::Short(ErrorKind::StorageFull));
        for key in ["b", "c"] {
            let Err(Error::Journal(error)) = cache.put(key, 10_000) else { panic!("full") };
            assert_eq!(error.kind(), journal::ErrorKind::Io(ErrorKind::StorageFull), "{error}");
            assert!(!cache.is_held(key));
        }
        assert_eq!(cache.put("a", 10_000), Ok(Verdict::Duplicate), "lookups still work");
        storage.fail(0..0, Fault::Error(ErrorKind::Other));
        assert_eq!(cache.put("b", 10_000), Ok(Verdict::Fresh));
        drop(cache);
        let strict = OpenOptions::new().mode(OpenMode::Strict); // no frame is truncated
        let cache = S::open_on(&storage, config(), Durability::Process, strict).unwrap();
        assert!(cache.is_held("a") && cache.is_held("b") && !cache.is_held("c"));
    }

    fn a_failed_sync_moves_the_frames_to_another_file<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Power).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        let sync = storage.calls() + 1; // after the append
        storage.fail(sync..sync + 1, Fault::Error(ErrorKind::Other));
        assert_eq!(cache.put("b", 10_000), Ok(Verdict::Fresh));
        assert_eq!((segments(&storage.disk()).len(), cache.failures()), (2, 1));
        for image in storage.disk().after_loss_of_power(1_000).0 {
            let cache = S::open(&Simulated::on(image), Durability::Power).unwrap();
            assert!(cache.is_held("a") && cache.is_held("b"));
        }
    }

    fn what_a_killed_process_left_unsynced_is_synced_before_it_is_a_duplicate<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        drop(cache);
        let mut cache = S::open(&storage, Durability::Power).unwrap();
        assert_eq!(cache.put("a", 10_000), Ok(Verdict::Duplicate), "so its message is acknowledged");
        let _ = cache.put("b", 10_000).unwrap();
        for image in storage.disk().after_loss_of_power(1_000).0 {
            let cache = S::open(&Simulated::on(image), Durability::Power).unwrap();
            assert!(cache.is_held("a") && cache.is_held("b"));
        }
    }

    fn failed_openings_do_not_fill_a_full_disk<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        drop(cache);
        let before = storage.disk().contents().len();
        for (name, bytes) in storage.disk().contents() {
            if name.ends_with(".segment") {
                storage.boxed().truncate(&name, bytes.len() as u64 - 3).unwrap();
            }
        }
        for full in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            storage.fail(0..usize::MAX, Fault::Short(full));
            (0..20).for_each(|_| drop(S::open(&storage, Durability::Process)));
            assert_eq!(storage.disk().contents().len(), before);
        }
    }

    /// Otherwise no space could be made by removing expired segments.
    fn a_truncated_tail_stays_in_place_on_a_full_disk<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        for key in ["a", "b"] {
            let _ = cache.put(key, 10_000).unwrap();
        }
        drop(cache);
        let [name] = &*segments(&storage.disk()) else { panic!("one segment") };
        storage.boxed().truncate(name, storage.disk().contents()[name].len() as u64 - 3).unwrap();
        for full in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let quarantines = storage.calls() + 5; // after listing, and reading secret, segment and tail
            storage.fail(quarantines..usize::MAX, Fault::Short(full));
            let mut cache = S::open(&storage, Durability::Process).unwrap();
            assert!(cache.is_held("a") && !cache.is_held("b"));
            let [damage] = &*cache.report().damage else { panic!("one truncated tail") };
            assert_eq!((damage.bytes, &damage.quarantined_in), (53, &None));
            assert!(matches!(cache.put("b", 10_000), Err(Error::Journal(_))));
        }
        storage.fail(storage.calls() + 5..usize::MAX, Fault::Error(ErrorKind::Other));
        assert!(matches!(S::open(&storage, Durability::Process).err(), Some(Error::Journal(_))), "the disk is not full");
        storage.fail(0..0, Fault::Error(ErrorKind::Other));
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        assert!(cache.report().damage[0].quarantined_in.is_some());
        assert_eq!(cache.put("b", 10_000), Ok(Verdict::Fresh));
    }

    fn a_second_failed_sync_poisons_the_journal_and_its_error_advises_to_stop_consuming<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Power).unwrap();
        let _ = cache.put("a", 10_000).unwrap();
        storage.fail(storage.calls() + 1..usize::MAX, Fault::Error(ErrorKind::Other));
        let Err(Error::Journal(error)) = cache.put("b", 10_000) else { panic!("the disk fails") };
        assert_eq!(error.kind(), journal::ErrorKind::Poisoned);
        assert!(error.to_string().contains("stop consuming"), "{error}");
        storage.fail(0..0, Fault::Error(ErrorKind::Other));
        assert!(matches!(cache.put("c", 10_000), Err(Error::Journal(_))), "it stays poisoned");
        assert!(matches!(cache.begin("c", 10_000), Err(Error::Journal(_))), "no claim that cannot be committed");
        assert_eq!(cache.fresh(), 1, "failed calls are not counted");
        assert!(matches!(cache.begin("a", 10_000), Ok(Claimed::Duplicate)), "lookups still work");
        let mut verdicts = Vec::new();
        cache.put_all(&[(cache.fingerprint_of("a"), Timestamp::from_millis(10_000))], &mut verdicts).unwrap();
        assert_eq!(verdicts, [Verdict::Duplicate], "in batches, too");
    }
}
