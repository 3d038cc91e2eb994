//! Threads that meet, in many orders that a scheduler chooses: `ci/interleavings.sh`.
//!
//! A scenario runs a few threads over a small cache and returns its outcome in a few words. It
//! lists the outcomes that are allowed. Any other outcome fails, and so does an allowed one that
//! never occurs. A deadlock fails, too.
//!
//! A failure prints its schedule. `ONCEWHEEL_REPLAY` runs it again, and it alone:
//!
//! ```text
//! ONCEWHEEL_REPLAY=9102... RUSTFLAGS="--cfg shuttle" cargo test --lib claims::of_two_claims
//! ```

mod batches;
mod claims;
mod progress;
mod quota;
#[cfg(feature = "registry")]
mod registry;

use crate::sync::{Claim, DedupCache};
use crate::{Claimed, Clock, Config, Error, Horizon, Timestamp, Verdict};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Schedules of each scenario, unless `ONCEWHEEL_SCHEDULES` is set.
const SCHEDULES: usize = 10_000;
/// With fewer, not every allowed outcome need occur.
const SCHEDULES_FOR_ALL: usize = 10_000;
/// `SHUTTLE_RANDOM_SEED` sets another.
const SEED: u64 = 1;
/// Forced switches between threads, plus one. What two switches do not bring about seldom depends
/// on the order of threads.
const PCT_DEPTH: usize = 3;

/// Runs `scenario` under many schedules. Half of them choose every step at random; the others force
/// few switches. Every outcome must be among `allowed`, and each of those must occur. A test calls
/// this once, because every call would replay a given schedule.
pub(crate) fn explore<const N: usize>(
    allowed: [&'static str; N],
    scenario: impl Fn() -> String + Send + Sync + 'static,
) {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let scenario = Arc::new(scenario);
    let run = {
        let seen = Arc::clone(&seen);
        move || {
            let outcome = scenario();
            match allowed.iter().find(|allowed| **allowed == outcome) {
                Some(outcome) => seen.lock().expect("not poisoned").insert(*outcome),
                None => panic!("{outcome}: not one of {allowed:?}"),
            };
        }
    };
    if let Ok(schedule) = std::env::var("ONCEWHEEL_REPLAY") {
        return under(ReplayScheduler::new_from_encoded(&schedule), run);
    }
    let schedules = std::env::var("ONCEWHEEL_SCHEDULES").map_or(SCHEDULES, |count| count.parse().expect("a number"));
    under(RandomScheduler::new_from_seed(SEED, schedules.div_ceil(2)), run.clone());
    under(PctScheduler::new_from_seed(SEED, PCT_DEPTH, schedules / 2), run);
    if schedules >= SCHEDULES_FOR_ALL {
        let seen = seen.lock().expect("not poisoned").clone();
        assert_eq!(seen, BTreeSet::from(allowed), "the outcomes that occurred, and those that are allowed");
    }
}

fn under(scheduler: impl Scheduler + 'static, run: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true; // about memory orderings: see `scheduled.rs`
    shuttle::Runner::new(scheduler, config).run(run);
}

/// `max_retry + max_network` of these tests, in milliseconds.
const SPAN: u64 = 2_000;

fn config() -> Config {
    let horizon = Horizon::new(Duration::from_millis(SPAN - 500), Duration::from_millis(500));
    Config::new(horizon).clock(Clock::Manual).max_keys(16).shards(2).secret([7; 16])
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// The answer for a key, in a word or two.
pub(crate) fn answer(result: &Result<Verdict, Error>) -> &'static str {
    match result {
        Ok(Verdict::Fresh) => "fresh",
        Ok(Verdict::Duplicate) => "duplicate",
        Ok(Verdict::InFlight) => "in flight",
        Ok(Verdict::TooOld) => "too old",
        Err(Error::Full { .. }) => "full",
        Err(error) => panic!("{error}"),
    }
}

/// Claims a key and, if it is fresh, calls `go_on` with the claim.
fn claimed(cache: &DedupCache, key: &str, go_on: impl FnOnce(Claim)) -> &'static str {
    match cache.claim(key, at(10_000)) {
        Ok(Claimed::Fresh(claim)) => {
            go_on(claim);
            "fresh"
        }
        Ok(Claimed::Duplicate) => "duplicate",
        Ok(Claimed::InFlight) => "in flight",
        Ok(Claimed::TooOld) => "too old",
        Err(Error::Full { .. }) => "full",
        Err(error) => panic!("{error}"),
    }
}

/// Whether a key is held, once the threads have ended.
fn is_held(cache: &DedupCache, key: &str) -> bool {
    cache.holds(cache.fingerprint(key.as_bytes()))
}
