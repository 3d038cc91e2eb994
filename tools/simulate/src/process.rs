//! The consumer's process. It starts, reports the time and the broker's answers to the cache, and
//! crashes.

use super::broker::Delivery;
use super::cache::Cache;
use super::min_msg_time::millis;
use super::oracle::Oracle;
use super::scenario::Scenario;
use super::tally::Tally;
use super::world::{Action, World};
use oncewheel::{Config, Error, Timestamp};
use std::path::PathBuf;

/// The consumer's process, which is restarted after a crash. The journal's directory stays.
pub(crate) struct Process<C: Cache> {
    config: Config,
    journal: Option<PathBuf>,
    /// Before `cache`, so that claims are dropped first.
    pub(super) workers: Vec<Worker<C::Claim>>,
    pub(super) cache: Option<C>,
    /// Distinguishes the plans of this process from those of earlier ones.
    pub(super) incarnation: u32,
    pub(crate) stalled_until: u64,
    pub(super) clock_read_at: u64,
    /// The cache's `now`.
    pub(super) now: u64,
    /// The watermark that `observe` has reached.
    observed: u64,
    /// The watermark before the last crash.
    watermark: u64,
}

pub(super) struct Worker<C> {
    pub(super) phase: Phase,
    pub(super) work: Vec<Item<C>>,
    pub(super) is_idle: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Take,
    Ask,
    Effect,
    Commit,
    Acknowledge,
}

/// A delivery that is being processed.
pub(super) struct Item<C> {
    pub(super) delivery: Delivery,
    pub(super) claim: Option<C>,
    pub(super) claimed_at: u64,
    pub(super) is_committed: bool,
    pub(super) has_taken_effect: bool,
}

impl<C: Cache> Process<C> {
    pub(crate) fn new(scenario: &Scenario, journal: Option<PathBuf>) -> Self {
        Self {
            config: scenario.config(),
            journal,
            workers: Vec::new(),
            cache: None,
            incarnation: 0,
            stalled_until: 0,
            clock_read_at: 0,
            now: 0,
            observed: 0,
            watermark: 0,
        }
    }

    pub(crate) fn is_up(&self, truth: u64) -> bool {
        self.cache.is_some() && truth >= self.stalled_until
    }

    pub(super) fn cache(&mut self) -> &mut C {
        self.cache.as_mut().expect("the process is up")
    }

    pub(crate) fn measure(&mut self, tally: &mut Tally) {
        let cache = self.cache.as_mut().expect("the process is up");
        tally.keys_max = tally.keys_max.max(cache.len());
    }

    /// The process ends, and its claims with it.
    pub(crate) fn end(&mut self, oracle: &mut Oracle) {
        if let Some(cache) = &self.cache {
            cache.validate();
            let stats = cache.stats();
            oracle.tally.library.add(&stats);
            self.watermark = cache.watermark();
        }
        self.workers.clear();
        self.cache = None;
    }
}

impl<C: Cache> World<'_, C> {
    pub(super) fn restart(&mut self) {
        let process = &mut self.process;
        if process.journal.is_none() && process.incarnation > 0 {
            self.oracle.keys_lost();
        }
        process.incarnation += 1;
        match C::open(process.config.clone(), process.journal.as_deref()) {
            Ok(cache) => process.cache = Some(cache),
            Err(error) => return self.oracle.fail(format!("the cache cannot be opened: {error}")),
        }
        process.observed = 0;
        process.now = 0;
        let workers = self.scenario.consumer.workers;
        process.workers =
            (0..workers).map(|_| Worker { phase: Phase::Take, work: Vec::new(), is_idle: false }).collect();
        self.assign();
        self.read_clock();
        let (before, after) = (self.process.watermark, self.process.cache().watermark());
        if self.scenario.clock_bound == 0 && self.process.journal.is_some() && after < before {
            self.oracle.fail(format!("the watermark was {before} before the restart and is {after}"));
        }
        for worker in 0..workers {
            self.go_on(worker, 0);
        }
    }

    /// Reports the time to the cache.
    pub(super) fn read_clock(&mut self) {
        let now = self.consumer_clock.read(self.truth);
        let process = &mut self.process;
        process.clock_read_at = self.truth;
        process.now = process.now.max(now);
        process.cache().advance(Timestamp::from_millis(now));
    }

    /// Reports the broker's answer to the cache.
    pub(super) fn observe(&mut self) {
        let clocks = [&self.consumer_clock, &self.broker_clock];
        let asked_at = self.random.pick(&clocks).read(self.truth);
        let tracked = self.tracked_min_msg_time();
        let reported = self.reporter.report(&mut self.broker, self.truth, asked_at, &mut self.random);
        let reported = tracked.unwrap_or(reported);
        let time = millis(reported);
        if let Some(rivals) = &mut self.rivals {
            rivals.observe(time);
        }
        let process = &mut self.process;
        let before = process.cache().watermark();
        let observed = time.saturating_sub(self.scenario.out_of_orderness());
        match process.cache().observe(reported) {
            Ok(()) if time == 0 => {}
            Ok(()) => {
                self.oracle.tally.watermark_regressions += u64::from(observed < process.observed);
                process.observed = process.observed.max(observed);
            }
            Err(Error::WatermarkAhead { .. }) => self.oracle.tally.rejected_watermarks += 1,
            Err(error) => self.oracle.fail(format!("observing {reported:?} failed: {error}")),
        }
        if process.cache().watermark() < before {
            self.oracle.fail(String::from("the watermark went back"));
        }
    }

    pub(super) fn crash(&mut self) {
        self.oracle.tally.crashes += 1;
        for item in self.process.workers.iter().flat_map(|worker| &worker.work) {
            let event = item.delivery.event;
            match (item.has_taken_effect, item.is_committed) {
                (true, false) => self.oracle.crashed_before_commit(event),
                (false, true) => self.oracle.crashed_after_insert(event),
                _ => {}
            }
            self.oracle.unclaimed(event, item.claimed_at);
            self.oracle.release(event);
        }
        self.process.end(&mut self.oracle);
        if self.scenario.broker.notices_crashes {
            self.broker.redeliver_all();
        }
        let after = self.random.below(self.scenario.consumer.down_max) + 1;
        self.schedule(after, Action::Restart);
    }
}
