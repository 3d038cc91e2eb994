//! The shards with or without a journal: the way of a call is chosen here, once.

use super::batch;
use super::journal::Journal;
use super::shards::{Admitted, Shards};
use crate::engine::{ClaimId, IndexHash};
use crate::watermark::Progress;
use crate::{Claimed, Error, Fingerprint, Timestamp, Verdict};

pub(super) struct Inner {
    pub(super) shards: Shards,
    pub(super) journal: Option<Journal>,
}

impl Inner {
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

    /// `lost` hears, by position, of the claims that were lost. After an error none is committed, and
    /// all are released.
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
        self.shards.change_progress(change)?;
        self.shards.reclaim_some();
        match &self.journal {
            None => Ok(()),
            Some(journal) => Ok(journal.commit_watermark(&self.shards)?),
        }
    }
}
