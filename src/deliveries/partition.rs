//! The deliveries of one partition that are received and not yet confirmed: found by position, with
//! the least of their times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Slots that nobody needs any more are kept up to this many beyond the number of those in use.
const SLACK: usize = if cfg!(test) { 2 } else { 64 };

/// A delivery that is received and not yet confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) position: u64,
    /// 0 if it is not known.
    pub(super) time: u64,
    /// Its handler is done: a consumer of a log may commit past it.
    pub(super) is_processed: bool,
    /// It was given back to the broker, and has not come again yet.
    pub(super) is_requeued: bool,
    /// Its time is in `strays`.
    is_stray: bool,
}

/// The outstanding deliveries of a partition, and how far it was read.
///
/// Deliveries come nearly in order, of positions and of times, and the structure costs little as
/// long as they do:
///
/// ```text
/// ring        position   4   7   8   9  12  13     ascending, with gaps; the first is outstanding
///             time      10  11   -   9  12  12     (8 was confirmed)
///                                    |
/// strays                             9             times that do not ascend, in a heap
///                        ^ ordered_from: the other times ascend, so the first one is their least
/// late        position   5 -> time 10              below the last of the ring, and not in it
/// ```
///
/// * A slot of the ring that was confirmed never comes back to life: the position is then in
///   `late`. So the two cursors only move forward, and finding the first slot of a kind costs O(1)
///   amortised.
/// * The heap may hold times of deliveries that are confirmed by now; they are skipped when they
///   come up. Ring and heap are tidied up when less than half of them is in use, in place.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    ring: VecDeque<Slot>,
    outstanding_in_ring: usize,
    /// All slots of the ring before this one are confirmed or strays.
    ordered_from: usize,
    /// All slots of the ring before this one are confirmed or processed.
    unprocessed_from: usize,
    /// The greatest time of the ring's slots that are no strays.
    ordered_max: u64,
    strays: BinaryHeap<Reverse<(u64, u64)>>,
    outstanding_strays: usize,
    late: BTreeMap<u64, Delivery>,
    late_unprocessed: BTreeSet<u64>,
    /// The time of the last delivery whose time is known; 0 before the first.
    last_time: u64,
    /// The latest time at which the broker was asked and reported the end; 0 if never.
    ended_at: u64,
    /// The position after that of the last delivery, redeliveries of outstanding ones aside.
    next: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    delivery: Delivery,
    is_outstanding: bool,
}

