//! The cache of many threads: `&self`, sharded, a cheap handle to clone.

mod batch;
mod claim;
mod room;

pub use claim::Claim;

use crate::answer::Outcome;
use crate::config::{Checked, MAX_SHARDS};
use crate::engine::{IndexHash, IndexHasher, Settings, Shard};
use crate::fingerprint::{Key, Secret};
use crate::time::SystemClock;
use crate::watermark::Progress;
use crate::{Claimed, Config, Error, Fingerprint, MinMsgTime, Stats, Timestamp, Verdict, WhenFull};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};
use room::Spare;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Calls to a shard between two readings of the system clock.
const CALLS_PER_CLOCK_READING: u32 = 64;
/// A shard smaller than this evicts badly on its own: it may hold only young keys.
const EVICTING_SHARD_MIN: usize = 1024;

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

struct Inner {
    shards: Box<[CachePadded<Mutex<Local>>]>,
    published: CachePadded<Published>,
    spare: CachePadded<Spare>,
    /// Locked after a shard where both are, never before one.
    progress: Mutex<Progress>,
    clock: Option<SystemClock>,
    secret: Secret,
    hasher: IndexHasher,
    forgets_oldest: bool,
    has_leases: bool,
    max_keys: usize,
    /// The shard that `shrink` is at.
    shrinking: AtomicUsize,
}

/// A shard and what its lock guards besides.
struct Local {
    shard: Shard,
    calls_to_clock_reading: u32,
}

/// What every call reads of [`Progress`], without its lock. A value that is behind is safe: a lower watermark forgets
/// less, and whoever meets the ceiling asks the progress. So no order between them is needed.
struct Published {
    watermark: AtomicU64,
    ceiling: AtomicU64,
    /// `u64::MAX`: unknown.
    now: AtomicU64,
}

const NOW_UNKNOWN: u64 = u64::MAX;

impl DedupCache {
    /// An empty cache. Memory is taken as keys come.
    ///
    /// # Errors
    ///
    /// What [`Config`] says about the ranges of its fields.
    pub fn new(config: Config) -> Result<Self, Error> {
        let Checked { rule, lease } = config.check()?;
        let secret = Secret::new(config.secret);
        let hasher = IndexHasher::new(secret.index_key());
        let shards = config.shards.unwrap_or_else(|| default_shards(config.max_keys)).next_power_of_two();
        let forgets_oldest = config.when_full == WhenFull::ForgetOldest;
        let keys_max = config.max_keys.div_ceil(shards);
        let evicts = forgets_oldest && keys_max >= EVICTING_SHARD_MIN;
        let settings = Settings { hasher, keys_max, span: rule.span, lease, evicts };
        let local = || Local { shard: Shard::new(&settings, 0), calls_to_clock_reading: CALLS_PER_CLOCK_READING };
        let progress = Progress::new(rule, config.clock);
        let inner = Inner {
            shards: (0..shards).map(|_| CachePadded::new(Mutex::new(local()))).collect(),
            published: CachePadded::new(Published::new(&progress)),
            spare: CachePadded::new(Spare::new(config.max_keys, shards)),
            clock: progress.clock(),
            progress: Mutex::new(progress),
            secret,
            hasher,
            forgets_oldest,
            has_leases: lease.is_some(),
            max_keys: config.max_keys,
            shrinking: AtomicUsize::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Records a key on sight and says whether it was known: for effects that are idempotent, or where at most once is
    /// wanted. A message that is lost after this call is not processed again; where it must be, [`claim`](Self::claim).
    ///
    /// `msg_time` is the time at which the broker stored this copy, or the producer made it; `None` if it is unknown,
    /// which counts as now.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet.
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
    /// stand; the rest were not touched.
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
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet.
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
        let claimed = inner.with_room(hash, |shard| shard.claim(hash, key, time, now))?;
        Ok(claimed.map(|generation| Claim::new(self.clone(), hash, key, generation)))
    }

    /// Claims, runs `handler` if the delivery is fresh, and commits; or gives the claim up if the handler returns `Err`
    /// or panics ([`Outcome`]). `Fresh` holds what the handler returned. Acknowledge on `Fresh(Ok(_))`, `Fresh(())` and `Duplicate`.
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
    /// [`Error::WatermarkAhead`]: refused, nothing changed but `Stats::refused_times`.
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
        Ok(())
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
    }

    /// How far the queue has come: nothing older is delivered any more. `None` until something has moved it.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        let watermark = self.inner.published.watermark();
        (watermark > 0).then_some(Timestamp::from_millis(watermark))
    }

    /// Removes a committed key on purpose, so that its message can be processed again (a replay from a dead-letter queue);
    /// `false` if it is not held. A claim is not touched.
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
        inner.with_caught_up(hash, |shard| shard.forget(hash, key))
    }

    /// Gives back memory that a burst has left behind: up to a page of keys and one table's surplus at a time, of each shard, some tens
    /// of microseconds under each shard's lock. Returns whether there may be more to give back. Call it now and then, or until it
    /// returns `false`; nothing calls it for you, as memory that is kept makes the next burst cheaper.
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

