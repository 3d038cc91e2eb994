//! `max_keys` over shards that draw quota in portions.

use super::*;
use crate::WhenFull;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

/// So many shards that quota can lie in a shard that does not need it.
fn small(max_keys: usize) -> Config {
    config().max_keys(max_keys).shards(4)
}

fn insert(cache: &DedupCache, key: &str) -> &'static str {
    answer(&cache.insert(key, at(10_000)))
}

/// After all threads have ended, exactly this much quota is left to be used.
fn assert_quota_left(cache: &DedupCache, left: usize) {
    cache.validate();
    for number in 0..left {
        assert_eq!(insert(cache, &format!("filling {number}")), "fresh", "{number} of {left}");
    }
    assert_eq!(insert(cache, "one more"), "full");
    cache.validate();
}

#[test]
fn the_last_quota_goes_to_one_thread() {
    explore(["fresh, full, full", "full, fresh, full", "full, full, fresh"], || {
        let cache = DedupCache::new(small(1)).unwrap();
        let outcome = thread::scope(|scope| {
            let second = scope.spawn(|| insert(&cache, "b"));
            let third = scope.spawn(|| claimed(&cache, "c", |claim| claim.commit().unwrap()));
            let first = insert(&cache, "a");
            format!("{first}, {}, {}", second.join().unwrap(), third.join().unwrap())
        });
        assert_quota_left(&cache, 0);
        outcome
    });
}

#[test]
fn returned_quota_is_found_by_one_thread() {
    // If the thread that returns quota finds none, the other thread has taken it.
    explore(["fresh, full", "full, fresh"], || {
        let cache = DedupCache::new(small(2)).unwrap();
        let _ = (insert(&cache, "x"), insert(&cache, "y"));
        let outcome = thread::scope(|scope| {
            let other = scope.spawn(|| insert(&cache, "b"));
            assert!(cache.remove("x").unwrap());
            let first = insert(&cache, "a");
            format!("{first}, {}", other.join().unwrap())
        });
        assert_quota_left(&cache, 0);
        outcome
    });
}

#[test]
fn a_commit_takes_no_quota_and_an_abort_returns_its_own() {
    explore(["fresh", "full"], || {
        let cache = DedupCache::new(small(2)).unwrap();
        let [commits, aborts] = ["x", "y"].map(|key| match cache.claim(key, at(10_000)) {
            Ok(Claimed::Fresh(claim)) => claim,
            other => panic!("{other:?}"),
        });
        let outcome = thread::scope(|scope| {
            scope.spawn(|| commits.commit().unwrap());
            scope.spawn(|| aborts.abort());
            insert(&cache, "a")
        });
        assert_quota_left(&cache, usize::from(outcome == "full"));
        outcome.into()
    });
}

#[test]
fn no_call_is_refused_for_quota_that_a_batch_has_borrowed() {
    // There is quota for all. The batch needs it for one key and borrows it for three.
    explore(["fresh"], || {
        let cache = DedupCache::new(small(4)).unwrap();
        let _ = insert(&cache, "x");
        thread::scope(|scope| {
            scope.spawn(|| {
                let entry = (cache.fingerprint(b"a"), at(10_000));
                let mut verdicts = Vec::new();
                cache.insert_batch(&[entry; 3], &mut verdicts).unwrap();
                assert_eq!(verdicts, [Verdict::Fresh, Verdict::Duplicate, Verdict::Duplicate]);
            });
            scope.spawn(|| assert_eq!(insert(&cache, "b"), "fresh"));
            assert_eq!(insert(&cache, "c"), "fresh");
        });
        assert_quota_left(&cache, 0);
        "fresh".into()
    });
}

#[test]
fn a_batch_that_meets_full_leaves_the_rest_untouched() {
    // Quota for two of three keys, two of which are the batch's. Its verdicts show how far it came.
    explore(["2, full", "1, fresh"], || {
        let cache = DedupCache::new(small(3)).unwrap();
        let _ = insert(&cache, "x");
        let outcome = thread::scope(|scope| {
            let other = scope.spawn(|| insert(&cache, "c"));
            let entries = ["a", "b"].map(|key| (cache.fingerprint(key.as_bytes()), at(10_000)));
            let mut verdicts = Vec::new();
            let inserted = cache.insert_batch(&entries, &mut verdicts);
            assert_eq!(inserted.is_ok(), verdicts.len() == 2);
            assert_eq!((is_held(&cache, "a"), is_held(&cache, "b")), (true, verdicts.len() == 2));
            format!("{}, {}", verdicts.len(), other.join().unwrap())
        });
        assert_quota_left(&cache, 0);
        outcome
    });
}