impl Deliveries {
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding_in_ring + self.late.len()
    }

    /// Nothing with a lower time is to come, but for what lies out of order in the queue; 0 if that
    /// is not known.
    pub(super) fn low(&mut self) -> u64 {
        let read_up_to = self.last_time.max(self.ended_at);
        self.oldest().map_or(read_up_to, |oldest| read_up_to.min(oldest.time))
    }

    /// The outstanding delivery of the least time.
    pub(super) fn oldest(&mut self) -> Option<Delivery> {
        let is_ordered = |slot: &Slot| slot.is_outstanding && !slot.delivery.is_stray;
        while self.ring.get(self.ordered_from).is_some_and(|slot| !is_ordered(slot)) {
            self.ordered_from += 1;
        }
        while self.strays.peek().is_some_and(|&Reverse(stray)| !self.is_valid(stray)) {
            self.strays.pop();
        }
        let ordered = self.ring.get(self.ordered_from).map(|slot| slot.delivery);
        let stray = self.strays.peek().and_then(|&Reverse((_, position))| self.get(position));
        [ordered, stray].into_iter().flatten().min_by_key(|delivery| delivery.time)
    }

    /// The lowest position that is not processed, among those that came and those to come.
    pub(super) fn committable(&mut self) -> Option<u64> {
        let is_unprocessed = |slot: &Slot| slot.is_outstanding && !slot.delivery.is_processed;
        while self.ring.get(self.unprocessed_from).is_some_and(|slot| !is_unprocessed(slot)) {
            self.unprocessed_from += 1;
        }
        let in_ring = self.ring.get(self.unprocessed_from).map(|slot| slot.delivery.position);
        let lowest = [in_ring, self.late_unprocessed.first().copied()].into_iter().flatten().min();
        self.next.map(|next| lowest.map_or(next, |lowest| lowest.min(next)))
    }

    /// Whether the delivery is new to the set; if not, it was redelivered.
    pub(super) fn received(&mut self, position: u64, time: u64) -> bool {
        let next = position.saturating_add(1);
        if time != 0 {
            self.last_time = time;
        }
        let follows = self.ring.back().is_none_or(|last| last.delivery.position < position);
        if follows && (self.late.is_empty() || !self.late.contains_key(&position)) {
            self.push(position, time);
            self.next = Some(next);
            return true;
        }
        let was_next = self.next.unwrap_or(0);
        let Some(known) = self.get_mut(position) else {
            let late = Delivery { position, time, is_processed: false, is_requeued: false, is_stray: true };
            self.late.insert(position, late);
            self.late_unprocessed.insert(position);
            self.push_stray(time, position);
            self.next = Some(next); // back, if it was further: what follows is to come again
            return true;
        };
        known.is_requeued = false;
        if time != 0 && time < known.time {
            let was_stray = std::mem::replace(&mut known.is_stray, true);
            known.time = time;
            self.outstanding_strays -= usize::from(was_stray);
            self.push_stray(time, position);
        }
        self.next = Some(next.max(was_next));
        false
    }

    #[inline]
    fn push(&mut self, position: u64, time: u64) {
        // If no ordered slot is left, the order begins anew: one time far ahead must not make
        // strays of all that follow.
        let is_stray = time < self.ordered_max && self.ordered_from < self.ring.len();
        let delivery = Delivery { position, time, is_processed: false, is_requeued: false, is_stray };
        self.ring.push_back(Slot { delivery, is_outstanding: true });
        self.outstanding_in_ring += 1;
        if is_stray {
            self.push_stray(time, position);
        } else {
            self.ordered_max = time;
        }
    }

    fn push_stray(&mut self, time: u64, position: u64) {
        self.outstanding_strays += 1;
        self.strays.push(Reverse((time, position)));
        self.tidy_strays();
    }

    /// The end was reported to a question asked at `asked_at`.
    pub(super) fn reached_end(&mut self, asked_at: u64) {
        self.ended_at = self.ended_at.max(asked_at);
    }

    pub(super) fn processed(&mut self, position: u64) -> bool {
        let Some(delivery) = self.get_mut(position) else { return false };
        delivery.is_processed = true;
        self.late_unprocessed.remove(&position);
        true
    }

    pub(super) fn requeued(&mut self, position: u64) -> bool {
        self.get_mut(position).map(|delivery| delivery.is_requeued = true).is_some()
    }

    pub(super) fn confirmed(&mut self, position: u64) -> bool {
        if !self.late.is_empty() && self.late.remove(&position).is_some() {
            self.late_unprocessed.remove(&position);
            self.remove_stray();
            return true;
        }
        let Some(at) = self.find(position).filter(|&at| self.ring[at].is_outstanding) else { return false };
        self.ring[at].is_outstanding = false;
        self.outstanding_in_ring -= 1;
        if self.ring[at].delivery.is_stray {
            self.remove_stray();
        }
        self.tidy_ring();
        true
    }

    /// How many were confirmed.
    pub(super) fn confirmed_before(&mut self, position: u64) -> usize {
        let before = self.outstanding();
        while self.ring.front().is_some_and(|first| first.delivery.position < position) {
            let first = self.pop_first();
            self.outstanding_in_ring -= usize::from(first.is_some_and(|slot| slot.is_outstanding));
            if first.is_some_and(|slot| slot.is_outstanding && slot.delivery.is_stray) {
                self.remove_stray();
            }
        }
        while self.late.first_key_value().is_some_and(|(first, _)| *first < position) {
            self.late.pop_first();
            self.remove_stray();
        }
        while self.late_unprocessed.first().is_some_and(|first| *first < position) {
            self.late_unprocessed.pop_first();
        }
        self.tidy_ring();
        before - self.outstanding()
    }

    /// The outstanding delivery at a position.
    pub(super) fn get(&self, position: u64) -> Option<Delivery> {
        match self.late.get(&position) {
            Some(late) => Some(*late),
            None => Some(self.ring[self.find(position)?]).filter(|slot| slot.is_outstanding).map(|slot| slot.delivery),
        }
    }

    fn get_mut(&mut self, position: u64) -> Option<&mut Delivery> {
        let at = self.find(position);
        if !self.late.is_empty()
            && let Some(late) = self.late.get_mut(&position)
        {
            return Some(late);
        }
        let slot = &mut self.ring[at?];
        slot.is_outstanding.then_some(&mut slot.delivery)
    }

    /// Where in the ring the slot of a position is, confirmed or not.
    ///
    /// Positions ascend by one or more, so a slot is at most as many places from either end as its
    /// position is. Without gaps that leaves one place, and else a binary search over as many as
    /// there are gaps.
    #[inline]
    fn find(&self, position: u64) -> Option<usize> {
        let from_first = position.checked_sub(self.ring.front()?.delivery.position)?;
        let from_last = self.ring.back()?.delivery.position.checked_sub(position)?;
        let last = self.ring.len() - 1;
        let places = |distance: u64| usize::try_from(distance).unwrap_or(usize::MAX).min(last);
        let (mut low, mut high) = (last - places(from_last), places(from_first));
        while low < high {
            let middle = low.midpoint(high);
            if self.ring[middle].delivery.position < position { low = middle + 1 } else { high = middle }
        }
        (self.ring[low].delivery.position == position).then_some(low)
    }

    fn pop_first(&mut self) -> Option<Slot> {
        self.ordered_from = self.ordered_from.saturating_sub(1);
        self.unprocessed_from = self.unprocessed_from.saturating_sub(1);
        self.ring.pop_front()
    }

    #[inline]
    fn tidy_ring(&mut self) {
        while self.ring.front().is_some_and(|first| !first.is_outstanding) {
            self.pop_first();
        }
        if self.ring.is_empty() {
            self.ordered_max = 0;
        }
        if self.ring.len() > 2 * self.outstanding_in_ring + SLACK {
            self.ring.retain(|slot| slot.is_outstanding);
            (self.ordered_from, self.unprocessed_from) = (0, 0);
        }
    }

    fn remove_stray(&mut self) {
        self.outstanding_strays -= 1;
        self.tidy_strays();
    }

    fn tidy_strays(&mut self) {
        if self.strays.len() > 2 * self.outstanding_strays + SLACK {
            let mut strays = std::mem::take(&mut self.strays).into_vec();
            strays.retain(|&Reverse(stray)| self.is_valid(stray));
            // A position that was confirmed and came again may be there twice.
            strays.sort_unstable();
            strays.dedup();
            self.strays = strays.into();
        }
    }

    fn is_valid(&self, (time, position): (u64, u64)) -> bool {
        self.get(position).is_some_and(|delivery| delivery.is_stray && delivery.time == time)
    }
}

