//! The cache of one consumer: `&mut self`, no lock, no atomic on the usual path.

mod claim;
mod journal;
mod state;

pub use claim::Claim;

use crate::engine::{ClaimId, Full};
use crate::journal::{Directory, Durability, OpenOptions, Recovery, Storage};
use crate::watermark::Progress;
use crate::{
    Claimed, Committed, Config, ConfigError, Error, Fingerprint, Key, KeyHasher, MinMsgTime, Stats, Timestamp, Verdict,
    front,
};
use claim::Claims;
use journal::Journal;
use state::State;
use std::path::Path;

/// The dedup cache of a single consumer loop.
///
/// See the [crate documentation](crate) for what it promises. One thread reaches the highest rate
/// with [`insert_batch`](Self::insert_batch). Several consumers scale without limit with one such
/// cache for each partition of the queue, as long as all copies of a key come to the same
/// partition.
///
/// Methods mean the same as those of [`sync::DedupCache`](crate::sync::DedupCache), which has the
/// full description of each. What differs is stated here.
///
/// ```
/// use oncewheel::{Claimed, Config, Horizon, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30))
///     .max_retention(Duration::from_secs(4 * 86_400)); // as the queue is set
/// let mut cache = DedupCache::new(Config::new(horizon))?;
///
/// # let (key, stored_at) = ("transfer-17", Timestamp::now());
/// match cache.claim(key, stored_at)? {
///     Claimed::Fresh(claim) => {
///         // move the money, then:
///         cache.commit(claim)?;
///         // and acknowledge
///     }
///     Claimed::Duplicate => {} // acknowledge
///     Claimed::InFlight => {}  // leave it to come back
///     Claimed::TooOld => {}    // dead-letter it
/// }
/// # Ok::<(), oncewheel::Error>(())
/// ```
pub struct DedupCache {
    state: State,
    claims: Claims,
    journal: Option<Box<Journal>>,
}

