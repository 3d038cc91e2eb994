//! A dedup cache for consumers of at-least-once message queues: exact, in-process, forgetting by the queue's own progress.
//!
//! Message queues deliver some messages more than once: producers send again when an acknowledgement got lost, brokers
//! deliver again what was not acknowledged. Where the effect cannot be made idempotent (a transfer of money), the
//! consumer must recognise what it has processed. The producer puts a **dedup key** into each message, made once per
//! business event and reused on every retry; the consumer asks this cache about every delivery:
//!
//! ```
//! use oncewheel::{Claimed, Config, Horizon, MinMsgTime, Timestamp, unsync::DedupCache};
//! use std::time::Duration;
//!
//! // Producers retry for at most ten minutes, copies are under way for at most thirty seconds.
//! let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
//! let mut cache = DedupCache::new(Config::new(horizon))?;
//!
//! # let (key, msg_time, oldest) = ("10.20.5.11/17/1795302291895/0", Timestamp::now(), Timestamp::now());
//! cache.observe(MinMsgTime::Known(oldest))?; // now and then: what the broker says is its oldest message
//! match cache.claim(key, msg_time)? {
//!     Claimed::Fresh(claim) => {
//!         // the effect, then
//!         cache.commit(claim)?;
//!         // and then the acknowledgement
//!     }
//!     Claimed::Duplicate => { /* acknowledge */ }
//!     Claimed::InFlight => { /* neither process nor acknowledge: it comes back */ }
//!     Claimed::TooOld => { /* cannot be vouched for: to the dead letters */ }
//! }
//! # Ok::<(), oncewheel::Error>(())
//! ```
//!
//! # Which one to take
//!
//! * [`unsync::DedupCache`]: one consumer loop, `&mut self`, no lock, no atomic. With one for each partition of the queue
//!   it scales without limit.
//! * [`sync::DedupCache`]: worker threads or async tasks that share a queue; sharded, a handle to clone.
//! * `Registry` (feature `registry`, on by default): caches by queue name, each with its own horizon and watermark.
//! * [`claim`](sync::DedupCache::claim) where a message must be processed once, and again if processing failed: only a
//!   committed key is ever a `Duplicate`. [`insert`](sync::DedupCache::insert) records on sight: for effects that may be
//!   lost but not doubled, for filters, and for the highest rate ([`insert_batch`](unsync::DedupCache::insert_batch)).
//!
//! # The rule
//!
//! A key must be held for as long as another copy can arrive, and no longer:
//!
//! ```text
//! deadline(copy) = msg_time + max_retry + max_network
//! watermark      = max(min_msg_time, now - max_retention) - max_out_of_orderness      never goes back
//! ```
//!
//! and a key may be forgotten once **`watermark > deadline`**. `msg_time` is when the broker stored this copy (or the
//! producer made it); `min_msg_time` is the time of the oldest message in the queue that is not yet consumed, as the broker
//! reports it ([`MinMsgTime`]). With no `min_msg_time` and `msg_time = now` this is *now + retention + retry + network*;
//! with `msg_time = min_msg_time`, in a queue that hands out its oldest message, it is *`min_msg_time` + retry + network*.
//!
//! The clock of the cache is the watermark, not the wall. A consumer that was down for hours and wakes to a backlog finds
//! its keys as it left them, because the second copies wait in the backlog too.
//!
//! # What is promised
//!
//! Under two assumptions:
//!
//! * **A (spread):** any two copies of one key have `msg_time`s at most `max_retry + max_network` apart.
//! * **B (truth):** every copy with `msg_time < watermark` has been consumed *and acknowledged*, or was dropped by the
//!   broker: none is delivered any more.
//!
//! the cache is
//!
//! * **never early:** a key is forgotten only when no copy of it can be delivered any more. (By A every copy has a time of
//!   at most the deadline; the watermark is past that; by B none is delivered.)
//! * **never wrongly `Duplicate`:** that is answered only for a key that was committed, by 128 keyed bits: see
//!   [`Fingerprint`] for the odds.
//! * **never silently unsure:** a delivery below the watermark whose key is not held is answered `TooOld`, not `Fresh`,
//!   since its key may have been known and forgotten. This holds where assumption B fails, too (a queue that was rewound, a
//!   `min_msg_time` that was too high).
//! * **late, within a bound:** a key is held at most a 64th of the life that it had left when it came, and a millisecond,
//!   longer than needed; and then until a later call reclaims it. Each call does a bounded amount of that work, and
//!   `advance` and `observe` more of it. (Keys that came before the first watermark may be held longer.)
//!
//! **Why `TooOld` is complete.** Take a delivery with `msg_time >= watermark` whose key is not held, and suppose that its
//! key was committed and forgotten. It was forgotten because the watermark was past the deadline of the committed copy:
//! `watermark > first + max_retry + max_network`, where `first` is that copy's time. Now `msg_time >= watermark`, and so
//! `msg_time - first > max_retry + max_network`, which A rules out. So only deliveries below the watermark can be in
//! doubt, and every one of those that is not held is `TooOld`. Where A fails because `max_retry` was chosen too small,
//! `Stats::late_duplicates` and `Stats::duplicate_ages` show it as soon as the queue lags behind.
//!
//! # What is not
//!
//! * **Nothing survives the process** unless the cache has a journal: see [Restarts](#restarts). Without one, messages
//!   delivered again across a restart are `Fresh`.
//! * **One process.** Two consumers that share a queue without partitioning by key each have their own cache, and each may
//!   process a copy.
//! * **Clocks.** `now` is compared with messages' times only to bound them by `max_clock_skew`, and for `max_retention`:
//!   with that, this machine's clock must not run ahead of the broker's by more than the retention is longer than it needs
//!   to be. While a machine is suspended its monotonic clock may stand still; `now` then lags, which keeps keys longer.
//! * **Clamped times.** A `msg_time` beyond `now + max_clock_skew` counts as that. If it was true after all, its key may be
//!   forgotten early by as much as was cut off. `Stats::clamped_times` counts them.
//! * **Rewinding a queue on purpose** breaks assumption B: deliveries below the watermark that are still held come out
//!   `Duplicate`, all others `TooOld`. To process them again, use a new cache.
//! * [`WhenFull::ForgetOldest`] gives up "never early" and makes `Fresh` mean "not among the keys still held".
//! * **`max_keys` is a bound, not a size to aim at:** at the bound the answer is [`Error::Full`], and consumption must pause
//!   until the watermark moves. With `max_retention` it moves with time. With an exact `min_msg_time` alone it stands still
//!   while consumption does: then `max_keys` must be above the number of messages of `max_retry + max_network`, or the pause
//!   never ends. Where neither is set or known, no key ever expires.
//! * **Clocks of broker and consumer** meet in [`MinMsgTime::Empty`]: where `observed_at` is read from a clock that runs ahead
//!   of the broker's, messages come that seem to be below the watermark, and are `TooOld`. Ask the broker for its time, or
//!   let `max_out_of_orderness` cover the difference.
//!
//! # Restarts
//!
//! Duplicates are most common right after a crash: the consumer had processed messages and not yet acknowledged them. A
//! cache that is opened in a directory keeps a journal there, and knows after a restart what was committed before:
//!
//! ```
//! # use oncewheel::{Claimed, Config, Durability, Horizon, Timestamp, sync::DedupCache};
//! # let horizon = Horizon::new(std::time::Duration::from_secs(600), std::time::Duration::from_secs(30));
//! # let dir = std::env::temp_dir().join(format!("oncewheel-doc-restarts-{}", std::process::id()));
//! # let (key, msg_time) = ("transfer-17", Timestamp::now());
//! let cache = DedupCache::open(&dir, Config::new(horizon), Durability::Process)?;
//! if let Claimed::Fresh(claim) = cache.claim(key, msg_time)? {
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
//! * **Effect, commit, acknowledge.** Whatever the crash comes between, the message is delivered again: before the commit it is
//!   `Fresh`, and processed again if the effect had happened; after it, `Duplicate`. So one window remains, between the
//!   effect and the return of `commit`, and no dedup cache outside of the effect's own transaction can close it.
//! * A key whose commit had returned is a `Duplicate` until the rule forgets it. A claim is never written: one that was open
//!   at the crash is `Fresh`. `forget` outlives a restart, too.
//! * The watermark does not go back (unless its latest record is damaged), and time spent down counts as time up: hours of downtime with a backlog forget nothing
//!   that can still come. (What the clock alone has moved between two writes is worked out again from the clock.)
//! * An error from a call that records a key, [`Error::Journal`], means that it is not recorded ([`Problem::Stopped`]: that this
//!   is not known): do not acknowledge. A full disk refuses keys until there is room. After a failed sync a file is never written to again: with `Power`,
//!   what was in doubt goes to another; if that fails, too, the cache records nothing more, and answers from what it holds.
//! * Damage is skipped, reported by [`recovery`](sync::DedupCache::recovery), and costs the keys of the frames that it is in
//!   and no others (of the first 96 bytes, where both copies of the header are hit: of the segment): those are `Fresh` again, or `Duplicate` where a `forget` was lost. It never makes a `Duplicate` of a key
//!   that was not committed. [`OpenMode::Strict`] refuses instead.
//! * One process at a time: a second one that opens the directory gets an error. The keys' secret is in a file of mode 0600;
//!   with another one, opening is an error.
//! * The disk holds at most three times the live keys' 24 bytes each, and 256 KiB; segments go as they expire. A key that is
//!   recorded alone takes 56 bytes until it is rewritten, in a batch 24.
//! * Calls that record block while the disk works, and once in some hundreds of keys clear away old segments: from async code,
//!   use a thread for blocking calls where that matters. An `observe` that moves the watermark writes it, and syncs it with
//!   `Power`: once a second is enough.
//!
//! # Choosing the horizon
//!
//! * `max_retry`: from the producer's first attempt to its last. Kafka: `delivery.timeout.ms`; an outbox or a job that is
//!   restarted by hand: hours or days. If in doubt, longer: memory is 31 bytes a key.
//! * `max_network`: from a producer's last attempt until the broker has stored it; 30 seconds is generous.
//! * `max_retention`: what the broker is set to. Leave it out if it keeps messages for ever.
//! * `max_out_of_orderness`: 0 where the broker stamps messages as it stores them; where producers do, at least as long
//!   as a client's own retries take (a recording of Kafka's `CreateTime` showed 2.4 s).
//! * `max_keys`: the rate of new messages times the longest lag plus horizon, and reserve. Run with generous values and
//!   read the right ones off [`Stats`]: `duplicate_ages.max()` is what `max_retry + max_network` must exceed.
//!
//! # Cost
//!
//! Some 31 bytes of resident memory a key at scale, in a `sync` cache as in a `unsync` one. Memory is taken by the page and
//! the partition as keys come; no key moves more than one partition, some thousands of keys (up to 32,768 in a cache for
//! more than 16 million: a millisecond). Claims lie in a plain hash map, meant for as many as there are workers: with
//! hundreds of thousands open at once, the call in which it grows takes milliseconds. `README.md` has the measurements,
//! `ARCHITECTURE.md` the way it is built.
//!
//! A journal makes batches take 1.5 to 1.7 times as long ([`Durability::Process`]), and opens at some 9 million keys a second.
//!
//! # Features
//!
//! * `registry` (default): `Registry`, with `dashmap`.
//! * `cli`: the command `oncewheel`. Nothing for library users.

mod config;
mod error;
mod horizon;
mod key;
mod stats;
mod time;
mod verdict;
mod watermark;

pub mod sync;
pub mod unsync;

#[cfg(feature = "serde")]
mod durations;
mod engine;
mod front;
pub mod journal;
mod locks;
#[cfg(feature = "registry")]
mod registry;
#[cfg(any(test, oncewheel_fuzzing))]
#[doc(hidden)]
pub mod testing;

pub use config::{Config, WhenFull};
pub use error::{ConfigError, Error};
pub use front::Committed;
pub use horizon::Horizon;
pub use key::{Fingerprint, Key, KeyHasher};
#[cfg(feature = "registry")]
pub use registry::Registry;
pub use stats::{DuplicateAges, Stats};
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
