//! The cache of many threads: `&self`, sharded, a cheap handle to clone.

mod batch;
mod claim;
mod commits;
mod journal;
mod ownership;
mod quota;
mod shards;

pub use claim::Claim;

use crate::journal::{Directory, Durability, OpenOptions, Recovery, Shared, Storage};
use crate::{
    Claimed, Committed, Config, ConfigError, Error, Fingerprint, Key, KeyHasher, MinMsgTime, Stats, Timestamp, Verdict,
    front,
};
use journal::Journal;
use ownership::{Core, Owner};
use shards::Shards;
use std::path::Path;
use std::sync::Arc;

/// The dedup cache of several worker threads or async tasks.
///
/// Cloning gives another handle to the same cache. See the [crate documentation](crate) for what it
/// promises. Every promise holds across threads: of all concurrent deliveries of one key, one is
/// `Fresh`.
///
/// Threads share the memory bus and the shards' locks. What scales without limit is one
/// [`unsync::DedupCache`](crate::unsync::DedupCache) for each partition of the queue.
///
/// ```
/// use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let cache = DedupCache::new(Config::new(horizon))?;
/// let transfer = || Ok::<_, std::io::Error>("the money is moved");
/// let fresh = std::thread::scope(|scope| {
///     let workers: Vec<_> = (0..4).map(|_| {
///         scope.spawn(|| matches!(cache.process_once("transfer-17", None, transfer), Ok(Claimed::Fresh(Ok(_)))))
///     }).collect();
///     workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|fresh| *fresh).count()
/// });
/// assert_eq!(fresh, 1);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone)]
pub struct DedupCache {
    core: Arc<Core>,
    owner: Arc<Owner>,
}

