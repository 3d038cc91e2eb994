//! A claim that releases itself.

use super::ownership::Owner;
use crate::Error;
use crate::engine::ClaimId;
use std::sync::Arc;

/// The right to process one message: what [`DedupCache::claim`](super::DedupCache::claim) hands
/// out.
///
/// It owns a handle to its cache, so that it can be sent to another thread and live across an
/// `.await`. Dropped without a [`commit`](Self::commit), in a panic too, it is released, and a
/// redelivery is `Fresh` again. A claim that is leaked keeps its key `InFlight` until its
/// [lease](crate::Config#structfield.lease) ends.
#[must_use = "a claim that is dropped is released"]
pub struct Claim {
    owner: Arc<Owner>,
    id: ClaimId,
    is_open: bool,
}

impl Claim {
    pub(super) fn new(owner: Arc<Owner>, id: ClaimId) -> Self {
        Self { owner, id, is_open: true }
    }

    /// Commits the key: from now on its copies are `Duplicate`. Call it between the effect and the
    /// acknowledgement.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if the claim outlived its lease and was taken over, or was swept
    /// because no copy can come any more. With a journal, [`Error::Journal`]: the claim is
    /// released. In both cases do not acknowledge.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Error, Horizon, sync::DedupCache};
    /// # use std::time::Duration;
    /// # let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon).lease(Duration::from_millis(1)))?;
    /// let Claimed::Fresh(slow) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// std::thread::sleep(Duration::from_millis(5));
    /// let Claimed::Fresh(second) = cache.claim("order-1", None)? else { panic!("taken over") };
    /// assert_eq!(slow.commit(), Err(Error::ClaimLost));
    /// assert_eq!(second.commit(), Ok(()));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn commit(mut self) -> Result<(), Error> {
        let id = self.close();
        self.owner.commit(&id)
    }

    /// As [`commit`](Self::commit), for async tasks: no thread of their runtime waits for a disk.
    /// Without a journal it is ready at once.
    ///
    /// With a journal, a thread of the cache writes what tasks commit, and any number of them share
    /// one write and one sync. The first call starts the thread. It ends with the last handle and
    /// claim of the cache, which wait for it, and needs no runtime.
    ///
    /// A future that is dropped before it was polled releases the claim. Dropped later, it changes
    /// nothing: the commit is carried out, and if it fails the claim is released.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn commit_async(mut self) -> Result<(), Error> {
        let id = self.close();
        match &*self.owner.commit_async(&[id]).await? {
            [] => Ok(()),
            _ => Err(Error::ClaimLost),
        }
    }

    /// Releases the claim, as dropping it does.
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

    /// Dropping the claim does nothing any more.
    fn close(&mut self) -> ClaimId {
        self.is_open = false;
        self.id
    }

    /// What `owner` is to commit. A claim of another cache is dropped here, which releases it
    /// there, and its shards do not know its identity.
    pub(super) fn hand_over(mut self, owner: &Arc<Owner>) -> ClaimId {
        self.is_open = !Arc::ptr_eq(&self.owner, owner);
        self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_open {
            self.owner.abort(&self.id);
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claim").field(&self.id).finish()
    }
}
