//! The journal of a cache of one consumer: what a call changes is in the journal before the call
//! returns, or undone.

use super::state::State;
use crate::engine::ClaimId;
use crate::journal::{self, Ops, Recovery, STEPS_PER_PROGRESS, Writer};
use crate::{Fingerprint, Timestamp, Verdict};

pub(super) struct Journal {
    pub(super) writer: Writer,
    pub(super) recovery: Recovery,
    /// Kept, so that a call allocates nothing.
    ops: Ops,
}

impl Journal {
    pub(super) fn new(writer: Writer, recovery: Recovery) -> Self {
        Self { writer, recovery, ops: Ops::default() }
    }

    #[inline(never)]
    pub(super) fn insert(&mut self, state: &mut State, key: Fingerprint, time: u64) -> Result<(), journal::Error> {
        self.insert_all(state, std::iter::once((key, time))).inspect_err(|_| state.undo_insert(key))
    }

    /// The answered ones of `entries`. After an error `verdicts` is empty.
    pub(super) fn insert_batch(
        &mut self,
        state: &mut State,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), journal::Error> {
        let fresh = || entries.iter().zip(verdicts.iter()).filter(|(_, verdict)| **verdict == Verdict::Fresh);
        let inserted = self.insert_all(state, fresh().map(|((key, time), _)| (*key, time.as_millis())));
        if inserted.is_err() {
            fresh().for_each(|((key, _), _)| state.undo_insert(*key));
            verdicts.clear();
        }
        inserted
    }

    /// Keys that the shard holds already.
    fn insert_all(
        &mut self,
        state: &State,
        keys: impl Iterator<Item = (Fingerprint, u64)>,
    ) -> Result<(), journal::Error> {
        self.ops.clear();
        keys.for_each(|(key, time)| self.ops.insert(key, time));
        if self.ops.is_empty() {
            return Ok(());
        }
        self.writer.commit(&self.ops, state.progress.watermark())?;
        self.maintain(state);
        Ok(())
    }

    /// Commits the claims that are still open; `lost` hears of the others, by position. After an
    /// error none is committed, and all are released.
    pub(super) fn commit(
        &mut self,
        state: &mut State,
        claims: &[ClaimId],
        mut lost: impl FnMut(usize),
    ) -> Result<(), journal::Error> {
        self.ops.clear();
        for (at, claim) in claims.iter().enumerate() {
            match state.shard.begin_commit(claim) {
                Some(time) => self.ops.insert(claim.key, time),
                None => lost(at),
            }
        }
        if self.ops.is_empty() {
            return Ok(());
        }
        let committed = self.writer.commit(&self.ops, state.progress.watermark());
        for claim in claims {
            match committed {
                Ok(()) => drop(state.shard.commit(claim)), // does nothing to one that was lost
                Err(_) => state.shard.abort(claim),
            }
        }
        self.maintain(state);
        committed
    }

    /// The tombstone is written before the key is removed. If it cannot be written, the key stays.
    pub(super) fn remove(&mut self, state: &mut State, key: Fingerprint) -> Result<bool, journal::Error> {
        if journal::Cache::held(state, key) == crate::engine::Held::No {
            return Ok(false);
        }
        self.ops.clear();
        self.ops.remove(key);
        self.writer.commit(&self.ops, state.progress.watermark())?;
        let is_removed = state.remove(key);
        self.maintain(state);
        Ok(is_removed)
    }

    /// Writes the watermark if it has moved.
    pub(super) fn commit_watermark(&mut self, state: &State) -> Result<(), journal::Error> {
        let watermark = state.progress.watermark();
        self.ops.clear();
        let committed = self.writer.commit(&self.ops, watermark);
        self.writer.maintain(state, watermark, STEPS_PER_PROGRESS);
        committed
    }

    fn maintain(&mut self, state: &State) {
        if self.writer.is_due() {
            self.writer.maintain(state, state.progress.watermark(), 1);
        }
    }
}
