//! Time: [`Timestamp`], [`Clock`], and the only place where a clock is read.
//!
//! Every conversion to milliseconds rounds *down*, as the clocks of brokers do. One direction for
//! all of them keeps the order of any two times.

#[cfg(any(feature = "chrono", feature = "jiff", feature = "time"))]
mod convert;

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in milliseconds since the Unix epoch.
///
/// Every `u64` is allowed, and none makes the cache panic or overflow. A message time far ahead of
/// `now` is clamped, and a watermark far ahead is rejected (see
/// [`Horizon::max_clock_skew`](crate::Horizon::max_clock_skew)). Two values are believed as they
/// are: a message time far too low, whose key then expires early, and a time far ahead that
/// `advance` gives to a [manual clock](Clock::Manual), which expires every key.
///
/// Converts from and to [`SystemTime`], and with the features `chrono`, `jiff` and `time` from and
/// to the times of those crates.
///
/// ```
/// use oncewheel::Timestamp;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let t = Timestamp::from_millis(1_700_000_000_123);
/// assert_eq!(t.as_millis(), 1_700_000_000_123);
/// assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_micros(1_999)), Timestamp::from_millis(1));
/// assert_eq!(t.saturating_add(Duration::from_secs(1)).as_millis(), 1_700_000_001_123);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The wall clock's time. Costs one reading of the system clock.
    ///
    /// It is not the time of a message: a `msg_time` is when the broker stored the message, which
    /// the broker reports with each delivery.
    ///
    /// ```
    /// assert!(oncewheel::Timestamp::now().as_millis() > 1_700_000_000_000);
    /// ```
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// This moment plus `duration`, of which a part of a millisecond is ignored; `None` past the
    /// last `u64`.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        self.0.checked_add(u64::try_from(duration.as_millis()).ok()?).map(Self)
    }

    /// This moment less `duration`, of which a part of a millisecond is ignored; `None` before
    /// 1970.
    #[must_use]
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        self.0.checked_sub(u64::try_from(duration.as_millis()).ok()?).map(Self)
    }

    /// As [`checked_add`](Self::checked_add); the last moment instead of `None`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_millis(duration)))
    }

    /// As [`checked_sub`](Self::checked_sub); 1970 instead of `None`.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_millis(duration)))
    }

    /// How long after `earlier` this moment is; `None` if it is before it.
    #[must_use]
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_millis)
    }

    /// As [`checked_duration_since`](Self::checked_duration_since); zero instead of `None`.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Rounds down to the millisecond; a time before 1970 becomes 0.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, saturating_millis))
    }
}

/// An error where the platform's [`SystemTime`] cannot represent the moment.
impl TryFrom<Timestamp> for SystemTime {
    type Error = TimeRangeError;

    fn try_from(time: Timestamp) -> Result<Self, TimeRangeError> {
        UNIX_EPOCH.checked_add(Duration::from_millis(time.0)).ok_or(TimeRangeError(()))
    }
}

/// Milliseconds since the epoch, as in `1700000000123ms`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// A [`Timestamp`] that another type of time cannot represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRangeError(());

impl fmt::Display for TimeRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the timestamp lies outside of the range of the other type: check its unit (milliseconds)")
    }
}

impl std::error::Error for TimeRangeError {}

/// Where `now` comes from.
///
/// ```
/// use oncewheel::{Clock, Config, Horizon, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let mut replay = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// assert_eq!(replay.stats().now, None);
/// replay.advance(Timestamp::from_millis(5_000))?;
/// assert_eq!(replay.stats().now, Some(Timestamp::from_millis(5_000)));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Clock {
    /// The wall clock at the start plus the monotonic time since, so that a stepped wall clock
    /// expires nothing. It is read once in some dozens of calls, a few times in a batch, and
    /// whenever an answer depends on it.
    #[default]
    System,
    /// `now` moves only by `advance(now)`: for replays, tests and simulations. Until the first
    /// `advance` there is no `now`: `max_clock_skew` bounds no time, and only `observe` moves the
    /// watermark.
    Manual,
}

/// `system` or `manual`.
impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Manual => "manual",
        })
    }
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock at its start plus the monotonic time since: a wall clock that is stepped later
/// changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct SystemClock {
    /// Since the epoch, not rounded yet.
    wall_at_start: Duration,
    start: Instant,
}

impl SystemClock {
    pub(crate) fn start() -> Self {
        let wall_at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_at_start, start: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        saturating_millis(self.wall_at_start.saturating_add(self.start.elapsed()))
    }
}

/// Decides when a call reads the system clock: reading it each time would show on the hot path.
#[derive(Debug)]
pub(crate) struct ClockCountdown(u32);

impl ClockCountdown {
    /// Calls between two readings.
    pub(crate) const CALLS: u32 = 64;

    pub(crate) fn new() -> Self {
        Self(Self::CALLS)
    }

    /// Counts `calls`; whether the clock is due to be read.
    #[inline(always)]
    pub(crate) fn is_due(&mut self, calls: u32) -> bool {
        self.0 = self.0.saturating_sub(calls);
        let is_due = self.0 == 0;
        if is_due {
            self.0 = Self::CALLS;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_ends_at_the_ends_of_u64() {
        let (first, last) = (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX));
        let ms = Duration::from_millis(1);
        assert_eq!((first.checked_sub(ms), last.checked_add(ms)), (None, None));
        assert_eq!((first.saturating_sub(ms), last.saturating_add(ms)), (first, last));
        assert_eq!(last.checked_add(Duration::MAX), None);
        assert_eq!((first.saturating_add(Duration::MAX), last.saturating_sub(Duration::MAX)), (last, first));
        let almost = Duration::from_micros(1_999);
        assert_eq!(first.checked_add(almost).and_then(|time| time.checked_sub(almost)), Some(first));
        assert_eq!(first.checked_add(almost), Some(Timestamp::from_millis(1)));
        assert_eq!(
            (last.checked_duration_since(first), first.checked_duration_since(last)),
            (Some(Duration::from_millis(u64::MAX)), None)
        );
        assert_eq!(first.saturating_duration_since(last), Duration::ZERO);
    }

    #[test]
    fn system_times_round_down_and_come_back() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        let system = SystemTime::try_from(time).unwrap();
        assert_eq!(Timestamp::from(system + Duration::from_micros(999)), time);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::from_millis(0));
    }
}
