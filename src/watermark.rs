//! The one rule: how far the queue has come, and until when a key must be held.

use crate::horizon::Rule;
use crate::time::SystemClock;
use crate::{Clock, Error, Timestamp};

/// What the broker reports about its oldest message that is not yet consumed and acknowledged.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MinMsgTime {
    /// The time of the oldest message that is not yet consumed *and acknowledged*. 0 counts as
    /// `Unknown`. An old reading is safe, one that is too high is not.
    Known(Timestamp),
    /// Nothing is left in the queue.
    Empty {
        /// When the broker was asked: *before* the question was sent, so that a message stored
        /// meanwhile is not missed. By the clock that stamps the messages. If it is another clock,
        /// `max_out_of_orderness` must cover how far that one is ahead.
        observed_at: Timestamp,
    },
    /// The broker does not know, or could not be asked. Changes nothing.
    Unknown,
}

/// The last moment, so that the one after it can stand for an unknown one.
const NOW_MAX: u64 = u64::MAX - 1;

/// The state of the rule: the clock, the watermark, and what was rejected. Both fronts own one.
///
/// `now` and `watermark` never go back. A watermark of 0 is none: nothing can lie below it.
#[derive(Debug)]
pub(crate) struct Progress {
    rule: Rule,
    clock: Option<SystemClock>,
    now: Option<u64>,
    /// The latest time that is believed: `now + max_clock_skew`, or what was believed before `now`
    /// was known.
    ceiling: u64,
    watermark: u64,
    /// The furthest that `observe` alone has brought the watermark. It tells a regression from a
    /// broker that merely lags behind the retention rule.
    observed: u64,
    pub(crate) counts: ProgressCounts,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgressCounts {
    pub(crate) clamped_times: u64,
    pub(crate) rejected_watermarks: u64,
    pub(crate) watermark_regressions: u64,
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

    /// As the clock shows at this moment.
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

    /// Moves a manual clock; never back.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.clock.is_some() {
            return Err(Error::ClockNotManual);
        }
        self.move_now(now.as_millis());
        Ok(())
    }

    fn move_now(&mut self, now: u64) {
        let now = now.min(NOW_MAX);
        if self.now.is_none_or(|before| before < now) {
            self.now = Some(now);
            // Not below a watermark that was believed before there was a clock: clamped messages
            // would be too old.
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
            self.read_clock(); // it is read rarely, and a rejection must not come from a stale reading
            if watermark > self.ceiling() {
                self.counts.rejected_watermarks += 1;
                let (watermark, limit) = (Timestamp::from_millis(watermark), Timestamp::from_millis(self.ceiling()));
                return Err(Error::WatermarkAhead { watermark, limit });
            }
        }
        if watermark < self.observed {
            self.counts.watermark_regressions += 1;
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

    /// The time that a message of unknown time counts with: now, the latest that it can be. Where
    /// the broker's clock is ahead of this one, that is the watermark, since nothing older is
    /// delivered.
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
    use crate::Horizon;
    use std::time::Duration;

    fn progress(horizon: Horizon) -> Progress {
        Progress::new(horizon.rule().unwrap(), Clock::Manual)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_watermark_is_the_later_of_min_msg_time_and_retention_less_the_out_of_orderness() {
        let horizon = Horizon::new(SECOND, SECOND).max_retention(10 * SECOND).max_out_of_orderness(2 * SECOND);
        let mut progress = progress(horizon);
        progress.advance(at(100_000)).unwrap();
        assert_eq!(progress.watermark(), 100_000 - 10_000 - 2_000);
        progress.observe(MinMsgTime::Known(at(95_000))).unwrap();
        assert_eq!(progress.watermark(), 93_000);
        progress.advance(at(110_000)).unwrap();
        assert_eq!(progress.watermark(), 110_000 - 12_000);
    }

    #[test]
    fn unknown_and_zero_change_nothing() {
        let mut progress = progress(Horizon::new(SECOND, SECOND));
        progress.observe(MinMsgTime::Unknown).unwrap();
        progress.observe(MinMsgTime::Known(at(0))).unwrap();
        assert_eq!((progress.watermark(), progress.counts.watermark_regressions), (0, 0));
    }

    #[test]
    fn a_regression_is_counted_and_a_lag_behind_the_retention_is_not_one() {
        let mut progress = progress(Horizon::new(SECOND, SECOND).max_retention(SECOND));
        progress.advance(at(100_000)).unwrap();
        progress.observe(MinMsgTime::Known(at(50_000))).unwrap();
        assert_eq!((progress.watermark(), progress.counts.watermark_regressions), (99_000, 0));
        progress.observe(MinMsgTime::Known(at(49_999))).unwrap();
        assert_eq!((progress.watermark(), progress.counts.watermark_regressions), (99_000, 1));
    }

    #[test]
    fn only_a_manual_clock_is_advanced() {
        let rule = Horizon::new(SECOND, SECOND).max_retention(SECOND).rule().unwrap();
        let mut progress = Progress::new(rule, Clock::System);
        let before = progress.watermark();
        assert_eq!(progress.advance(at(u64::MAX)), Err(Error::ClockNotManual));
        assert_eq!(progress.watermark(), before);
    }
}
