//! What a cache has seen and holds.

use crate::Timestamp;
use crate::watermark::Progress;
use std::time::Duration;

/// A snapshot of a cache's counters, from `stats()`.
///
/// Counters start at 0 with the cache and count answers, not messages: a delivery that met [`Error::Full`] is in none of
/// them. A snapshot of a `sync` cache that others are using is not of one single moment.
///
/// [`Error::Full`]: crate::Error::Full
///
/// ```
/// use oncewheel::{Clock, Config, Horizon, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// cache.insert("a", Timestamp::from_millis(1_000))?;
/// cache.insert("a", Timestamp::from_millis(31_000))?;
///
/// let stats = cache.stats();
/// assert_eq!((stats.fresh, stats.duplicate, stats.keys_live), (1, 1, 1));
/// assert_eq!(stats.duplicate_ages.max(), Some(Duration::from_secs(30)));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Deliveries that were answered `Fresh`, claims included, whatever became of them.
    pub fresh: u64,
    /// Deliveries that were answered `Duplicate`.
    pub duplicate: u64,
    /// Deliveries that were answered `InFlight`.
    pub in_flight: u64,
    /// Deliveries that were answered `TooOld`.
    pub too_old: u64,
    /// Keys held. Those whose time is over and whose memory is not reclaimed yet count until it is.
    pub keys_live: usize,
    /// Claims neither committed nor given up.
    pub claims_open: usize,
    /// Memory that the cache has taken and touched, in bytes.
    pub memory_bytes: usize,
    /// Keys forgotten because the watermark passed their deadline.
    pub forgotten_on_time: u64,
    /// Keys forgotten because the cache was full ([`WhenFull::ForgetOldest`](crate::WhenFull::ForgetOldest)), while a journal
    /// was read included.
    pub forgotten_early: u64,
    /// With `forgotten_early` above 0: every key whose message has this time or a later one is still held, unless its
    /// time is over, it was forgotten on purpose, or its time was clamped. A copy of an older message may come out `Fresh`
    /// again. Counted since the cache was made or opened: a journal does not keep what was forgotten early before.
    pub vouches_since: Option<Timestamp>,
    /// The current time, if known.
    pub now: Option<Timestamp>,
    /// How far the queue has come, if known: nothing older is delivered any more.
    pub watermark: Option<Timestamp>,
    /// How far the watermark lies behind `now`: what the queue holds back, in time.
    pub watermark_lag: Option<Duration>,
    /// Messages' times that lay beyond `now + max_clock_skew` and were taken for that.
    pub clamped_times: u64,
    /// Watermarks that lay beyond `now + max_clock_skew` and were refused.
    pub refused_times: u64,
    /// `observe` calls that would have moved the watermark back from where an earlier one brought it; ignored.
    pub watermark_steps_back: u64,
    /// How far apart the copies of duplicates were: what `max_retry + max_network` must cover.
    pub duplicate_ages: DuplicateAges,
    /// Duplicates whose copies lay further apart than `max_retry + max_network`, for certain. They were recognised only
    /// because the queue was behind; with the queue caught up they would be processed again. **Above 0, the horizon is
    /// too short.** (Deliveries whose time was not given count from when they came: with those, a consumer that stalls is
    /// enough, and the count says nothing of the horizon.)
    pub late_duplicates: u64,
    /// Bytes on disk of the journal's segments; 0 without a journal. At most three times the live keys' (24 bytes each) and
    /// 256 KiB, but for what later calls have still to clear away.
    pub journal_bytes: u64,
    /// Journal operations that failed and cost nothing but space, or that no caller could be told of: segments not
    /// removed, a watermark not written by `advance`, a `forget` not recorded, syncs that succeeded in another file.
    /// **Above 0, look at the disk.**
    pub journal_failures: u64,
}

