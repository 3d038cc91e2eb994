//! The scenarios, each one step away from the plain one.

use super::random::Random;
use super::scenario::{Broken, Front, HOUR, MINUTE, MinMode, SECOND, Scenario, Sign, Stamp, Tracking, Way, plain};

fn with(name: &'static str, shows: &'static [Sign], change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario { shows, ..plain(name) };
    change(&mut scenario);
    scenario
}

/// All scenarios. One is drawn from the seed.
pub fn all(seed: u64) -> Vec<Scenario> {
    let mut scenarios = ways_to_consume();
    scenarios.extend(queues());
    scenarios.extend(crashes());
    scenarios.extend(tracked());
    scenarios.extend(broken());
    scenarios.push(drawn(seed));
    scenarios
}

fn ways_to_consume() -> Vec<Scenario> {
    vec![
        with("plain", &[Sign::Expired], |_| {}),
        with("milliseconds", &[Sign::Expired], |s| {
            (s.producers.gap, s.producers.retry_max, s.producers.network_max) = (10, 300, 50);
            (s.producers.ack_lost, s.broker.ack_lost, s.consumer.fails, s.consumer.observes) = (2, 0, 0, 1);
        }),
        with("process-once", &[Sign::Expired], |s| {
            (s.consumer.way, s.consumer.fails, s.consumer.front) = (Way::ProcessOnce, 20, Front::Sync);
        }),
        with("insert", &[Sign::Expired], |s| s.consumer.way = Way::Insert),
        with("insert-batches", &[Sign::Expired], |s| {
            (s.consumer.way, s.consumer.batch, s.consumer.workers) = (Way::InsertBatch, 100, 2);
            (s.consumer.front, s.producers.gap, s.consumer.processing_max) = (Front::Sync, 2, 100);
        }),
        with("commit-batches", &[Sign::Expired, Sign::InFlight], |s| {
            (s.consumer.way, s.consumer.batch, s.producers.gap) = (Way::CommitBatch, 50, 20);
            (s.consumer.processing_max, s.producers.retry_max) = (2 * SECOND, MINUTE);
        }),
        with("workers", &[Sign::Expired, Sign::InFlight], |s| workers(s, Front::Sync)),
        with("workers-unsync", &[Sign::Expired, Sign::InFlight], |s| workers(s, Front::Unsync)),
        with("leases", &[Sign::TakenOver, Sign::ClaimsLost], |s| {
            workers(s, Front::Sync);
            (s.consumer.hangs, s.consumer.hang_max, s.consumer.lease) = (10, 20 * SECOND, Some(3 * SECOND));
        }),
        with("prefetch", &[Sign::TooOld], |s| {
            workers(s, Front::Sync);
            (s.producers.retry_max, s.broken) = (MINUTE, Broken::Prefetch);
            (s.consumer.prefetch_max, s.consumer.batch) = (10 * MINUTE, 100);
            (s.producers.gap, s.broker.visibility, s.broker.retention) = (SECOND, 2 * MINUTE, None);
        }),
        with("full", &[Sign::Full, Sign::Expired], |s| {
            (s.broker.min_msg_time, s.broker.retention) = (MinMode::Null, Some(HOUR));
            (s.producers.has_bursts, s.consumer.max_keys) = (true, 20_000);
        }),
        with("full-batches", &[Sign::Full, Sign::Expired], |s| {
            (s.broker.min_msg_time, s.broker.retention) = (MinMode::Null, Some(HOUR));
            (s.producers.has_bursts, s.consumer.max_keys) = (true, 20_000);
            (s.consumer.way, s.consumer.batch, s.consumer.front) = (Way::InsertBatch, 30, Front::Sync);
        }),
    ]
}

/// Deliveries that overlap: slow workers, and a short visibility timeout.
fn workers(s: &mut Scenario, front: Front) {
    (s.consumer.front, s.consumer.workers) = (front, 8);
    (s.consumer.processing_max, s.consumer.commit_delay_max) = (SECOND, 200);
    (s.broker.visibility, s.consumer.hangs, s.consumer.fails) = (1_500, 3_000, 50);
}

