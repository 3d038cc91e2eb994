//! The watermark from a broker: keys expire as the queue moves on, and not before, whatever the
//! wall clock shows.
//!
//!     cargo run --example broker_watermark

use oncewheel::{Clock, Config, Error, Horizon, MinMsgTime, Timestamp, Verdict, unsync::DedupCache};
use std::time::Duration;

/// What a broker's API reports: the time of its oldest message that is not yet acknowledged, 0 if
/// it does not know.
fn min_msg_time(reported_ms: u64, queue_is_empty: bool, asked_at: Timestamp) -> MinMsgTime {
    match reported_ms {
        _ if queue_is_empty => MinMsgTime::Empty { observed_at: asked_at },
        0 => MinMsgTime::Unknown,
        known => MinMsgTime::Known(Timestamp::from_millis(known)),
    }
}

fn main() -> Result<(), Error> {
    // A manual clock stands in for the day that this would take. Services leave `clock` out and get
    // the system's.
    let minute = 60_000;
    let at = |minutes: u64| Timestamp::from_millis(1_795_302_000_000 + minutes * minute);
    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual))?;

    cache.advance(at(0))?;
    println!("transfer-1 is {}", cache.insert("transfer-1", at(0))?);

    // The consumer was down for nine hours. The copy that the producer sent after a minute waits in
    // the backlog.
    cache.advance(at(540))?;
    cache.observe(min_msg_time(at(1).as_millis(), false, at(540)))?;
    let copy = cache.insert("transfer-1", at(1))?;
    println!("nine hours later its copy is a {copy}");
    assert_eq!(copy, Verdict::Duplicate);

    // The backlog is consumed: now the broker's oldest message is new, and nothing older can come.
    cache.observe(min_msg_time(0, false, at(541)))?; // it does not know now: nothing changes
    cache.observe(min_msg_time(at(541).as_millis(), false, at(541)))?;
    println!("{} keys held, {} expired", cache.len(), cache.stats().expired);
    assert_eq!(cache.len(), 0);

    // A value in the wrong unit is rejected, and expires nothing.
    let rejected = cache.observe(min_msg_time(at(541).as_millis() * 1_000_000, false, at(541)));
    println!("rejected: {}", rejected.expect_err("nanoseconds are far in the future"));
    Ok(())
}
