//! The one rule: how far the queue has come, and until when a key must be held.

use crate::time::{SystemClock, Timestamp};
use crate::{Clock, Error};
use std::time::Duration;

/// How far apart copies of one message can be, and how far the queue reaches back.
///
/// * `max_retry`: the longest time between a producer's first and last attempt to send the same message.
/// * `max_network`: the longest time that a copy can be under way before the broker has stored it.
/// * [`max_retention`](Self::max_retention): how long the broker keeps messages (unlimited unless set).
/// * [`max_out_of_orderness`](Self::max_out_of_orderness): how far a message's time may lie below that of one ahead of
///   it in the queue (0 unless set).
/// * [`max_clock_skew`](Self::max_clock_skew): how far clocks may disagree (one minute unless set).
///
/// Durations count in milliseconds, parts of one rounded up. They are checked when a cache is made.
///
/// ```
/// use oncewheel::Horizon;
/// use std::time::Duration;
///
/// let day = Duration::from_secs(86_400);
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30))
///     .max_retention(15 * day)
///     .max_out_of_orderness(Duration::from_secs(3))
///     .max_clock_skew(Duration::from_secs(5));
/// # let _ = horizon;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    max_retry: Duration,
    max_network: Duration,
    max_retention: Option<Duration>,
    max_out_of_orderness: Duration,
    max_clock_skew: Duration,
}

impl Horizon {
    /// A horizon of `max_retry + max_network`: no two copies of one message have times further apart.
    #[must_use]
    pub const fn new(max_retry: Duration, max_network: Duration) -> Self {
        Self {
            max_retry,
            max_network,
            max_retention: None,
            max_out_of_orderness: Duration::ZERO,
            max_clock_skew: Duration::from_secs(60),
        }
    }

    /// The broker drops messages older than this, so that nothing older than `now - max_retention` can be delivered.
    /// Without it, only [`MinMsgTime`] moves the watermark.
    #[must_use]
    pub const fn max_retention(mut self, max_retention: Duration) -> Self {
        self.max_retention = Some(max_retention);
        self
    }

    /// How far a message's time may lie below that of a message ahead of it in the queue. 0, the default, fits brokers
    /// that stamp messages as they store them; where producers stamp (Kafka's `CreateTime`), seconds.
    #[must_use]
    pub const fn max_out_of_orderness(mut self, max_out_of_orderness: Duration) -> Self {
        self.max_out_of_orderness = max_out_of_orderness;
        self
    }

    /// How far producers', brokers' and this machine's clocks may disagree; one minute by default. Times further ahead
    /// of `now` than this are clamped (a message's) or refused (a watermark's).
    #[must_use]
    pub const fn max_clock_skew(mut self, max_clock_skew: Duration) -> Self {
        self.max_clock_skew = max_clock_skew;
        self
    }

    pub(crate) fn rule(&self) -> Result<Rule, Error> {
        let rule = Rule {
            span: millis_up(self.max_retry)?.checked_add(millis_up(self.max_network)?).ok_or(Error::HorizonOverflow)?,
            retention: self.max_retention.map(millis_up).transpose()?,
            out_of_orderness: millis_up(self.max_out_of_orderness)?,
            clock_skew: millis_up(self.max_clock_skew)?,
        };
        if rule.span == 0 {
            return Err(Error::HorizonEmpty);
        }
        [rule.retention.unwrap_or(0), rule.out_of_orderness, rule.clock_skew]
            .into_iter()
            .try_fold(rule.span, u64::checked_add)
            .ok_or(Error::HorizonOverflow)?;
        Ok(rule)
    }
}

/// Milliseconds, parts of one rounded up: a longer horizon is safe.
pub(crate) fn millis_up(duration: Duration) -> Result<u64, Error> {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).map_err(|_| Error::HorizonOverflow)
}

