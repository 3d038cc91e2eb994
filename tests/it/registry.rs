//! Caches by queue.

use oncewheel::{Clock, Config, ConfigError, Horizon, MinMsgTime, Registry, Timestamp, Verdict};
use std::time::Duration;

fn config() -> Config {
    Config::new(Horizon::new(Duration::from_secs(1), Duration::ZERO)).clock(Clock::Manual).max_keys(100)
}

#[test]
fn the_same_key_in_two_queues_is_two_keys_and_each_queue_has_its_own_watermark() {
    let registry = Registry::new();
    let at = Timestamp::from_millis;
    let (first, second) =
        (registry.get_or_create("a", config()).unwrap(), registry.get_or_create("b", config()).unwrap());
    assert_eq!(first.insert("key", at(5)), Ok(Verdict::Fresh));
    assert_eq!(second.insert("key", at(5)), Ok(Verdict::Fresh));
    first.observe(MinMsgTime::Known(at(10_000))).unwrap();
    assert_eq!(first.insert("other", at(5)), Ok(Verdict::TooOld));
    assert_eq!(second.insert("other", at(5)), Ok(Verdict::Fresh));
}

#[test]
fn threads_that_meet_a_new_queue_together_share_one_cache() {
    for _ in 0..100 {
        let registry = Registry::new();
        let insert =
            || registry.get_or_create("a", config()).unwrap().insert("key", Timestamp::from_millis(5)).unwrap();
        let verdicts = std::thread::scope(|scope| {
            let threads = [scope.spawn(insert), scope.spawn(insert), scope.spawn(insert), scope.spawn(insert)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Fresh).count(), 1);
    }
}

#[test]
fn a_queue_that_cannot_be_set_up_has_no_cache() {
    let registry = Registry::new();
    assert_eq!(
        registry.get_or_create("a", config().max_keys(0)).err(),
        Some(ConfigError::MaxKeysOutOfRange { max_keys: 0 })
    );
    assert!(registry.get("a").is_none() && registry.queues().is_empty());
    assert!(registry.get_or_create("a", config()).is_ok());
}
