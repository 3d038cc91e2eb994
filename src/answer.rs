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

/// What a handler given to `process_once` may return: `Err` means that the message was not processed, so that the claim is
/// given up and a redelivery is processed; `Ok`, `()` and plain values mean that it was. `bool` and `Option` are not among
/// them, since either of their values may mean failure: return a `Result`. The trait is sealed.
///
/// ```
/// # use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
/// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
/// let cache = DedupCache::new(Config::new(horizon))?;
/// assert_eq!(cache.process_once("order-1", None, || Err::<u32, _>("no answer"))?, Claimed::Fresh(Err("no answer")));
/// assert_eq!(cache.process_once("order-1", None, || 17)?, Claimed::Fresh(17));
/// assert_eq!(cache.process_once("order-1", None, || ())?, Claimed::Duplicate);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`process_once` cannot tell whether a handler that returns `{Self}` has processed the message",
    note = "return `Result`, whose `Err` means that it has not, or `()`"
)]
pub trait Outcome: sealed::Outcome {}

impl<T: sealed::Outcome> Outcome for T {}

pub(crate) mod sealed {
    pub trait Outcome {
        fn is_done(&self) -> bool {
            true
        }
    }

    impl<T, E> Outcome for Result<T, E> {
        fn is_done(&self) -> bool {
            self.is_ok()
        }
    }

    macro_rules! done {
        ($($value:ty),*) => {
            $(impl Outcome for $value {})*
        };
    }

    done!((), u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, char, String, &str);

    /// A handler that never returns, such as `|| panic!()`: its type `!` has no other name in stable Rust.
    impl Outcome for <fn() -> ! as Returns>::Value {}

    pub trait Returns {
        type Value;
    }

    impl<T> Returns for fn() -> T {
        type Value = T;
    }
}
