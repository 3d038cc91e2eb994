//! The journal of a cache of many threads. No lock of a shard is held while it is written: until then, the keys of a call
//! are in flight to all others.

use super::inner::{Admitted, Inner};
use super::{Claim, DedupCache, batch};
use crate::config::Checked;
use crate::engine::{Full, Held, IndexHash};
use crate::journal::{Directory, Keys, Opening, Ops, Restore, STEPS_PER_OPENING, STEPS_PER_PROGRESS, Shared, Storage};
use crate::{Config, Durability, Error, Fingerprint, JournalError, OpenOptions, Recovery, Timestamp, Verdict};
use std::path::Path;
use std::sync::Arc;

/// Entries of a batch that are recorded by one write. They are unsettled for that long.
const ENTRIES_PER_WRITE: usize = 1 << 14;

pub(super) struct Journal {
    pub(super) shared: Shared,
    recovery: Recovery,
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
    /// Threads that commit while another writes are written together next: with [`Durability::Power`], many share one
    /// sync. Until a key is written, its copies are `InFlight`.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`], and [`Error::Full`] if `max_keys` is less than what the journal holds; what [`Config`] says about
    /// the ranges of its fields.
    ///
    /// ```
    /// use oncewheel::{Claimed, Config, Durability, Horizon, sync::DedupCache};
    /// use std::time::Duration;
    ///
    /// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-sync-{}", std::process::id()));
    /// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
    /// let cache = DedupCache::open(&dir, config.clone(), Durability::Process)?;
    /// let Claimed::Fresh(done) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// done.commit()?;
    /// let Claimed::Fresh(cut_short) = cache.claim("order-2", None)? else { panic!("never seen") };
    /// drop((cut_short, cache)); // the process ends here
    ///
    /// let cache = DedupCache::open(&dir, config, Durability::Process)?;
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
        let mut inner = Inner::new(&config.secret(opening.secret()))?;
        let (mut writer, recovery) = opening.restore(&mut inner, durability, rule.span, options)?;
        writer.maintain(&inner, inner.published.watermark(), STEPS_PER_OPENING);
        inner.journal = Some(Journal { shared: Shared::new(writer), recovery });
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the opening of the journal found; `None` without one.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.inner.journal.as_ref().map(|journal| &journal.recovery)
    }

    /// Commits many claims with one write, and with [`Durability::Power`] one sync: what a thread that holds many is served
    /// best with. Returns which of them, counted from 0, were lost as [`Claim::commit`] says: do not acknowledge those.
    /// There are none without `max_processing_time`. The claims must be this cache's; those of another count as lost,
    /// and are given up.
    ///
    /// What waits to be committed is not acknowledged: `min_msg_time` must not pass it meanwhile. One that is a consumer's
    /// position of reading would, and after a crash such messages come out `TooOld`.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]: none is committed, and all are given up.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
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
    pub fn commit_batch(&self, claims: impl IntoIterator<Item = Claim>) -> Result<Vec<usize>, Error> {
        let inner = &*self.inner;
        let call = inner.next_call();
        let claims: Vec<Claim> = claims.into_iter().collect(); // before anything is done: it may panic
        let mut lost = Vec::new();
        let mut committed = Vec::new();
        for (at, mut claim) in claims.into_iter().enumerate() {
            if !Arc::ptr_eq(&claim.cache.inner, &self.inner) {
                lost.push(at);
                continue;
            }
            let (hash, key, generation) = claim.close();
            match inner.commit_unsettled(hash, key, generation, call) {
                Some(time) => committed.push((hash, key, time)),
                None => lost.push(at),
            }
        }
        inner.settle_commits(&committed, call)?;
        Ok(lost)
    }
}

