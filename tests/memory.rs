//! `Stats::memory_bytes` against the resident memory that the system reports. A process of its own
//! with one test, because all its memory counts.
#![cfg(target_os = "linux")]

use oncewheel::{Claimed, Clock, Config, Horizon, Stats, Timestamp, Verdict, sync, unsync};
use std::time::Duration;

const KEYS: usize = 1_000_000;
const CLAIMS: usize = 100_000;

fn config() -> Config {
    Config::new(Horizon::new(Duration::from_secs(60), Duration::ZERO)).clock(Clock::Manual).max_keys(2 * KEYS)
}

fn resident_bytes() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux with /proc mounted");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.expect("a line with the resident memory") * 1024
}

/// The growth of `memory_bytes` during `grow` is at least `least` of the growth of the resident
/// memory, and not more than a tenth above it.
fn compare<C>(what: &str, cache: &mut C, stats: fn(&C) -> Stats, least: f64, grow: impl FnOnce(&mut C)) {
    let before = (stats(cache).memory_bytes, resident_bytes());
    grow(cache);
    let (counted, resident) = (stats(cache).memory_bytes - before.0, resident_bytes() - before.1);
    let share = counted as f64 / resident as f64;
    println!("{what}: {counted} bytes counted, {resident} resident: {share:.3}");
    assert!((least..1.1).contains(&share), "{what}: {counted} bytes counted, {resident} resident");
}

#[test]
fn memory_bytes_agrees_with_the_resident_memory() {
    let time = |number: usize| Timestamp::from_millis(1 + number as u64 / 100);
    let mut one = unsync::DedupCache::new(config()).unwrap();
    compare("unsync", &mut one, unsync::DedupCache::stats, 0.9, |cache| {
        (0..KEYS).for_each(|number| assert!(cache.insert(&*number.to_string(), time(number)) == Ok(Verdict::Fresh)));
    });
    let mut many = sync::DedupCache::new(config()).unwrap();
    compare("sync", &mut many, sync::DedupCache::stats, 0.9, |cache| {
        (0..KEYS).for_each(|number| assert!(cache.insert(&*number.to_string(), time(number)) == Ok(Verdict::Fresh)));
    });
    // When a table of claims doubles, its former memory may stay with the process.
    let mut claiming = unsync::DedupCache::new(config()).unwrap();
    compare("claims", &mut claiming, unsync::DedupCache::stats, 0.5, |cache| {
        (0..CLAIMS).for_each(|number| {
            let Ok(Claimed::Fresh(claim)) = cache.claim(&*number.to_string(), time(number)) else { panic!("new") };
            std::mem::forget(claim); // it stays open
        });
    });
}
