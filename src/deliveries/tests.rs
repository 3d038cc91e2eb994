//! The rules one by one, and the definition beside the structure.

use super::*;
use crate::{Clock, Config, Horizon, unsync::DedupCache};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const UNKNOWN: MinMsgTime = MinMsgTime::Unknown;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn known(ms: u64) -> MinMsgTime {
    MinMsgTime::Known(at(ms))
}

/// Partition 0, with deliveries at positions 1, 2, .. of these times.
fn received(times: &[u64]) -> DeliveryTracker<u32> {
    let mut tracker = DeliveryTracker::new();
    tracker.assigned(0);
    for (position, time) in (1..).zip(times) {
        assert!(tracker.received(&0, position, at(*time)));
    }
    tracker
}

fn unknown_confirmations(tracker: &DeliveryTracker<u32>) -> u64 {
    tracker.stats().unknown_confirmations
}

#[test]
fn the_low_is_the_least_time_outstanding_or_that_of_the_last_received() {
    let mut tracker = received(&[100, 200, 300]);
    assert_eq!(tracker.min_msg_time(), known(100));
    assert!(tracker.confirmed(&0, 1));
    assert_eq!(tracker.min_msg_time(), known(200));
    assert_eq!(tracker.confirmed_before(&0, 4), 2);
    assert_eq!(tracker.min_msg_time(), known(300));
}

#[test]
fn a_delivery_counts_from_when_it_is_received_and_not_from_its_claim() {
    let mut tracker = received(&[100, 200]);
    tracker.processed(&0, 2);
    tracker.confirmed(&0, 2); // the first is still in the client's buffer
    assert_eq!(tracker.min_msg_time(), known(100));
}

#[test]
fn a_delivery_that_is_processed_and_not_committed_holds_the_minimum() {
    let mut tracker = received(&[100, 3_600_000]);
    assert!(tracker.processed(&0, 1) && tracker.processed(&0, 2));
    assert_eq!((tracker.committable(&0), tracker.min_msg_time()), (Some(3), known(100)));
    assert_eq!(tracker.confirmed_before(&0, 3), 2);
    assert_eq!(tracker.min_msg_time(), known(3_600_000));
}

#[test]
fn a_requeued_delivery_holds_the_minimum_until_it_is_seen_again_and_confirmed() {
    let mut tracker = received(&[100, 200]);
    assert!(tracker.requeued(&0, 1));
    tracker.confirmed(&0, 2);
    tracker.reached_end(&0, at(900));
    assert_eq!(tracker.min_msg_time(), known(100));
    assert!(tracker.oldest().unwrap().is_requeued);
    tracker.received(&0, 1, at(100));
    assert!(!tracker.oldest().unwrap().is_requeued);
    assert_eq!(tracker.min_msg_time(), known(100));
    assert!(tracker.confirmed(&0, 1));
    assert_eq!(tracker.min_msg_time(), known(900));
    assert_eq!(tracker.stats().redeliveries, 1);
}

#[test]
fn a_requeued_delivery_goes_with_its_partition() {
    let mut tracker = received(&[100]);
    tracker.assigned(1);
    tracker.received(&1, 1, at(500));
    tracker.requeued(&0, 1);
    assert_eq!(tracker.min_msg_time(), known(100));
    tracker.revoked(&0);
    assert_eq!(tracker.min_msg_time(), known(500));
}

#[test]
fn a_requeued_delivery_that_comes_at_a_new_position_is_held_there() {
    let mut tracker = received(&[100, 200]);
    tracker.requeued(&0, 1);
    tracker.received(&0, 3, at(100)); // another message of the same time
    tracker.confirmed_before(&0, 1);
    tracker.confirmed(&0, 3);
    assert_eq!(tracker.oldest().unwrap().position, Some(1));
    assert!(tracker.received_again(&0, 1, 4, at(150)));
    assert_eq!((tracker.oldest().unwrap().position, tracker.min_msg_time()), (Some(4), known(100)));
    assert_eq!((tracker.stats().outstanding, unknown_confirmations(&tracker)), (2, 0));

    // Not requeued: it is another delivery, and both are held.
    assert!(tracker.received_again(&0, 2, 5, at(500)));
    assert_eq!((tracker.stats().outstanding, unknown_confirmations(&tracker)), (3, 1));
    assert!(!tracker.received_again(&7, 1, 2, at(500)));
    assert_eq!((tracker.stats().outstanding, unknown_confirmations(&tracker)), (3, 1));
}

