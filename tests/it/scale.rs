//! Many keys: growth, expiry, batches against single calls, and keys of every kind.

use crate::fronts::{Front, on_both_fronts};
use oncewheel::{Clock, Config, Fingerprint, Horizon, Timestamp, Verdict, sync, unsync};
use std::time::Duration;

const SPAN: u64 = 60_000;

fn config(max_keys: usize) -> Config {
    let horizon = Horizon::new(Duration::from_millis(SPAN), Duration::ZERO);
    Config::new(horizon).clock(Clock::Manual).max_keys(max_keys).secret([3; 16])
}

/// Numbers that look random (the finaliser of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Deliveries of a steady stream, one in ten a copy of one before, times shuffled by up to 50 ms.
fn deliveries(count: u64, per_millisecond: u64) -> impl Iterator<Item = (u64, Timestamp)> {
    (0..count).map(move |number| {
        let random = mixed(number);
        let key = if random.is_multiple_of(10) { number - (random >> 8) % (number + 1) } else { number };
        (key, Timestamp::from_millis(1_000_000 + number / per_millisecond + random % 50))
    })
}

on_both_fronts! {
    fn batches_of_any_size_answer_as_single_calls_do<C: Front>() {
        let (mut single, mut batched) = (C::new(config(1 << 20)).unwrap(), C::new(config(1 << 20)).unwrap());
        let stream: Vec<_> = deliveries(400_000, 2)
            .map(|(key, time)| (single.fingerprint(&key.to_string()), key.to_string(), time))
            .collect();
        let mut verdicts = Vec::new();
        let mut rest = &stream[..];
        for round in 0.. {
            if rest.is_empty() {
                break;
            }
            let size = [0, 1, 31, 32, 33, 64, 1000, 1024, 1025, 5000][round % 10].min(rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            let entries: Vec<_> = now.iter().map(|(fingerprint, _, time)| (*fingerprint, *time)).collect();
            batched.insert_batch(&entries, &mut verdicts).unwrap();
            let one_by_one: Vec<_> =
                now.iter().map(|(_, key, time)| single.insert(key, Some(time.as_millis())).unwrap()).collect();
            assert_eq!(verdicts, one_by_one);
            if let Some((_, _, time)) = now.last() {
                for cache in [&mut single, &mut batched] {
                    cache.advance(time.as_millis());
                    cache.observe_known(time.as_millis() - 100).unwrap();
                }
            }
        }
        let (single, batched) = (single.stats(), batched.stats());
        assert!(single.duplicate > 20_000 && single.expired > 100_000, "{single:?}");
        assert_eq!(
            (single.fresh, single.duplicate, single.too_old),
            (batched.fresh, batched.duplicate, batched.too_old)
        );
        // An age is known up to the spread of a chunk, and a batch stores its keys in another
        // order.
        assert!(single.late_duplicates.abs_diff(batched.late_duplicates) < 10, "{single:?}, {batched:?}");
        let ages = [single, batched].map(|stats| stats.duplicate_ages.max().map_or(0, |age| age.as_millis()));
        assert!(ages[0].abs_diff(ages[1]) < 100, "{ages:?}");
    }

    fn growing_to_a_million_keys_and_back_loses_and_invents_none<C: Front>() {
        const KEYS: u64 = 1_000_000;
        let mut cache = C::new(config(KEYS as usize)).unwrap();
        cache.observe_known(1).unwrap();
        for number in 0..KEYS {
            assert_eq!(cache.insert(&number.to_string(), Some(1 + number / 20)), Ok(Verdict::Fresh));
        }
        assert_eq!(cache.len(), KEYS as usize);
        cache.validate();
        let bytes = cache.stats().memory_bytes as f64 / KEYS as f64;
        assert!(bytes < 32.0, "{bytes} bytes a key");
        for number in 0..KEYS {
            assert_eq!(cache.insert(&number.to_string(), Some(40_000)), Ok(Verdict::Duplicate));
        }
        // All keys are due at once, and each call reclaims a few of them.
        cache.observe_known(10 * SPAN).unwrap();
        assert!(cache.len() > 900_000, "no call does all the work");
        let mut calls = 0;
        while cache.len() > 0 {
            cache.observe_known(10 * SPAN).unwrap();
            calls += 1;
        }
        assert!(calls < 2_000, "{calls}");
        cache.validate();
        for number in 0..1000 {
            assert_eq!(cache.insert(&number.to_string(), Some(1)), Ok(Verdict::TooOld));
            assert_eq!(cache.insert(&number.to_string(), Some(10 * SPAN)), Ok(Verdict::Fresh));
        }
    }

    fn every_call_reclaims_expired_keys_even_if_slots_hold_one_key_each<C: Front>() {
        let mut cache = C::new(config(100_000).shards(1)).unwrap();
        cache.observe_known(1).unwrap();
        // One key in each slot, and so a chunk for each key.
        for number in 0..900 {
            let _ = cache.insert(&number.to_string(), Some(1 + 64 * number)).unwrap();
        }
        cache.observe_known(SPAN).unwrap();
        for number in 0..1000 {
            let time = 3 * SPAN + 64 * number;
            cache.observe_known(SPAN + 64 * number).unwrap();
            let _ = cache.insert(&format!("later {number}"), Some(time)).unwrap();
        }
        assert_eq!(cache.stats().expired, 900);
    }

    fn keys_of_any_length_are_distinguished<C: Front>() {
        let mut cache = C::new(config(10_000)).unwrap();
        for length in 0..600 {
            assert_eq!(cache.insert(&"x".repeat(length), Some(5)), Ok(Verdict::Fresh), "{length} bytes");
        }
        for length in 0..600 {
            assert_eq!(cache.insert(&"x".repeat(length), Some(5)), Ok(Verdict::Duplicate), "{length} bytes");
        }
    }
}

#[test]
fn empty_keys_and_bytes_that_are_not_text_are_keys_like_any_other() {
    let cache = sync::DedupCache::new(config(100)).unwrap();
    let time = Timestamp::from_millis(5);
    let keys: [&[u8]; 5] = [b"", b"\0", b"\0\0", b"\xff\xfe", &[0x80; 300]];
    for key in keys {
        assert_eq!(cache.insert(key, time), Ok(Verdict::Fresh), "{key:?}");
        assert_eq!(cache.insert(key.to_vec(), time), Ok(Verdict::Duplicate), "{key:?}");
        assert_eq!(cache.insert(cache.fingerprint(key), time), Ok(Verdict::Duplicate), "{key:?}");
    }
    assert_eq!(cache.len(), 5);
}

/// Fingerprints made of counters, UUIDs with fixed bits and the like must not crowd in one place.
#[test]
fn fingerprints_that_callers_made_spread_evenly_whatever_their_pattern() {
    let patterns: [fn(u64) -> u128; 6] = [
        |n| u128::from(n),
        |n| u128::from(n) << 64,
        |n| u128::from(n) << 100,
        |n| u128::from(n) | u128::from(n) << 64,
        |n| u128::from(n) * 0x1_0000_0000,
        |n| u128::MAX - u128::from(n),
    ];
    for (number, pattern) in patterns.into_iter().enumerate() {
        let mut cache = unsync::DedupCache::new(config(200_000)).unwrap();
        let started = std::time::Instant::now();
        for n in 0..200_000 {
            let key = Fingerprint::from_u128(pattern(n));
            assert_eq!(cache.insert(key, Timestamp::from_millis(5)), Ok(Verdict::Fresh));
        }
        cache.validate();
        let bytes = cache.stats().memory_bytes as f64 / 200_000.0;
        assert!(bytes < 40.0, "pattern {number}: {bytes} bytes a key, in {:?}", started.elapsed());
    }
}
