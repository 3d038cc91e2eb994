//! What a run has counted.
#![allow(missing_docs, reason = "most fields are named for all that there is to say")]

use oncewheel::Stats;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Milliseconds of simulated time.
    pub time: u64,
    pub events: u64,
    pub deliveries: u64,
    /// Answers, by the caller's count.
    pub answers: Answers,
    /// Effects of events that had taken effect before, and why the cache is not to blame.
    pub doubled: Excuses,
    /// Events whose key was recorded on sight, and whose consumer crashed before the effect.
    pub lost_on_sight: u64,
    /// Events that never took effect, because all that was said of their copies was `TooOld`.
    pub dead_lettered: u64,
    /// Events that the broker dropped at the end of its retention before they were acknowledged.
    pub dropped: u64,
    /// Deliveries below the watermark: assumption B does not hold.
    pub below_watermark: u64,
    /// Events whose copies' times lay further apart than the horizon says: assumption A does not hold.
    pub too_far_apart: u64,
    pub crashes: u64,
    pub stalls: u64,
    pub rebalances: u64,
    pub pauses: u64,
    pub claims_lost: u64,
    /// Watermarks that were refused, and those that lay below an earlier one, by the caller's count.
    pub refused: u64,
    pub steps_back: u64,
    pub backlog_max: usize,
    pub keys_max: usize,
    /// What the library has counted, over all restarts.
    pub library: Library,
    pub rivals: [RivalTally; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub fresh: u64,
    pub duplicate: u64,
    pub in_flight: u64,
    pub too_old: u64,
    pub full: u64,
}

/// Why an event may take effect once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// The consumer crashed between effect and commit.
    Window,
    /// The consumer was started again without a journal.
    Restart,
    /// A claim outlived `lease` and was taken over, and both took effect.
    TakenOver,
    /// An assumption was broken on purpose, or forgetting was asked for.
    Broken,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    pub window: u64,
    pub restart: u64,
    pub taken_over: u64,
    pub broken: u64,
}

impl Excuses {
    pub(crate) fn count(&mut self, excuse: Excuse) {
        match excuse {
            Excuse::Window => self.window += 1,
            Excuse::Restart => self.restart += 1,
            Excuse::TakenOver => self.taken_over += 1,
            Excuse::Broken => self.broken += 1,
        }
    }

    pub fn sum(&self) -> u64 {
        self.window + self.restart + self.taken_over + self.broken
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Library {
    pub answers: Answers,
    pub late_duplicates: u64,
    pub clamped_times: u64,
    pub rejected_watermarks: u64,
    pub watermark_regressions: u64,
    pub expired: u64,
    pub evicted: u64,
}

impl Library {
    pub(crate) fn add(&mut self, stats: &Stats) {
        self.answers.fresh += stats.fresh;
        self.answers.duplicate += stats.duplicate;
        self.answers.in_flight += stats.in_flight;
        self.answers.too_old += stats.too_old;
        self.late_duplicates += stats.late_duplicates;
        self.clamped_times += stats.clamped_times;
        self.rejected_watermarks += stats.rejected_watermarks;
        self.watermark_regressions += stats.watermark_regressions;
        self.expired += stats.expired;
        self.evicted += stats.evicted;
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RivalTally {
    /// Effects beyond the first of an event.
    pub twice: u64,
    pub lost: u64,
    pub keys_max: usize,
}
