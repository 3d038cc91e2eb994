//! Claims of one key.

use super::*;
use crate::MinMsgTime;
use shuttle::thread;

#[test]
fn of_two_claims_one_is_fresh_and_the_other_in_flight_until_the_commit() {
    let allowed = ["fresh, in flight", "fresh, duplicate", "in flight, fresh", "duplicate, fresh"];
    explore(allowed, || {
        let cache = DedupCache::new(config()).unwrap();
        let claim = || claimed(&cache, "a", |claim| claim.commit().unwrap());
        let outcome = thread::scope(|scope| {
            let other = scope.spawn(claim);
            let first = claim();
            format!("{first}, {}", other.join().unwrap())
        });
        assert_eq!(claim(), "duplicate");
        cache.validate();
        outcome
    });
}

#[test]
fn a_claim_that_is_dropped_makes_its_key_fresh_for_one_of_two() {
    let allowed =
        ["in flight, in flight", "fresh, in flight", "in flight, fresh", "fresh, duplicate", "duplicate, fresh"];
    explore(allowed, || {
        let cache = DedupCache::new(config()).unwrap();
        let Ok(Claimed::Fresh(dropped)) = cache.claim("a", at(10_000)) else { panic!("new") };
        let claim = || claimed(&cache, "a", |claim| claim.commit().unwrap());
        let outcome = thread::scope(|scope| {
            let other = scope.spawn(claim);
            scope.spawn(move || drop(dropped));
            let first = claim();
            format!("{first}, {}", other.join().unwrap())
        });
        assert_eq!(is_held(&cache, "a"), outcome.contains("fresh"));
        assert_eq!(cache.stats().claims_open, 0);
        cache.validate();
        outcome
    });
}

#[test]
fn a_duplicate_stays_one_while_a_claimant_commits_and_another_aborts() {
    // One thread commits, one aborts, and one claims twice. Only a duplicate follows a duplicate.
    let allowed = [
        "committed: fresh, duplicate",
        "committed: fresh, fresh",
        "committed: fresh, in flight",
        "committed: in flight, duplicate",
        "committed: in flight, in flight",
        "committed: in flight, fresh",
        "committed: duplicate, duplicate",
        "not committed: fresh, fresh",
        "not committed: fresh, in flight",
        "not committed: in flight, fresh",
        "not committed: in flight, in flight",
    ];
    explore(allowed, || {
        let cache = DedupCache::new(config()).unwrap();
        let (committed, seen) = thread::scope(|scope| {
            let commits = scope.spawn(|| claimed(&cache, "a", |claim| claim.commit().unwrap()) == "fresh");
            scope.spawn(|| claimed(&cache, "a", Claim::abort));
            let seen = [(); 2].map(|()| claimed(&cache, "a", drop));
            (commits.join().unwrap(), seen)
        });
        assert_eq!(is_held(&cache, "a"), committed);
        cache.validate();
        format!("{}committed: {}, {}", if committed { "" } else { "not " }, seen[0], seen[1])
    });
}

#[test]
fn of_a_slow_claim_and_those_that_take_it_over_one_commits() {
    let allowed = [
        "in time: in flight, in flight",
        "in time: duplicate, in flight",
        "in time: in flight, duplicate",
        "in time: duplicate, duplicate",
        "late: fresh, in flight",
        "late: fresh, duplicate",
        "late: in flight, fresh",
        "late: duplicate, fresh",
    ];
    explore(allowed, || {
        let cache = DedupCache::new(config().lease(Duration::from_millis(10))).unwrap();
        cache.advance(at(10_000)).unwrap();
        let Ok(Claimed::Fresh(slow)) = cache.claim("a", at(10_000)) else { panic!("new") };
        let take_over = || claimed(&cache, "a", |claim| claim.commit().unwrap());
        let outcome = thread::scope(|scope| {
            scope.spawn(|| cache.advance(at(10_011)).unwrap());
            let first = scope.spawn(take_over);
            let second = scope.spawn(take_over);
            let when = match slow.commit() {
                Ok(()) => "in time",
                Err(Error::ClaimLost) => "late",
                Err(error) => panic!("{error}"),
            };
            format!("{when}: {}, {}", first.join().unwrap(), second.join().unwrap())
        });
        assert_eq!(claimed(&cache, "a", drop), "duplicate");
        cache.validate();
        outcome
    });
}

#[test]
fn a_late_commit_is_refused_whatever_became_of_the_claim_that_took_over() {
    let allowed = ["in time: in flight", "in time: duplicate", "late: fresh"];
    explore(allowed, || {
        let cache = DedupCache::new(config().lease(Duration::from_millis(10))).unwrap();
        cache.advance(at(10_000)).unwrap();
        let Ok(Claimed::Fresh(slow)) = cache.claim("a", at(10_000)) else { panic!("new") };
        let (outcome, in_time) = thread::scope(|scope| {
            scope.spawn(|| cache.advance(at(10_011)).unwrap());
            let second = scope.spawn(|| claimed(&cache, "a", Claim::abort));
            let in_time = slow.commit().is_ok();
            (second.join().unwrap(), in_time)
        });
        assert_eq!(is_held(&cache, "a"), in_time);
        cache.validate();
        format!("{}: {outcome}", if in_time { "in time" } else { "late" })
    });
}

#[test]
fn an_abandoned_claim_is_swept_or_taken_over_but_its_quota_is_returned_once() {
    // There is quota for one key. `b` gets it once the claim was swept, or its key has expired.
    let allowed = ["kept: full", "kept: fresh", "lost: fresh"];
    explore(allowed, || {
        let cache = DedupCache::new(config().max_keys(1).lease(Duration::from_millis(10))).unwrap();
        cache.advance(at(10_000)).unwrap();
        let Ok(Claimed::Fresh(slow)) = cache.claim("a", at(10_000)) else { panic!("new") };
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                cache.advance(at(12_100)).unwrap();
                cache.observe(MinMsgTime::Known(at(12_050))).unwrap();
            });
            let other = scope.spawn(|| answer(&cache.insert("b", at(12_060))));
            let kept = slow.commit().is_ok();
            format!("{}: {}", if kept { "kept" } else { "lost" }, other.join().unwrap())
        });
        cache.validate();
        outcome
    });
}
