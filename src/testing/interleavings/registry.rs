//! Threads that need the cache of the same new queue.

use super::*;
use crate::Registry;
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use shuttle::thread;

#[test]
fn a_queue_has_one_cache_that_is_made_once() {
    explore(["fresh, duplicate", "duplicate, fresh"], || {
        let registry = Registry::new();
        let made = AtomicUsize::new(0);
        let insert = || {
            let cache = registry.get_or_create_with("mails", || {
                made.fetch_add(1, SeqCst);
                DedupCache::new(config())
            });
            answer(&cache.unwrap().insert("a", at(10_000)))
        };
        let outcome = thread::scope(|scope| {
            let other = scope.spawn(insert);
            scope.spawn(|| registry.get_or_create("payments", config()).unwrap());
            let first = insert();
            format!("{first}, {}", other.join().unwrap())
        });
        assert_eq!(made.load(SeqCst), 1);
        assert_eq!(registry.queues(), ["mails", "payments"]);
        outcome
    });
}

#[test]
fn a_failed_creation_leaves_no_cache_and_a_removed_cache_still_works() {
    explore(["made", "made, removed", "found", "found, removed"], || {
        let registry = Registry::new();
        thread::scope(|scope| {
            let fails = scope.spawn(|| registry.get_or_create_with("mails", || Err(())).is_ok());
            let removes = scope.spawn(|| registry.remove("mails").is_some());
            let cache = registry.get_or_create("mails", config()).unwrap();
            assert_eq!(answer(&cache.insert("a", at(10_000))), "fresh");
            let (found, removed) = (fails.join().unwrap(), removes.join().unwrap());
            assert_eq!(registry.get("mails").is_none(), removed);
            format!("{}{}", if found { "found" } else { "made" }, if removed { ", removed" } else { "" })
        })
    });
}
