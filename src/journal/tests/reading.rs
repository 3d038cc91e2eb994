//! Openings of files that are made by hand, because runs make such files only by chance.

use super::*;
use crate::engine::Held;
use crate::journal::record::{Header, Kind, Mark, encode_entry, encode_frame};
use crate::journal::{self, Damage, OpenMode, segment};
use crate::key::KeyHasher;
use crate::testing::disk::Fault;

const SECRET: [u8; 16] = [7; 16];
const TIME: u64 = 10_000;

/// A segment's file: its frames' kinds, sequences and keys.
fn file(number: u64, frames: &[(Kind, u64, &str)]) -> (String, Vec<u8>) {
    let (salt, secret) = (number * 31, KeyHasher::new(SECRET));
    let mut bytes = Vec::new();
    Header::new(salt, 0, &secret).encode(&mut bytes);
    for (kind, sequence, key) in frames {
        let mut entry = Vec::new();
        encode_entry((secret.fingerprint(key.as_bytes()), TIME), &mut entry);
        encode_frame(salt, &Mark { kind: *kind, sequence: *sequence, watermark: 0 }, &entry, &mut bytes);
    }
    (segment::name(number), bytes)
}

fn open<S: Subject>(storage: &Simulated, mode: OpenMode) -> Result<S, Error> {
    S::open_on(storage, config().secret(SECRET), Durability::Process, OpenOptions::new().mode(mode))
}

/// All keys are pending.
const PENDING: FixedCache = FixedCache { len: 0, held: Held::Pending, watermark: 0 };

