//! The process that is killed.

use super::Durable;
use super::script::{self, Call, LAG, Life, key};
use oncewheel::{Claimed, MinMsgTime, Timestamp, Verdict, sync, unsync};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::{env, process, thread};

/// Steps between two moves of the watermark.
const STEPS_PER_WATERMARK: u64 = 16;

/// A single worker pauses now and then, so that it may be killed when the watermark was the last
/// write.
const STEPS_PER_PAUSE: u64 = 8 * STEPS_PER_WATERMARK;
const PAUSE: Duration = Duration::from_millis(2);

/// The variable in which a parent passes its orders to its child.
pub(super) const ORDERS: &str = "ONCEWHEEL_KILLS_CHILD";

/// As text: seed, number, workers, start, front, directory.
pub(super) fn orders(life: &Life, is_sync: bool, dir: &Path) -> String {
    let Life { seed, number, workers, start } = life;
    format!("{seed} {number} {workers} {start} {} {}", u8::from(is_sync), dir.display())
}

/// No test: the parent starts it.
#[test]
fn child() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let mut parts = orders.splitn(6, ' ');
    let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
    let life = Life { seed: number(), number: number(), workers: number(), start: number() };
    let is_sync = number() == 1;
    let dir = PathBuf::from(parts.next().unwrap());
    let shared = Shared { life, time: AtomicU64::new(life.start), contended: AtomicU64::new(0) };
    if is_sync {
        let cache = <sync::DedupCache as Durable>::open(&dir, script::config()).unwrap();
        thread::scope(|scope| {
            for worker in 0..life.workers {
                let (cache, shared) = (cache.clone(), &shared);
                scope.spawn(move || Worker::new(cache, shared, worker).work(false));
            }
            let mut watermark = shared.life.start;
            loop {
                move_watermark(&mut cache.clone(), &shared, &mut watermark);
                thread::yield_now();
            }
        });
    }
    Worker::new(<unsync::DedupCache as Durable>::open(&dir, script::config()).unwrap(), &shared, 0).work(true);
}

struct Shared {
    life: Life,
    time: AtomicU64,
    /// Calls for keys that all workers insert.
    contended: AtomicU64,
}

/// Writes a line at once, so that the lines of many threads do not mix. If the parent has ended, so
/// does this process.
fn report(line: &str) {
    if io::stderr().write_all(line.as_bytes()).is_err() {
        process::exit(0);
    }
}

/// Reports to the parent before and after.
fn move_watermark<C: Durable>(cache: &mut C, shared: &Shared, last: &mut u64) {
    let time = shared.time.load(Relaxed);
    if time < *last + STEPS_PER_WATERMARK {
        return;
    }
    *last = time;
    let watermark = time - LAG;
    report(&format!("w {watermark}\n"));
    if time.is_multiple_of(3) {
        cache.advance(watermark + script::RETENTION);
    } else {
        cache.observe(MinMsgTime::Known(Timestamp::from_millis(watermark))).unwrap();
    }
    report(&format!("W {watermark}\n"));
}

struct Worker<'a, C> {
    cache: C,
    shared: &'a Shared,
    worker: u64,
    /// Verdicts of the step, a letter each.
    verdicts: String,
}

impl<'a, C: Durable> Worker<'a, C> {
    fn new(cache: C, shared: &'a Shared, worker: u64) -> Self {
        Self { cache, shared, worker, verdicts: String::new() }
    }

    fn work(mut self, moves_watermark: bool) {
        let mut watermark = self.shared.life.start;
        let mut time = self.shared.time.fetch_add(1, Relaxed);
        report(&format!("t {} 0 {time}\n", self.worker));
        for number in 0.. {
            let contended = self.step(number, time);
            // With the time of the next step, so that the parent knows it if the child is killed
            // during that step.
            time = self.shared.time.fetch_add(1, Relaxed);
            let line = match contended {
                Some(count) => format!("c {count} {}\nt {} {} {time}\n", self.verdicts, self.worker, number + 1),
                None => format!("s {} {number} {}\nt {0} {} {time}\n", self.worker, self.verdicts, number + 1),
            };
            report(&line);
            if moves_watermark {
                move_watermark(&mut self.cache, self.shared, &mut watermark);
                if number % STEPS_PER_PAUSE == 0 {
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// If the step's key is one that all workers insert, returns its number.
    fn step(&mut self, number: u64, time: u64) -> Option<u64> {
        self.verdicts.clear();
        let step = self.shared.life.step(self.worker, number);
        let time = time + step.ahead;
        match step.call {
            Call::Insert(id) => self.insert(id, time),
            Call::Commit(id) => {
                let claims = self.claim(&[id], time);
                claims.into_iter().for_each(|claim| self.cache.commit(claim).unwrap());
            }
            Call::CommitBatch(ids) => {
                let claims = self.claim(&ids, time);
                self.cache.commit_batch(claims).unwrap().all().expect("no claim is ever lost");
            }
            Call::InsertBatch(ids) => {
                let time = Timestamp::from_millis(time);
                let entries: Vec<_> = ids.iter().map(|id| (self.cache.fingerprint(&key(*id)), time)).collect();
                let mut verdicts = Vec::new();
                self.cache.insert_batch(&entries, &mut verdicts).unwrap();
                self.verdicts.extend(verdicts.into_iter().map(letter));
            }
            Call::Remove(id) => {
                let letter = if self.cache.remove(&key(id)) { 'G' } else { 'N' };
                self.verdicts.push(letter);
            }
            Call::Contend => {
                let Life { workers, .. } = self.shared.life;
                let count = self.shared.contended.fetch_add(1, Relaxed) / workers;
                self.insert(self.shared.life.contended_id(count), self.shared.life.contended_time(count));
                return Some(count);
            }
        }
        None
    }

    fn insert(&mut self, id: u64, time: u64) {
        let verdict = self.cache.insert(&key(id), Some(time)).unwrap();
        self.verdicts.push(letter(verdict));
    }

    fn claim(&mut self, ids: &[u64], time: u64) -> Vec<C::Claim> {
        let mut claims = Vec::new();
        for id in ids {
            let verdict = match self.cache.claim(&key(*id), Some(time)).unwrap() {
                Claimed::Fresh(claim) => {
                    claims.push(claim);
                    Verdict::Fresh
                }
                Claimed::Duplicate => Verdict::Duplicate,
                Claimed::InFlight => Verdict::InFlight,
                Claimed::TooOld => Verdict::TooOld,
            };
            self.verdicts.push(letter(verdict));
        }
        claims
    }
}

fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Fresh => 'F',
        Verdict::Duplicate => 'D',
        Verdict::InFlight => 'I',
        Verdict::TooOld => 'T',
    }
}
