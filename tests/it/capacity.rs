//! At `max_keys`: a new key is refused, and no key is evicted unless that was chosen.

use crate::fronts::{Front, on_both_fronts};
use oncewheel::{Claimed, Clock, Config, Error, Horizon, Timestamp, Verdict, WhenFull};
use std::time::Duration;

fn config(max_keys: usize) -> Config {
    let horizon = Horizon::new(Duration::from_millis(1000), Duration::ZERO);
    Config::new(horizon).clock(Clock::Manual).max_keys(max_keys)
}

fn key(number: usize) -> String {
    format!("key-{number}")
}

on_both_fronts! {
    fn exactly_max_keys_are_held_and_the_next_is_refused_without_eviction<C: Front>() {
        for max_keys in [1, 2, 7, 100, 5_000, 20_000] {
            let mut cache = C::new(config(max_keys).shards(8)).unwrap();
            for number in 0..max_keys {
                assert_eq!(cache.insert(&key(number), Some(5)), Ok(Verdict::Fresh), "{number} of {max_keys}");
            }
            for _ in 0..3 {
                assert!(matches!(cache.insert("one more", Some(5)), Err(Error::Full { .. })));
                assert!(matches!(cache.claim("one more", Some(5)), Err(Error::Full { .. })));
            }
            for number in 0..max_keys {
                assert_eq!(cache.insert(&key(number), Some(5)), Ok(Verdict::Duplicate));
            }
            let stats = cache.stats();
            assert_eq!((stats.fresh, stats.evicted, cache.len()), (max_keys as u64, 0, max_keys));
            cache.validate();
        }
    }

    fn full_tells_the_watermark_at_which_the_next_key_expires<C: Front>() {
        for shards in [1, 8] {
            let mut cache = C::new(config(100).shards(shards)).unwrap();
            cache.observe_known(10_000).unwrap();
            for number in 0..100 {
                let time = 10_000 + (number as u64 * 37) % 5_000;
                assert_eq!(cache.insert(&key(number), Some(time)), Ok(Verdict::Fresh));
            }
            let next_expiry = |cache: &mut C| match cache.insert("one more", Some(60_000)) {
                Err(Error::Full { next_expiry: Some(watermark) }) => watermark.as_millis(),
                other => panic!("{other:?}"),
            };
            let watermark = next_expiry(&mut cache);
            assert!((11_001..=11_001 + 1_000 / 64 + 1).contains(&watermark), "{watermark}: the key of 10,000");
            cache.observe_known(watermark - 1).unwrap();
            assert_eq!(next_expiry(&mut cache), watermark, "not before");
            cache.observe_known(watermark).unwrap();
            assert_eq!(cache.insert("one more", Some(60_000)), Ok(Verdict::Fresh));
            cache.validate();
        }
        let mut claimed = C::new(config(1)).unwrap();
        let Ok(Claimed::Fresh(_open)) = claimed.claim("a", Some(5)) else { panic!("new") };
        assert_eq!(claimed.insert("b", Some(5)), Err(Error::Full { next_expiry: None }), "a claim does not expire");
    }

    fn after_full_the_cache_fills_again_as_the_watermark_moves<C: Front>() {
        let mut cache = C::new(config(5_000).shards(4)).unwrap();
        cache.observe_known(1).unwrap();
        for round in 0..20 {
            let time = 1 + round * 2000;
            for number in 0..5_000 {
                assert_eq!(cache.insert(&format!("{round}/{number}"), Some(time)), Ok(Verdict::Fresh));
            }
            assert!(matches!(cache.insert("one more", Some(time)), Err(Error::Full { .. })));
            cache.observe_known(time + 2000).unwrap();
            cache.validate();
        }
        assert!(cache.stats().memory_bytes < 5_000 * 80, "{} bytes", cache.stats().memory_bytes);
    }

    fn an_old_reading_of_the_clock_makes_no_call_full<C: Front>() {
        let millisecond = Duration::from_millis(1);
        let horizon = Horizon::new(millisecond, Duration::ZERO).max_retention(millisecond);
        // Its key has expired, although no call has read the clock since. Calls with a known time
        // do not read it.
        let waiting = |max_keys| {
            let mut cache = C::new(Config::new(horizon).max_keys(max_keys)).unwrap();
            assert_eq!(cache.insert("a", None), Ok(Verdict::Fresh));
            std::thread::sleep(Duration::from_millis(20));
            cache
        };
        let ahead = Timestamp::now().as_millis() + 30_000; // not below the watermark, and does not expire soon
        let mut cache = waiting(1);
        assert_eq!(cache.insert("b", Some(ahead)), Ok(Verdict::Fresh));
        assert!(matches!(cache.insert("c", Some(ahead)), Err(Error::Full { .. })));
        cache.validate();
        let mut cache = waiting(1);
        let mut verdicts = Vec::new();
        cache.insert_batch(&[(cache.fingerprint("b"), Timestamp::from_millis(ahead))], &mut verdicts).unwrap();
        assert_eq!(verdicts, [Verdict::Fresh]);
        cache.validate();
        // With capacity for two the first try succeeds.
        for max_keys in [1, 2] {
            let mut cache = waiting(max_keys);
            assert!(matches!(cache.claim("b", Some(ahead)), Ok(Claimed::Fresh(_))));
            cache.validate();
        }
    }

    fn open_claims_count_towards_max_keys_until_they_are_aborted<C: Front>() {
        let mut cache = C::new(config(2)).unwrap();
        let Ok(Claimed::Fresh(first)) = cache.claim("a", Some(5)) else { panic!() };
        let Ok(Claimed::Fresh(second)) = cache.claim("b", Some(5)) else { panic!() };
        assert!(matches!(cache.insert("c", Some(5)), Err(Error::Full { .. })));
        cache.commit(first).unwrap();
        assert!(matches!(cache.insert("c", Some(5)), Err(Error::Full { .. })));
        cache.abort(second);
        assert_eq!(cache.insert("c", Some(5)), Ok(Verdict::Fresh));
        assert!(cache.remove("a"));
        assert_eq!(cache.insert("d", Some(5)), Ok(Verdict::Fresh));
        cache.validate();
    }

    fn a_batch_that_meets_full_returns_the_verdicts_so_far<C: Front>() {
        let mut cache = C::new(config(50)).unwrap();
        let mut verdicts = Vec::new();
        let entry = |cache: &C, number| (cache.fingerprint(&key(number)), Timestamp::from_millis(5));
        let batch: Vec<_> = (0..80).map(|number| entry(&cache, number % 60)).collect();
        assert!(matches!(cache.insert_batch(&batch, &mut verdicts), Err(Error::Full { .. })));
        assert_eq!(verdicts, [Verdict::Fresh; 50]);
        let known: Vec<_> = (0..50).map(|number| entry(&cache, number)).collect();
        assert_eq!(cache.insert_batch(&known, &mut verdicts), Ok(()));
        assert_eq!(verdicts, [Verdict::Duplicate; 50]);
        assert_eq!(cache.len(), 50);
        cache.validate();
    }

    fn evict_oldest_evicts_what_would_expire_first_and_counts_it<C: Front>() {
        // In many small shards: the oldest of all shards.
        for shards in [1, 16] {
            let mut cache = C::new(config(100).shards(shards).when_full(WhenFull::EvictOldest)).unwrap();
            cache.observe_known(1000).unwrap();
            for number in 0..300u64 {
                assert_eq!(cache.insert(&key(number as usize), Some(1000 + number)), Ok(Verdict::Fresh));
            }
            let stats = cache.stats();
            assert_eq!((stats.keys_live, stats.evicted), (100, 200));
            let since = stats.complete_since.unwrap().as_millis();
            // The deadlines of slots two wheel levels up are 8 ms wide.
            assert!((1200..=1208).contains(&since), "{since}");
            for number in (since - 1000)..300 {
                assert_eq!(cache.insert(&key(number as usize), Some(1000 + number)), Ok(Verdict::Duplicate), "{number}");
            }
            assert_eq!(cache.insert(&key(0), Some(1300)), Ok(Verdict::Fresh), "evicted");
            cache.validate();
        }
    }

    fn evict_oldest_holds_max_keys_at_scale_and_in_batches<C: Front>() {
        let mut cache = C::new(config(20_000).shards(4).when_full(WhenFull::EvictOldest)).unwrap();
        let mut verdicts = Vec::new();
        for round in 0..60u64 {
            let time = Timestamp::from_millis(1000 + round);
            let batch: Vec<_> =
                (0..1000).map(|number| (cache.fingerprint(&format!("{round}/{number}")), time)).collect();
            cache.insert_batch(&batch, &mut verdicts).unwrap();
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Fresh));
        }
        cache.validate();
        let stats = cache.stats();
        assert!(stats.keys_live <= 20_000 && stats.keys_live > 19_000, "{}", stats.keys_live);
        assert_eq!(stats.keys_live as u64 + stats.evicted, 60_000);
        let since = stats.complete_since.unwrap().as_millis() - 1000;
        assert!(since < 50, "of 20 rounds that fit, most are vouched for: since {since}");
        for round in since..60 {
            for number in 0..1000 {
                assert_eq!(cache.insert(&format!("{round}/{number}"), Some(1060)), Ok(Verdict::Duplicate));
            }
        }
    }

    fn evict_oldest_with_only_claims_is_full<C: Front>() {
        let mut cache = C::new(config(1).when_full(WhenFull::EvictOldest)).unwrap();
        let Ok(Claimed::Fresh(claim)) = cache.claim("a", Some(5)) else { panic!() };
        assert!(matches!(cache.insert("b", Some(5)), Err(Error::Full { .. })));
        cache.commit(claim).unwrap();
        assert_eq!(cache.insert("b", Some(5)), Ok(Verdict::Fresh));
    }

    fn inserting_and_removing_in_turn_does_not_grow_memory<C: Front>() {
        let mut cache = C::new(config(10)).unwrap();
        let _ = cache.insert("stays", Some(5)).unwrap();
        let before = cache.stats().memory_bytes;
        for _ in 0..100_000 {
            let _ = cache.insert("comes and goes", Some(5)).unwrap();
            assert!(cache.remove("comes and goes"));
        }
        cache.validate();
        let after = cache.stats().memory_bytes;
        assert!(after < before + 10_000, "{before} bytes became {after}");
    }

    fn inserting_and_removing_in_any_order_leaves_no_holes<C: Front>() {
        let mut cache = C::new(config(1000).shards(1)).unwrap();
        for round in 0..200_000 {
            let random = round * 7919 % 1009;
            if cache.insert(&key(random), Some(5 + random as u64 % 3)) == Ok(Verdict::Duplicate) {
                assert!(cache.remove(&key(random)));
            }
            if round % 10_000 == 0 {
                cache.validate();
            }
        }
        assert!(cache.stats().memory_bytes < 150_000, "{}", cache.stats().memory_bytes);
    }

    fn shrinking_ends_for_any_shards_and_sizes<C: Front>() {
        for (max_keys, shards) in [(1, 1), (20_000_000, 4), (50_000_000, 16), (1 << 30, 8)] {
            let mut cache = C::new(config(max_keys).shards(shards)).unwrap();
            cache.observe_known(1).unwrap();
            for number in 0..20_000.min(max_keys) {
                assert_eq!(cache.insert(&key(number), Some(1)), Ok(Verdict::Fresh));
            }
            cache.observe_known(10_000).unwrap();
            let calls = (0..1_000_000).take_while(|_| cache.shrink()).count();
            assert!(calls < 100_000, "{calls} calls of max_keys {max_keys}");
        }
    }

    fn after_a_burst_of_ten_times_the_keys_memory_is_released_step_by_step<C: Front>() {
        let mut cache = C::new(config(2_000_000)).unwrap();
        cache.observe_known(1).unwrap();
        let insert = |cache: &mut C, keys: std::ops::Range<usize>, time| {
            for number in keys {
                assert_eq!(cache.insert(&key(number), Some(time)), Ok(Verdict::Fresh));
            }
        };
        insert(&mut cache, 0..50_000, 1);
        let before = cache.stats().memory_bytes;
        insert(&mut cache, 50_000..550_000, 2);
        let burst = cache.stats().memory_bytes;
        insert(&mut cache, 550_000..600_000, 5_000);
        cache.observe_known(5_000).unwrap();
        let mut calls = 0;
        while cache.shrink() {
            calls += 1;
        }
        cache.validate();
        let after = cache.stats().memory_bytes;
        assert_eq!(cache.len(), 50_000);
        // The latest keys lie behind those of the burst. A shard's first page of them is kept
        // whole.
        let pages = 8 * (256 << 10);
        assert!(after < before + pages && after < burst / 4, "{before}, at the burst {burst}, then {after} bytes");
        assert!(calls > 10, "in {calls} calls");
        for number in 550_000..600_000 {
            assert_eq!(cache.insert(&key(number), Some(5_000)), Ok(Verdict::Duplicate));
        }
        insert(&mut cache, 600_000..700_000, 5_000);
        cache.validate();
    }

    fn an_empty_cache_is_small<C: Front>() {
        let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
        let cache = C::new(Config::new(horizon)).unwrap();
        assert!(cache.stats().memory_bytes < 256 << 10, "{}", cache.stats().memory_bytes);
    }
}
