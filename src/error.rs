//! What can go wrong.

use crate::{Timestamp, journal};
use std::fmt;

/// Why a call was refused. Every message tells what to do about it.
///
/// A refused call has changed nothing, with three exceptions: rejected watermarks are counted, a
/// refused commit has released its claim, and an `observe` or `advance` that the journal refused
/// has moved the watermark.
///
/// ```
/// use oncewheel::{Clock, Config, Error, Horizon, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let mut cache = DedupCache::new(Config::new(horizon).max_keys(1).clock(Clock::Manual))?;
/// let time = Timestamp::from_millis(1_000);
/// cache.insert("a", time)?;
/// let Err(Error::Full { next_expiry }) = cache.insert("b", time) else { panic!("no quota") };
/// // Late, as every deadline is rounded up to a wheel slot: by a 64th at most.
/// assert!(next_expiry >= Some(Timestamp::from_millis(66_000)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The cache holds `max_keys` keys and open claims, and none has expired. Nothing was evicted,
    /// and the delivery was not inserted: pause consumption.
    Full {
        /// The watermark at which the next key expires; `None` if none of the keys held ever does.
        /// (Then claims take up `max_keys`, or the keys' times lie at the end of time.)
        next_expiry: Option<Timestamp>,
    },
    /// The claim outlived its [lease](crate::Config#structfield.lease) and was taken over or swept:
    /// another consumer may have processed the message. The key was not inserted by this commit.
    ClaimLost,
    /// A `min_msg_time` would have moved the watermark further ahead of `now` than
    /// `max_clock_skew` allows.
    WatermarkAhead {
        /// The watermark that was rejected.
        watermark: Timestamp,
        /// The latest that would have been accepted: `now + max_clock_skew`.
        limit: Timestamp,
    },
    /// The message's time is unknown, and so is `now`: a manual clock was not advanced yet.
    NoTime,
    /// `advance` moves a [manual clock](crate::Clock::Manual), and this cache reads the system's.
    ClockNotManual,
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The journal could not be opened, or could not store what it was given. From a call that
    /// inserts or commits a key: the key is not committed, so do not acknowledge the message. (Only
    /// [`ErrorKind::Poisoned`](journal::ErrorKind::Poisoned) leaves open whether it is after a
    /// restart.)
    Journal(journal::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { next_expiry } => {
                f.write_str("the cache is full: max_keys keys and claims are held, and ")?;
                match next_expiry {
                    Some(watermark) => write!(f, "the next key expires when the watermark reaches {watermark}")?,
                    None => f.write_str("no key that is held will expire")?,
                }
                f.write_str(
                    "; pause consumption until then, or raise max_keys above the number of messages of max_retry + \
                     max_network",
                )
            }
            Self::ClaimLost => f.write_str(
                "the claim outlived its lease and was taken over: do not acknowledge the message; set a longer lease \
                 if handlers take this long",
            ),
            Self::WatermarkAhead { watermark, limit } => write!(
                f,
                "the watermark {watermark} lies beyond now + max_clock_skew = {limit} and was rejected: check the \
                 unit (milliseconds) and the source of min_msg_time, or raise max_clock_skew"
            ),
            Self::NoTime => f.write_str(
                "neither the message's time nor the current time is known: give msg_time, or call advance(now) first",
            ),
            Self::ClockNotManual => f.write_str(
                "advance(now) moves a manual clock, and this cache reads the system clock: call maintain() instead, \
                 or configure Clock::Manual",
            ),
            Self::Config(error) => error.fmt(f),
            Self::Journal(error) => error.fmt(f),
        }
    }
}

/// The message of an `Error` that wraps another is that error's; its source is that error's source:
/// of a journal's error, the `io::Error`.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Journal(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<journal::Error> for Error {
    fn from(error: journal::Error) -> Self {
        Self::Journal(error)
    }
}

/// Why a [`Config`](crate::Config) cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `max_keys` is not in 1 ..= 2^31.
    MaxKeysOutOfRange {
        /// The value given.
        max_keys: usize,
    },
    /// `shards` is not in 1 ..= 1024.
    ShardsOutOfRange {
        /// The value given.
        shards: usize,
    },
    /// `max_retry + max_network` is zero: no key would be held at all.
    HorizonEmpty,
    /// The durations of the horizon together do not fit in 2^64 milliseconds.
    HorizonOverflow,
    /// `lease` is zero, or does not fit in 2^64 milliseconds.
    LeaseOutOfRange,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxKeysOutOfRange { max_keys } => {
                write!(f, "max_keys is {max_keys}: choose a number from 1 to 2147483648")
            }
            Self::ShardsOutOfRange { shards } => write!(f, "shards is {shards}: choose a number from 1 to 1024"),
            Self::HorizonEmpty => f.write_str(
                "max_retry + max_network is zero: set them to how long after its first copy another copy can arrive",
            ),
            Self::HorizonOverflow => f.write_str(
                "the horizon's durations together exceed 2^64 milliseconds: choose shorter ones (leave max_retention \
                 out where the broker keeps messages for ever)",
            ),
            Self::LeaseOutOfRange => f.write_str(
                "lease must be more than zero and fit in 2^64 milliseconds: leave it out for claims that never time \
                 out",
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
