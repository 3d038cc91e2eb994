//! Starts, kills, and checks.

use super::Durable;
use super::child::{ORDERS, orders};
use super::script::{self, Call, LAG, Life, Random, SPAN, key};
use oncewheel::{Claimed, sync, unsync};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, process, thread};

/// Children that are killed one after another over one directory. Each finds what those before it
/// have left.
const LIVES_PER_DIRECTORY: u64 = 10;
const WORKERS: u64 = 4;

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn a_killed_process_loses_no_key_that_was_committed_and_invents_none() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = Seed(number_from("ONCEWHEEL_KILLS_SEED").unwrap_or(now.as_nanos() as u64));
    let kills = number_from("ONCEWHEEL_KILLS").unwrap_or(50);
    let mut random = Random(seed.0);
    let mut counts = Counts::default();
    let mut left = kills;
    while left > 0 {
        let lives = left.min(LIVES_PER_DIRECTORY);
        let directory = Directory::new(left);
        let mut model = Model::default();
        (0..lives).for_each(|number| live(&directory.0, number, &mut random, &mut model, &mut counts));
        left -= lives;
    }
    println!("{kills} kills: {counts:?}");
    // Otherwise the test has shown nothing.
    let is_much = counts.keys_checked > 10_000 && counts.segments_gone > 50 && counts.damages > 0;
    assert!(kills < 50 || is_much, "{counts:?}");
}

/// Printed if the test fails: `ONCEWHEEL_KILLS_SEED` repeats its choices.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("ONCEWHEEL_KILLS_SEED={}", self.0);
        }
    }
}

/// Removed with its contents, unless the test fails.
struct Directory(PathBuf);

impl Directory {
    fn new(number: u64) -> Self {
        Self(env::temp_dir().join(format!("oncewheel-kills-{}-{number}", process::id())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the directory is kept: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    steps: u64,
    keys_checked: usize,
    /// Calls that were under way, by what was found of them afterwards.
    found_done: usize,
    found_undone: usize,
    /// Truncated writes.
    damages: usize,
    segments_gone: u64,
}

/// One child from its start to its end, and a check of what it has left.
fn live(dir: &Path, number: u64, random: &mut Random, model: &mut Model, counts: &mut Counts) {
    let is_sync = random.below(3) > 0;
    let workers = if is_sync { WORKERS } else { 1 };
    let life = Life { seed: random.next(), number, workers, start: model.latest + 10 * LAG };
    for line in run_until_killed(&orders(&life, is_sync, dir), random) {
        model.take(&life, &line, counts);
    }
    model.end(&life);
    damage(dir, random);
    if random.below(2) == 0 {
        model.check(&<unsync::DedupCache as Durable>::open, dir, &life, counts);
    } else {
        model.check(&<sync::DedupCache as Durable>::open, dir, &life, counts);
    }
}

/// What the child reported before it was killed.
fn run_until_killed(orders: &str, random: &mut Random) -> Vec<String> {
    let module = module_path!().rsplit_once("::").map_or("", |(module, _)| module);
    let (_, module) = module.split_once("::").unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::child::child"), "--nocapture"]).env(ORDERS, orders);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let reports = BufReader::new(child.0.stderr.take().unwrap());
    let (sender, has_begun) = mpsc::channel();
    let reader = thread::spawn(move || {
        let note = |_: &String| {
            let _ = sender.send(()); // received once
        };
        reports.lines().map(Result::unwrap).inspect(note).collect::<Vec<_>>()
    });
    // One in five is killed while it starts, and may be reading what those before it have left.
    let life = if random.below(5) == 0 {
        random.below(15_000)
    } else {
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        random.below(150_000)
    };
    thread::sleep(Duration::from_micros(life));
    child.0.kill().unwrap();
    let status = child.0.wait().unwrap();
    let lines = reader.join().unwrap();
    assert!(status.code().is_none() || cfg!(windows), "the child has ended by itself: {status}: {lines:#?}");
    lines
}

/// Now and then, leaves what a kill seldom leaves: a truncated last write, or a segment without a
/// header.
fn damage(dir: &Path, random: &mut Random) {
    fs::create_dir_all(dir).unwrap();
    let newest = segments(dir).max().unwrap_or(0);
    let path = |number: u64| dir.join(format!("{number:016}.segment"));
    match random.below(8) {
        0 => fs::write(path(newest + 1), []).unwrap(),
        1 => {
            let header = (0..random.below(90)).map(|_| random.below(256) as u8).collect::<Vec<_>>();
            fs::write(path(newest + 1), header).unwrap();
        }
        2 | 3 if newest > 0 => {
            let mut segment = File::options().append(true).open(path(newest)).unwrap();
            let bytes = (0..1 + random.below(200)).map(|_| random.below(256) as u8).collect::<Vec<_>>();
            segment.write_all(&bytes).unwrap();
        }
        _ => {}
    }
}

/// The numbers of the segments in a directory.
fn segments(dir: &Path) -> impl Iterator<Item = u64> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".segment")?.parse().ok())
}

