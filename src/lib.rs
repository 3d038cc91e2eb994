//! An exact in-process dedup cache for consumers of at-least-once message queues. Keys expire by
//! the queue's own progress.
//!
//! Message queues deliver some messages more than once: producers send again when an
//! acknowledgement is lost, and brokers redeliver what was not acknowledged. Where the effect
//! cannot be made idempotent (a transfer of money), the consumer must recognise what it has
//! processed: an *idempotent consumer*. The producer puts a **dedup key** (idempotency key) into
//! each message, made once for each business event and reused on every retry. The consumer asks
//! this cache about every delivery:
//!
//! ```
//! use oncewheel::{Claimed, Config, Horizon, Timestamp, sync::DedupCache};
//! use std::time::Duration;
//!
//! // Producers retry for at most ten minutes, a copy is under way for at most thirty seconds, and
//! // the queue is set to keep messages for four days.
//! let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30))
//!     .max_retention(Duration::from_secs(4 * 86_400));
//! let cache = DedupCache::new(Config::new(horizon))?;
//!
//! # let (key, stored_at) = ("10.20.5.11/17/1795302291895/0", Timestamp::now());
//! match cache.claim(key, stored_at)? { // the message's own time, as the broker reports it
//!     Claimed::Fresh(claim) => {
//!         // the effect, then
//!         claim.commit()?;
//!         // and then the acknowledgement
//!     }
//!     Claimed::Duplicate => { /* acknowledge */ }
//!     Claimed::InFlight => { /* neither process nor acknowledge: it comes back */ }
//!     Claimed::TooOld => { /* the cache cannot vouch for it: dead-letter it */ }
//! }
//! # Ok::<(), oncewheel::Error>(())
//! ```
//!
//! # Which one to use
//!
//! * [`sync::DedupCache`]: worker threads or async tasks that share a queue; sharded, a handle to
//!   clone.
//! * [`unsync::DedupCache`]: one consumer loop, `&mut self`, no lock, no atomic on the usual path.
//!   With one for each partition of the queue it scales without limit.
//! * `Registry` (feature `registry`, on by default): caches by queue name, each with its own
//!   horizon and watermark.
//! * [`claim`](sync::DedupCache::claim) where a message must be processed once, and again if
//!   processing failed: only a committed key is ever a `Duplicate`.
//!   [`insert`](sync::DedupCache::insert) inserts on sight: for effects that may be lost but not
//!   doubled, for filters, and for the highest rate
//!   ([`insert_batch`](unsync::DedupCache::insert_batch)).
//!
//! # The rule
//!
//! A key must be held for as long as another copy can arrive, and no longer:
//!
//! ```text
//! deadline(copy) = msg_time + max_retry + max_network
//! watermark      = max(min_msg_time, now - max_retention) - max_out_of_orderness
//! ```
//!
//! The watermark never goes back. A key expires once **`watermark > deadline`**. `msg_time` is when
//! the broker stored this copy, or the producer made it. `min_msg_time` is the time of the oldest
//! message in the queue that is not yet consumed and acknowledged, as the broker reports it
//! ([`MinMsgTime`]). With no `min_msg_time` and `msg_time = now` the rule is *now + retention +
//! retry + network*. With `msg_time = min_msg_time`, in a queue that hands out its oldest message,
//! it is *`min_msg_time` + retry + network*.
//!
//! The clock of the cache is the watermark, not the wall clock. A consumer that was down for hours
//! and wakes to a backlog finds its keys as it left them, because the second copies wait in the
//! backlog too.
//!
//! # What is promised
//!
//! Under two assumptions:
//!
//! * **A (spread):** any two copies of one key have `msg_time`s at most `max_retry + max_network`
//!   apart.
//! * **B (truth):** every copy with `msg_time < watermark` has been consumed *and acknowledged*, or
//!   was dropped by the broker: none is delivered any more.
//!
//! the cache is
//!
//! * **never early:** a key expires only when no copy of it can be delivered any more. (By A every
//!   copy has a time of at most the deadline. The watermark is past that. By B none is delivered.)
//! * **never wrongly `Duplicate`:** that is answered only for a key that was committed, by 128
//!   keyed bits: see [`Fingerprint`] for the odds.
//! * **never silently unsure:** a delivery below the watermark whose key is not held is answered
//!   `TooOld`, not `Fresh`, since its key may have been known and have expired. This holds also
//!   where assumption B fails: for a queue that was rewound, or a `min_msg_time` that was too high.
//! * **late, within a bound:** a key is held at most a 64th of the life that it had left when it
//!   came, and a millisecond, longer than needed; and then until a later call reclaims it. Each
//!   call does a bounded amount of that work, and `observe`, `advance` and `maintain` do more of
//!   it. (Keys that came before the first watermark may be held longer.)
//!
//! **Why `TooOld` is complete.** Take a delivery with `msg_time >= watermark` whose key is not
//! held, and suppose that its key was committed and has expired. It expired because the watermark
//! was past the deadline of the committed copy: `watermark > first + max_retry + max_network`,
//! where `first` is that copy's time. Now `msg_time >= watermark`, and so `msg_time - first >
//! max_retry + max_network`, which A rules out. So only deliveries below the watermark can be in
//! doubt, and every one of those that is not held is `TooOld`. Where A fails because `max_retry`
//! was chosen too small, `Stats::late_duplicates` and `Stats::duplicate_ages` show it as soon as
//! the queue lags behind.
//!
//! # What is not promised
//!
//! * **Nothing survives the process** unless the cache has a journal: see [Restarts](#restarts).
//!   Without one, messages redelivered across a restart are `Fresh`.
//! * **One process.** Two consumers that share a queue without partitioning by key each have their
//!   own cache, and each may process a copy.
//! * **An effect and its commit are two steps.** A crash between them processes the message again.
//!   Only a transaction that holds both effect and key closes that window.
//! * **Clocks.** `now` is compared with message times only to bound them by `max_clock_skew`, and
//!   for `max_retention`: with that, this machine's clock must not run ahead of the broker's by
//!   more than the retention is longer than it needs to be. While a machine is suspended its
//!   monotonic clock may stand still. `now` then lags, which keeps keys longer.
//! * **Clamped times.** A `msg_time` beyond `now + max_clock_skew` counts as that. If it was true
//!   after all, its key may expire early by as much as was cut off. `Stats::clamped_times` counts
//!   them.
//! * **A manual clock without a time.** Until the first `advance` under [`Clock::Manual`], no `now`
//!   bounds a watermark: one wrong `min_msg_time` expires every key and makes what follows
//!   `TooOld`. Give such a cache the time of each delivery with `advance`.
//! * **Rewinding a queue on purpose** breaks assumption B: deliveries below the watermark that are
//!   still held are `Duplicate`, all others `TooOld`. To process them again, use a new cache.
//! * [`WhenFull::EvictOldest`] gives up "never early" and makes `Fresh` mean "not among the keys
//!   still held".
//! * **`max_keys` is a bound, not a size to aim at:** at the bound the answer is [`Error::Full`],
//!   and consumption must pause until the watermark moves. With `max_retention` it moves with time.
//!   With an exact `min_msg_time` alone it stands still while consumption does: then `max_keys`
//!   must be above the number of messages of `max_retry + max_network`, or the pause never ends.
//!   Where neither is set or known, no key ever expires.
//! * **Clocks of broker and consumer** meet in [`MinMsgTime::Empty`]: if `observed_at` is read from
//!   a clock that runs ahead of the broker's, later messages seem to be below the watermark and are
//!   `TooOld`. Ask the broker for its time, or let `max_out_of_orderness` cover the difference.
//!
//! # Restarts
//!
//! Duplicates are most common right after a crash: the consumer had processed messages and not yet
//! acknowledged them. A cache that is opened in a directory keeps a journal there, and knows after
//! a restart what was committed before:
//!
//! ```
//! # use oncewheel::{Claimed, Config, Horizon, Timestamp, journal::Durability, sync::DedupCache};
//! # let horizon = Horizon::new(std::time::Duration::from_secs(600), std::time::Duration::from_secs(30));
//! # let dir = std::env::temp_dir().join(format!("oncewheel-doc-restarts-{}", std::process::id()));
//! # let (key, stored_at) = ("transfer-17", Timestamp::now());
//! let cache = DedupCache::open(&dir, Config::new(horizon), Durability::Process)?;
//! if let Claimed::Fresh(claim) = cache.claim(key, stored_at)? {
//!     // 1. the effect
//!     claim.commit()?; // 2. commit: the key is in the journal when this returns
//!     // 3. acknowledge
//! }
//! # drop(cache);
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok::<(), oncewheel::Error>(())
//! ```
//!
//! | | a crash of the process | a loss of power | a commit waits for |
//! |---|---|---|---|
//! | [`Durability::Memory`], and [`new`](sync::DedupCache::new) | loses all keys | loses all keys | nothing |
//! | [`Durability::Process`] | loses nothing | may lose the last half minute or so | one `write` |
//! | [`Durability::Power`] | loses nothing | loses nothing | one `fdatasync`, which many share |
//!
//! * **Effect, commit, acknowledge.** Wherever the crash comes, the message is redelivered. Before
//!   the commit it is `Fresh`, and processed again if the effect had happened. After it, it is a
//!   `Duplicate`.
//! * A key whose commit had returned is a `Duplicate` until it expires. A claim is never written:
//!   one that was open at the crash is `Fresh`. `remove` outlives a restart, too.
//! * The watermark does not go back (unless its latest frame is damaged), and downtime counts:
//!   hours of downtime with a backlog expire nothing that can still come. (What the clock alone has
//!   moved between two writes is computed again from the clock.)
//! * An error from a call that inserts or commits a key, [`Error::Journal`], means that it is not
//!   committed ([`ErrorKind::Poisoned`]: that this is not known): do not acknowledge. A full disk
//!   refuses keys until there is space. After a failed sync a file is never written to again. With
//!   `Power`, what was in doubt goes to another file. If that fails too, the journal is poisoned:
//!   the cache commits nothing more, and answers from what it holds.
//! * Damage is skipped and reported by [`recovery`](sync::DedupCache::recovery). It costs the keys
//!   of the damaged frames and no others (in the first 96 bytes, if both copies of the header are
//!   hit: of the segment). Those keys are `Fresh` again, or `Duplicate` where a `remove` was lost.
//!   Damage never makes a `Duplicate` of a key that was not committed. [`OpenMode::Strict`] refuses
//!   instead.
//! * One process at a time: a second one that opens the directory gets an error. The keys' secret
//!   is in a file of mode 0600; with another secret, opening is an error.
//! * The disk holds at most three times the live keys' 24 bytes each, and 256 KiB. Segments are removed
//!   as they expire. A key that is committed alone takes 56 bytes until it is rewritten, in a batch
//!   24.
//! * Calls that commit block while the disk works, and once in some hundreds of keys they remove
//!   old segments. From async code use [`commit_async`](sync::Claim::commit_async): a thread of the
//!   cache writes then, for any number of tasks at once. An `observe` that moves the watermark
//!   writes it, and syncs it with `Power`: once a second is enough.
//! * To hand a directory to another process (a partition that moves),
//!   [`close`](sync::DedupCache::close) the cache. The heir opens it with a
//!   [`lock_timeout`](journal::OpenOptions::lock_timeout) of its choice, and gets
//!   `ErrorKind::Locked` until the directory is free.
//!
//! # Async services
//!
//! No runtime is needed and none is depended on. [`process_once`] is claim, effect and commit in
//! one call over any [`ClaimStore`], of which [`sync::DedupCache`] is the first. Its answer tells
//! what to do with the delivery ([`Disposition`]): acknowledge it, let it come back, dead-letter
//! it.
//!
//! A claim works across `.await`: it is `Send` and owns what it needs. A future that is dropped (a
//! timeout, a `select!`) releases its claim, unless its commit had begun: that is carried out. **An
//! effect that had happened before its future was dropped happens again.**
//!
//! # Choosing the horizon
//!
//! | setting | what it must cover | where to look |
//! |---|---|---|
//! | `max_retry` | a producer's first attempt to its last | Kafka `delivery.timeout.ms`; an outbox or a job restarted by hand: hours, days |
//! | `max_network` | the last attempt until the broker has stored it | 30 s is generous |
//! | `max_retention` | how long the broker keeps messages | the queue's setting; leave it out if for ever |
//! | `max_out_of_orderness` | how far times run backwards within the queue | 0 where the broker stamps; seconds where producers do (a recording of Kafka's `CreateTime` showed 2.4 s) |
//! | `max_keys` | rate of new messages times (horizon plus longest lag), and reserve | 1,000 a second with 10 minutes and a day's lag: 87 million keys, 2.6 GB |
//!
//! If the broker can report its oldest unconsumed message, pass it to
//! [`observe`](sync::DedupCache::observe) about once a second: that keeps memory small. Pass
//! [`MinMsgTime::Unknown`] where it does not know. If it cannot report it, and one reader at a time
//! has a partition (Kafka, RabbitMQ with a single active consumer), a [`DeliveryTracker`] computes
//! it from what the consumer received and the broker confirmed. Otherwise leave `observe` out and
//! set `max_retention`: keys are then held for the retention as well. If neither is known, nothing
//! ever expires, and the cache is `Full` in the end.
//!
//! Then measure: `Stats::duplicate_ages` shows how far apart copies came (rounded up), and
//! `Stats::late_duplicates` above 0 means that the horizon is too short.
//!
//! # How this differs from
//!
//! * **moka, Caffeine, `quick_cache`**: general caches with values. They evict by size or by a time
//!   to live on the wall clock. What was evicted is processed again, and no counter shows it.
//! * **segcache's TTL buckets** are the nearest relative: items grouped by expiry in segments,
//!   under a compact hash index. Their clock is the wall clock, and a full cache evicts.
//! * **Bloom and cuckoo filters** take a few bits a key, and call new messages duplicates: at 1 %,
//!   one message in a hundred is lost.
//! * **Redis `SET key NX EX ttl`** is shared by many processes and survives their restarts. It
//!   costs a round trip for each message, its fixed time to live expires keys during a backlog, and
//!   a key set before processing loses the message on a crash.
//! * **A unique key in the effect's own database transaction** is the best there is, where the
//!   effect lives in that database. It costs a write and an index for each message, and does not
//!   cover effects elsewhere.
//! * **The broker's own** (SQS FIFO, NATS `Nats-Msg-Id`, Kafka's idempotent producer) covers a
//!   producer's retries within minutes or a session, not the redelivery to the consumer.
//!
//! # Cost
//!
//! Some 31 bytes of resident memory a key at scale, in a `sync` cache as in an `unsync` one. Memory
//! is taken by the page and the partition as keys come. A call that grows the cache moves one
//! partition: some thousands of keys, or up to 32,768 (a millisecond) in a cache for more than 16
//! million. Claims are in a plain hash map, meant for as many as there are workers: with hundreds
//! of thousands open at once, the call in which it grows takes milliseconds.
//!
//! A journal makes batches take 1.5 to 1.7 times as long ([`Durability::Process`]), and opens at
//! some 9 million keys a second. `docs/benchmarks` in the repository has the measurements.
//!
//! # What to watch
//!
//! `stats()` of both caches counts everything. Feature `metrics` publishes that; the module
//! `metrics` has the names. Feature `tracing` emits events for what is rare, all with the target
//! `oncewheel`, and nothing for a delivery that is answered.
//!
//! | event | level | how often |
//! |---|---|---|
//! | a delivery was refused with [`Error::Full`] | warn | the first; then one in ten seconds, for each cache |
//! | a watermark was rejected ([`Error::WatermarkAhead`]) | warn | the same |
//! | a journal was opened with damage | warn | once for each opening |
//! | a journal is poisoned ([`ErrorKind::Poisoned`]) | error | once for each cache |
//!
//! `times` of the first two is how many calls were refused since the event before. Events are in
//! the span of the call that met the trouble: give it the queue's name to tell which cache it is.
//! (Commits of async tasks with a journal are written by a thread of the cache, outside of any
//! span.) **A subscriber must not insert or commit in the cache that the event is about:** with a
//! poisoned journal it would wait for itself.
//!
//! # Features
//!
//! * `registry` (default): `Registry`, with `dashmap`.
//! * `serde`: [`Config`] and what it holds, [`Stats`], [`Timestamp`] and [`Durability`] can be read
//!   and written. Durations are text as people write it: `"90s"`, `"10m"`, `"15d"`. Unknown fields
//!   are errors.
//! * `testing`: the conformance suite for stores.
//! * `chrono`, `jiff`, `time`: [`Timestamp`] from and to the times of these crates.
//! * `metrics`: `metrics::Publisher`, for the facade crate `metrics`, and so for Prometheus.
//! * `tracing`: events for [what is rare](#what-to-watch).
//! * `tower`: `tower::DedupLayer`, any store around a service of the crate `tower`.
//!
//! [`Durability`]: journal::Durability
//! [`Durability::Memory`]: journal::Durability::Memory
//! [`Durability::Process`]: journal::Durability::Process
//! [`Durability::Power`]: journal::Durability::Power
//! [`ErrorKind::Poisoned`]: journal::ErrorKind::Poisoned
//! [`OpenMode::Strict`]: journal::OpenMode::Strict

