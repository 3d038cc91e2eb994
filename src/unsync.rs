//! The cache of one consumer: `&mut self`, no lock, no atomic.

use crate::answer::Outcome;
use crate::config::Checked;
use crate::engine::{IndexHash, IndexHasher, Settings, Shard};
use crate::fingerprint::{Key, Secret};
use crate::watermark::Progress;
use crate::{Claimed, Config, Error, Fingerprint, MinMsgTime, Stats, Timestamp, Verdict, WhenFull};

/// Calls between two readings of the system clock.
const CALLS_PER_CLOCK_READING: u32 = 64;

/// The dedup cache of a single consumer loop.
///
/// See the [crate documentation](crate) for what it promises. One thread reaches the highest rate with
/// [`insert_batch`](Self::insert_batch); several consumers scale without limit with one such cache for each partition of
/// the queue, as long as all copies of a key come to the same partition.
///
/// ```
/// use oncewheel::{Claimed, Config, Horizon, MinMsgTime, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let mut cache = DedupCache::new(Config::new(horizon))?;
/// let (key, msg_time) = ("transfer-17", Timestamp::now());
///
/// cache.observe(MinMsgTime::Known(msg_time))?; // as the broker reports it
/// match cache.claim(key, msg_time)? {
///     Claimed::Fresh(claim) => {
///         // move the money, then:
///         cache.commit(claim)?;
///         // and acknowledge
///     }
///     Claimed::Duplicate => {} // acknowledge
///     Claimed::InFlight => {}  // leave it to come back
///     Claimed::TooOld => {}    // to the dead letters
/// }
/// # Ok::<(), oncewheel::Error>(())
/// ```
pub struct DedupCache {
    shard: Shard,
    progress: Progress,
    secret: Secret,
    max_keys: usize,
    calls_to_clock_reading: u32,
}

/// The right to process one message: what [`DedupCache::claim`] hands out, to be returned by
/// [`commit`](DedupCache::commit) or [`abort`](DedupCache::abort).
///
/// A plain token: dropping it tells the cache nothing, and the key stays `InFlight` until `max_processing_time` is over,
/// or for good if there is none. See [`DedupCache::claim`] for an example. [`process_once`](DedupCache::process_once) cannot forget one;
/// [`sync::Claim`](crate::sync::Claim) gives itself up when dropped.
#[derive(Debug)]
#[must_use = "a claim that is neither committed nor aborted keeps its key InFlight"]
pub struct Claim {
    hash: IndexHash,
    key: Fingerprint,
    generation: u64,
}

impl DedupCache {
    /// An empty cache. Memory is taken as keys come.
    ///
    /// # Errors
    ///
    /// What [`Config`] says about the ranges of its fields.
    pub fn new(config: Config) -> Result<Self, Error> {
        let Checked { rule, lease } = config.check()?;
        let secret = Secret::new(config.secret);
        let settings = Settings {
            hasher: IndexHasher::new(secret.index_key()),
            keys_max: config.max_keys,
            span: rule.span,
            lease,
            evicts: config.when_full == WhenFull::ForgetOldest,
        };
        Ok(Self {
            shard: Shard::new(&settings, config.max_keys),
            progress: Progress::new(rule, config.clock),
            secret,
            max_keys: config.max_keys,
            calls_to_clock_reading: CALLS_PER_CLOCK_READING,
        })
    }

