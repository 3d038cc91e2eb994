//! What must hold at the end of a run. The oracle has found on the way what was wrong with a single
//! event.

use super::scenario::{Broken, Scenario, Sign, Stamp};
use super::tally::{Answers, Tally};

/// With this many deliveries or more, a run of any seed must have shown what its scenario is made
/// for.
const ENOUGH_TO_SHOW: u64 = 500_000;
/// If a consumer stalls again before it has caught up, at most this many stalls follow each other.
const STALLS_IN_A_ROW: u64 = 8;

pub(crate) fn check(scenario: &Scenario, tally: &Tally) -> Result<(), String> {
    let library = &tally.library;
    let counted = Answers { full: 0, ..tally.answers };
    same("answers", &library.answers, &counted)?;
    same("rejected_watermarks", &library.rejected_watermarks, &tally.rejected_watermarks)?;
    same("watermark_regressions", &library.watermark_regressions, &tally.watermark_regressions)?;
    if !scenario.shows.contains(&Sign::Full) {
        none("full", tally.answers.full)?;
    }
    if scenario.broker.retention.is_none_or(|retention| retention >= STALLS_IN_A_ROW * scenario.consumer.stall_max) {
        none("events that were dropped", tally.dropped)?;
    }
    if !scenario.terms().may_lose_keys {
        none("evicted", library.evicted)?;
        none("clamped_times", library.clamped_times)?;
    }
    let is_a_kept = !matches!(scenario.broken, Broken::Retry(_));
    if is_a_kept {
        none("events whose copies are too far apart", tally.too_far_apart)?;
        // The age of a copy is unknown to the library if its time is unknown, and wrong if its time
        // is clamped.
        if scenario.producers.stamp != Stamp::Unknown && !scenario.terms().may_lose_keys {
            none("late_duplicates", library.late_duplicates)?;
        }
    }
    match scenario.broken {
        Broken::Nothing => {
            none("deliveries below the watermark", tally.below_watermark)?;
            none("too_old", library.answers.too_old)?;
        }
        Broken::Prefetch => none("events whose copies were all too old", tally.dead_lettered)?,
        _ => {}
    }
    if is_a_kept && !scenario.terms().may_lose_keys {
        none("effects that were doubled where an assumption is broken", tally.doubled.broken)?;
    }
    if tally.deliveries >= ENOUGH_TO_SHOW { shows(scenario, tally) } else { Ok(()) }
}

/// Whether the run has shown what the scenario is made for. Otherwise it has proved nothing.
pub fn shows(scenario: &Scenario, tally: &Tally) -> Result<(), String> {
    match scenario.shows.iter().find(|sign| sign.count(tally) == 0) {
        Some(sign) => Err(format!("{}: the run shows no {sign:?}: {tally:?}", scenario.name)),
        None => Ok(()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, library: &T, counted: &T) -> Result<(), String> {
    if library == counted {
        Ok(())
    } else {
        Err(format!("{what}: the library reports {library:?}, the caller counted {counted:?}"))
    }
}

fn none(what: &str, count: u64) -> Result<(), String> {
    if count == 0 { Ok(()) } else { Err(format!("{what}: {count}, where the assumptions hold")) }
}

impl Sign {
    fn count(self, tally: &Tally) -> u64 {
        let library = &tally.library;
        match self {
            Self::BeforeCommit => tally.doubled.before_commit,
            Self::Restart => tally.doubled.restart,
            Self::TakenOver => tally.doubled.taken_over,
            Self::Doubled => tally.doubled.broken,
            Self::InFlight => library.answers.in_flight,
            Self::Full => tally.answers.full,
            Self::Expired => library.expired,
            Self::Evicted => library.evicted,
            Self::LateDuplicates => library.late_duplicates,
            Self::ClampedTimes => library.clamped_times,
            Self::RejectedWatermarks => library.rejected_watermarks,
            Self::WatermarkRegressions => library.watermark_regressions,
            Self::TooOld => library.answers.too_old,
            Self::Dropped => tally.dropped,
            Self::LostAfterInsert => tally.lost_after_insert,
            Self::Crashes => tally.crashes,
            Self::Rebalances => tally.rebalances,
            Self::Pauses => tally.pauses,
            Self::ClaimsLost => tally.claims_lost,
        }
    }
}
