//! Time: what a [`Timestamp`] is, and the one place where a clock is read.
//!
//! Every conversion to milliseconds rounds *down*, as the clocks of brokers do. Rounding everything the same way keeps
//! the order of any two times.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in milliseconds since the Unix epoch.
///
/// All of `u64` is allowed, and none makes the cache panic or overflow. A message's time far ahead of `now` is clamped, and a
/// watermark refused (see `Horizon::max_clock_skew`); one far too low is a key that is forgotten early, and so are all where
/// `advance` tells a [manual clock](crate::Clock::Manual) of a time far ahead: that is believed.
///
/// ```
/// use oncewheel::Timestamp;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let t = Timestamp::from_millis(1_700_000_000_123);
/// assert_eq!(t.as_millis(), 1_700_000_000_123);
/// assert_eq!(Timestamp::from(UNIX_EPOCH + Duration::from_micros(1_999)), Timestamp::from_millis(1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// ```
    /// assert!(oncewheel::Timestamp::now().as_millis() > 1_700_000_000_000);
    /// ```
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

/// Rounds down to the millisecond; a time before 1970 becomes 0.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, saturating_millis))
    }
}

/// Milliseconds since the epoch, as in `1700000000123ms`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock at its start plus the monotonic time since: a wall clock that is stepped later changes nothing.
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