fn stalls(s: &mut Scenario) {
    (s.consumer.stall_every, s.consumer.processing_max, s.producers.gap) = (2 * HOUR, 20, SECOND);
}

fn queues() -> Vec<Scenario> {
    let expires = &[Sign::Expired];
    let min = |name, shows, mode| {
        with(name, shows, move |s| {
            stalls(s);
            s.broker.min_msg_time = mode;
        })
    };
    vec![
        with("stalls", expires, stalls),
        with("retention", &[Sign::Expired, Sign::Dropped], |s| {
            stalls(s);
            (s.broker.retention, s.consumer.stall_every) = (Some(HOUR), HOUR);
        }),
        with("null-and-short-retention", &[Sign::Expired, Sign::Dropped], |s| {
            stalls(s);
            (s.broker.retention, s.broker.min_msg_time) = (Some(HOUR), MinMode::Null);
            s.consumer.stall_every = HOUR;
        }),
        with("unknown-times", expires, |s| {
            stalls(s);
            s.producers.stamp = Stamp::Unknown;
        }),
        with("unordered", expires, |s| {
            workers(s, Front::Sync);
            (s.broker.min_msg_time, s.broker.disorder) = (MinMode::Head, 200);
        }),
        with("producers-clocks", expires, |s| {
            stalls(s);
            (s.producers.stamp, s.broker.min_msg_time, s.broker.disorder) = (Stamp::Producer, MinMode::Head, 10);
        }),
        with("clocks", expires, |s| {
            stalls(s);
            (s.clock_bound, s.producers.stamp, s.broker.disorder) = (2 * MINUTE, Stamp::Producer, 10);
        }),
        with("brokers-clock", expires, |s| {
            stalls(s);
            (s.clock_bound, s.broker.retention) = (2 * MINUTE, Some(3 * HOUR));
        }),
        min("null", &[], MinMode::Null),
        min("stale", expires, MinMode::Stale(20 * MINUTE)),
        min("frozen", expires, MinMode::Frozen),
        min("wrong-unit", &[Sign::Expired, Sign::RejectedWatermarks, Sign::WatermarkRegressions], MinMode::WrongUnit),
        min("steps-back", &[Sign::Expired, Sign::WatermarkRegressions], MinMode::StepsBack),
    ]
}

fn crashes() -> Vec<Scenario> {
    vec![
        with("crashes", &[Sign::Restart, Sign::BeforeCommit, Sign::Expired], |s| crashing(s, Front::Unsync, false)),
        with("crashes-workers", &[Sign::Restart, Sign::BeforeCommit, Sign::Expired], |s| {
            workers(s, Front::Sync);
            crashing(s, Front::Sync, false);
        }),
        with("journal", &[Sign::Crashes, Sign::BeforeCommit, Sign::Expired], |s| crashing(s, Front::Unsync, true)),
        with("journal-workers", &[Sign::Crashes, Sign::BeforeCommit, Sign::Expired], |s| {
            workers(s, Front::Sync);
            crashing(s, Front::Sync, true);
        }),
        with("journal-batches", &[Sign::Crashes, Sign::BeforeCommit, Sign::Expired], |s| {
            crashing(s, Front::Sync, true);
            (s.consumer.way, s.consumer.batch, s.consumer.crashes) = (Way::CommitBatch, 50, 4_000);
            s.consumer.stall_every = 2 * HOUR;
        }),
        with("journal-insert", &[Sign::Crashes, Sign::LostAfterInsert, Sign::Expired], |s| {
            crashing(s, Front::Unsync, true);
            (s.consumer.way, s.consumer.batch) = (Way::InsertBatch, 10);
        }),
    ]
}

/// A crash every few thousand steps, with minutes of downtime.
fn crashing(s: &mut Scenario, front: Front, journal: bool) {
    (s.consumer.front, s.consumer.journal, s.consumer.crashes) = (front, journal, 5_000);
    (s.consumer.commit_delay_max, s.consumer.down_max, s.broker.notices_crashes) = (20, 10 * MINUTE, !journal);
    (s.producers.gap, s.broker.ack_lost) = (SECOND, 20);
}

