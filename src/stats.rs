//! What a cache has seen and holds: plain data.

use crate::Timestamp;
use std::ops::AddAssign;
use std::time::Duration;

/// A snapshot of a cache's counters, from `stats()`.
///
/// Counters start at 0 with the cache and count answers, not messages. A delivery that met
/// [`Error::Full`](crate::Error::Full) is in none of them. A snapshot of a `sync` cache that other
/// threads use is not of one single moment.
///
/// The statistics of several caches can be added up: counts add, and of the times the one counts
/// that is worst for a reader of dashboards, as each field documents.
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
/// let mut stats = cache.stats();
/// assert_eq!((stats.fresh, stats.duplicate, stats.keys_live), (1, 1, 1));
/// assert_eq!(stats.duplicate_ages.max(), Some(Duration::from_secs(30)));
/// stats += cache.stats();
/// assert_eq!(stats.duplicate, 2);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
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
    /// Keys held. Expired keys count until their memory is reclaimed.
    pub keys_live: usize,
    /// Claims neither committed nor released.
    pub claims_open: usize,
    /// Memory that the cache has taken and touched, in bytes.
    pub memory_bytes: usize,
    /// Keys that expired and were reclaimed.
    pub expired: u64,
    /// Keys evicted because the cache was full
    /// ([`WhenFull::EvictOldest`](crate::WhenFull::EvictOldest)), also while a journal was read.
    pub evicted: u64,
    /// With `evicted` above 0: every key whose message has this time or a later one is still held,
    /// unless it expired, it was removed, or its time was clamped. A copy of an older message may
    /// be answered `Fresh` again. It counts from when the cache was made or opened, as a journal
    /// does not store evictions. Of several caches: the latest.
    pub complete_since: Option<Timestamp>,
    /// The current time, if known. Of several caches: the latest.
    pub now: Option<Timestamp>,
    /// How far the queue has come, if known: nothing older is delivered any more. Of several
    /// caches: the earliest of those that are known.
    pub watermark: Option<Timestamp>,
    /// How far the watermark lies behind `now`. Of several caches: the longest.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::optional"))]
    pub watermark_lag: Option<Duration>,
    /// Message times that lay beyond `now + max_clock_skew` and were clamped to that.
    pub clamped_times: u64,
    /// Watermarks that lay beyond `now + max_clock_skew` and were rejected.
    pub rejected_watermarks: u64,
    /// `observe` calls with a time before that of an earlier call. They change nothing.
    pub watermark_regressions: u64,
    /// How far apart the copies of duplicates were: what `max_retry + max_network` must cover.
    pub duplicate_ages: DuplicateAges,
    /// Duplicates whose copies lay further apart than `max_retry + max_network`, for certain. They
    /// were recognised only because the queue was behind; with the queue caught up they would be
    /// processed again. **Above 0, the horizon is too short.** (A delivery without a time counts
    /// from when it came. With such deliveries a stalled consumer is enough, and the count tells
    /// nothing about the horizon.)
    pub late_duplicates: u64,
    /// Bytes on disk of the journal's segments; 0 without a journal. At most three times the live
    /// keys' 24 bytes each, plus 256 KiB, plus what later calls have still to remove.
    pub journal_bytes: u64,
    /// Journal operations that failed and cost nothing but space: segments not removed, a watermark
    /// not written, a sync that succeeded in another file. **Above 0, look at the disk.**
    pub journal_failures: u64,
}

/// Counts add. Of a time, the field documents which one stays.
impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.fresh += other.fresh;
        self.duplicate += other.duplicate;
        self.in_flight += other.in_flight;
        self.too_old += other.too_old;
        self.keys_live += other.keys_live;
        self.claims_open += other.claims_open;
        self.memory_bytes += other.memory_bytes;
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.complete_since = self.complete_since.max(other.complete_since);
        self.now = self.now.max(other.now);
        self.watermark = [self.watermark, other.watermark].into_iter().flatten().min();
        self.watermark_lag = self.watermark_lag.max(other.watermark_lag);
        self.clamped_times += other.clamped_times;
        self.rejected_watermarks += other.rejected_watermarks;
        self.watermark_regressions += other.watermark_regressions;
        self.duplicate_ages += other.duplicate_ages;
        self.late_duplicates += other.late_duplicates;
        self.journal_bytes += other.journal_bytes;
        self.journal_failures += other.journal_failures;
    }
}

