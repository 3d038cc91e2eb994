//! The oldest unacknowledged delivery: `min_msg_time` from the consumer's own view.

mod lows;
mod partition;
#[cfg(test)]
mod tests;

use crate::{MinMsgTime, Timestamp};
use lows::{Lows, VACANT};
use partition::{Deliveries, Delivery};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// The time of the oldest delivery that is not yet acknowledged, for queues whose broker does not
/// report it.
///
/// A consumer reports what happens: partitions assigned and revoked, deliveries received, confirmed
/// and requeued, the end of the queue. For each partition
///
/// ```text
/// low = min( msg_time of every delivery received and not confirmed,
///            msg_time of the last one received, or a later time at which it reported the end )
/// ```
///
/// and [`min_msg_time`](Self::min_msg_time), the least of all partitions, goes to `observe`.
///
/// ```
/// use oncewheel::{Claimed, Clock, Config, DeliveryTracker, Horizon, MinMsgTime, Timestamp};
/// use oncewheel::unsync::DedupCache;
/// use std::time::Duration;
///
/// # let polled = [(7_u64, "transfer-1", 5_000), (8, "transfer-2", 6_000), (9, "transfer-1", 7_000)];
/// # let poll = || polled.map(|(offset, key, ms)| (offset, key, Timestamp::from_millis(ms)));
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// let mut tracker = DeliveryTracker::new();
///
/// tracker.assigned(0); // the rebalance callback: partition 0
/// for (offset, key, stored_at) in poll() {
///     tracker.received(&0, offset, stored_at);
///     match cache.claim(key, stored_at)? {
///         Claimed::Fresh(claim) => cache.commit(claim)?, // the effect, and then this
///         Claimed::Duplicate => {}
///         Claimed::InFlight | Claimed::TooOld => { /* once more later; dead-letter */ continue }
///     }
///     tracker.processed(&0, offset);
/// }
///
/// // Now and then: commit the offset. The broker confirms it in the commit callback.
/// let offset = tracker.committable(&0);
/// assert_eq!(offset, Some(10));
/// // Nothing is confirmed yet, so the oldest delivery is the first one.
/// assert_eq!(tracker.min_msg_time(), MinMsgTime::Known(Timestamp::from_millis(5_000)));
///
/// tracker.confirmed_before(&0, 10); // the commit callback
/// cache.observe(tracker.min_msg_time())?; // about once a second
/// assert_eq!(cache.watermark(), Some(Timestamp::from_millis(7_000)));
/// # Ok::<(), oncewheel::Error>(())
/// ```
///
/// # Where it is sufficient, and where not
///
/// **One reader at a time** must have a partition, and what was delivered before an assignment and
/// not confirmed must come again **before** anything newer. So it is with Kafka, RocketMQ's pull
/// consumer, RabbitMQ's streams and NATS ordered consumers.
///
/// * **Competing consumers** (several readers of one queue): not sufficient. One of them receives
///   messages and dies, the others have gone on, and what comes back is below their watermark: it
///   is answered `TooOld`, though it was never processed. Pass the broker's own number to
///   `observe`, or leave `observe` out and set [`max_retention`](crate::Horizon::max_retention).
/// * **RabbitMQ**: a queue with `x-single-active-consumer`, whose consumer hands over by closing
///   its channel. One that only cancels keeps what it has not acknowledged, while the next one goes
///   on.
/// * **A durable NATS consumer** delivers again after `ack_wait`, behind newer messages: after a
///   restart take the broker's `ack_floor` instead.
/// * **Partitions that share a cache** share a watermark. A partition that was revoked holds it no
///   more, and if it comes back with older messages, they are `TooOld`. Where partitions move
///   between consumers, use a cache for each partition, and
///   [`partition_min_msg_time`](Self::partition_min_msg_time).
///
/// Message times out of order *within* the queue are for
/// [`max_out_of_orderness`](crate::Horizon::max_out_of_orderness) to cover: the time of the last
/// delivery received says nothing about how far below it the next one lies.
///
/// # What to report
///
/// | | partition | position | confirmed |
/// |---|---|---|---|
/// | Kafka | its number, with the topic if there are several | offset | [`confirmed_before`](Self::confirmed_before) in the commit callback |
/// | RabbitMQ | the channel, with a number of its own each time it is opened, since tags start again | delivery tag | [`confirmed`](Self::confirmed) once a later call on the channel was answered, since `ack` is not |
/// | NATS | the consumer | stream sequence | [`confirmed`](Self::confirmed) after a double acknowledgement |
///
/// * *Received* counts from the client's buffer on, not from the claim.
/// * *Confirmed* means that the broker has the acknowledgement, not that the handler is done. With
///   commits every 5 s, a consumer that catches up can have hours of message time between the two.
/// * A worker that outlives a revocation must not report to the next assignment of its partition,
///   where the same position means another delivery. Drop its result, or make the number of the
///   assignment a part of the key. Then it is counted as unknown.
/// * There is no timer. A partition that is paused, because the cache is `Full` for example, keeps
///   its low. An idle one goes on only if the broker was asked and reported the end
///   ([`reached_end`](Self::reached_end)).
///
/// # Cost
///
/// A delivery received and confirmed nearly in order takes some tens of nanoseconds and allocates
/// nothing, however many are outstanding. Far out of order it takes O(log n), amortised. The
/// structure holds at most about twice as many deliveries as are outstanding, 32 bytes each. A
/// lookup of a partition other than the last one hashes it, so small keys are faster.
///
/// It is plain data: it reads no clock, takes no lock and does no I/O. Threads share one behind a
/// mutex, or have one each, for partitions of their own.
#[derive(Debug)]
pub struct DeliveryTracker<P> {
    index: HashMap<P, usize>,
    partitions: Vec<Partition<P>>,
    vacant: Vec<usize>,
    /// The partition of the last call: deliveries come in batches of one partition.
    recent: usize,
    /// Partitions whose `lows` are out of date.
    changed: Vec<usize>,
    lows: Lows,
    stats: DeliveryStats,
}

