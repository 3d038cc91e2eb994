//! Simulated time: what happens when, on the side of producers, network and broker.

use super::broker::{Broker, MessageId};
use super::cache::Cache;
use super::clock::{DriftingClock, SET_EVERY};
use super::min_msg_time::Reporter;
use super::oracle::Oracle;
use super::process::Process;
use super::random::Random;
use super::rivals::Rivals;
use super::scenario::{Broken, HOUR, MINUTE, SECOND, Scenario, Stamp};
use super::tally::Tally;
use super::tracking::Tracked;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;

/// When simulated time begins. Not a round number.
const START: u64 = 1_795_302_291_895;
/// Longer than any event can stay pending, once nothing new is produced and nothing fails.
const DRAINED_WITHIN: u64 = 240 * HOUR;
const REWOUND_MESSAGES: usize = 5_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Produce,
    Attempt {
        event: u64,
        first_at: u64,
    },
    Arrive {
        event: u64,
        stamp: u64,
    },
    /// A worker continues.
    Turn {
        worker: usize,
        incarnation: u32,
    },
    /// A visibility timeout has expired.
    Redeliver {
        message: MessageId,
        number: u32,
    },
    Restart,
    Stall,
    Tick,
    SetClocks,
    JumpClock {
        by: i64,
    },
    Rewind,
    /// Offsets are committed.
    Commit,
    Rebalance,
    Reassign,
    Pause,
    Resume {
        partition: u64,
    },
}

pub(crate) struct World<'a, C: Cache> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) random: Random,
    /// The true time.
    pub(crate) truth: u64,
    agenda: BinaryHeap<Reverse<(u64, u64, Action)>>,
    scheduled: u64,
    pub(crate) broker: Broker,
    pub(crate) oracle: Oracle,
    pub(crate) process: Process<C>,
    pub(crate) consumer_clock: DriftingClock,
    pub(crate) broker_clock: DriftingClock,
    producer_clocks: [DriftingClock; 4],
    pub(crate) reporter: Reporter,
    pub(crate) tracked: Tracked,
    /// Nothing new is produced, and nothing fails any more.
    pub(crate) is_draining: bool,
    /// What a rewind redelivers.
    acknowledged: VecDeque<(u64, u64)>,
    pub(crate) rivals: Option<Rivals>,
}

