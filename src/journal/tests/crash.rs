//! Every crash in every short sequence of calls, and every crash of the recovery from it.

use super::*;
use crate::Claimed;
use std::collections::{BTreeMap, HashSet};

/// The length of a sequence, unless `ONCEWHEEL_CRASH_LENGTH` is set.
const LENGTH: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert,
    Batch,
    Claim,
    Commit,
    Remove,
    Advance,
    /// Seals the active segment, and rewrites the oldest.
    Rotate,
    Reopen,
}

const OPS: [Op; 8] = [Op::Insert, Op::Batch, Op::Claim, Op::Commit, Op::Remove, Op::Advance, Op::Rotate, Op::Reopen];
const KEYS: [&str; 5] = ["a", "b", "c", "d", "never"];

/// What must hold after a call that has returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Model {
    /// Committed and not removed, with their times.
    keys: BTreeMap<&'static str, u64>,
    /// Ever committed.
    ever: Vec<&'static str>,
    watermark: u64,
}

impl Model {
    fn commit(&mut self, key: &'static str, time: u64) {
        self.keys.insert(key, time);
        self.ever.push(key);
    }
}

/// What a crash may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Process,
    Power,
    /// A loss of power, with a durability that promises to survive no more than a crash of the
    /// process.
    PowerUnpromised,
}

impl Crash {
    fn images(self, disk: &Disk) -> Vec<Disk> {
        match self {
            Self::Process => disk.after_crash_of_process(),
            Self::Power => {
                let (images, is_all) = disk.after_loss_of_power(100_000);
                assert!(is_all, "every call syncs, so few writes are pending");
                images
            }
            Self::PowerUnpromised => disk.after_loss_of_power(16).0,
        }
    }

    /// Between two calls.
    fn images_at_rest(self, disk: &Disk) -> Vec<Disk> {
        if self == Self::Process { vec![disk.at_rest()] } else { self.images(disk) }
    }
}

struct Run<S: Subject> {
    storage: Simulated,
    cache: Option<S>,
    /// With its message's time.
    claim: Option<(S::Claim, u64)>,
    model: Model,
    time: u64,
    durability: Durability,
}

impl<S: Subject> Run<S> {
    fn do_next(&mut self, op: Op) {
        self.time += 1_000;
        let time = self.time.max(self.model.watermark);
        let durability = self.durability;
        let cache = self.cache.as_mut().expect("open");
        match op {
            Op::Insert => {
                let verdict = cache.put("a", time).unwrap();
                self.note("a", time, verdict);
            }
            Op::Batch => {
                let keys = ["b", "a", "c", "b"];
                let entry = |key: &&str| (cache.fingerprint_of(key), Timestamp::from_millis(time));
                let entries: Vec<_> = keys.iter().map(entry).collect();
                let mut verdicts = Vec::new();
                cache.put_all(&entries, &mut verdicts).unwrap();
                keys.into_iter().zip(verdicts).for_each(|(key, verdict)| self.note(key, time, verdict));
            }
            Op::Claim => match cache.begin("d", time).unwrap() {
                Claimed::Fresh(claim) => {
                    assert!(self.claim.is_none() && !self.must_be_held("d"));
                    self.claim = Some((claim, time));
                }
                Claimed::InFlight => assert!(self.claim.is_some()),
                Claimed::Duplicate => assert!(self.model.keys.contains_key("d")),
                Claimed::TooOld => panic!("not older than the watermark"),
            },
            Op::Commit => {
                if let Some((claim, time)) = self.claim.take() {
                    cache.finish(claim).unwrap();
                    self.model.commit("d", time);
                }
            }
            Op::Remove => {
                let was_held = cache.remove_key("a").unwrap();
                assert!(was_held || !self.must_be_held("a"));
                self.model.keys.remove("a");
            }
            Op::Advance => {
                self.model.watermark = self.model.watermark.max(time + 1_500);
                cache.follow(self.model.watermark).unwrap();
                assert_eq!(cache.progress(), self.model.watermark);
            }
            Op::Rotate => cache.with_writer(|writer, keys, watermark| {
                writer.seal();
                writer.rewrite_some(keys, watermark).unwrap();
            }),
            Op::Reopen => {
                self.claim = None;
                self.cache = None;
                self.cache = Some(S::open(&self.storage, durability).unwrap());
            }
        }
    }

    /// Whether the rule requires the key to be held.
    fn must_be_held(&self, key: &str) -> bool {
        self.model.keys.get(key).is_some_and(|time| time + SPAN >= self.model.watermark)
    }

