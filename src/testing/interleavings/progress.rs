//! The watermark moves while keys arrive.

use super::*;
use crate::MinMsgTime;
use shuttle::thread;

fn observe(cache: &DedupCache, millis: u64) {
    cache.observe(MinMsgTime::Known(at(millis))).expect("not ahead of the clock");
}

#[test]
fn a_key_whose_deadline_the_watermark_has_not_passed_is_never_lost() {
    never_lost(|cache, watermark| observe(cache, watermark));
}

#[test]
fn a_key_whose_deadline_the_clock_has_not_passed_is_never_lost() {
    never_lost(|cache, watermark| cache.advance(at(watermark + RETENTION)).unwrap());
}

const RETENTION: u64 = 100_000;

fn never_lost(move_to: fn(&DedupCache, u64)) {
    // The watermark reaches the deadline of `a` and does not pass it. If it has passed the time of
    // `a` before `a` is inserted, `a` is too old both times.
    explore(["fresh, duplicate", "too old, too old"], move || {
        let horizon = config().horizon.max_retention(Duration::from_millis(RETENTION));
        let cache = DedupCache::new(Config { horizon, ..config() }).unwrap();
        let _ = cache.insert("expires", at(9_000)).unwrap();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                move_to(&cache, 11_000);
                move_to(&cache, 10_000 + SPAN);
            });
            let other = scope.spawn(|| answer(&cache.insert("later", at(12_000))));
            let first = answer(&cache.insert("a", at(10_000)));
            assert_eq!(other.join().unwrap(), "fresh");
            format!("{first}, {}", answer(&cache.insert("a", at(10_000))))
        });
        assert_eq!(is_held(&cache, "a"), outcome.starts_with("fresh"));
        assert!(is_held(&cache, "later"));
        cache.validate();
        // Nor is a key kept for ever.
        move_to(&cache, 20_000);
        cache.validate();
        assert_eq!(cache.len(), 0);
        outcome
    });
}

#[test]
fn the_watermark_never_goes_back_in_any_thread() {
    explore(["16000"], || {
        let horizon = config().horizon.max_retention(Duration::from_millis(5_000));
        let cache = DedupCache::new(Config { horizon, ..config() }).unwrap();
        let watch = || {
            let seen = [cache.watermark(), cache.stats().watermark, cache.watermark(), cache.stats().watermark];
            assert!(seen.is_sorted(), "{seen:?}");
        };
        thread::scope(|scope| {
            scope.spawn(|| cache.advance(at(20_000)).unwrap());
            scope.spawn(|| {
                observe(&cache, 14_000);
                assert!(cache.watermark() >= Some(at(14_000)), "what was observed is published");
                observe(&cache, 16_000);
                assert_eq!(cache.watermark(), Some(at(16_000)));
            });
            scope.spawn(|| observe(&cache, 13_000));
            watch();
        });
        cache.validate();
        cache.watermark().unwrap().as_millis().to_string()
    });
}

#[test]
fn a_message_of_unknown_time_is_never_too_old() {
    // The broker's clock is ahead of the consumer's, by less than `max_clock_skew`.
    explore(["fresh, fresh"], || {
        let cache = DedupCache::new(config()).unwrap();
        cache.advance(at(10_000)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| observe(&cache, 10_500));
            let first = answer(&cache.insert("a", None));
            let second = if let Ok(Claimed::Fresh(_)) = cache.claim("b", None) { "fresh" } else { "not fresh" };
            format!("{first}, {second}")
        })
    });
}

/// The broker's clock is ahead of the consumer's by a little more than `max_clock_skew`, and the
/// consumer's moves on.
#[test]
fn a_message_whose_time_is_clamped_is_never_too_old() {
    explore(["fresh, fresh"], || {
        let horizon = config().horizon.max_clock_skew(Duration::from_millis(1_000));
        let cache = DedupCache::new(Config { horizon, ..config() }).unwrap();
        cache.advance(at(10_000)).unwrap();
        let ahead = at(11_300);
        thread::scope(|scope| {
            scope.spawn(|| {
                cache.advance(at(10_500)).unwrap();
                observe(&cache, 11_300);
            });
            let first = answer(&cache.insert("a", ahead));
            let mut verdicts = Vec::new();
            cache.insert_batch(&[(cache.fingerprint(b"b"), ahead)], &mut verdicts).unwrap();
            let second = answer(&Ok(verdicts[0]));
            format!("{first}, {second}")
        })
    });
}

#[test]
fn the_quota_of_expired_keys_is_used_while_they_are_reclaimed() {
    // Four keys fill the cache and expire; two more arrive. A call may be refused only if the
    // watermark had not moved when it began.
    explore(["fresh, fresh", "full, fresh", "fresh, full", "full, full"], || {
        let cache = DedupCache::new(config().max_keys(4)).unwrap();
        for (number, key) in ["k", "l", "m", "n"].into_iter().enumerate() {
            let _ = cache.insert(key, at(9_000 + number as u64)).unwrap();
        }
        let outcome = thread::scope(|scope| {
            scope.spawn(|| observe(&cache, 11_500));
            let other = scope.spawn(|| answer(&cache.insert("a", at(11_500))));
            let has_moved = cache.watermark() == Some(at(11_500));
            let first = answer(&cache.insert("b", at(11_500)));
            assert!(first == "fresh" || !has_moved, "the quota of expired keys is free");
            format!("{first}, {}", other.join().unwrap())
        });
        cache.validate();
        for key in ["a", "b", "c", "d"] {
            assert_ne!(answer(&cache.insert(key, at(11_600))), "full", "expired keys are reclaimed, at the latest now");
        }
        assert_eq!(answer(&cache.insert("e", at(11_600))), "full");
        cache.validate();
        outcome
    });
}

#[test]
fn shrinking_loses_no_live_key() {
    explore(["fresh, duplicate", "duplicate, fresh"], || {
        let cache = DedupCache::new(config().max_keys(1_024)).unwrap();
        let expiring: Vec<_> = (0..200).map(|key| (crate::Fingerprint::from_u128(key), at(1_000))).collect();
        cache.insert_batch(&expiring, &mut Vec::new()).unwrap();
        let _ = cache.insert("there", at(10_000)).unwrap();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                observe(&cache, 9_000);
                while cache.shrink() {}
            });
            scope.spawn(|| while cache.shrink() {});
            let other = scope.spawn(|| answer(&cache.insert("a", at(10_000))));
            let first = answer(&cache.insert("a", at(10_000)));
            assert_eq!(answer(&cache.insert("there", at(10_000))), "duplicate");
            format!("{first}, {}", other.join().unwrap())
        });
        cache.validate();
        assert!(is_held(&cache, "a") && is_held(&cache, "there"));
        while cache.shrink() {}
        cache.validate();
        assert_eq!(cache.len(), 2);
        outcome
    });
}
