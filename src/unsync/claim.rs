//! Claims of a cache of one consumer: plain tokens.

use super::DedupCache;
use crate::answer::Outcome;
use crate::engine::{Full, IndexHash};
use crate::fingerprint::Key;
use crate::{Claimed, Error, Fingerprint, Timestamp};

/// The right to process one message: what [`DedupCache::claim`] hands out, to be returned by
/// [`commit`](DedupCache::commit) or [`abort`](DedupCache::abort).
///
/// A plain token: dropping it tells the cache nothing, and the key stays `InFlight` until `max_processing_time` is over, or
/// for good if there is none. See [`DedupCache::claim`] for an example. [`process_once`](DedupCache::process_once) cannot
/// forget one; [`sync::Claim`](crate::sync::Claim) gives itself up when dropped.
#[derive(Debug)]
#[must_use = "a claim that is neither committed nor aborted keeps its key InFlight"]
pub struct Claim {
    pub(super) hash: IndexHash,
    pub(super) key: Fingerprint,
    pub(super) generation: u64,
}

impl DedupCache {
    /// Claims a message for processing. On `Fresh`: effect, then [`commit`](Self::commit), then acknowledge. If the
    /// effect fails, [`abort`](Self::abort), and a redelivery will be `Fresh` again.
    ///
    /// `msg_time` as in [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet. With a
    /// journal, [`Error::Journal`].
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Timestamp, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::InFlight));
    /// cache.abort(claim); // the effect failed
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Fresh(_)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn claim(&mut self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Claimed<Claim>, Error> {
        let msg_time = msg_time.into();
        let (hash, key, time) = self.enter(key, msg_time)?;
        let mut claimed = self.shard.claim(hash, key, time, self.progress.now());
        if claimed == Err(Full) && self.has_moved_on() {
            let time = self.admit(msg_time)?;
            claimed = self.shard.claim(hash, key, time, self.progress.now());
        }
        let claimed = claimed?;
        if let (Claimed::Fresh(generation), Some(journal)) = (&claimed, &self.journal)
            && let Err(error) = journal.writer.check()
        {
            // What could not be committed must not be begun.
            self.shard.undo_claim(hash, key, *generation);
            return Err(error.into());
        }
        Ok(claimed.map(|generation| Claim { hash, key, generation }))
    }

    /// Records the key of a claim: from now on its copies are `Duplicate`.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if the claim outlived `max_processing_time` and was taken over, or swept because no copy can
    /// come any more: do not acknowledge. Also for a claim of another cache. With a journal, [`Error::Journal`]: the claim is
    /// given up, do not acknowledge.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// cache.commit(claim)?;
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn commit(&mut self, claim: Claim) -> Result<(), Error> {
        let Claim { hash, key, generation } = claim;
        let time = self.shard.commit(hash, key, generation).ok_or(Error::ClaimLost)?;
        if self.journal.is_some() {
            self.record_commit(hash, key, time)?;
        }
        Ok(())
    }

    /// Gives a claim up: a redelivery will be `Fresh`. Does nothing if the claim was lost already. See
    /// [`claim`](Self::claim) for an example.
    pub fn abort(&mut self, claim: Claim) {
        self.shard.abort(claim.hash, claim.key, claim.generation);
    }

    /// Claims, runs `handler` if the delivery is fresh, and commits; or gives the claim up if the handler returns `Err` or
    /// panics ([`Outcome`]). `Fresh` holds what the handler returned. Acknowledge on `Fresh(Ok(_))`, `Fresh(())` and
    /// `Duplicate`.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim). The claim cannot be lost meanwhile, since nobody else can reach the cache.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Timestamp, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let failed = cache.process_once("order-1", Timestamp::now(), || Err::<(), _>("database down"))?;
    /// assert_eq!(failed, Claimed::Fresh(Err("database down")));
    /// let done = cache.process_once("order-1", Timestamp::now(), || Ok::<_, ()>(17))?;
    /// assert_eq!(done, Claimed::Fresh(Ok(17)));
    /// assert_eq!(cache.process_once("order-1", Timestamp::now(), || ())?, Claimed::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn process_once<R: Outcome>(
        &mut self,
        key: impl Key,
        msg_time: impl Into<Option<Timestamp>>,
        handler: impl FnOnce() -> R,
    ) -> Result<Claimed<R>, Error> {
        let claim = match self.claim(key, msg_time)? {
            Claimed::Fresh(claim) => claim,
            Claimed::Duplicate => return Ok(Claimed::Duplicate),
            Claimed::InFlight => return Ok(Claimed::InFlight),
            Claimed::TooOld => return Ok(Claimed::TooOld),
        };
        let mut open = OpenClaim { cache: self, claim: Some(claim) };
        let result = handler();
        if result.is_done()
            && let Some(claim) = open.claim.take()
        {
            open.cache.commit(claim)?;
        }
        Ok(Claimed::Fresh(result))
    }
}

/// Gives its claim up unless it was taken out.
struct OpenClaim<'a> {
    cache: &'a mut DedupCache,
    claim: Option<Claim>,
}

impl Drop for OpenClaim<'_> {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.cache.abort(claim);
        }
    }
}
