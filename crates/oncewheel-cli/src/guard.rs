//! Which times of a line reach the cache, so that a wrong one costs its own line at most.

use crate::args::Options;
use crate::confirmed::{Confirmed, Held};
use crate::delivery::{Delivery, Time};
use crate::durations;
use crate::failure::Place;
use oncewheel::Timestamp;
use std::time::Duration;

/// The least that a time may step ahead without confirmation, however small `--max-clock-skew` is.
const STEP_MS_MIN: u64 = 60_000;
/// Wrong times that are named; the others are counted.
const NAMED_MAX: usize = 10;

/// What the cache is given of a line's times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// `None` unless it has moved on
    pub(crate) now: Option<Timestamp>,
    /// `None` unless it has moved on
    pub(crate) min_msg_time: Option<Timestamp>,
    /// If unknown on the line: the latest that it can be
    pub(crate) msg_time: Timestamp,
}

/// The cache believes any `now`, and any `min_msg_time` up to `now + max_clock_skew`; either
/// expires keys for good. So it is given only those that [`Confirmed`] lets through. It bounds
/// messages' times by its own `now`, which may be late; so that is done here too, by the latest
/// time that may be true: a key must not expire early because the clock waits for a confirmation.
pub(crate) struct Guard {
    now: Confirmed<Place>,
    min_msg_time: Confirmed<Place>,
    names: [String; 2],
    doubts_first: bool,
    step: u64,
    skew: u64,
    out_of_orderness: u64,
    pub(crate) clamped_times: u64,
    pub(crate) rejected_watermarks: u64,
    pub(crate) wrong: WrongTimes,
    pub(crate) extent: Extent,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct WrongTimes {
    pub(crate) count: u64,
    /// The first, in words
    pub(crate) named: Vec<String>,
}

impl Guard {
    /// `watermark`: of an earlier run
    pub(crate) fn new(options: &Options, watermark: Option<Timestamp>) -> Self {
        let limits = &options.limits;
        let [skew, out_of_orderness] = [limits.max_clock_skew, limits.max_out_of_orderness].map(millis);
        let step = skew.max(STEP_MS_MIN);
        let min_msg_time = watermark.map(|watermark| watermark.as_millis().saturating_add(out_of_orderness));
        Self {
            now: Confirmed::new(None, step),
            min_msg_time: Confirmed::new(min_msg_time, step),
            names: [&options.now, &options.min_msg_time].map(ToString::to_string),
            doubts_first: false,
            step,
            skew,
            out_of_orderness,
            clamped_times: 0,
            rejected_watermarks: 0,
            wrong: WrongTimes::default(),
            extent: Extent::new(step),
        }
    }

    /// `wall` is called where no line has had a time yet.
    #[inline]
    pub(crate) fn take(&mut self, delivery: &Delivery<'_>, place: &Place, wall: impl FnOnce() -> Timestamp) -> Times {
        let now = delivery.now.known().and_then(|now| self.take_now(now, delivery, place));
        self.take_others(now, delivery, place, wall)
    }

    /// As [`take`](Self::take), by a clock that is always right.
    pub(crate) fn take_at(&mut self, now: Timestamp, delivery: &Delivery<'_>, place: &Place) -> Times {
        self.now = Confirmed::new(Some(now.as_millis()), self.step);
        self.take_others(Some(now), delivery, place, || now)
    }

    #[inline]
    fn take_now(&mut self, now: Timestamp, delivery: &Delivery<'_>, place: &Place) -> Option<Timestamp> {
        let is_supported = self.is_supported(now.as_millis(), delivery);
        let (now, wrong, name) = (now.as_millis(), &mut self.wrong, &self.names[0]);
        let has_risen = self.now.take(now, place, is_supported, |held| wrong.add(&held, name, now));
        let believed = self.now.believed().filter(|_| has_risen)?;
        self.extent.add_now(believed);
        Some(Timestamp::from_millis(believed))
    }

    #[inline]
    fn take_others(
        &mut self,
        now: Option<Timestamp>,
        delivery: &Delivery<'_>,
        place: &Place,
        wall: impl FnOnce() -> Timestamp,
    ) -> Times {
        let latest = self.now.latest();
        let ceiling = latest.map_or(u64::MAX, |latest| latest.saturating_add(self.skew));
        let min_msg_time = match delivery.min_msg_time.known() {
            Some(min) => self.take_min(min, ceiling, delivery, place),
            None => {
                if self.min_msg_time.is_holding() {
                    self.contradict_min(delivery);
                }
                None
            }
        };
        let msg_time = match delivery.msg_time.known() {
            Some(msg_time) if msg_time.as_millis() > ceiling => self.clamp(msg_time, ceiling),
            Some(msg_time) => msg_time,
            None => latest.map_or_else(wall, Timestamp::from_millis).max(Timestamp::from_millis(self.watermark())),
        };
        Times { now, min_msg_time, msg_time }
    }

    /// A message that is delivered has not been consumed: the oldest one is not younger.
    #[cold]
    fn contradict_min(&mut self, delivery: &Delivery<'_>) {
        if let Some(msg_time) = delivery.msg_time.known() {
            let latest = msg_time.as_millis().saturating_add(self.out_of_orderness);
            let (wrong, name) = (&mut self.wrong, &self.names[1]);
            self.min_msg_time.contradict(latest, |held| wrong.add(&held, name, latest));
        }
    }

