//! Commits of async tasks: what they share, and what becomes of them when the disk fails, the task
//! goes away or the cache is closed.

use super::threads::{opened, time, until};
use super::*;
use crate::journal::{self, ErrorKind};
use crate::sync::{Claim, DedupCache};
use crate::testing::conformance::block_on;
use crate::testing::disk::Fault;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::thread;

fn claim(cache: &DedupCache, key: &str) -> Claim {
    match cache.claim(key, time()) {
        Ok(Claimed::Fresh(claim)) => claim,
        other => panic!("{other:?}"),
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    match result {
        Err(Error::Journal(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// Polls once, so that the commit has begun.
fn begin<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn without_a_journal_a_commit_is_ready_at_once() {
    let cache = DedupCache::new(config()).unwrap();
    let mut commit = pin!(claim(&cache, "a").commit_async());
    assert!(!begin(commit.as_mut()));
    assert_eq!(cache.insert("a", time()), Ok(Verdict::Duplicate));
}

#[test]
fn any_number_of_tasks_share_one_write_and_one_sync_and_no_poll_waits_for_them() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let _ = cache.insert("first", time()).unwrap();
    let syncs = storage.hold_syncs();
    let mut first = Box::pin(claim(&cache, "a").commit_async());
    assert!(begin(first.as_mut()));
    until(|| syncs.has_one());
    let before = storage.calls();
    let commit = |number: u32| Box::pin(claim(&cache, &number.to_string()).commit_async());
    let mut commits: Vec<_> = (0..40).map(commit).collect();
    for commit in &mut commits {
        assert!(begin(commit.as_mut()), "this thread has not waited for the disk");
    }
    assert_eq!(cache.insert("7", time()), Ok(Verdict::InFlight));
    drop(syncs);
    assert_eq!(block_on(first), Ok(()));
    commits.into_iter().for_each(|commit| assert_eq!(block_on(commit), Ok(())));
    // The first one's sync; then one append and one sync.
    assert_eq!(storage.calls() - before, 3);
    assert_eq!(cache.insert("7", time()), Ok(Verdict::Duplicate));
    drop(cache);
    assert_eq!(opened(&storage).len(), 42);
}

#[test]
fn a_commit_whose_task_goes_away_is_carried_out_and_one_that_never_began_is_released() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let syncs = storage.hold_syncs();
    {
        let mut begun = pin!(claim(&cache, "begun").commit_async());
        assert!(begin(begun.as_mut()));
        drop(claim(&cache, "not begun").commit_async());
    }
    assert_eq!(cache.insert("begun", time()), Ok(Verdict::InFlight));
    assert!(matches!(cache.claim("not begun", time()), Ok(Claimed::Fresh(_))));
    drop(syncs);
    drop(cache); // waits for what was begun
    assert!(knows(&opened(&storage), "begun"));
}

fn knows(cache: &DedupCache, key: &str) -> bool {
    cache.holds(cache.fingerprint(key))
}

#[test]
fn a_disk_that_fails_is_reported_to_every_task_and_releases_their_claims() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let _ = cache.insert("first", time()).unwrap();
    storage.fail(storage.calls()..storage.calls() + 1, Fault::Error(std::io::ErrorKind::StorageFull));
    let full = journal::ErrorKind::Io(std::io::ErrorKind::StorageFull);
    assert_eq!(kind(block_on(claim(&cache, "a").commit_async())), full);
    let batch = ["a", "b"].map(|key| claim(&cache, key));
    assert_eq!(block_on(cache.commit_batch_async(batch)).unwrap().all(), Ok(()));
    assert_eq!(cache.insert("a", time()), Ok(Verdict::Duplicate));
    storage.fail(storage.calls()..usize::MAX, Fault::Error(std::io::ErrorKind::Other));
    let late = claim(&cache, "c");
    assert_eq!(kind(block_on(late.commit_async())), ErrorKind::Poisoned);
    assert_eq!(kind(cache.claim("c", time())), ErrorKind::Poisoned, "no effect that cannot be committed");
    assert_eq!(cache.stats().claims_open, 0);
    cache.validate();
}

#[test]
fn a_claim_that_was_lost_is_not_committed_by_a_task_either() {
    let storage = Simulated::default();
    let config = config().shards(2).secret([7; 16]).lease(Duration::from_millis(100));
    let cache = DedupCache::open_in(|| Ok(storage.boxed()), config, Durability::Power.into()).unwrap();
    cache.advance(Timestamp::from_millis(10_000)).unwrap();
    let slow = claim(&cache, "a");
    let kept = claim(&cache, "b");
    cache.advance(Timestamp::from_millis(20_000)).unwrap();
    let second = claim(&cache, "a");
    assert_eq!(block_on(cache.commit_batch_async([slow, kept])).unwrap().lost(), [0]);
    assert_eq!(block_on(second.commit_async()), Ok(()));
    let stale = claim(&cache, "c");
    cache.advance(Timestamp::from_millis(30_000)).unwrap();
    drop(claim(&cache, "c"));
    assert_eq!(block_on(stale.commit_async()), Err(Error::ClaimLost));
    cache.validate();
}

#[test]
fn closing_carries_out_what_was_begun_and_refuses_what_comes_later() {
    let storage = Simulated::default();
    let cache = opened(&storage);
    let syncs = storage.hold_syncs();
    let mut begun = Box::pin(claim(&cache, "begun").commit_async());
    assert!(begin(begun.as_mut()));
    until(|| syncs.has_one());
    let (late, late_task) = (claim(&cache, "late"), claim(&cache, "late task"));
    thread::scope(|scope| {
        let closing = scope.spawn(|| cache.close());
        drop(syncs);
        assert_eq!(closing.join().unwrap(), Ok(()));
    });
    assert_eq!(block_on(begun), Ok(()));
    assert_eq!(kind(late.commit()), ErrorKind::Closed);
    assert_eq!(kind(block_on(late_task.commit_async())), ErrorKind::Closed);
    assert_eq!(kind(cache.insert("new", time())), ErrorKind::Closed);
    assert_eq!(kind(cache.claim("new", time())), ErrorKind::Closed);
    assert_eq!(kind(cache.remove("begun")), ErrorKind::Closed);
    assert_eq!(cache.insert("begun", time()), Ok(Verdict::Duplicate), "what it holds it still answers");
    assert_eq!(cache.close(), Ok(()), "once is enough");
    cache.validate();
    let heir = opened(&storage);
    assert!(knows(&heir, "begun") && !knows(&heir, "late") && !knows(&heir, "late task"));
}

#[test]
fn the_last_handle_may_go_with_the_task_that_the_thread_wakes() {
    struct Owner(std::sync::Mutex<Option<DedupCache>>, AtomicUsize);

    impl std::task::Wake for Owner {
        fn wake(self: std::sync::Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            self.1.fetch_add(1, Relaxed);
        }
    }

    let storage = Simulated::default();
    let cache = opened(&storage);
    let mut commit = Box::pin(claim(&cache, "a").commit_async());
    let owner = std::sync::Arc::new(Owner(std::sync::Mutex::new(Some(cache)), AtomicUsize::new(0)));
    let waker = Waker::from(std::sync::Arc::clone(&owner));
    let syncs = storage.hold_syncs();
    assert!(commit.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(commit);
    drop(syncs);
    until(|| owner.1.load(Relaxed) == 1);
    until(|| knows(&opened(&storage), "a"));
}
