//! The cache of many threads: `&self`, sharded, a cheap handle to clone.

mod batch;
mod claim;
mod durable;
mod inner;
mod room;

pub use claim::Claim;

use crate::answer::Outcome;
use crate::engine::Shard;
use crate::fingerprint::Key;
use crate::locks::{Mutex, Ordering::Relaxed};
use crate::{Claimed, Config, Error, Fingerprint, MinMsgTime, Stats, Timestamp, Verdict};
use crossbeam_utils::CachePadded;
use inner::{Inner, Local};
use std::sync::Arc;

/// The dedup cache of several worker threads, or of one that hands claims around.
///
/// Cloning gives another handle to the same cache. See the [crate documentation](crate) for what it promises; every
/// promise holds across threads: of all concurrent deliveries of one key, one is `Fresh`.
///
/// Threads share the memory bus and the shards' locks; what scales without limit is a
/// [`unsync::DedupCache`](crate::unsync::DedupCache) for each partition of the queue.
///
/// ```
/// use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let cache = DedupCache::new(Config::new(horizon))?;
/// let fresh = std::thread::scope(|scope| {
///     let workers: Vec<_> = (0..4).map(|_| {
///         scope.spawn(|| matches!(cache.process_once("transfer-17", None, || ()), Ok(Claimed::Fresh(()))))
///     }).collect();
///     workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|fresh| *fresh).count()
/// });
/// assert_eq!(fresh, 1);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone)]
pub struct DedupCache {
    inner: Arc<Inner>,
}