impl<'a, C: Cache> World<'a, C> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, journal: Option<&'a Path>, compares: bool) -> Self {
        let clock = DriftingClock::new(scenario.clock_bound);
        let terms = scenario.terms();
        let rivals = compares.then(|| Rivals::new(terms.span, scenario.broker.retention.unwrap_or(0)));
        Self {
            scenario,
            random: Random::new(seed),
            truth: START,
            agenda: BinaryHeap::new(),
            scheduled: 0,
            broker: Broker::default(),
            oracle: Oracle::new(terms),
            process: Process::new(scenario, journal.map(Path::to_path_buf)),
            consumer_clock: clock.clone(),
            broker_clock: clock.clone(),
            producer_clocks: [clock.clone(), clock.clone(), clock.clone(), clock],
            reporter: Reporter::new(scenario.broker.min_msg_time),
            tracked: Tracked::default(),
            is_draining: false,
            acknowledged: VecDeque::new(),
            rivals,
        }
    }

    /// Runs for this many deliveries, and then until no event is pending.
    pub(crate) fn run(mut self, deliveries: u64) -> Result<Tally, String> {
        for action in [Action::SetClocks, Action::Restart, Action::Tick, Action::Produce] {
            self.schedule(0, action);
        }
        if self.scenario.consumer.stall_every > 0 {
            self.schedule(self.scenario.consumer.stall_every, Action::Stall);
        }
        if self.scenario.broker.rewind_every > 0 {
            self.schedule(self.scenario.broker.rewind_every, Action::Rewind);
        }
        self.schedule_tracking();
        if let Broken::ClockJump(by) = self.scenario.broken {
            self.schedule(HOUR, Action::JumpClock { by });
        }
        let mut drained_by = u64::MAX;
        while let Some(Reverse((at, _, action))) = self.agenda.pop() {
            self.truth = at;
            self.act(action);
            if let Some(failure) = self.oracle.failure.take() {
                return Err(format!("after {} deliveries, at {at}: {failure}", self.oracle.tally.deliveries));
            }
            if !self.is_draining && self.oracle.tally.deliveries >= deliveries {
                self.is_draining = true;
                drained_by = at + DRAINED_WITHIN;
                while let Some((event, _)) = self.acknowledged.pop_front() {
                    self.oracle.release(event);
                }
            }
            if self.is_draining && self.oracle.open_events() == 0 {
                break;
            }
            if at > drained_by {
                return Err(format!("{} events stay pending", self.oracle.open_events()));
            }
        }
        self.process.end(&mut self.oracle);
        if let Some(rivals) = &self.rivals {
            let tallies = self.oracle.tally.rivals.iter_mut();
            tallies.zip(rivals.keys_max()).for_each(|(tally, keys_max)| tally.keys_max = keys_max);
        }
        self.oracle.tally.time = self.truth - START;
        match self.oracle.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(self.oracle.tally),
        }
    }

    pub(crate) fn schedule(&mut self, after: u64, action: Action) {
        self.scheduled += 1;
        self.agenda.push(Reverse((self.truth + after, self.scheduled, action)));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Produce => self.produce(),
            Action::Attempt { event, first_at } => self.attempt(event, first_at),
            Action::Arrive { event, stamp } => self.arrive(event, stamp),
            Action::Turn { worker, incarnation } => self.turn(worker, incarnation),
            Action::Redeliver { message, number } => {
                if self.broker.redeliver(message, number) {
                    self.track_requeued(message);
                    self.wake_one();
                }
            }
            Action::Restart => self.restart(),
            Action::Stall => self.stall(),
            Action::Tick => self.tick(),
            Action::SetClocks => self.set_clocks(),
            Action::JumpClock { by } => self.consumer_clock.jump(by),
            Action::Rewind => self.rewind(),
            Action::Commit => self.commit_now_and_then(),
            Action::Rebalance => self.rebalance(),
            Action::Reassign => self.reassign(),
            Action::Pause => self.pause(),
            Action::Resume { partition } => self.resume(partition),
        }
    }

    fn produce(&mut self) {
        if self.is_draining {
            return;
        }
        let event = self.oracle.produce();
        self.attempt(event, self.truth);
        let producers = &self.scenario.producers;
        let is_burst = producers.has_bursts && self.truth % (40 * MINUTE) < 10 * MINUTE;
        let gap = if is_burst { producers.gap / 4 } else { producers.gap };
        let after = self.random.below(2 * gap + 1);
        self.schedule(after, Action::Produce);
    }

    /// A producer sends a copy. If no acknowledgement arrives, it sends the next, until `retry_max`
    /// after the first.
    fn attempt(&mut self, event: u64, first_at: u64) {
        let producers = &self.scenario.producers;
        let arrives = !self.random.one_in(producers.copy_lost);
        if arrives {
            let under_way = match self.random.below(16) {
                0 if producers.goes_to_limits => 0,
                1 if producers.goes_to_limits => producers.network_max,
                2 => self.random.below(producers.network_max + 1),
                _ => self.random.below(producers.network_max.min(50) + 1),
            };
            self.oracle.hold(event);
            let is_ahead = producers.stamp == Stamp::ProducerAhead && event.is_multiple_of(16);
            let stamp = self.producer_clocks[event as usize % 4].read(self.truth) + if is_ahead { 6 * HOUR } else { 0 };
            self.schedule(under_way, Action::Arrive { event, stamp });
        }
        let last_at = first_at + producers.retry_max;
        let again_at = match self.random.below(8) {
            0 if producers.goes_to_limits => last_at,
            1 => self.truth + 1 + self.random.below(producers.retry_max + 1),
            _ => self.truth + 1 + self.random.below(producers.retry_max / 20 + 1),
        };
        let is_acknowledged = arrives && !self.random.one_in(producers.ack_lost);
        if is_acknowledged || again_at > last_at || self.truth == last_at {
            self.oracle.release(event);
        } else {
            self.schedule(again_at - self.truth, Action::Attempt { event, first_at });
        }
    }

    fn arrive(&mut self, event: u64, stamp: u64) {
        let time = match self.scenario.producers.stamp {
            Stamp::Broker | Stamp::Unknown => self.broker_clock.read(self.truth),
            Stamp::Producer | Stamp::ProducerAhead => stamp,
        };
        self.store(event, time);
    }

    fn store(&mut self, event: u64, time: u64) {
        let disorder = self.random.extreme(self.scenario.broker.disorder);
        self.broker.store(event, time, disorder);
        self.oracle.stored(event, time);
        self.oracle.tally.backlog_max = self.oracle.tally.backlog_max.max(self.broker.backlog());
        self.wake_one();
    }

    /// Drops the messages that are past the retention. Runs before every delivery.
    pub(crate) fn drop_expired(&mut self) {
        let Some(retention) = self.scenario.broker.retention else { return };
        let oldest_kept = self.broker_clock.read(self.truth) - retention;
        while let Some(event) = self.broker.drop_expired(oldest_kept) {
            self.oracle.release(event);
        }
    }

    /// A consumer's acknowledgement reaches the broker.
    pub(crate) fn acknowledge(&mut self, event: u64, time: u64, message: MessageId) {
        if !self.broker.acknowledge(message) {
            return;
        }
        if self.scenario.broker.rewind_every == 0 || self.is_draining {
            return self.oracle.release(event);
        }
        self.acknowledged.push_back((event, time));
        if self.acknowledged.len() > REWOUND_MESSAGES
            && let Some((event, _)) = self.acknowledged.pop_front()
        {
            self.oracle.release(event);
        }
    }

    /// The queue is rewound: messages that were acknowledged are delivered again.
    fn rewind(&mut self) {
        if !self.is_draining {
            for (event, time) in std::mem::take(&mut self.acknowledged) {
                self.store(event, time);
            }
            self.schedule(self.scenario.broker.rewind_every, Action::Rewind);
        }
    }

    fn stall(&mut self) {
        if !self.is_draining {
            self.oracle.tally.stalls += 1;
            self.process.stalled_until = self.truth + self.random.extreme(self.scenario.consumer.stall_max);
            let after = self.random.below(2 * self.scenario.consumer.stall_every) + 1;
            self.schedule(after, Action::Stall);
        }
    }

    fn tick(&mut self) {
        self.drop_expired();
        if self.process.is_up(self.truth) {
            self.read_clock();
            self.observe();
            self.process.measure(&mut self.oracle.tally);
        }
        self.schedule(SECOND, Action::Tick);
    }

    fn set_clocks(&mut self) {
        let others = [&mut self.consumer_clock, &mut self.broker_clock];
        for clock in others.into_iter().chain(&mut self.producer_clocks) {
            clock.set(self.truth, &mut self.random);
        }
        if self.scenario.clock_bound > 0 {
            let after = self.random.below(SET_EVERY) + 1;
            self.schedule(after, Action::SetClocks);
        }
    }
}
