//! Batches against batches and against single calls.

use super::*;
use crate::Fingerprint;
use shuttle::thread;

/// The verdicts of a batch, a letter each: `f`resh or `d`uplicate.
fn batch(cache: &DedupCache, keys: &[u128]) -> String {
    let mut verdicts = Vec::new();
    cache.insert_batch(&entries(keys), &mut verdicts).expect("capacity for all");
    verdicts.into_iter().map(|verdict| &answer(&Ok(verdict))[..1]).collect()
}

fn entries(keys: &[u128]) -> Vec<(Fingerprint, Timestamp)> {
    keys.iter().map(|key| (Fingerprint::from_u128(*key), at(10_000))).collect()
}

fn insert(cache: &DedupCache, key: u128) -> &'static str {
    &answer(&cache.insert(Fingerprint::from_u128(key), at(10_000)))[..1]
}

#[test]
fn each_key_of_a_batch_and_of_single_calls_is_fresh_once() {
    // The keys lie in two shards, and those of the first come before those of the second. Otherwise
    // some of the outcomes could not occur. A key that occurs twice in a batch is a duplicate the
    // second time.
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
fn two_batches_that_cross_do_not_deadlock_and_each_key_is_fresh_once() {
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
fn batches_do_not_deadlock_with_a_call_that_locks_every_shard() {
    // The last of the quota is found by locking every shard in turn, while batches lock shards in
    // any order. There are seven keys and quota for six. So one call is refused, and no quota is
    // returned after that.
    explore(["fresh", "full"], || {
        let cache = DedupCache::new(config().max_keys(6).shards(4)).unwrap();
        let outcome = thread::scope(|scope| {
            for keys in [[1, 2, 3], [3, 4, 5]] {
                let cache = &cache;
                scope.spawn(move || {
                    let inserted = cache.insert_batch(&entries(&keys), &mut Vec::new());
                    assert!(matches!(inserted, Ok(()) | Err(Error::Full { .. })));
                });
            }
            let _ = cache.insert("a", at(10_000));
            answer(&cache.insert("b", at(10_000)))
        });
        assert_eq!(cache.len(), 6);
        cache.validate();
        outcome.into()
    });
}
