//! What every [`ClaimStore`] promises, as a suite that any store can run.
//!
//! ```no_run
//! use oncewheel::testing::conformance::{self, Harness, Settings, block_on};
//! use oncewheel::{Clock, Config, Timestamp, sync::DedupCache};
//! use std::time::Duration;
//!
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     type Store = DedupCache;
//!
//!     fn open(&self, settings: &Settings) -> DedupCache {
//!         let config = Config::new(settings.horizon).clock(Clock::Manual);
//!         let config = settings.lease.map_or(config.clone(), |lease| config.lease(lease));
//!         let cache = DedupCache::new(config).expect("a configuration within its ranges");
//!         cache.advance(Timestamp::from_millis(1_800_000_000_000)).expect("a manual clock");
//!         cache
//!     }
//!
//!     fn now(&self, store: &DedupCache) -> Timestamp {
//!         store.stats().now.expect("advanced already")
//!     }
//!
//!     fn pass(&self, store: &DedupCache, time: Duration) {
//!         store.advance(self.now(store).saturating_add(time)).expect("a manual clock");
//!     }
//!
//!     fn block_on<F: Future>(&self, future: F) -> F::Output {
//!         block_on(future)
//!     }
//! }
//!
//! conformance::run(&InMemory);
//! ```
//!
//! It panics at the first promise that is broken, and names it. What a store does not promise it
//! states as [`Guarantees`](crate::Guarantees); the suite asks for no more.

use crate::{
    ClaimStore, Claimed, Disposition, Horizon, MinMsgTime, Refusal, StoreError, Timestamp, Verdict, process_once,
};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// How the suite makes stores and moves their time.
pub trait Harness: Sync {
    /// The store under test.
    type Store: ClaimStore;

    /// A new and empty store with room for some thousands of keys.
    fn open(&self, settings: &Settings) -> Self::Store;

    /// The store's clock.
    fn now(&self, store: &Self::Store) -> Timestamp;

    /// Lets at least this much time pass for the store: moves a manual clock, or sleeps.
    fn pass(&self, store: &Self::Store, time: Duration);

    /// Runs a future to its end. Called from several threads at a time.
    fn block_on<F: Future>(&self, future: F) -> F::Output;
}

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How long keys are held.
    pub horizon: Horizon,
    /// How long a claim is exclusive.
    pub lease: Option<Duration>,
}

/// Drives a future in this thread, for stores that need no runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// `max_retry + max_network` of the stores.
const SPAN: Duration = Duration::from_millis(2_000);
const LEASE: Duration = Duration::from_millis(300);

/// Checks every promise.
///
/// # Panics
///
/// At the first promise that is broken.
pub fn run<H: Harness>(harness: &H) {
    type Check<'a, H> = fn(&Suite<'a, H>);
    let checks: [(&str, Check<'_, H>); 12] = [
        ("of concurrent deliveries one is Fresh", one_of_many_is_fresh),
        ("only a committed key is a Duplicate", only_committed_keys_are_duplicates),
        ("an aborted claim is released", aborted_claims_are_released),
        ("a dropped claim is released, at once or when its lease ends", dropped_claims_are_released),
        ("process_once commits on Ok, and releases on Err, panic and cancellation", process_once_keeps_the_protocol),
        ("a claim is taken over after its lease, and its late commit is refused", late_commits_are_refused),
        ("a delivery is TooOld exactly below the watermark", too_old_is_exact),
        ("a key is held to its deadline, and no longer than stated", keys_expire_in_time),
        ("the watermark never goes back", the_watermark_stays),
        ("a removed key is Fresh again", removed_keys_are_fresh),
        ("a key is any bytes", keys_are_any_bytes),
        ("times at their edges change no other answer", times_at_their_edges),
    ];
    for (promise, check) in checks {
        let checked = catch_unwind(AssertUnwindSafe(|| check(&Suite { harness })));
        assert!(checked.is_ok(), "the store breaks its promise: {promise}");
    }
}

struct Suite<'a, H> {
    harness: &'a H,
}

