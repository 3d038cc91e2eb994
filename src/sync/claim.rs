//! A claim that gives itself up.

use super::DedupCache;
use crate::engine::IndexHash;
use crate::{Error, Fingerprint};

/// The right to process one message: what [`DedupCache::claim`] hands out.
///
/// Owns a handle to its cache, so that it can be sent to another thread and live across an `.await`. Dropped without a
/// [`commit`](Self::commit), in a panic too, it is given up, and a redelivery is `Fresh` again. One that is leaked keeps
/// its key `InFlight` until `max_processing_time` is over. See [`DedupCache::claim`] for an example.
#[must_use = "a claim that is dropped is given up"]
pub struct Claim {
    pub(super) cache: DedupCache,
    hash: IndexHash,
    key: Fingerprint,
    generation: u64,
    is_open: bool,
}

impl Claim {
    pub(super) fn new(cache: DedupCache, hash: IndexHash, key: Fingerprint, generation: u64) -> Self {
        Self { cache, hash, key, generation, is_open: true }
    }

    /// Records the key: from now on its copies are `Duplicate`. Between the effect and the acknowledgement.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if the claim outlived `max_processing_time` and was taken over, or swept because no copy can
    /// come any more: do not acknowledge. With a journal, [`Error::Journal`]: the claim is given up, do not acknowledge.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Error, Horizon, sync::DedupCache};
    /// # use std::time::Duration;
    /// # let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon).max_processing_time(Duration::from_millis(1)))?;
    /// let Claimed::Fresh(slow) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// std::thread::sleep(Duration::from_millis(5));
    /// let Claimed::Fresh(second) = cache.claim("order-1", None)? else { panic!("taken over") };
    /// assert_eq!(slow.commit(), Err(Error::ClaimLost));
    /// assert_eq!(second.commit(), Ok(()));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn commit(mut self) -> Result<(), Error> {
        let (hash, key, generation) = self.close();
        let inner = &*self.cache.inner;
        let call = inner.next_call();
        let time = inner.commit_unsettled(hash, key, generation, call).ok_or(Error::ClaimLost)?;
        Ok(inner.settle_commits(&[(hash, key, time)], call)?)
    }

    /// Gives up what dropping it would give up.
    pub(super) fn close(&mut self) -> (IndexHash, Fingerprint, u64) {
        self.is_open = false;
        (self.hash, self.key, self.generation)
    }

    /// Gives the claim up, as dropping it does.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// claim.abort();
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Fresh(_)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn abort(self) {}
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_open {
            let (hash, key, generation) = (self.hash, self.key, self.generation);
            self.cache.inner.with_caught_up(hash, |shard| shard.abort(hash, key, generation));
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("key", &self.key).field("generation", &self.generation).finish_non_exhaustive()
    }
}