#[derive(Debug)]
struct Partition<P> {
    /// `None` after it was revoked.
    id: Option<P>,
    is_changed: bool,
    deliveries: Deliveries,
}

/// Counters of a [`DeliveryTracker`], from [`stats`](DeliveryTracker::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryStats {
    /// Partitions assigned at present.
    pub partitions: usize,
    /// Deliveries received and not confirmed at present. Where it only grows, confirmations are
    /// lost.
    pub outstanding: usize,
    /// Deliveries that came again while they were outstanding.
    pub redeliveries: u64,
    /// Deliveries of partitions that were not assigned. They changed nothing.
    pub unassigned_deliveries: u64,
    /// Positions that were confirmed, processed or requeued and were not outstanding: never
    /// received, confirmed before, or of a partition that is not assigned. They changed nothing.
    pub unknown_confirmations: u64,
}

/// What holds the minimum, from [`oldest`](DeliveryTracker::oldest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldestDelivery<'a, P> {
    /// The partition whose low is the least.
    pub partition: &'a P,
    /// Its low, or `None` if it is unknown: nothing has come from the partition yet, or the time of
    /// the delivery is not known. How old it is:
    /// `now.`[`saturating_duration_since`](Timestamp::saturating_duration_since)`(msg_time)`.
    pub msg_time: Option<Timestamp>,
    /// The position of the oldest delivery, or `None` if none is outstanding.
    pub position: Option<u64>,
    /// Whether that delivery was requeued and has not come again.
    pub is_requeued: bool,
}

impl<P> Default for DeliveryTracker<P> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            partitions: Vec::new(),
            vacant: Vec::new(),
            recent: 0,
            changed: Vec::new(),
            lows: Lows::new(),
            stats: DeliveryStats::default(),
        }
    }
}