#[cfg(test)]
impl Deliveries {
    pub(super) fn capacities(&self) -> [usize; 3] {
        [self.ring.capacity(), self.strays.capacity(), self.late.len()]
    }

    /// Counts everything again.
    pub(super) fn validate(&self) {
        let is_ascending = |(a, b): (&Slot, &Slot)| a.delivery.position < b.delivery.position;
        assert!(self.ring.iter().zip(self.ring.iter().skip(1)).all(is_ascending));
        assert!(self.ring.front().is_none_or(|first| first.is_outstanding));
        let outstanding: Vec<_> =
            self.ring.iter().filter(|slot| slot.is_outstanding).map(|slot| slot.delivery).collect();
        assert_eq!(outstanding.len(), self.outstanding_in_ring);
        assert!(self.ring.len() <= 2 * outstanding.len() + SLACK);
        let ordered: Vec<_> = outstanding.iter().filter(|delivery| !delivery.is_stray).map(|slot| slot.time).collect();
        assert!(ordered.is_sorted());
        assert!(ordered.last().is_none_or(|last| *last <= self.ordered_max));
        assert!(!outstanding.iter().any(|delivery| self.late.contains_key(&delivery.position)));
        let unprocessed = self.late.values().filter(|late| !late.is_processed).map(|late| late.position);
        assert!(unprocessed.eq(self.late_unprocessed.iter().copied()));
        let strays = || outstanding.iter().chain(self.late.values()).filter(|delivery| delivery.is_stray);
        assert_eq!(strays().count(), self.outstanding_strays);
        assert!(self.strays.len() <= 2 * self.outstanding_strays + SLACK);
        assert!(strays().all(|stray| self.strays.iter().any(|held| held.0 == (stray.time, stray.position))));
        let before = |end: usize| self.ring.iter().take(end).filter(|slot| slot.is_outstanding);
        assert!(before(self.ordered_from).all(|slot| slot.delivery.is_stray));
        assert!(before(self.unprocessed_from).all(|slot| slot.delivery.is_processed));
    }
}