impl DedupCache {
    /// An empty cache. Memory is taken as keys come.
    ///
    /// # Errors
    ///
    /// What [`Config`] says about the ranges of its fields.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self { inner: Arc::new(Inner::new(&config)?) })
    }

    /// Records a key on sight and says whether it was known: for effects that are idempotent, or where at most once is
    /// wanted. A message that is lost after this call is not processed again; where it must be, [`claim`](Self::claim).
    ///
    /// `msg_time` is the time at which the broker stored this copy, or the producer made it; `None` if it is unknown,
    /// which counts as now.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet. With a
    /// journal, [`Error::Journal`].
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// assert_eq!(cache.insert("order-1", Timestamp::now())?, Verdict::Fresh);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    #[inline]
    pub fn insert(&self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Verdict, Error> {
        let inner = &*self.inner;
        let time = inner.admit(msg_time.into())?;
        let key = key.fingerprint(&inner.secret);
        inner.insert(inner.hasher.hash(key), key, time)
    }

    /// Records many keys on sight: sorted by shard, so that each lock is taken once for many keys whose cache misses
    /// overlap. `verdicts` is cleared first and then holds one answer for each entry, in order. Batches of hundreds are
    /// best.
    ///
    /// Fingerprints come from [`fingerprint`](Self::fingerprint).
    ///
    /// # Errors
    ///
    /// [`Error::Full`] at the first entry that finds no room: `verdicts` then holds the answers of those before it, which
    /// stand; the rest were not touched. With a journal, [`Error::Journal`] in the same way, after a multiple of 16,384 of
    /// them: so many are written at once.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let now = Timestamp::now();
    /// let batch: Vec<_> = ["a", "b", "a"].iter().map(|key| (cache.fingerprint(key.as_bytes()), now)).collect();
    /// let mut verdicts = Vec::new();
    /// cache.insert_batch(&batch, &mut verdicts)?;
    /// assert_eq!(verdicts, [Verdict::Fresh, Verdict::Fresh, Verdict::Duplicate]);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn insert_batch(&self, entries: &[(Fingerprint, Timestamp)], verdicts: &mut Vec<Verdict>) -> Result<(), Error> {
        batch::insert_batch(&self.inner, entries, verdicts)
    }

    /// Claims a message for processing. On `Fresh`: effect, then [`Claim::commit`], then acknowledge. Dropping the claim,
    /// in a panic too, gives it up, and a redelivery will be `Fresh` again.
    ///
    /// `msg_time` as in [`insert`](Self::insert). The claim owns what it needs, so that it can go to another thread or
    /// live across an `.await`.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet. With a
    /// journal, [`Error::Journal`].
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::InFlight));
    /// drop(claim); // the effect failed
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("given up") };
    /// std::thread::spawn(|| claim.commit()).join().unwrap()?;
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Duplicate));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn claim(&self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Claimed<Claim>, Error> {
        let inner = &*self.inner;
        let time = inner.admit(msg_time.into())?;
        let key = key.fingerprint(&inner.secret);
        let hash = inner.hasher.hash(key);
        let now = inner.now();
        let claimed = inner.with_room(hash, |shard| shard.claim(hash, key, time.past(shard.watermark()), now))?;
        if let Claimed::Fresh(generation) = claimed
            && let Err(error) = inner.check_journal()
        {
            // What could not be committed must not be begun.
            inner.with_caught_up(hash, |shard| shard.undo_claim(hash, key, generation));
            return Err(error.into());
        }
        Ok(claimed.map(|generation| Claim::new(self.clone(), hash, key, generation)))
    }

    /// Claims, runs `handler` if the delivery is fresh, and commits; or gives the claim up if the handler returns `Err` or
    /// panics ([`Outcome`]). `Fresh` holds what the handler returned. Acknowledge on `Fresh(Ok(_))`, `Fresh(())` and
    /// `Duplicate`.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim); and [`Error::ClaimLost`] if the handler outlived `max_processing_time` and another
    /// delivery took the claim over: its effect may have happened twice, and the message must not be acknowledged here.
    /// What the handler returned is then dropped; where that must not be, use [`claim`](Self::claim).
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Timestamp, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let failed = cache.process_once("order-1", Timestamp::now(), || Err::<(), _>("database down"))?;
    /// assert_eq!(failed, Claimed::Fresh(Err("database down")));
    /// let done = cache.process_once("order-1", Timestamp::now(), || Ok::<_, ()>(17))?;
    /// assert_eq!(done, Claimed::Fresh(Ok(17)));
    /// assert_eq!(cache.process_once("order-1", Timestamp::now(), || ())?, Claimed::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn process_once<R: Outcome>(
        &self,
        key: impl Key,
        msg_time: impl Into<Option<Timestamp>>,
        handler: impl FnOnce() -> R,
    ) -> Result<Claimed<R>, Error> {
        let claim = match self.claim(key, msg_time)? {
            Claimed::Fresh(claim) => claim,
            Claimed::Duplicate => return Ok(Claimed::Duplicate),
            Claimed::InFlight => return Ok(Claimed::InFlight),
            Claimed::TooOld => return Ok(Claimed::TooOld),
        };
        let result = handler();
        if result.is_done() {
            claim.commit()?;
        }
        Ok(Claimed::Fresh(result))
    }

    /// The fingerprint of a key under this cache's secret, for [`insert_batch`](Self::insert_batch). Takes some 10 to
    /// 20 ns for short keys, and no lock.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// let fingerprint = cache.fingerprint(b"order-1");
    /// assert_eq!(cache.insert(fingerprint, None)?, Verdict::Fresh);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.inner.secret.fingerprint(key)
    }

    /// Takes note of the broker's oldest unconsumed message, which moves the watermark. Call it whenever the broker says
    /// so, from any thread: once a second is plenty. Reclaims a bounded number of expired keys.
    ///
    /// # Errors
    ///
    /// [`Error::WatermarkAhead`]: refused, nothing changed but `Stats::refused_times`. With a journal, [`Error::Journal`]: the
    /// watermark has moved, and may lie lower after a restart, by which nothing is lost.
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
        self.inner.change_progress(|progress| progress.observe(min_msg_time))?;
        self.inner.reclaim_some();
        Ok(self.inner.record_progress()?)
    }

    /// Moves a manual clock to `now`; never back. Under [`Clock::System`](crate::Clock::System) reads that clock and
    /// ignores `now`: call it now and then while the queue is idle, so that expired keys are forgotten. Reclaims a
    /// bounded number of them.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, Timestamp, sync::DedupCache};
    /// # use std::time::Duration;
    /// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5)).max_retention(Duration::from_secs(100));
    /// let cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// cache.advance(Timestamp::from_millis(250_000));
    /// assert_eq!(cache.watermark(), Some(Timestamp::from_millis(150_000)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn advance(&self, now: Timestamp) {
        self.inner.change_progress(|progress| progress.advance(now.as_millis()));
        self.inner.reclaim_some();
        let _ = self.inner.record_progress(); // counted, and to be met by the next commit
    }

    /// How far the queue has come: nothing older is delivered any more. `None` until something has moved it.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        let watermark = self.inner.published.watermark();
        (watermark > 0).then_some(Timestamp::from_millis(watermark))
    }

    /// Removes a committed key on purpose, so that its message can be processed again (a replay from a dead-letter queue);
    /// `false` if it is not held. A claim is not touched. With a journal, `false` also if that could not be recorded, and the
    /// key stays: `Stats::journal_failures` counts it.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, sync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let cache = DedupCache::new(Config::new(horizon))?;
    /// cache.insert("order-1", None)?;
    /// assert!(cache.forget("order-1"));
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn forget(&self, key: impl Key) -> bool {
        let inner = &*self.inner;
        let key = key.fingerprint(&inner.secret);
        let hash = inner.hasher.hash(key);
        match &inner.journal {
            Some(journal) => inner.forget_durably(journal, hash, key),
            None => inner.with_caught_up(hash, |shard| shard.remove(hash, key)),
        }
    }

    /// Gives back memory that a burst has left behind: up to a page of keys and one table's surplus at a time, of each
    /// shard, some tens of microseconds under each shard's lock. Returns whether there may be more to give back. Call it
    /// now and then, or until it returns `false`; nothing calls it for you, as memory that is kept makes the next burst
    /// cheaper.
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
        let inner = &*self.inner;
        let at = inner.shrinking.load(Relaxed);
        if inner.with_entered(at, Shard::shrink) {
            return true;
        }
        let next = if at + 1 == inner.shards.len() { 0 } else { at + 1 };
        // If another thread has moved on meanwhile, so be it.
        let _ = inner.shrinking.compare_exchange(at, next, Relaxed, Relaxed);
        next != 0
    }

    /// The number of keys held; open claims are not among them. Takes each shard's lock in turn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.shards.iter().map(|local| local.lock().shard.len()).sum()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot of the counters. Takes each shard's lock in turn, some microseconds at millions of keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::new(&self.inner.progress.lock());
        self.inner.shards.iter().for_each(|local| stats.add(&local.lock().shard));
        if let Some(journal) = &self.inner.journal {
            (stats.journal_bytes, stats.journal_failures) = journal.shared.counts();
        }
        stats
    }

    /// Recounts everything from scratch and panics on what does not add up: for tests and fuzzing, while no other thread
    /// uses the cache. Takes as long as the cache is large.
    #[doc(hidden)]
    pub fn validate(&self) {
        let held = |local: &CachePadded<Mutex<Local>>| local.lock().shard.validate();
        let held: usize = self.inner.shards.iter().map(held).sum();
        assert_eq!(held + self.inner.spare.left(), self.inner.max_keys, "room");
    }
}

impl std::fmt::Debug for DedupCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedupCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
