//! What a run has counted.

use oncewheel::Stats;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Milliseconds of simulated time.
    pub(crate) time: u64,
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    /// Answers, by the caller's count.
    pub(crate) answers: Answers,
    /// Effects of events that had taken effect before, and why the cache is not to blame.
    pub(crate) doubled: Excuses,
    /// Events whose key was recorded on sight, and whose consumer crashed before the effect.
    pub(crate) lost_on_sight: u64,
    /// Events that never took effect, because all that was said of their copies was `TooOld`.
    pub(crate) dead_lettered: u64,
    /// Events that the broker dropped at the end of its retention before they were acknowledged.
    pub(crate) dropped: u64,
    /// Deliveries below the watermark: assumption B does not hold.
    pub(crate) below_watermark: u64,
    /// Events whose copies' times lay further apart than the horizon says: assumption A does not hold.
    pub(crate) too_far_apart: u64,
    pub(crate) crashes: u64,
    pub(crate) stalls: u64,
    pub(crate) claims_lost: u64,
    /// Watermarks that were refused, and those that lay below an earlier one, by the caller's count.
    pub(crate) refused: u64,
    pub(crate) steps_back: u64,
    pub(crate) backlog_max: usize,
    pub(crate) keys_max: usize,
    /// What the library has counted, over all restarts.
    pub(crate) library: Library,
    pub(crate) rivals: [RivalTally; 3],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) fresh: u64,
    pub(crate) duplicate: u64,
    pub(crate) in_flight: u64,
    pub(crate) too_old: u64,
    pub(crate) full: u64,
}

/// Why an event may take effect once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// The consumer crashed between effect and commit.
    Window,
    /// The consumer was started again without a journal.
    Restart,
    /// A claim outlived `max_processing_time` and was taken over, and both took effect.
    TakenOver,
    /// An assumption was broken on purpose, or forgetting was asked for.
    Broken,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuses {
    pub(crate) window: u64,
    pub(crate) restart: u64,
    pub(crate) taken_over: u64,
    pub(crate) broken: u64,
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

    pub(crate) fn sum(&self) -> u64 {
        self.window + self.restart + self.taken_over + self.broken
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Library {
    pub(crate) answers: Answers,
    pub(crate) late_duplicates: u64,
    pub(crate) clamped_times: u64,
    pub(crate) refused_times: u64,
    pub(crate) watermark_steps_back: u64,
    pub(crate) forgotten_on_time: u64,
    pub(crate) forgotten_early: u64,
}

impl Library {
    pub(crate) fn add(&mut self, stats: &Stats) {
        self.answers.fresh += stats.fresh;
        self.answers.duplicate += stats.duplicate;
        self.answers.in_flight += stats.in_flight;
        self.answers.too_old += stats.too_old;
        self.late_duplicates += stats.late_duplicates;
        self.clamped_times += stats.clamped_times;
        self.refused_times += stats.refused_times;
        self.watermark_steps_back += stats.watermark_steps_back;
        self.forgotten_on_time += stats.forgotten_on_time;
        self.forgotten_early += stats.forgotten_early;
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RivalTally {
    /// Effects beyond the first of an event.
    pub(crate) twice: u64,
    pub(crate) lost: u64,
    pub(crate) keys_max: usize,
}