fn broken() -> Vec<Scenario> {
    vec![
        with("broken-retry", &[Sign::LateDuplicates, Sign::Doubled], |s| {
            stalls(s);
            (s.producers.retry_max, s.broken) = (HOUR, Broken::Retry(6));
        }),
        with("broken-rewind", &[Sign::TooOld, Sign::WatermarkRegressions], |s| {
            (s.broken, s.broker.rewind_every) = (Broken::Watermark, HOUR);
        }),
        with("broken-min-too-high", &[Sign::TooOld, Sign::RejectedWatermarks], |s| {
            stalls(s);
            (s.broken, s.broker.min_msg_time) = (Broken::Watermark, MinMode::TooHigh(30 * MINUTE));
        }),
        with("broken-min-undelivered", &[Sign::TooOld], |s| {
            workers(s, Front::Sync);
            (s.producers.retry_max, s.consumer.hangs) = (MINUTE, 300);
            (s.broken, s.broker.min_msg_time) = (Broken::Watermark, MinMode::Undelivered);
        }),
        with("broken-clock-ahead", &[Sign::TooOld], |s| {
            (s.broken, s.broker.retention) = (Broken::ClockJump(3 * HOUR as i64), Some(2 * HOUR));
        }),
        with("broken-clock-behind", &[Sign::ClampedTimes, Sign::RejectedWatermarks], |s| {
            s.broken = Broken::ClockJump(-2 * HOUR as i64);
        }),
        with("broken-producers-clocks", &[Sign::ClampedTimes], |s| {
            stalls(s);
            (s.producers.stamp, s.broken) = (Stamp::ProducerAhead, Broken::Clamps);
        }),
        with("broken-evict-oldest", &[Sign::Evicted, Sign::Doubled], |s| {
            (s.consumer.max_keys, s.consumer.evicts_oldest) = (500, true);
        }),
    ]
}

/// Nobody reports `min_msg_time`: the consumer tracks its own deliveries.
fn tracked() -> Vec<Scenario> {
    let crashes = &[Sign::Crashes, Sign::BeforeCommit, Sign::Rebalances, Sign::Expired];
    let rebalances = &[Sign::Rebalances, Sign::Expired, Sign::InFlight];
    vec![
        with("tracked", &[Sign::Expired, Sign::InFlight], |s| tracks(s, |_| {})),
        with("tracked-producers-clocks", &[Sign::Expired], |s| {
            tracks(s, |t| t.partitions = 1);
            (s.producers.stamp, s.consumer.stall_every) = (Stamp::Producer, 2 * HOUR);
        }),
        with("tracked-pauses", &[Sign::Expired, Sign::Pauses], |s| {
            tracks(s, |t| (t.pause_every, t.pause_max) = (10 * MINUTE, HOUR));
        }),
        with("tracked-rebalances", rebalances, |s| {
            tracks(s, |t| (t.rebalance_every, t.commit_every, t.pause_every) = (5 * MINUTE, MINUTE, HOUR));
        }),
        with("tracked-crashes", crashes, |s| {
            crashing(s, Front::Sync, true);
            tracks(s, |t| t.rebalance_every = 10 * MINUTE);
            s.broker.notices_crashes = true;
        }),
        with("broken-tracked-competing", &[Sign::TooOld], |s| {
            tracks(s, |t| (t.competes, t.partitions) = (true, 1));
            (s.broken, s.broker.visibility, s.consumer.batch) = (Broken::Watermark, 5 * MINUTE, 40);
        }),
    ]
}

/// Workers that prefetch batches, from a log of which offsets are committed now and then.
fn tracks(s: &mut Scenario, change: impl FnOnce(&mut Tracking)) {
    workers(s, Front::Sync);
    (s.consumer.batch, s.consumer.prefetch_max, s.broker.visibility) = (20, MINUTE, 0);
    (s.producers.gap, s.producers.retry_max, s.broker.retention) = (SECOND, MINUTE, None);
    let mut tracking = Tracking {
        partitions: 4,
        commit_every: 5 * SECOND,
        rebalance_every: 0,
        pause_every: 0,
        pause_max: 10 * MINUTE,
        competes: false,
    };
    change(&mut tracking);
    s.consumer.tracking = Some(tracking);
}

