//! Which contenders are measured side by side. Each line-up has a process of its own, because
//! memory is scattered in a process in which other caches have lived.

use crate::child;
use crate::contenders::{ENTRANTS, Entrant, THREADED};
use crate::speed::{self, Plan, Speed};
use std::io::{Error, Result};

pub(crate) const SPEED: &str = "speed";
pub(crate) const QUICK: &str = "speed-quick";

const LONG_PLAN: Plan = Plan { rounds: 9, batches: 1024 };
const QUICK_PLAN: Plan = Plan { rounds: 3, batches: 102 };

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Lineup {
    /// All contenders. At 10 million keys they take 9 GiB.
    OneThread,
    TwoThreads,
    /// The batch and the floor, with the live keys and ten times as many.
    TenTimes,
}

impl Lineup {
    const ALL: [Self; 3] = [Self::OneThread, Self::TwoThreads, Self::TenTimes];

    fn name(self) -> &'static str {
        match self {
            Self::OneThread => "one-thread",
            Self::TwoThreads => "two-threads",
            Self::TenTimes => "ten-times",
        }
    }

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

pub(crate) fn measure(lineup: Lineup, live: usize, is_quick: bool) -> Result<Vec<Speed>> {
    let written = child::ask(if is_quick { QUICK } else { SPEED }, lineup.name(), live)?;
    let text = str::from_utf8(&written).map_err(Error::other)?;
    let speeds = text.lines().map(|line| from_line(line, lineup));
    speeds.collect::<Option<_>>().ok_or_else(|| child::garbled(SPEED))
}

/// In the child.
pub(crate) fn serve(name: &str, live: usize, is_quick: bool) {
    let Some(lineup) = Lineup::ALL.into_iter().find(|lineup| lineup.name() == name) else { return };
    let plan = if is_quick { QUICK_PLAN } else { LONG_PLAN };
    for speed in speed::measure(lineup.entrants(live), lineup.threads(), &plan) {
        println!("{}", to_line(&speed));
    }
}

/// The child's output, which the parent parses.
fn to_line(speed: &Speed) -> String {
    let missed = speed.missed.map_or("-".to_owned(), |missed| missed.to_string());
    let rounds: Vec<_> = speed.rounds.iter().map(f64::to_string).collect();
    let Speed { name, live, held, is_exact, .. } = speed;
    format!("{name} {live} {held} {is_exact} {missed} {}", rounds.join(" "))
}

fn from_line(line: &str, lineup: Lineup) -> Option<Speed> {
    let mut words = line.split(' ');
    let (name, live, held, is_exact, missed) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let live = live.parse().ok()?;
    let (entrant, _) = lineup.entrants(live).into_iter().find(|(entrant, _)| entrant.name == name)?;
    Some(Speed {
        name: entrant.name,
        live,
        threads: lineup.threads(),
        rounds: words.map(|round| round.parse().ok()).collect::<Option<_>>()?,
        held: held.parse().ok()?,
        missed: missed.parse().ok(),
        is_exact: is_exact.parse().ok()?,
    })
}
