//! What a run has counted.
#![allow(missing_docs, reason = "the names of most fields say it all")]

use oncewheel::Stats;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Milliseconds of simulated time.
    pub time: u64,
    pub events: u64,
    pub deliveries: u64,
    /// Answers, by the caller's count.
    pub answers: Answers,
    /// Effects of events that had taken effect before, by the reason why the cache may allow that.
    pub doubled: Excuses,
    /// Events whose key was inserted first, and whose consumer crashed before the effect.
    pub lost_after_insert: u64,
    /// Events that never took effect, because all answers for their copies were `TooOld`.
    pub dead_lettered: u64,
    /// Events that the broker dropped at the end of its retention before they were acknowledged.
    pub dropped: u64,
    /// Deliveries below the watermark: assumption B does not hold.
    pub below_watermark: u64,
    /// Events with copies whose times are further apart than the horizon allows: assumption A does
    /// not hold.
    pub too_far_apart: u64,
    pub crashes: u64,
    pub stalls: u64,
    pub rebalances: u64,
    pub pauses: u64,
    pub claims_lost: u64,
    /// By the caller's count: watermarks that were refused, and those that were below an earlier
    /// one.
    pub rejected_watermarks: u64,
    pub watermark_regressions: u64,
    pub backlog_max: usize,
    pub keys_max: usize,
    /// The library's counts, over all restarts.
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
    BeforeCommit,
    /// The consumer was restarted without a journal.
    Restart,
    /// A claim outlived `lease` and was taken over, and both took effect.
    TakenOver,
    /// An assumption was broken on purpose, or eviction is on.
    Broken,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    pub before_commit: u64,
    pub restart: u64,
    pub taken_over: u64,
    pub broken: u64,
}

impl Excuses {
    pub(crate) fn count(&mut self, excuse: Excuse) {
        match excuse {
            Excuse::BeforeCommit => self.before_commit += 1,
            Excuse::Restart => self.restart += 1,
            Excuse::TakenOver => self.taken_over += 1,
            Excuse::Broken => self.broken += 1,
        }
    }

    pub fn sum(&self) -> u64 {
        self.before_commit + self.restart + self.taken_over + self.broken
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
