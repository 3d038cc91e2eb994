//! What the cache answers.

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
    /// Claimed and not yet committed, by this consumer or on another thread: neither process nor acknowledge it; let it
    /// come back.
    InFlight,
    /// Older than the watermark and not held: its key may have been known and forgotten, so the cache cannot vouch for
    /// it. Dead-letter, process or drop it: that is for the caller to decide.
    TooOld,
}

/// The answer to `claim`, with the claim where the delivery is fresh; and to `process_once`, with the handler's result.
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
#[must_use = "a delivery that is not Fresh must not be processed, and a claim that is dropped is given up"]
pub enum Claimed<C> {
    /// Never seen: process it. Holds the claim, or what the handler returned.
    Fresh(C),
    /// Committed before: acknowledge it and do nothing.
    Duplicate,
    /// Claimed and not yet committed, by this consumer or on another thread: neither process nor acknowledge it; let it
    /// come back.
    InFlight,
    /// Older than the watermark and not held: its key may have been known and forgotten, so the cache cannot vouch for
    /// it.
    TooOld,
}

impl<C> Claimed<C> {
    pub(crate) fn map<D>(self, change: impl FnOnce(C) -> D) -> Claimed<D> {
        match self {
            Self::Fresh(claim) => Claimed::Fresh(change(claim)),
            Self::Duplicate => Claimed::Duplicate,
            Self::InFlight => Claimed::InFlight,
            Self::TooOld => Claimed::TooOld,
        }
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

/// What a handler given to `process_once` may return: `()` counts as done, `Err` as not done. The trait is sealed.
pub trait Outcome: sealed::Outcome {}

impl<T: sealed::Outcome> Outcome for T {}

pub(crate) mod sealed {
    pub trait Outcome {
        fn is_done(&self) -> bool;
    }

    impl Outcome for () {
        fn is_done(&self) -> bool {
            true
        }
    }

    impl<T, E> Outcome for Result<T, E> {
        fn is_done(&self) -> bool {
            self.is_ok()
        }
    }
}
