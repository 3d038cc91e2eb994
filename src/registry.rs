//! Caches by queue, for a process that consumes from many.

use crate::locks::DashMap;
use crate::{Config, ConfigError, sync::DedupCache};

/// One [`sync::DedupCache`](DedupCache) for each queue, made when the queue is first met.
///
/// Each has its own configuration, watermark and secret: the same key in two queues is two keys,
/// and a slow queue does not hold up the expiry of another.
///
/// Shared by reference between threads. A lookup takes a sharded lock for some tens of nanoseconds;
/// keep the handle that it returns rather than looking it up for every message.
///
/// ```
/// use oncewheel::{Config, Horizon, Registry, Verdict};
/// use std::time::Duration;
///
/// let registry = Registry::new();
/// let payments = Config::new(Horizon::new(Duration::from_secs(600), Duration::from_secs(30))).max_keys(1_000_000);
/// let mails = Config::new(Horizon::new(Duration::from_secs(60), Duration::from_secs(5))).max_keys(10_000);
///
/// assert_eq!(registry.get_or_create("payments", payments)?.insert("id-1", None)?, Verdict::Fresh);
/// assert_eq!(registry.get_or_create("mails", mails)?.insert("id-1", None)?, Verdict::Fresh);
/// assert_eq!(registry.get("payments").unwrap().insert("id-1", None)?, Verdict::Duplicate);
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Registry {
    caches: DashMap<String, DedupCache>,
}

impl Registry {
    /// A registry of no queues.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The queue's cache, made with `config` if there is none yet. For a queue that has one,
    /// `config` is ignored.
    ///
    /// # Errors
    ///
    /// As [`DedupCache::new`]; the queue then has no cache.
    pub fn get_or_create(&self, queue: &str, config: Config) -> Result<DedupCache, ConfigError> {
        self.get_or_create_with(queue, || DedupCache::new(config))
    }

    /// As [`get_or_create`](Self::get_or_create), for a cache that is made in another way, such as
    /// opened with a journal, for which each queue needs a directory of its own. While it is made,
    /// lookups of some other queues wait. `make` must not use the registry itself, or it may wait
    /// for its own end.
    ///
    /// # Errors
    ///
    /// Those of `make`; the queue then has no cache.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Registry, journal::Durability, sync::DedupCache};
    /// # let dir = std::env::temp_dir().join(format!("oncewheel-doc-registry-{}", std::process::id()));
    /// # let config = Config::new(Horizon::new(std::time::Duration::from_secs(60), std::time::Duration::from_secs(5)));
    /// let registry = Registry::new();
    /// let mails = registry.get_or_create_with("mails", || {
    ///     DedupCache::open(dir.join("mails"), config, Durability::Process)
    /// })?;
    /// # drop((mails, registry));
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn get_or_create_with<E>(
        &self,
        queue: &str,
        make: impl FnOnce() -> Result<DedupCache, E>,
    ) -> Result<DedupCache, E> {
        if let Some(cache) = self.get(queue) {
            return Ok(cache);
        }
        // The entry locks out others, so that two threads that meet a new queue get the same cache.
        let cache = self.caches.entry(queue.to_owned()).or_try_insert_with(make)?;
        Ok(cache.clone())
    }

    /// The queue's cache, if there is one.
    #[must_use]
    pub fn get(&self, queue: &str) -> Option<DedupCache> {
        self.caches.get(queue).map(|cache| cache.clone())
    }

    /// Removes a queue's cache. Handles that are held elsewhere go on with it; its memory is freed
    /// with the last one.
    ///
    /// ```
    /// # use oncewheel::{Config, Horizon, Registry};
    /// # use std::time::Duration;
    /// let registry = Registry::new();
    /// registry.get_or_create("mails", Config::new(Horizon::new(Duration::from_secs(60), Duration::from_secs(5))))?;
    /// assert_eq!(registry.queues(), ["mails"]);
    /// assert!(registry.remove("mails").is_some());
    /// assert!(registry.get("mails").is_none());
    /// # Ok::<(), oncewheel::Error>(())
    /// ```
    pub fn remove(&self, queue: &str) -> Option<DedupCache> {
        self.caches.remove(queue).map(|(_, cache)| cache)
    }

    /// The names of the queues that have a cache, in no particular order.
    #[must_use]
    pub fn queues(&self) -> Vec<String> {
        self.caches.iter().map(|entry| entry.key().clone()).collect()
    }
}
