//! What must hold at the end of a run. What went wrong with a single event was found on the way, by the oracle.

use super::scenario::{Broken, Scenario, Sign, Stamp};
use super::tally::{Answers, Tally};

/// From so many deliveries on, a run of any seed must have shown what its scenario is there for.
const ENOUGH_TO_SHOW: u64 = 500_000;
/// A consumer that stalls again before it has caught up is not away for this many stalls.
const STALLS_IN_A_ROW: u64 = 8;

pub(crate) fn check(scenario: &Scenario, tally: &Tally) -> Result<(), String> {
    let library = &tally.library;
    let counted = Answers { full: 0, ..tally.answers };
    same("answers", &library.answers, &counted)?;
    same("rejected_watermarks", &library.rejected_watermarks, &tally.refused)?;
    same("watermark_regressions", &library.watermark_regressions, &tally.steps_back)?;
    if !scenario.shows.contains(&Sign::Full) {
        none("full", tally.answers.full)?;
    }
    if scenario.broker.retention.is_none_or(|retention| retention >= STALLS_IN_A_ROW * scenario.consumer.stall_max) {
        none("events that were dropped", tally.dropped)?;
    }
    if !scenario.terms().forgets_early {
        none("evicted", library.evicted)?;
        none("clamped_times", library.clamped_times)?;
    }
    let is_a_kept = !matches!(scenario.broken, Broken::Retry(_));
    if is_a_kept {
        none("events whose copies are too far apart", tally.too_far_apart)?;
        // Copies whose times are unknown or clamped count as far apart as they are asked about.
        if scenario.producers.stamp != Stamp::Unknown && !scenario.terms().forgets_early {
            none("late_duplicates", library.late_duplicates)?;
        }
    }
    match scenario.broken {
        Broken::Nothing => {
            none("deliveries below the watermark", tally.below_watermark)?;
            none("too_old", library.answers.too_old)?;
        }
        Broken::Prefetch => none("events that nobody vouched for", tally.dead_lettered)?,
        _ => {}
    }
    if is_a_kept && !scenario.terms().forgets_early {
        none("effects that were doubled where an assumption is broken", tally.doubled.broken)?;
    }
    if tally.deliveries >= ENOUGH_TO_SHOW { shows(scenario, tally) } else { Ok(()) }
}

/// Whether the run has shown what the scenario is there for: otherwise it has proved nothing.
pub fn shows(scenario: &Scenario, tally: &Tally) -> Result<(), String> {
    match scenario.shows.iter().find(|sign| sign.count(tally) == 0) {
        Some(sign) => Err(format!("{}: the run shows no {sign:?}: {tally:?}", scenario.name)),
        None => Ok(()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, library: &T, counted: &T) -> Result<(), String> {
    if library == counted { Ok(()) } else { Err(format!("{what}: the library says {library:?}, it was {counted:?}")) }
}

fn none(what: &str, count: u64) -> Result<(), String> {
    if count == 0 { Ok(()) } else { Err(format!("{what}: {count}, where the assumptions hold")) }
}

impl Sign {
    fn count(self, tally: &Tally) -> u64 {
        let library = &tally.library;
        match self {
            Self::Window => tally.doubled.window,
            Self::Restart => tally.doubled.restart,
            Self::TakenOver => tally.doubled.taken_over,
            Self::Doubled => tally.doubled.broken,
            Self::InFlight => library.answers.in_flight,
            Self::Full => tally.answers.full,
            Self::ForgottenOnTime => library.expired,
            Self::ForgottenEarly => library.evicted,
            Self::LateDuplicates => library.late_duplicates,
            Self::ClampedTimes => library.clamped_times,
            Self::RefusedTimes => library.rejected_watermarks,
            Self::StepsBack => library.watermark_regressions,
            Self::TooOld => library.answers.too_old,
            Self::Dropped => tally.dropped,
            Self::LostOnSight => tally.lost_on_sight,
            Self::Crashes => tally.crashes,
            Self::Rebalances => tally.rebalances,
            Self::Pauses => tally.pauses,
            Self::ClaimsLost => tally.claims_lost,
        }
    }
}