impl Inner {
    /// 0 without a journal.
    pub(super) fn next_call(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.shared.next_call())
    }

    /// Whether what is claimed now could be committed.
    pub(super) fn check_journal(&self) -> Result<(), JournalError> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.shared.check())
    }

    pub(super) fn insert_durably(
        &self,
        journal: &Journal,
        hash: IndexHash,
        key: Fingerprint,
        time: Admitted,
    ) -> Result<Verdict, Error> {
        let call = journal.shared.next_call();
        let verdict = self.insert_unsettled(hash, key, time, call)?;
        if verdict != Verdict::Fresh {
            return Ok(verdict);
        }
        // Where the watermark has moved on, to a later time than in memory: late is safe.
        let time = time.past(self.published.watermark());
        let mut ops = Ops::default();
        ops.record(key, time);
        let recorded = self.record(journal, &mut ops);
        self.with_caught_up(hash, |shard| {
            shard.clear_pending(call);
            if recorded.is_err() {
                shard.undo_insert(hash, key);
            }
        });
        self.maintain(journal);
        recorded?;
        Ok(verdict)
    }

    /// `call` 0: without a journal.
    pub(super) fn insert_unsettled(
        &self,
        hash: IndexHash,
        key: Fingerprint,
        time: Admitted,
        call: u64,
    ) -> Result<Verdict, Full> {
        let now = self.now();
        self.with_room(hash, |shard| {
            shard.set_call(call);
            let inserted = shard.insert(hash, key, time.past(shard.watermark()), now);
            shard.set_call(0);
            if call != 0 && inserted == Ok(Verdict::Fresh) {
                shard.mark_pending(key, call);
            }
            inserted
        })
    }

    /// Moves a claim's key to the committed ones; its message's time, or `None` if the claim was lost.
    pub(super) fn commit_unsettled(
        &self,
        hash: IndexHash,
        key: Fingerprint,
        generation: u64,
        call: u64,
    ) -> Option<u64> {
        self.with_caught_up(hash, |shard| {
            let time = shard.commit(hash, key, generation)?;
            if call != 0 {
                shard.mark_pending(key, call);
            }
            Some(time)
        })
    }

    /// Records what `commit_unsettled` has moved, or takes it back.
    pub(super) fn settle_commits(
        &self,
        committed: &[(IndexHash, Fingerprint, u64)],
        call: u64,
    ) -> Result<(), JournalError> {
        let Some(journal) = self.journal.as_ref().filter(|_| !committed.is_empty()) else { return Ok(()) };
        let mut ops = Ops::default();
        committed.iter().for_each(|(_, key, time)| ops.record(*key, *time));
        let recorded = self.record(journal, &mut ops);
        if recorded.is_err() {
            for (hash, key, _) in committed {
                self.with_caught_up(*hash, |shard| shard.remove(*hash, *key));
            }
        }
        for (hash, _, _) in committed {
            self.with_caught_up(*hash, |shard| shard.clear_pending(call));
        }
        self.maintain(journal);
        recorded
    }

    pub(super) fn insert_batch_durably(
        &self,
        journal: &Journal,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), Error> {
        verdicts.clear();
        let mut ops = Ops::default();
        for part in entries.chunks(ENTRIES_PER_WRITE) {
            let call = journal.shared.next_call();
            let first = verdicts.len();
            let ceiling = self.published.ceiling();
            let inserted = batch::insert_part(self, part, verdicts, call);
            let answers = &verdicts[first..];
            let fresh = || part.iter().zip(answers).filter(|(_, verdict)| **verdict == Verdict::Fresh);
            // A clamped time may be clamped to a later one here than in memory: late is safe. The first `now` of a manual clock
            // brings the ceiling down.
            let ceiling = ceiling.max(self.published.ceiling());
            fresh().for_each(|((key, time), _)| ops.record(*key, time.as_millis().min(ceiling)));
            let recorded = if ops.is_empty() { Ok(()) } else { self.record(journal, &mut ops) };
            if recorded.is_err() {
                for ((key, _), _) in fresh() {
                    let hash = self.hasher.hash(*key);
                    self.with_caught_up(hash, |shard| shard.undo_insert(hash, *key));
                }
            }
            for shard in 0..self.shards.len() {
                self.with_entered(shard, |shard| shard.clear_pending(call));
            }
            if let Err(error) = recorded {
                verdicts.truncate(first);
                return Err(error.into());
            }
            self.maintain(journal);
            inserted?;
        }
        Ok(())
    }

    /// Before the key goes from memory. If it cannot be written, the key stays.
    pub(super) fn forget_durably(&self, journal: &Journal, hash: IndexHash, key: Fingerprint) -> bool {
        let call = journal.shared.next_call();
        let is_held = self.with_caught_up(hash, |shard| {
            let is_held = shard.held(hash, key) == Held::Yes;
            if is_held {
                shard.mark_pending(key, call);
            }
            is_held
        });
        if !is_held {
            return false;
        }
        let mut ops = Ops::default();
        ops.forget(key);
        let recorded = self.record(journal, &mut ops);
        journal.shared.note(&recorded);
        let is_gone = self.with_caught_up(hash, |shard| {
            shard.clear_pending(call);
            recorded.is_ok() && shard.remove(hash, key)
        });
        self.maintain(journal);
        is_gone
    }

    /// Writes the watermark if it has moved.
    pub(super) fn record_progress(&self) -> Result<(), JournalError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let recorded = self.record(journal, &mut Ops::default());
        journal.shared.note(&recorded);
        journal.shared.maintain(self, self.published.watermark(), STEPS_PER_PROGRESS, false);
        recorded
    }

    fn record(&self, journal: &Journal, ops: &mut Ops) -> Result<(), JournalError> {
        journal.shared.record(ops, self.published.watermark())
    }

    fn maintain(&self, journal: &Journal) {
        journal.shared.maintain(self, self.published.watermark(), 1, true);
    }
}

#[cfg(test)]
impl DedupCache {
    pub(crate) fn holds(&self, key: Fingerprint) -> bool {
        self.inner.held(key) == Held::Yes
    }

    pub(crate) fn with_journal<R>(&mut self, call: impl FnOnce(&mut crate::journal::Writer, &dyn Keys, u64) -> R) -> R {
        let (inner, watermark) = (&*self.inner, self.inner.published.watermark());
        let journal = inner.journal.as_ref().expect("opened with a journal");
        journal.shared.with_writer(|writer| call(writer, inner, watermark))
    }
}

impl Keys for Inner {
    fn len(&self) -> usize {
        self.shards.iter().map(|local| local.lock().shard.len()).sum()
    }

    fn held(&self, key: Fingerprint) -> Held {
        let hash = self.hasher.hash(key);
        self.shards[hash.shard(self.shards.len())].lock().shard.held(hash, key)
    }

    fn watermark(&self) -> u64 {
        self.published.watermark()
    }
}

impl Restore for Inner {
    fn advance(&mut self, watermark: u64) {
        self.change_progress(|progress| progress.restore(watermark));
    }

    fn restore(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        batch::restore(self, entries)
    }

    fn remove(&mut self, key: Fingerprint) {
        let hash = self.hasher.hash(key);
        self.with_caught_up(hash, |shard| shard.remove(hash, key));
    }

    fn len(&self) -> usize {
        Keys::len(self)
    }

    fn evicts(&self) -> bool {
        self.forgets_oldest
    }
}
