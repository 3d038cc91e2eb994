//! Events for what is rare, here printed by `tracing-subscriber`: one for a flood.
//!
//!     cargo run --example events --features tracing

use oncewheel::{Config, Error, Horizon, MinMsgTime, Timestamp, unsync::DedupCache};
use std::time::Duration;

fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().without_time().init();
    // An event does not know which cache it is about. A span around the queue's work does.
    let _span = tracing::info_span!("consume", queue = "payments").entered();

    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let mut cache = DedupCache::new(Config::new(horizon).max_keys(100))?;
    let refused = (0..1_000u32).filter(|number| cache.insert(number.to_le_bytes(), None).is_err()).count();
    assert_eq!(refused, 900, "one event for all of them");

    let nanoseconds = Timestamp::from_millis(Timestamp::now().as_millis() * 1_000_000);
    let rejected = cache.observe(MinMsgTime::Known(nanoseconds));
    assert!(matches!(rejected, Err(Error::WatermarkAhead { .. })), "the wrong unit");
    Ok(())
}