#[test]
fn a_requeued_delivery_that_comes_again_without_a_time_keeps_the_one_that_it_had() {
    for unknown in [None, Some(Timestamp::from_millis(0))] {
        let mut tracker = received(&[100]);
        tracker.requeued(&0, 1);
        assert!(tracker.received_again(&0, 1, 2, unknown));
        assert_eq!(tracker.min_msg_time(), known(100), "{unknown:?}");
    }
}

#[test]
fn idle_is_only_what_the_broker_reported_as_the_end_and_then_counts_from_the_question() {
    let mut tracker = received(&[100]);
    tracker.reached_end(&0, at(900));
    assert_eq!(tracker.min_msg_time(), known(100), "one is outstanding");
    tracker.confirmed(&0, 1);
    assert_eq!(tracker.min_msg_time(), known(900));
    tracker.reached_end(&0, at(50));
    assert_eq!(tracker.min_msg_time(), known(900), "an old answer changes nothing");

    let mut empty: DeliveryTracker<u32> = DeliveryTracker::new();
    empty.assigned(0);
    assert!(empty.reached_end(&0, at(900)));
    assert_eq!(empty.min_msg_time(), known(900));
    assert!(!empty.reached_end(&1, at(950)));
}

#[test]
fn a_paused_partition_holds_the_minimum_while_others_go_on() {
    let mut tracker = received(&[100]);
    tracker.confirmed(&0, 1);
    tracker.assigned(1);
    for position in 1..10_000 {
        tracker.received(&1, position, at(100 * position));
        tracker.confirmed(&1, position);
        tracker.reached_end(&1, at(100 * position));
        assert_eq!(tracker.min_msg_time(), known(100));
    }
}

#[test]
fn a_newly_assigned_partition_holds_the_watermark_where_it_was_until_something_comes() {
    let horizon = Horizon::new(Duration::from_secs(1), Duration::ZERO);
    let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual)).unwrap();
    let mut tracker = received(&[100]);
    cache.observe(tracker.min_msg_time()).unwrap();
    assert!(tracker.assigned(1));
    tracker.received(&0, 2, at(200));
    tracker.confirmed_before(&0, 3);
    assert_eq!(tracker.min_msg_time(), UNKNOWN);
    cache.observe(tracker.min_msg_time()).unwrap();
    assert_eq!(cache.watermark(), Some(at(100)));
    let oldest = tracker.oldest().unwrap();
    assert_eq!((*oldest.partition, oldest.msg_time, oldest.position), (1, None, None));
    tracker.received(&1, 1, at(150));
    assert_eq!(tracker.min_msg_time(), known(150));
}

#[test]
fn a_revoked_partition_leaves_the_minimum() {
    let mut tracker = received(&[100]);
    tracker.assigned(1);
    tracker.received(&1, 1, at(500));
    assert_eq!(tracker.min_msg_time(), known(100));
    assert!(tracker.revoked(&0) && !tracker.revoked(&0));
    assert_eq!(tracker.min_msg_time(), known(500));
    assert!(tracker.revoked(&1));
    assert_eq!((tracker.min_msg_time(), tracker.oldest()), (UNKNOWN, None));
    assert_eq!(tracker.stats().outstanding, 0);
}

#[test]
fn offsets_that_go_back_after_a_rebalance_move_no_watermark_back() {
    let horizon = Horizon::new(Duration::from_secs(1), Duration::ZERO);
    let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual)).unwrap();
    let mut tracker = received(&[100, 200, 300]);
    tracker.confirmed_before(&0, 3);
    cache.observe(tracker.min_msg_time()).unwrap();
    tracker.revoked(&0);
    assert!(tracker.assigned(0));
    assert_eq!(tracker.committable(&0), None);
    for (position, time) in [(1, 100), (2, 200), (3, 300)] {
        tracker.received(&0, position, at(time));
        cache.observe(tracker.min_msg_time()).unwrap();
        assert_eq!(cache.watermark(), Some(at(300)));
        assert_eq!(tracker.committable(&0), Some(1), "what came again is to be processed again");
    }
    assert!((1..=3).all(|position| tracker.confirmed(&0, position)));
    tracker.received(&0, 4, at(400));
    cache.observe(tracker.min_msg_time()).unwrap();
    assert_eq!(cache.watermark(), Some(at(400)));
}

