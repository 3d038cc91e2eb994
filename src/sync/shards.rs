//! What all handles share but for the journal: the shards, the published progress, and the way to
//! them.

use super::quota::Spare;
use crate::config::{Checked, Config, MAX_SHARDS, WhenFull};
use crate::engine::{Full, Held, IndexHash, IndexHasher, Settings, Shard};
use crate::events::Refusals;
use crate::key::KeyHasher;
use crate::locks::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering::Relaxed, thread};
use crate::time::{ClockCountdown, SystemClock};
use crate::watermark::Progress;
use crate::{Error, Fingerprint, Timestamp, Verdict, front};
use crossbeam_utils::CachePadded;

/// A shard smaller than this evicts badly on its own: it may hold only young keys.
const EVICTING_SHARD_MIN: usize = 1024;

pub(super) struct Shards {
    pub(super) shards: Box<[CachePadded<Mutex<Local>>]>,
    pub(super) published: CachePadded<Published>,
    pub(super) spare: CachePadded<Spare>,
    /// Locked after a shard where both are, never before one.
    pub(super) progress: Mutex<Progress>,
    clock: Option<SystemClock>,
    pub(super) key_hasher: KeyHasher,
    pub(super) hasher: IndexHasher,
    pub(super) evicts: bool,
    /// In milliseconds
    pub(super) lease: Option<u64>,
    max_keys: usize,
    pub(super) refusals: Refusals,
    /// The shard that `shrink` is at.
    shrinking: AtomicUsize,
}

/// A shard, and the countdown that its lock guards as well.
pub(super) struct Local {
    pub(super) shard: Shard,
    countdown: ClockCountdown,
}

/// What every call reads of [`Progress`], without its lock. A stale value is safe: a lower
/// watermark expires less, and whoever meets the ceiling asks the progress. So no order between
/// them is needed.
pub(super) struct Published {
    watermark: AtomicU64,
    ceiling: AtomicU64,
    /// `u64::MAX`: unknown.
    now: AtomicU64,
}

const NOW_UNKNOWN: u64 = u64::MAX;

impl Shards {
    pub(super) fn new(config: &Config, Checked { rule, lease }: Checked, key_hasher: KeyHasher) -> Self {
        let hasher = IndexHasher::new(key_hasher.index_key());
        let shards = config.shards.unwrap_or_else(|| default_shards(config.max_keys)).next_power_of_two();
        let evicts = config.when_full == WhenFull::EvictOldest;
        let keys_max = config.max_keys.div_ceil(shards);
        let settings =
            Settings { hasher, keys_max, span: rule.span, lease, evicts: evicts && keys_max >= EVICTING_SHARD_MIN };
        let local = || Local { shard: Shard::new(&settings, 0), countdown: ClockCountdown::new() };
        let progress = Progress::new(rule, config.clock);
        Self {
            shards: (0..shards).map(|_| CachePadded::new(Mutex::new(local()))).collect(),
            published: CachePadded::new(Published::new(&progress)),
            spare: CachePadded::new(Spare::new(config.max_keys, shards)),
            clock: progress.clock(),
            progress: Mutex::new(progress),
            key_hasher,
            hasher,
            evicts,
            lease,
            max_keys: config.max_keys,
            refusals: Refusals::default(),
            shrinking: AtomicUsize::new(0),
        }
    }

    pub(super) fn insert(&self, hash: IndexHash, key: Fingerprint, time: Admitted) -> Result<Verdict, Error> {
        let now = self.now();
        self.with_quota(hash, |shard| shard.insert(hash, key, time.past(shard.watermark()), now))
    }

    /// As `insert`; a key that is inserted is in flight to all other calls until `clear_pending`.
    pub(super) fn insert_pending(
        &self,
        hash: IndexHash,
        key: Fingerprint,
        time: Admitted,
        call: u64,
    ) -> Result<Verdict, Error> {
        let now = self.now();
        self.with_quota(hash, |shard| {
            shard.set_call(call);
            let inserted = shard.insert(hash, key, time.past(shard.watermark()), now);
            shard.set_call(0);
            if inserted == Ok(Verdict::Fresh) {
                shard.mark_pending(key, call);
            }
            inserted
        })
    }

    pub(super) fn with_caught_up<R>(&self, hash: IndexHash, call: impl FnOnce(&mut Shard) -> R) -> R {
        self.with_entered(hash.shard(self.shards.len()), call)
    }

    pub(super) fn with_entered<R>(&self, shard: usize, call: impl FnOnce(&mut Shard) -> R) -> R {
        let mut local = self.enter(shard, 1);
        let result = call(&mut local.shard);
        self.spare.take_surplus(&mut local.shard);
        result
    }