/// A histogram of how far apart two copies of one message were, by their times, in powers of two of a millisecond.
///
/// No key has a time of its own, so ages are rounded up: by up to twice the span of the times of the 31 keys that came
/// together with the first copy's, and by no more than the width of its wheel slot, a 64th of the life that the key had
/// left. In a steady stream that is milliseconds. (A key whose claim was committed when its deadline had passed counts from
/// then.)
///
/// ```
/// # use oncewheel::{Clock, Config, Horizon, Timestamp, unsync::DedupCache};
/// # use std::time::Duration;
/// # let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// # let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// for (key, ms) in [("a", 0), ("b", 0), ("c", 0), ("a", 3), ("b", 900), ("c", 1_000)] {
///     let _ = cache.insert(key, Timestamp::from_millis(ms))?;
/// }
/// let ages = cache.stats().duplicate_ages;
/// assert_eq!((ages.count(), ages.max()), (3, Some(Duration::from_millis(1_000))));
/// assert_eq!(ages.quantile(0.3), Some(Duration::from_millis(3)));
/// let buckets: Vec<_> = ages.buckets().collect();
/// assert_eq!(buckets, [(Duration::from_millis(3), 1), (Duration::from_millis(1_000), 2)]);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DuplicateAges {
    /// `counts[0]`: age 0; `counts[n]`: ages of n bits.
    counts: [u64; 65],
    max: u64,
}

impl Default for DuplicateAges {
    fn default() -> Self {
        Self { counts: [0; 65], max: 0 }
    }
}

impl DuplicateAges {
    /// The number of duplicates.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The greatest age; `None` if there was no duplicate.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.count() > 0).then_some(Duration::from_millis(self.max))
    }

    /// An age that at least the share `quantile` (0.0 to 1.0) of the duplicates did not exceed: the upper end of their
    /// power of two, so up to twice too high, never too low. `None` if there was no duplicate.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = (quantile.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0);
        let mut seen = 0;
        let found = self.buckets().find(|(_, count)| {
            seen += count;
            seen as f64 >= rank
        });
        found.map(|(age_max, _)| age_max)
    }

    /// The powers of two that hold duplicates: the greatest age of each, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bits, count)| {
            let upper = 1u64.checked_shl(bits as u32).map_or(u64::MAX, |power| power - 1);
            (Duration::from_millis(upper.min(self.max)), *count)
        })
    }

    #[inline]
    pub(crate) fn record(&mut self, age: u64) {
        self.counts[(u64::BITS - age.leading_zeros()) as usize] += 1;
        self.max = self.max.max(age);
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.max = self.max.max(other.max);
    }
}

impl Stats {
    pub(crate) fn new(progress: &Progress) -> Self {
        let now = progress.exact_now().map(Timestamp::from_millis);
        let watermark = (progress.watermark() > 0).then_some(Timestamp::from_millis(progress.watermark()));
        let lag = |now: Timestamp| Some(now.as_millis().saturating_sub(watermark?.as_millis()));
        Self {
            now,
            watermark,
            watermark_lag: now.and_then(lag).map(Duration::from_millis),
            clamped_times: progress.counts.clamped_times,
            refused_times: progress.counts.refused_times,
            watermark_steps_back: progress.counts.watermark_steps_back,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, shard: &crate::engine::Shard) {
        let counts = shard.counts();
        self.fresh += counts.fresh;
        self.duplicate += counts.duplicate;
        self.in_flight += counts.in_flight;
        self.too_old += counts.too_old;
        self.keys_live += shard.len();
        self.claims_open += shard.claims_open();
        self.memory_bytes += shard.memory_bytes();
        self.forgotten_on_time += counts.expired;
        self.forgotten_early += counts.evicted;
        let since = Timestamp::from_millis(counts.complete_since);
        self.vouches_since = self.vouches_since.max((counts.complete_since > 0).then_some(since));
        self.duplicate_ages.add(&counts.ages);
        self.late_duplicates += counts.late_duplicates;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_powers_of_two_and_quantiles_are_never_too_low() {
        let mut ages = DuplicateAges::default();
        assert_eq!((ages.max(), ages.quantile(0.5)), (None, None));
        for age in [0, 1, 2, 3, 1000, u64::MAX] {
            ages.record(age);
        }
        let ms = Duration::from_millis;
        let buckets: Vec<_> = ages.buckets().collect();
        assert_eq!(buckets, [(ms(0), 1), (ms(1), 1), (ms(3), 2), (ms(1023), 1), (ms(u64::MAX), 1)]);
        assert_eq!(ages.quantile(0.0), Some(ms(0)));
        assert_eq!(ages.quantile(0.5), Some(ms(3)));
        assert_eq!(ages.quantile(0.8), Some(ms(1023)));
        assert_eq!(ages.quantile(1.0), Some(ms(u64::MAX)));
    }
}
