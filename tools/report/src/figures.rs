//! The promised figures of speed and size, against what was measured.

use crate::{Results, Speed};

pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// `None`: not measured this time.
    pub(crate) measured: Option<f64>,
    pub(crate) goal: Goal,
    pub(crate) must: f64,
    pub(crate) aim: f64,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtLeast,
    AtMost,
}

impl Figure {
    pub(crate) fn verdict(&self) -> &'static str {
        let reaches = |goal: f64| match (self.measured, self.goal) {
            (None, _) => false,
            (Some(measured), Goal::AtLeast) => measured >= goal,
            (Some(measured), Goal::AtMost) => measured <= goal,
        };
        match self.measured {
            None => "not measured",
            Some(_) if reaches(self.aim) => "aim reached",
            Some(_) if reaches(self.must) => "must reached",
            Some(_) => "**missed**",
        }
    }
}

pub(crate) fn of(results: &Results) -> Vec<Figure> {
    speed_figures(results).into_iter().chain(other_figures(results)).collect()
}

const BATCH: &str = "oncewheel_unsync_batch";

fn speed_figures(results: &Results) -> [Figure; 9] {
    let large = results.large;
    let one = |slow, fast| results.ratio((slow, large, 1), (fast, large, 1));
    let two = |slow, fast| results.ratio((slow, large, 2), (fast, large, 2));
    let [dashmap, fifo, moka] = ["dashmap_wheel", "hashmap_fifo", "moka_ttl"].map(|peer| one(peer, BATCH));
    let floor = one(BATCH, "floor");
    let single = one("dashmap_wheel", "oncewheel_unsync");
    let [sync, sync_batch] = ["oncewheel_sync", "oncewheel_sync_batch"].map(|ours| two("dashmap_wheel", ours));
    let scaling = results.ratio(("oncewheel_sync_batch", large, 1), ("oncewheel_sync_batch", large, 2));
    let [more, fewer] = [10 * large, large].map(|live| ns_per_key(&results.ten_times, (BATCH, live, 1)));
    let more_keys = more.zip(fewer).map(|(more, fewer)| more / fewer);
    [
        at_least("`unsync::insert_batch` faster than `DashMap` and wheel", dashmap, 6.0, 8.0),
        at_least("`unsync::insert_batch` faster than `HashMap` and FIFO", fifo, 3.0, 4.0),
        at_least("`unsync::insert_batch` faster than `moka`, time to live", moka, 25.0, 40.0),
        at_most("`unsync::insert_batch`, time against the floor's", "x", floor, 2.0, 1.25),
        at_least("`unsync::insert` faster than `DashMap` and wheel", single, 3.0, 4.0),
        at_least("`sync::insert`, 2 threads, faster than `DashMap` and wheel", sync, 4.0, 6.0),
        at_least("`sync::insert_batch`, 2 threads, faster than `DashMap` and wheel", sync_batch, 7.0, 9.0),
        at_least("`sync::insert_batch`, work of 2 threads against 1", scaling, 1.2, 1.4),
        at_most("ten times the live keys, time against that", "x", more_keys, 2.0, 1.3),
    ]
}

fn other_figures(results: &Results) -> [Figure; 5] {
    let empty = Some(results.empty_bytes as f64 / 1024.0);
    [
        at_most("resident memory per live key, both sizes, both fronts", "bytes", results.bytes_per_key(), 32.0, 26.0),
        at_most("`Stats` against resident memory, off by", "%", results.miscounted(), 10.0, 5.0),
        at_most("an empty `unsync` cache", "KiB", empty, 256.0, 256.0),
        at_most("worst single call, `unsync::insert`", "us", results.worst_call(), 2000.0, 200.0),
        at_most("duplicates missed, all ways in, all sizes", "%", results.missed_most(), 0.0, 0.0),
    ]
}

fn at_least(what: &'static str, measured: Option<f64>, must: f64, aim: f64) -> Figure {
    Figure { what, unit: "x", measured, goal: Goal::AtLeast, must, aim }
}

fn at_most(what: &'static str, unit: &'static str, measured: Option<f64>, must: f64, aim: f64) -> Figure {
    Figure { what, unit, measured, goal: Goal::AtMost, must, aim }
}

type Id = (&'static str, usize, usize);

/// Nanoseconds per key of a contender, with this many live keys and threads.
fn ns_per_key(speeds: &[Speed], (name, live, threads): Id) -> Option<f64> {
    let is_it = |speed: &&Speed| (speed.name, speed.live, speed.threads) == (name, live, threads);
    speeds.iter().find(is_it).map(Speed::ns_per_key)
}

impl Results {
    fn ratio(&self, slow: Id, fast: Id) -> Option<f64> {
        Some(ns_per_key(&self.speeds, slow)? / ns_per_key(&self.speeds, fast)?)
    }

    pub(crate) fn all_speeds(&self) -> impl Iterator<Item = &Speed> {
        self.speeds.iter().chain(&self.ten_times)
    }

    fn bytes_per_key(&self) -> Option<f64> {
        let ours = self.memories.iter().filter(|memory| memory.counted.is_some());
        let sizes = [self.small, self.large];
        ours.filter(|memory| sizes.contains(&memory.live)).map(crate::Memory::bytes_per_key).max_by(f64::total_cmp)
    }

    fn miscounted(&self) -> Option<f64> {
        let sizes = [self.small, self.large];
        let memories = self.memories.iter().filter(|memory| sizes.contains(&memory.live));
        let off = memories.filter_map(|memory| Some((memory.counted? as f64 / memory.resident as f64 - 1.0).abs()));
        off.max_by(f64::total_cmp).map(|off| 100.0 * off)
    }

    fn worst_call(&self) -> Option<f64> {
        let insert = self.latencies.iter().find(|latency| latency.name == "oncewheel_unsync");
        insert.map(|latency| f64::from(latency.worst()) / 1000.0)
    }

    fn missed_most(&self) -> Option<f64> {
        let ours = self.all_speeds().filter(|speed| speed.name.starts_with("oncewheel"));
        ours.filter_map(|speed| speed.missed).max_by(f64::total_cmp).map(|missed| 100.0 * missed)
    }
}
