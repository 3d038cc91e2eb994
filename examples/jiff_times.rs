//! Message times as other crates have them: here jiff's; chrono's and time's in the same way.
//!
//!     cargo run --example jiff_times --features jiff

use jiff::ToSpan;
use oncewheel::{Config, Horizon, Timestamp, Verdict, unsync::DedupCache};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let mut cache = DedupCache::new(Config::new(horizon))?;

    // A broker's header, in text and with an offset: read by jiff, then rounded down to
    // milliseconds.
    let stored_at: jiff::Timestamp = "2026-11-25T10:15:30.123456+02:00".parse()?;
    let msg_time = Timestamp::from(stored_at);
    assert_eq!(cache.insert("order-1", msg_time)?, Verdict::Fresh);
    assert_eq!(cache.insert("order-1", Timestamp::from(stored_at + 2.minutes()))?, Verdict::Duplicate);

    // And back, for people to read.
    let oldest_kept = jiff::Timestamp::try_from(msg_time)?;
    println!("{oldest_kept}: {} keys held", cache.len());
    assert_eq!(oldest_kept.to_string(), "2026-11-25T08:15:30.123Z");
    Ok(())
}
