//! Keys chosen by an adversary take no more memory than other keys, and no more quota than there
//! is. That they cost no more work is shown by `engine/index/work.rs`.

use crate::fronts::{Front, on_both_fronts};
use oncewheel::{Claimed, Clock, Config, Error, Fingerprint, Horizon, Timestamp, Verdict, unsync};
use std::time::Duration;

/// The number of keys, unless `ONCEWHEEL_HOSTILE_KEYS` is set.
const KEYS: usize = 1_000_000;
/// What a key takes according to `Config`, with a little for tables that have just grown; and what
/// an empty cache takes.
const BYTES_PER_KEY: usize = 32;
const BYTES_OF_EMPTY: usize = 256 << 10;

fn keys() -> usize {
    std::env::var("ONCEWHEEL_HOSTILE_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS)
}

fn config(max_keys: usize) -> Config {
    let horizon = Horizon::new(Duration::from_millis(1_000), Duration::ZERO);
    Config::new(horizon).clock(Clock::Manual).max_keys(max_keys)
}

/// The memory of a cache that holds this many of these keys.
fn memory_of(count: usize, key: impl Fn(&unsync::DedupCache, u64) -> Fingerprint) -> usize {
    let mut cache = unsync::DedupCache::new(config(count)).unwrap();
    let time = Timestamp::from_millis(5);
    for number in 0..count as u64 {
        let key = key(&cache, number);
        assert_eq!(cache.insert(key, time), Ok(Verdict::Fresh), "{number}");
    }
    for number in 0..count as u64 {
        let key = key(&cache, number);
        assert_eq!(cache.insert(key, time), Ok(Verdict::Duplicate), "{number}");
    }
    cache.validate();
    cache.stats().memory_bytes
}

#[test]
fn keys_that_share_a_prefix_or_collide_under_a_known_secret_take_no_more_memory_than_others() {
    let count = keys();
    let ordinary = memory_of(count, |cache, number| cache.fingerprint(number.to_le_bytes()));
    let prefix = "tenant-1/orders/europe/".repeat(8);
    let shares_a_prefix =
        memory_of(count, |cache, number| cache.fingerprint(format!("{prefix}{number:020}").as_bytes()));
    // Of sixteen names, the one whose fingerprint under a known secret ends in four zeros; if there
    // is none, the last.
    let known = unsync::DedupCache::new(config(1).secret([0; 16])).unwrap();
    let collides = memory_of(count, |cache, number| {
        let names = (0..16u64).map(|tail| (number << 4 | tail).to_string());
        let chosen = names.min_by_key(|name| known.fingerprint(name.as_bytes()).as_u128() % 16).unwrap();
        cache.fingerprint(chosen.as_bytes())
    });
    // A product with 0: without a secret, all of these would have one hash.
    let has_one_hash = memory_of(count, |_, number| Fingerprint::from_u128(number.into()));
    let has_high_bits_only = memory_of(count, |_, number| Fingerprint::from_u128(u128::from(number) << 64));
    let differs_in_few_bits = memory_of(count, |_, number| {
        let spread = (0..24).fold(0, |bits, bit| bits | u128::from(number >> bit & 1) << (5 * bit + 3));
        Fingerprint::from_u128(spread)
    });
    println!("{count} keys, bytes each: {:.2}", ordinary as f64 / count as f64);
    for hostile in [shares_a_prefix, collides, has_one_hash, has_high_bits_only, differs_in_few_bits] {
        assert!(hostile <= ordinary / 100 * 103, "{hostile} bytes, not {ordinary}");
    }
    assert!(ordinary <= count * BYTES_PER_KEY + BYTES_OF_EMPTY);
}

on_both_fronts! {
    fn a_flood_of_new_keys_meets_full_within_the_memory_bound_and_known_keys_are_still_answered<C: Front>() {
        let max_keys = keys();
        let mut cache = C::new(config(max_keys)).unwrap();
        cache.observe_known(1_000).unwrap();
        assert_eq!(cache.insert("ours", Some(1_000)), Ok(Verdict::Fresh));
        let Ok(Claimed::Fresh(claim)) = cache.claim("ours, claimed", Some(1_000)) else { panic!("never seen") };
        let flood = |number: usize| Fingerprint::from_u128(number as u128);
        let mut verdicts = Vec::new();
        let mut entered = 0;
        let full = loop {
            let batch: Vec<_> =
                (entered..entered + 1_000).map(|number| (flood(number), Timestamp::from_millis(1_000))).collect();
            let result = cache.insert_batch(&batch, &mut verdicts);
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Fresh));
            entered += verdicts.len();
            if result.is_err() {
                break result;
            }
        };
        assert!(matches!(full, Err(Error::Full { .. })));
        assert_eq!(entered, max_keys - 2);
        let at_full = cache.stats().memory_bytes;
        assert!(at_full <= max_keys * BYTES_PER_KEY + BYTES_OF_EMPTY, "{at_full} bytes");
        // The flood continues.
        for number in 0..max_keys / 10 {
            assert!(matches!(cache.insert(&format!("flood {number}"), Some(1_000)), Err(Error::Full { .. })));
        }
        assert_eq!(cache.stats().memory_bytes, at_full, "refusing takes no memory");
        assert_eq!(cache.insert("ours", Some(1_000)), Ok(Verdict::Duplicate));
        assert!(matches!(cache.claim("ours, claimed", Some(1_000)), Ok(Claimed::InFlight)));
        // One more key, for which a table may grow.
        cache.commit(claim).unwrap();
        assert_eq!(cache.insert("ours, claimed", Some(1_000)), Ok(Verdict::Duplicate));
        assert_eq!(cache.stats().evicted, 0);
        // As the watermark moves, new keys fit into the same memory.
        cache.observe_known(5_000).unwrap();
        for number in 0..max_keys / 2 {
            assert_eq!(cache.insert(&format!("later {number}"), Some(5_000)), Ok(Verdict::Fresh));
        }
        cache.validate();
        let stats = cache.stats();
        assert!(stats.memory_bytes <= at_full + at_full / 50, "{} bytes", stats.memory_bytes);
        assert_eq!(stats.evicted, 0);
    }
}