on_both_fronts! {
    fn a_removed_key_takes_no_capacity_wherever_its_entry_lies<S: Subject>() {
        use Kind::{Keys, Removed};
        let files = [
            file(1, &[(Keys, 3, "a"), (Keys, 4, "b"), (Removed, 5, "a"), (Removed, 6, "b")]),
            file(2, &[(Keys, 7, "b"), (Keys, 8, "c")]),
            file(3, &[(Keys, 3, "a")]),
        ];
        let storage = Simulated::on(Disk::of(files.map(|(name, bytes)| (name, [&*bytes, b"tail"].concat()))));
        let open = |max_keys| {
            let config = config().secret(SECRET).max_keys(max_keys);
            S::open_on(&storage, config, Durability::Process, OpenOptions::new())
        };
        let Some(Error::Journal(error)) = open(1).err() else { panic!("more keys than one") };
        assert_eq!(error.kind(), journal::ErrorKind::TooManyKeys);
        let cache = open(2).unwrap();
        assert!(!cache.is_held("a") && cache.is_held("b") && cache.is_held("c"));
        let recovery = cache.report();
        assert_eq!((recovery.keys_read, recovery.keys_restored, recovery.damage.len()), (5, 2, 3));
        cache.check();
    }

    fn a_removed_key_stays_removed_wherever_its_entry_lies<S: Subject>() {
        use Kind::{Keys, Removed};
        // A key that was removed while its segment was rewritten lies behind its own tombstone.
        for (frames, is_held) in [
            ([(Removed, 5, "a"), (Keys, 4, "b"), (Keys, 3, "a")], false),
            ([(Keys, 3, "a"), (Keys, 4, "b"), (Removed, 5, "a")], false),
            ([(Removed, 5, "a"), (Keys, 6, "a"), (Keys, 3, "a")], true),
            ([(Keys, 6, "a"), (Removed, 5, "a"), (Keys, 3, "a")], true),
            ([(Keys, 3, "a"), (Keys, 6, "a"), (Removed, 5, "a")], true),
            ([(Removed, 5, "a"), (Removed, 7, "a"), (Keys, 6, "a")], false),
        ] {
            let apart = frames.iter().zip(1..).map(|(frame, number)| file(number, &[*frame]));
            for files in [apart.collect::<Vec<_>>(), vec![file(1, &frames)]] {
                let cache = open::<S>(&Simulated::on(Disk::of(files)), OpenMode::Strict).unwrap();
                assert_eq!(cache.is_held("a"), is_held, "{frames:?}");
                assert_eq!(cache.is_held("b"), frames.iter().any(|(.., key)| *key == "b"), "{frames:?}");
                cache.check();
            }
        }
    }

    /// Its key is pending, and more entries than one step rewrites lie between the two.
    fn a_tombstone_is_kept_for_what_follows_it_in_its_segment<S: Subject>() {
        let names: Vec<_> = (0..2_000).map(|number| format!("key {number}")).collect();
        let filling = names.iter().map(|name| (Kind::Keys, 20, name.as_str()));
        let frames: Vec<_> = [(Kind::Removed, 10, "a")].into_iter().chain(filling).chain([(Kind::Keys, 5, "a")]).collect();
        let storage = Simulated::on(Disk::of([file(1, &frames)]));
        let large = config().max_keys(10_000).secret(SECRET);
        let mut cache = S::open_on(&storage, large.clone(), Durability::Process, OpenOptions::new()).unwrap();
        cache.with_writer(|writer, _, watermark| {
            while segments(&storage.disk()).contains(&segment::name(1)) {
                writer.rewrite_some(&PENDING, watermark).unwrap();
            }
        });
        drop(cache);
        let cache = S::open_on(&storage, large, Durability::Process, OpenOptions::new()).unwrap();
        assert!(!cache.is_held("a") && cache.count() == 2_000);
    }

    fn the_last_sequence_number_does_not_wrap_around<S: Subject>() {
        let frames = [(Kind::Keys, u64::MAX, "a"), (Kind::Removed, u64::MAX, "b")];
        let storage = Simulated::on(Disk::of([file(1, &frames)]));
        let mut cache = open::<S>(&storage, OpenMode::Strict).unwrap();
        assert_eq!(cache.put("b", TIME), Ok(Verdict::Fresh));
        cache.with_writer(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        drop(cache);
        let cache = open::<S>(&storage, OpenMode::Strict).unwrap();
        assert!(cache.is_held("a") && cache.is_held("b"));
    }

    fn an_empty_file_is_no_damage<S: Subject>() {
        let files = [file(1, &[(Kind::Keys, 1, "a")]), (segment::name(2), Vec::new())];
        let storage = Simulated::on(Disk::of(files));
        let cache = open::<S>(&storage, OpenMode::Strict).unwrap();
        assert!(cache.is_held("a") && cache.report().damage.is_empty());
        assert!(!storage.disk().contents().contains_key(&segment::name(2)), "it is removed");
    }

    fn keys_are_hashed_under_the_secret_that_is_stored<S: Subject>() {
        let storage = Simulated::on(Disk::of([file(1, &[(Kind::Keys, 1, "a")])]));
        let expected = KeyHasher::new(SECRET).fingerprint(b"a");
        assert_eq!(open::<S>(&storage, OpenMode::Strict).unwrap().fingerprint_of("a"), expected);
        assert_eq!(S::open(&storage, Durability::Process).unwrap().fingerprint_of("a"), expected);
        // The secret is stored twice: if any bit of the first copy is wrong, the second is used.
        let good = storage.disk().contents();
        for bit in 0..28 * 8 {
            let mut files = good.clone();
            files.get_mut("secret").unwrap()[bit / 8] ^= 1 << (bit % 8);
            let cache = S::open(&Simulated::on(Disk::of(files)), Durability::Process).unwrap();
            assert_eq!(cache.fingerprint_of("a"), expected, "bit {bit}");
        }
    }

    fn reported_progress_reaches_all_bytes_even_if_some_are_damaged<S: Subject>() {
        let (name, bytes) = file(2, &[(Kind::Keys, 2, "b")]);
        let headless = (name, bytes.iter().map(|byte| !byte).collect());
        let storage = Simulated::on(Disk::of([file(1, &[(Kind::Keys, 1, "a")]), headless, file(3, &[(Kind::Keys, 3, "c")])]));
        let mut last = None;
        let options = OpenOptions::new().on_progress(|progress| last = Some(progress));
        let cache = S::open_on(&storage, config().secret(SECRET), Durability::Process, options).unwrap();
        assert!(cache.is_held("a") && !cache.is_held("b") && cache.is_held("c"));
        assert_eq!(cache.report().damage.len(), 1);
        let last = last.unwrap();
        assert_eq!((last.bytes_read, last.keys_read), (last.bytes_in_all, 2));
    }

    fn a_segment_with_a_truncated_tail_is_rewritten_like_any_other<S: Subject>() {
        let (name, mut bytes) = file(1, &[(Kind::Keys, 1, "a"), (Kind::Keys, 2, "b")]);
        bytes.pop();
        let storage = Simulated::on(Disk::of([(name.clone(), bytes)]));
        let mut cache = open::<S>(&storage, OpenMode::Recover).unwrap();
        cache.with_writer(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        assert!(!storage.disk().contents().contains_key(&name));
        drop(cache);
        let cache = open::<S>(&storage, OpenMode::Strict).unwrap();
        assert!(cache.is_held("a") && !cache.is_held("b"));
    }

    fn a_rewritten_entry_is_newer_than_a_tombstone_that_stays<S: Subject>() {
        use Kind::{Keys, Removed};
        // Damage in its middle keeps the first segment as it is. So the tombstone stays, too: it
        // may cover a key in that segment.
        let (name, mut bytes) = file(1, &[(Keys, 1, "lost"), (Keys, 2, "b")]);
        bytes[crate::journal::record::HEADER_BYTES] ^= 1;
        let (second, frames) = file(2, &[(Keys, 5, "a"), (Removed, 6, "a"), (Keys, 7, "a")]);
        let storage = Simulated::on(Disk::of([(name.clone(), bytes), (second.clone(), frames)]));
        let mut cache = open::<S>(&storage, OpenMode::Recover).unwrap();
        cache.with_writer(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        let files = storage.disk().contents();
        assert!(files.contains_key(&name) && !files.contains_key(&second));
        drop(cache);
        let mut cache = open::<S>(&storage, OpenMode::Recover).unwrap();
        assert!(cache.is_held("a") && cache.is_held("b"));
        // And it is older than a tombstone that follows, both at once and after an opening.
        assert!(cache.remove_key("b").unwrap());
        cache.with_writer(|writer, keys, watermark| {
            writer.seal();
            writer.rewrite_some(keys, watermark).unwrap();
        });
        assert!(cache.remove_key("a").unwrap());
        drop(cache);
        let cache = open::<S>(&storage, OpenMode::Recover).unwrap();
        assert!(!cache.is_held("a") && !cache.is_held("b"));
    }

    fn rewriting_keeps_a_key_whose_deadline_is_the_watermark<S: Subject>() {
        let (name, bytes) = file(1, &[(Kind::Keys, 1, "a")]);
        let storage = Simulated::on(Disk::of([(name.clone(), bytes)]));
        let mut cache = open::<S>(&storage, OpenMode::Strict).unwrap();
        cache.follow(TIME + SPAN).unwrap();
        cache.with_writer(|writer, keys, watermark| writer.rewrite_some(keys, watermark).unwrap());
        assert!(!storage.disk().contents().contains_key(&name));
        drop(cache);
        assert!(open::<S>(&storage, OpenMode::Strict).unwrap().is_held("a"));
    }

    fn a_truncated_segment_does_not_keep_the_next_from_being_rewritten<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        for key in ["a", "b"] {
            let _ = cache.put(key, TIME).unwrap();
            cache.with_writer(|writer, _, _| writer.seal());
        }
        let [first, second] = &*segments(&storage.disk()) else { panic!("one for each") };
        storage.boxed().truncate(first, crate::journal::record::HEADER_BYTES as u64).unwrap();
        cache.with_writer(|writer, keys, watermark| (0..2).for_each(|_| writer.rewrite_some(keys, watermark).unwrap()));
        let left = segments(&storage.disk());
        assert!(left.contains(first) && !left.contains(second), "{left:?}");
        drop(cache);
        assert!(S::open(&storage, Durability::Process).unwrap().is_held("b"));
    }

    fn upkeep_that_fails_is_counted_and_tried_again<S: Subject>() {
        let (name, bytes) = file(1, &[(Kind::Keys, 1, "a")]);
        let storage = Simulated::on(Disk::of([(name.clone(), bytes)]));
        let mut cache = open::<S>(&storage, OpenMode::Strict).unwrap();
        storage.fail(storage.calls()..usize::MAX, Fault::Error(std::io::ErrorKind::Other));
        cache.with_writer(|writer, keys, _| writer.maintain(keys, TIME + SPAN + 1, 1));
        assert_eq!(cache.failures(), 1);
        cache.with_writer(|writer, keys, _| writer.maintain(keys, TIME + SPAN + 1, 1));
        assert_eq!(cache.failures(), 2);
        storage.fail(0..0, Fault::Error(std::io::ErrorKind::Other));
        cache.with_writer(|writer, keys, _| writer.maintain(keys, TIME + SPAN + 1, 1));
        assert_eq!(cache.failures(), 2);
        assert!(!storage.disk().contents().contains_key(&name), "no copy of its key can arrive");
    }

    fn a_removal_that_could_not_be_written_is_an_error_and_the_key_stays<S: Subject>() {
        let storage = Simulated::default();
        let mut cache = S::open(&storage, Durability::Process).unwrap();
        let _ = cache.put("a", TIME).unwrap();
        let full = Fault::Error(std::io::ErrorKind::StorageFull);
        storage.fail(storage.calls()..storage.calls() + 1, full);
        let error = cache.remove_key("a").unwrap_err();
        let Error::Journal(journal_error) = &error else { panic!("{error}") };
        assert_eq!(journal_error.kind(), journal::ErrorKind::Io(std::io::ErrorKind::StorageFull));
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull));
        assert!(cache.is_held("a"));
        assert_eq!((cache.remove_key("a"), cache.is_held("a")), (Ok(true), false));
    }
}

#[test]
fn damage_reports_its_place_and_what_was_done_about_it() {
    let mut damage = Damage { path: "dir/file".into(), offset: 96, bytes: 5, quarantined_in: None };
    assert_eq!(damage.to_string(), "dir/file: 5 unreadable bytes at 96, skipped");
    damage.quarantined_in = Some("dir/kept".into());
    assert_eq!(damage.to_string(), "dir/file: 5 unreadable bytes at 96, quarantined in dir/kept");
    assert!(format!("{:?}", OpenOptions::new().mode(OpenMode::Strict)).contains("Strict"));
}
