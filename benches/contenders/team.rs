//! Runs a contender on its deliveries, with one worker for each thread. Only the contender's own
//! work is timed.

use super::stream::{BATCH, Delivery, Stream};
use super::{Contender, Entrant};
use crossbeam_utils::CachePadded;
use oncewheel::{Fingerprint, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// The most batches that are generated ahead of the timing: 1.5 MiB.
const BLOCK: usize = 64;
const SEED: u64 = 0x006f_6e63_6577_6865;

/// How many duplicates there were, and how many were found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) duplicates: usize,
    pub(crate) found: usize,
}

impl Tally {
    /// The share of the duplicates that were answered as fresh.
    pub(crate) fn missed(self) -> f64 {
        1.0 - self.found as f64 / self.duplicates.max(1) as f64
    }

    pub(crate) fn is_exact(self) -> bool {
        self.found == self.duplicates
    }
}

/// Buffers for the workers' deliveries. They are written once in advance, so that they do not count
/// as a cache's memory.
pub(crate) struct Buffers(Vec<Vec<Delivery>>);

impl Buffers {
    pub(crate) fn new(threads: usize) -> Self {
        let touched = (Fingerprint::from_u128(1), Timestamp::from_millis(1));
        Self(vec![vec![touched; BLOCK * BATCH]; threads])
    }
}

/// A cache with its workers and their streams, which go on from one run to the next.
pub(crate) struct Team {
    workers: Vec<Worker>,
    shared: bool,
}

impl Team {
    /// `live` keys in all, in equal parts from each worker.
    pub(crate) fn new(entrant: &Entrant, live: usize, Buffers(buffers): Buffers) -> Self {
        let threads = buffers.len();
        let handles = (entrant.build)(live, threads);
        let reached: Arc<[_]> = handles.iter().map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        let workers = handles.into_iter().zip(buffers).enumerate().map(|(at, (contender, block))| Worker {
            stream: Stream::new(live / threads, SEED + at as u64),
            contender,
            block,
            reached: Arc::clone(&reached),
            at,
            tally: Tally::default(),
        });
        Self { workers: workers.collect(), shared: entrant.shared }
    }

    /// Lets every worker take this many batches. Returns the time that the slowest of them spent in
    /// the cache.
    pub(crate) fn run(&mut self, batches: u64) -> Duration {
        let barrier = Barrier::new(self.workers.len());
        if let [worker] = &mut self.workers[..] {
            return worker.run(batches, &barrier);
        }
        std::thread::scope(|scope| {
            let barrier = &barrier;
            let spawn = |worker| scope.spawn(move || Worker::run(worker, batches, barrier));
            let running: Vec<_> = self.workers.iter_mut().map(spawn).collect();
            running.into_iter().map(|run| run.join().expect("a worker panicked")).max().unwrap_or_default()
        })
    }

    /// Runs, untimed, until the window has passed this many times. Beyond 1, one key leaves for
    /// each that enters.
    ///
    /// The tally of a cache on the wall clock starts here, because keys that it held before may
    /// have expired while others took their turn.
    pub(crate) fn fill(&mut self, spans: f64) {
        self.run((self.workers[0].stream.per_span() as f64 * spans / BATCH as f64).ceil() as u64);
        if self.runs_on_wall_clock() {
            self.workers.iter_mut().for_each(|worker| worker.tally = Tally::default());
        }
    }

    pub(crate) fn runs_on_wall_clock(&self) -> bool {
        self.workers[0].contender.time_to_live().is_some()
    }

    pub(crate) fn held(&self) -> usize {
        let distinct = if self.shared { 1 } else { self.workers.len() };
        self.workers[..distinct].iter().map(|worker| worker.contender.held()).sum()
    }

    pub(crate) fn memory_counted(&self) -> Option<usize> {
        let distinct = if self.shared { 1 } else { self.workers.len() };
        self.workers[..distinct].iter().map(|worker| worker.contender.memory_counted()).sum()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.workers.iter().fold(Tally::default(), |sum, Worker { tally, .. }| Tally {
            duplicates: sum.duplicates + tally.duplicates,
            found: sum.found + tally.found,
        })
    }
}

struct Worker {
    contender: Box<dyn Contender>,
    stream: Stream,
    block: Vec<Delivery>,
    /// How far each worker has come, in milliseconds. The oldest unconsumed message of the queue
    /// has the least of these times.
    reached: Arc<[CachePadded<AtomicU64>]>,
    at: usize,
    tally: Tally,
}

impl Worker {
    fn run(&mut self, batches: u64, barrier: &Barrier) -> Duration {
        let pace = self.pace();
        let mut arrival = Instant::now();
        let mut busy = Duration::ZERO;
        let mut left = batches;
        while left > 0 {
            let count = left.min(self.block_batches());
            left -= count;
            self.tally.duplicates += self.stream.fill(&mut self.block, count as usize * BATCH);
            barrier.wait();
            for batch in self.block.chunks(BATCH) {
                wait_for(arrival);
                arrival += pace;
                let start = Instant::now();
                self.reached[self.at].store(batch[0].1.as_millis(), Relaxed);
                let watermark = self.reached.iter().map(|time| time.load(Relaxed)).min().unwrap_or(0);
                self.contender.observe(Timestamp::from_millis(watermark));
                self.tally.found += self.contender.take(batch);
                busy += start.elapsed();
            }
        }
        busy
    }

    /// So few that no worker gets far ahead: the watermark follows the slowest worker, and keys
    /// wait for the watermark.
    fn block_batches(&self) -> u64 {
        (self.stream.per_span() / (50 * BATCH as u64)).clamp(1, BLOCK as u64)
    }

    /// The time between two batches for a cache on the wall clock, so that it holds the right
    /// number of keys on any machine. The others do not wait.
    fn pace(&self) -> Duration {
        let per_batch = BATCH as f64 / self.stream.per_span() as f64;
        self.contender.time_to_live().map_or(Duration::ZERO, |time| time.mul_f64(per_batch))
    }
}

/// Spins, so that the core stays as active as it is for the others.
fn wait_for(arrival: Instant) {
    while Instant::now() < arrival {
        std::hint::spin_loop();
    }
}
