//! Both fronts of the library behind one trait, with and without a journal.

use oncewheel::journal::Durability;
use oncewheel::{Claimed, Committed, Config, Error, Fingerprint, MinMsgTime, Stats, Timestamp, Verdict, sync, unsync};
use std::path::Path;

/// An event's key.
pub(crate) type Key = [u8; 8];

pub(crate) trait Cache: Sized {
    type Claim;

    /// Keeps a journal in the directory, if there is one.
    fn open(config: Config, dir: Option<&Path>) -> Result<Self, Error>;
    fn claim(&mut self, key: Key, time: Option<Timestamp>) -> Result<Claimed<Self::Claim>, Error>;
    fn commit(&mut self, claim: Self::Claim) -> Result<(), Error>;
    fn commit_batch(&mut self, claims: Vec<Self::Claim>) -> Result<Committed, Error>;
    fn abort(&mut self, claim: Self::Claim);
    fn process_once(
        &mut self,
        key: Key,
        time: Option<Timestamp>,
        handler: impl FnOnce() -> Result<(), ()>,
    ) -> Result<Claimed<Result<(), ()>>, Error>;
    fn insert(&mut self, key: Key, time: Option<Timestamp>) -> Result<Verdict, Error>;
    fn insert_batch(&mut self, entries: &[(Fingerprint, Timestamp)], verdicts: &mut Vec<Verdict>) -> Result<(), Error>;
    fn fingerprint(&self, key: Key) -> Fingerprint;
    fn observe(&mut self, min_msg_time: MinMsgTime) -> Result<(), Error>;
    fn advance(&mut self, now: Timestamp);
    fn watermark(&self) -> u64;
    fn len(&self) -> usize;
    fn stats(&self) -> Stats;
    fn validate(&self);
}

macro_rules! cache {
    ($cache:ty, $claim:ty, $commit:expr, $abort:expr) => {
        impl Cache for $cache {
            type Claim = $claim;

            fn open(config: Config, dir: Option<&Path>) -> Result<Self, Error> {
                match dir {
                    Some(dir) => <$cache>::open(dir, config, Durability::Process),
                    None => Ok(<$cache>::new(config)?),
                }
            }
            fn claim(&mut self, key: Key, time: Option<Timestamp>) -> Result<Claimed<$claim>, Error> {
                <$cache>::claim(self, key, time)
            }
            fn commit(&mut self, claim: $claim) -> Result<(), Error> {
                $commit(self, claim)
            }
            fn commit_batch(&mut self, claims: Vec<$claim>) -> Result<Committed, Error> {
                <$cache>::commit_batch(self, claims)
            }
            fn abort(&mut self, claim: $claim) {
                $abort(self, claim);
            }
            fn process_once(
                &mut self,
                key: Key,
                time: Option<Timestamp>,
                handler: impl FnOnce() -> Result<(), ()>,
            ) -> Result<Claimed<Result<(), ()>>, Error> {
                <$cache>::process_once(self, key, time, handler)
            }
            fn insert(&mut self, key: Key, time: Option<Timestamp>) -> Result<Verdict, Error> {
                <$cache>::insert(self, key, time)
            }
            fn insert_batch(
                &mut self,
                entries: &[(Fingerprint, Timestamp)],
                verdicts: &mut Vec<Verdict>,
            ) -> Result<(), Error> {
                <$cache>::insert_batch(self, entries, verdicts)
            }
            fn fingerprint(&self, key: Key) -> Fingerprint {
                <$cache>::fingerprint(self, key)
            }
            fn observe(&mut self, min_msg_time: MinMsgTime) -> Result<(), Error> {
                <$cache>::observe(self, min_msg_time)
            }
            fn advance(&mut self, now: Timestamp) {
                <$cache>::advance(self, now).expect("a manual clock, and a disk that works");
            }
            fn watermark(&self) -> u64 {
                <$cache>::watermark(self).map_or(0, Timestamp::as_millis)
            }
            fn len(&self) -> usize {
                <$cache>::len(self)
            }
            fn stats(&self) -> Stats {
                <$cache>::stats(self)
            }
            fn validate(&self) {
                <$cache>::validate(self);
            }
        }
    };
}

cache!(unsync::DedupCache, unsync::Claim, unsync::DedupCache::commit, unsync::DedupCache::abort);
cache!(sync::DedupCache, sync::Claim, |_: &mut _, claim: sync::Claim| claim.commit(), |_: &mut _, claim| drop(claim));