/// A histogram of how far apart two copies of one message were, by their times, in powers of two of
/// a millisecond.
///
/// No key has a time of its own, so ages are rounded up: by up to twice the span of the times of
/// the 31 keys that came together with the first copy's, and by no more than the width of its wheel
/// slot, which is a 64th of the life that the key had left. In a steady stream that is
/// milliseconds. In a sparse queue it is much more, above all in a `sync` cache, where the 31 keys
/// are those of one shard: before you choose a horizon by it, run the command on a recording. (A
/// key whose claim was committed after its deadline counts from then.)
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(into = "serialized::Ages", try_from = "serialized::Ages")
)]
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

    /// An age that at least the share `quantile` (0.0 to 1.0) of the duplicates did not exceed: the
    /// upper end of their power of two, so up to twice too high, never too low. `None` if there was
    /// no duplicate.
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

    /// The number of ages below two to the power of `bits`, in milliseconds.
    #[cfg(feature = "metrics")]
    pub(crate) fn count_to(&self, bits: usize) -> u64 {
        self.counts[..=bits].iter().sum()
    }

    #[inline]
    pub(crate) fn record(&mut self, age: u64) {
        self.counts[(u64::BITS - age.leading_zeros()) as usize] += 1;
        self.max = self.max.max(age);
    }
}

impl AddAssign for DuplicateAges {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.max = self.max.max(other.max);
    }
}

#[cfg(feature = "serde")]
mod serialized {
    use super::DuplicateAges;
    use serde::{Deserialize, Serialize};

    /// As it stands in a file: how many ages have 0, 1, 2 ... bits, in milliseconds.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Ages {
        counts_by_bits: Vec<u64>,
        max_ms: u64,
    }

    impl From<DuplicateAges> for Ages {
        fn from(ages: DuplicateAges) -> Self {
            let filled = ages.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
            Self { counts_by_bits: ages.counts[..filled].to_vec(), max_ms: ages.max }
        }
    }

    impl TryFrom<Ages> for DuplicateAges {
        type Error = &'static str;

        fn try_from(ages: Ages) -> Result<Self, Self::Error> {
            let mut read = Self { max: ages.max_ms, ..Self::default() };
            let counts = read.counts.get_mut(..ages.counts_by_bits.len()).ok_or("more than 65 counts by bits")?;
            counts.copy_from_slice(&ages.counts_by_bits);
            Ok(read)
        }
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

    #[test]
    fn sums_add_counts_and_keep_the_worst_times() {
        let at = |ms| Some(Timestamp::from_millis(ms));
        let mut one = Stats { fresh: 1, journal_failures: 2, now: at(10), watermark: at(5), ..Stats::default() };
        one.duplicate_ages.record(3);
        let mut other = Stats { fresh: 4, keys_live: 7, now: at(9), complete_since: at(1), ..Stats::default() };
        other.duplicate_ages.record(900);
        one += other.clone();
        assert_eq!((one.fresh, one.keys_live, one.journal_failures), (5, 7, 2));
        assert_eq!((one.now, one.watermark, one.complete_since), (at(10), at(5), at(1)));
        assert_eq!((one.duplicate_ages.count(), one.duplicate_ages.max()), (2, Some(Duration::from_millis(900))));
        one += Stats { watermark: at(4), watermark_lag: Some(Duration::from_secs(1)), ..Stats::default() };
        assert_eq!((one.watermark, one.watermark_lag), (at(4), Some(Duration::from_secs(1))));
    }
}