/// What the broker says about its oldest message that is not yet consumed and acknowledged.
///
/// ```
/// use oncewheel::{MinMsgTime, Timestamp};
///
/// // A broker that reports 0 or nothing does not know; it does not mean 1970.
/// let reported: Option<u64> = None;
/// let min_msg_time = match reported {
///     None | Some(0) => MinMsgTime::Unknown,
///     Some(ms) => MinMsgTime::Known(Timestamp::from_millis(ms)),
/// };
/// assert_eq!(min_msg_time, MinMsgTime::Unknown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinMsgTime {
    /// The time of the oldest message that is not yet consumed *and acknowledged*. 0 counts as `Unknown`.
    Known(Timestamp),
    /// Nothing is left in the queue.
    Empty {
        /// When the broker was asked: *before* the question was sent, so that a message stored meanwhile is not missed.
        /// By the clock that stamps the messages; if by another, `max_out_of_orderness` must cover how far that is ahead.
        observed_at: Timestamp,
    },
    /// The broker does not know, or could not be asked. Changes nothing.
    Unknown,
}

/// A checked [`Horizon`], in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// `max_retry + max_network`
    pub(crate) span: u64,
    retention: Option<u64>,
    out_of_orderness: u64,
    clock_skew: u64,
}

/// The last moment, so that the one after it can stand for an unknown one.
const NOW_MAX: u64 = u64::MAX - 1;

/// The state of the rule: the clock, the watermark, and what was refused. Both fronts own one.
///
/// `now` and `watermark` never go back. A watermark of 0 is none: nothing can lie below it.
#[derive(Debug)]
pub(crate) struct Progress {
    rule: Rule,
    clock: Option<SystemClock>,
    now: Option<u64>,
    /// The latest time that is believed: `now + max_clock_skew`, or what was believed before `now` was known.
    ceiling: u64,
    watermark: u64,
    /// The furthest that `observe` alone has brought the watermark, to tell a step back from a broker that merely lags
    /// behind the retention rule.
    observed: u64,
    pub(crate) counts: ProgressCounts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgressCounts {
    pub(crate) clamped_times: u64,
    pub(crate) refused_times: u64,
    pub(crate) watermark_steps_back: u64,
}

impl Progress {
    pub(crate) fn new(rule: Rule, clock: Clock) -> Self {
        let clock = match clock {
            Clock::System => Some(SystemClock::start()),
            Clock::Manual => None,
        };
        let mut progress = Self {
            rule,
            clock,
            now: None,
            ceiling: u64::MAX,
            watermark: 0,
            observed: 0,
            counts: ProgressCounts::default(),
        };
        progress.read_clock();
        progress
    }

    /// As last read.
    pub(crate) fn now(&self) -> Option<u64> {
        self.now
    }

