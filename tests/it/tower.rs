//! The layer for `tower`: one fresh delivery reaches the service, and whatever cuts it short
//! releases the claim.

use oncewheel::tower::{Dedup, DedupError, DedupLayer, disposition};
use oncewheel::{Claimed, Clock, Config, Disposition, Error, Horizon, MinMsgTime, Timestamp, sync::DedupCache};
use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn config() -> Config {
    Config::new(Horizon::new(Duration::from_secs(60), Duration::from_secs(5))).clock(Clock::Manual)
}

#[derive(Clone, Copy)]
struct Delivery {
    key: &'static str,
    then: Then,
}

/// What the service does with it.
#[derive(Clone, Copy)]
enum Then {
    Succeed,
    Fail,
    Panic,
    Hang,
}

/// Must be made ready before each call, as one that reserves a slot does. Clones share the count of
/// calls and nothing else.
#[derive(Default)]
struct Handler {
    is_ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        Self { is_ready: false, calls: Arc::clone(&self.calls) }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<&'static str, String>> + Send>>;

impl Service<Delivery> for Handler {
    type Response = &'static str;
    type Error = String;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Answer {
        assert!(std::mem::take(&mut self.is_ready), "called without being made ready");
        self.calls.fetch_add(1, Relaxed);
        match delivery.then {
            Then::Succeed => Box::pin(ready(Ok("done"))),
            Then::Fail => Box::pin(ready(Err("database down".to_owned()))),
            Then::Panic => Box::pin(async { panic!("in the service") }),
            Then::Hang => Box::pin(pending()),
        }
    }
}

type Key = fn(&Delivery) -> &'static str;
type MsgTime = fn(&Delivery) -> Timestamp;
type Deduped = Dedup<Handler, DedupCache, Key, MsgTime>;

/// The service, and how often it was called.
fn around(cache: &DedupCache) -> (Deduped, Arc<AtomicUsize>) {
    let (key, msg_time): (Key, MsgTime) = (|delivery| delivery.key, |_| at(1_000));
    let handler = Handler::default();
    let calls = Arc::clone(&handler.calls);
    (DedupLayer::new(cache.clone(), key, msg_time).layer(handler), calls)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

type Answered = Result<Claimed<&'static str>, DedupError<Error, String>>;

fn begin(service: &mut Deduped, key: &'static str, then: Then) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
    assert!(service.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    service.call(Delivery { key, then })
}

fn deliver(service: &mut Deduped, key: &'static str, then: Then) -> Answered {
    match poll(begin(service, key, then).as_mut()) {
        Poll::Ready(answered) => answered,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

#[test]
fn a_delivery_that_is_not_fresh_does_not_reach_the_service() {
    let cache = DedupCache::new(config()).unwrap();
    let (mut service, calls) = around(&cache);
    let mut hanging = begin(&mut service, "slow", Then::Hang);
    assert!(poll(hanging.as_mut()).is_pending());
    let answered = deliver(&mut service, "slow", Then::Succeed);
    assert_eq!((&answered, disposition(&answered)), (&Ok(Claimed::InFlight), Disposition::Redeliver));

    let answered = deliver(&mut service, "a", Then::Succeed);
    assert_eq!((&answered, disposition(&answered)), (&Ok(Claimed::Fresh("done")), Disposition::Acknowledge));
    let answered = deliver(&mut service, "a", Then::Succeed);
    assert_eq!((&answered, disposition(&answered)), (&Ok(Claimed::Duplicate), Disposition::Acknowledge));

    drop(hanging);
    cache.observe(MinMsgTime::Known(at(2_000))).unwrap();
    let answered = deliver(&mut service, "b", Then::Succeed);
    assert_eq!((&answered, disposition(&answered)), (&Ok(Claimed::TooOld), Disposition::DeadLetter));
    assert_eq!(calls.load(Relaxed), 2, "slow and a");
}

#[test]
fn a_future_that_is_dropped_releases_the_claim() {
    let cache = DedupCache::new(config()).unwrap();
    let (mut service, calls) = around(&cache);
    drop(begin(&mut service, "a", Then::Succeed));
    assert_eq!((calls.load(Relaxed), cache.stats().fresh), (0, 0), "nothing happens before it is polled");
    let mut hanging = begin(&mut service, "a", Then::Hang);
    assert!(poll(hanging.as_mut()).is_pending());
    assert_eq!(cache.stats().claims_open, 1);
    drop(hanging);
    assert_eq!(cache.stats().claims_open, 0);
    assert_eq!(deliver(&mut service, "a", Then::Succeed), Ok(Claimed::Fresh("done")));
}

#[test]
fn an_error_of_the_service_releases_the_claim_and_is_told_from_one_of_the_store() {
    let cache = DedupCache::new(config().max_keys(1)).unwrap();
    let (mut service, calls) = around(&cache);
    let failed = deliver(&mut service, "a", Then::Fail);
    assert_eq!(failed, Err(DedupError::Service("database down".to_owned())));
    assert_eq!(disposition(&failed), Disposition::Redeliver);
    assert_eq!(deliver(&mut service, "a", Then::Succeed), Ok(Claimed::Fresh("done")));

    let full = deliver(&mut service, "b", Then::Succeed);
    assert!(matches!(full, Err(DedupError::Store(Error::Full { .. }))), "{full:?}");
    assert_eq!(disposition(&full), Disposition::Redeliver);
    assert_eq!(calls.load(Relaxed), 2);
}

#[test]
fn a_service_that_panics_releases_the_claim() {
    let cache = DedupCache::new(config()).unwrap();
    let (mut service, _) = around(&cache);
    let mut panicking = begin(&mut service, "a", Then::Panic);
    catch_unwind(AssertUnwindSafe(|| drop(poll(panicking.as_mut())))).unwrap_err();
    drop(panicking);
    assert_eq!(deliver(&mut service, "a", Then::Succeed), Ok(Claimed::Fresh("done")));
}

#[test]
fn a_commit_that_the_store_refuses_is_an_error_of_the_store() {
    let cache = DedupCache::new(config().lease(Duration::from_millis(5))).unwrap();
    cache.advance(at(1_000)).unwrap();
    let (key, msg_time): (Key, MsgTime) = (|delivery| delivery.key, |_| at(1_000));
    let mut service = DedupLayer::new(cache.clone(), key, msg_time).layer(Overtaken(cache.clone()));
    let mut answering = service.call(Delivery { key: "a", then: Then::Succeed });
    assert_eq!(poll(answering.as_mut()), Poll::Ready(Err(DedupError::Store(Error::ClaimLost))));
}

/// While it works its lease ends, and another delivery takes the claim over.
#[derive(Clone)]
struct Overtaken(DedupCache);

impl Service<Delivery> for Overtaken {
    type Response = &'static str;
    type Error = String;
    type Future = std::future::Ready<Result<&'static str, String>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        self.0.advance(at(2_000)).unwrap();
        let Ok(Claimed::Fresh(second)) = self.0.claim(delivery.key, at(1_000)) else { panic!("taken over") };
        second.commit().unwrap();
        ready(Ok("done"))
    }
}

/// Answers as it is told to when asked whether it is ready.
#[derive(Clone)]
struct Readiness(Arc<Mutex<Vec<IsReady>>>);

type IsReady = Poll<Result<(), String>>;

impl Service<Delivery> for Readiness {
    type Response = ();
    type Error = String;
    type Future = std::future::Ready<Result<(), String>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> IsReady {
        self.0.lock().unwrap().pop().unwrap()
    }

    fn call(&mut self, _: Delivery) -> Self::Future {
        ready(Ok(()))
    }
}

#[test]
fn it_is_ready_when_the_service_is() {
    let cache = DedupCache::new(config()).unwrap();
    let (key, msg_time): (Key, MsgTime) = (|delivery| delivery.key, |_| at(1_000));
    let answers = vec![Poll::Ready(Err("shut down".to_owned())), Poll::Ready(Ok(())), Poll::Pending];
    let inner = Readiness(Arc::new(Mutex::new(answers)));
    let mut service = DedupLayer::new(cache, key, msg_time).layer(inner);
    let mut poll_ready = || service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll_ready(), Poll::Pending);
    assert_eq!(poll_ready(), Poll::Ready(Ok(())));
    assert_eq!(poll_ready(), Poll::Ready(Err(DedupError::Service("shut down".to_owned()))));
}

#[test]
fn errors_become_boxed_ones_as_layers_around_expect() {
    type Boxed = Box<dyn std::error::Error + Send + Sync>;
    let boxed: Boxed = DedupError::<Error, Boxed>::Service("timed out".into()).into();
    assert_eq!(boxed.to_string(), "timed out");
    let boxed: Boxed = DedupError::<Error, Boxed>::Store(Error::ClaimLost).into();
    assert_eq!(boxed.to_string(), Error::ClaimLost.to_string());
}