    /// Records a key on sight and says whether it was known: for effects that are idempotent, or where at most once is
    /// wanted. A message that is lost after this call is not processed again; where it must be, [`claim`](Self::claim).
    ///
    /// `msg_time` is the time at which the broker stored this copy, or the producer made it; `None` if it is unknown,
    /// which counts as now. Costs one cache miss: 70 to 140 ns at 1 to 10 million keys.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// assert_eq!(cache.insert("order-1", Timestamp::now())?, Verdict::Fresh);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    #[inline]
    pub fn insert(&mut self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Verdict, Error> {
        let (hash, key, time) = self.enter(key, msg_time)?;
        Ok(self.shard.insert(hash, key, time, self.progress.now())?)
    }

    /// Records many keys on sight, answering in order: the fastest way in, since the cache misses of a group of keys
    /// overlap. `verdicts` is cleared first and then holds one answer for each entry. Equal to as many single calls, but
    /// that the clock is read once.
    ///
    /// Fingerprints come from [`fingerprint`](Self::fingerprint).
    ///
    /// # Errors
    ///
    /// [`Error::Full`] at the first entry that finds no room: `verdicts` then holds the answers of those before it, which
    /// stand; the rest were not touched.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Timestamp, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let now = Timestamp::now();
    /// let batch: Vec<_> = ["a", "b", "a"].iter().map(|key| (cache.fingerprint(key.as_bytes()), now)).collect();
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
        verdicts.clear();
        verdicts.resize(entries.len(), Verdict::Fresh);
        self.count_calls(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        let latest = entries.iter().fold(0, |latest, (_, time)| time.as_millis().max(latest));
        let clamped = (latest > self.progress.ceiling()).then(|| self.clamp(entries));
        let entries = clamped.as_deref().unwrap_or(entries);
        let decided = self.shard.insert_batch(entries, self.progress.now(), |at, verdict| verdicts[at] = verdict);
        verdicts.truncate(decided);
        if decided < entries.len() { Err(Error::Full) } else { Ok(()) }
    }

    #[cold]
    fn clamp(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Vec<(Fingerprint, Timestamp)> {
        let mut believed = |time| Timestamp::from_millis(self.progress.admit_known(time));
        let clamped = entries.iter().map(|(key, time)| (*key, believed(*time))).collect();
        self.catch_up();
        clamped
    }

    /// Claims a message for processing. On `Fresh`: effect, then [`commit`](Self::commit), then acknowledge. If the
    /// effect fails, [`abort`](Self::abort), and a redelivery will be `Fresh` again.
    ///
    /// `msg_time` as in [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Timestamp, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::InFlight));
    /// cache.abort(claim); // the effect failed
    /// assert!(matches!(cache.claim("order-1", None)?, Claimed::Fresh(_)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn claim(&mut self, key: impl Key, msg_time: impl Into<Option<Timestamp>>) -> Result<Claimed<Claim>, Error> {
        let (hash, key, time) = self.enter(key, msg_time)?;
        let claimed = self.shard.claim(hash, key, time, self.progress.now())?;
        Ok(claimed.map(|generation| Claim { hash, key, generation }))
    }

    /// Records the key of a claim: from now on its copies are `Duplicate`.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if the claim outlived `max_processing_time` and was taken over, or swept because no copy can
    /// come any more: do not acknowledge. Also for a claim of another cache.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let Claimed::Fresh(claim) = cache.claim("order-1", None)? else { panic!("never seen") };
    /// cache.commit(claim)?;
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn commit(&mut self, claim: Claim) -> Result<(), Error> {
        match self.shard.commit(claim.hash, claim.key, claim.generation) {
            true => Ok(()),
            false => Err(Error::ClaimLost),
        }
    }

    /// Gives a claim up: a redelivery will be `Fresh`. Does nothing if the claim was lost already. See
    /// [`claim`](Self::claim) for an example.
    pub fn abort(&mut self, claim: Claim) {
        self.shard.abort(claim.hash, claim.key, claim.generation);
    }

    /// Claims, runs `handler` if the delivery is fresh, and commits; or gives the claim up if the handler returns `Err`
    /// or panics ([`Outcome`]). `Fresh` holds what the handler returned. Acknowledge on `Fresh(Ok(_))`, `Fresh(())` and `Duplicate`.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim). The claim cannot be lost meanwhile, since nobody else can reach the cache.
    ///
    /// ```
    /// # use oncewheel::{Claimed, Config, Horizon, Timestamp, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let failed = cache.process_once("order-1", Timestamp::now(), || Err::<(), _>("database down"))?;
    /// assert_eq!(failed, Claimed::Fresh(Err("database down")));
    /// let done = cache.process_once("order-1", Timestamp::now(), || Ok::<_, ()>(17))?;
    /// assert_eq!(done, Claimed::Fresh(Ok(17)));
    /// assert_eq!(cache.process_once("order-1", Timestamp::now(), || ())?, Claimed::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn process_once<R: Outcome>(
        &mut self,
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
        let mut open = OpenClaim { cache: self, claim: Some(claim) };
        let result = handler();
        if result.is_done()
            && let Some(claim) = open.claim.take()
        {
            open.cache.commit(claim)?;
        }
        Ok(Claimed::Fresh(result))
    }

