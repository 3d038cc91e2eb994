//! The cache of one consumer: `&mut self`, no lock, no atomic.

mod claim;
mod durable;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

pub use claim::Claim;

use crate::config::Checked;
use crate::engine::{Full, IndexHash, IndexHasher, Settings, Shard};
use crate::fingerprint::{Key, Secret};
use crate::watermark::Progress;
use crate::{Config, Error, Fingerprint, MinMsgTime, Stats, Timestamp, Verdict, WhenFull};

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
    journal: Option<Box<durable::Journal>>,
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
            journal: None,
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
    /// [`Error::Full`], and [`Error::NoTime`] for an unknown time under a manual clock that was not advanced yet. With a
    /// journal, [`Error::Journal`].
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
        let msg_time = msg_time.into();
        let (hash, key, time) = self.enter(key, msg_time)?;
        let (verdict, time) = match self.shard.insert(hash, key, time, self.progress.now()) {
            Ok(verdict) => (verdict, time),
            Err(Full) => self.insert_once_more(hash, key, msg_time)?,
        };
        if verdict == Verdict::Fresh && self.journal.is_some() {
            self.record_insert(hash, key, time)?;
        }
        Ok(verdict)
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
    /// stand; the rest were not touched. With a journal, [`Error::Journal`]: nothing was recorded.
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
        let mut decided = self.shard.insert_batch(entries, self.progress.now(), |at, verdict| verdicts[at] = verdict);
        if decided < entries.len() && self.has_moved_on() {
            let (rest, verdicts) = (&entries[decided..], &mut verdicts[decided..]);
            decided += self.shard.insert_batch(rest, self.progress.now(), |at, verdict| verdicts[at] = verdict);
        }
        verdicts.truncate(decided);
        if self.journal.is_some() {
            self.record_batch(entries, verdicts)?;
        }
        if decided < entries.len() { Err(Error::Full) } else { Ok(()) }
    }

    #[cold]
    fn clamp(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Vec<(Fingerprint, Timestamp)> {
        let mut believed = |time| Timestamp::from_millis(self.progress.admit_known(time));
        let clamped = entries.iter().map(|(key, time)| (*key, believed(*time))).collect();
        self.catch_up();
        clamped
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
    /// [`Error::WatermarkAhead`]: refused, nothing changed but `Stats::refused_times`. With a journal, [`Error::Journal`]: the
    /// watermark has moved, and may lie lower after a restart, by which nothing is lost.
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
        observed.and(self.record_progress().map_err(Error::from))
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
        let _ = self.record_progress(); // counted, and to be met by the next commit
    }

    /// How far the queue has come: nothing older is delivered any more. `None` until something has moved it.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.progress.watermark() > 0).then_some(Timestamp::from_millis(self.progress.watermark()))
    }

    /// Removes a committed key on purpose, so that its message can be processed again (a replay from a dead-letter queue);
    /// `false` if it is not held. A claim is not touched. With a journal, `false` also if that could not be recorded, and the
    /// key stays: `Stats::journal_failures` counts it.
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
        let hash = self.shard.hash(key);
        let is_gone = self.record_forget(hash, key) && self.shard.remove(hash, key);
        self.maintain();
        is_gone
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
        if let Some(journal) = &self.journal {
            (stats.journal_bytes, stats.journal_failures) = (journal.writer.bytes(), journal.writer.failures());
        }
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
    fn enter(&mut self, key: impl Key, msg_time: Option<Timestamp>) -> Result<(IndexHash, Fingerprint, u64), Error> {
        self.count_calls(1);
        let time = self.admit(msg_time)?;
        let key = key.fingerprint(&self.secret);
        Ok((self.shard.hash(key), key, time))
    }

    /// After a look at the clock; with the time that the delivery counts with now.
    #[cold]
    fn insert_once_more(
        &mut self,
        hash: IndexHash,
        key: Fingerprint,
        msg_time: Option<Timestamp>,
    ) -> Result<(Verdict, u64), Error> {
        if !self.has_moved_on() {
            return Err(Error::Full);
        }
        let time = self.admit(msg_time)?;
        Ok((self.shard.insert(hash, key, time, self.progress.now())?, time))
    }

    /// The time that a delivery counts with.
    #[inline(always)]
    fn admit(&mut self, msg_time: Option<Timestamp>) -> Result<u64, Error> {
        let time = match msg_time {
            Some(time) => self.progress.admit_known(time),
            None => self.progress.admit_unknown()?,
        };
        self.catch_up();
        Ok(time)
    }

    /// Whether the watermark goes further as soon as the clock is read: nothing is called full by a clock that was read
    /// long ago.
    #[cold]
    fn has_moved_on(&mut self) -> bool {
        let before = self.progress.watermark();
        self.progress.read_clock();
        self.catch_up();
        self.progress.watermark() > before
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

impl std::fmt::Debug for DedupCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DedupCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
