//! Batches among themselves and against single calls.

use super::*;
use crate::Fingerprint;
use shuttle::thread;

/// The verdicts of a batch, in letters: `f`resh or `d`uplicate.
fn batch(cache: &DedupCache, keys: &[u128]) -> String {
    let mut verdicts = Vec::new();
    cache.insert_batch(&entries(keys), &mut verdicts).expect("room for all");
    verdicts.into_iter().map(|verdict| &told(&Ok(verdict))[..1]).collect()
}

fn entries(keys: &[u128]) -> Vec<(Fingerprint, Timestamp)> {
    keys.iter().map(|key| (Fingerprint::from_u128(*key), at(10_000))).collect()
}

fn insert(cache: &DedupCache, key: u128) -> &'static str {
    &told(&cache.insert(Fingerprint::from_u128(key), at(10_000)))[..1]
}

#[test]
fn each_key_of_a_batch_and_of_single_calls_is_fresh_once() {
    // The keys lie in two shards, the first one's before the other's, or not all of this comes about. One that comes twice in
    // a batch is a duplicate the second time.
    let allowed = ["ffd: dd", "dfd: fd", "fdd: df", "ddd: ff"];
    explore(allowed, || {
        let cache = DedupCache::new(config()).unwrap();
        let outcome = thread::scope(|scope| {
            let single = scope.spawn(|| [insert(&cache, 2), insert(&cache, 1)].concat());
            let batch = batch(&cache, &[2, 1, 2]);
            format!("{batch}: {}", single.join().unwrap())
        });
        assert_eq!(cache.len(), 2);
        cache.validate();
        outcome
    });
}

#[test]
fn two_batches_that_cross_neither_stop_each_other_nor_share_a_key() {
    explore(["each once"], || {
        let cache = DedupCache::new(config()).unwrap();
        let keys = [1, 2, 3, 4, 5, 6];
        let reversed = [6, 5, 4, 3, 2, 1];
        let (first, second, third) = thread::scope(|scope| {
            let second = scope.spawn(|| batch(&cache, &reversed));
            let third = scope.spawn(|| insert(&cache, 3));
            (batch(&cache, &keys), second.join().unwrap(), third.join().unwrap())
        });
        for (at, key) in keys.into_iter().enumerate() {
            let mut fresh = [&first[at..=at], &second[5 - at..6 - at], if key == 3 { third } else { "d" }];
            fresh.sort_unstable();
            assert_eq!(fresh, ["d", "d", "f"], "key {key}");
        }
        assert_eq!(cache.len(), 6);
        cache.validate();
        "each once".into()
    });
}

#[test]
fn batches_in_every_shard_meet_one_who_locks_all() {
    // The last of the room is found by locking every shard in turn, while batches go through them in any order. Seven keys
    // for six places: somebody is refused, and nothing is given back after that.
    explore(["fresh", "full"], || {
        let cache = DedupCache::new(config().max_keys(6).shards(4)).unwrap();
        let told = thread::scope(|scope| {
            for keys in [[1, 2, 3], [3, 4, 5]] {
                let cache = &cache;
                scope.spawn(move || {
                    let inserted = cache.insert_batch(&entries(&keys), &mut Vec::new());
                    assert!(matches!(inserted, Ok(()) | Err(Error::Full { .. })));
                });
            }
            let _ = cache.insert("a", at(10_000));
            told(&cache.insert("b", at(10_000)))
        });
        assert_eq!(cache.len(), 6);
        cache.validate();
        told.into()
    });
}