    fn take_min(&mut self, min: Timestamp, ceiling: u64, delivery: &Delivery<'_>, place: &Place) -> Option<Timestamp> {
        let min = min.as_millis();
        let is_supported = self.is_supported(min, delivery);
        let (wrong, name) = (&mut self.wrong, &self.names[1]);
        if min.saturating_sub(self.out_of_orderness) > ceiling {
            self.rejected_watermarks += 1;
            wrong.add(&Held { time: min, place: place.clone() }, name, ceiling.saturating_sub(self.skew));
            return None;
        }
        let has_risen = self.min_msg_time.take(min, place, is_supported, |held| wrong.add(&held, name, min));
        self.min_msg_time.believed().filter(|_| has_risen).map(Timestamp::from_millis)
    }

    /// Whether a time, if it is the first of its field, can be believed: the message's own time
    /// agrees.
    #[inline]
    fn is_supported(&self, time: u64, delivery: &Delivery<'_>) -> bool {
        let msg_time = delivery.msg_time.known().map(Timestamp::as_millis);
        !self.doubts_first && msg_time.is_some_and(|msg_time| time <= msg_time.saturating_add(self.step))
    }

    #[inline]
    pub(crate) fn has_first_time(&self, delivery: &Delivery<'_>) -> bool {
        let is_first = |field: &Confirmed<Place>, time: Time| field.believed().is_none() && time.known().is_some();
        is_first(&self.now, delivery.now) || is_first(&self.min_msg_time, delivery.min_msg_time)
    }

    /// All times of a line may be wrong, and agree with each other. So the first of a field is
    /// compared with the next line or, behind a pipe, with the messages before.
    #[cold]
    pub(crate) fn check_first_time(&mut self, first: &Delivery<'_>, next: Option<&Delivery<'_>>) {
        let is_far_ahead = |time: Timestamp, other: u64| time.as_millis() > other.saturating_add(self.step);
        let times = |of: &Delivery<'_>| [of.now, of.min_msg_time, of.msg_time].map(Time::known);
        let next = next.map(times).into_iter().flatten();
        let pairs: Vec<_> = times(first).into_iter().zip(next).filter_map(|(time, other)| time.zip(other)).collect();
        let before = self.extent.last_msg_time.believed();
        self.doubts_first = match before {
            Some(before) if pairs.is_empty() => {
                times(first).into_iter().flatten().any(|time| is_far_ahead(time, before))
            }
            _ => pairs.into_iter().any(|(time, other)| is_far_ahead(time, other.as_millis())),
        };
    }

    /// Not below the watermark, or it would be too old.
    #[cold]
    fn clamp(&mut self, msg_time: Timestamp, ceiling: u64) -> Timestamp {
        let clamped = Timestamp::from_millis(ceiling.max(self.watermark())).min(msg_time);
        self.clamped_times += u64::from(clamped < msg_time);
        clamped
    }

    /// As far as `min_msg_time` has brought it
    fn watermark(&self) -> u64 {
        self.min_msg_time.believed().unwrap_or(0).saturating_sub(self.out_of_orderness)
    }

    /// Whether a jump waits for its confirmation.
    pub(crate) fn is_holding(&self) -> bool {
        self.now.is_holding() || self.min_msg_time.is_holding()
    }

    /// At the end of the input: what is held, as nothing contradicts it.
    pub(crate) fn believe_held(&mut self) {
        self.now.believe_held();
        self.min_msg_time.believe_held();
    }

    /// `now` and `min_msg_time`
    pub(crate) fn believed(&self) -> [Option<Timestamp>; 2] {
        [&self.now, &self.min_msg_time].map(|time| time.believed().map(Timestamp::from_millis))
    }
}

impl WrongTimes {
    #[cold]
    fn add(&mut self, wrong: &Held<Place>, name: &str, right: u64) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            let Held { time, place } = wrong;
            let ahead = durations::text(Duration::from_millis(time.saturating_sub(right)));
            self.named.push(format!("{place}: {name} is {time} ms, {ahead} ahead of what the lines around it allow"));
        }
    }
}

/// How long the recording is, but for single wrong times: what advice may not exceed.
pub(crate) struct Extent {
    first_now: Option<u64>,
    last_now: u64,
    last_msg_time: Confirmed<()>,
    /// Complements: as time runs backwards, they rise.
    first_msg_time: Confirmed<()>,
}

impl Extent {
    fn new(step: u64) -> Self {
        let [last_msg_time, first_msg_time] = [(); 2].map(|()| Confirmed::new(None, step));
        Self { first_now: None, last_now: 0, last_msg_time, first_msg_time }
    }

    fn add_now(&mut self, now: u64) {
        self.first_now.get_or_insert(now);
        self.last_now = now;
    }

    #[inline]
    pub(crate) fn add_msg_time(&mut self, msg_time: Timestamp) {
        let msg_time = msg_time.as_millis();
        self.last_msg_time.take(msg_time, &(), true, |_| {});
        self.first_msg_time.take(!msg_time, &(), true, |_| {});
    }

    pub(crate) fn length(&self) -> Duration {
        let delivered = self.first_now.map_or(0, |first| self.last_now.saturating_sub(first));
        let (last, first) = (self.last_msg_time.latest(), self.first_msg_time.latest());
        let stored = last.zip(first).map_or(0, |(last, first)| last.saturating_sub(!first));
        Duration::from_millis(delivered.max(stored))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