    /// As the clock says at this moment.
    pub(crate) fn exact_now(&self) -> Option<u64> {
        self.clock.as_ref().map(SystemClock::now).max(self.now)
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    pub(crate) fn clock(&self) -> Option<SystemClock> {
        self.clock.clone()
    }

    /// The latest time that is believed.
    #[inline(always)]
    pub(crate) fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Brings `now` up to date; a manual clock stays where it is.
    pub(crate) fn read_clock(&mut self) {
        if let Some(clock) = &self.clock {
            let now = clock.now();
            self.move_now(now);
        }
    }

    /// Moves a manual clock; the system clock is read instead and `now` ignored.
    pub(crate) fn advance(&mut self, now: u64) {
        if self.clock.is_some() {
            self.read_clock();
        } else {
            self.move_now(now);
        }
    }

    fn move_now(&mut self, now: u64) {
        let now = now.min(NOW_MAX);
        if self.now.is_none_or(|before| before < now) {
            self.now = Some(now);
            // Not below a watermark that was believed before there was a clock: clamped messages would be too old.
            self.ceiling = now.saturating_add(self.rule.clock_skew).max(self.watermark);
            if let Some(retention) = self.rule.retention {
                let oldest_kept = now.saturating_sub(retention);
                self.watermark = self.watermark.max(oldest_kept.saturating_sub(self.rule.out_of_orderness));
            }
        }
    }

    /// A watermark that was believed before a restart is believed again.
    pub(crate) fn restore(&mut self, watermark: u64) {
        self.watermark = self.watermark.max(watermark);
        self.ceiling = self.ceiling.max(self.watermark);
    }

    pub(crate) fn observe(&mut self, min_msg_time: MinMsgTime) -> Result<(), Error> {
        let oldest = match min_msg_time {
            MinMsgTime::Known(time) | MinMsgTime::Empty { observed_at: time } => time.as_millis(),
            MinMsgTime::Unknown => 0,
        };
        if oldest == 0 {
            return Ok(());
        }
        let watermark = oldest.saturating_sub(self.rule.out_of_orderness);
        if watermark > self.ceiling() {
            self.read_clock(); // it is read rarely, and a refusal must not come from a stale reading
            if watermark > self.ceiling() {
                self.counts.refused_times += 1;
                let (watermark, limit) = (Timestamp::from_millis(watermark), Timestamp::from_millis(self.ceiling()));
                return Err(Error::WatermarkAhead { watermark, limit });
            }
        }
        if watermark < self.observed {
            self.counts.watermark_steps_back += 1;
        }
        self.observed = self.observed.max(watermark);
        self.watermark = self.watermark.max(watermark);
        Ok(())
    }

    /// The time that a message counts with: its own, bounded by the ceiling.
    #[inline]
    pub(crate) fn admit_known(&mut self, msg_time: Timestamp) -> u64 {
        let time = msg_time.as_millis();
        if time <= self.ceiling() { time } else { self.clamp(time) }
    }

    /// The time that a message of unknown time counts with: now, the latest that it can be. Where the broker's clock is
    /// ahead of this one, that is the watermark, since nothing older is delivered.
    #[cold]
    pub(crate) fn admit_unknown(&mut self) -> Result<u64, Error> {
        self.read_clock();
        self.now.map(|now| now.max(self.watermark)).ok_or(Error::NoTime)
    }

    #[cold]
    fn clamp(&mut self, time: u64) -> u64 {
        self.read_clock();
        let ceiling = self.ceiling();
        self.counts.clamped_times += u64::from(time > ceiling);
        time.min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(horizon: Horizon) -> Progress {
        Progress::new(horizon.rule().unwrap(), Clock::Manual)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_watermark_is_the_later_of_min_msg_time_and_retention_less_the_out_of_orderness() {
        let horizon = Horizon::new(SECOND, SECOND).max_retention(10 * SECOND).max_out_of_orderness(2 * SECOND);
        let mut progress = progress(horizon);
        progress.advance(100_000);
        assert_eq!(progress.watermark(), 100_000 - 10_000 - 2_000);
        progress.observe(MinMsgTime::Known(Timestamp::from_millis(95_000))).unwrap();
        assert_eq!(progress.watermark(), 93_000);
        progress.advance(110_000);
        assert_eq!(progress.watermark(), 110_000 - 12_000);
    }

    #[test]
    fn unknown_and_zero_change_nothing() {
        let mut progress = progress(Horizon::new(SECOND, SECOND));
        progress.observe(MinMsgTime::Unknown).unwrap();
        progress.observe(MinMsgTime::Known(Timestamp::from_millis(0))).unwrap();
        assert_eq!((progress.watermark(), progress.counts.watermark_steps_back), (0, 0));
    }

    #[test]
    fn a_step_back_is_counted_and_a_lag_behind_the_retention_is_not_one() {
        let mut progress = progress(Horizon::new(SECOND, SECOND).max_retention(SECOND));
        progress.advance(100_000);
        progress.observe(MinMsgTime::Known(Timestamp::from_millis(50_000))).unwrap();
        assert_eq!((progress.watermark(), progress.counts.watermark_steps_back), (99_000, 0));
        progress.observe(MinMsgTime::Known(Timestamp::from_millis(49_999))).unwrap();
        assert_eq!((progress.watermark(), progress.counts.watermark_steps_back), (99_000, 1));
    }

    #[test]
    fn parts_of_a_millisecond_make_the_horizon_longer() {
        let rule = Horizon::new(Duration::from_nanos(1), Duration::from_micros(1_001)).rule().unwrap();
        assert_eq!(rule.span, 1 + 2);
    }
}
