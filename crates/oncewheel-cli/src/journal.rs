//! The journal's directory, and the group of lines that is committed to it next.

use crate::args::{JournalOptions, Options, Outlasts, Retention};
use crate::progress::OpeningBar;
use oncewheel::journal::{Durability, OpenMode, OpenOptions};
use oncewheel::unsync::{Claim, DedupCache};
use oncewheel::{Config, Error, Timestamp};
use std::path::Path;
use std::time::Duration;

pub(crate) fn open(dir: &Path, config: Config, options: &JournalOptions) -> Result<DedupCache, Error> {
    let durability = match options.durability {
        Outlasts::Process => Durability::Process,
        Outlasts::Power => Durability::Power,
    };
    let mode = if options.strict { OpenMode::Strict } else { OpenMode::Recover };
    let mut bar = OpeningBar::new();
    let open_options =
        OpenOptions::new().durability(durability).mode(mode).on_progress(|progress| bar.update(&progress));
    let opened = DedupCache::open(dir, config, open_options);
    bar.finish();
    opened
}

/// Claims of lines that were written. They are committed together once the lines are flushed:
/// effect, then commit.
pub(crate) struct Group {
    claims: Vec<Claim>,
    claims_max: usize,
    /// In milliseconds; the greatest if none is known
    oldest_msg_time: u64,
    retention: Option<Duration>,
    out_of_orderness: Duration,
}

impl Group {
    pub(crate) fn new(options: &Options) -> Self {
        let Retention(retention) = options.limits.max_retention;
        Self {
            claims: Vec::new(),
            claims_max: options.journal.commit_every as usize,
            oldest_msg_time: u64::MAX,
            retention,
            out_of_orderness: options.limits.max_out_of_orderness,
        }
    }

    /// Whether it is full now.
    pub(crate) fn add(&mut self, claim: Claim, msg_time: Timestamp) -> bool {
        self.oldest_msg_time = self.oldest_msg_time.min(msg_time.as_millis());
        self.claims.push(claim);
        self.claims.len() >= self.claims_max
    }

    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Whether a watermark from these times would pass a line of the group. Such lines must be
    /// committed first: the watermark outlives a crash, and they would be too old for the run after
    /// it. It errs towards `true`, since a part of a millisecond may lie between this and the rule.
    pub(crate) fn would_be_passed(&self, min_msg_time: Option<Timestamp>, now: Option<Timestamp>) -> bool {
        let less = |time: u64, durations: Duration| {
            time.saturating_sub(u64::try_from(durations.as_millis()).unwrap_or(u64::MAX))
        };
        let observed = min_msg_time.map_or(0, |time| less(time.as_millis(), self.out_of_orderness));
        let kept = match (now, self.retention) {
            (Some(now), Some(retention)) => less(less(now.as_millis(), retention), self.out_of_orderness),
            _ => 0,
        };
        observed.max(kept) > self.oldest_msg_time
    }

    /// Returns how many are not committed if that fails. (None is lost otherwise: there is no
    /// lease.)
    pub(crate) fn commit(&mut self, cache: &mut DedupCache) -> Result<(), (Error, usize)> {
        let lines = self.claims.len();
        self.oldest_msg_time = u64::MAX;
        let committed = cache.commit_batch(self.claims.drain(..)).and_then(|committed| committed.all());
        committed.map_err(|error| (error, lines))
    }
}
