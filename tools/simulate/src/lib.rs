//! A simulated queue: producers, network, broker, consumers and clocks in simulated time. An oracle
//! knows how often every event has taken effect. The same seed gives the same run.

mod asking;
mod broker;
mod cache;
mod catalogue;
mod checks;
mod clock;
mod consumer;
mod min_msg_time;
mod oracle;
mod process;
mod random;
mod rivals;
mod scenario;
mod tally;
mod tracking;
mod world;

pub use catalogue::{all, compared};
pub use checks::shows;
pub use rivals::NAMES;
pub use scenario::Scenario;
pub use tally::{Answers, Excuses, Library, RivalTally, Tally};

use oncewheel::{sync, unsync};
use scenario::Front;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use world::World;

/// Runs a scenario for this many deliveries, and then until no event is pending, and checks it.
/// With `compares`, the alternatives decide about the same deliveries.
pub fn run(scenario: &Scenario, seed: u64, deliveries: u64, compares: bool) -> Result<Tally, String> {
    let dir = scenario.consumer.journal.then(Scratch::new);
    let dir = dir.as_ref().map(|scratch| scratch.0.as_path());
    let run = || match scenario.consumer.front {
        Front::Unsync => World::<unsync::DedupCache>::new(scenario, seed, dir, compares).run(deliveries),
        Front::Sync => World::<sync::DedupCache>::new(scenario, seed, dir, compares).run(deliveries),
    };
    let tally = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(String::from("it panicked: see above")));
    tally.and_then(|tally| checks::check(scenario, &tally).map(|()| tally)).map_err(|failure| {
        let name = scenario.name;
        format!(
            "{name}, seed {seed}: {failure}\nto replay: cargo run --release -p oncewheel-simulate -- \
             --scenario {name} --seed {seed} --deliveries {deliveries} --per-run {deliveries}"
        )
    })
}

/// A directory for one run's journal.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let name = format!("oncewheel-simulate-{}-{}", std::process::id(), RUNS.fetch_add(1, Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
