//! What a journal costs, compared with the same work without one and with the disk's own speed.
//! Checks the promised figures and prints them as a table. Takes some minutes, 2 GiB of memory and
//! 2 GiB of disk.
//!
//! ```text
//! cargo run --release -p oncewheel-report --bin journal-cost
//!     -- --quick                                   a check that it works: a hundredth of the keys
//! ONCEWHEEL_BENCH_DIR=/mnt/disk cargo run ...      on that disk
//! ```

use crate::contenders::{BATCH, JOURNALED, Scratch, config};
use crate::{machine, speed};
use oncewheel::journal::Durability;
use oncewheel::{Fingerprint, Timestamp, unsync::DedupCache};
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Keys in a batch that is synced.
const SYNCED: usize = 1000;

const COMMAND: &str = "cargo run --release -p oncewheel-report --bin journal-cost";
const METHOD: &str = "\
Runs with and without a journal take turns, and so do `Power` and the bare writes. The workload is
that of the other benchmarks: 5 % duplicates, one key expiring for each that enters, `observe`
before every batch of 1,024. A key that is appended alone takes 56 bytes until it is compacted.
";

/// Measures, and prints `docs/benchmarks/journal.md`.
pub fn journal_cost() -> Result<()> {
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let live = if is_quick { 100_000 } else { 10_000_000 };
    println!("# What a journal costs\n\nMeasured on {}: {}.", machine::date(), machine::describe());
    println!("To measure again, on an idle machine (one minute):\n\n    {COMMAND}\n");
    println!("| {live} live keys | must | measured |\n|---|--:|--:|");
    process(live, if is_quick { 3 } else { 9 });
    at_rest(live)?;
    power(if is_quick { 20 } else { 200 })?;
    print!("\n{METHOD}");
    Ok(())
}

/// `Durability::Process`, in turns with the same cache without a journal.
fn process(live: usize, rounds: usize) {
    let plan = speed::Plan { rounds, batches: 1024 };
    let speeds = speed::measure(JOURNALED.iter().map(|entrant| (entrant, live)), 1, &plan);
    for pair in speeds.chunks(2) {
        let [without, with] = pair else { continue };
        assert!(with.is_exact, "missed duplicates");
        let (without_ns, with_ns) = (without.ns_per_key(), with.ns_per_key());
        println!(
            "| `{}`, time with `Process` against none | 3x | {:.2}x ({with_ns:.0} ns against {without_ns:.0}) |",
            without.name.trim_start_matches("oncewheel_"),
            with_ns / without_ns
        );
    }
}

/// A cache is filled, closed and opened again.
fn at_rest(live: usize) -> Result<()> {
    let scratch = Scratch::new();
    let open = || DedupCache::open(scratch.path(), config(live), Durability::Process);
    let mut cache = open()?;
    let mut verdicts = Vec::new();
    let keys: Vec<_> = (0..live as u64).map(|key| (cache.fingerprint(key.to_le_bytes()), time(key, live))).collect();
    for batch in keys.chunks(BATCH) {
        cache.insert_batch(batch, &mut verdicts)?;
    }
    let bytes = cache.stats().journal_bytes as f64 / cache.len() as f64;
    println!("| bytes on disk a key at rest, in batches of {BATCH} | 28 | {bytes:.2} |");
    drop(cache);
    let mut rates = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let cache = open()?;
        rates.push(cache.len() as f64 / start.elapsed().as_secs_f64() / 1e6);
        assert_eq!(cache.len(), live);
    }
    rates.sort_by(f64::total_cmp);
    println!("| million keys a second when it is opened again | 5 | {:.1} |", rates[1]);
    Ok(())
}

fn time(key: u64, live: usize) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + key * 59_000 / live as u64)
}

/// `Durability::Power`, in turns with a bare write of as many bytes and a sync, in the same
/// directory.
fn power(rounds: usize) -> Result<()> {
    let scratch = Scratch::new();
    let mut cache = DedupCache::open(scratch.path().join("journal"), config(10_000_000), Durability::Power)?;
    let mut bare = File::create(scratch.path().join("bare"))?;
    let mut verdicts = Vec::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds as u128 {
        let keys = (0..SYNCED as u128).map(|at| Fingerprint::from_u128(round * SYNCED as u128 + at));
        let batch: Vec<_> = keys.map(|key| (key, Timestamp::from_millis(1_700_000_000_000))).collect();
        ours.push(timed(|| Ok(cache.insert_batch(&batch, &mut verdicts)?))?);
        theirs.push(timed(|| {
            bare.write_all(&[round as u8; SYNCED * 24 + 32])?;
            Ok(bare.sync_data()?)
        })?);
    }
    let [ours, theirs] = [ours, theirs].map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    });
    println!(
        "| a batch of {SYNCED} with `Power` against a bare write and `fdatasync` | | {:.2}x ({ours:.0} us against {theirs:.0}) |",
        ours / theirs
    );
    Ok(())
}

fn timed(call: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    call()?;
    Ok(start.elapsed())
}