#[test]
fn offsets_that_go_back_within_an_assignment_are_outstanding_again() {
    let mut tracker = received(&[100, 200, 300, 400]);
    tracker.confirmed_before(&0, 4);
    assert!(tracker.received(&0, 2, at(200)));
    assert_eq!((tracker.min_msg_time(), tracker.committable(&0)), (known(200), Some(2)));
    assert!(tracker.processed(&0, 2));
    assert_eq!(tracker.committable(&0), Some(3), "3 is to come again too");
    assert!(tracker.confirmed(&0, 2) && !tracker.confirmed(&0, 2));
    assert_eq!(tracker.stats().outstanding, 1);
}

#[test]
fn what_is_assigned_again_without_being_revoked_stays_as_it_is() {
    let mut tracker = received(&[100]);
    assert!(!tracker.assigned(0));
    assert_eq!((tracker.min_msg_time(), tracker.stats().outstanding), (known(100), 1));
}

#[test]
fn the_committable_position_is_the_lowest_one_not_processed() {
    let mut tracker = DeliveryTracker::new();
    tracker.assigned(0);
    assert_eq!(tracker.committable(&0), None);
    for offset in [10, 11, 14, 1_000_000, 1_000_001] {
        tracker.received(&0, offset, at(offset)); // gaps of a transaction, and of a compacted log
    }
    assert_eq!(tracker.committable(&0), Some(10));
    for (offset, committable) in [(14, 10), (11, 10), (10, 1_000_000), (1_000_001, 1_000_000), (1_000_000, 1_000_002)] {
        assert!(tracker.processed(&0, offset));
        assert_eq!(tracker.committable(&0), Some(committable));
    }
    assert_eq!(tracker.min_msg_time(), known(10), "processed is not confirmed");
    assert_eq!(tracker.confirmed_before(&0, 1_000_000), 3);
    assert_eq!(tracker.min_msg_time(), known(1_000_000));
}

#[test]
fn a_redelivery_does_not_hold_back_what_may_be_committed_once_it_is_processed() {
    let mut tracker = received(&[100, 200, 300]);
    tracker.requeued(&0, 1);
    assert!((2..=3).all(|position| tracker.processed(&0, position)));
    assert_eq!(tracker.committable(&0), Some(1));
    tracker.received(&0, 1, at(100));
    tracker.processed(&0, 1);
    assert_eq!(tracker.committable(&0), Some(4));
}

#[test]
fn confirming_what_was_never_received_or_twice_or_after_revocation_is_counted_and_changes_nothing() {
    let mut tracker = received(&[100, 200]);
    assert!(tracker.confirmed(&0, 2));
    let unchanged = |tracker: &mut DeliveryTracker<u32>, count| {
        assert_eq!(tracker.min_msg_time(), known(100));
        assert_eq!((tracker.stats().outstanding, unknown_confirmations(tracker)), (1, count));
    };
    assert!(!tracker.confirmed(&0, 99));
    unchanged(&mut tracker, 1);
    assert!(!tracker.confirmed(&0, 2));
    unchanged(&mut tracker, 2);
    assert!(!tracker.confirmed(&7, 1));
    unchanged(&mut tracker, 3);
    assert_eq!(tracker.confirmed_before(&7, 99), 0);
    unchanged(&mut tracker, 4);
    assert!(!tracker.processed(&0, 2) && !tracker.requeued(&0, 2));
    unchanged(&mut tracker, 6);
    assert_eq!(tracker.confirmed_before(&0, 1), 0, "a commit that says nothing new is no mistake");
    unchanged(&mut tracker, 6);
    tracker.revoked(&0);
    assert!(!tracker.confirmed(&0, 1));
    assert_eq!(unknown_confirmations(&tracker), 7);
}

#[test]
fn a_delivery_of_a_partition_that_is_not_assigned_is_counted_and_changes_nothing() {
    let mut tracker = received(&[100]);
    assert!(!tracker.received(&7, 1, at(50)));
    assert_eq!((tracker.stats().unassigned_deliveries, tracker.stats().outstanding), (1, 1));
    assert_eq!(tracker.min_msg_time(), known(100));
}

