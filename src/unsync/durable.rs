//! The journal of a cache of one consumer: what is recorded in memory is written before the call returns, or taken back.

use super::{Claim, DedupCache};
use crate::config::Checked;
use crate::engine::{Full, Held, IndexHash, Shard};
use crate::journal::{Directory, Keys, Opening, Ops, Restore, STEPS_PER_OPENING, STEPS_PER_PROGRESS, Storage, Writer};
use crate::{Config, Durability, Error, Fingerprint, JournalError, OpenOptions, Recovery, Timestamp, Verdict};
use std::path::Path;

pub(super) struct Journal {
    pub(super) writer: Writer,
    recovery: Recovery,
    /// Kept, so that a call allocates nothing.
    ops: Ops,
}

impl DedupCache {
    /// A cache that knows what it held when it was last open in `dir`, and keeps a journal there; see the
    /// [crate documentation](crate#restarts). With [`Durability::Memory`] it is a [`new`](Self::new) one and `dir` is not
    /// touched.
    ///
    /// Reads the journal: some 100 ns a key. Bytes that are damaged are skipped and reported by
    /// [`recovery`](Self::recovery). The horizon may differ from last time: with a longer one, keys that the shorter one had
    /// forgotten by then may come out `Fresh` until the watermark has moved on by the difference. `max_keys` may differ too
    /// if the keys still fit. Leave [`Config::secret`] out: a random one is made for a new directory and kept there, in a
    /// file that only its owner may read.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`], and [`Error::Full`] if `max_keys` is less than what the journal holds; what [`Config`] says about
    /// the ranges of its fields.
    ///
    /// ```
    /// use oncewheel::{Claimed, Config, Durability, Horizon, unsync::DedupCache};
    /// use std::time::Duration;
    ///
    /// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-unsync-{}", std::process::id()));
    /// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
    /// let mut cache = DedupCache::open(&dir, config.clone(), Durability::Process)?;
    /// let Claimed::Fresh(done) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// cache.commit(done)?;
    /// let Claimed::Fresh(cut_short) = cache.claim("order-2", None)? else { panic!("never seen") };
    /// drop((cut_short, cache)); // the process ends here
    ///
    /// let mut cache = DedupCache::open(&dir, config, Durability::Process)?;
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Duplicate));
    /// assert!(matches!(cache.claim("order-2", None)?, Claimed::Fresh(_)));
    /// # drop(cache);
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn open(dir: impl AsRef<Path>, config: Config, durability: Durability) -> Result<Self, Error> {
        Self::open_with(dir, config, durability, OpenOptions::new())
    }

    /// As [`open`](Self::open), with a say in what is done about damage, and with reports of progress. See [`OpenOptions`]
    /// for an example.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(
        dir: impl AsRef<Path>,
        config: Config,
        durability: Durability,
        options: OpenOptions<'_>,
    ) -> Result<Self, Error> {
        config.check()?;
        if durability == Durability::Memory {
            return Self::new(config);
        }
        Self::open_in(Box::new(Directory::open(dir.as_ref())?), config, durability, options)
    }

    pub(crate) fn open_in(
        storage: Box<dyn Storage>,
        config: Config,
        durability: Durability,
        options: OpenOptions<'_>,
    ) -> Result<Self, Error> {
        let Checked { rule, .. } = config.check()?;
        let opening = Opening::start(storage, config.secret)?;
        let mut cache = Self::new(config.secret(opening.secret()))?;
        let (mut writer, recovery) = opening.restore(&mut cache, durability, rule.span, options)?;
        writer.maintain(&cache.shard, cache.progress.watermark(), STEPS_PER_OPENING);
        cache.journal = Some(Box::new(Journal { writer, recovery, ops: Ops::default() }));
        Ok(cache)
    }

    /// What the opening of the journal found; `None` without one.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.journal.as_ref().map(|journal| &journal.recovery)
    }

    /// Commits many claims with one write, and with [`Durability::Power`] one sync, where [`commit`](Self::commit) takes
    /// one each. Returns which of them, counted from 0, were lost as `commit` says: do not acknowledge those. There are
    /// none without `max_processing_time`.
    ///
    /// What waits to be committed is not acknowledged: `min_msg_time` must not pass it meanwhile. One that is a consumer's
    /// position of reading would, and after a crash such messages come out `TooOld`.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]: none is committed, and all are given up.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let mut claims = Vec::new();
    /// for key in ["order-1", "order-2"] {
    ///     if let Claimed::Fresh(claim) = cache.claim(key, None)? {
    ///         claims.push(claim); // after the effect
    ///     }
    /// }
    /// assert!(cache.commit_batch(claims)?.is_empty());
    /// assert!(matches!(cache.claim("order-2", None)?, Claimed::Duplicate));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn commit_batch(&mut self, claims: impl IntoIterator<Item = Claim>) -> Result<Vec<usize>, Error> {
        let claims: Vec<Claim> = claims.into_iter().collect(); // before anything is done: it may panic
        let mut lost = Vec::new();
        let mut committed = Vec::new();
        for (at, claim) in claims.into_iter().enumerate() {
            match self.shard.commit(claim.hash, claim.key, claim.generation) {
                Some(time) => committed.push((claim.hash, claim.key, time)),
                None => lost.push(at),
            }
        }
        self.record(committed.iter().map(|(_, key, time)| (*key, *time))).inspect_err(|_| {
            committed.iter().for_each(|(hash, key, _)| {
                self.shard.remove(*hash, *key);
            });
        })?;
        Ok(lost)
    }

    /// Writes keys that the shard holds already; they are to be taken back if that fails.
    fn record(&mut self, keys: impl Iterator<Item = (Fingerprint, u64)>) -> Result<(), JournalError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.ops.clear();
        keys.for_each(|(key, time)| journal.ops.record(key, time));
        if journal.ops.is_empty() {
            return Ok(());
        }
        journal.writer.record(&journal.ops, self.progress.watermark())?;
        self.maintain();
        Ok(())
    }

    pub(super) fn maintain(&mut self) {
        if let Some(journal) = &mut self.journal
            && journal.writer.is_due()
        {
            journal.writer.maintain(&self.shard, self.progress.watermark(), 1);
        }
    }

    #[inline(never)]
    pub(super) fn record_insert(&mut self, hash: IndexHash, key: Fingerprint, time: u64) -> Result<(), JournalError> {
        self.record(std::iter::once((key, time))).inspect_err(|_| self.shard.undo_insert(hash, key))
    }

    /// The answered ones of `entries`, of which `verdicts` tells the fresh ones.
    pub(super) fn record_batch(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), JournalError> {
        let fresh = || entries.iter().zip(verdicts.iter()).filter(|(_, verdict)| **verdict == Verdict::Fresh);
        let recorded = self.record(fresh().map(|((key, time), _)| (*key, time.as_millis())));
        if recorded.is_err() {
            fresh().for_each(|((key, _), _)| self.shard.undo_insert(self.shard.hash(*key), *key));
            verdicts.clear();
        }
        recorded
    }

    pub(super) fn record_commit(&mut self, hash: IndexHash, key: Fingerprint, time: u64) -> Result<(), JournalError> {
        self.record(std::iter::once((key, time))).inspect_err(|_| {
            self.shard.remove(hash, key);
        })
    }

    /// Before the key goes from memory. If it cannot be written, the key stays.
    pub(super) fn record_forget(&mut self, hash: IndexHash, key: Fingerprint) -> bool {
        let Some(journal) = &mut self.journal else { return true };
        if self.shard.held(hash, key) == Held::No {
            return false;
        }
        journal.ops.clear();
        journal.ops.forget(key);
        let recorded = journal.writer.record(&journal.ops, self.progress.watermark());
        journal.writer.note(&recorded);
        recorded.is_ok()
    }

    /// Writes the watermark if it has moved.
    pub(super) fn record_progress(&mut self) -> Result<(), JournalError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let watermark = self.progress.watermark();
        journal.ops.clear();
        let recorded = journal.writer.record(&journal.ops, watermark);
        journal.writer.note(&recorded);
        journal.writer.maintain(&self.shard, watermark, STEPS_PER_PROGRESS);
        recorded
    }
}

#[cfg(any(test, fuzzing))]
impl DedupCache {
    pub(crate) fn holds(&self, key: Fingerprint) -> bool {
        Keys::held(&self.shard, key) == Held::Yes
    }

    #[cfg(test)]
    pub(crate) fn with_journal<R>(&mut self, call: impl FnOnce(&mut Writer, &dyn Keys, u64) -> R) -> R {
        let journal = self.journal.as_mut().expect("opened with a journal");
        call(&mut journal.writer, &self.shard, self.progress.watermark())
    }
}

impl Keys for Shard {
    fn len(&self) -> usize {
        self.len()
    }

    fn held(&self, key: Fingerprint) -> Held {
        self.held(self.hash(key), key)
    }

    fn watermark(&self) -> u64 {
        self.watermark()
    }
}

impl Restore for DedupCache {
    fn advance(&mut self, watermark: u64) {
        self.progress.restore(watermark);
        self.catch_up();
    }

    fn restore(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        self.shard.restore_batch(entries)
    }

    fn remove(&mut self, key: Fingerprint) {
        self.shard.remove(self.shard.hash(key), key);
    }

    fn len(&self) -> usize {
        self.shard.len()
    }

    fn evicts(&self) -> bool {
        self.shard.evicts()
    }
}
