//! What can go wrong, each with the way out.

use crate::engine::Full;
use crate::{JournalError, Timestamp};
use std::fmt;

/// Why a call was refused. No key is recorded by a refused call, except those of a batch that its verdicts answer. What
/// else it did stays done: refused times are counted, a commit has given its claim up, an `observe` that the disk refused
/// has moved the watermark.
///
/// ```
/// use oncewheel::{Clock, Config, Error, Horizon, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let mut cache = DedupCache::new(Config::new(horizon).max_keys(1).clock(Clock::Manual))?;
/// cache.insert("a", Timestamp::from_millis(1))?;
/// assert_eq!(cache.insert("b", Timestamp::from_millis(1)), Err(Error::Full));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The cache holds `max_keys` keys and open claims, none of which may be forgotten yet. Nothing was forgotten and
    /// the delivery was not recorded.
    Full,
    /// The claim outlived `max_processing_time` and was taken over or swept: another consumer may have processed the
    /// message. The key was not recorded by this commit.
    ClaimLost,
    /// A `min_msg_time` would have moved the watermark further ahead of `now` than `max_clock_skew` allows.
    WatermarkAhead {
        /// The watermark that was refused.
        watermark: Timestamp,
        /// The latest that would have been accepted: `now + max_clock_skew`.
        limit: Timestamp,
    },
    /// The message's time is unknown, and so is `now`: a manual clock was not advanced yet.
    NoTime,
    /// `max_keys` is not in 1 ..= 2^31.
    MaxKeysOutOfRange {
        /// What was asked for.
        max_keys: usize,
    },
    /// `shards` is not in 1 ..= 1024.
    ShardsOutOfRange {
        /// What was asked for.
        shards: usize,
    },
    /// `max_retry + max_network` is zero: no key would be held at all.
    HorizonEmpty,
    /// The durations of the horizon together do not fit in 2^64 milliseconds.
    HorizonOverflow,
    /// `max_processing_time` is zero, or does not fit in 2^64 milliseconds.
    ProcessingTimeOutOfRange,
    /// The journal could not be opened, or could not record what it was given. From a call that records a key: it is not
    /// recorded, so do not acknowledge the message. (Only [`Problem::Stopped`](crate::Problem::Stopped) leaves open
    /// whether it is after a restart.)
    Journal(JournalError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str(
                "the cache is full and no key may be forgotten yet: raise max_keys above the number of messages of \
                 max_retry + max_network, or, where the watermark moves with time, pause consumption until it has moved",
            ),
            Self::ClaimLost => f.write_str(
                "the claim outlived max_processing_time and was given up: do not acknowledge the message; raise \
                 max_processing_time if handlers take this long",
            ),
            Self::WatermarkAhead { watermark, limit } => write!(
                f,
                "the watermark {watermark} lies beyond now + max_clock_skew = {limit} and was refused: check the unit \
                 (milliseconds) and the source of min_msg_time, or raise max_clock_skew"
            ),
            Self::NoTime => f.write_str(
                "neither the message's time nor the current time is known: give msg_time, or call advance(now) first",
            ),
            Self::MaxKeysOutOfRange { max_keys } => {
                write!(f, "max_keys is {max_keys}: choose a number from 1 to 2147483648")
            }
            Self::ShardsOutOfRange { shards } => write!(f, "shards is {shards}: choose a number from 1 to 1024"),
            Self::HorizonEmpty => f.write_str(
                "max_retry + max_network is zero: set them to how long after its first copy another copy can arrive",
            ),
            Self::HorizonOverflow => f.write_str(
                "the horizon's durations together exceed 2^64 milliseconds: choose shorter ones (no retention limit \
                 is expressed by leaving max_retention out)",
            ),
            Self::ProcessingTimeOutOfRange => f.write_str(
                "max_processing_time must be more than zero and fit in 2^64 milliseconds: leave it out for claims that \
                 never time out",
            ),
            Self::Journal(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<Full> for Error {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}
