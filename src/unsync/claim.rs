//! Claims of a cache of one consumer: dropping one releases it, without a lock or an atomic on the
//! usual path.
//!
//! A claim must not borrow the cache, or only one could be open at a time. So a dropped claim
//! leaves its identity in a list that it shares with the cache, and the cache releases it at its
//! next call. The list is behind a lock, which only drops and the calls after them take. Claims
//! hold the list by counted references that are handed out and taken back rather than counted up
//! and down: the cache keeps those of committed claims for the next ones.

use crate::engine::ClaimId;
use crate::locks::{AtomicBool, Mutex, Ordering::Relaxed};
use std::sync::Arc;

/// The right to process one message: what [`DedupCache::claim`](super::DedupCache::claim) hands
/// out, to be returned to [`commit`](super::DedupCache::commit) or
/// [`abort`](super::DedupCache::abort).
///
/// Dropped, in a panic too, it is released, and a redelivery is `Fresh` again. Several can be open
/// at a time. A claim that is leaked keeps its key `InFlight` until its
/// [lease](crate::Config#structfield.lease) ends.
#[must_use = "a claim that is dropped is released"]
pub struct Claim {
    id: ClaimId,
    /// Empty once the claim was taken back.
    dropped: Option<Arc<Dropped>>,
}

/// Claims that were dropped and not yet released.
#[derive(Default)]
struct Dropped {
    has_some: AtomicBool,
    ids: Mutex<Vec<ClaimId>>,
}

/// The cache's end of the list.
#[derive(Default)]
pub(super) struct Claims {
    dropped: Arc<Dropped>,
    /// References for the next claims.
    spare: Vec<Arc<Dropped>>,
}

impl Claims {
    #[inline]
    pub(super) fn hand_out(&mut self, id: ClaimId) -> Claim {
        let dropped = self.spare.pop().unwrap_or_else(|| Arc::clone(&self.dropped));
        Claim { id, dropped: Some(dropped) }
    }

    /// What to commit or abort. Dropping the claim then does nothing, unless it is another cache's:
    /// the shard does not know its identity, and dropping it releases it there.
    #[inline]
    pub(super) fn take_back<'a>(&mut self, claim: &'a mut Claim) -> &'a ClaimId {
        if let Some(own) = claim.dropped.take_if(|dropped| Arc::ptr_eq(dropped, &self.dropped)) {
            self.spare.push(own);
        }
        &claim.id
    }

    /// How many of the claims that were dropped and not yet released are still open.
    pub(super) fn count_dropped(&self, is_open: impl Fn(&ClaimId) -> bool) -> usize {
        self.dropped.ids.lock().iter().filter(|id| is_open(id)).count()
    }

    /// Costs a plain load where no claim was dropped.
    #[inline]
    pub(super) fn release_dropped(&self, release: impl FnMut(ClaimId)) {
        if self.dropped.has_some.load(Relaxed) {
            self.dropped.take().into_iter().for_each(release);
        }
    }
}

impl Dropped {
    #[cold]
    fn add(&self, id: ClaimId) {
        let mut ids = self.ids.lock();
        ids.push(id);
        self.has_some.store(true, Relaxed);
    }

    #[cold]
    fn take(&self) -> Vec<ClaimId> {
        let mut ids = self.ids.lock();
        self.has_some.store(false, Relaxed);
        std::mem::take(&mut ids)
    }
}

impl Drop for Claim {
    #[inline]
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.add(self.id);
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Claim").field(&self.id).finish()
    }
}
