//! How far apart copies of one message can be, and how far the queue reaches back.

use crate::ConfigError;
use std::time::Duration;

/// The bounds from which the dedup window follows.
///
/// Durations count in milliseconds, a part of one rounded up. They are checked when a cache is
/// made.
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
/// assert_eq!(horizon.max_retention, Some(15 * day));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Horizon {
    /// The longest time between a producer's first and last attempt to send the same message.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::required"))]
    pub max_retry: Duration,
    /// The longest time from an attempt until the broker has stored that copy.
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::required"))]
    pub max_network: Duration,
    /// How long the broker keeps messages: nothing older than `now - max_retention` can be
    /// delivered. `None`, the default: for ever; then only [`MinMsgTime`](crate::MinMsgTime) moves
    /// the watermark.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::durations::optional"))]
    pub max_retention: Option<Duration>,
    /// How far a message's time may lie below that of a message ahead of it in the queue. 0, the
    /// default, fits brokers that stamp messages as they store them. Where producers stamp (Kafka's
    /// `CreateTime`) it is seconds.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::durations::required"))]
    pub max_out_of_orderness: Duration,
    /// How far producers', brokers' and this machine's clocks may disagree; one minute by default.
    /// A message time further ahead of `now` is clamped, a watermark further ahead is rejected.
    #[cfg_attr(feature = "serde", serde(default = "default_clock_skew", with = "crate::durations::required"))]
    pub max_clock_skew: Duration,
}

const fn default_clock_skew() -> Duration {
    Duration::from_secs(60)
}

impl Horizon {
    /// A horizon of `max_retry + max_network`: no two copies of one message have times further
    /// apart. The other bounds have their defaults.
    #[must_use]
    pub const fn new(max_retry: Duration, max_network: Duration) -> Self {
        Self {
            max_retry,
            max_network,
            max_retention: None,
            max_out_of_orderness: Duration::ZERO,
            max_clock_skew: default_clock_skew(),
        }
    }

    /// Sets [`max_retention`](Self#structfield.max_retention).
    #[must_use]
    pub const fn max_retention(mut self, max_retention: Duration) -> Self {
        self.max_retention = Some(max_retention);
        self
    }

    /// Sets [`max_out_of_orderness`](Self#structfield.max_out_of_orderness).
    #[must_use]
    pub const fn max_out_of_orderness(mut self, max_out_of_orderness: Duration) -> Self {
        self.max_out_of_orderness = max_out_of_orderness;
        self
    }

    /// Sets [`max_clock_skew`](Self#structfield.max_clock_skew).
    #[must_use]
    pub const fn max_clock_skew(mut self, max_clock_skew: Duration) -> Self {
        self.max_clock_skew = max_clock_skew;
        self
    }

    pub(crate) fn rule(&self) -> Result<Rule, ConfigError> {
        let millis = |duration| millis_up(duration).ok_or(ConfigError::HorizonOverflow);
        let rule = Rule {
            span: millis(self.max_retry)?.checked_add(millis(self.max_network)?).ok_or(ConfigError::HorizonOverflow)?,
            retention: self.max_retention.map(millis).transpose()?,
            out_of_orderness: millis(self.max_out_of_orderness)?,
            clock_skew: millis(self.max_clock_skew)?,
        };
        if rule.span == 0 {
            return Err(ConfigError::HorizonEmpty);
        }
        [rule.retention.unwrap_or(0), rule.out_of_orderness, rule.clock_skew]
            .into_iter()
            .try_fold(rule.span, u64::checked_add)
            .ok_or(ConfigError::HorizonOverflow)?;
        Ok(rule)
    }
}

/// A checked [`Horizon`], in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// `max_retry + max_network`
    pub(crate) span: u64,
    pub(crate) retention: Option<u64>,
    pub(crate) out_of_orderness: u64,
    pub(crate) clock_skew: u64,
}

/// Milliseconds, a part of one rounded up: a longer horizon is safe. `None` where they do not fit.
pub(crate) fn millis_up(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_millisecond_make_the_horizon_longer() {
        let rule = Horizon::new(Duration::from_nanos(1), Duration::from_micros(1_001)).rule().unwrap();
        assert_eq!(rule.span, 1 + 2);
    }
}