/// A child that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the parent knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Committed {
        deadline: u64,
    },
    /// Removed, or never committed.
    Gone,
    /// A call was under way.
    Either {
        deadline: u64,
    },
}

#[derive(Default)]
struct Model {
    keys: HashMap<u64, State>,
    /// Contended keys that were reported fresh to a worker.
    won: HashSet<u64>,
    /// The step that each worker has begun, and its time.
    begun: HashMap<u64, (u64, u64)>,
    /// The watermark that was reported before the call, and after it.
    watermark_begun: u64,
    watermark_done: u64,
    /// The latest time of the clock.
    latest: u64,
    /// Segments that existed and were removed.
    segments_gone: u64,
}

impl Model {
    fn take(&mut self, life: &Life, line: &str, counts: &mut Counts) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"));
        match kind {
            "w" => self.watermark_begun = number(),
            "W" => self.watermark_done = number(),
            "t" => {
                let (worker, step, time) = (number(), number(), number());
                self.begun.insert(worker, (step, time));
                self.latest = self.latest.max(time);
            }
            "s" => {
                let (worker, step) = (number(), number());
                assert_eq!(self.begun[&worker].0, step);
                self.done(life, worker, words.next().unwrap());
                counts.steps += 1;
            }
            "c" => {
                let count = number();
                self.contended(life.contended_id(count), life.contended_time(count), words.next().unwrap());
            }
            _ => panic!("the child reported: {line}"),
        }
    }

    /// A worker has completed a step, with these verdicts.
    fn done(&mut self, life: &Life, worker: u64, verdicts: &str) {
        let (step, time) = self.begun[&worker];
        let step = life.step(worker, step);
        let time = time + step.ahead;
        let ids = ids(&step.call);
        assert_eq!(ids.len(), verdicts.len(), "{step:?}");
        for (id, verdict) in ids.into_iter().zip(verdicts.chars()) {
            let before = self.keys.get(&id).copied().unwrap_or(State::Gone);
            let after = self.after(before, verdict, time);
            let after = after.unwrap_or_else(|| panic!("{verdict} for {id:x}, which was {before:?}: {step:?}"));
            self.keys.insert(id, after);
        }
    }

    /// `None`: the verdict is wrong.
    fn after(&self, before: State, verdict: char, time: u64) -> Option<State> {
        let has_expired = |deadline: u64| deadline < self.watermark_begun;
        let may_be_gone = match before {
            State::Committed { deadline } => has_expired(deadline),
            State::Gone | State::Either { .. } => true,
        };
        match (verdict, before) {
            ('F', _) if may_be_gone => Some(State::Committed { deadline: time + SPAN }),
            ('D', State::Committed { deadline } | State::Either { deadline }) => Some(State::Committed { deadline }),
            ('T', _) if may_be_gone && time < self.watermark_begun => Some(State::Gone),
            ('G', State::Committed { .. } | State::Either { .. }) => Some(State::Gone),
            ('N', _) if may_be_gone => Some(State::Gone),
            _ => None,
        }
    }

    /// The worker whose call came second may report before the one whose call came first.
    fn contended(&mut self, id: u64, time: u64, verdict: &str) {
        match verdict {
            "F" => assert!(self.won.insert(id), "{id:x} was fresh to two workers"),
            "D" => {}
            "I" => return,
            "T" if time + SPAN < self.watermark_begun => return,
            "T" if time < self.watermark_begun && !self.keys.contains_key(&id) => return,
            _ => panic!("{verdict} for {id:x}"),
        }
        self.keys.insert(id, State::Committed { deadline: time + SPAN });
    }

    /// The child was killed: a step that a worker had begun may be done or not.
    fn end(&mut self, life: &Life) {
        for (worker, (step, time)) in std::mem::take(&mut self.begun) {
            let step = life.step(worker, step);
            let is_removal = matches!(step.call, Call::Remove(_));
            for id in ids(&step.call) {
                let before = self.keys.get(&id).copied().unwrap_or(State::Gone);
                let after = match before {
                    State::Committed { deadline } if is_removal => State::Either { deadline },
                    State::Gone if !is_removal => State::Either { deadline: time + step.ahead + SPAN },
                    // The key may have expired meanwhile and been inserted again.
                    State::Committed { deadline } if deadline < self.watermark_begun => State::Either { deadline },
                    before => before,
                };
                self.keys.insert(id, after);
            }
        }
    }

    fn check<C: Durable>(
        &mut self,
        open: &dyn Fn(&Path, oncewheel::Config) -> Result<C, oncewheel::Error>,
        dir: &Path,
        life: &Life,
        counts: &mut Counts,
    ) {
        let mut cache = open(dir, script::config()).unwrap();
        let watermark = cache.watermark().unwrap_or(0);
        let reported = self.watermark_done..=self.watermark_begun;
        assert!(reported.contains(&watermark), "the watermark is {watermark}, reported: {reported:?}");
        (self.watermark_done, self.watermark_begun) = (watermark, watermark);
        self.keys.retain(|_, state| match state {
            State::Committed { deadline } | State::Either { deadline } => *deadline >= watermark,
            State::Gone => true,
        });
        for (id, state) in &mut self.keys {
            let is_held = is_held(&mut cache, *id, watermark);
            *state = match (*state, is_held) {
                (State::Committed { .. }, true) | (State::Gone, false) => *state,
                (State::Either { deadline }, true) => {
                    counts.found_done += 1;
                    State::Committed { deadline }
                }
                (State::Either { .. }, false) => {
                    counts.found_undone += 1;
                    State::Gone
                }
                (state, is_held) => panic!("{id:x} is {state:?}, but whether it is held: {is_held}"),
            };
        }
        (0..1000).for_each(|count| assert!(!is_held(&mut cache, life.unused_id(count), watermark)));
        cache.validate();
        counts.damages += cache.damages();
        counts.keys_checked += self.keys.len();
        self.count_segments(dir, counts);
    }

    fn count_segments(&mut self, dir: &Path, counts: &mut Counts) {
        let first = segments(dir).min().unwrap_or(self.segments_gone);
        counts.segments_gone += first.saturating_sub(self.segments_gone);
        self.segments_gone = self.segments_gone.max(first);
    }
}

fn is_held<C: Durable>(cache: &mut C, id: u64, time: u64) -> bool {
    match cache.claim(&key(id), Some(time)).unwrap() {
        Claimed::Fresh(claim) => {
            cache.abort(claim);
            false
        }
        Claimed::Duplicate => true,
        Claimed::InFlight | Claimed::TooOld => panic!("{id:x} is in flight or too old at the watermark"),
    }
}

/// The keys of a call, except contended ones.
fn ids(call: &Call) -> Vec<u64> {
    match call {
        Call::Insert(id) | Call::Commit(id) | Call::Remove(id) => vec![*id],
        Call::InsertBatch(ids) | Call::CommitBatch(ids) => ids.clone(),
        Call::Contend => Vec::new(),
    }
}