mod config;
mod error;
mod horizon;
mod key;
mod stats;
mod time;
mod verdict;
mod watermark;

mod deliveries;

pub mod sync;
pub mod unsync;

#[cfg(feature = "serde")]
mod durations;
mod engine;
mod events;
mod front;
pub mod journal;
mod locks;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "registry")]
mod registry;
mod store;
#[cfg(any(test, oncewheel_fuzzing, feature = "testing"))]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

pub use config::{Config, WhenFull};
pub use deliveries::{DeliveryStats, DeliveryTracker, OldestDelivery};
pub use error::{ConfigError, Error};
pub use front::Committed;
pub use horizon::Horizon;
pub use key::{Fingerprint, Key, KeyHasher};
#[cfg(feature = "registry")]
pub use registry::Registry;
pub use stats::{DuplicateAges, Stats};
pub use store::{ClaimStore, Disposition, Guarantees, Refusal, StoreError, process_once};
pub use time::{Clock, TimeRangeError, Timestamp};
pub use verdict::{Claimed, Verdict};
pub use watermark::MinMsgTime;

const _: () = {
    const fn send_and_sync<T: Send + Sync>() {}
    const fn send<T: Send>() {}
    send_and_sync::<crate::sync::DedupCache>();
    send_and_sync::<crate::sync::Claim>();
    send::<crate::unsync::DedupCache>();
    send_and_sync::<crate::unsync::Claim>();
    send_and_sync::<crate::DeliveryTracker<u32>>();
    send_and_sync::<crate::KeyHasher>();
    send_and_sync::<crate::Config>();
    send_and_sync::<crate::Stats>();
    send_and_sync::<crate::Error>();
    send_and_sync::<crate::ConfigError>();
    send_and_sync::<crate::journal::Error>();
    send_and_sync::<crate::journal::Recovery>();
};

/// The README's programs are compiled and run with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
