//! The benchmarks. For criterion, one iteration is one batch of 1,024 deliveries for each thread,
//! and an "element" is a delivery. So the throughput gives the time per key. Expiry is included;
//! generating keys is not.
//!
//! ```text
//! cargo bench                                                   all, some minutes
//! cargo bench -- steady_10m/oncewheel                           builds only what the filter names
//! ONCEWHEEL_BENCH_100M=1 cargo bench -- keys_100m               needs 4 GiB
//! ONCEWHEEL_BENCH_DIVIDE=100 cargo bench -- --quick             a check that all works: fewer keys
//! ```
//!
//! To compare contenders with each other, `cargo run --release -p oncewheel-report` interleaves
//! them. `--bin journal-cost` of that package does so for journals.

mod contenders;
mod deliveries;

use contenders::{BATCH, Buffers, Delivery, ENTRANTS, Entrant, JOURNALED, Stream, THREADED, Team, config};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use oncewheel::{MinMsgTime, Verdict, unsync};
use std::time::{Duration, Instant};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    steady(&mut criterion, "steady_1m", &ENTRANTS, 1_000_000, 1);
    steady(&mut criterion, "steady_10m", &ENTRANTS, 10_000_000, 1);
    steady(&mut criterion, "threads_2", &THREADED, 10_000_000, 2);
    steady(&mut criterion, "journal_10m", &JOURNALED, 10_000_000, 1);
    bytes_keys(&mut criterion);
    deliveries::bench(&mut criterion);
    if std::env::var_os("ONCEWHEEL_BENCH_100M").is_some() {
        steady(&mut criterion, "keys_100m", &ENTRANTS[1..2], 100_000_000, 1);
    }
    criterion.final_summary();
}

fn steady(criterion: &mut Criterion, name: &str, entrants: &[Entrant], live: usize, threads: usize) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements((BATCH * threads) as u64));
    for entrant in entrants {
        bench_entrant(&mut group, entrant, scaled(live), threads);
    }
}

fn bench_entrant(group: &mut BenchmarkGroup<'_, WallTime>, entrant: &Entrant, live: usize, threads: usize) {
    // Criterion calls this for every sample, and not at all if a filter excludes this benchmark.
    let (mut team, mut held) = (None, 0);
    group.bench_function(entrant.name, |bencher| {
        let team = team.get_or_insert_with(|| {
            let mut team = Team::new(entrant, live, Buffers::new(threads));
            team.fill(1.3);
            team
        });
        bencher.iter_custom(|batches| team.run(batches));
        held = team.held();
    });
    if let Some(team) = team.filter(|_| entrant.is_cache()) {
        let missed = 100.0 * team.tally().missed();
        println!("{:24}held {held} keys, missed {missed:.2} % of the duplicates", "");
        if let Some(bytes) = team.memory_counted() {
            println!("{:24}counts {:.1} bytes for each key held", "", bytes as f64 / held as f64);
        }
        assert!(team.tally().is_exact() || !entrant.is_oncewheel(), "missed duplicates");
    }
}

/// Keys as they arrive, hashing included.
fn bytes_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bytes_keys");
    group.throughput(Throughput::Elements(BATCH as u64));
    for len in [16, 36, 64, 256] {
        let mut consumer = None;
        group.bench_function(len.to_string(), |bencher| {
            let consumer = consumer.get_or_insert_with(|| BytesConsumer::at_steady_state(len, scaled(1_000_000)));
            bencher.iter_custom(|batches| (0..batches).map(|_| consumer.take_batch()).sum());
        });
    }
}

struct BytesConsumer {
    cache: unsync::DedupCache,
    stream: Stream,
    deliveries: Vec<Delivery>,
    keys: Vec<u8>,
    len: usize,
}

impl BytesConsumer {
    fn at_steady_state(len: usize, live: usize) -> Self {
        let cache = unsync::DedupCache::new(config(live)).expect("a valid configuration");
        let stream = Stream::new(live, 1);
        let batches = stream.per_span() as usize * 13 / 10 / BATCH;
        let mut consumer = Self { cache, stream, deliveries: Vec::new(), keys: Vec::new(), len };
        (0..=batches).for_each(|_| {
            consumer.take_batch();
        });
        consumer
    }

    /// The time in the cache alone.
    fn take_batch(&mut self) -> Duration {
        let expected = self.stream.fill(&mut self.deliveries, BATCH);
        self.keys.clear();
        for (key, _) in &self.deliveries {
            self.keys.extend(key.as_u128().to_le_bytes().iter().cycle().take(self.len));
        }
        let start = Instant::now();
        self.cache.observe(MinMsgTime::Known(self.deliveries[0].1)).expect("a manual clock refuses nothing");
        let mut found = 0;
        for (key, (_, time)) in self.keys.chunks(self.len).zip(&self.deliveries) {
            let verdict = self.cache.insert(key, *time).expect("capacity for all live keys");
            found += usize::from(verdict == Verdict::Duplicate);
        }
        let elapsed = start.elapsed();
        assert_eq!(found, expected, "missed duplicates");
        elapsed
    }
}

/// Fewer keys for a check that everything runs: by choice, and if `cargo test` runs each benchmark
/// once.
fn scaled(live: usize) -> usize {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let divide = std::env::var("ONCEWHEEL_BENCH_DIVIDE").ok().and_then(|divide| divide.parse().ok());
    live / divide.unwrap_or(if is_bench { 1 } else { 1000 })
}