    /// The fingerprint of a key under this cache's secret, for [`insert_batch`](Self::insert_batch) or to hash on another
    /// thread. Takes some 10 to 20 ns for short keys.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// let fingerprint = cache.fingerprint(b"order-1");
    /// assert_eq!(cache.insert(fingerprint, None)?, Verdict::Fresh);
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Duplicate);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.secret.fingerprint(key)
    }

    /// Takes note of the broker's oldest unconsumed message, which moves the watermark. Call it whenever the broker says
    /// so: once a second is plenty. Reclaims a bounded number of expired keys.
    ///
    /// # Errors
    ///
    /// [`Error::WatermarkAhead`]: refused, nothing changed but `Stats::refused_times`.
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
        let observed = self.progress.observe(min_msg_time);
        self.catch_up();
        self.shard.reclaim_some(1);
        observed
    }

    /// Moves a manual clock to `now`; never back. Under [`Clock::System`](crate::Clock::System) reads that clock and
    /// ignores `now`: call it now and then while the queue is idle, so that expired keys are forgotten. Reclaims a
    /// bounded number of them.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, Timestamp, unsync::DedupCache};
    /// # use std::time::Duration;
    /// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5)).max_retention(Duration::from_secs(100));
    /// let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// cache.advance(Timestamp::from_millis(250_000));
    /// assert_eq!(cache.watermark(), Some(Timestamp::from_millis(150_000)));
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn advance(&mut self, now: Timestamp) {
        self.progress.advance(now.as_millis());
        self.catch_up();
        self.shard.reclaim_some(1);
    }

    /// How far the queue has come: nothing older is delivered any more. `None` until something has moved it.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.progress.watermark() > 0).then_some(Timestamp::from_millis(self.progress.watermark()))
    }

    /// Removes a committed key on purpose, so that its message can be processed again (a replay from a dead-letter queue);
    /// `false` if it is not held. A claim is not touched.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Verdict, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon))?;
    /// cache.insert("order-1", None)?;
    /// assert!(cache.forget("order-1"));
    /// assert_eq!(cache.insert("order-1", None)?, Verdict::Fresh);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn forget(&mut self, key: impl Key) -> bool {
        let key = key.fingerprint(&self.secret);
        self.shard.forget(self.shard.hash(key), key)
    }

    /// Gives back memory that a burst has left behind: up to a page of keys and one table's surplus at a time, some tens
    /// of microseconds. Returns whether there may be more to give back. Call it now and then, or until it
    /// returns `false`; nothing calls it for you, as memory that is kept makes the next burst cheaper.
    ///
    /// ```
    /// # use oncewheel::{Clock, Config, Horizon, MinMsgTime, Timestamp, unsync::DedupCache};
    /// # let horizon = Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5));
    /// let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
    /// for number in 0..100_000u32 {
    ///     let _ = cache.insert(number.to_le_bytes(), Timestamp::from_millis(1))?;
    /// }
    /// let full = cache.stats().memory_bytes;
    /// cache.observe(MinMsgTime::Known(Timestamp::from_millis(1_000_000)))?;
    /// while cache.shrink() {}
    /// assert!(cache.stats().memory_bytes < full / 4);
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn shrink(&mut self) -> bool {
        self.shard.shrink()
    }

    /// The number of keys held; open claims are not among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shard.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot of the counters. Takes microseconds at millions of keys.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::new(&self.progress);
        stats.add(&self.shard);
        stats
    }

    /// Recounts everything from scratch and panics on what does not add up: for tests and fuzzing. Takes as long as the
    /// cache is large.
    #[doc(hidden)]
    pub fn validate(&self) {
        assert_eq!(self.shard.watermark(), self.progress.watermark());
        assert_eq!(self.shard.validate(), self.max_keys, "room");
    }

    #[inline(always)]
    fn enter(
        &mut self,
        key: impl Key,
        msg_time: impl Into<Option<Timestamp>>,
    ) -> Result<(IndexHash, Fingerprint, u64), Error> {
        self.count_calls(1);
        let time = match msg_time.into() {
            Some(time) => self.progress.admit_known(time),
            None => self.progress.admit_unknown()?,
        };
        self.catch_up();
        let key = key.fingerprint(&self.secret);
        Ok((self.shard.hash(key), key, time))
    }

    #[inline(always)]
    fn count_calls(&mut self, calls: u32) {
        self.calls_to_clock_reading = self.calls_to_clock_reading.saturating_sub(calls);
        // A lease is too short to be timed by a clock that is read rarely.
        if self.calls_to_clock_reading == 0 || self.shard.has_leases() {
            self.calls_to_clock_reading = CALLS_PER_CLOCK_READING;
            self.progress.read_clock();
            self.catch_up();
        }
    }

    #[inline(always)]
    fn catch_up(&mut self) {
        self.shard.advance(self.progress.watermark());
    }
}

/// Gives its claim up unless it was taken out.
struct OpenClaim<'a> {
    cache: &'a mut DedupCache,
    claim: Option<Claim>,
}

impl Drop for OpenClaim<'_> {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.cache.abort(claim);
        }
    }
}

impl std::fmt::Debug for DedupCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedupCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
