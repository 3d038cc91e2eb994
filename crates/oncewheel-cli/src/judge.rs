//! The cache and its clock, fed with deliveries.

use crate::args::{Options, Retention};
use crate::delivery::{Delivery, Time};
use crate::journal::{self, Group};
use oncewheel::journal::Recovery;
use oncewheel::unsync::{Claim, DedupCache};
use oncewheel::{Claimed, Clock, Error, MinMsgTime, Stats, Timestamp, Verdict};
use std::time::Instant;

/// Deliveries between two looks at the memory, which take microseconds each.
const DELIVERIES_PER_SAMPLE: u32 = 4096;

pub(crate) struct Judge {
    cache: DedupCache,
    now: Now,
    /// With a journal: what was written and is not yet recorded.
    group: Option<Group>,
    /// By deliveries that were asked about twice.
    clamped_again: u64,
    deliveries_to_sample: u32,
    pub(crate) peaks: Peaks,
}

/// Who tells the time.
enum Now {
    /// The first delivery will decide.
    Undecided,
    /// The deliveries
    Told,
    /// The wall clock at the start and the monotonic time since, so that a stepped wall clock forgets nothing.
    Wall(Timestamp, Instant),
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
    /// The clock is a manual one even where the wall's counts, since a journal is opened before the first delivery can
    /// decide that, and once.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let config = options.limits.config().clock(Clock::Manual);
        let group = options.journal.dir.as_ref().map(|_| Group::new(options));
        let cache = match &options.journal.dir {
            Some(dir) => journal::open(dir, config, &options.journal)?,
            None => DedupCache::new(config)?,
        };
        let peaks = Peaks { keys_live: cache.len(), ..Peaks::default() };
        Ok(Self { cache, now: Now::Undecided, group, clamped_again: 0, deliveries_to_sample: 1, peaks })
    }

    pub(crate) fn recovery(&self) -> Option<&Recovery> {
        self.cache.recovery()
    }

    /// When the delivery is judged, if that is known.
    pub(crate) fn now(&mut self, delivery: &Delivery<'_>) -> Option<Timestamp> {
        if let Now::Undecided = self.now {
            self.now = match delivery.has_time_fields() {
                true => Now::Told,
                false => Now::Wall(Timestamp::now(), Instant::now()),
            };
        }
        match (&self.now, delivery.now) {
            (Now::Wall(start, since), _) => {
                let elapsed = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                Some(Timestamp::from_millis(start.as_millis().saturating_add(elapsed)))
            }
            (_, Time::Known(now)) => Some(now),
            _ => None,
        }
    }

    /// Whether the group must be committed before this delivery's times are told: see [`Group::would_be_passed`].
    #[inline]
    pub(crate) fn would_pass_the_group(&self, delivery: &Delivery<'_>, now: Option<Timestamp>) -> bool {
        self.group.as_ref().is_some_and(|group| group.would_be_passed(delivery.min_msg_time, now))
    }

    /// `Fresh` holds a claim if there is a journal, for [`written`](Self::written). `InFlight` means that the group that is
    /// not yet recorded has the key: commit it and [ask again](Self::ask_again).
    ///
    /// # Errors
    ///
    /// [`Error::Full`], and [`Error::Journal`] once the journal is not to be trusted any more.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        delivery: &Delivery<'_>,
        now: Option<Timestamp>,
    ) -> Result<Claimed<Option<Claim>>, Error> {
        // A watermark that the journal could not store has moved in memory. The next commit meets the
        // same error, or stores it.
        if let Some(now) = now {
            let _ = self.cache.advance(now);
        }
        if let Time::Known(min_msg_time) = delivery.min_msg_time {
            // A watermark too far ahead is rejected and counted, and stays where it was.
            let _ = self.cache.observe(MinMsgTime::Known(min_msg_time));
        }
        let claimed = self.ask(delivery)?;
        self.sample(&claimed);
        Ok(claimed)
    }

    /// After the open group was committed: the verdict that stands.
    #[cold]
    pub(crate) fn ask_again(&mut self, delivery: &Delivery<'_>) -> Result<Claimed<Option<Claim>>, Error> {
        let clamped = self.cache.stats().clamped_times;
        let claimed = self.ask(delivery);
        self.clamped_again += self.cache.stats().clamped_times - clamped;
        claimed
    }

    /// The line of a claim is on its way out. Whether the group should be committed now.
    #[inline]
    pub(crate) fn written(&mut self, claim: Option<Claim>, delivery: &Delivery<'_>) -> bool {
        match (&mut self.group, claim) {
            (Some(group), Some(claim)) => group.add(claim, delivery.msg_time),
            _ => false,
        }
    }

    /// Lines that were written and are not recorded.
    pub(crate) fn unrecorded(&self) -> usize {
        self.group.as_ref().map_or(0, Group::len)
    }

    /// Records what was written, once that was handed on; says how many lines are not recorded if that fails.
    pub(crate) fn commit(&mut self) -> Result<(), (Error, usize)> {
        match &mut self.group {
            Some(group) => group.commit(&mut self.cache),
            None => Ok(()),
        }
    }

    fn ask(&mut self, delivery: &Delivery<'_>) -> Result<Claimed<Option<Claim>>, Error> {
        let key = delivery.key.as_bytes();
        let Time::Known(msg_time) = delivery.msg_time else {
            return match self.claim(key, None) {
                // No line has told the time yet: then it is now, on the wall.
                Err(Error::NoTime) => self.claim(key, Some(Timestamp::now())),
                claimed => claimed,
            };
        };
        let claimed = self.claim(key, Some(msg_time))?;
        if let Claimed::TooOld = claimed {
            let watermark = self.cache.watermark().map_or(0, Timestamp::as_millis);
            let behind = watermark.saturating_sub(msg_time.as_millis());
            self.peaks.too_old_by_ms = self.peaks.too_old_by_ms.max(behind);
        }
        Ok(claimed)
    }

    /// Without a journal there is nothing between a key and its line that a claim could tell of.
    #[inline]
    fn claim(&mut self, key: &[u8], msg_time: Option<Timestamp>) -> Result<Claimed<Option<Claim>>, Error> {
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
        let claims = self.unrecorded() + usize::from(matches!(claimed, Claimed::Fresh(Some(_))));
        self.peaks.keys_live = self.peaks.keys_live.max(self.cache.len() + claims);
        self.deliveries_to_sample -= 1;
        if self.deliveries_to_sample == 0 {
            self.deliveries_to_sample = DELIVERIES_PER_SAMPLE;
            self.stats();
        }
    }

    pub(crate) fn stats(&mut self) -> Stats {
        let mut stats = self.cache.stats();
        stats.clamped_times -= self.clamped_again;
        self.peaks.memory_bytes = self.peaks.memory_bytes.max(stats.memory_bytes);
        stats
    }

    /// Why a delivery got no verdict, and what to do.
    pub(crate) fn refusal(&self, error: &Error, options: &Options) -> String {
        if !matches!(error, Error::Full { .. }) {
            return error.to_string();
        }
        let keys = self.cache.len() + self.unrecorded();
        let full = format!("the cache is full: {keys} keys are held, as many as --max-keys allows,");
        if self.cache.watermark().is_some() {
            return format!(
                "{full} and none may be forgotten yet. Raise --max-keys; or let the consumer pause until its queue has \
                 moved on; or shorten --max-retry, --max-network or --max-retention if they are longer than the truth"
            );
        }
        let (min_msg_time, now) = (&options.min_msg_time, &options.now);
        let why = if options.limits.max_retention == Retention(None) {
            "--max-retention is none: set it, or name the right field with --min-msg-time".to_owned()
        } else if self.cache.stats().now.is_none() {
            format!(
                "no {now} was, from which --max-retention counts: name the right fields with --min-msg-time or --now"
            )
        } else {
            format!("{now} less --max-retention lies before 1970: is it in milliseconds?")
        };
        format!("{full} and none can ever expire, since no {min_msg_time} was seen and {why}; or raise --max-keys")
    }
}