impl Inner {
    fn insert(&self, hash: IndexHash, key: Fingerprint, time: u64) -> Result<Verdict, Error> {
        let now = self.now();
        Ok(self.with_room(hash, |shard| shard.insert(hash, key, time, now))?)
    }

    fn with_caught_up<R>(&self, hash: IndexHash, call: impl FnOnce(&mut Shard) -> R) -> R {
        self.with_entered(hash.shard(self.shards.len()), call)
    }

    fn with_entered<R>(&self, shard: usize, call: impl FnOnce(&mut Shard) -> R) -> R {
        let mut local = self.enter(shard, 1);
        let result = call(&mut local.shard);
        self.spare.settle(&mut local.shard);
        result
    }

    /// Locks a shard and lets it catch up with the watermark; counts calls towards reading the clock.
    #[inline]
    fn enter(&self, shard: usize, calls: u32) -> MutexGuard<'_, Local> {
        self.caught_up(self.shards[shard].lock(), calls)
    }

    /// As `enter` for a batch, unless another thread has the shard.
    fn try_enter(&self, shard: usize) -> Option<MutexGuard<'_, Local>> {
        Some(self.caught_up(self.shards[shard].try_lock()?, CALLS_PER_CLOCK_READING))
    }

    #[inline]
    fn caught_up<'a>(&'a self, mut local: MutexGuard<'a, Local>, calls: u32) -> MutexGuard<'a, Local> {
        if self.clock.is_some() {
            local.calls_to_clock_reading = local.calls_to_clock_reading.saturating_sub(calls);
            if local.calls_to_clock_reading == 0 {
                local.calls_to_clock_reading = CALLS_PER_CLOCK_READING;
                self.read_clock();
            }
        }
        local.shard.advance(self.published.watermark());
        local
    }

    /// If another thread is at it, the clock is being read.
    fn read_clock(&self) {
        if let Some(mut progress) = self.progress.try_lock() {
            progress.read_clock();
            self.published.publish(&progress);
        }
    }

    #[inline]
    fn admit(&self, msg_time: Option<Timestamp>) -> Result<u64, Error> {
        match msg_time {
            Some(time) => Ok(self.admit_known(time)),
            None => self.change_progress(Progress::admit_unknown),
        }
    }

    #[inline]
    fn admit_known(&self, time: Timestamp) -> u64 {
        match time.as_millis() {
            believed if believed <= self.published.ceiling.load(Relaxed) => believed,
            _ => self.change_progress(|progress| progress.admit_known(time)),
        }
    }

    #[cold]
    fn change_progress<R>(&self, change: impl FnOnce(&mut Progress) -> R) -> R {
        let mut progress = self.progress.lock();
        let result = change(&mut progress);
        self.published.publish(&progress);
        result
    }

    /// `now`. A lease is too short to be timed by a clock that is read rarely: with leases it is read each time.
    #[inline]
    fn now(&self) -> Option<u64> {
        let known = self.published.now();
        if self.has_leases { self.clock.as_ref().map(SystemClock::now).max(known) } else { known }
    }

    /// Lets every shard catch up and reclaims a bounded number of dead keys. One that another thread has is at work
    /// anyway, and does its share itself.
    fn reclaim_some(&self) {
        for shard in 0..self.shards.len() {
            if let Some(mut local) = self.try_enter(shard) {
                local.shard.reclaim_some(self.shards.len());
                self.spare.settle(&mut local.shard);
            }
        }
    }
}

impl Published {
    fn new(progress: &Progress) -> Self {
        let published =
            Self { watermark: AtomicU64::new(0), ceiling: AtomicU64::new(0), now: AtomicU64::new(NOW_UNKNOWN) };
        published.publish(progress);
        published
    }

    /// Called under the lock of the progress.
    fn publish(&self, progress: &Progress) {
        self.watermark.store(progress.watermark(), Relaxed);
        self.ceiling.store(progress.ceiling(), Relaxed);
        self.now.store(progress.now().unwrap_or(NOW_UNKNOWN), Relaxed);
    }

    #[inline]
    fn watermark(&self) -> u64 {
        self.watermark.load(Relaxed)
    }

    #[inline]
    fn now(&self) -> Option<u64> {
        Some(self.now.load(Relaxed)).filter(|now| *now != NOW_UNKNOWN)
    }
}

/// Sixteen for each processor, so that two threads seldom meet; but each costs memory and divides batches, so in smaller
/// caches only as many as have a good hundred thousand keys, or four for each processor with some thousands.
fn default_shards(max_keys: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let holding = |keys: usize| max_keys.div_ceil(keys);
    let shards = (16 * processors).min(holding(1 << 17)).max((4 * processors).min(holding(1 << 12)));
    shards.next_power_of_two().min(MAX_SHARDS)
}

impl std::fmt::Debug for DedupCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedupCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
