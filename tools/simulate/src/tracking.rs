//! A consumer that is told no `min_msg_time` and tracks its own deliveries instead: partitions,
//! offsets that are committed now and then, rebalances after which they go back, and pauses.

use super::broker::{Delivery, MessageId};
use super::cache::Cache;
use super::process::Phase;
use super::scenario::{MINUTE, Tracking};
use super::world::{Action, World};
use oncewheel::{DeliveryTracker, MinMsgTime, Timestamp};
use std::collections::BTreeMap;

/// What one process of the consumer knows.
#[derive(Default)]
pub(crate) struct Tracked {
    tracker: DeliveryTracker<u64>,
    /// By partition and position: what is processed and not yet committed.
    processed: BTreeMap<(u64, u64), Delivery>,
    /// A bit for each partition that is paused.
    paused: u64,
    /// Between two assignments.
    is_away: bool,
}

impl<C: Cache> World<'_, C> {
    fn tracking(&self) -> Option<&Tracking> {
        self.scenario.consumer.tracking.as_ref()
    }

    fn partition(&self, delivery: &Delivery) -> u64 {
        delivery.event % self.tracking().map_or(1, |tracking| tracking.partitions)
    }

    pub(super) fn schedule_tracking(&mut self) {
        let Some(Tracking { commit_every, rebalance_every, pause_every, .. }) = self.tracking().cloned() else {
            return;
        };
        self.schedule(commit_every, Action::Commit);
        for (every, action) in [(rebalance_every, Action::Rebalance), (pause_every, Action::Pause)] {
            if every > 0 {
                self.schedule(every, action);
            }
        }
    }

    /// A new process, or a new assignment, knows nothing of what came before.
    pub(super) fn assign(&mut self) {
        let Some(Tracking { partitions, .. }) = self.tracking().cloned() else { return };
        let paused = self.tracked.paused;
        self.tracked = Tracked { paused, ..Tracked::default() };
        for partition in 0..partitions {
            self.tracked.tracker.assigned(partition);
        }
        self.read_partitions();
    }

    /// Ends a rebalance, unless a restart has done so before.
    pub(super) fn reassign(&mut self) {
        if self.tracked.is_away {
            self.assign();
        }
    }

    fn read_partitions(&mut self) {
        let Some(Tracking { partitions, .. }) = self.tracking().cloned() else { return };
        let paused = if self.tracked.is_away { u64::MAX } else { self.tracked.paused };
        self.broker.pause(partitions, paused);
        for _ in 0..self.scenario.consumer.workers {
            self.wake_one();
        }
    }

    fn is_other_reader(&self, worker: usize) -> bool {
        self.tracking().is_some_and(|tracking| tracking.competes && worker % 2 == 1)
    }

    /// Other readers keep what they prefetch for so long that the broker often takes it for lost.
    pub(super) fn prefetch_max(&self, worker: usize) -> u64 {
        self.scenario.consumer.prefetch_max * if self.is_other_reader(worker) { 10 } else { 1 }
    }

    pub(super) fn track_received(&mut self, worker: usize, delivery: &Delivery) {
        if self.tracking().is_some() && !self.is_other_reader(worker) {
            let time = Timestamp::from_millis(delivery.time);
            self.tracked.tracker.received(&self.partition(delivery), delivery.position, time);
        }
    }

    /// The broker has nothing more to deliver.
    pub(super) fn track_end(&mut self) {
        let Some(Tracking { partitions, .. }) = self.tracking().cloned() else { return };
        let asked_at = Timestamp::from_millis(self.broker_clock.read(self.truth));
        for partition in (0..partitions).filter(|partition| self.tracked.paused >> partition & 1 == 0) {
            self.tracked.tracker.reached_end(&partition, asked_at);
        }
    }

    /// The visibility timeout of a delivery is over, or it was given back.
    pub(super) fn track_requeued(&mut self, message: MessageId) {
        if self.tracking().is_some() {
            let delivery = self.broker.delivery(message);
            self.tracked.tracker.requeued(&self.partition(&delivery), delivery.position);
        }
    }

    /// Instead of an acknowledgement: `false` if this consumer does not track its deliveries, or
    /// this one is another's.
    pub(super) fn track_processed(&mut self, delivery: Delivery) -> bool {
        let Some(competes) = self.tracking().map(|tracking| tracking.competes) else { return false };
        let partition = self.partition(&delivery);
        // A worker that goes on after a rebalance must not report to the next assignment: the copy
        // that came again may be at hand still, and would be below the watermark.
        let is_this_copy = competes || self.broker.delivery(delivery.message).number == delivery.number;
        let is_ours = is_this_copy && self.tracked.tracker.processed(&partition, delivery.position);
        if is_ours {
            self.tracked.processed.insert((partition, delivery.position), delivery);
        }
        is_ours || !competes // what was processed for an earlier assignment is not committed any more
    }

    pub(super) fn tracked_min_msg_time(&mut self) -> Option<MinMsgTime> {
        self.tracking().is_some().then(|| self.tracked.tracker.min_msg_time())
    }

    pub(super) fn commit_now_and_then(&mut self) {
        if self.process.is_up(self.truth) && !self.random.one_in(self.scenario.broker.ack_lost) {
            self.commit_offsets();
        }
        let Some(Tracking { commit_every, .. }) = self.tracking().cloned() else { return };
        self.schedule(commit_every, Action::Commit);
    }

    fn commit_offsets(&mut self) {
        let Some(Tracking { partitions, .. }) = self.tracking().cloned() else { return };
        for partition in 0..partitions {
            let Some(offset) = self.tracked.tracker.committable(&partition) else { continue };
            let committed = (partition, 0)..(partition, offset);
            while let Some((&place, &delivery)) = self.tracked.processed.range(committed.clone()).next() {
                self.tracked.processed.remove(&place);
                self.acknowledge(delivery.event, delivery.time, delivery.message);
            }
            self.tracked.tracker.confirmed_before(&partition, offset);
        }
    }

    /// All partitions go, to come back soon. What is at hand and not begun is given up; what is
    /// begun goes on, and meets its own redelivery.
    pub(super) fn rebalance(&mut self) {
        let Some(Tracking { partitions, rebalance_every, .. }) = self.tracking().cloned() else { return };
        if self.is_draining {
            return;
        }
        self.schedule(rebalance_every, Action::Rebalance);
        if !self.process.is_up(self.truth) || self.tracked.is_away {
            return;
        }
        self.oracle.tally.rebalances += 1;
        if self.random.one_in(2) {
            self.commit_offsets();
        }
        for partition in 0..partitions {
            self.tracked.tracker.revoked(&partition);
        }
        self.tracked.processed.clear();
        for worker in self.process.workers.iter_mut().filter(|worker| worker.phase == Phase::Ask) {
            for item in worker.work.drain(..) {
                self.oracle.release(item.delivery.event);
            }
        }
        self.broker.redeliver_all();
        self.tracked.is_away = true;
        self.read_partitions();
        let after = self.random.extreme(MINUTE);
        self.schedule(after, Action::Reassign);
    }

    /// The consumer reads no more of one partition for a while.
    pub(super) fn pause(&mut self) {
        let Some(Tracking { partitions, pause_every, pause_max, .. }) = self.tracking().cloned() else { return };
        if self.is_draining {
            return;
        }
        self.schedule(pause_every, Action::Pause);
        self.oracle.tally.pauses += 1;
        let (partition, after) = (self.random.below(partitions), self.random.extreme(pause_max));
        self.tracked.paused |= 1 << partition;
        self.read_partitions();
        self.schedule(after, Action::Resume { partition });
    }

    pub(super) fn resume(&mut self, partition: u64) {
        self.tracked.paused &= !(1 << partition);
        self.read_partitions();
    }
}
