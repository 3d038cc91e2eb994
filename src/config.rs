//! How a cache is set up: plain data, checked once.

use crate::watermark::{Rule, millis_up};
use crate::{Error, Horizon};
use std::fmt;
use std::time::Duration;

/// Where `now` comes from.
///
/// ```
/// use oncewheel::{Clock, Config, Horizon, Timestamp, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let mut replay = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;
/// assert_eq!(replay.stats().now, None);
/// replay.advance(Timestamp::from_millis(5_000));
/// assert_eq!(replay.stats().now, Some(Timestamp::from_millis(5_000)));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// The wall clock at the start plus the monotonic time since, so that a stepped wall clock forgets nothing. Read once
    /// in some dozens of calls, a few times in a batch, and whenever an answer hangs on it. `advance` makes the cache read it
    /// and ignores its argument.
    #[default]
    System,
    /// `now` moves only by `advance(now)`: for replays, tests and simulations. Until then there is no `now`: no time is
    /// bounded by `max_clock_skew`, and only `observe` moves the watermark.
    Manual,
}

/// What happens to a new key when `max_keys` keys and claims are held and none may be forgotten.
///
/// ```
/// use oncewheel::{Clock, Config, Horizon, Timestamp, Verdict, WhenFull, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let config = Config::new(horizon).clock(Clock::Manual).max_keys(1).when_full(WhenFull::ForgetOldest);
/// let mut cache = DedupCache::new(config)?;
/// assert_eq!(cache.insert("a", Timestamp::from_millis(1_000))?, Verdict::Fresh);
/// assert_eq!(cache.insert("b", Timestamp::from_millis(1_001))?, Verdict::Fresh);
/// assert_eq!((cache.len(), cache.stats().forgotten_early), (1, 1));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// [`Error::Full`]: pause consumption, or raise `max_keys`. No promise is broken.
    #[default]
    Refuse,
    /// Forget the key that would have expired first (of the key's shard, in a large `sync` cache). `Fresh` then means
    /// "not among the keys still held": a copy of a forgotten key is processed again. Counted in
    /// `Stats::forgotten_early`; `Stats::vouches_since` says how far back the cache still knows everything. A large `sync`
    /// cache may begin some thousands of keys before `max_keys`, which its shards hold room for. A journal does not record
    /// what made room: a cache that is opened again forgets it again, and may come to hold one key instead of another.
    ForgetOldest,
}

/// The set-up of a cache: plain data in the style of a builder.
///
/// ```
/// use oncewheel::{Config, Horizon, WhenFull, sync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let config = Config::new(horizon).max_keys(1_000_000).max_processing_time(Duration::from_secs(60));
/// let cache = DedupCache::new(config)?;
/// # let _ = (cache, WhenFull::Refuse);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// How long keys must be held.
    pub horizon: Horizon,
    /// The most keys and open claims held at once: 1 to 2^31, by default 10,000,000. More than there are messages in
    /// `max_retry + max_network` (see [`Error::Full`]). Memory is taken as keys come, about
    /// 31 bytes for each at hundreds of thousands of keys and more; a few keys spread over a long time take more, as each
    /// wheel slot and shard begins a chunk of 512 bytes. An empty cache of the default size costs less than 256 KiB.
    pub max_keys: usize,
    /// Where `now` comes from, by default [`Clock::System`].
    pub clock: Clock,
    /// What happens at `max_keys`, by default [`WhenFull::Refuse`].
    pub when_full: WhenFull,
    /// After this time a claim may be taken over by another delivery of its key. By default never.
    pub max_processing_time: Option<Duration>,
    /// The number of shards of a `sync` cache, 1 to 1024, rounded up to a power of two. By default sixteen for each
    /// processor in large caches, fewer where `max_keys` is below some millions. With more, threads meet less often; but
    /// each takes memory of its own, a batch is divided among all, and [`Error::Full`] is found out by locking all. A
    /// `unsync` cache has one.
    pub shards: Option<usize>,
    /// The secret of the fingerprints. By default random for each cache.
    pub secret: Option<[u8; 16]>,
}

impl Config {
    /// The defaults with this horizon.
    #[must_use]
    pub const fn new(horizon: Horizon) -> Self {
        Self {
            horizon,
            max_keys: 10_000_000,
            clock: Clock::System,
            when_full: WhenFull::Refuse,
            max_processing_time: None,
            shards: None,
            secret: None,
        }
    }

    /// Sets [`max_keys`](Self::max_keys).
    #[must_use]
    pub const fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// Sets [`clock`](Self::clock).
    #[must_use]
    pub const fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets [`when_full`](Self::when_full).
    #[must_use]
    pub const fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets [`max_processing_time`](Self::max_processing_time).
    #[must_use]
    pub const fn max_processing_time(mut self, max_processing_time: Duration) -> Self {
        self.max_processing_time = Some(max_processing_time);
        self
    }

    /// Sets [`shards`](Self::shards).
    #[must_use]
    pub const fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets [`secret`](Self::secret): give one if fingerprints are made outside the cache, or kept. Whoever knows it can
    /// make keys that collide.
    #[must_use]
    pub const fn secret(mut self, secret: [u8; 16]) -> Self {
        self.secret = Some(secret);
        self
    }

    pub(crate) fn check(&self) -> Result<Checked, Error> {
        if !(1..=MAX_KEYS).contains(&self.max_keys) {
            return Err(Error::MaxKeysOutOfRange { max_keys: self.max_keys });
        }
        if let Some(shards) = self.shards
            && !(1..=MAX_SHARDS).contains(&shards)
        {
            return Err(Error::ShardsOutOfRange { shards });
        }
        let lease = match self.max_processing_time {
            Some(Duration::ZERO) => return Err(Error::ProcessingTimeOutOfRange),
            Some(time) => Some(millis_up(time).map_err(|_| Error::ProcessingTimeOutOfRange)?),
            None => None,
        };
        Ok(Checked { rule: self.horizon.rule()?, lease })
    }
}

const MAX_KEYS: usize = 1 << 31;
pub(crate) const MAX_SHARDS: usize = 1 << 10;

/// The parts of a checked [`Config`] that it has in another form.
pub(crate) struct Checked {
    pub(crate) rule: Rule,
    /// `max_processing_time` in milliseconds
    pub(crate) lease: Option<u64>,
}

/// The secret is not shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("horizon", &self.horizon)
            .field("max_keys", &self.max_keys)
            .field("clock", &self.clock)
            .field("when_full", &self.when_full)
            .field("max_processing_time", &self.max_processing_time)
            .field("shards", &self.shards)
            .field("secret", &self.secret.map(|_| "(hidden)"))
            .finish()
    }
}
