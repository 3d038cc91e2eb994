//! Worker threads that share a queue and a cache: claims keep a message from being processed twice
//! at the same time.
//!
//!     cargo run --example worker_threads

use oncewheel::{Claimed, Config, Error, Horizon, Timestamp, sync::DedupCache};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

fn main() -> Result<(), Error> {
    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    // A worker that hangs for a minute loses its claim to the next delivery.
    let cache = DedupCache::new(Config::new(horizon).lease(Duration::from_secs(60)))?;
    let (processed, skipped) = (AtomicU64::new(0), AtomicU64::new(0));

    let (send, receive) = mpsc::channel();
    let receive = Mutex::new(receive);
    for number in 0..10_000u64 {
        // Every tenth message is delivered twice, one right after the other: two workers meet over
        // it.
        for _ in 0..=u64::from(number % 10 == 0) {
            send.send((number, Timestamp::now())).expect("the receiver is alive");
        }
    }
    drop(send);

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| -> Result<(), Error> {
                let next = || receive.lock().ok()?.recv().ok();
                while let Some((number, stored_at)) = next() {
                    match cache.claim(number.to_le_bytes(), stored_at)? {
                        Claimed::Fresh(claim) => {
                            processed.fetch_add(1, Relaxed); // the effect
                            claim.commit()?;
                        }
                        // In flight: not acknowledged, so that it comes back if the other worker
                        // fails.
                        Claimed::Duplicate | Claimed::InFlight => _ = skipped.fetch_add(1, Relaxed),
                        Claimed::TooOld => unreachable!("nothing has moved the watermark"),
                    }
                }
                Ok(())
            });
        }
    });
    println!("{} processed, {} duplicates", processed.load(Relaxed), skipped.load(Relaxed));
    assert_eq!((processed.load(Relaxed), skipped.load(Relaxed)), (10_000, 1_000));
    Ok(())
}
