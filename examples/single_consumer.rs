//! One consumer loop: claim, effect, commit, acknowledge.
//!
//!     cargo run --example single_consumer

use oncewheel::{Claimed, Config, Error, Horizon, Timestamp, unsync::DedupCache};
use std::collections::VecDeque;
use std::time::Duration;

struct Message {
    key: &'static str,
    stored_at: Timestamp,
    amount: u32,
}

fn main() -> Result<(), Error> {
    // Producers retry for ten minutes; the broker drops messages after a day.
    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let mut cache = DedupCache::new(Config::new(horizon.max_retention(Duration::from_secs(86_400))))?;

    let message = |key, amount| Message { key, stored_at: Timestamp::now(), amount };
    // The producer of "b" missed an acknowledgement and sent it again. "a" and "d" look alike and
    // are two events.
    let mut queue = VecDeque::from([message("a", 10), message("b", 20), message("b", 20), message("d", 10)]);
    let mut balance = 0;
    let mut database_is_down = true;

    while let Some(message) = queue.pop_front() {
        match cache.claim(message.key, message.stored_at)? {
            Claimed::Fresh(claim) if message.key == "d" && database_is_down => {
                database_is_down = false;
                drop(claim); // not processed: the redelivery will be fresh
                queue.push_back(message);
            }
            Claimed::Fresh(claim) => {
                balance += message.amount; // the effect
                cache.commit(claim)?;
                println!("{}: processed, acknowledged", message.key);
            }
            Claimed::Duplicate => println!("{}: duplicate, acknowledged", message.key),
            Claimed::InFlight => queue.push_back(message),
            Claimed::TooOld => println!("{}: dead-lettered", message.key),
        }
    }
    println!("balance {balance}");
    assert_eq!(balance, 40);
    Ok(())
}
