//! `max_keys` over shards that draw room in portions.

use super::*;
use crate::WhenFull;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

/// As many shards as make any room end up in a wrong one.
fn small(max_keys: usize) -> Config {
    config().max_keys(max_keys).shards(4)
}

fn insert(cache: &DedupCache, key: &str) -> &'static str {
    told(&cache.insert(key, at(10_000)))
}

/// What is left of the room when all threads are through is there to be used: no less, no more.
fn assert_room_left(cache: &DedupCache, left: usize) {
    cache.validate();
    for number in 0..left {
        assert_eq!(insert(cache, &format!("filling {number}")), "fresh", "{number} of {left}");
    }
    assert_eq!(insert(cache, "one more"), "full");
    cache.validate();
}

#[test]
fn the_last_room_goes_to_one() {
    explore(["fresh, full, full", "full, fresh, full", "full, full, fresh"], || {
        let cache = DedupCache::new(small(1)).unwrap();
        let outcome = thread::scope(|scope| {
            let second = scope.spawn(|| insert(&cache, "b"));
            let third = scope.spawn(|| claimed(&cache, "c", |claim| claim.commit().unwrap()));
            let first = insert(&cache, "a");
            format!("{first}, {}, {}", second.join().unwrap(), third.join().unwrap())
        });
        assert_room_left(&cache, 0);
        outcome
    });
}

#[test]
fn room_that_was_given_back_is_found_by_one() {
    // Who gives it back and finds none must have lost it to the other.
    explore(["fresh, full", "full, fresh"], || {
        let cache = DedupCache::new(small(2)).unwrap();
        let _ = (insert(&cache, "x"), insert(&cache, "y"));
        let outcome = thread::scope(|scope| {
            let other = scope.spawn(|| insert(&cache, "b"));
            assert!(cache.remove("x").unwrap());
            let first = insert(&cache, "a");
            format!("{first}, {}", other.join().unwrap())
        });
        assert_room_left(&cache, 0);
        outcome
    });
}

#[test]
fn a_commit_takes_no_room_and_an_abort_gives_its_own_back() {
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
        assert_room_left(&cache, usize::from(outcome == "full"));
        outcome.into()
    });
}

#[test]
fn nobody_is_refused_for_what_a_batch_has_borrowed() {
    // Room for all: the batch needs one place and sets three aside.
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
        assert_room_left(&cache, 0);
        "fresh".into()
    });
}

#[test]
fn a_batch_that_finds_no_room_leaves_the_rest_untouched() {
    // Two places for three keys, two of them the batch's: it says how far it came.
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
        assert_room_left(&cache, 0);
        outcome
    });
}

#[test]
fn the_oldest_are_forgotten_one_for_each_that_comes() {
    explore(["3 forgotten"], || {
        let cache = DedupCache::new(small(2).when_full(WhenFull::EvictOldest)).unwrap();
        let insert = |key, time| assert_eq!(told(&cache.insert(key, at(time))), "fresh");
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
        format!("{} forgotten", cache.stats().evicted)
    });
}

#[test]
fn forgetting_and_inserting_one_key_leaves_it_held_or_not_and_counted_once() {
    let allowed = ["dd, forgotten", "fd, held", "df, held", "fd, forgotten", "df, forgotten", "ff, held"];
    explore(allowed, || {
        let cache = DedupCache::new(small(2)).unwrap();
        let _ = insert(&cache, "a");
        let (forgets, inserts) = thread::scope(|scope| {
            let forgets = [(); 2].map(|()| scope.spawn(|| cache.remove("a").unwrap()));
            let second = scope.spawn(|| insert(&cache, "a"));
            let first = insert(&cache, "a");
            let inserts = [&first[..1], &second.join().unwrap()[..1]].concat();
            (forgets.map(|forget| usize::from(forget.join().unwrap())).iter().sum::<usize>(), inserts)
        });
        let held = usize::from(is_held(&cache, "a"));
        assert_eq!(1 + inserts.matches('f').count() - forgets, held);
        assert_room_left(&cache, 2 - held);
        format!("{inserts}, {}", if held == 1 { "held" } else { "forgotten" })
    });
}

/// What is known of the cache from outside, without a lock that the scheduler would see.
#[derive(Default)]
struct Ghost {
    /// Places that each thread holds for certain, and may hold.
    certain: [usize; 3],
    possible: [usize; 3],
    /// The most that others may have held since a thread's call began.
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
fn max_keys_is_never_passed_and_full_is_said_only_where_it_may_be_true() {
    const MAX_KEYS: usize = 2;
    explore(["full", "never full"], || {
        let cache = DedupCache::new(small(MAX_KEYS)).unwrap();
        let ghost = Mutex::new(Ghost::default());
        // Holds at most one place; takes it as a key or a claim, or within a batch, and gives it back.
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
                let told = match way {
                    0 => insert(&cache, key),
                    1 => claimed(&cache, key, |fresh| claim = Some(fresh)),
                    _ => {
                        let entry = (cache.fingerprint(key.as_bytes()), at(10_000));
                        let mut verdicts = Vec::new();
                        if cache.insert_batch(&[entry], &mut verdicts).is_ok() { "fresh" } else { "full" }
                    }
                };
                with(&ghost, |ghost| {
                    let is_fresh = told == "fresh";
                    assert!(is_fresh || ghost.others_max[me] >= MAX_KEYS, "{told}: there was room all the time");
                    ghost.certain[me] = usize::from(is_fresh);
                    assert!(ghost.certain.iter().sum::<usize>() <= MAX_KEYS, "more than may be");
                    ghost.possible[me] = usize::from(is_fresh);
                });
                if told == "full" {
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
        assert_room_left(&cache, MAX_KEYS);
        if full { "full" } else { "never full" }.into()
    });
}

fn with<R>(ghost: &Mutex<Ghost>, call: impl FnOnce(&mut Ghost) -> R) -> R {
    call(&mut ghost.lock().expect("held for no longer than this"))
}