impl<H: Harness> Suite<'_, H> {
    fn open(&self, lease: Option<Duration>) -> H::Store {
        self.harness.open(&Settings { horizon: Horizon::new(SPAN, Duration::ZERO), lease })
    }

    /// An hour ago, so that no time of a check lies ahead of the clock.
    fn start(&self, store: &H::Store) -> Timestamp {
        self.harness.now(store).saturating_sub(Duration::from_secs(3_600))
    }

    fn claim(&self, store: &H::Store, key: &[u8], time: Timestamp) -> Claimed<<H::Store as ClaimStore>::Claim> {
        self.harness.block_on(store.claim(key, Some(time))).expect("a claim")
    }

    fn fresh(&self, store: &H::Store, key: &[u8], time: Timestamp) -> <H::Store as ClaimStore>::Claim {
        match self.claim(store, key, time) {
            Claimed::Fresh(claim) => claim,
            known => panic!("{key:?} is {known}, not fresh"),
        }
    }

    fn commit(&self, store: &H::Store, key: &[u8], time: Timestamp) {
        let claim = self.fresh(store, key, time);
        self.harness.block_on(store.commit(claim)).expect("a commit");
    }

    /// The verdict on a delivery, whose claim is then released.
    fn verdict(&self, store: &H::Store, key: &[u8], time: Timestamp) -> Verdict {
        let claimed = self.claim(store, key, time);
        let verdict = claimed.verdict();
        if let Claimed::Fresh(claim) = claimed {
            self.harness.block_on(store.abort(claim)).expect("an abort");
        }
        verdict
    }

    fn observe(&self, store: &H::Store, time: Timestamp) {
        self.harness.block_on(store.observe(MinMsgTime::Known(time))).expect("a watermark below the clock");
    }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn one_of_many_is_fresh<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let time = suite.start(store);
    for round in 0..50_u32 {
        let key = &round.to_le_bytes();
        let (fresh, duplicates) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match suite.claim(store, key, time) {
                    Claimed::Fresh(claim) => {
                        assert_eq!(fresh.fetch_add(1, SeqCst), 0, "one of all");
                        suite.harness.block_on(store.commit(claim)).expect("a commit");
                    }
                    Claimed::Duplicate => _ = duplicates.fetch_add(1, SeqCst),
                    Claimed::InFlight => {}
                    Claimed::TooOld => panic!("nothing has moved the watermark"),
                });
            }
        });
        assert_eq!(fresh.load(SeqCst), 1, "one is fresh, {} duplicates", duplicates.load(SeqCst));
        assert_eq!(suite.verdict(store, key, time), Verdict::Duplicate);
    }
}

fn only_committed_keys_are_duplicates<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let time = suite.start(store);
    let claim = suite.fresh(store, b"a", time);
    let other = suite.fresh(store, b"b", time);
    assert_eq!(suite.verdict(store, b"a", time), Verdict::InFlight);
    suite.harness.block_on(store.commit(claim)).expect("a commit");
    assert_eq!(suite.verdict(store, b"a", time), Verdict::Duplicate);
    assert_eq!(suite.verdict(store, b"b", time), Verdict::InFlight, "of another key");
    let batch = vec![other, suite.fresh(store, b"c", time)];
    suite.harness.block_on(store.commit_batch(batch)).expect("a batch").all().expect("no lease");
    for key in [b"a", b"b", b"c"] {
        assert_eq!(suite.verdict(store, key, time), Verdict::Duplicate);
    }
    assert_eq!(suite.verdict(store, b"d", time), Verdict::Fresh);
}

fn aborted_claims_are_released<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let time = suite.start(store);
    for _ in 0..3 {
        let claim = suite.fresh(store, b"a", time);
        suite.harness.block_on(store.abort(claim)).expect("an abort");
    }
    suite.commit(store, b"a", time);
    assert_eq!(suite.verdict(store, b"a", time), Verdict::Duplicate);
}

fn dropped_claims_are_released<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(Some(LEASE));
    let time = suite.start(store);
    drop(suite.fresh(store, b"a", time));
    suite.harness.pass(store, LEASE + ms(1));
    suite.commit(store, b"a", time);
}

