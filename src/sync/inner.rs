//! What all handles share: the shards, the published progress, and the way to them.

use super::room::Spare;
use crate::config::{Checked, MAX_SHARDS};
use crate::engine::{IndexHash, IndexHasher, Settings, Shard};
use crate::fingerprint::Secret;
use crate::locks::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering::Relaxed};
use crate::time::SystemClock;
use crate::watermark::Progress;
use crate::{Config, Error, Fingerprint, Timestamp, Verdict, WhenFull};
use crossbeam_utils::CachePadded;

/// Calls to a shard between two readings of the system clock.
const CALLS_PER_CLOCK_READING: u32 = 64;
/// A shard smaller than this evicts badly on its own: it may hold only young keys.
const EVICTING_SHARD_MIN: usize = 1024;

pub(super) struct Inner {
    pub(super) shards: Box<[CachePadded<Mutex<Local>>]>,
    pub(super) published: CachePadded<Published>,
    pub(super) spare: CachePadded<Spare>,
    /// Locked after a shard where both are, never before one.
    pub(super) progress: Mutex<Progress>,
    clock: Option<SystemClock>,
    pub(super) secret: Secret,
    pub(super) hasher: IndexHasher,
    pub(super) forgets_oldest: bool,
    has_leases: bool,
    pub(super) max_keys: usize,
    /// The shard that `shrink` is at.
    pub(super) shrinking: AtomicUsize,
    pub(super) journal: Option<super::durable::Journal>,
}

/// A shard and what its lock guards besides.
pub(super) struct Local {
    pub(super) shard: Shard,
    calls_to_clock_reading: u32,
}

/// What every call reads of [`Progress`], without its lock. A value that is behind is safe: a lower watermark forgets
/// less, and whoever meets the ceiling asks the progress. So no order between them is needed.
pub(super) struct Published {
    watermark: AtomicU64,
    ceiling: AtomicU64,
    /// `u64::MAX`: unknown.
    now: AtomicU64,
}

const NOW_UNKNOWN: u64 = u64::MAX;

impl Inner {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
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
        Ok(Self {
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
            journal: None,
        })
    }

    pub(super) fn insert(&self, hash: IndexHash, key: Fingerprint, time: Admitted) -> Result<Verdict, Error> {
        if let Some(journal) = &self.journal {
            return self.insert_durably(journal, hash, key, time);
        }
        let now = self.now();
        Ok(self.with_room(hash, |shard| shard.insert(hash, key, time.past(shard.watermark()), now))?)
    }

    pub(super) fn with_caught_up<R>(&self, hash: IndexHash, call: impl FnOnce(&mut Shard) -> R) -> R {
        self.with_entered(hash.shard(self.shards.len()), call)
    }

    pub(super) fn with_entered<R>(&self, shard: usize, call: impl FnOnce(&mut Shard) -> R) -> R {
        let mut local = self.enter(shard, 1);
        let result = call(&mut local.shard);
        self.spare.settle(&mut local.shard);
        result
    }

    /// Locks a shard and lets it catch up with the watermark; counts calls towards reading the clock.
    #[inline]
    pub(super) fn enter(&self, shard: usize, calls: u32) -> MutexGuard<'_, Local> {
        self.caught_up(self.shards[shard].lock(), calls)
    }

    /// As `enter` for a batch, unless another thread has the shard.
    pub(super) fn try_enter(&self, shard: usize) -> Option<MutexGuard<'_, Local>> {
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
    pub(super) fn admit(&self, msg_time: Option<Timestamp>) -> Result<Admitted, Error> {
        match msg_time {
            Some(time) => Ok(self.admit_known(time)),
            None => self.change_progress(Progress::admit_unknown).map(Admitted::AtLeast),
        }
    }

    #[inline]
    pub(super) fn admit_known(&self, time: Timestamp) -> Admitted {
        if time.as_millis() <= self.published.ceiling() {
            return Admitted::Exactly(time.as_millis());
        }
        match self.change_progress(|progress| progress.admit_known(time)) {
            believed if believed == time.as_millis() => Admitted::Exactly(believed),
            clamped => Admitted::AtLeast(clamped),
        }
    }

    /// Whether a message may have this time, by a clock that is read now if that decides it.
    pub(super) fn is_believed(&self, time: Timestamp) -> bool {
        let is_believed = || time.as_millis() <= self.published.ceiling();
        is_believed() || {
            self.change_progress(Progress::read_clock);
            is_believed()
        }
    }

    #[cold]
    pub(super) fn change_progress<R>(&self, change: impl FnOnce(&mut Progress) -> R) -> R {
        let mut progress = self.progress.lock();
        let result = change(&mut progress);
        self.published.publish(&progress);
        result
    }

    /// `now`. A lease is too short to be timed by a clock that is read rarely: with leases it is read each time.
    #[inline]
    pub(super) fn now(&self) -> Option<u64> {
        let known = self.published.now();
        if self.has_leases { self.clock.as_ref().map(SystemClock::now).max(known) } else { known }
    }

    /// Lets every shard catch up and reclaims a bounded number of dead keys. One that another thread has is at work
    /// anyway, and does its share itself.
    pub(super) fn reclaim_some(&self) {
        for shard in 0..self.shards.len() {
            if let Some(mut local) = self.try_enter(shard) {
                local.shard.reclaim_some(self.shards.len());
                self.spare.settle(&mut local.shard);
            }
        }
    }
}

/// The time that a delivery counts with.
#[derive(Clone, Copy)]
pub(super) enum Admitted {
    Exactly(u64),
    /// One that is unknown, or was clamped: at least this, and no earlier than the watermark, which may have moved since,
    /// but nothing older is delivered.
    AtLeast(u64),
}

impl Admitted {
    #[inline]
    pub(super) fn past(self, watermark: u64) -> u64 {
        match self {
            Self::Exactly(time) => time,
            Self::AtLeast(time) => time.max(watermark),
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
    pub(super) fn watermark(&self) -> u64 {
        self.watermark.load(Relaxed)
    }

    pub(super) fn ceiling(&self) -> u64 {
        self.ceiling.load(Relaxed)
    }

    #[inline]
    pub(super) fn now(&self) -> Option<u64> {
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