impl DedupCache {
    /// An empty cache. Memory is taken as keys come.
    ///
    /// # Errors
    ///
    /// As [`Config`] documents the ranges of its fields.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let checked = config.check()?;
        let shards = Shards::new(&config, checked, KeyHasher::of(config.secret));
        Ok(Self::with(Core { shards, journal: None }))
    }

    /// A cache that knows what it held when it was last open in `dir`, and keeps a journal there;
    /// see the [crate documentation](crate#restarts). `options` is a [`Durability`], or
    /// [`OpenOptions`] to choose also what is done about damage. With [`Durability::Memory`] it is
    /// a [`new`](Self::new) cache, and `dir` is not touched.
    ///
    /// Reads the journal: some 100 ns a key. Damaged bytes are skipped and reported by
    /// [`recovery`](Self::recovery). The horizon may differ from last time. With a longer one, keys
    /// that had expired under the shorter one may be answered `Fresh` until the watermark has moved
    /// on by the difference. `max_keys` may differ too if the keys still fit. Leave
    /// [`Config::secret`](Config#structfield.secret) out: a random one is made for a new directory
    /// and stored there, in a file that only its owner may read.
    ///
    /// Threads that commit while another writes are written together next: with
    /// [`Durability::Power`], many share one sync. Until a key is written, its copies are
    /// `InFlight`.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]; [`Error::Config`], as [`Config`] documents the ranges of its fields.
    ///
    /// ```
    /// use oncewheel::{Claimed, Config, Horizon, journal::Durability, sync::DedupCache};
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
        let make = |secret| Shards::new(&config, checked, KeyHasher::new(secret));
        let opened = crate::journal::open(storage()?, config.secret, checked.rule.span, options, make);
        let (shards, writer, recovery) = opened?;
        let journal = Journal::new(Shared::new(writer), recovery);
        Ok(Self::with(Core { shards, journal: Some(journal) }))
    }

    fn with(core: Core) -> Self {
        let core = Arc::new(core);
        let owner = Arc::new(Owner::new(&core));
        Self { core, owner }
    }

    /// Ends the cache and frees its directory, so that another process can open it, even while
    /// handles and claims live on in this one. Commits under way are carried out first. After that,
    /// every call that would change the journal is refused with [`ErrorKind::Closed`], and a key
    /// that was not committed is `Fresh` to the heir. Does nothing without a journal, or a second
    /// time.
    ///
    /// Dropping the last handle and the last claim frees the directory, too. Blocks while commits
    /// are under way.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if the watermark could not be written, which loses nothing. The directory
    /// is free in any case.
    ///
    /// ```
    /// use oncewheel::{Claimed, Config, Error, Horizon, sync::DedupCache};
    /// use oncewheel::journal::{Durability, ErrorKind};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-close-{}", std::process::id()));
    /// let cache = DedupCache::open(&dir, Config::new(horizon), Durability::Process)?;
    /// let Claimed::Fresh(late) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// cache.close()?;
    /// let heir = DedupCache::open(&dir, Config::new(horizon), Durability::Process)?;
    /// match late.commit() {
    ///     Err(Error::Journal(error)) => assert_eq!(error.kind(), ErrorKind::Closed),
    ///     other => panic!("the directory is the heir's: {other:?}"),
    /// }
    /// assert!(matches!(heir.claim("order-1", None)?, Claimed::Fresh(_)));
    /// # drop(heir);
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    ///
    /// [`ErrorKind::Closed`]: crate::journal::ErrorKind::Closed
    pub fn close(&self) -> Result<(), Error> {
        self.core.close()
    }

    /// What the opening of the journal found; `None` without a journal.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.core.journal.as_ref().map(|journal| &journal.recovery)
    }

    /// Inserts a key on sight and answers whether it was known: for effects that are idempotent, or
    /// where at most once is wanted. A message that is lost after this call is not processed again;
    /// where it must be, use [`claim`](Self::claim).
    ///
    /// `msg_time` is the time at which the broker stored this copy, or the producer made it. `None`
    /// means that it is unknown, and counts as now.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not
    /// advanced yet. With a journal, [`Error::Journal`].
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// # let stored_at = Timestamp::now();
    /// assert_eq!(cache.insert("order-1", stored_at)?, Verdict::Fresh);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    #[inline]
    pub fn insert(&self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Verdict, Error> {
        let shards = &self.core.shards;
        let time = shards.admit(msg_time.into())?;
        let key = shards.key_hasher.fingerprint(key);
        self.core.insert(shards.hasher.hash(key), key, time)
    }

    /// Inserts many keys on sight: sorted by shard, so that each lock is taken once for many keys,
    /// whose cache misses overlap. `verdicts` is cleared first and then holds one answer for each
    /// entry, in order. Batches of hundreds are best.
    ///
    /// Fingerprints come from [`fingerprint`](Self::fingerprint) or [`hasher`](Self::hasher).
    ///
    /// # Errors
    ///
    /// [`Error::Full`] at the first entry that finds no quota: `verdicts` then holds the answers of
    /// those before it, which stand; the rest were not touched. With a journal, [`Error::Journal`]
    /// in the same way, after a multiple of 16,384 of them: so many are written at once.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// # let stored_at = Timestamp::now();
    /// let batch: Vec<_> = ["a", "b", "a"].iter().map(|key| (cache.fingerprint(key), stored_at)).collect();
    /// let mut verdicts = Vec::new();
    /// cache.insert_batch(&batch, &mut verdicts)?;
    /// assert_eq!(verdicts, [Verdict::Fresh, Verdict::Fresh, Verdict::Duplicate]);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn insert_batch(&self, entries: &[(Fingerprint, Timestamp)], verdicts: &mut Vec<Verdict>) -> Result<(), Error> {
        self.core.insert_batch(entries, verdicts)
    }

    /// Claims a message for processing. On `Fresh`: effect, then [`Claim::commit`], then
    /// acknowledge. Dropping the claim, in a panic too, releases it, and a redelivery will be
    /// `Fresh` again.
    ///
    /// `msg_time` as in [`insert`](Self::insert). The claim owns what it needs, so that it can go
    /// to another thread or live across an `.await`.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::InFlight));
    /// drop(claim); // the effect failed
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("released") };
    /// std::thread::spawn(|| claim.commit()).join().unwrap()?;
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Duplicate));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn claim(&self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Claimed<Claim>, Error> {
        let time = self.core.shards.admit(msg_time.into())?;
        let claimed = self.core.claim(self.fingerprint(key), time)?;
        Ok(claimed.map(|id| Claim::new(Arc::clone(&self.owner), id)))
    }

    /// Claims, runs `handler` if the delivery is fresh, and commits. If the handler returns `Err`
    /// or panics, the claim is released. `Fresh` holds what the handler returned. Acknowledge on
    /// `Fresh(Ok(_))` and on `Duplicate`.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim); and [`Error::ClaimLost`] if the handler outlived the lease and
    /// another delivery took the claim over: its effect may have happened twice, and the message
    /// must not be acknowledged here. What the handler returned is then dropped; where it is
    /// needed, use [`claim`](Self::claim).
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let failed = cache.process_once("order-1", None, || Err::<(), _>("database down"))?;
    /// assert_eq!(failed, Claimed::Fresh(Err("database down")));
    /// let done = cache.process_once("order-1", None, || Ok::<_, ()>(17))?;
    /// assert_eq!(done, Claimed::Fresh(Ok(17)));
    /// assert_eq!(cache.process_once("order-1", None, || Ok::<_, ()>(17))?, Claimed::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn process_once<T, E>(
        &self,
        key: impl Key,
        msg_time: impl Into<Option<Timestamp>>,
        handler: impl FnOnce() -> Result<T, E>,
    ) -> Result<Claimed<Result<T, E>>, Error> {
        self.claim(key, msg_time)?.try_map(|claim| {
            let result = handler();
            if result.is_ok() {
                claim.commit()?;
            }
            Ok(result)
        })
    }

    /// Commits many claims with one write, and with [`Durability::Power`] one sync: best for a
    /// thread that holds many. The answer tells which claims were lost, as [`Claim::commit`] would:
    /// do not acknowledge those. The claims must be of this cache; a claim of another cache is
    /// released and counts as lost.
    ///
    /// What waits to be committed is not acknowledged: `min_msg_time` must not pass it meanwhile.
    /// If it is a consumer's read position it would, and after a crash such messages are `TooOld`.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]: none is committed, and all are released.
    ///
    /// See [`Committed`] for an example.
    pub fn commit_batch(&self, claims: impl IntoIterator<Item = Claim>) -> Result<Committed, Error> {
        let claims: Vec<Claim> = claims.into_iter().collect(); // first, as the iterator may panic
        let ids: Vec<_> = claims.into_iter().map(|claim| claim.hand_over(&self.owner)).collect();
        let mut lost = Vec::new();
        self.core.commit_all(&ids, |at| lost.push(at))?;
        Ok(Committed::except(lost))
    }

    /// As [`commit_batch`](Self::commit_batch), for async tasks: as [`Claim::commit_async`].
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]: none is committed, and all are released.
    pub async fn commit_batch_async(&self, claims: impl IntoIterator<Item = Claim>) -> Result<Committed, Error> {
        let claims: Vec<Claim> = claims.into_iter().collect();
        let ids: Vec<_> = claims.into_iter().map(|claim| claim.hand_over(&self.owner)).collect();
        Ok(Committed::except(self.owner.commit_async(&ids).await?))
    }

    /// The fingerprint of a key under this cache's secret, for
    /// [`insert_batch`](Self::insert_batch). Takes some 10 to 20 ns for short keys, and no lock.
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, key: impl Key) -> Fingerprint {
        self.core.shards.key_hasher.fingerprint(key)
    }

    /// What makes this cache's fingerprints, to hash keys on other threads.
    #[must_use]
    pub fn hasher(&self) -> KeyHasher {
        self.core.shards.key_hasher
    }

    /// Reports the broker's oldest unconsumed message, which moves the watermark. Call it whenever
    /// the broker reports it, from any thread: once a second is enough. Reclaims a bounded number
    /// of expired keys.
    ///
    /// # Errors
    ///
    /// [`Error::WatermarkAhead`]: rejected, and nothing changed but `Stats::rejected_watermarks`. With
    /// a journal, [`Error::Journal`]: the watermark has moved, and may be lower after a restart, which
    /// loses nothing.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, MinMsgTime, Timestamp, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// cache.observe(MinMsgTime::Known(Timestamp::from_millis(5_000)))?;
    /// cache.observe(MinMsgTime::Unknown)?;
    /// assert_eq!(cache.watermark(), Some(Timestamp::from_millis(5_000)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn observe(&self, min_msg_time: MinMsgTime) -> Result<(), Error> {
        self.core.progress(|progress| progress.observe(min_msg_time))
    }

    /// Moves a [manual clock](crate::Clock::Manual) to `now`; never back. Reclaims a bounded number
    /// of expired keys.
    ///
    /// # Errors
    ///
    /// [`Error::ClockNotManual`]: nothing changed. With a journal, [`Error::Journal`]: the clock has
    /// moved, and the watermark may be lower after a restart, which loses nothing.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, Timestamp, sync::DedupCache};
    /// # use std::time::Duration;
    /// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5)).max_retention(Duration::from_secs(100));
    /// let cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// cache.advance(Timestamp::from_millis(250_000))?;
    /// assert_eq!(cache.watermark(), Some(Timestamp::from_millis(150_000)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn advance(&self, now: Timestamp) -> Result<(), Error> {
        self.core.progress(|progress| progress.advance(now))
    }

    /// Reads the system clock and reclaims a bounded number of expired keys. Every call does some
    /// of this; call it now and then while the queue is idle, so that expired keys are given back.
    /// A manual clock stays where it is.
    ///
    /// # Errors
    ///
    /// With a journal, [`Error::Journal`]: the watermark may be lower after a restart, which loses
    /// nothing.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, sync::DedupCache};
    /// # use std::time::Duration;
    /// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5)).max_retention(Duration::from_secs(100));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let before = cache.watermark();
    /// std::thread::sleep(Duration::from_millis(2));
    /// cache.maintain()?;
    /// assert!(cache.watermark() > before);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn maintain(&self) -> Result<(), Error> {
        self.core.progress(|progress| {
            progress.read_clock();
            Ok(())
        })
    }

    /// How far the queue has come: nothing older is delivered any more. `None` until something has
    /// moved it.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        front::timestamp(self.core.shards.published.watermark())
    }

    /// Removes a committed key, so that its message can be processed again (a replay from a
    /// dead-letter queue); `false` if it is not held. A claim is not touched.
    ///
    /// # Errors
    ///
    /// With a journal, [`Error::Journal`]: the key stays.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// cache.insert("order-1", None)?;
    /// assert!(cache.remove("order-1")?);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn remove(&self, key: impl Key) -> Result<bool, Error> {
        self.core.remove(self.fingerprint(key))
    }

    /// Gives back memory that a burst has left behind: up to a page of keys and one table's surplus
    /// at a time, of each shard, some tens of microseconds under each shard's lock. Returns whether
    /// there may be more to give back. Call it now and then, or until it returns `false`. Nothing
    /// calls it for you, as memory that is kept makes the next burst cheaper.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, MinMsgTime, Timestamp, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// for number in 0..100_000u32 {
    ///     let _ = cache.insert(number.to_le_bytes(), Timestamp::from_millis(1))?;
    /// }
    /// let full = cache.stats().memory_bytes;
    /// cache.observe(MinMsgTime::Known(Timestamp::from_millis(1_000_000)))?;
    /// while cache.shrink() {}
    /// assert!(cache.stats().memory_bytes < full / 4);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn shrink(&self) -> bool {
        self.core.shards.shrink()
    }

    /// The number of keys held; open claims are not among them. Takes each shard's lock in turn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.shards.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot of the counters. Takes each shard's lock in turn, some microseconds at millions
    /// of keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = front::stats(&self.core.shards.progress.lock());
        self.core.shards.add_to(&mut stats);
        if let Some(journal) = &self.core.journal {
            (stats.journal_bytes, stats.journal_failures) = journal.shared.counts();
        }
        stats
    }

    pub(crate) fn lease(&self) -> Option<std::time::Duration> {
        self.core.shards.lease.map(std::time::Duration::from_millis)
    }

    pub(crate) fn evicts(&self) -> bool {
        self.core.shards.evicts
    }

    /// Recounts everything from scratch and panics on what does not add up: for tests and fuzzing,
    /// while no other thread uses the cache. Takes as long as the cache is large.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.core.shards.validate();
    }
}

#[cfg(test)]
impl DedupCache {
    pub(crate) fn holds(&self, key: Fingerprint) -> bool {
        self.core.shards.held(key) == crate::engine::Held::Yes
    }

    /// Claims whose keys are on the way to the journal.
    pub(crate) fn commits_begun(&self) -> usize {
        self.core.shards.shards.iter().map(|local| local.lock().shard.commits_begun()).sum()
    }

    pub(crate) fn with_journal<R>(
        &mut self,
        call: impl FnOnce(&mut crate::journal::Writer, &dyn crate::journal::Cache, u64) -> R,
    ) -> R {
        let shards = &self.core.shards;
        let journal = self.core.journal.as_ref().expect("opened with a journal");
        journal.shared.with_writer(|writer| call(writer, shards, shards.published.watermark()))
    }
}

impl std::fmt::Debug for DedupCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedupCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
