//! Runs both fronts at full speed and checks every answer:
//! `cargo run --release -p oncewheel-soak -- --seconds 3600`.
//!
//! Keys and times are derived from a counter, so the right answer to every delivery is computed and
//! not stored. Every twentieth delivery is a copy of an event up to twice as old as a key is held.
//! Once the caches are warm, resident memory must stay within 1 %.

use oncewheel::{Claimed, Clock, Config, Fingerprint, Horizon, MinMsgTime, Timestamp, Verdict, sync, unsync};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SPAN_MS: u64 = 1_000;
/// How far the watermark lies behind.
const LAG_MS: u64 = 50;
/// A 64th of a key's life, and what is not reclaimed yet.
const LATE_MS: u64 = 100;
const EVENTS_PER_MS: u64 = 1_000;
const START_MS: u64 = 1_795_302_291_895;
const BATCH: u64 = 512;
const COPY_EVERY: u64 = 20;
const WORKERS: u64 = 2;
/// How far one worker may be ahead of another.
const AHEAD_MS: u64 = 20;
/// By then, every partition has its final size.
const WARM_UP_SPANS: u64 = 20;

/// The deliveries of one worker.
struct Stream {
    worker: u64,
    workers: u64,
    next: u64,
    fingerprints: Vec<(Fingerprint, Timestamp)>,
    verdicts: Vec<Verdict>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    fresh: u64,
    duplicate: u64,
    too_old: u64,
    wrong: u64,
}

impl Stream {
    fn new(worker: u64, workers: u64) -> Self {
        Self { worker, workers, next: 0, fingerprints: Vec::new(), verdicts: Vec::new() }
    }

    fn time_of(&self, event: u64) -> u64 {
        START_MS + event * self.workers / EVENTS_PER_MS
    }

    fn now(&self) -> u64 {
        self.time_of(self.next)
    }

    /// The event of a delivery: a new one or, if the delivery is a copy, an earlier one.
    fn event_of(&self, delivery: u64) -> u64 {
        if delivery % COPY_EVERY != COPY_EVERY - 1 {
            return delivery;
        }
        let age_max = 2 * (SPAN_MS + LAG_MS) * EVENTS_PER_MS / self.workers;
        let event = delivery.saturating_sub(1 + mixed(delivery) % age_max);
        if event % COPY_EVERY == COPY_EVERY - 1 { event - 1 } else { event }
    }

    /// The key of an event. Claims have keys of their own.
    fn key(&self, event: u64, is_claimed: bool) -> [u8; 16] {
        let kind = self.worker << 1 | u64::from(is_claimed);
        (u128::from(kind) << 64 | u128::from(event)).to_le_bytes()
    }

    fn prepare(&mut self, fingerprint: impl Fn(&[u8]) -> Fingerprint) {
        self.fingerprints.clear();
        for delivery in self.next..self.next + BATCH {
            let event = self.event_of(delivery);
            let time = Timestamp::from_millis(self.time_of(event));
            self.fingerprints.push((fingerprint(&self.key(event, false)), time));
        }
    }

    /// Checks the answers to a batch. Meanwhile, the watermark was between these two.
    fn check(&mut self, watermarks: (u64, u64), count: &mut Count) {
        for (delivery, verdict) in (self.next..self.next + BATCH).zip(&self.verdicts) {
            let event = self.event_of(delivery);
            let deadline = self.time_of(event) + SPAN_MS;
            let is_right = match verdict {
                Verdict::Fresh => event == delivery,
                Verdict::Duplicate => event != delivery && deadline + LATE_MS >= watermarks.0,
                Verdict::TooOld => event != delivery && deadline < watermarks.1,
                Verdict::InFlight => false,
            };
            match verdict {
                Verdict::Fresh => count.fresh += 1,
                Verdict::Duplicate => count.duplicate += 1,
                _ => count.too_old += 1,
            }
            if !is_right {
                count.wrong += 1;
                eprintln!("delivery {delivery} of event {event}: {verdict:?}, with a watermark of {watermarks:?}");
            }
        }
        self.next += BATCH;
    }
}

/// What both fronts do besides batches.
macro_rules! claim_once {
    ($cache:expr, $key:expr, $time:expr, $abort:expr, $commit:expr) => {{
        let (key, time) = (&$key, Timestamp::from_millis($time));
        let Ok(Claimed::Fresh(first)) = $cache.claim(key, time) else { return Err("a claim on a new key") };
        let Ok(Claimed::InFlight) = $cache.claim(key, time) else { return Err("a claim on a claimed key") };
        $abort(first);
        let Ok(Claimed::Fresh(second)) = $cache.claim(key, time) else { return Err("a claim after an abort") };
        $commit(second).map_err(|_| "a commit")?;
        let Ok(Claimed::Duplicate) = $cache.claim(key, time) else { return Err("a claim on a committed key") };
        Ok(())
    }};
}

/// Resident memory, if the system reports it.
struct Memory {
    warm: Option<u64>,
    most: u64,
    last_measured: Instant,
}

impl Memory {
    fn new() -> Self {
        Self { warm: None, most: 0, last_measured: Instant::now() }
    }

    fn measure(&mut self, is_warm: bool) {
        if self.last_measured.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.last_measured = Instant::now();
        let resident = resident_pages();
        self.most = self.most.max(resident);
        if is_warm && self.warm.is_none() {
            self.warm = Some(self.most);
        }
    }

