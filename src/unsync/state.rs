//! The shard of a cache of one consumer, its clock and its watermark: everything but claims that
//! were dropped, and the journal.

use crate::config::{Checked, Config, WhenFull};
use crate::engine::{Full, Held, IndexHash, IndexHasher, Settings, Shard};
use crate::events::Refusals;
use crate::journal::Cache;
use crate::key::KeyHasher;
use crate::time::ClockCountdown;
use crate::watermark::Progress;
use crate::{Claimed, Error, Fingerprint, Key, Timestamp, Verdict, front};

pub(super) struct State {
    pub(super) shard: Shard,
    pub(super) progress: Progress,
    pub(super) key_hasher: KeyHasher,
    max_keys: usize,
    pub(super) refusals: Refusals,
    countdown: ClockCountdown,
}

impl State {
    pub(super) fn new(config: &Config, Checked { rule, lease }: Checked, key_hasher: KeyHasher) -> Self {
        let settings = Settings {
            hasher: IndexHasher::new(key_hasher.index_key()),
            keys_max: config.max_keys,
            span: rule.span,
            lease,
            evicts: config.when_full == WhenFull::EvictOldest,
        };
        Self {
            shard: Shard::new(&settings, config.max_keys),
            progress: Progress::new(rule, config.clock),
            key_hasher,
            max_keys: config.max_keys,
            refusals: Refusals::default(),
            countdown: ClockCountdown::new(),
        }
    }

    /// After `Full`: reads the clock, as the cache is never called full by a clock that was read
    /// long ago. Returns the time that the delivery counts with now.
    #[cold]
    pub(super) fn insert_once_more(
        &mut self,
        hash: IndexHash,
        key: Fingerprint,
        msg_time: Option<Timestamp>,
    ) -> Result<(Verdict, u64), Error> {
        if !self.has_moved_on() {
            return Err(self.full());
        }
        let time = self.admit(msg_time)?;
        let verdict = self.shard.insert(hash, key, time, self.progress.now()).map_err(|Full| self.full())?;
        Ok((verdict, time))
    }

    /// Answers as many entries as find quota. Returns the entries, their times bounded by the
    /// ceiling if one of them was above it.
    pub(super) fn insert_batch(
        &mut self,
        entries: &[(Fingerprint, Timestamp)],
        verdicts: &mut Vec<Verdict>,
    ) -> Option<Vec<(Fingerprint, Timestamp)>> {
        verdicts.clear();
        verdicts.resize(entries.len(), Verdict::Fresh);
        self.count_calls(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        let latest = entries.iter().fold(0, |latest, (_, time)| time.as_millis().max(latest));
        let clamped = (latest > self.progress.ceiling()).then(|| self.clamp(entries));
        let entries = clamped.as_deref().unwrap_or(entries);
        let mut decided = self.shard.insert_batch(entries, self.progress.now(), |at, verdict| verdicts[at] = verdict);
        if decided < entries.len() && self.has_moved_on() {
            let (rest, verdicts) = (&entries[decided..], &mut verdicts[decided..]);
            decided += self.shard.insert_batch(rest, self.progress.now(), |at, verdict| verdicts[at] = verdict);
        }
        verdicts.truncate(decided);
        clamped
    }

    #[cold]
    fn clamp(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Vec<(Fingerprint, Timestamp)> {
        let mut believed = |time| Timestamp::from_millis(self.progress.admit_known(time));
        let clamped = entries.iter().map(|(key, time)| (*key, believed(*time))).collect();
        self.catch_up();
        clamped
    }

    /// As `insert_once_more`; returns the claim's generation.
    #[cold]
    pub(super) fn claim_once_more(
        &mut self,
        hash: IndexHash,
        key: Fingerprint,
        msg_time: Option<Timestamp>,
    ) -> Result<Claimed<u64>, Error> {
        if !self.has_moved_on() {
            return Err(self.full());
        }
        let time = self.admit(msg_time)?;
        self.shard.claim(hash, key, time, self.progress.now()).map_err(|Full| self.full())
    }

    pub(super) fn remove(&mut self, key: Fingerprint) -> bool {
        self.shard.remove(self.shard.hash(key), key)
    }

    pub(super) fn undo_insert(&mut self, key: Fingerprint) {
        self.shard.undo_insert(self.shard.hash(key), key);
    }

    /// After clock or watermark were changed.
    pub(super) fn catch_up_and_reclaim(&mut self) {
        self.catch_up();
        self.shard.reclaim_some(1);
    }

    #[cold]
    pub(super) fn full(&self) -> Error {
        let full = front::full(self.shard.next_due());
        self.refusals.emit(&full);
        full
    }

    /// Recounts everything from scratch.
    pub(super) fn validate(&self) {
        assert_eq!(self.shard.watermark(), self.progress.watermark());
        assert_eq!(self.shard.validate(), self.max_keys, "keys, claims and quota");
    }

    #[inline(always)]
    pub(super) fn enter(
        &mut self,
        key: impl Key,
        msg_time: Option<Timestamp>,
    ) -> Result<(IndexHash, Fingerprint, u64), Error> {
        self.count_calls(1);
        let time = self.admit(msg_time)?;
        let key = self.key_hasher.fingerprint(key);
        Ok((self.shard.hash(key), key, time))
    }

    /// The time that a delivery counts with.
    #[inline(always)]
    fn admit(&mut self, msg_time: Option<Timestamp>) -> Result<u64, Error> {
        let time = match msg_time {
            Some(time) => self.progress.admit_known(time),
            None => self.progress.admit_unknown()?,
        };
        self.catch_up();
        Ok(time)
    }

    /// Reads the clock; whether that moved the watermark.
    #[cold]
    fn has_moved_on(&mut self) -> bool {
        let before = self.progress.watermark();
        self.progress.read_clock();
        self.catch_up();
        self.progress.watermark() > before
    }

    #[inline(always)]
    fn count_calls(&mut self, calls: u32) {
        // A lease is too short to be timed by a clock that is read rarely.
        if self.countdown.is_due(calls) || self.shard.has_leases() {
            self.progress.read_clock();
            self.catch_up();
        }
    }

    #[inline(always)]
    fn catch_up(&mut self) {
        self.shard.advance(self.progress.watermark());
    }
}

impl Cache for State {
    fn len(&self) -> usize {
        self.shard.len()
    }

    fn held(&self, key: Fingerprint) -> Held {
        self.shard.held(self.shard.hash(key), key)
    }

    fn watermark(&self) -> u64 {
        self.shard.watermark()
    }

    fn evicts(&self) -> bool {
        self.shard.evicts()
    }

    fn advance(&mut self, watermark: u64) {
        self.progress.restore(watermark);
        self.catch_up();
    }

    fn restore(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full> {
        self.shard.restore_batch(entries)
    }

    fn remove(&mut self, key: Fingerprint) {
        self.remove(key);
    }
}