#[test]
fn a_partition_that_is_never_confirmed_holds_the_minimum_and_is_reported() {
    let mut tracker = DeliveryTracker::new();
    for queue in ["orders", "refunds"] {
        tracker.assigned(String::from(queue));
    }
    for position in 1..1_000 {
        tracker.received("orders", position, at(10 * position));
        tracker.received("refunds", position, at(7 * position));
        tracker.confirmed("orders", position);
    }
    let oldest = tracker.oldest().unwrap();
    assert_eq!((oldest.partition.as_str(), oldest.msg_time, oldest.position), ("refunds", Some(at(7)), Some(1)));
    assert_eq!(tracker.stats().outstanding, 999);
    assert_eq!(tracker.partition_min_msg_time("orders"), known(9_990));
    assert_eq!(tracker.partition_min_msg_time("none"), UNKNOWN);
}

#[test]
fn a_delivery_without_a_time_holds_the_minimum_where_it_was_until_it_is_confirmed() {
    let mut tracker = received(&[100]);
    tracker.received(&0, 2, None);
    assert_eq!(tracker.min_msg_time(), UNKNOWN);
    tracker.confirmed(&0, 2);
    assert_eq!(tracker.min_msg_time(), known(100));
}

#[test]
fn one_delivery_that_is_never_confirmed_keeps_nothing_else() {
    let mut tracker = received(&[100]);
    for position in 2..100_000 {
        let time = if position % 2 == 0 { position } else { position - 2 };
        tracker.received(&0, position, at(100 + time));
        tracker.confirmed(&0, position);
    }
    tracker.partitions[0].deliveries.validate(); // which bounds what is kept by what is outstanding
    assert_eq!(tracker.stats().outstanding, 1);
}

#[test]
fn what_is_tidied_up_moves_neither_the_minimum_nor_the_committable_position() {
    let mut tracker = received(&[900, 800, 700, 600, 500]); // one in order, and strays
    for position in 6..100 {
        tracker.received(&0, position, at(900 + position));
    }
    assert!((1..60).all(|position| tracker.processed(&0, position)));
    tracker.confirmed(&0, 1);
    assert_eq!((tracker.committable(&0), tracker.min_msg_time()), (Some(60), known(500)));
    for position in (6..59).chain(62..100) {
        tracker.confirmed(&0, position); // most of all, so the ring is made shorter
        assert_eq!((tracker.committable(&0), tracker.min_msg_time()), (Some(60), known(500)));
        tracker.partitions[0].deliveries.validate();
    }
    assert_eq!(tracker.confirmed_before(&0, 6), 4);
    assert_eq!((tracker.committable(&0), tracker.min_msg_time()), (Some(60), known(959)));
}

#[test]
fn in_steady_state_nothing_is_allocated() {
    let mut tracker = DeliveryTracker::new();
    tracker.assigned(0);
    let mut warm = None;
    for position in 0..100_000 {
        let time = 10_000 + position - 3_000 * (position % 2); // two producers with clocks apart
        tracker.received(&0, position, at(time));
        if let Some(done) = position.checked_sub(1_000) {
            assert!(tracker.confirmed(&0, done ^ 3)); // in another order
        }
        if position % 100 == 0 {
            assert_ne!(tracker.min_msg_time(), UNKNOWN);
        }
        if position == 20_000 {
            warm = Some(tracker.partitions[0].deliveries.capacities());
        }
    }
    assert_eq!(warm, Some(tracker.partitions[0].deliveries.capacities()));
}

#[test]
fn the_last_moment_and_the_last_position_are_ordinary() {
    let mut tracker = DeliveryTracker::new();
    tracker.assigned(0);
    tracker.received(&0, u64::MAX, at(u64::MAX));
    assert_eq!(tracker.min_msg_time(), known(u64::MAX - 1));
    assert_eq!(tracker.committable(&0), Some(u64::MAX), "there is no position after it to commit");
    assert!(tracker.confirmed(&0, u64::MAX));
    assert_eq!(tracker.min_msg_time(), known(u64::MAX - 1));
}

/// The definition.
#[derive(Default)]
struct Model {
    partitions: BTreeMap<u32, ModelPartition>,
    stats: DeliveryStats,
}

#[derive(Default)]
struct ModelPartition {
    outstanding: BTreeMap<u64, ModelDelivery>,
    last_time: u64,
    ended_at: u64,
    next: Option<u64>,
}

#[derive(Clone, Copy)]
struct ModelDelivery {
    time: u64,
    is_processed: bool,
    is_requeued: bool,
}

impl ModelPartition {
    fn low(&self) -> u64 {
        let times = self.outstanding.values().map(|delivery| delivery.time);
        times.chain([self.last_time.max(self.ended_at)]).min().unwrap()
    }

