//! Time per key, in rounds in which each contender has its turn, so that what else the machine does hits all alike.

use crate::child;
use crate::contenders::{BATCH, Buffers, ENTRANTS, Entrant, THREADED, Team};
use std::io::{Error, Result};

pub(crate) const SPEED: &str = "speed";
pub(crate) const QUICK: &str = "speed-quick";

struct Plan {
    rounds: usize,
    /// Batches that the contender takes in a round, all threads together.
    batches: u64,
}

impl Plan {
    const LONG: Self = Self { rounds: 9, batches: 1024 };
    const QUICK: Self = Self { rounds: 3, batches: 102 };
}

/// What is measured side by side, in a process of its own: in one that other caches have lived in, memory is scattered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lineup {
    /// All contenders: at 10 million keys they take 9 GiB.
    OneThread,
    TwoThreads,
    /// The batch and the floor, with the live keys and ten times as many.
    TenTimes,
}

impl Lineup {
    const ALL: [(&'static str, Self); 3] =
        [("one-thread", Self::OneThread), ("two-threads", Self::TwoThreads), ("ten-times", Self::TenTimes)];

    fn threads(self) -> usize {
        if self == Self::TwoThreads { 2 } else { 1 }
    }

    fn entrants(self, live: usize) -> Vec<(&'static Entrant, usize)> {
        match self {
            Self::OneThread => ENTRANTS.iter().map(|entrant| (entrant, live)).collect(),
            Self::TwoThreads => THREADED.iter().map(|entrant| (entrant, live)).collect(),
            Self::TenTimes => {
                let two = ENTRANTS.iter().filter(|entrant| ["floor", "oncewheel_unsync_batch"].contains(&entrant.name));
                two.flat_map(|entrant| [(entrant, live), (entrant, 10 * live)]).collect()
            }
        }
    }
}

pub(crate) struct Speed {
    pub(crate) name: &'static str,
    pub(crate) live: usize,
    pub(crate) threads: usize,
    /// Nanoseconds per key.
    pub(crate) rounds: Vec<f64>,
    pub(crate) held: usize,
    /// The share of the duplicates that it took for fresh; `None` where it reports none.
    pub(crate) missed: Option<f64>,
    is_exact: bool,
}

impl Speed {
    fn of(entrant: &Entrant, live: usize, threads: usize, team: &Team, rounds: Vec<f64>) -> Self {
        let tally = team.tally();
        Self {
            name: entrant.name,
            live,
            threads,
            rounds,
            held: team.held(),
            missed: entrant.is_cache().then(|| tally.missed()),
            is_exact: tally.is_exact() || !entrant.is_oncewheel(),
        }
    }

    pub(crate) fn ns_per_key(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    pub(crate) fn is_exact_where_promised(&self) -> bool {
        self.is_exact
    }

    /// What the child writes of it, and the parent reads.
    fn to_line(&self) -> String {
        let missed = self.missed.map_or("-".to_owned(), |missed| missed.to_string());
        let rounds: Vec<_> = self.rounds.iter().map(f64::to_string).collect();
        let Self { name, live, held, is_exact, .. } = self;
        format!("{name} {live} {held} {is_exact} {missed} {}", rounds.join(" "))
    }

    fn from_line(line: &str, lineup: Lineup) -> Option<Self> {
        let mut words = line.split(' ');
        let (name, live, held, is_exact, missed) =
            (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
        let live = live.parse().ok()?;
        let (entrant, _) = lineup.entrants(live).into_iter().find(|(entrant, _)| entrant.name == name)?;
        Some(Self {
            name: entrant.name,
            live,
            threads: lineup.threads(),
            rounds: words.map(|round| round.parse().ok()).collect::<Option<_>>()?,
            held: held.parse().ok()?,
            missed: missed.parse().ok(),
            is_exact: is_exact.parse().ok()?,
        })
    }
}

pub(crate) fn measure(lineup: Lineup, live: usize, is_quick: bool) -> Result<Vec<Speed>> {
    let name = Lineup::ALL.iter().find(|(_, other)| *other == lineup).map_or("", |(name, _)| name);
    let written = child::ask(if is_quick { QUICK } else { SPEED }, name, live)?;
    let text = str::from_utf8(&written).map_err(Error::other)?;
    let speeds = text.lines().map(|line| Speed::from_line(line, lineup));
    speeds.collect::<Option<_>>().ok_or_else(|| child::garbled(SPEED))
}

/// In the child.
pub(crate) fn serve(name: &str, live: usize, is_quick: bool) {
    let Some((_, lineup)) = Lineup::ALL.iter().find(|(other, _)| *other == name) else { return };
    let plan = if is_quick { Plan::QUICK } else { Plan::LONG };
    for speed in side_by_side(lineup.entrants(live), lineup.threads(), &plan) {
        println!("{}", speed.to_line());
    }
}

fn side_by_side(entrants: Vec<(&Entrant, usize)>, threads: usize, plan: &Plan) -> Vec<Speed> {
    let team = |(entrant, live)| (entrant, live, Team::new(entrant, live, Buffers::new(threads)), Vec::new());
    let (on_wall_clock, mut waiting): (Vec<_>, Vec<_>) =
        entrants.into_iter().map(team).partition(|(_, _, team, _)| team.runs_on_wall_clock());
    for (entrant, live, team, _) in &mut waiting {
        eprintln!("{live} live keys, {threads} threads: filling {}", entrant.name);
        team.fill(1.3);
    }
    for _ in 0..plan.rounds {
        for (_, _, team, rounds) in &mut waiting {
            rounds.push(round(team, threads, plan.batches));
        }
    }
    let mut speeds: Vec<_> = waiting
        .into_iter()
        .map(|(entrant, live, team, rounds)| Speed::of(entrant, live, threads, &team, rounds))
        .collect();
    // Its keys would expire while the others have their turn, so its rounds follow each other, alone. Since they are
    // paced, they are few and short.
    for (entrant, live, mut team, _) in on_wall_clock {
        eprintln!("{live} live keys, {threads} threads: filling {}", entrant.name);
        team.fill(1.1);
        let rounds = (0..plan.rounds.div_ceil(3)).map(|_| round(&mut team, threads, plan.batches / 4)).collect();
        speeds.push(Speed::of(entrant, live, threads, &team, rounds));
    }
    speeds
}

fn round(team: &mut Team, threads: usize, batches: u64) -> f64 {
    let batches = (batches / threads as u64).max(4);
    // What the others have driven out of the processor's cache comes back untimed.
    team.run(batches / 4);
    team.run(batches).as_nanos() as f64 / (batches * (threads * BATCH) as u64) as f64
}
