//! A handler as a service of `tower`: at most eight deliveries at a time, each key once, half a
//! second for each.
//!
//!     cargo run --example tower --features tower

use oncewheel::tower::{DedupLayer, disposition};
use oncewheel::{Config, Disposition, Horizon, Timestamp, sync::DedupCache};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

#[derive(Clone, Copy)]
struct Delivery {
    key: [u8; 8],
    stored_at: Timestamp,
    takes: Duration,
}

static EFFECTS: AtomicU32 = AtomicU32::new(0);

async fn transfer(delivery: Delivery) -> Result<(), BoxError> {
    tokio::time::sleep(delivery.takes).await;
    EFFECTS.fetch_add(1, Relaxed);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let cache = DedupCache::new(Config::new(horizon))?;
    // From the outside in. Outside of the dedup layer, the limit counts duplicates, too, and the
    // timeout cuts off the claim and the commit as well as the effect: the claim is then released.
    let service = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(8))
        .layer(TimeoutLayer::new(Duration::from_millis(500)))
        .layer(DedupLayer::new(
            cache.clone(),
            |delivery: &Delivery| delivery.key,
            |delivery: &Delivery| delivery.stored_at,
        ))
        .service(service_fn(transfer));

    let stored_at = Timestamp::now();
    let delivery = |number: u64, takes_ms| Delivery {
        key: number.to_le_bytes(),
        stored_at,
        takes: Duration::from_millis(takes_ms),
    };
    // Every message twice: the copy meets the first one in flight, or done.
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        tasks.spawn(service.clone().oneshot(delivery(number / 2, 1)));
    }
    let answers = tasks.join_all().await;
    let acknowledged = answers.iter().filter(|answered| disposition(answered) == Disposition::Acknowledge).count();
    println!("{} deliveries acknowledged, {} effects", acknowledged, EFFECTS.load(Relaxed));
    assert_eq!(EFFECTS.load(Relaxed), 100);

    // A hanging effect is cut off, and the redelivery is processed.
    let hanging = service.clone().oneshot(delivery(1_000, 60_000)).await;
    println!("hanging: {}", hanging.as_ref().expect_err("it takes a minute"));
    assert_eq!(disposition(&hanging), Disposition::Redeliver);
    let again = service.oneshot(delivery(1_000, 1)).await?;
    println!("again: {again}");
    assert_eq!((cache.stats().claims_open, EFFECTS.load(Relaxed)), (0, 101));
    Ok(())
}
