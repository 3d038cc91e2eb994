//! The shards with or without a journal: the way of a call is chosen here, once.
//!
//! ```text
//! DedupCache, Claim ──Arc──► Owner ──Arc──► Core ◄──Arc── the thread of `commit_async`, if any
//! DedupCache ───────────────────────Arc───► Core
//! ```
//!
//! That thread must not keep the cache alive: the last handle or claim drops the owner, which ends
//! the thread and waits for it. A handle has a way of its own to the core, as one more step there
//! would show on the hot path (`sync::insert` took 1.16 of the time).

use super::batch;
use super::journal::Journal;
use super::shards::{Admitted, Shards};
use crate::engine::{ClaimId, IndexHash};
use crate::journal;
use crate::watermark::Progress;
use crate::{Claimed, Error, Fingerprint, Timestamp, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the thread of `commit_async` may wait for a larger group, if at all.
const PATIENCE_MIN: Duration = Duration::from_micros(if cfg!(all(test, shuttle)) { u64::MAX } else { 10 });
const PATIENCE_MAX: Duration = Duration::from_micros(300);

/// What handles and claims own together.
pub(super) struct Owner {
    core: Arc<Core>,
}

impl Owner {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    /// As `commit_all`, without waiting for a disk in this thread. What has begun is carried out,
    /// whatever becomes of the future. Returns the positions of the claims that were lost.
    pub(super) async fn commit_async(&self, claims: &[ClaimId]) -> Result<Vec<usize>, Error> {
        let mut lost = Vec::new();
        let Core { shards, journal: Some(journal) } = &*self.core else {
            self.commit_all(claims, |at| lost.push(at))?;
            return Ok(lost);
        };
        let begun = journal.begin(shards, claims, |at| lost.push(at));
        if begun.claims.is_empty() {
            return Ok(lost);
        }
        let core = Arc::clone(&self.core);
        match journal.queue.submit(begun, move || core.carry_out_commits()) {
            Ok(ticketed) => ticketed.await?,
            Err((begun, error)) => {
                begun.claims.iter().for_each(|claim| self.abort(claim));
                return Err(error.map_or_else(journal::Error::closed, journal::Error::no_thread).into());
            }
        }
        Ok(lost)
    }
}

impl std::ops::Deref for Owner {
    type Target = Core;

    #[inline(always)]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(journal) = &self.core.journal {
            journal.queue.close();
        }
    }
}

pub(super) struct Core {
    pub(super) shards: Shards,
    pub(super) journal: Option<Journal>,
}

impl Core {
    /// Ends the journal; the directory is free then.
    pub(super) fn close(&self) -> Result<(), Error> {
        match &self.journal {
            None => Ok(()),
            Some(journal) => Ok(journal.close(&self.shards)?),
        }
    }

    /// What the thread does for as long as there is a cache.
    fn carry_out_commits(&self) {
        let Some(journal) = &self.journal else { return };
        let (mut expected, mut patience) = (0, Duration::ZERO);
        while let Some((begun, tickets)) = journal.queue.take(expected, patience) {
            let since = Instant::now();
            let outcome = journal.finish(&self.shards, begun);
            // A fraction of what a write takes, and nothing where a write is fast.
            patience = since.elapsed() / 8;
            patience = if patience < PATIENCE_MIN { Duration::ZERO } else { patience.min(PATIENCE_MAX) };
            expected = tickets.len();
            tickets.iter().for_each(|ticket| ticket.complete(outcome.clone()));
        }
    }

    #[inline]
    pub(super) fn insert(&self, hash: IndexHash, key: Fingerprint, time: Admitted) -> Result<Verdict, Error> {
        match &self.journal {
            None => self.shards.insert(hash, key, time),
            Some(journal) => journal.insert(&self.shards, hash, key, time),
        }
    }

    pub(super) fn insert_batch(
        &self,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), Error> {
        verdicts.clear();
        match &self.journal {
            None => batch::insert(&self.shards, entries, verdicts, None),
            Some(journal) => journal.insert_batch(&self.shards, entries, verdicts),
        }
    }

    pub(super) fn claim(&self, key: Fingerprint, time: Admitted) -> Result<Claimed<ClaimId>, Error> {
        let shards = &self.shards;
        let hash = shards.hasher.hash(key);
        let now = shards.now();
        let claimed = shards.with_quota(hash, |shard| shard.claim(hash, key, time.past(shard.watermark()), now))?;
        claimed.try_map(|generation| {
            let claim = ClaimId { hash, key, generation };
            if let Some(journal) = &self.journal
                && let Err(error) = journal.shared.check()
            {
                // What could not be committed must not be begun.
                shards.with_caught_up(hash, |shard| shard.undo_claim(&claim));
                return Err(error.into());
            }
            Ok(claim)
        })
    }

    pub(super) fn commit(&self, claim: &ClaimId) -> Result<(), Error> {
        let mut is_lost = false;
        match &self.journal {
            None => is_lost = self.commit_in_memory(claim).is_none(),
            Some(journal) => journal.commit(&self.shards, std::slice::from_ref(claim), |_| is_lost = true)?,
        }
        if is_lost { Err(Error::ClaimLost) } else { Ok(()) }
    }

    fn commit_in_memory(&self, claim: &ClaimId) -> Option<u64> {
        self.shards.with_caught_up(claim.hash, |shard| shard.commit(claim))
    }

    /// `lost` hears, by position, of the claims that were lost. After an error none is committed,
    /// and all are released.
    pub(super) fn commit_all(&self, claims: &[ClaimId], mut lost: impl FnMut(usize)) -> Result<(), Error> {
        if let Some(journal) = &self.journal {
            return Ok(journal.commit(&self.shards, claims, lost)?);
        }
        for (at, claim) in claims.iter().enumerate() {
            if self.commit_in_memory(claim).is_none() {
                lost(at);
            }
        }
        Ok(())
    }

    pub(super) fn abort(&self, claim: &ClaimId) {
        self.shards.with_caught_up(claim.hash, |shard| shard.abort(claim));
    }

    pub(super) fn remove(&self, key: Fingerprint) -> Result<bool, Error> {
        let hash = self.shards.hasher.hash(key);
        match &self.journal {
            None => Ok(self.shards.with_caught_up(hash, |shard| shard.remove(hash, key))),
            Some(journal) => Ok(journal.remove(&self.shards, hash, key)?),
        }
    }

    /// Changes clock or watermark, and does what follows from that.
    pub(super) fn progress(&self, change: impl FnOnce(&mut Progress) -> Result<(), Error>) -> Result<(), Error> {
        self.shards.change_progress(change).inspect_err(|error| self.shards.refusals.emit(error))?;
        self.shards.reclaim_some();
        match &self.journal {
            None => Ok(()),
            Some(journal) => Ok(journal.commit_watermark(&self.shards)?),
        }
    }
}
