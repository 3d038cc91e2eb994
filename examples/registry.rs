//! One process, many queues: each has its own horizon, size and watermark.
//!
//!     cargo run --example registry

use oncewheel::{Config, Error, Horizon, MinMsgTime, Registry, Timestamp, Verdict};
use std::time::Duration;

fn config(queue: &str) -> Config {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    match queue {
        "payments" => Config::new(Horizon::new(minutes(24 * 60), minutes(1))).max_keys(50_000_000),
        _ => Config::new(Horizon::new(minutes(10), minutes(1))).max_keys(1_000_000),
    }
}

struct Delivery {
    queue: &'static str,
    key: &'static str,
    /// When the broker stored the message.
    stored_at: Timestamp,
}

fn main() -> Result<(), Error> {
    let registry = Registry::new();
    let minutes_ago = |minutes: u64| Timestamp::now().saturating_sub(Duration::from_secs(60 * minutes));
    // Both queues have a backlog of some minutes.
    let delivery = |queue, key, minutes| Delivery { queue, key, stored_at: minutes_ago(minutes) };
    let deliveries = [
        delivery("payments", "id-1", 9),
        delivery("mails", "id-1", 8),
        delivery("payments", "id-1", 7), // a copy
        delivery("mails", "id-2", 6),
    ];

    let mut fresh = 0;
    for Delivery { queue, key, stored_at } in deliveries {
        // A service keeps the handle for as long as it consumes from the queue.
        let cache = registry.get_or_create(queue, config(queue))?;
        let verdict = cache.insert(key, stored_at)?;
        println!("{queue}/{key}: {verdict}");
        fresh += u32::from(verdict == Verdict::Fresh);
    }
    assert_eq!(fresh, 3, "the same key in two queues is two keys, and a backlog is not too old");

    // Once a second, for each queue: the time of the oldest message that the broker still holds.
    for (queue, oldest) in [("payments", minutes_ago(7)), ("mails", minutes_ago(6))] {
        let Some(cache) = registry.get(queue) else { continue };
        cache.observe(MinMsgTime::Known(oldest))?;
        let stats = cache.stats();
        println!("{queue}: {} keys, {} duplicates, {} bytes", stats.keys_live, stats.duplicate, stats.memory_bytes);
    }
    Ok(())
}