    fn committable(&self) -> Option<u64> {
        let unprocessed = self.outstanding.iter().filter(|(_, delivery)| !delivery.is_processed);
        self.next.map(|next| unprocessed.map(|(position, _)| *position).chain([next]).min().unwrap())
    }
}

impl Model {
    fn received(&mut self, id: u32, position: u64, time: u64) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else {
            self.stats.unassigned_deliveries += 1;
            return false;
        };
        partition.last_time = if time == 0 { partition.last_time } else { time };
        if let Some(known) = partition.outstanding.get_mut(&position) {
            self.stats.redeliveries += 1;
            known.is_requeued = false;
            known.time = if time == 0 { known.time } else { known.time.min(time) };
            partition.next = partition.next.max(Some(position + 1));
        } else {
            let new = ModelDelivery { time, is_processed: false, is_requeued: false };
            partition.outstanding.insert(position, new);
            partition.next = Some(position + 1);
        }
        true
    }

    /// Calls `change` with an outstanding delivery; counts it if there is none.
    fn known(&mut self, id: u32, position: u64, change: impl FnOnce(&mut ModelDelivery)) -> bool {
        let known = self.partitions.get_mut(&id).and_then(|partition| partition.outstanding.get_mut(&position));
        let is_known = known.map(change).is_some();
        self.stats.unknown_confirmations += u64::from(!is_known);
        is_known
    }

    fn confirmed(&mut self, id: u32, position: u64) -> bool {
        let is_known = self.known(id, position, |_| {});
        self.partitions.get_mut(&id).map(|partition| partition.outstanding.remove(&position));
        is_known
    }

    fn confirmed_before(&mut self, id: u32, position: u64) -> usize {
        let Some(partition) = self.partitions.get_mut(&id) else {
            self.stats.unknown_confirmations += 1;
            return 0;
        };
        let kept = partition.outstanding.split_off(&position);
        std::mem::replace(&mut partition.outstanding, kept).len()
    }

    fn received_again(&mut self, id: u32, before: u64, position: u64, time: u64) -> bool {
        let known = self.partitions.get(&id).and_then(|partition| partition.outstanding.get(&before)).copied();
        let requeued = known.filter(|known| known.is_requeued && position != before);
        let times = [time, requeued.map_or(0, |known| known.time)];
        let earlier = times.into_iter().filter(|time| *time != 0).min().unwrap_or(0);
        let is_assigned = self.received(id, position, earlier);
        if is_assigned && position != before {
            match requeued {
                Some(_) => drop(self.confirmed(id, before)),
                None => self.stats.unknown_confirmations += 1,
            }
        }
        is_assigned
    }

    fn stats(&self) -> DeliveryStats {
        let outstanding = self.partitions.values().map(|partition| partition.outstanding.len()).sum();
        DeliveryStats { partitions: self.partitions.len(), outstanding, ..self.stats }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Assigned,
    Revoked,
    Received {
        position: u64,
        time: u64,
    },
    /// The next position, its time about as much later.
    Follows {
        ahead: u64,
        time: u64,
    },
    Processed {
        position: u64,
    },
    Confirmed {
        position: u64,
    },
    ConfirmedBefore {
        position: u64,
    },
    Requeued {
        position: u64,
    },
    ReceivedAgain {
        before: u64,
        position: u64,
        time: u64,
    },
    ReachedEnd {
        asked_at: u64,
    },
}

impl Step {
    fn starting_at(mut self, next: u64) -> Self {
        use Step::*;
        match &mut self {
            Received { position, .. } | Processed { position } | Confirmed { position } => {
                *position = next.saturating_sub(*position);
            }
            ConfirmedBefore { position } | Requeued { position } => *position = next.saturating_sub(*position),
            ReceivedAgain { before, position, .. } => {
                (*before, *position) = (next.saturating_sub(*before), next.saturating_sub(*position));
            }
            Assigned | Revoked | Follows { .. } | ReachedEnd { .. } => {}
        }
        self
    }
}

