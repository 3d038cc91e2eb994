//! The seam for stores: what a consumer needs of one, wherever its keys are kept.

use crate::{Claimed, Committed, Error, MinMsgTime, Timestamp, journal, sync};
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A store of dedup keys: the cache of this crate, or one that several processes share.
///
/// The protocol is that of an idempotent consumer with claims: claim, effect, commit, acknowledge.
/// Every store keeps these promises, which the conformance suite (`oncewheel::testing`, feature
/// `testing`) checks:
///
/// * of all concurrent deliveries of a key, one is [`Claimed::Fresh`];
/// * only a committed key is ever `Duplicate`;
/// * a claim that is aborted is released, and its key is `Fresh` again. A claim that is dropped is
///   released at once, or when its lease ends;
/// * with a lease, a claim may be taken over once the lease has ended, and its late commit is
///   refused;
/// * a key is held until the watermark has passed its deadline, and no longer than
///   [`Guarantees`] states;
/// * a delivery below the watermark whose key is not held is `TooOld`;
/// * the watermark never goes back.
///
/// **Any error means "unknown": do not acknowledge.**
///
/// [`process_once`] is the whole protocol in one call.
pub trait ClaimStore: Send + Sync {
    /// The right to process one message.
    type Claim: Send + 'static;
    /// Why a call was refused.
    type Error: StoreError;

    /// Claims a message for processing. `msg_time` is when the broker stored this copy; `None`
    /// counts as now.
    ///
    /// # Errors
    ///
    /// Those of the store; [`Refusal::Full`] if it has no capacity.
    fn claim(
        &self,
        key: &[u8],
        msg_time: Option<Timestamp>,
    ) -> impl Future<Output = Result<Claimed<Self::Claim>, Self::Error>> + Send;

    /// Commits the key of a claim, after the effect and before the acknowledgement.
    ///
    /// # Errors
    ///
    /// Those of the store; [`Refusal::ClaimLost`] if the claim was taken over.
    fn commit(&self, claim: Self::Claim) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Commits many claims at once.
    ///
    /// # Errors
    ///
    /// Those of the store: which claims are committed is then not known.
    fn commit_batch(&self, claims: Vec<Self::Claim>) -> impl Future<Output = Result<Committed, Self::Error>> + Send {
        async move {
            let mut lost = Vec::new();
            for (at, claim) in claims.into_iter().enumerate() {
                match self.commit(claim).await {
                    Err(error) if error.refusal() == Some(Refusal::ClaimLost) => lost.push(at),
                    committed => committed?,
                }
            }
            Ok(Committed::except(lost))
        }
    }

    /// Releases a claim: a redelivery will be `Fresh`.
    ///
    /// # Errors
    ///
    /// Those of the store: the claim is then released when its lease ends.
    fn abort(&self, claim: Self::Claim) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Reports the broker's oldest message that is not yet consumed and acknowledged.
    ///
    /// # Errors
    ///
    /// Those of the store; [`Refusal::WatermarkAhead`] if it lies too far ahead.
    fn observe(&self, min_msg_time: MinMsgTime) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Removes a committed key, so that its message can be processed again; `false` if it is not
    /// held.
    ///
    /// # Errors
    ///
    /// Those of the store: the key stays.
    fn remove(&self, key: &[u8]) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// What the store promises beyond the above, and what it does not.
    fn guarantees(&self) -> Guarantees;
}

/// The error of a [`ClaimStore`].
pub trait StoreError: std::error::Error + Send + Sync + 'static {
    /// What the store refused and why, where the store itself decided so; `None` for every failure
    /// after which nothing is known.
    fn refusal(&self) -> Option<Refusal>;
}

/// Decisions of a store that every consumer handles in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No capacity: pause consumption, and let the delivery come back.
    Full,
    /// The claim was taken over: do not acknowledge.
    ClaimLost,
    /// A watermark too far ahead of the clock. It changed nothing.
    WatermarkAhead,
}

/// `full`, `claim_lost` or `watermark_ahead`: to serve as a label.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::ClaimLost => "claim_lost",
            Self::WatermarkAhead => "watermark_ahead",
        })
    }
}

/// What differs between stores, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// How long a claim is exclusive; `None`: until it is committed or released.
    pub lease: Option<Duration>,
    /// Whether committed keys outlast the process.
    pub survives_restart: bool,
    /// Whether a full store evicts keys instead of refusing: then `Fresh` means "not among the keys
    /// still held".
    pub evicts: bool,
    /// How long after its deadline a key may still be held, whatever its life was.
    pub lateness: Duration,
    /// By how much that grows: a key with a life of `n` times this is held for `n` times a
    /// millisecond longer; 0: not at all.
    pub life_ms_per_ms_late: u32,
}

impl Guarantees {
    /// A store that holds keys exactly as long as needed, in memory, without leases.
    #[must_use]
    pub const fn new() -> Self {
        Self { lease: None, survives_restart: false, evicts: false, lateness: Duration::ZERO, life_ms_per_ms_late: 0 }
    }

    /// How long after its deadline a key may still be held that had `life` left when it came.
    #[must_use]
    pub fn lateness_of(&self, life: Duration) -> Duration {
        match self.life_ms_per_ms_late {
            0 => self.lateness,
            share => self.lateness.saturating_add(life / share),
        }
    }
}

