//! What a commit with a journal costs an async service: commits a second of eight tokio tasks, and
//! how late a heartbeat of 1 ms comes meanwhile.
//!
//! ```text
//! cargo run --release -p oncewheel-async-cost                  a minute; writes to the temporary directory
//! cargo run --release -p oncewheel-async-cost -- --quick       a check that it works
//! ONCEWHEEL_BENCH_DIR=/mnt/disk cargo run ...                  on that disk
//! ```
//!
//! Three ways, in turns in one run:
//!
//! * `blocking`: `claim.commit()` in the task, which blocks a worker of the runtime;
//! * `spawn_blocking`: the same in a thread of the runtime's pool;
//! * `commit_async`: `claim.commit_async().await`.

use oncewheel::journal::Durability;
use oncewheel::sync::{Claim, DedupCache};
use oncewheel::{Claimed, Config, Error, Horizon, MinMsgTime, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

const TASKS: u64 = 8;
const HEARTBEAT: Duration = Duration::from_millis(1);
/// Turns of each way.
const ROUNDS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Idle,
    Blocking,
    SpawnBlocking,
    CommitAsync,
}

impl Way {
    const ALL: [Self; 4] = [Self::Idle, Self::Blocking, Self::SpawnBlocking, Self::CommitAsync];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Blocking => "blocking",
            Self::SpawnBlocking => "spawn_blocking",
            Self::CommitAsync => "commit_async",
        }
    }

    async fn commit(self, claim: Claim) -> Result<(), Error> {
        match self {
            Self::Idle => Ok(()),
            Self::Blocking => claim.commit(),
            Self::SpawnBlocking => tokio::task::spawn_blocking(|| claim.commit()).await.expect("no panic"),
            Self::CommitAsync => claim.commit_async().await,
        }
    }
}

/// Of one way, in all rounds.
#[derive(Default)]
struct Outcome {
    commits_per_second: Vec<f64>,
    /// How much later than 1 ms each heartbeat came.
    late: Vec<Duration>,
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (lasting, rounds) = if is_quick { (Duration::from_millis(50), 1) } else { (Duration::from_secs(1), ROUNDS) };
    let dir = std::env::var_os("ONCEWHEEL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("oncewheel-async-cost-{}", std::process::id()));
    println!("| durability | workers | way | commits a second | to spawn_blocking | heartbeat late, p99 | to idle |");
    println!("|---|--:|---|--:|--:|--:|--:|");
    for durability in [Durability::Process, Durability::Power] {
        for workers in [1, 2] {
            let mut outcomes: [Outcome; 4] = Default::default();
            for round in 0..rounds {
                for (way, outcome) in Way::ALL.into_iter().zip(&mut outcomes) {
                    run(&dir.join(format!("{round}-{}", way.name())), durability, workers, way, lasting, outcome);
                }
            }
            print(durability, workers, outcomes);
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
}

fn print(durability: Durability, workers: usize, outcomes: [Outcome; 4]) {
    let figures = outcomes.map(|mut outcome| {
        outcome.commits_per_second.sort_by(f64::total_cmp);
        outcome.late.sort_unstable();
        let median = outcome.commits_per_second[outcome.commits_per_second.len() / 2];
        (median, outcome.late[outcome.late.len() * 99 / 100].as_secs_f64() * 1e3)
    });
    let (idle, spawned) = (figures[0].1, figures[2].0);
    for (way, (commits, late)) in Way::ALL.into_iter().zip(figures) {
        let name = way.name();
        let ratio = if way == Way::Idle { String::new() } else { format!("{:.2}", commits / spawned) };
        let commits = if way == Way::Idle { String::new() } else { format!("{commits:.0}") };
        println!("| {durability} | {workers} | {name} | {commits} | {ratio} | {late:.2} ms | {:.2} |", late / idle);
    }
}

fn run(dir: &Path, durability: Durability, workers: usize, way: Way, lasting: Duration, outcome: &mut Outcome) {
    let _ = std::fs::remove_dir_all(dir);
    let horizon = Horizon::new(Duration::from_secs(1), Duration::ZERO);
    let cache = DedupCache::open(dir, Config::new(horizon), durability).expect("a directory to write in");
    let runtime = Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("a runtime");
    let (ends, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let heartbeat = beat(&runtime, &ends);
    let started = Instant::now();
    let tasks: Vec<_> = (0..if way == Way::Idle { 0 } else { TASKS })
        .map(|task| {
            let (cache, ends, commits) = (cache.clone(), Arc::clone(&ends), Arc::clone(&commits));
            runtime.spawn(async move {
                let mut number = task;
                while !ends.load(Relaxed) {
                    let now = Timestamp::now();
                    let Ok(Claimed::Fresh(claim)) = cache.claim(number.to_le_bytes(), now) else { panic!("new") };
                    way.commit(claim).await.expect("a disk that works");
                    commits.fetch_add(1, Relaxed);
                    number += TASKS;
                    if number.is_multiple_of(1 << 14) {
                        let oldest = now.saturating_sub(Duration::from_secs(1));
                        let _ = cache.observe(MinMsgTime::Known(oldest));
                    }
                    tokio::task::yield_now().await; // as a client that hands out the next delivery would
                }
            })
        })
        .collect();
    std::thread::sleep(lasting);
    ends.store(true, Relaxed);
    let elapsed = started.elapsed();
    outcome.commits_per_second.push(commits.load(Relaxed) as f64 / elapsed.as_secs_f64());
    runtime.block_on(async {
        for task in tasks {
            task.await.expect("no panic");
        }
        outcome.late.extend(heartbeat.await.expect("no panic"));
    });
}

/// How much later than asked for each wake-up of a task came.
fn beat(runtime: &Runtime, ends: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Duration>> {
    let ends = Arc::clone(ends);
    runtime.spawn(async move {
        let mut late = Vec::new();
        while !ends.load(Relaxed) {
            let asked = Instant::now();
            tokio::time::sleep(HEARTBEAT).await;
            late.push(asked.elapsed().saturating_sub(HEARTBEAT));
        }
        late
    })
}
