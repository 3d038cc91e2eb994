//! The cache and its clock, fed with deliveries.

use crate::args::{Options, Retention};
use crate::delivery::{Delivery, Time};
use oncewheel::unsync::DedupCache;
use oncewheel::{Clock, Config, Error, MinMsgTime, Stats, Timestamp, Verdict};

/// Deliveries between two looks at the memory, which take microseconds each.
const DELIVERIES_PER_SAMPLE: u32 = 4096;

pub(crate) struct Judge {
    config: Config,
    cache: DedupCache,
    has_begun: bool,
    deliveries_to_sample: u32,
    pub(crate) peaks: Peaks,
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
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let config = config.clock(Clock::Manual);
        let cache = DedupCache::new(config.clone())?;
        Ok(Self { config, cache, has_begun: false, deliveries_to_sample: 1, peaks: Peaks::default() })
    }

    /// # Errors
    ///
    /// [`Error::Full`]
    #[inline]
    pub(crate) fn judge(&mut self, delivery: &Delivery<'_>) -> Result<Verdict, Error> {
        if !self.has_begun {
            self.begin(delivery)?;
        }
        if let Time::Known(now) = delivery.now {
            self.cache.advance(now);
        }
        if let Time::Known(min_msg_time) = delivery.min_msg_time {
            // Refused if it is too far ahead: the cache counts that, and the watermark stays where it was.
            let _ = self.cache.observe(MinMsgTime::Known(min_msg_time));
        }
        let verdict = self.insert(delivery)?;
        self.sample();
        Ok(verdict)
    }

    /// Chooses the clock: the wall's, if the first delivery knows nothing of time.
    fn begin(&mut self, first: &Delivery<'_>) -> Result<(), Error> {
        if !first.has_time_fields() {
            self.config.clock = Clock::System;
            self.cache = DedupCache::new(self.config.clone())?;
        }
        self.has_begun = true;
        Ok(())
    }

    fn insert(&mut self, delivery: &Delivery<'_>) -> Result<Verdict, Error> {
        let key = delivery.key.as_bytes();
        let Time::Known(msg_time) = delivery.msg_time else {
            return match self.cache.insert(key, None) {
                // No line has told the time yet: then it is now, on the wall.
                Err(Error::NoTime) => self.cache.insert(key, Timestamp::now()),
                verdict => verdict,
            };
        };
        let verdict = self.cache.insert(key, msg_time)?;
        if verdict == Verdict::TooOld {
            let watermark = self.cache.watermark().map_or(0, Timestamp::as_millis);
            let behind = watermark.saturating_sub(msg_time.as_millis());
            self.peaks.too_old_by_ms = self.peaks.too_old_by_ms.max(behind);
        }
        Ok(verdict)
    }

    fn sample(&mut self) {
        self.peaks.keys_live = self.peaks.keys_live.max(self.cache.len());
        self.deliveries_to_sample -= 1;
        if self.deliveries_to_sample == 0 {
            self.deliveries_to_sample = DELIVERIES_PER_SAMPLE;
            self.stats();
        }
    }

    pub(crate) fn stats(&mut self) -> Stats {
        let stats = self.cache.stats();
        self.peaks.memory_bytes = self.peaks.memory_bytes.max(stats.memory_bytes);
        stats
    }

    /// Why a delivery got no verdict, and what to do.
    pub(crate) fn refusal(&self, error: &Error, options: &Options) -> String {
        if *error != Error::Full {
            return error.to_string();
        }
        let full = format!("the cache is full: {} keys are held, as many as --max-keys allows,", self.cache.len());
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
