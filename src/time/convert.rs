//! Conversions from and to the times of other crates, each behind a feature of its name.
//!
//! Towards [`Timestamp`] they round down to the millisecond, and a time before 1970 becomes 0.

use super::{TimeRangeError, Timestamp};

fn not_negative(millis: impl TryInto<u64>) -> Timestamp {
    Timestamp(millis.try_into().unwrap_or(0))
}

#[cfg(feature = "jiff")]
mod jiff {
    use super::{TimeRangeError, Timestamp, not_negative};

    /// Rounds down to the millisecond; a time before 1970 becomes 0.
    impl From<jiff::Timestamp> for Timestamp {
        fn from(time: jiff::Timestamp) -> Self {
            not_negative(time.as_millisecond())
        }
    }

    /// An error after the year 9999.
    impl TryFrom<Timestamp> for jiff::Timestamp {
        type Error = TimeRangeError;

        fn try_from(time: Timestamp) -> Result<Self, TimeRangeError> {
            let millis = i64::try_from(time.0).map_err(|_| TimeRangeError(()))?;
            Self::from_millisecond(millis).map_err(|_| TimeRangeError(()))
        }
    }
}

#[cfg(feature = "time")]
mod time {
    use super::{TimeRangeError, Timestamp, not_negative};
    use time::OffsetDateTime;

    /// Rounds down to the millisecond; a time before 1970 becomes 0.
    impl From<OffsetDateTime> for Timestamp {
        fn from(time: OffsetDateTime) -> Self {
            not_negative(time.unix_timestamp_nanos().div_euclid(1_000_000))
        }
    }

    /// An error after the year 9999.
    impl TryFrom<Timestamp> for OffsetDateTime {
        type Error = TimeRangeError;

        fn try_from(time: Timestamp) -> Result<Self, TimeRangeError> {
            Self::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000).map_err(|_| TimeRangeError(()))
        }
    }
}

#[cfg(feature = "chrono")]
mod chrono {
    use super::{TimeRangeError, Timestamp, not_negative};
    use chrono::{DateTime, TimeZone, Utc};

    /// Rounds down to the millisecond; a time before 1970 becomes 0.
    impl<Z: TimeZone> From<DateTime<Z>> for Timestamp {
        fn from(time: DateTime<Z>) -> Self {
            not_negative(time.timestamp_millis())
        }
    }

    /// An error some 260,000 years from now.
    impl TryFrom<Timestamp> for DateTime<Utc> {
        type Error = TimeRangeError;

        fn try_from(time: Timestamp) -> Result<Self, TimeRangeError> {
            let millis = i64::try_from(time.0).map_err(|_| TimeRangeError(()))?;
            Self::from_timestamp_millis(millis).ok_or(TimeRangeError(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    /// A moment after and one before 1970, each with a part of a millisecond.
    fn round_trip<T>(after: T, before: T, whole: T)
    where
        T: Clone + Debug + PartialEq + Into<Timestamp> + TryFrom<Timestamp, Error = TimeRangeError>,
    {
        let time: Timestamp = after.into();
        assert_eq!(time.as_millis(), 1_700_000_000_123);
        assert_eq!(T::try_from(time), Ok(whole));
        assert_eq!(before.into().as_millis(), 0);
        assert_eq!(T::try_from(Timestamp::from_millis(u64::MAX)), Err(TimeRangeError(())));
    }

    #[test]
    #[cfg(feature = "jiff")]
    fn jiff_rounds_down_and_comes_back() {
        let at = |nanos| ::jiff::Timestamp::from_nanosecond(nanos).unwrap();
        round_trip(at(1_700_000_000_123_999_999), at(-1), at(1_700_000_000_123_000_000));
    }

    #[test]
    #[cfg(feature = "time")]
    fn time_rounds_down_and_comes_back() {
        let at = |nanos| ::time::OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
        round_trip(at(1_700_000_000_123_999_999), at(-1), at(1_700_000_000_123_000_000));
    }

    #[test]
    #[cfg(feature = "chrono")]
    fn chrono_rounds_down_and_comes_back() {
        let at = ::chrono::DateTime::from_timestamp_nanos;
        round_trip(at(1_700_000_000_123_999_999), at(-1), at(1_700_000_000_123_000_000));
    }
}