#[test]
fn every_insert_evicts_the_oldest_key() {
    explore(["3 evicted"], || {
        let cache = DedupCache::new(small(2).when_full(WhenFull::EvictOldest)).unwrap();
        let insert = |key, time| assert_eq!(answer(&cache.insert(key, at(time))), "fresh");
        insert("x", 9_000);
        insert("y", 9_100);
        thread::scope(|scope| {
            scope.spawn(|| insert("b", 10_200));
            scope.spawn(|| insert("c", 10_300));
            insert("a", 10_100);
        });
        cache.validate();
        assert_eq!((cache.len(), is_held(&cache, "c")), (2, true), "the youngest is never the oldest");
        assert!(!is_held(&cache, "x"));
        format!("{} evicted", cache.stats().evicted)
    });
}

#[test]
fn removing_and_inserting_one_key_leaves_it_held_or_not_and_counted_once() {
    let allowed = ["dd, removed", "fd, held", "df, held", "fd, removed", "df, removed", "ff, held"];
    explore(allowed, || {
        let cache = DedupCache::new(small(2)).unwrap();
        let _ = insert(&cache, "a");
        let (removals, inserts) = thread::scope(|scope| {
            let removals = [(); 2].map(|()| scope.spawn(|| cache.remove("a").unwrap()));
            let second = scope.spawn(|| insert(&cache, "a"));
            let first = insert(&cache, "a");
            let inserts = [&first[..1], &second.join().unwrap()[..1]].concat();
            (removals.map(|removal| usize::from(removal.join().unwrap())).iter().sum::<usize>(), inserts)
        });
        let held = usize::from(is_held(&cache, "a"));
        assert_eq!(1 + inserts.matches('f').count() - removals, held);
        assert_quota_left(&cache, 2 - held);
        format!("{inserts}, {}", if held == 1 { "held" } else { "removed" })
    });
}

/// What the threads know of the cache. It is behind a lock that the scheduler does not know.
#[derive(Default)]
struct Ghost {
    /// The keys that each thread certainly holds, and that it may hold.
    certain: [usize; 3],
    possible: [usize; 3],
    /// The most keys that the other threads may have held since a thread's call began.
    others_max: [usize; 3],
}

impl Ghost {
    fn note(&mut self) {
        for thread in 0..3 {
            let others = self.possible.iter().sum::<usize>() - self.possible[thread];
            self.others_max[thread] = self.others_max[thread].max(others);
        }
    }
}

#[test]
fn max_keys_is_never_exceeded_and_full_is_returned_only_if_it_can_be_true() {
    const MAX_KEYS: usize = 2;
    explore(["full", "never full"], || {
        let cache = DedupCache::new(small(MAX_KEYS)).unwrap();
        let ghost = Mutex::new(Ghost::default());
        // Holds at most one key. It is inserted, claimed, or inserted by a batch, and then removed
        // or aborted.
        let work = |me: usize, key: &str| {
            let mut found_full = false;
            for _ in 0..2 {
                let way = thread_rng().gen_range(0..3);
                with(&ghost, |ghost| {
                    ghost.others_max[me] = 0;
                    ghost.possible[me] = 1;
                    ghost.note();
                });
                let mut claim = None;
                let answer = match way {
                    0 => insert(&cache, key),
                    1 => claimed(&cache, key, |fresh| claim = Some(fresh)),
                    _ => {
                        let entry = (cache.fingerprint(key.as_bytes()), at(10_000));
                        let mut verdicts = Vec::new();
                        if cache.insert_batch(&[entry], &mut verdicts).is_ok() { "fresh" } else { "full" }
                    }
                };
                with(&ghost, |ghost| {
                    let is_fresh = answer == "fresh";
                    assert!(is_fresh || ghost.others_max[me] >= MAX_KEYS, "{answer}: there was quota all the time");
                    ghost.certain[me] = usize::from(is_fresh);
                    assert!(ghost.certain.iter().sum::<usize>() <= MAX_KEYS, "more than `max_keys`");
                    ghost.possible[me] = usize::from(is_fresh);
                });
                if answer == "full" {
                    found_full = true;
                    continue;
                }
                with(&ghost, |ghost| ghost.certain[me] = 0);
                match claim {
                    Some(claim) if thread_rng().gen_bool(0.5) => claim.abort(),
                    Some(claim) => {
                        claim.commit().unwrap();
                        assert!(cache.remove(key).unwrap());
                    }
                    None => assert!(cache.remove(key).unwrap()),
                }
                with(&ghost, |ghost| ghost.possible[me] = 0);
            }
            found_full
        };
        let full = thread::scope(|scope| {
            let others = [(1, "b"), (2, "c")].map(|(me, key)| scope.spawn(move || work(me, key)));
            let full = work(0, "a");
            others.into_iter().fold(full, |full, other| other.join().unwrap() || full)
        });
        assert_quota_left(&cache, MAX_KEYS);
        if full { "full" } else { "never full" }.into()
    });
}

fn with<R>(ghost: &Mutex<Ghost>, call: impl FnOnce(&mut Ghost) -> R) -> R {
    call(&mut ghost.lock().expect("not poisoned"))
}
