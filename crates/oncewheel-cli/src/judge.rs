//! The cache and its clock, fed with deliveries.

use crate::args::{Options, Retention};
use crate::delivery::Delivery;
use crate::failure::Place;
use crate::guard::{Guard, Times, WrongTimes};
use crate::journal::{self, Group};
use oncewheel::journal::Recovery;
use oncewheel::unsync::{Claim, DedupCache};
use oncewheel::{Claimed, Error, MinMsgTime, Stats, Timestamp, Verdict};
use std::time::{Duration, Instant};

/// Deliveries between two looks at the memory, which take microseconds each.
const DELIVERIES_PER_SAMPLE: u32 = 4096;

pub(crate) struct Judge {
    cache: DedupCache,
    clock: Clock,
    guard: Guard,
    retention: Option<Duration>,
    /// With a journal: what was written and is not yet committed.
    group: Option<Group>,
    deliveries_to_sample: u32,
    pub(crate) peaks: Peaks,
}

/// Which clock counts.
enum Clock {
    /// No line had a field for a time so far. If that goes on, the wall's counts; since when.
    Undecided(Option<Wall>),
    /// The lines'
    Lines,
    Wall(Wall),
}

/// The wall clock at the first line and the monotonic time since, so that a stepped wall clock
/// expires nothing.
#[derive(Clone, Copy)]
struct Wall {
    start: Timestamp,
    since: Instant,
}

impl Wall {
    fn start() -> Self {
        Self { start: Timestamp::now(), since: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        self.start.saturating_add(self.since.elapsed())
    }
}

/// The greatest values seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    pub(crate) keys_live: usize,
    pub(crate) memory_bytes: usize,
    /// How far a delivery that was too old lay behind the watermark
    pub(crate) too_old_by_ms: u64,
}