/// Few partitions and times, so that they meet often. Positions are distances from the next one.
fn steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    let (position, time) = (0..40_u64, 0..50_u64);
    let near = || position.clone();
    let step = prop_oneof![
        2 => Just(Step::Assigned),
        1 => Just(Step::Revoked),
        8 => (near(), time.clone()).prop_map(|(position, time)| Step::Received { position, time }),
        20 => (1..3_u64, 0..4_u64).prop_map(|(ahead, time)| Step::Follows { ahead, time }),
        12 => near().prop_map(|position| Step::Processed { position }),
        20 => near().prop_map(|position| Step::Confirmed { position }),
        1 => near().prop_map(|position| Step::ConfirmedBefore { position }),
        4 => near().prop_map(|position| Step::Requeued { position }),
        2 => (near(), near(), time.clone())
            .prop_map(|(before, position, time)| Step::ReceivedAgain { before, position, time }),
        2 => time.prop_map(|asked_at| Step::ReachedEnd { asked_at }),
    ];
    prop::collection::vec((0..2_u32, step), 0..200)
}

fn assert_same(tracker: &mut DeliveryTracker<u32>, model: &Model) {
    let least = model.partitions.values().map(ModelPartition::low).min();
    let asked = tracker.min_msg_time();
    assert_eq!(asked, least.map_or(UNKNOWN, reported));
    assert_eq!(tracker.stats(), model.stats());
    match tracker.oldest() {
        None => assert_eq!(least, None),
        Some(oldest) => {
            let partition = &model.partitions[oldest.partition];
            assert_eq!(Some(partition.low()), least);
            assert_eq!(oldest.msg_time, known_time(partition.low()));
            let delivery = oldest.position.map(|position| partition.outstanding[&position]);
            assert_eq!(delivery.is_some(), !partition.outstanding.is_empty());
            assert_eq!(delivery.is_some_and(|delivery| delivery.is_requeued), oldest.is_requeued);
            assert_eq!(delivery.map(|held| held.time), partition.outstanding.values().map(|held| held.time).min());
        }
    }
    for (id, partition) in &model.partitions {
        assert_eq!(tracker.committable(id), partition.committable());
        assert_eq!(tracker.partition_min_msg_time(id), reported(partition.low()));
    }
    for partition in &tracker.partitions {
        partition.deliveries.validate();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_tracker_agrees_with_its_definition(steps in steps(), asks_every in 1..20_usize) {
        let (mut tracker, mut model) = (DeliveryTracker::new(), Model::default());
        for (number, (id, step)) in steps.into_iter().enumerate() {
            let next = model.partitions.get(&id).and_then(|partition| partition.next).unwrap_or(40);
            match step.starting_at(next) {
                Step::Assigned => {
                    let is_new = !model.partitions.contains_key(&id);
                    model.partitions.entry(id).or_default();
                    assert_eq!(tracker.assigned(id), is_new);
                }
                Step::Revoked => assert_eq!(tracker.revoked(&id), model.partitions.remove(&id).is_some()),
                Step::Received { position, time } => {
                    assert_eq!(tracker.received(&id, position, at(time)), model.received(id, position, time));
                }
                Step::Follows { ahead, time } => {
                    let last = model.partitions.get(&id).map_or((0, 0), |last| (last.next.unwrap_or(0), last.last_time));
                    let (position, time) = (last.0 + ahead - 1, (last.1 + time).saturating_sub(1));
                    assert_eq!(tracker.received(&id, position, at(time)), model.received(id, position, time));
                }
                Step::Processed { position } => {
                    let is_known = model.known(id, position, |delivery| delivery.is_processed = true);
                    assert_eq!(tracker.processed(&id, position), is_known);
                }
                Step::Confirmed { position } => {
                    assert_eq!(tracker.confirmed(&id, position), model.confirmed(id, position));
                }
                Step::ConfirmedBefore { position } => {
                    assert_eq!(tracker.confirmed_before(&id, position), model.confirmed_before(id, position));
                }
                Step::Requeued { position } => {
                    let is_known = model.known(id, position, |delivery| delivery.is_requeued = true);
                    assert_eq!(tracker.requeued(&id, position), is_known);
                }
                Step::ReceivedAgain { before, position, time } => {
                    let is_assigned = tracker.received_again(&id, before, position, at(time));
                    assert_eq!(is_assigned, model.received_again(id, before, position, time));
                }
                Step::ReachedEnd { asked_at } => {
                    let partition = model.partitions.get_mut(&id);
                    let is_assigned = partition.map(|it| it.ended_at = it.ended_at.max(asked_at)).is_some();
                    assert_eq!(tracker.reached_end(&id, at(asked_at)), is_assigned);
                }
            }
            if number % asks_every == 0 {
                assert_same(&mut tracker, &model);
            }
        }
        assert_same(&mut tracker, &model);
    }
}