impl DedupCache {
    /// An empty cache. Memory is taken as keys come.
    ///
    /// # Errors
    ///
    /// As [`Config`] documents the ranges of its fields.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let checked = config.check()?;
        Ok(Self::with_state(State::new(&config, checked, KeyHasher::of(config.secret)), None))
    }

    /// A cache that knows what it held when it was last open in `dir`, and keeps a journal there:
    /// as [`sync::DedupCache::open`](crate::sync::DedupCache::open). Each write and sync serves one
    /// call, or one batch.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]; [`Error::Config`], as [`Config`] documents the ranges of its fields.
    ///
    /// ```
    /// use oncewheel::{Claimed, Config, Horizon, journal::Durability, unsync::DedupCache};
    /// use std::time::Duration;
    ///
    /// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-unsync-{}", std::process::id()));
    /// let config = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30)));
    /// let mut cache = DedupCache::open(&dir, config.clone(), Durability::Process)?;
    /// let Claimed::Fresh(done) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// cache.commit(done)?;
    /// drop(cache); // the process ends here
    ///
    /// let mut cache = DedupCache::open(&dir, config, Durability::Process)?;
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Duplicate));
    /// # drop(cache);
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn open<'a>(dir: impl AsRef<Path>, config: Config, options: impl Into<OpenOptions<'a>>) -> Result<Self, Error> {
        let options = options.into();
        let lock_timeout = options.lock_timeout;
        Self::open_in(|| Ok(Box::new(Directory::open(dir.as_ref(), lock_timeout)?)), config, options)
    }

    pub(crate) fn open_in(
        storage: impl FnOnce() -> Result<Box<dyn Storage>, crate::journal::Error>,
        config: Config,
        options: OpenOptions<'_>,
    ) -> Result<Self, Error> {
        if options.durability == Durability::Memory {
            return Ok(Self::new(config)?);
        }
        let checked = config.check()?;
        let make = |secret| State::new(&config, checked, KeyHasher::new(secret));
        let opened = crate::journal::open(storage()?, config.secret, checked.rule.span, options, make);
        let (state, writer, recovery) = opened?;
        Ok(Self::with_state(state, Some(Box::new(Journal::new(writer, recovery)))))
    }

    fn with_state(state: State, journal: Option<Box<Journal>>) -> Self {
        Self { state, claims: Claims::default(), journal }
    }

    /// What the opening of the journal found; `None` without a journal.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.journal.as_ref().map(|journal| &journal.recovery)
    }

    /// Inserts a key on sight and answers whether it was known: as
    /// [`sync::DedupCache::insert`](crate::sync::DedupCache::insert). Costs one cache miss: 70 to
    /// 140 ns at 1 to 10 million keys.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not
    /// advanced yet. With a journal, [`Error::Journal`].
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    #[inline]
    pub fn insert(&mut self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Verdict, Error> {
        let msg_time = msg_time.into();
        self.release_dropped();
        let (hash, key, time) = self.state.enter(key, msg_time)?;
        let (verdict, time) = match self.state.shard.insert(hash, key, time, self.state.progress.now()) {
            Ok(verdict) => (verdict, time),
            Err(Full) => self.state.insert_once_more(hash, key, msg_time)?,
        };
        if verdict == Verdict::Fresh
            && let Some(journal) = &mut self.journal
        {
            journal.insert(&mut self.state, key, time)?;
        }
        Ok(verdict)
    }

    /// Inserts many keys on sight, answering in order: the fastest way in, since the cache misses
    /// of a group of keys overlap. `verdicts` is cleared first and then holds one answer for each
    /// entry. Equal to as many single calls, but that the clock is read once.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] at the first entry that finds no quota: `verdicts` then holds the answers of
    /// those before it, which stand; the rest were not touched. With a journal, [`Error::Journal`]:
    /// nothing was inserted.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// # let stored_at = Timestamp::now();
    /// let batch: Vec<_> = ["a", "b", "a"].iter().map(|key| (cache.fingerprint(key), stored_at)).collect();
    /// let mut verdicts = Vec::new();
    /// cache.insert_batch(&batch, &mut verdicts)?;
    /// assert_eq!(verdicts, [Verdict::Fresh, Verdict::Fresh, Verdict::Duplicate]);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn insert_batch(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), Error> {
        self.release_dropped();
        let clamped = self.state.insert_batch(entries, verdicts);
        let is_full = verdicts.len() < entries.len();
        if let Some(journal) = &mut self.journal {
            journal.insert_batch(&mut self.state, clamped.as_deref().unwrap_or(entries), verdicts)?;
        }
        if is_full { Err(self.state.full()) } else { Ok(()) }
    }

    /// Claims a message for processing. On `Fresh`: effect, then [`commit`](Self::commit), then
    /// acknowledge. If the effect fails, drop the claim or [`abort`](Self::abort) it, and a
    /// redelivery will be `Fresh` again.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::InFlight));
    /// drop(claim); // the effect failed
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("released") };
    /// cache.commit(claim)?;
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Duplicate));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn claim(&mut self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Claimed<Claim>, Error> {
        let msg_time = msg_time.into();
        self.release_dropped();
        let (hash, key, time) = self.state.enter(key, msg_time)?;
        let claimed = match self.state.shard.claim(hash, key, time, self.state.progress.now()) {
            Ok(claimed) => claimed,
            Err(Full) => self.state.claim_once_more(hash, key, msg_time)?,
        };
        let generation = match claimed {
            Claimed::Fresh(generation) => generation,
            Claimed::Duplicate => return Ok(Claimed::Duplicate),
            Claimed::InFlight => return Ok(Claimed::InFlight),
            Claimed::TooOld => return Ok(Claimed::TooOld),
        };
        if let Some(journal) = &self.journal
            && let Err(error) = journal.writer.check()
        {
            // What could not be committed must not be begun.
            self.state.shard.undo_claim(&ClaimId { hash, key, generation });
            return Err(error.into());
        }
        Ok(Claimed::Fresh(self.claims.hand_out(ClaimId { hash, key, generation })))
    }

    /// Commits the key of a claim: from now on its copies are `Duplicate`.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if the claim outlived its lease and was taken over, or was swept
    /// because no copy can come any more; also for a claim of another cache, which is released.
    /// With a journal, [`Error::Journal`]: the claim is released. In all cases do not acknowledge.
    #[inline]
    pub fn commit(&mut self, mut claim: Claim) -> Result<(), Error> {
        let id = self.claims.take_back(&mut claim);
        if self.journal.is_some() {
            return self.commit_journaled(*id);
        }
        self.state.shard.commit(id).map(drop).ok_or(Error::ClaimLost)
    }

    /// Releases a claim at once; a claim that is dropped is released with the next call. Does
    /// nothing if the claim was lost already.
    pub fn abort(&mut self, mut claim: Claim) {
        self.state.shard.abort(self.claims.take_back(&mut claim));
    }

    /// Claims, runs `handler` if the delivery is fresh, and commits: as
    /// [`sync::DedupCache::process_once`](crate::sync::DedupCache::process_once). The claim cannot
    /// be lost meanwhile, since no other caller can reach the cache.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let failed = cache.process_once("order-1", None, || Err::<(), _>("database down"))?;
    /// assert_eq!(failed, Claimed::Fresh(Err("database down")));
    /// let done = cache.process_once("order-1", None, || Ok::<_, ()>(17))?;
    /// assert_eq!(done, Claimed::Fresh(Ok(17)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn process_once<T, E>(
        &mut self,
        key: impl Key,
        msg_time: impl Into<Option<Timestamp>>,
        handler: impl FnOnce() -> Result<T, E>,
    ) -> Result<Claimed<Result<T, E>>, Error> {
        self.claim(key, msg_time)?.try_map(|claim| {
            let result = handler();
            match result {
                Ok(_) => self.commit(claim)?,
                Err(_) => self.abort(claim),
            }
            Ok(result)
        })
    }

    /// Commits many claims with one write, and with [`Durability::Power`] one sync, where
    /// [`commit`](Self::commit) takes one each: as
    /// [`sync::DedupCache::commit_batch`](crate::sync::DedupCache::commit_batch).
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]: none is committed, and all are released.
    pub fn commit_batch(&mut self, claims: impl IntoIterator<Item = Claim>) -> Result<Committed, Error> {
        let claims: Vec<Claim> = claims.into_iter().collect(); // first, as the iterator may panic
        let ids: Vec<_> = claims.into_iter().map(|mut claim| *self.claims.take_back(&mut claim)).collect();
        let mut lost = Vec::new();
        match &mut self.journal {
            None => {
                let mut is_lost = |at: &usize| self.state.shard.commit(&ids[*at]).is_none();
                lost.extend((0..ids.len()).filter(&mut is_lost));
            }
            Some(journal) => journal.commit(&mut self.state, &ids, |at| lost.push(at))?,
        }
        Ok(Committed::except(lost))
    }

    /// The fingerprint of a key under this cache's secret, for
    /// [`insert_batch`](Self::insert_batch). Takes some 10 to 20 ns for short keys.
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, key: impl Key) -> Fingerprint {
        self.state.key_hasher.fingerprint(key)
    }

    /// What makes this cache's fingerprints, to hash keys on other threads.
    #[must_use]
    pub fn hasher(&self) -> KeyHasher {
        self.state.key_hasher
    }

    /// Reports the broker's oldest unconsumed message, which moves the watermark: as
    /// [`sync::DedupCache::observe`](crate::sync::DedupCache::observe).
    ///
    /// # Errors
    ///
    /// [`Error::WatermarkAhead`]: rejected, and nothing changed but `Stats::rejected_watermarks`. With
    /// a journal, [`Error::Journal`]: the watermark has moved, and may be lower after a restart, which
    /// loses nothing.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, MinMsgTime, Timestamp, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// cache.observe(MinMsgTime::Known(Timestamp::from_millis(5_000)))?;
    /// cache.observe(MinMsgTime::Unknown)?;
    /// assert_eq!(cache.watermark(), Some(Timestamp::from_millis(5_000)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn observe(&mut self, min_msg_time: MinMsgTime) -> Result<(), Error> {
        self.progress(|progress| progress.observe(min_msg_time))
    }

    /// Moves a [manual clock](crate::Clock::Manual) to `now`; never back. Reclaims a bounded number
    /// of expired keys.
    ///
    /// # Errors
    ///
    /// [`Error::ClockNotManual`]: nothing changed. With a journal, [`Error::Journal`]: the clock has
    /// moved, and the watermark may be lower after a restart, which loses nothing.
    pub fn advance(&mut self, now: Timestamp) -> Result<(), Error> {
        self.progress(|progress| progress.advance(now))
    }

    /// Reads the system clock and reclaims a bounded number of expired keys: as
    /// [`sync::DedupCache::maintain`](crate::sync::DedupCache::maintain).
    ///
    /// # Errors
    ///
    /// With a journal, [`Error::Journal`]: the watermark may be lower after a restart, which loses
    /// nothing.
    pub fn maintain(&mut self) -> Result<(), Error> {
        self.progress(|progress| {
            progress.read_clock();
            Ok(())
        })
    }

    /// How far the queue has come: nothing older is delivered any more. `None` until something has
    /// moved it.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        front::timestamp(self.state.progress.watermark())
    }

    /// Removes a committed key, so that its message can be processed again (a replay from a
    /// dead-letter queue); `false` if it is not held. A claim is not touched.
    ///
    /// # Errors
    ///
    /// With a journal, [`Error::Journal`]: the key stays.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// cache.insert("order-1", None)?;
    /// assert!(cache.remove("order-1")?);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn remove(&mut self, key: impl Key) -> Result<bool, Error> {
        let key = self.fingerprint(key);
        match &mut self.journal {
            None => Ok(self.state.remove(key)),
            Some(journal) => Ok(journal.remove(&mut self.state, key)?),
        }
    }

    /// Gives back memory that a burst has left behind: up to a page of keys and one table's surplus
    /// at a time, some tens of microseconds. Returns whether there may be more to give back: as
    /// [`sync::DedupCache::shrink`](crate::sync::DedupCache::shrink).
    pub fn shrink(&mut self) -> bool {
        self.state.shard.shrink()
    }

    /// The number of keys held; open claims are not among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.shard.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot of the counters. Takes microseconds at millions of keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = front::stats(&self.state.progress);
        front::add_shard(&mut stats, &self.state.shard);
        stats.claims_open -= self.claims.count_dropped(|claim| self.state.shard.is_open(claim));
        if let Some(journal) = &self.journal {
            (stats.journal_bytes, stats.journal_failures) = (journal.writer.bytes(), journal.writer.failures());
        }
        stats
    }

    /// Recounts everything from scratch and panics on what does not add up: for tests and fuzzing.
    /// Takes as long as the cache is large.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.state.validate();
    }

    /// Changes clock or watermark, and does what follows from that.
    fn progress(&mut self, change: impl FnOnce(&mut Progress) -> Result<(), Error>) -> Result<(), Error> {
        self.release_dropped();
        let changed = change(&mut self.state.progress);
        self.state.catch_up_and_reclaim(); // also after an error: the clock may have been read
        changed.inspect_err(|error| self.state.refusals.emit(error))?;
        match &mut self.journal {
            None => Ok(()),
            Some(journal) => Ok(journal.commit_watermark(&self.state)?),
        }
    }

    /// Kept out of `commit`, which is inlined.
    #[inline(never)]
    fn commit_journaled(&mut self, id: ClaimId) -> Result<(), Error> {
        let mut is_lost = false;
        if let Some(journal) = &mut self.journal {
            journal.commit(&mut self.state, &[id], |_| is_lost = true)?;
        }
        if is_lost { Err(Error::ClaimLost) } else { Ok(()) }
    }

    /// Where no claim is open, none was dropped.
    #[inline(always)]
    fn release_dropped(&mut self) {
        if self.state.shard.claims_open() > 0 {
            self.claims.release_dropped(|claim| self.state.shard.abort(&claim));
        }
    }
}

#[cfg(any(test, oncewheel_fuzzing))]
impl DedupCache {
    pub(crate) fn holds(&self, key: Fingerprint) -> bool {
        crate::journal::Cache::held(&self.state, key) == crate::engine::Held::Yes
    }

    #[cfg(test)]
    pub(crate) fn with_journal<R>(
        &mut self,
        call: impl FnOnce(&mut crate::journal::Writer, &dyn crate::journal::Cache, u64) -> R,
    ) -> R {
        let journal = self.journal.as_mut().expect("opened with a journal");
        call(&mut journal.writer, &self.state, self.state.progress.watermark())
    }
}

impl std::fmt::Debug for DedupCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedupCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