    /// Locks a shard and lets it catch up with the watermark; counts calls towards reading the
    /// clock.
    #[inline]
    pub(super) fn enter(&self, shard: usize, calls: u32) -> MutexGuard<'_, Local> {
        self.caught_up(self.shards[shard].lock(), calls)
    }

    /// As `enter` for a batch, unless another thread has the shard.
    pub(super) fn try_enter(&self, shard: usize) -> Option<MutexGuard<'_, Local>> {
        Some(self.caught_up(self.shards[shard].try_lock()?, ClockCountdown::CALLS))
    }

    #[inline]
    fn caught_up<'a>(&'a self, mut local: MutexGuard<'a, Local>, calls: u32) -> MutexGuard<'a, Local> {
        if self.clock.is_some() && local.countdown.is_due(calls) {
            self.read_clock();
        }
        local.shard.advance(self.published.watermark());
        local
    }

    /// Not where another thread is reading it already.
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

    /// Whether a message may have this time. The clock is read first where the answer depends on
    /// it.
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

    /// `now`. A lease is too short to be timed by a clock that is read rarely: with leases the
    /// clock is read each time.
    #[inline]
    pub(super) fn now(&self) -> Option<u64> {
        let known = self.published.now();
        if self.lease.is_some() { self.clock.as_ref().map(SystemClock::now).max(known) } else { known }
    }

    /// Lets every shard catch up and reclaims a bounded number of expired keys. A shard that
    /// another thread has locked does its share in that call.
    pub(super) fn reclaim_some(&self) {
        for shard in 0..self.shards.len() {
            if let Some(mut local) = self.try_enter(shard) {
                local.shard.reclaim_some(self.shards.len());
                self.spare.take_surplus(&mut local.shard);
            }
        }
    }

    pub(super) fn shrink(&self) -> bool {
        let at = self.shrinking.load(Relaxed);
        if self.with_entered(at, Shard::shrink) {
            return true;
        }
        let next = if at + 1 == self.shards.len() { 0 } else { at + 1 };
        // Where another thread has moved on meanwhile, nothing is lost.
        let _ = self.shrinking.compare_exchange(at, next, Relaxed, Relaxed);
        next != 0
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|local| local.lock().shard.len()).sum()
    }

    pub(super) fn held(&self, key: Fingerprint) -> Held {
        let hash = self.hasher.hash(key);
        self.shards[hash.shard(self.shards.len())].lock().shard.held(hash, key)
    }

    pub(super) fn add_to(&self, stats: &mut crate::Stats) {
        self.shards.iter().for_each(|local| front::add_shard(stats, &local.lock().shard));
    }

    /// Recounts everything from scratch.
    pub(super) fn validate(&self) {
        let held: usize = self.shards.iter().map(|local| local.lock().shard.validate()).sum();
        assert_eq!(held + self.spare.left(), self.max_keys, "keys, claims and quota");
    }

    /// Runs `call` on a key's shard, and finds quota where the call finds none.
    #[inline]
    pub(super) fn with_quota<R>(
        &self,
        hash: IndexHash,
        mut call: impl FnMut(&mut Shard) -> Result<R, Full>,
    ) -> Result<R, Error> {
        let at = hash.shard(self.shards.len());
        let mut local = self.enter(at, 1);
        let mut full_at = None;
        loop {
            if local.shard.quota == 0 {
                self.spare.supply(&mut local.shard);
            }
            match (call(&mut local.shard), full_at) {
                (Ok(result), _) => {
                    self.spare.take_surplus(&mut local.shard);
                    return Ok(result);
                }
                // Asked again though no quota was found: meanwhile another thread may have inserted
                // this very key with the last of it.
                (Err(Full), None) => (local, full_at) = self.find_quota(at, local),
                (Err(Full), Some(next_due)) => return Err(self.full(local, next_due)),
            }
        }
    }

    #[cold]
    fn full(&self, local: MutexGuard<'_, Local>, next_due: u64) -> Error {
        drop(local); // before the event
        let full = front::full(next_due);
        self.refusals.emit(&full);
        full
    }

    /// Gathers the quota that shards have and do not need. If there is none, returns the watermark
    /// at which the next key expires. All locks are held, so that the answer is true of one moment:
    /// no quota anywhere, and no batch that may return some. The shard stays locked after that
    /// moment.
    #[cold]
    fn find_quota<'a>(&'a self, at: usize, local: MutexGuard<'a, Local>) -> (MutexGuard<'a, Local>, Option<u64>) {
        drop(local);
        // The cache is never called full by a clock that was read long ago.
        self.change_progress(Progress::read_clock);
        // In the order of their numbers, as whoever holds more than one does.
        let mut all: Vec<_> = (0..self.shards.len()).map(|shard| self.enter(shard, 0)).collect();
        for local in &mut all {
            local.shard.gather_quota(self.published.now());
            self.spare.put(std::mem::take(&mut local.shard.quota));
        }
        let (left, lent) = self.spare.left_and_lent();
        if left == 0 && lent == 0 && !(self.evicts && self.evict_oldest(&mut all)) {
            let next_due = all.iter().map(|local| local.shard.next_due()).fold(u64::MAX, u64::min);
            return (all.swap_remove(at), Some(next_due));
        }
        drop(all);
        if left == 0 {
            thread::yield_now(); // to the batch that has it
        }
        (self.enter(at, 0), None)
    }

    /// Evicts the key that would expire first over all shards.
    fn evict_oldest(&self, all: &mut [MutexGuard<'_, Local>]) -> bool {
        let oldest = all.iter_mut().filter(|local| local.shard.len() > 0).min_by_key(|local| local.shard.next_due());
        oldest.is_some_and(|local| {
            let evicted = local.shard.evict();
            self.spare.put(std::mem::take(&mut local.shard.quota));
            evicted
        })
    }
}

/// The time that a delivery counts with.
#[derive(Clone, Copy)]
pub(super) enum Admitted {
    Exactly(u64),
    /// A time that is unknown or was clamped: at least this, and no earlier than the watermark.
    /// That may have moved since, but nothing older is delivered.
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

/// Sixteen for each processor, so that two threads seldom meet. But each costs memory and divides
/// batches, so smaller caches have only as many as hold a good hundred thousand keys each, or four
/// for each processor with some thousands.
fn default_shards(max_keys: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let holding = |keys: usize| max_keys.div_ceil(keys);
    let shards = (16 * processors).min(holding(1 << 17)).max((4 * processors).min(holding(1 << 12)));
    shards.next_power_of_two().min(MAX_SHARDS)
}
