//! Threads that meet, in every order that a scheduler comes upon: `ci/interleavings.sh`.
//!
//! A scenario runs a few threads over a small cache and says in a line what they were told. What it may say is listed;
//! anything else fails, and so does a list of which something never happened. A thread that waits for ever fails, too.
//!
//! A failure prints its schedule. `ONCEWHEEL_REPLAY` runs it again, and it alone:
//!
//! ```text
//! ONCEWHEEL_REPLAY=9102... RUSTFLAGS="--cfg shuttle" cargo test --lib interleavings::claims::of_two_claims
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

/// Schedules of each scenario, unless `ONCEWHEEL_SCHEDULES` says otherwise.
const SCHEDULES: usize = 10_000;
/// With fewer, not everything that may happen does.
const SCHEDULES_FOR_ALL: usize = 10_000;
/// `SHUTTLE_RANDOM_SEED` tries others.
const SEED: u64 = 1;
/// Forced changes between threads, and one: what two of them do not bring about is seldom a matter of order.
const PCT_DEPTH: usize = 3;

/// Runs `scenario` under many schedules, half of them chosen at random at every step, half by few forced changes. What it
/// says must be among `allowed`, and everything there must come about. Called once in a test, since a schedule is replayed
/// by every call.
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
                Some(outcome) => seen.lock().expect("held for no longer than this").insert(*outcome),
                None => panic!("{outcome}: must not be, only {allowed:?}"),
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
        let seen = seen.lock().expect("nobody else is left").clone();
        assert_eq!(seen, BTreeSet::from(allowed), "what came about, and what may");
    }
}

fn under(scheduler: impl Scheduler + 'static, run: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true; // that orderings are not modelled: `locks/scheduled.rs` says so
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

/// What a thread is told of a key, in a word.
pub(crate) fn told(answer: &Result<Verdict, Error>) -> &'static str {
    match answer {
        Ok(Verdict::Fresh) => "fresh",
        Ok(Verdict::Duplicate) => "duplicate",
        Ok(Verdict::InFlight) => "in flight",
        Ok(Verdict::TooOld) => "too old",
        Err(Error::Full { .. }) => "full",
        Err(error) => panic!("{error}"),
    }
}

/// Claims a key and, if it is fresh, goes on with the claim.
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

/// Whether a key is held, at the end.
fn is_held(cache: &DedupCache, key: &str) -> bool {
    cache.holds(cache.fingerprint(key.as_bytes()))
}