impl<P: Eq + Hash + Clone> DeliveryTracker<P> {
    /// A tracker of no partitions, which reports [`MinMsgTime::Unknown`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A partition is to be read from now on; `false`, and nothing changes, if it was already.
    ///
    /// Until something comes from it, or its end is reported, it is unknown, and so is the minimum.
    pub fn assigned(&mut self, partition: P) -> bool {
        if self.index.contains_key(&partition) {
            return false;
        }
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.partitions.push(Partition { id: None, is_changed: false, deliveries: Deliveries::default() });
            self.partitions.len() - 1
        });
        self.partitions[at].id = Some(partition.clone());
        self.index.insert(partition, at);
        self.lows.set(at, 0);
        self.stats.partitions += 1;
        true
    }

    /// A partition is read no more, and leaves the minimum with all of its deliveries; `false` if
    /// it was not assigned.
    ///
    /// Call it where a channel or a session is lost, too: what was not confirmed comes again after
    /// the next assignment. Confirmations that arrive later are counted and change nothing.
    pub fn revoked<Q>(&mut self, partition: &Q) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(at) = self.index.remove(partition) else { return false };
        let revoked = &mut self.partitions[at];
        revoked.id = None;
        self.stats.outstanding -= std::mem::take(&mut revoked.deliveries).outstanding();
        self.vacant.push(at);
        self.lows.set(at, VACANT);
        self.stats.partitions -= 1;
        true
    }

    /// A delivery has come, be it into the client's buffer; `false`, and nothing changes, if its
    /// partition is not assigned.
    ///
    /// The same position again is a redelivery, and counts as one delivery. If the broker gives a
    /// redelivery a position of its own, as RabbitMQ does, see [`requeued`](Self::requeued).
    ///
    /// A delivery without a time (`None` or 0) makes its partition unknown until it is confirmed. A
    /// time far ahead, of a producer with a wrong clock, is taken as it is: where producers give
    /// the times, pass the earlier of `msg_time` and now.
    #[inline]
    pub fn received<Q>(&mut self, partition: &Q, position: u64, msg_time: impl Into<Option<Timestamp>>) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let time = msg_time.into().map_or(0, millis);
        let Some(deliveries) = self.changed(partition) else {
            self.stats.unassigned_deliveries += 1;
            return false;
        };
        match deliveries.received(position, time) {
            true => self.stats.outstanding += 1,
            false => self.stats.redeliveries += 1,
        }
        true
    }

    /// A delivery's handler is done, and its key is committed: a log may be committed past it. It
    /// stays outstanding until it is confirmed; `false` if it was not outstanding.
    ///
    /// For [`committable`](Self::committable) only. Where deliveries are acknowledged one by one,
    /// it is not needed.
    #[inline]
    pub fn processed<Q>(&mut self, partition: &Q, position: u64) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let is_known = self.find(partition).is_some_and(|at| self.partitions[at].deliveries.processed(position));
        self.counted(is_known)
    }

    /// The broker has the acknowledgement of one delivery; `false` if it was not outstanding.
    #[inline]
    pub fn confirmed<Q>(&mut self, partition: &Q, position: u64) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let is_known = self.changed(partition).is_some_and(|deliveries| deliveries.confirmed(position));
        self.stats.outstanding -= usize::from(is_known);
        self.counted(is_known)
    }

    /// The broker has acknowledgements, or a commit, of all deliveries before a position; returns
    /// how many of them were outstanding.
    ///
    /// It takes the offset as Kafka commits it: the next one to be read. For RabbitMQ's `multiple`,
    /// which includes the tag, add one.
    pub fn confirmed_before<Q>(&mut self, partition: &Q, position: u64) -> usize
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(deliveries) = self.changed(partition) else {
            self.stats.unknown_confirmations += 1;
            return 0;
        };
        let confirmed = deliveries.confirmed_before(position);
        self.stats.outstanding -= confirmed;
        confirmed
    }

    /// A delivery was given back to the broker (`nack`, requeue); `false` if it was not
    /// outstanding.
    ///
    /// It stays outstanding until it has come again and is confirmed, or the partition is revoked.
    /// Where it comes again at the same position (NATS), nothing else is to be done. Where it comes
    /// at a new one (RabbitMQ's delivery tag), keep its tag by its dedup key, and pass both to
    /// [`received_again`](Self::received_again). A redelivery that is passed to `received` with a
    /// new position leaves the old one outstanding, which is safe, holds the minimum, and shows in
    /// [`oldest`](Self::oldest). The tracker does not guess by the time: two messages may have the
    /// same one.
    pub fn requeued<Q>(&mut self, partition: &Q, position: u64) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let is_known = self.find(partition).is_some_and(|at| self.partitions[at].deliveries.requeued(position));
        self.counted(is_known)
    }

    /// A delivery that was requeued at the position `before` has come again at another one, and is
    /// outstanding there, with the earlier time of the two; `false`, and nothing changes, if the
    /// partition is not assigned.
    ///
    /// If `before` is not outstanding or was not requeued, that is counted as an unknown
    /// confirmation, and the delivery is received as any other.
    ///
    /// ```
    /// use oncewheel::{DeliveryTracker, MinMsgTime, Timestamp};
    ///
    /// let at = Timestamp::from_millis;
    /// let mut tracker = DeliveryTracker::new();
    /// tracker.assigned("channel 1");
    /// tracker.received("channel 1", 1, at(100));
    /// tracker.received("channel 1", 2, at(200));
    /// tracker.requeued("channel 1", 1);
    /// tracker.received_again("channel 1", 1, 3, at(100));
    ///
    /// tracker.confirmed("channel 1", 2);
    /// assert_eq!(tracker.min_msg_time(), MinMsgTime::Known(at(100)));
    /// tracker.confirmed("channel 1", 3);
    /// tracker.received("channel 1", 4, at(300));
    /// assert_eq!(tracker.min_msg_time(), MinMsgTime::Known(at(300)));
    /// ```
    pub fn received_again<Q>(
        &mut self,
        partition: &Q,
        before: u64,
        position: u64,
        msg_time: impl Into<Option<Timestamp>>,
    ) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let msg_time = known_time(msg_time.into().map_or(0, millis));
        let known = self.find(partition).and_then(|at| self.partitions[at].deliveries.get(before));
        let requeued = known.filter(|delivery| delivery.is_requeued && position != before);
        let time_before = requeued.and_then(|delivery| known_time(delivery.time));
        let earlier = [msg_time, time_before].into_iter().flatten().min();
        let is_assigned = self.received(partition, position, earlier);
        if is_assigned && position != before {
            match requeued {
                Some(_) => self.confirmed(partition, before),
                None => self.counted(false),
            };
        }
        is_assigned
    }

    /// The broker was asked at `asked_at` and reported that nothing is left beyond what was
    /// received; `false`, and nothing changes, if the partition is not assigned.
    ///
    /// Without outstanding deliveries the partition's low is then at least `asked_at`. Deliveries
    /// that are outstanding go on holding it.
    ///
    /// `asked_at` is *before* the question was sent, by the clock that stamps the messages, as for
    /// [`MinMsgTime::Empty`]. Everything before that end must have been passed to
    /// [`received`](Self::received). Not to be called for a paused partition, which reports
    /// nothing.
    pub fn reached_end<Q>(&mut self, partition: &Q, asked_at: Timestamp) -> bool
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.changed(partition).map(|deliveries| deliveries.reached_end(millis(asked_at))).is_some()
    }

    /// The minimum over all partitions, for `observe`: about once a second is enough.
    ///
    /// [`MinMsgTime::Unknown`], which changes nothing, if no partition is assigned or one of them
    /// is unknown. It may be lower than before, if offsets went back or a partition was assigned.
    /// `observe` does not go back with it, and counts that in
    /// [`Stats::watermark_regressions`](crate::Stats::watermark_regressions).
    ///
    /// Takes O(log n) for each partition that has changed since the last call.
    #[must_use]
    pub fn min_msg_time(&mut self) -> MinMsgTime {
        self.refresh();
        reported(self.lows.min())
    }

    /// The minimum of one partition, for a cache of its own.
    #[must_use]
    pub fn partition_min_msg_time<Q>(&mut self, partition: &Q) -> MinMsgTime
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.find(partition).map_or(MinMsgTime::Unknown, |at| reported(self.partitions[at].deliveries.low()))
    }

    /// The lowest position that may be committed, as Kafka counts: the next one to be read. All
    /// that came from the partition before it is processed or confirmed.
    ///
    /// It is the position after the last new one received, if all is processed. Gaps in the
    /// positions (compaction, transactions) do no harm. `None` if nothing has come since the
    /// assignment.
    #[must_use]
    pub fn committable<Q>(&mut self, partition: &Q) -> Option<u64>
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.find(partition).and_then(|at| self.partitions[at].deliveries.committable())
    }

    /// Which partition holds the minimum, and since when; `None` if none is assigned.
    ///
    /// A partition that is never confirmed, and one from which nothing comes, are found here.
    ///
    /// ```
    /// use oncewheel::{DeliveryTracker, Timestamp};
    ///
    /// let mut tracker = DeliveryTracker::new();
    /// for partition in [0, 1] {
    ///     tracker.assigned(partition);
    ///     tracker.received(&partition, 17, Timestamp::from_millis(5_000));
    ///     tracker.received(&partition, 18, Timestamp::from_millis(65_000));
    /// }
    /// tracker.confirmed_before(&0, 19);
    ///
    /// let oldest = tracker.oldest().unwrap();
    /// assert_eq!((oldest.partition, oldest.position), (&1, Some(17)));
    /// let age = Timestamp::from_millis(70_000).saturating_duration_since(oldest.msg_time.unwrap());
    /// assert_eq!(age.as_secs(), 65);
    /// ```
    #[must_use]
    pub fn oldest(&mut self) -> Option<OldestDelivery<'_, P>> {
        self.refresh();
        let low = self.lows.min();
        if low == VACANT {
            return None;
        }
        let at = self.lows.min_at();
        let Partition { id, deliveries, .. } = &mut self.partitions[at];
        let oldest: Option<Delivery> = deliveries.oldest();
        Some(OldestDelivery {
            partition: id.as_ref()?,
            msg_time: known_time(low),
            position: oldest.map(|delivery| delivery.position),
            is_requeued: oldest.is_some_and(|delivery| delivery.is_requeued),
        })
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> DeliveryStats {
        self.stats
    }

    #[inline]
    fn find<Q>(&mut self, partition: &Q) -> Option<usize>
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let recent = self.partitions.get(self.recent).and_then(|recent| recent.id.as_ref());
        if recent.is_none_or(|id| id.borrow() != partition) {
            self.recent = *self.index.get(partition)?;
        }
        Some(self.recent)
    }

    /// The deliveries of a partition, to be changed.
    #[inline]
    fn changed<Q>(&mut self, partition: &Q) -> Option<&mut Deliveries>
    where
        P: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let at = self.find(partition)?;
        let found = &mut self.partitions[at];
        if !found.is_changed {
            found.is_changed = true;
            self.changed.push(at);
        }
        Some(&mut found.deliveries)
    }

    #[inline]
    fn counted(&mut self, is_known: bool) -> bool {
        self.stats.unknown_confirmations += u64::from(!is_known);
        is_known
    }

    fn refresh(&mut self) {
        while let Some(at) = self.changed.pop() {
            let partition = &mut self.partitions[at];
            partition.is_changed = false;
            if partition.id.is_some() {
                self.lows.set(at, partition.deliveries.low());
            }
        }
    }
}

/// The last moment is taken for the one before it, so that it can stand for a vacant partition.
fn millis(time: Timestamp) -> u64 {
    time.as_millis().min(VACANT - 1)
}

fn known_time(millis: u64) -> Option<Timestamp> {
    (millis != 0).then_some(Timestamp::from_millis(millis))
}

fn reported(low: u64) -> MinMsgTime {
    match low {
        0 | VACANT => MinMsgTime::Unknown,
        low => MinMsgTime::Known(Timestamp::from_millis(low)),
    }
}
