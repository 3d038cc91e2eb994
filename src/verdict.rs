//! What the cache answers.

use std::fmt;

/// The answer to `insert`.
///
/// ```
/// use oncewheel::{Clock, Config, Horizon, MinMsgTime, Timestamp, Verdict, unsync::DedupCache};
/// use std::time::Duration;
///
/// let at = Timestamp::from_millis;
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// assert_eq!(cache.insert("order-1", at(1_000))?, Verdict::Fresh);
/// assert_eq!(cache.insert("order-1", at(4_000))?, Verdict::Duplicate);
/// cache.observe(MinMsgTime::Known(at(100_000)))?;
/// assert_eq!(cache.insert("order-2", at(99_999))?, Verdict::TooOld);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a delivery that is not Fresh must not be processed"]
pub enum Verdict {
    /// Never seen: process it.
    Fresh,
    /// Committed before: acknowledge it and do nothing.
    Duplicate,
    /// Claimed and not yet committed, by this consumer or on another thread: neither process nor
    /// acknowledge it; let it come back.
    InFlight,
    /// Older than the watermark and not held: its key may have been known and have expired, so the
    /// cache cannot vouch for it. The caller decides: dead-letter, process or drop it.
    TooOld,
}

/// `fresh`, `duplicate`, `in_flight` or `too_old`: to serve as a label.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Duplicate => "duplicate",
            Self::InFlight => "in_flight",
            Self::TooOld => "too_old",
        })
    }
}

/// The answer to `claim`, with the claim where the delivery is fresh; and to `process_once`, with
/// the handler's result.
///
/// ```
/// use oncewheel::{Claimed, Clock, Config, Horizon, Timestamp, sync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// let time = Timestamp::from_millis(1_000);
/// let Claimed::Fresh(claim) = cache.claim("order-1", time)? else { panic!("never seen") };
/// assert!(matches!(cache.claim("order-1", time)?, Claimed::InFlight));
/// // ... the effect ...
/// claim.commit()?;
/// // ... the acknowledgement ...
/// assert!(matches!(cache.claim("order-1", time)?, Claimed::Duplicate));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a delivery that is not Fresh must not be processed, and a claim that is dropped is released"]
pub enum Claimed<C> {
    /// Never seen: process it. Holds the claim, or what the handler returned.
    Fresh(C),
    /// Committed before: acknowledge it and do nothing.
    Duplicate,
    /// Claimed and not yet committed, by this consumer or on another thread: neither process nor
    /// acknowledge it; let it come back.
    InFlight,
    /// Older than the watermark and not held: its key may have been known and have expired, so the
    /// cache cannot vouch for it.
    TooOld,
}

impl<C> Claimed<C> {
    /// The answer without the claim. It borrows, so that the claim stays open.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Fresh(_) => Verdict::Fresh,
            Self::Duplicate => Verdict::Duplicate,
            Self::InFlight => Verdict::InFlight,
            Self::TooOld => Verdict::TooOld,
        }
    }

    /// The same answer with another claim or result in `Fresh`.
    ///
    /// ```
    /// use oncewheel::Claimed;
    /// assert_eq!(Claimed::Fresh(17).map(|number| number + 1), Claimed::Fresh(18));
    /// assert_eq!(Claimed::<u32>::TooOld.map(|number| number + 1), Claimed::TooOld);
    /// ```
    pub fn map<D>(self, change: impl FnOnce(C) -> D) -> Claimed<D> {
        self.try_map(|claim| Ok::<_, std::convert::Infallible>(change(claim))).unwrap_or_else(|never| match never {})
    }

    /// As [`map`](Self::map), for a change that can fail.
    ///
    /// # Errors
    ///
    /// That of `change`.
    pub fn try_map<D, E>(self, change: impl FnOnce(C) -> Result<D, E>) -> Result<Claimed<D>, E> {
        Ok(match self {
            Self::Fresh(claim) => Claimed::Fresh(change(claim)?),
            Self::Duplicate => Claimed::Duplicate,
            Self::InFlight => Claimed::InFlight,
            Self::TooOld => Claimed::TooOld,
        })
    }
}

/// The label of its [`verdict`](Claimed::verdict).
impl<C> fmt::Display for Claimed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict().fmt(f)
    }
}

/// Why a delivery is not fresh.
#[derive(Clone, Copy)]
pub(crate) enum Known {
    Duplicate,
    InFlight,
    TooOld,
}

impl From<Known> for Verdict {
    fn from(known: Known) -> Self {
        match known {
            Known::Duplicate => Self::Duplicate,
            Known::InFlight => Self::InFlight,
            Known::TooOld => Self::TooOld,
        }
    }
}

impl<C> From<Known> for Claimed<C> {
    fn from(known: Known) -> Self {
        match known {
            Known::Duplicate => Self::Duplicate,
            Known::InFlight => Self::InFlight,
            Known::TooOld => Self::TooOld,
        }
    }
}