    /// Its growth since the cache was warm.
    fn growth(&self) -> Option<f64> {
        self.warm.filter(|warm| *warm > 0).map(|warm| self.most as f64 / warm as f64 - 1.0)
    }
}

fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

fn config() -> Config {
    let horizon = Horizon::new(Duration::from_millis(SPAN_MS), Duration::ZERO);
    Config::new(horizon).clock(Clock::Manual).max_keys(2 * (SPAN_MS * EVENTS_PER_MS) as usize)
}

fn watch_unsync(time: Duration, count: &mut Count, memory: &mut Memory) -> Result<(), &'static str> {
    let mut cache = unsync::DedupCache::new(config()).map_err(|_| "a cache")?;
    let mut stream = Stream::new(0, 1);
    let start = Instant::now();
    while start.elapsed() < time {
        let watermark = stream.now() - LAG_MS;
        cache.observe(MinMsgTime::Known(Timestamp::from_millis(watermark))).map_err(|_| "observing")?;
        stream.prepare(|key| cache.fingerprint(key));
        cache.insert_batch(&stream.fingerprints, &mut stream.verdicts).map_err(|_| "a batch")?;
        let (key, time) = (stream.key(stream.next, true), stream.now());
        stream.check((watermark, watermark), count);
        let mut claim = || claim_once!(cache, key, time, |claim| cache.abort(claim), |claim| cache.commit(claim));
        claim()?;
        memory.measure(stream.now() > START_MS + WARM_UP_SPANS * SPAN_MS);
    }
    cache.validate();
    Ok(())
}

fn watch_sync(time: Duration, count: &mut Count, memory: &mut Memory) -> Result<(), &'static str> {
    let cache = sync::DedupCache::new(config()).map_err(|_| "a cache")?;
    let reached: [AtomicU64; WORKERS as usize] = [const { AtomicU64::new(START_MS) }; WORKERS as usize];
    let is_over = AtomicBool::new(false);
    let slowest = || reached.iter().map(|reached| reached.load(Relaxed)).min().unwrap_or(START_MS);
    let work = |worker: u64| -> Result<Count, &'static str> {
        let mut count = Count::default();
        let mut stream = Stream::new(worker, WORKERS);
        let watermark = || cache.watermark().map_or(0, Timestamp::as_millis);
        while !is_over.load(Relaxed) {
            if stream.now() > slowest() + AHEAD_MS {
                std::thread::yield_now();
                continue;
            }
            let before = watermark();
            stream.prepare(|key| cache.fingerprint(key));
            cache.insert_batch(&stream.fingerprints, &mut stream.verdicts).map_err(|_| "a batch")?;
            let (key, time) = (stream.key(stream.next, true), stream.now());
            stream.check((before, watermark()), &mut count);
            let claim = || claim_once!(cache, key, time, sync::Claim::abort, sync::Claim::commit);
            claim()?;
            reached[worker as usize].store(stream.now(), Relaxed);
            let oldest = slowest() - LAG_MS;
            cache.observe(MinMsgTime::Known(Timestamp::from_millis(oldest))).map_err(|_| "observing")?;
        }
        Ok(count)
    };
    let counts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        let start = Instant::now();
        while start.elapsed() < time && !workers.iter().any(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
            memory.measure(slowest() > START_MS + WARM_UP_SPANS * SPAN_MS);
        }
        is_over.store(true, Relaxed);
        let counts = workers.into_iter().map(|worker| worker.join().unwrap_or(Err("a worker panicked")));
        counts.collect::<Result<Vec<_>, _>>()
    })?;
    for part in counts {
        count.fresh += part.fresh;
        count.duplicate += part.duplicate;
        count.too_old += part.too_old;
        count.wrong += part.wrong;
    }
    cache.validate();
    Ok(())
}

type Watch = fn(Duration, &mut Count, &mut Memory) -> Result<(), &'static str>;

/// Whether everything was right.
fn soak(name: &str, time: Duration, watch: Watch) -> bool {
    let (mut count, mut memory) = (Count::default(), Memory::new());
    let failure = watch(time, &mut count, &mut memory).err();
    let answers = count.fresh + count.duplicate + count.too_old;
    let rate = answers as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name}: {answers} answers ({} fresh, {} duplicate, {} too old), {rate:.1} million a second; {} wrong",
        count.fresh, count.duplicate, count.too_old, count.wrong
    );
    match memory.growth() {
        Some(growth) => println!("{name}: resident memory grew by {:.2} % since the cache was warm", 100.0 * growth),
        None => {
            println!("{name}: resident memory is unknown: the run is too short, or not on Linux");
        }
    }
    failure.iter().for_each(|what| eprintln!("{name}: {what} did not give the expected result"));
    let may_be_unknown = time < Duration::from_secs(60) || cfg!(not(target_os = "linux"));
    let is_flat = memory.growth().map_or(may_be_unknown, |growth| growth <= 0.01);
    failure.is_none() && count.wrong == 0 && count.duplicate > 0 && is_flat
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let seconds = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(10),
        ["--seconds", seconds] => seconds.parse().ok(),
        _ => None,
    };
    let Some(seconds) = seconds else {
        eprintln!("usage: soak [--seconds N]");
        return ExitCode::from(2);
    };
    let half = Duration::from_secs(seconds) / 2;
    let fronts: [(&str, Watch); 2] = [("unsync", watch_unsync), ("sync", watch_sync)];
    let is_well = fronts.map(|(name, watch)| soak(name, half, watch)); // both, even if the first fails
    if is_well == [true; 2] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Numbers that look random (the finaliser of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
