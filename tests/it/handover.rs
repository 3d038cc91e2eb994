//! A journaled cache changes hands: two processes take one directory from each other, over and
//! over, under load, and one of them is stopped now and then as an overloaded machine would stop
//! it.
//!
//! The children are this test binary itself, running [`child`].
#![cfg(unix)]

use oncewheel::journal::{Durability, ErrorKind, OpenOptions};
use oncewheel::testing::conformance::block_on;
use oncewheel::{Claimed, Clock, Config, Error, Horizon, Timestamp, Verdict, sync::DedupCache};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How the parent tells a child its directory and the number of turns.
const ORDERS: &str = "ONCEWHEEL_HANDOVER_CHILD";
/// Turns of both children together, or as many as `ONCEWHEEL_HANDOVERS` says.
const TURNS: u64 = 1_000;
/// Keys that a thread, and a task, commit in one turn.
const KEYS: u64 = 20;
/// Turns that an heir looks back.
const REMEMBERED: u64 = 3;
const TIME: u64 = 1_795_302_291_895;

fn key(turn: u64, by: &str, number: u64) -> String {
    format!("{turn}/{by}/{number}")
}

fn time(turn: u64) -> Timestamp {
    Timestamp::from_millis(TIME + turn)
}

/// No test, but what the parent starts.
#[test]
fn child() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let (turns, dir) = orders.split_once(' ').unwrap();
    let (turns, dir) = (turns.parse().unwrap(), Path::new(dir));
    // A turn lasts 10 ms of the queue's time, so that keys expire and segments go meanwhile.
    let horizon = Horizon::new(Duration::from_millis(100), Duration::ZERO);
    let config = Config::new(horizon).clock(Clock::Manual).max_keys(10_000);
    loop {
        let options = OpenOptions::new().durability(Durability::Process).lock_timeout(Duration::ZERO);
        let tried = Instant::now();
        match DedupCache::open(dir, config.clone(), options) {
            Ok(cache) => {
                let turn = fs::read_to_string(dir.join("turn")).map_or(0, |turn| turn.parse().unwrap());
                if turn >= turns {
                    return;
                }
                check_inheritance(&cache, turn);
                take_turn(cache, turn + 1, dir);
            }
            Err(Error::Journal(error)) if error.kind() == ErrorKind::Locked => {
                assert!(tried.elapsed() < Duration::from_secs(5), "one try does not wait");
            }
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_micros(300));
    }
}

/// What was committed is known, what was claimed and not committed is not.
fn check_inheritance(cache: &DedupCache, last: u64) {
    assert!(cache.recovery().unwrap().damage.is_empty());
    for turn in last.saturating_sub(REMEMBERED) + 1..=last {
        for number in 0..KEYS {
            for by in ["thread", "task"] {
                let known = cache.claim(key(turn, by, number), time(turn)).unwrap();
                assert!(matches!(known, Claimed::Duplicate), "{turn}, {by}, {number}: {known}");
            }
        }
        let open = cache.claim(key(turn, "open", 0), time(turn)).unwrap();
        assert!(matches!(open, Claimed::Fresh(_)), "{turn}: {open}");
    }
}

fn take_turn(cache: DedupCache, turn: u64, dir: &Path) {
    cache.advance(time(turn)).unwrap();
    cache.observe(oncewheel::MinMsgTime::Known(time(turn.saturating_sub(REMEMBERED)))).unwrap();
    let fresh = |by: &str, number| match cache.claim(key(turn, by, number), time(turn)).unwrap() {
        Claimed::Fresh(claim) => claim,
        known => panic!("{turn}, {by}, {number}: {known}"),
    };
    let open = fresh("open", 0);
    thread::scope(|scope| {
        scope.spawn(|| (0..KEYS).for_each(|number| fresh("thread", number).commit().unwrap()));
        scope.spawn(|| (0..KEYS).for_each(|number| block_on(fresh("task", number).commit_async()).unwrap()));
    });
    // One that is under way as the cache is closed: whatever its answer, the heir agrees.
    let racing = fresh("racing", 0);
    let is_committed = thread::scope(|scope| {
        let racing = scope.spawn(|| block_on(racing.commit_async()));
        fs::write(dir.join("turn"), turn.to_string()).unwrap();
        let closed = cache.close();
        assert_eq!(closed, Ok(()));
        match racing.join().unwrap() {
            Ok(()) => true,
            Err(Error::Journal(error)) if error.kind() == ErrorKind::Closed => false,
            Err(error) => panic!("{error}"),
        }
    });
    // The directory may be another's by now, and these must not reach it.
    assert_eq!(cache.insert(key(turn, "racing", 0), time(turn)) == Ok(Verdict::Duplicate), is_committed);
    match open.commit() {
        Err(Error::Journal(error)) => assert_eq!(error.kind(), ErrorKind::Closed),
        other => panic!("{other:?}"),
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_directory_that_changes_hands_a_thousand_times_loses_no_committed_key() {
    let turns = env::var("ONCEWHEEL_HANDOVERS").map_or(TURNS, |turns| turns.parse().unwrap());
    let dir = env::temp_dir().join(format!("oncewheel-handover-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    let start = || {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "handover::child", "--nocapture"]).env(ORDERS, format!("{turns} {}", dir.display()));
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut children = [start(), start()];
    let mut stops = 0;
    let ended = loop {
        let ended: Vec<_> = children.iter_mut().filter_map(|child| child.try_wait().unwrap()).collect();
        if ended.iter().any(|status| !status.success()) || ended.len() == 2 {
            break ended;
        }
        if ended.is_empty() {
            let stopped = &children[stops % 2];
            signal(stopped, "-STOP");
            thread::sleep(Duration::from_millis(15));
            signal(stopped, "-CONT");
            stops += 1;
        }
        thread::sleep(Duration::from_millis(40));
    };
    children.iter_mut().for_each(|child| _ = child.kill());
    children.iter_mut().for_each(|child| _ = child.wait());
    assert!(ended.len() == 2 && ended.iter().all(|status| status.success()), "{ended:?}");
    let turn: PathBuf = dir.join("turn");
    assert_eq!(fs::read_to_string(turn).unwrap(), turns.to_string());
    assert!(stops > 3, "{stops} stops");
    fs::remove_dir_all(&dir).unwrap();
}
