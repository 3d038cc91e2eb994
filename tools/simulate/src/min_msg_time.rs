//! What the broker reports about its oldest message: the truth, and what reports it instead.

use super::broker::Broker;
use super::random::Random;
use super::scenario::{HOUR, MinMode};
use oncewheel::{MinMsgTime, Timestamp};

pub(crate) struct Reporter {
    mode: MinMode,
    kept: MinMsgTime,
    kept_until: u64,
}

impl Reporter {
    pub(crate) fn new(mode: MinMode) -> Self {
        Self { mode, kept: MinMsgTime::Unknown, kept_until: 0 }
    }

    /// The answer to a request made at `truth`, which is `asked_at` by the clock that notes the
    /// request.
    pub(crate) fn report(&mut self, broker: &mut Broker, truth: u64, asked_at: u64, random: &mut Random) -> MinMsgTime {
        let empty = MinMsgTime::Empty { observed_at: Timestamp::from_millis(asked_at) };
        let known = |time: u64| MinMsgTime::Known(Timestamp::from_millis(time));
        let exact = broker.oldest().map_or(empty, |(time, _)| known(time));
        let changed = |change: &dyn Fn(u64) -> u64| known(change(millis(exact)));
        match self.mode {
            MinMode::Exact => exact,
            MinMode::Head => broker.head().map_or(empty, known),
            MinMode::Undelivered => broker.next_undelivered().map_or(empty, known),
            MinMode::Stale(age) => self.keep(exact, truth, age),
            MinMode::Frozen => {
                let age = random.extreme(6 * HOUR);
                self.keep(exact, truth, age)
            }
            MinMode::Null => random.pick(&[MinMsgTime::Unknown, known(0)]),
            MinMode::WrongUnit if random.one_in(20) => {
                let change = random.pick(&[|t| t / 1_000, |t| t * 1_000, |t: u64| t * 1_000_000]);
                changed(&change)
            }
            MinMode::StepsBack if random.one_in(10) => {
                let by = random.extreme(3 * HOUR);
                changed(&|time| time - by)
            }
            MinMode::TooHigh(by) => {
                let by = random.extreme(by);
                changed(&|time| time + by)
            }
            MinMode::WrongUnit | MinMode::StepsBack => exact,
        }
    }

    fn keep(&mut self, exact: MinMsgTime, truth: u64, age: u64) -> MinMsgTime {
        if truth >= self.kept_until {
            self.kept = exact;
            self.kept_until = truth + age;
        }
        self.kept
    }
}

/// As brokers report it, with 0 for null.
pub(crate) fn millis(min_msg_time: MinMsgTime) -> u64 {
    match min_msg_time {
        MinMsgTime::Known(time) | MinMsgTime::Empty { observed_at: time } => time.as_millis(),
        MinMsgTime::Unknown => 0,
    }
}