fn process_once_keeps_the_protocol<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(Some(LEASE));
    let time = suite.start(store);
    let block_on = |future| suite.harness.block_on(future);
    let failed = block_on(process_once(store, "a", time, async || Err::<u32, _>("no answer"))).expect("a claim");
    assert_eq!((&failed, failed.disposition()), (&Claimed::Fresh(Err("no answer")), Disposition::Redeliver));

    let panics = process_once(store, "a", time, async || {
        if time > Timestamp::default() { panic!("handler") } else { Ok::<u32, &str>(1) }
    });
    assert!(catch_unwind(AssertUnwindSafe(|| suite.harness.block_on(panics))).is_err());
    suite.harness.pass(store, LEASE + ms(1));

    let effects = AtomicUsize::new(0);
    let cancelled = async {
        let hangs = async || {
            effects.fetch_add(1, SeqCst);
            std::future::pending::<Result<u32, &str>>().await
        };
        let mut processing = pin!(process_once(store, "a", time, hangs));
        // Polled until its effect has happened, then dropped, as a timeout would.
        std::future::poll_fn(|context| {
            let polled = processing.as_mut().poll(context);
            assert!(polled.is_pending(), "the handler never ends");
            if effects.load(SeqCst) > 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    };
    suite.harness.block_on(cancelled);
    suite.harness.pass(store, LEASE + ms(1));

    let again = async || Ok::<_, &str>(effects.fetch_add(1, SeqCst) as u32 + 1);
    let done = suite.harness.block_on(process_once(store, "a", time, again)).expect("a claim");
    assert_eq!(done, Claimed::Fresh(Ok(2)), "an effect before the future was dropped happens again");
    let copy = suite.harness.block_on(process_once(store, "a", time, again)).expect("a verdict");
    assert_eq!((&copy, copy.disposition()), (&Claimed::Duplicate, Disposition::Acknowledge));
    assert_eq!(effects.load(SeqCst), 2);
}

fn late_commits_are_refused<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(Some(LEASE));
    if store.guarantees().lease.is_none() {
        return;
    }
    let time = suite.start(store);
    let slow = suite.fresh(store, b"a", time);
    assert_eq!(suite.verdict(store, b"a", time), Verdict::InFlight);
    suite.harness.pass(store, LEASE + ms(1));
    let second = suite.fresh(store, b"a", time);
    let late = suite.harness.block_on(store.commit(slow)).expect_err("taken over");
    assert_eq!(late.refusal(), Some(Refusal::ClaimLost), "{late}");
    assert_eq!(suite.verdict(store, b"a", time), Verdict::InFlight, "the late commit has changed nothing");
    suite.harness.block_on(store.commit(second)).expect("a commit");
    assert_eq!(suite.verdict(store, b"a", time), Verdict::Duplicate);

    // Nobody has taken this one over, so it may still be committed.
    let unhurried = suite.fresh(store, b"b", time);
    suite.harness.pass(store, LEASE + ms(1));
    suite.harness.block_on(store.commit(unhurried)).expect("a commit");
    assert_eq!(suite.verdict(store, b"b", time), Verdict::Duplicate);
}

fn too_old_is_exact<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let watermark = suite.start(store);
    let below = watermark.saturating_sub(ms(1));
    assert_eq!(suite.verdict(store, b"before", below), Verdict::Fresh, "no watermark yet");
    suite.harness.block_on(store.observe(MinMsgTime::Unknown)).expect("nothing to refuse");
    suite.harness.block_on(store.observe(MinMsgTime::Known(Timestamp::from_millis(0)))).expect("0 is unknown");
    assert_eq!(suite.verdict(store, b"before", below), Verdict::Fresh, "unknown changes nothing");
    let open = suite.fresh(store, b"claimed", watermark);
    suite.commit(store, b"committed", watermark);
    suite.observe(store, watermark);
    assert_eq!(suite.verdict(store, b"at", watermark), Verdict::Fresh);
    assert_eq!(suite.verdict(store, b"below", below), Verdict::TooOld);
    assert_eq!(suite.verdict(store, b"committed", below), Verdict::Duplicate, "what is held is known");
    assert_eq!(suite.verdict(store, b"claimed", below), Verdict::InFlight, "what is claimed is known");
    suite.harness.block_on(store.commit(open)).expect("a commit");
    let empty = MinMsgTime::Empty { observed_at: watermark.saturating_add(ms(1)) };
    suite.harness.block_on(store.observe(empty)).expect("a watermark below the clock");
    assert_eq!(suite.verdict(store, b"at", watermark), Verdict::TooOld, "an empty queue counts as its time");
}