impl Judge {
    /// The clock is a manual one even where the wall's counts, since a journal is opened once, and
    /// before any line can decide that.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let config = options.limits.config().clock(oncewheel::Clock::Manual);
        let group = options.journal.dir.as_ref().map(|_| Group::new(options));
        let cache = match &options.journal.dir {
            Some(dir) => journal::open(dir, config, &options.journal)?,
            None => DedupCache::new(config)?,
        };
        let Retention(retention) = options.limits.max_retention;
        let peaks = Peaks { keys_live: cache.len(), ..Peaks::default() };
        let (clock, guard) = (Clock::Undecided(None), Guard::new(options, cache.watermark()));
        Ok(Self { cache, clock, guard, retention, group, deliveries_to_sample: 1, peaks })
    }

    pub(crate) fn recovery(&self) -> Option<&Recovery> {
        self.cache.recovery()
    }

    /// The times of a line that the cache may be given.
    ///
    /// # Errors
    ///
    /// What is wrong if the wall clock has counted so far and the line is of another time.
    #[inline]
    pub(crate) fn times(&mut self, delivery: &Delivery<'_>, place: &Place) -> Result<Times, String> {
        match self.clock {
            Clock::Lines => Ok(self.guard.take(delivery, place, Timestamp::now)),
            _ => self.times_by_the_wall(delivery, place),
        }
    }

    fn times_by_the_wall(&mut self, delivery: &Delivery<'_>, place: &Place) -> Result<Times, String> {
        match &mut self.clock {
            Clock::Undecided(wall) if !delivery.has_time_fields() => {
                let wall = *wall.get_or_insert_with(Wall::start);
                // Until then, its watermark would lie before the first line: nothing can expire or
                // be too old, and a recording may still begin.
                if self.retention.is_none_or(|retention| wall.since.elapsed() < retention) {
                    return Ok(self.guard.take(delivery, place, || wall.now()));
                }
                self.clock = Clock::Wall(wall);
                Ok(self.guard.take_at(wall.now(), delivery, place))
            }
            Clock::Undecided(_) | Clock::Lines => {
                self.clock = Clock::Lines;
                Ok(self.guard.take(delivery, place, Timestamp::now))
            }
            Clock::Wall(wall) => {
                let now = wall.now();
                self.of_today(delivery)?;
                Ok(self.guard.take_at(now, delivery, place))
            }
        }
    }

    /// See [`Guard::check_first_time`].
    #[inline]
    pub(crate) fn has_first_time(&self, delivery: &Delivery<'_>) -> bool {
        self.guard.has_first_time(delivery)
    }

    pub(crate) fn check_first_time(&mut self, delivery: &Delivery<'_>, next: Option<&Delivery<'_>>) {
        self.guard.check_first_time(delivery, next);
    }

    fn of_today(&self, delivery: &Delivery<'_>) -> Result<(), String> {
        let time = delivery.now.known().or(delivery.msg_time.known());
        match time.zip(self.cache.watermark()) {
            Some((time, watermark)) if time < watermark => Err(format!(
                "a delivery of the time {} ms, after lines without a time, which count by the clock of today: no order \
                 of the two is right. Give every line its time, or run the two kinds apart",
                time.as_millis()
            )),
            _ => Ok(()),
        }
    }

    /// Whether the group must be committed before these times are passed on: see
    /// [`Group::would_be_passed`].
    #[inline]
    pub(crate) fn would_pass_the_group(&self, now: Option<Timestamp>, min_msg_time: Option<Timestamp>) -> bool {
        self.group.as_ref().is_some_and(|group| group.would_be_passed(min_msg_time, now))
    }

    /// Whether a jump of the clock waits for its confirmation.
    pub(crate) fn is_holding(&self) -> bool {
        self.guard.is_holding()
    }

    /// `now` and `min_msg_time` of a line that waited, and of them what is believed by now.
    pub(crate) fn as_far_as_believed(&self, times: [Option<Timestamp>; 2]) -> [Option<Timestamp>; 2] {
        let [now, min_msg_time] = self.guard.believed();
        [times[0].zip(now), times[1].zip(min_msg_time)].map(|time| time.map(|(time, believed)| time.min(believed)))
    }

    /// At the end of the input, where lines wait: a jump that nothing contradicts counts. Not
    /// with a journal, which would keep it for the runs to come.
    pub(crate) fn believe_held(&mut self) {
        if self.group.is_none() {
            self.guard.believe_held();
        }
    }

    /// At the end of the input: the clock as it is then. With a journal, the wall clock is not kept
    /// for the runs to come unless it has counted: a recording may follow.
    pub(crate) fn end(&mut self) {
        if self.group.is_some() {
            return;
        }
        let [now, min_msg_time] = self.guard.believed();
        self.pass_on(now, min_msg_time);
        if let Clock::Undecided(Some(wall)) = self.clock {
            let _ = self.cache.advance(wall.now());
        }
    }

    /// A watermark that the journal could not store has moved in memory. The next commit meets the
    /// same error, or stores it.
    #[inline]
    pub(crate) fn pass_on(&mut self, now: Option<Timestamp>, min_msg_time: Option<Timestamp>) {
        if let Some(now) = now {
            let _ = self.cache.advance(now);
        }
        if let Some(min_msg_time) = min_msg_time {
            let _ = self.cache.observe(MinMsgTime::Known(min_msg_time));
        }
    }

    /// `Fresh` holds a claim if there is a journal, for [`written`](Self::written). `InFlight`
    /// means that the group that is not yet committed has the key: commit it and judge again.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::Journal`] once the journal is poisoned.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        delivery: &Delivery<'_>,
        msg_time: Timestamp,
    ) -> Result<Claimed<Option<Claim>>, Error> {
        let claimed = self.claim(delivery.key.as_bytes(), msg_time)?;
        if delivery.msg_time.known().is_some() {
            match claimed {
                Claimed::TooOld => {
                    let watermark = self.cache.watermark().map_or(0, Timestamp::as_millis);
                    let behind = watermark.saturating_sub(msg_time.as_millis());
                    self.peaks.too_old_by_ms = self.peaks.too_old_by_ms.max(behind);
                }
                _ => self.guard.extent.add_msg_time(msg_time),
            }
        }
        self.sample(&claimed);
        Ok(claimed)
    }

    /// The line of a claim is on its way out. Whether the group should be committed now.
    #[inline]
    pub(crate) fn written(&mut self, claim: Option<Claim>, msg_time: Timestamp) -> bool {
        match (&mut self.group, claim) {
            (Some(group), Some(claim)) => group.add(claim, msg_time),
            _ => false,
        }
    }

    /// Lines that were written and are not committed.
    pub(crate) fn uncommitted(&self) -> usize {
        self.group.as_ref().map_or(0, Group::len)
    }

    /// Commits the lines that were written and flushed. Returns how many are not committed if that
    /// fails.
    pub(crate) fn commit(&mut self) -> Result<(), (Error, usize)> {
        match &mut self.group {
            Some(group) => group.commit(&mut self.cache),
            None => Ok(()),
        }
    }

    /// Without a journal nothing can fail between a key and its line: no claim is needed.
    #[inline]
    fn claim(&mut self, key: &[u8], msg_time: Timestamp) -> Result<Claimed<Option<Claim>>, Error> {
        if self.group.is_some() {
            return Ok(self.cache.claim(key, msg_time)?.map(Some));
        }
        Ok(match self.cache.insert(key, msg_time)? {
            Verdict::Fresh => Claimed::Fresh(None),
            Verdict::Duplicate => Claimed::Duplicate,
            Verdict::InFlight => Claimed::InFlight,
            Verdict::TooOld => Claimed::TooOld,
        })
    }

    /// Claims count as the keys that they will be.
    fn sample(&mut self, claimed: &Claimed<Option<Claim>>) {
        let claims = self.uncommitted() + usize::from(matches!(claimed, Claimed::Fresh(Some(_))));
        self.peaks.keys_live = self.peaks.keys_live.max(self.cache.len() + claims);
        self.deliveries_to_sample -= 1;
        if self.deliveries_to_sample == 0 {
            self.deliveries_to_sample = DELIVERIES_PER_SAMPLE;
            self.stats();
        }
    }

    /// Of the cache, but for what the guard keeps from it
    pub(crate) fn stats(&mut self) -> Stats {
        let mut stats = self.cache.stats();
        stats.clamped_times += self.guard.clamped_times;
        stats.rejected_watermarks += self.guard.rejected_watermarks;
        self.peaks.memory_bytes = self.peaks.memory_bytes.max(stats.memory_bytes);
        stats
    }

    pub(crate) fn wrong_times(&self) -> &WrongTimes {
        &self.guard.wrong
    }

    /// How long the recording is.
    pub(crate) fn length(&self) -> Duration {
        self.guard.extent.length()
    }

    /// Why a delivery got no verdict, and what to do.
    pub(crate) fn refusal(&self, error: &Error, options: &Options) -> String {
        if !matches!(error, Error::Full { .. }) {
            return error.to_string();
        }
        let keys = self.cache.len() + self.uncommitted();
        let full = format!("the cache is full: {keys} keys are held, as many as --max-keys allows,");
        if self.cache.watermark().is_some() {
            return format!(
                "{full} and none has expired yet. Raise --max-keys; or let the consumer pause until its queue has \
                 moved on; or shorten --max-retry, --max-network or --max-retention if they are longer than they need to be"
            );
        }
        let (min_msg_time, now) = (&options.min_msg_time, &options.now);
        let why = if options.limits.max_retention == Retention(None) {
            "--max-retention is none: set it, or name the right field with --min-msg-time".to_owned()
        } else if self.cache.stats().now.is_none() {
            format!(
                "no {now} was seen, from which --max-retention counts: name the right fields with --min-msg-time or --now"
            )
        } else {
            format!("{now} less --max-retention lies before 1970: is it in milliseconds?")
        };
        format!("{full} and none can ever expire, since no {min_msg_time} was seen and {why}; or raise --max-keys")
    }
}