/// Random settings under which the assumptions hold.
fn drawn(seed: u64) -> Scenario {
    let random = &mut Random::new(!seed);
    with("drawn", &[], |s| {
        s.producers.gap = random.pick(&[10, 100, SECOND]);
        s.producers.retry_max = random.pick(&[0, SECOND, MINUTE, 10 * MINUTE, HOUR]);
        s.producers.network_max = random.pick(&[1, 100, 5 * SECOND, MINUTE]);
        s.producers.ack_lost = random.pick(&[2, 10, 100]);
        s.producers.stamp = random.pick(&[Stamp::Broker, Stamp::Producer, Stamp::Unknown]);
        let mostly = |random: &mut Random, odds| random.one_in(odds);
        s.broker.retention = random.pick(&[None, Some(2 * HOUR), Some(24 * HOUR)]);
        s.broker.visibility = random.pick(&[100, SECOND, 30 * SECOND, 10 * MINUTE]);
        s.broker.disorder = random.pick(&[0, 0, 10, 1000]);
        s.broker.notices_crashes = mostly(random, 2);
        s.broker.ack_lost = random.pick(&[0, 5, 100]);
        let all = [MinMode::Exact, MinMode::Head, MinMode::Stale(MINUTE), MinMode::Frozen, MinMode::Null];
        let bad = [MinMode::WrongUnit, MinMode::StepsBack];
        s.broker.min_msg_time = random.pick(&[&all[..], &bad].concat());
        s.consumer.front = random.pick(&[Front::Unsync, Front::Sync]);
        s.consumer.journal = mostly(random, 6);
        s.consumer.workers = random.pick(&[1, 2, 16]);
        s.consumer.way = match s.producers.stamp {
            Stamp::Unknown => random.pick(&[Way::Claim, Way::ProcessOnce, Way::Insert]),
            _ => random.pick(&[
                Way::Claim,
                Way::Claim,
                Way::CommitBatch,
                Way::ProcessOnce,
                Way::Insert,
                Way::InsertBatch,
            ]),
        };
        s.consumer.batch = random.pick(&[1, 1, 10]);
        s.consumer.processing_max = s.producers.gap * s.consumer.workers as u64 / 4;
        s.consumer.commit_delay_max = random.pick(&[0, s.consumer.processing_max / 2]);
        s.consumer.fails = random.pick(&[0, 50, 1000]);
        s.consumer.lease = random.pick(&[None, Some(SECOND), Some(MINUTE)]);
        if s.producers.gap == SECOND {
            // Then hours of backlog are not too many messages.
            s.consumer.hangs = random.pick(&[0, 0, 10_000]);
            s.consumer.crashes = random.pick(&[0, 5_000]);
            s.consumer.stall_every = random.pick(&[0, 2 * HOUR]);
        }
        s.clock_bound = random.pick(&[0, 0, SECOND, 2 * MINUTE]);
    })
}

/// The settings in which the watermark is compared with a time to live. The queue keeps messages
/// for a day.
pub fn compared() -> Vec<(&'static str, Scenario)> {
    vec![
        ("normal running", with("running", &[], |s| s.producers.goes_to_limits = false)),
        ("consumer stalled for up to 9 hours, every 12 or so", with("stalled", &[], long_stalls)),
        (
            "stalled, `min_msg_time` null",
            with("stalled-null", &[], |s| {
                long_stalls(s);
                s.broker.min_msg_time = MinMode::Null;
            }),
        ),
        (
            "stalled, `min_msg_time` frozen for up to 6 hours",
            with("stalled-frozen", &[], |s| {
                long_stalls(s);
                s.broker.min_msg_time = MinMode::Frozen;
            }),
        ),
        (
            "normal running, all clocks up to 2 minutes off, set hourly",
            with("clocks-off", &[], |s| {
                (s.producers.goes_to_limits, s.clock_bound) = (false, 2 * MINUTE);
            }),
        ),
    ]
}

fn long_stalls(s: &mut Scenario) {
    s.producers.goes_to_limits = false;
    (s.consumer.stall_every, s.consumer.stall_max, s.consumer.processing_max) = (12 * HOUR, 9 * HOUR, 20);
}