impl Default for Guarantees {
    fn default() -> Self {
        Self::new()
    }
}

/// What to do with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Acknowledge it: its effect has happened and its key is committed.
    Acknowledge,
    /// Do not acknowledge it: let it come back.
    Redeliver,
    /// Dead-letter it, or ask the store of record: nobody knows whether its effect has happened.
    DeadLetter,
}

/// `acknowledge`, `redeliver` or `dead_letter`: to serve as a label.
impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledge => "acknowledge",
            Self::Redeliver => "redeliver",
            Self::DeadLetter => "dead_letter",
        })
    }
}

impl<T, E> Claimed<Result<T, E>> {
    /// What to do with the delivery that was answered so by `process_once`.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Fresh(Ok(_)) | Self::Duplicate => Disposition::Acknowledge,
            Self::Fresh(Err(_)) | Self::InFlight => Disposition::Redeliver,
            Self::TooOld => Disposition::DeadLetter,
        }
    }
}

/// Claims a message, runs `handler` if the delivery is fresh, and commits.
///
/// The claim is released if the handler returns `Err` or panics, and if the future is dropped (a
/// timeout, a `select!`, a shutdown). `Fresh` holds what the handler returned;
/// [`disposition`](Claimed::disposition) tells what to do with the delivery. After an error do not
/// acknowledge it.
///
/// **An effect that had happened before the future was dropped happens again** with the next
/// delivery, as after a crash between effect and commit. Give the handler a timeout of its own if
/// its effect must not be cut off, and drop the whole future only to end the process.
///
/// # Errors
///
/// Those of the store. With [`Refusal::ClaimLost`] the handler outlived its lease and another
/// delivery took the claim over: the effect may have happened twice.
///
/// ```
/// use oncewheel::{Claimed, Config, Disposition, Horizon, Timestamp, process_once, sync::DedupCache};
/// # use std::time::Duration;
/// # let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// # async fn transfer() -> Result<u32, std::io::Error> { Ok(17) }
/// # let stored_at = Timestamp::now();
/// # let run = async {
/// let cache = DedupCache::new(Config::new(horizon))?;
/// let processed = process_once(&cache, "order-1", stored_at, async || transfer().await).await?;
/// match processed.disposition() {
///     Disposition::Acknowledge => { /* acknowledge */ }
///     Disposition::Redeliver => { /* negative acknowledgement */ }
///     Disposition::DeadLetter => { /* to the dead-letter queue */ }
/// }
/// # assert!(matches!(processed, Claimed::Fresh(Ok(17))));
/// # Ok::<(), oncewheel::Error>(())
/// # };
/// # let mut run = std::pin::pin!(run);
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(std::future::Future::poll(run.as_mut(), &mut context).is_ready());
/// ```
pub async fn process_once<S: ClaimStore, T, E>(
    store: &S,
    key: impl AsRef<[u8]>,
    msg_time: impl Into<Option<Timestamp>>,
    handler: impl AsyncFnOnce() -> Result<T, E>,
) -> Result<Claimed<Result<T, E>>, S::Error> {
    match store.claim(key.as_ref(), msg_time.into()).await? {
        Claimed::Fresh(claim) => {
            let result = handler().await;
            match result {
                Ok(_) => store.commit(claim).await?,
                // If it fails, the claim is released when its lease ends: the handler's error
                // matters.
                Err(_) => drop(store.abort(claim).await),
            }
            Ok(Claimed::Fresh(result))
        }
        Claimed::Duplicate => Ok(Claimed::Duplicate),
        Claimed::InFlight => Ok(Claimed::InFlight),
        Claimed::TooOld => Ok(Claimed::TooOld),
    }
}

/// In memory, or with a journal. Calls are ready at once, but for commits with a journal
/// ([`commit_async`](sync::Claim::commit_async)). `observe` and `remove` with a journal write from
/// the calling thread: they are rare.
impl ClaimStore for sync::DedupCache {
    type Claim = sync::Claim;
    type Error = Error;

    async fn claim(&self, key: &[u8], msg_time: Option<Timestamp>) -> Result<Claimed<sync::Claim>, Error> {
        self.claim(key, msg_time)
    }

    async fn commit(&self, claim: sync::Claim) -> Result<(), Error> {
        claim.commit_async().await
    }

    async fn commit_batch(&self, claims: Vec<sync::Claim>) -> Result<Committed, Error> {
        self.commit_batch_async(claims).await
    }

    async fn abort(&self, claim: sync::Claim) -> Result<(), Error> {
        claim.abort();
        Ok(())
    }

    async fn observe(&self, min_msg_time: MinMsgTime) -> Result<(), Error> {
        self.observe(min_msg_time)
    }

    async fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        self.remove(key)
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            lease: self.lease(),
            survives_restart: self.recovery().is_some(),
            evicts: self.evicts(),
            lateness: Duration::from_millis(1),
            life_ms_per_ms_late: 64,
        }
    }
}

impl StoreError for Error {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Full { .. } => Some(Refusal::Full),
            Self::ClaimLost => Some(Refusal::ClaimLost),
            Self::WatermarkAhead { .. } => Some(Refusal::WatermarkAhead),
            Self::Journal(error) if error.kind() == journal::ErrorKind::TooManyKeys => Some(Refusal::Full),
            _ => None,
        }
    }
}