fn keys_expire_in_time<H: Harness>(suite: &Suite<'_, H>) {
    for ahead in [0, 1, 999, 100_000] {
        let store = &suite.open(None);
        let watermark = suite.start(store);
        suite.observe(store, watermark);
        let time = watermark.saturating_add(ms(ahead));
        suite.commit(store, b"a", time);
        let deadline = time.saturating_add(SPAN);
        suite.observe(store, deadline);
        assert_eq!(suite.verdict(store, b"a", time), Verdict::Duplicate, "held to its deadline");
        let life = deadline.saturating_duration_since(watermark);
        let late = store.guarantees().lateness_of(life);
        suite.observe(store, deadline.saturating_add(late).saturating_add(ms(1)));
        assert_eq!(suite.verdict(store, b"a", time), Verdict::TooOld, "held for no more than {late:?} longer");
    }
}

fn the_watermark_stays<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let watermark = suite.start(store);
    suite.observe(store, watermark);
    for back in [1, 10_000, 3_000_000] {
        suite.observe(store, watermark.saturating_sub(ms(back)));
        assert_eq!(suite.verdict(store, b"below", watermark.saturating_sub(ms(1))), Verdict::TooOld);
    }
    let far = suite.harness.now(store).saturating_add(Duration::from_secs(86_400));
    let ahead = suite.harness.block_on(store.observe(MinMsgTime::Known(far))).expect_err("a day ahead of the clock");
    assert_eq!(ahead.refusal(), Some(Refusal::WatermarkAhead), "{ahead}");
    assert_eq!(suite.verdict(store, b"at", watermark), Verdict::Fresh, "it has changed nothing");
}

fn removed_keys_are_fresh<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let time = suite.start(store);
    let remove = |key: &[u8]| suite.harness.block_on(store.remove(key)).expect("a removal");
    assert!(!remove(b"a"), "never seen");
    let claim = suite.fresh(store, b"a", time);
    assert!(!remove(b"a"), "a claim is not a committed key");
    suite.harness.block_on(store.commit(claim)).expect("a commit");
    suite.commit(store, b"b", time);
    assert!(remove(b"a") && !remove(b"a"));
    suite.commit(store, b"a", time);
    assert_eq!(suite.verdict(store, b"a", time), Verdict::Duplicate);
    assert_eq!(suite.verdict(store, b"b", time), Verdict::Duplicate, "another key");
}

fn keys_are_any_bytes<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let time = suite.start(store);
    let long = vec![b'x'; 70_000];
    let mut keys: Vec<&[u8]> =
        vec![b"", b"\0", b"\0\0", b"a", b"a\0", b"A", b" a", b"a ", b"\xff\xfe", b"\r\n", b"*", &long];
    let almost_long = &long[1..];
    keys.extend(["{a}", "a:b", "ä", "a\u{308}", "消"].map(str::as_bytes));
    keys.push(almost_long);
    for key in &keys {
        suite.commit(store, key, time);
    }
    for key in &keys {
        assert_eq!(suite.verdict(store, key, time), Verdict::Duplicate, "{} bytes", key.len());
    }
}

fn times_at_their_edges<H: Harness>(suite: &Suite<'_, H>) {
    let store = &suite.open(None);
    let start = suite.start(store);
    let edges = [0, 1, u64::from(u32::MAX), i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX];
    for (number, edge) in edges.into_iter().enumerate() {
        let key = &number.to_le_bytes();
        suite.commit(store, key, Timestamp::from_millis(edge));
        assert_eq!(suite.verdict(store, key, Timestamp::from_millis(edge)), Verdict::Duplicate, "{edge}");
    }
    assert_eq!(suite.verdict(store, b"now", start), Verdict::Fresh);
    let unknown = suite.harness.block_on(store.claim(b"unknown", None)).expect("a claim of unknown time");
    let Claimed::Fresh(claim) = unknown else { panic!("never seen") };
    suite.harness.block_on(store.commit(claim)).expect("a commit");
    suite.observe(store, start);
    assert_eq!(suite.verdict(store, b"unknown", start), Verdict::Duplicate, "unknown counts as now");
}
