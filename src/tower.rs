//! Any store around a service of the crate [`tower`](https://docs.rs/tower) (feature `tower`): one
//! fresh delivery of a key reaches the service, the others do not.
//!
//! [`DedupLayer`] claims the request's key, calls the service on `Fresh`, and commits where it
//! returns `Ok`. It is [`process_once`] in the form of a layer:
//!
//! | | the response |
//! |---|---|
//! | fresh, the service returned `Ok`, committed | `Ok(Claimed::Fresh(response))` |
//! | not fresh; the service was not called | `Ok(Claimed::Duplicate)`, `InFlight` or `TooOld` |
//! | fresh, the service returned an error; released | [`Err(DedupError::Service)`](DedupError::Service) |
//! | the store could not claim, or not commit | [`Err(DedupError::Store)`](DedupError::Store) |
//!
//! [`disposition`] tells what to do with the delivery.
//!
//! **A future that is dropped releases its claim**, as does a service that panics: by a
//! [`Timeout`](https://docs.rs/tower/latest/tower/timeout/struct.Timeout.html) around the layer, or
//! a shutdown. An effect that had happened by then happens again with the next delivery. A timeout
//! *inside* the layer is an error of the service, which releases the claim, too.
//!
//! **Readiness** is the inner service's. A slot that it has reserved (a concurrency limit inside
//! the layer) is held while the store is asked, and given back with the answer.
//!
//! ```
//! use oncewheel::tower::{DedupLayer, disposition};
//! use oncewheel::{Config, Disposition, Horizon, Timestamp, sync::DedupCache};
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! struct Delivery {
//!     key: String,
//!     stored_at: Timestamp,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), oncewheel::Error> {
//! let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
//! let cache = DedupCache::new(Config::new(horizon))?;
//! let key = |delivery: &Delivery| delivery.key.clone();
//! let stored_at = |delivery: &Delivery| delivery.stored_at;
//! let service = ServiceBuilder::new()
//!     .layer(DedupLayer::new(cache, key, stored_at))
//!     .service(service_fn(async |_: Delivery| Ok::<_, std::io::Error>("the money is moved")));
//!
//! let stored_at = Timestamp::now();
//! let delivery = || Delivery { key: "transfer-17".to_owned(), stored_at };
//! let answered = service.clone().oneshot(delivery()).await;
//! assert_eq!(disposition(&answered), Disposition::Acknowledge);
//! let answered = service.oneshot(delivery()).await;
//! assert_eq!(answered.unwrap().to_string(), "duplicate");
//! # Ok(())
//! # }
//! ```

use crate::{ClaimStore, Claimed, Disposition, Timestamp, process_once};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a store around a service: the layer that makes [`Dedup`].
///
/// `store` is a handle that is cheap to clone, as [`sync::DedupCache`](crate::sync::DedupCache) is,
/// or an [`Arc`](std::sync::Arc) of one. See the [module documentation](self) for an example.
#[derive(Clone, Copy, Debug)]
pub struct DedupLayer<S, K, T> {
    store: S,
    key: K,
    msg_time: T,
}

impl<S, K, T> DedupLayer<S, K, T> {
    /// `key` takes the dedup key from a request, as anything that owns its bytes: a `String`, a
    /// `Vec<u8>`, an array. `msg_time` takes from it when the broker stored this copy: a
    /// [`Timestamp`], or an `Option` of one, where `None` counts as now.
    #[must_use]
    pub fn new(store: S, key: K, msg_time: T) -> Self {
        Self { store, key, msg_time }
    }
}

impl<I, S: Clone, K: Clone, T: Clone> Layer<I> for DedupLayer<S, K, T> {
    type Service = Dedup<I, S, K, T>;

    fn layer(&self, inner: I) -> Self::Service {
        Dedup { inner, layer: self.clone() }
    }
}

/// A service that processes each key once. See the [module documentation](self).
#[derive(Clone, Copy, Debug)]
pub struct Dedup<I, S, K, T> {
    inner: I,
    layer: DedupLayer<S, K, T>,
}

/// Boxed, as the futures of a [`ClaimStore`] have no names: one allocation for each delivery.
type Answering<R, E> = Pin<Box<dyn Future<Output = Result<Claimed<R>, E>> + Send>>;

impl<R, I, S, K, T, Bytes, Time> Service<R> for Dedup<I, S, K, T>
where
    R: Send + 'static,
    I: Service<R, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
    S: ClaimStore + Clone + 'static,
    K: Fn(&R) -> Bytes,
    T: Fn(&R) -> Time,
    Bytes: AsRef<[u8]> + Send + Sync + 'static,
    Time: Into<Option<Timestamp>>,
{
    type Response = Claimed<I::Response>;
    type Error = DedupError<S::Error, I::Error>;
    type Future = Answering<I::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(DedupError::Service)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // The service that was made ready is the one to call; a clone of it need not be.
        let next = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, next);
        let store = self.layer.store.clone();
        let (key, msg_time) = ((self.layer.key)(&request), (self.layer.msg_time)(&request).into());
        Box::pin(async move {
            let processed = process_once(&store, key, msg_time, async || ready.call(request).await).await;
            processed.map_err(DedupError::Store)?.try_map(|answered| answered.map_err(DedupError::Service))
        })
    }
}

/// Why a delivery has no answer. Do not acknowledge it, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupError<S, E> {
    /// The store's: nothing is known about the delivery. If a commit failed, the effect has
    /// happened and may happen again.
    Store(S),
    /// The service's, when it was called or made ready. The claim is released.
    Service(E),
}

/// The message of what it holds.
impl<S: fmt::Display, E: fmt::Display> fmt::Display for DedupError<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

/// For services with any error that can be shown, boxed ones among them: so the
/// [`source`](std::error::Error::source) of a service's error is reached by matching.
impl<S: std::error::Error, E: fmt::Debug + fmt::Display> std::error::Error for DedupError<S, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Service(_) => None,
        }
    }
}

/// What to do with a delivery that was answered so by a [`Dedup`] service, whatever layers are
/// around it: every error means to let it come back.
#[must_use]
pub fn disposition<R, E>(answered: &Result<Claimed<R>, E>) -> Disposition {
    match answered {
        Ok(Claimed::Fresh(_) | Claimed::Duplicate) => Disposition::Acknowledge,
        Ok(Claimed::InFlight) | Err(_) => Disposition::Redeliver,
        Ok(Claimed::TooOld) => Disposition::DeadLetter,
    }
}
