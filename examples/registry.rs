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

fn main() -> Result<(), Error> {
    let registry = Registry::new();
    let now = Timestamp::now();
    let deliveries = [("payments", "id-1"), ("mails", "id-1"), ("payments", "id-1"), ("mails", "id-2")];

    let mut fresh = 0;
    for (queue, key) in deliveries {
        // A service keeps the handle for as long as it consumes from the queue.
        let cache = registry.get_or_create(queue, config(queue))?;
        cache.observe(MinMsgTime::Known(now))?;
        let verdict = cache.insert(key, now)?;
        println!("{queue}/{key}: {verdict:?}");
        fresh += u32::from(verdict == Verdict::Fresh);
    }
    assert_eq!(fresh, 3, "the same key in two queues is two keys");

    for queue in registry.queues() {
        if let Some(cache) = registry.get(&queue) {
            let stats = cache.stats();
            println!("{queue}: {} keys, {} duplicates, {} bytes", stats.keys_live, stats.duplicate, stats.memory_bytes);
        }
    }
    Ok(())
}
