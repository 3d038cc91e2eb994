//! How long single calls take, the slowest above all: while a cache grows from empty, while a tenth
//! of its keys expires at once, and after that.

use crate::child;
use crate::contenders::{BATCH, Contender, Delivery, Entrant, Stream};
use std::io::{Result, Write};
use std::time::Instant;

pub(crate) const LATENCY: &str = "latency";

/// Keys in a call.
const CALLS: [(&str, usize); 4] =
    [("oncewheel_unsync", 1), ("oncewheel_unsync_batch", 32), ("hashmap_fifo", 1), ("dashmap_wheel", 1)];

/// Every run makes the same calls. The delays that the system's scheduler adds are different in
/// each run.
const RUNS: usize = 3;

pub(crate) struct Latency {
    pub(crate) name: &'static str,
    pub(crate) keys_per_call: usize,
    /// In nanoseconds, shortest first. For each call, the least time of all runs.
    sorted: Vec<u32>,
    /// The slowest call of each run, unchanged.
    pub(crate) worst_of_runs: Vec<u32>,
}

impl Latency {
    pub(crate) fn worst(&self) -> u32 {
        self.sorted.last().copied().unwrap_or(0)
    }

    pub(crate) fn calls(&self) -> usize {
        self.sorted.len()
    }

    /// The time of the fastest among the slowest `share` of all calls.
    pub(crate) fn slowest(&self, share: f64) -> u32 {
        let slower = (self.sorted.len() as f64 * share) as usize;
        self.sorted[self.sorted.len() - slower.clamp(1, self.sorted.len())]
    }
}

pub(crate) fn measure_all(live: usize) -> Result<Vec<Latency>> {
    CALLS.iter().map(|(name, keys_per_call)| measure(name, *keys_per_call, live)).collect()
}

fn measure(name: &'static str, keys_per_call: usize, live: usize) -> Result<Latency> {
    let mut least: Vec<u32> = Vec::new();
    let mut worst_of_runs = Vec::new();
    for _ in 0..RUNS {
        let written = child::ask(LATENCY, name, live)?;
        let (calls, _) = written.as_chunks::<4>();
        let calls: Vec<u32> = calls.iter().map(|call| u32::from_le_bytes(*call)).collect();
        worst_of_runs.push(calls.iter().copied().max().unwrap_or(0));
        least = if least.is_empty() { calls } else { least.iter().zip(&calls).map(|(a, b)| *a.min(b)).collect() };
    }
    least.sort_unstable();
    Ok(Latency { name, keys_per_call, sorted: least, worst_of_runs })
}

/// In the child: writes the time of each call, in nanoseconds, as four bytes.
pub(crate) fn serve(entrant: &Entrant, live: usize) {
    let keys_per_call = CALLS.iter().find(|(name, _)| *name == entrant.name).map_or(1, |(_, keys)| *keys);
    let times = Probe::new(entrant, live, keys_per_call).run(live);
    let bytes: Vec<u8> = times.into_iter().flat_map(u32::to_le_bytes).collect();
    std::io::stdout().write_all(&bytes).expect("the parent reads");
}

struct Probe {
    contender: Box<dyn Contender>,
    stream: Stream,
    batch: Vec<Delivery>,
    keys_per_call: usize,
    times: Vec<u32>,
}

impl Probe {
    fn new(entrant: &Entrant, live: usize, keys_per_call: usize) -> Self {
        Self {
            contender: (entrant.build)(live, 1).swap_remove(0),
            // What is left once a tenth has expired.
            stream: Stream::new(live / 10 * 9, 1),
            batch: Vec::new(),
            keys_per_call,
            times: Vec::with_capacity(3 * live),
        }
    }

    fn run(mut self, live: usize) -> Vec<u32> {
        let batches = |deliveries: u64| deliveries.div_ceil(BATCH as u64);
        // The oldest message is not acknowledged. So the watermark does not move while the queue
        // goes on, for a window and a ninth.
        for at in 0..batches(self.stream.per_span() / 9 * 10) {
            self.take_batch(at == 0);
        }
        assert!(self.contender.held() > live / 100 * 99, "grown to {live} keys");
        // Now it is acknowledged: a tenth of all keys is due at once.
        for _ in 0..batches(self.stream.per_span() / 2) {
            self.take_batch(true);
        }
        self.times
    }

    fn take_batch(&mut self, moves_watermark: bool) {
        let duplicates = self.stream.fill(&mut self.batch, BATCH);
        if moves_watermark {
            let start = Instant::now();
            self.contender.observe(self.batch[0].1);
            self.times.push(nanos_since(start));
        }
        let mut found = 0;
        for call in self.batch.chunks(self.keys_per_call) {
            let start = Instant::now();
            found += self.contender.take(call);
            self.times.push(nanos_since(start));
        }
        assert_eq!(found, duplicates, "missed duplicates");
    }
}

fn nanos_since(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
