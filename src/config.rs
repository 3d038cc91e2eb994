//! How a cache is set up: plain data, checked once.

use crate::horizon::{Horizon, Rule, millis_up};
use crate::{Clock, ConfigError};
use std::fmt;
use std::time::Duration;

/// What happens to a new key when `max_keys` keys and claims are held and none has expired.
///
/// ```
/// use oncewheel::{Clock, Config, Horizon, Timestamp, Verdict, WhenFull, unsync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
/// let config = Config::new(horizon).clock(Clock::Manual).max_keys(1).when_full(WhenFull::EvictOldest);
/// let mut cache = DedupCache::new(config)?;
/// assert_eq!(cache.insert("a", Timestamp::from_millis(1_000))?, Verdict::Fresh);
/// assert_eq!(cache.insert("b", Timestamp::from_millis(1_001))?, Verdict::Fresh);
/// assert_eq!((cache.len(), cache.stats().evicted), (1, 1));
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WhenFull {
    /// [`Error::Full`](crate::Error::Full): pause consumption, or raise `max_keys`. No promise is
    /// broken.
    #[default]
    Reject,
    /// Evict the key that would expire first (of the key's shard, in a large `sync` cache). `Fresh`
    /// then means "not among the keys still held": a copy of an evicted key is processed again.
    /// Evictions are counted in `Stats::evicted`; `Stats::complete_since` tells how far back the
    /// cache still knows every key. A large `sync` cache may begin some thousands of keys before
    /// `max_keys`, which its shards hold quota for. A journal does not store evictions: a cache
    /// that is opened again evicts again, and may hold one key instead of another.
    EvictOldest,
}

/// `reject` or `evict_oldest`.
impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::EvictOldest => "evict_oldest",
        })
    }
}

/// The set-up of a cache: plain data in the style of a builder.
///
/// With the feature `serde` it can stand in a service's configuration file. Durations are text such
/// as `"10m"`, the secret is 32 hexadecimal digits (read, never written), unknown fields are
/// errors, and every field but `horizon` has its default.
///
/// ```
/// use oncewheel::{Config, Horizon, sync::DedupCache};
/// use std::time::Duration;
///
/// let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
/// let config = Config::new(horizon).max_keys(1_000_000).lease(Duration::from_secs(60));
/// let cache = DedupCache::new(config)?;
/// # let _ = cache;
/// # Ok::<(), oncewheel::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// How long keys must be held.
    pub horizon: Horizon,
    /// The most keys and open claims held at once: 1 to 2^31, by default 10,000,000. It must exceed
    /// the number of messages in `max_retry + max_network` (see
    /// [`Error::Full`](crate::Error::Full)). Memory is taken as keys come, about 31 bytes for each
    /// at hundreds of thousands of keys and more. A few keys spread over a long time take more, as
    /// each wheel slot and shard begins a chunk of 512 bytes. An empty cache of the default size
    /// costs less than 256 KiB.
    #[cfg_attr(feature = "serde", serde(default = "default_max_keys"))]
    pub max_keys: usize,
    /// Where `now` comes from, by default [`Clock::System`].
    #[cfg_attr(feature = "serde", serde(default))]
    pub clock: Clock,
    /// What happens at `max_keys`, by default [`WhenFull::Reject`].
    #[cfg_attr(feature = "serde", serde(default))]
    pub when_full: WhenFull,
    /// How long a claim is exclusive (other systems call it the visibility timeout): after this
    /// time another delivery of the key may take the claim over, and its late `commit` is refused.
    /// Longer than the slowest handler. By default there is no lease, and an open claim is never
    /// taken over.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::durations::optional"))]
    pub lease: Option<Duration>,
    /// The number of shards of a `sync` cache, 1 to 1024, rounded up to a power of two. By default
    /// sixteen for each processor in large caches, fewer where `max_keys` is below some millions.
    /// With more, threads meet less often. But each shard takes memory of its own, a batch is
    /// divided among all, and [`Error::Full`](crate::Error::Full) is found out by locking all. An
    /// `unsync` cache has one.
    #[cfg_attr(feature = "serde", serde(default))]
    pub shards: Option<usize>,
    /// The secret of the fingerprints. By default random for each cache.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing, deserialize_with = "secret_from_hex"))]
    pub secret: Option<[u8; 16]>,
}

impl Config {
    /// The defaults with this horizon.
    #[must_use]
    pub const fn new(horizon: Horizon) -> Self {
        Self {
            horizon,
            max_keys: default_max_keys(),
            clock: Clock::System,
            when_full: WhenFull::Reject,
            lease: None,
            shards: None,
            secret: None,
        }
    }

    /// Sets [`max_keys`](Self#structfield.max_keys).
    #[must_use]
    pub const fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// Sets [`clock`](Self#structfield.clock).
    #[must_use]
    pub const fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets [`when_full`](Self#structfield.when_full).
    #[must_use]
    pub const fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets [`lease`](Self#structfield.lease).
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets [`shards`](Self#structfield.shards).
    #[must_use]
    pub const fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets [`secret`](Self#structfield.secret): give one if fingerprints are made outside the
    /// cache or stored. Whoever knows it can make keys that collide.
    #[must_use]
    pub const fn secret(mut self, secret: [u8; 16]) -> Self {
        self.secret = Some(secret);
        self
    }

    pub(crate) fn check(&self) -> Result<Checked, ConfigError> {
        if !(1..=MAX_KEYS).contains(&self.max_keys) {
            return Err(ConfigError::MaxKeysOutOfRange { max_keys: self.max_keys });
        }
        if let Some(shards) = self.shards
            && !(1..=MAX_SHARDS).contains(&shards)
        {
            return Err(ConfigError::ShardsOutOfRange { shards });
        }
        let lease = match self.lease {
            Some(Duration::ZERO) => return Err(ConfigError::LeaseOutOfRange),
            Some(time) => Some(millis_up(time).ok_or(ConfigError::LeaseOutOfRange)?),
            None => None,
        };
        Ok(Checked { rule: self.horizon.rule()?, lease })
    }
}

const MAX_KEYS: usize = 1 << 31;
pub(crate) const MAX_SHARDS: usize = 1 << 10;

const fn default_max_keys() -> usize {
    10_000_000
}

/// The parts of a checked [`Config`] that it has in another form.
#[derive(Clone, Copy)]
pub(crate) struct Checked {
    pub(crate) rule: Rule,
    /// In milliseconds
    pub(crate) lease: Option<u64>,
}

#[cfg(feature = "serde")]
fn secret_from_hex<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<[u8; 16]>, D::Error> {
    let text: Option<std::borrow::Cow<'_, str>> = serde::Deserialize::deserialize(from)?;
    let parse = |text: std::borrow::Cow<'_, str>| {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        // The text is a secret, too: it is not repeated.
        bits.map(u128::to_be_bytes).ok_or(serde::de::Error::custom("the secret is not 32 hexadecimal digits"))
    };
    text.map(parse).transpose()
}

/// The secret is not shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("horizon", &self.horizon)
            .field("max_keys", &self.max_keys)
            .field("clock", &self.clock)
            .field("when_full", &self.when_full)
            .field("lease", &self.lease)
            .field("shards", &self.shards)
            .field("secret", &self.secret.map(|_| "(hidden)"))
            .finish()
    }
}
