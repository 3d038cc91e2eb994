//! The consumer's workers. They take messages, ask the cache, let the effects happen, commit and
//! acknowledge. The process may crash anywhere in between.

use super::broker::Delivery;
use super::cache::Cache;
use super::process::{Item, Phase};
use super::scenario::{CLOCK_READ_EVERY, SECOND, Way};
use super::world::{Action, World};
use oncewheel::Error;

/// What a worker does next.
enum Step {
    /// Waits up to this many milliseconds, and continues with this phase.
    Next(Phase, u64),
    Idle,
    Crash,
}

impl<C: Cache> World<'_, C> {
    pub(super) fn wake_one(&mut self) {
        if let Some(worker) = self.process.workers.iter().position(|worker| worker.is_idle) {
            self.process.workers[worker].is_idle = false;
            self.go_on(worker, 0);
        }
    }

    pub(super) fn go_on(&mut self, worker: usize, after: u64) {
        self.schedule(after, Action::Turn { worker, incarnation: self.process.incarnation });
    }

    /// A worker continues until it has to wait.
    pub(super) fn turn(&mut self, worker: usize, incarnation: u32) {
        if self.process.incarnation != incarnation || self.process.cache.is_none() {
            return;
        }
        if self.truth < self.process.stalled_until {
            return self.go_on(worker, self.process.stalled_until - self.truth);
        }
        while self.oracle.failure.is_none() {
            let (next, wait_max) = match self.step(worker, self.process.workers[worker].phase) {
                Step::Next(next, wait_max) => (next, wait_max),
                Step::Idle => return self.process.workers[worker].is_idle = true,
                Step::Crash => return self.crash(),
            };
            self.process.workers[worker].phase = next;
            let hangs = next == Phase::Effect && !self.is_draining && self.random.one_in(self.scenario.consumer.hangs);
            let wait = if hangs {
                self.random.below(self.scenario.consumer.hang_max)
            } else {
                self.random.below(wait_max + 1)
            };
            if wait > 0 {
                return self.go_on(worker, wait);
            }
        }
    }

    fn step(&mut self, worker: usize, phase: Phase) -> Step {
        let consumer = &self.scenario.consumer;
        match phase {
            Phase::Take if self.take(worker) => Step::Next(Phase::Ask, self.prefetch_max(worker)),
            Phase::Take => Step::Idle,
            Phase::Ask => {
                let is_full = self.ask(worker);
                match self.process.workers[worker].work.is_empty() {
                    true => Step::Next(Phase::Take, if is_full { SECOND } else { 0 }),
                    false => Step::Next(Phase::Effect, consumer.processing_max),
                }
            }
            Phase::Effect if self.crash_now() || self.effect(worker) || self.crash_now() => Step::Crash,
            Phase::Effect => Step::Next(Phase::Commit, consumer.commit_delay_max),
            Phase::Commit if self.commit(worker) => Step::Crash,
            Phase::Commit => Step::Next(Phase::Acknowledge, consumer.commit_delay_max),
            Phase::Acknowledge if self.crash_now() || self.acknowledge_all(worker) || self.crash_now() => Step::Crash,
            Phase::Acknowledge => Step::Next(Phase::Take, 0),
        }
    }

    fn crash_now(&mut self) -> bool {
        !self.is_draining && self.random.one_in(self.scenario.consumer.crashes)
    }

    fn take(&mut self, worker: usize) -> bool {
        self.drop_expired();
        if self.truth >= self.process.clock_read_at + CLOCK_READ_EVERY {
            self.read_clock();
        }
        if self.random.one_in(self.scenario.consumer.observes) {
            self.observe();
        }
        let size = if self.scenario.consumer.batch == 1 {
            1
        } else {
            1 + self.random.extreme(self.scenario.consumer.batch as u64 - 1)
        };
        for _ in 0..size {
            let Some(delivery) = self.broker.deliver() else {
                self.track_end();
                break;
            };
            self.track_received(worker, &delivery);
            self.oracle.hold(delivery.event);
            let redelivery = Action::Redeliver { message: delivery.message, number: delivery.number };
            if self.scenario.broker.visibility > 0 {
                self.schedule(self.scenario.broker.visibility, redelivery);
            }
            let item = Item { delivery, claim: None, claimed_at: 0, is_committed: false, has_taken_effect: false };
            self.process.workers[worker].work.push(item);
        }
        !self.process.workers[worker].work.is_empty()
    }

    /// The effects of a batch. Returns `true` if the process crashed among them.
    fn effect(&mut self, worker: usize) -> bool {
        let mut at = 0;
        while at < self.process.workers[worker].work.len() {
            let item = &mut self.process.workers[worker].work[at];
            let Delivery { event, message, number, .. } = item.delivery;
            if item.claim.is_some() && !self.is_draining && self.random.one_in(self.scenario.consumer.fails) {
                let item = self.process.workers[worker].work.remove(at);
                self.oracle.unclaimed(event, item.claimed_at);
                let claim = item.claim.expect("just checked");
                self.process.cache().abort(claim);
                self.schedule(SECOND, Action::Redeliver { message, number });
                self.oracle.release(event);
                continue;
            }
            if !item.has_taken_effect {
                item.has_taken_effect = true;
                self.oracle.effect(event);
            }
            at += 1;
            if self.crash_now() {
                return true;
            }
        }
        false
    }

    /// The commits of a batch. Returns `true` if the process crashed among them.
    fn commit(&mut self, worker: usize) -> bool {
        if self.scenario.consumer.way == Way::CommitBatch {
            let work = &mut self.process.workers[worker].work;
            let claims = work.iter_mut().filter_map(|item| item.claim.take()).collect();
            let committed = match self.process.cache().commit_batch(claims) {
                Ok(committed) => committed,
                Err(error) => {
                    self.oracle.fail(format!("a batch of commits failed: {error}"));
                    return false;
                }
            };
            for position in (0..self.process.workers[worker].work.len()).rev() {
                self.commit_returned(worker, position, !committed.contains(position));
            }
            return false;
        }
        let mut at = 0;
        while at < self.process.workers[worker].work.len() {
            if let Some(claim) = self.process.workers[worker].work[at].claim.take() {
                let committed = self.process.cache().commit(claim);
                let is_lost = committed == Err(Error::ClaimLost);
                if let (false, Err(error)) = (is_lost, &committed) {
                    self.oracle.fail(format!("a commit failed: {error}"));
                }
                self.commit_returned(worker, at, is_lost);
                at += usize::from(!is_lost);
                if self.crash_now() {
                    return true;
                }
            } else {
                at += 1;
            }
        }
        false
    }

    fn commit_returned(&mut self, worker: usize, position: usize, is_lost: bool) {
        let work = &mut self.process.workers[worker].work;
        let item = &mut work[position];
        item.is_committed = true;
        let event = item.delivery.event;
        self.oracle.commit_returned(event, item.claimed_at, self.process.now, is_lost);
        if is_lost {
            work.remove(position);
            self.oracle.tally.claims_lost += 1;
            self.oracle.release(event);
        }
    }

    /// The acknowledgements of a batch. Returns `true` if the process crashed among them.
    fn acknowledge_all(&mut self, worker: usize) -> bool {
        while let Some(item) = self.process.workers[worker].work.pop() {
            self.send_acknowledgement(item.delivery);
            self.oracle.release(item.delivery.event);
            if self.crash_now() {
                return true;
            }
        }
        false
    }

    pub(super) fn send_acknowledgement(&mut self, delivery: Delivery) {
        self.oracle.acknowledged(delivery.event);
        if !self.track_processed(delivery) && !self.random.one_in(self.scenario.broker.ack_lost) {
            self.acknowledge(delivery.event, delivery.time, delivery.message);
        }
    }
}