    fn note(&mut self, key: &'static str, time: u64, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => {
                assert!(!self.must_be_held(key), "{key}");
                self.model.commit(key, time);
            }
            Verdict::Duplicate => assert!(self.model.keys.contains_key(key), "{key}"),
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[derive(Default)]
struct Count {
    images: usize,
    recoveries: usize,
}

/// The keys and the watermark of a recovered cache.
fn contents<S: Subject>(cache: &S) -> (Vec<&'static str>, u64) {
    (KEYS.into_iter().filter(|key| cache.is_held(key)).collect(), cache.progress())
}

/// Recovers from an image. The cache must hold what it held before or after the call that was under
/// way.
fn recover<S: Subject>(storage: &Simulated, before: &Model, after: &Model, crash: Crash, durability: Durability) -> S {
    let cache = S::open(storage, durability).expect("whatever a crash leaves can be opened");
    let (held, watermark) = contents(&cache);
    for key in KEYS {
        let is_held = held.contains(&key);
        if crash == Crash::PowerUnpromised {
            assert!(!is_held || after.ever.contains(&key), "{key} was never committed");
            continue;
        }
        let may_be = before.keys.contains_key(key) || after.keys.contains_key(key);
        assert!(!is_held || may_be, "{key} was not committed");
        let time = |model: &Model| model.keys.get(key).copied();
        if let (Some(one), Some(other)) = (time(before), time(after)) {
            let is_certain = one.min(other) + SPAN >= watermark;
            assert!(is_held || !is_certain, "{key} was committed, and the watermark is {watermark}");
        }
    }
    if crash != Crash::PowerUnpromised {
        assert!((before.watermark..=after.watermark).contains(&watermark), "{watermark} of {before:?} or {after:?}");
    }
    cache
}

/// Recovers from images of a crash, and again after a crash in every state of the recovery.
fn crash_here<S: Subject>(
    images: Vec<Disk>,
    (before, after): (&Model, &Model),
    (crash, durability): (Crash, Durability),
    seen: &mut HashSet<(Disk, Model, Model)>,
    count: &mut Count,
) {
    for image in images {
        if !seen.insert((image.clone(), before.clone(), after.clone())) {
            continue;
        }
        count.images += 1;
        let storage = Simulated::on(image);
        storage.watch();
        let recovered: S = recover(&storage, before, after, crash, durability);
        count.recoveries += 1;
        let recovered_contents = contents(&recovered);
        drop(recovered);
        let mut again = storage.take_history();
        again.push(storage.disk()); // the recovery that was completed
        for image in again.iter().flat_map(|disk| crash.images(disk)).collect::<HashSet<_>>() {
            let second: S = recover(&Simulated::on(image), before, after, crash, durability);
            assert_eq!(contents(&second), recovered_contents, "a second recovery finds what the first one found");
            count.recoveries += 1;
        }
    }
}

fn try_sequence<S: Subject>(ops: &[Op], crash: Crash, durability: Durability, count: &mut Count) {
    let storage = Simulated::default();
    storage.watch();
    let cache = S::open(&storage, durability).unwrap();
    let mut run = Run { storage, cache: Some(cache), claim: None, model: Model::default(), time: 10_000, durability };
    let mut seen = HashSet::new();
    let crashes = (crash, durability);
    let nothing = Model::default();
    for disk in run.storage.take_history() {
        crash_here::<S>(crash.images(&disk), (&nothing, &nothing), crashes, &mut seen, count);
    }
    for op in ops {
        let before = run.model.clone();
        run.do_next(*op);
        for disk in run.storage.take_history() {
            crash_here::<S>(crash.images(&disk), (&before, &run.model), crashes, &mut seen, count);
        }
        crash_here::<S>(crash.images_at_rest(&run.storage.disk()), (&run.model, &run.model), crashes, &mut seen, count);
    }
    run.cache.as_ref().expect("open").check();
}

fn try_all<S: Subject>(crash: Crash, durability: Durability) {
    let length = std::env::var("ONCEWHEEL_CRASH_LENGTH").ok().and_then(|length| length.parse().ok()).unwrap_or(LENGTH);
    let mut count = Count::default();
    let sequences = OPS.len().pow(length as u32);
    for number in 0..sequences {
        // Every shorter sequence is the beginning of one of these.
        let ops: Vec<_> = (0..length as u32).map(|at| OPS[number / OPS.len().pow(at) % OPS.len()]).collect();
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            try_sequence::<S>(&ops, crash, durability, &mut count);
        }));
        if let Err(panic) = tried {
            eprintln!("after {ops:?}, {crash:?}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{crash:?}: {sequences} sequences, {} images, {} recoveries", count.images, count.recoveries);
    assert!(count.recoveries > count.images && count.images > 5 * sequences, "crashes were tried");
}

on_both_fronts! {
    fn a_crash_of_the_process_loses_nothing_that_was_committed<S: Subject>() {
        try_all::<S>(Crash::Process, Durability::Process);
    }

    fn a_loss_of_power_loses_nothing_that_was_committed_with_durability_power<S: Subject>() {
        try_all::<S>(Crash::Power, Durability::Power);
    }

    fn a_loss_of_power_invents_nothing_with_durability_process<S: Subject>() {
        try_all::<S>(Crash::PowerUnpromised, Durability::Process);
    }
}
