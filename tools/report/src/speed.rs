//! Time per key. The contenders take turns in rounds, so that other work on the machine affects all
//! alike.

use crate::contenders::{BATCH, Buffers, Entrant, Team};

pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Batches that the contender takes in a round, all threads together.
    pub(crate) batches: u64,
}

pub(crate) struct Speed {
    pub(crate) name: &'static str,
    pub(crate) live: usize,
    pub(crate) threads: usize,
    /// Nanoseconds per key.
    pub(crate) rounds: Vec<f64>,
    pub(crate) held: usize,
    /// The share of the duplicates that it answered as fresh. `None` if it reports no duplicates.
    pub(crate) missed: Option<f64>,
    /// `true` also if it does not promise to be.
    pub(crate) is_exact: bool,
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
}

/// All entrants at steady state, side by side, each with its number of live keys.
pub(crate) fn measure<'a>(
    entrants: impl IntoIterator<Item = (&'a Entrant, usize)>,
    threads: usize,
    plan: &Plan,
) -> Vec<Speed> {
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
    // Its keys would expire while the others take their turn, so its rounds are run alone. Because
    // they are paced, they are few and short.
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
    // First, untimed, what the others have evicted from the processor's cache is loaded again.
    team.run(batches / 4);
    team.run(batches).as_nanos() as f64 / (batches * (threads * BATCH) as u64) as f64
}
