//! Async tasks, the thread that commits for them, and others, in every order that a scheduler comes
//! upon: see `crate::testing::interleavings`.

use super::interleavings::{assert_survives, at, begun, is_held, opened};
use super::*;
use crate::journal::ErrorKind;
use crate::sync::{Claim, DedupCache};
use crate::testing::disk::Fault;
use crate::testing::interleavings::explore;
use shuttle::future::block_on;
use shuttle::thread;
use std::task::{Context, Waker};

fn claim(cache: &DedupCache, key: &str) -> Claim {
    match cache.claim(key, at(10_000)) {
        Ok(Claimed::Fresh(claim)) => claim,
        other => panic!("{other:?}"),
    }
}

/// What a commit was answered.
fn answer(committed: Result<(), Error>) -> &'static str {
    match committed {
        Ok(()) => "committed",
        Err(Error::Journal(error)) if error.kind() == ErrorKind::Closed => "closed",
        Err(Error::Journal(_)) => "refused",
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_task_is_woken_with_its_commit_on_disk() {
    explore(["2 writes", "3 writes", "4 writes"], || {
        let (storage, cache) = begun();
        let before = storage.calls();
        thread::scope(|scope| {
            let cache = &cache;
            for key in ["a", "b", "c"] {
                scope.spawn(move || assert_eq!(block_on(claim(cache, key).commit_async()), Ok(())));
            }
            claim(cache, "d").commit().unwrap();
        });
        let writes = (storage.calls() - before) / 2;
        assert_survives(&storage, &cache, &["a", "b", "c", "d"]);
        assert!(["a", "b", "c", "d"].iter().all(|key| is_held(&cache, key)));
        format!("{writes} writes")
    });
}

#[test]
fn a_commit_whose_task_goes_away_is_carried_out_before_the_cache_ends() {
    explore(["both are there"], || {
        let (storage, cache) = begun();
        thread::scope(|scope| {
            let cache = cache.clone();
            scope.spawn(move || {
                let mut commit = Box::pin(claim(&cache, "a").commit_async());
                let _ = commit.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            });
        });
        let mut commit = Box::pin(claim(&cache, "b").commit_async());
        let _ = commit.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop((commit, cache)); // waits for the thread
        let after = opened(&storage);
        assert!(is_held(&after, "a") && is_held(&after, "b"));
        "both are there".into()
    });
}

#[test]
fn a_disk_that_fails_once_is_reported_to_the_tasks_of_that_write_alone() {
    let allowed = ["refused, committed", "committed, refused", "refused, refused"];
    explore(allowed, || {
        let (storage, cache) = begun();
        storage.fail(storage.calls()..storage.calls() + 1, Fault::Error(std::io::ErrorKind::StorageFull));
        let outcome = thread::scope(|scope| {
            let a = scope.spawn(|| answer(block_on(claim(&cache, "a").commit_async())));
            let b = answer(block_on(claim(&cache, "b").commit_async()));
            format!("{}, {b}", a.join().unwrap())
        });
        let held = |key| if is_held(&cache, key) { "committed" } else { "refused" };
        assert_eq!(outcome, format!("{}, {}", held("a"), held("b")));
        assert_eq!(cache.stats().claims_open, 0, "claims whose commit was refused are released");
        assert_survives(&storage, &cache, &["a", "b"]);
        outcome
    });
}

#[test]
fn what_a_task_hears_as_the_cache_is_closed_is_what_the_heir_finds() {
    explore(["committed", "closed"], || {
        let (storage, cache) = begun();
        let late = claim(&cache, "a");
        let outcome = thread::scope(|scope| {
            let closing = scope.spawn(|| cache.close());
            let outcome = answer(block_on(late.commit_async()));
            assert_eq!(closing.join().unwrap(), Ok(()));
            outcome
        });
        cache.validate();
        let heir = opened(&storage);
        assert_eq!(is_held(&heir, "a"), outcome == "committed");
        assert_eq!(is_held(&cache, "a"), outcome == "committed");
        outcome.into()
    });
}

#[test]
fn the_last_handle_may_go_while_another_task_commits() {
    explore(["committed"], || {
        let (storage, cache) = begun();
        let (a, b) = (claim(&cache, "a"), claim(&cache, "b"));
        thread::scope(|scope| {
            scope.spawn(move || assert_eq!(answer(block_on(a.commit_async())), "committed"));
            scope.spawn(move || assert_eq!(answer(block_on(b.commit_async())), "committed"));
            drop(cache);
        });
        let after = opened(&storage);
        assert!(is_held(&after, "a") && is_held(&after, "b"));
        "committed".into()
    });
}
