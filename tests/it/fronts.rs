//! Both fronts behind one trait, so that every promise is tested on each.

use oncewheel::{Claimed, Committed, Config, Error, Fingerprint, MinMsgTime, Stats, Timestamp, Verdict, sync, unsync};

pub(crate) trait Front: Sized {
    type Claim;

    fn new(config: Config) -> Result<Self, Error>;
    fn insert(&mut self, key: &str, time: Option<u64>) -> Result<Verdict, Error>;
    fn insert_batch(&mut self, entries: &[(Fingerprint, Timestamp)], verdicts: &mut Vec<Verdict>) -> Result<(), Error>;
    fn claim(&mut self, key: &str, time: Option<u64>) -> Result<Claimed<Self::Claim>, Error>;
    fn commit(&mut self, claim: Self::Claim) -> Result<(), Error>;
    fn abort(&mut self, claim: Self::Claim);
    fn commit_batch(&mut self, claims: Vec<Self::Claim>) -> Result<Committed, Error>;
    fn process_once(
        &mut self,
        key: &str,
        time: u64,
        handler: impl FnOnce() -> Result<(), ()>,
    ) -> Result<Claimed<Result<(), ()>>, Error>;
    fn remove(&mut self, key: &str) -> bool;
    fn observe(&mut self, min_msg_time: MinMsgTime) -> Result<(), Error>;
    fn try_advance(&mut self, now: u64) -> Result<(), Error>;
    fn maintain(&mut self);
    fn watermark(&self) -> Option<u64>;
    fn fingerprint(&self, key: &str) -> Fingerprint;
    fn len(&self) -> usize;
    fn shrink(&mut self) -> bool;
    fn stats(&self) -> Stats;
    fn validate(&self);

    fn advance(&mut self, now: u64) {
        self.try_advance(now).expect("a manual clock");
    }

    fn observe_known(&mut self, time: u64) -> Result<(), Error> {
        self.observe(MinMsgTime::Known(Timestamp::from_millis(time)))
    }
}

macro_rules! front {
    ($cache:ty, $claim:ty, $commit:expr, $abort:expr) => {
        impl Front for $cache {
            type Claim = $claim;

            fn new(config: Config) -> Result<Self, Error> {
                Ok(<$cache>::new(config)?)
            }
            fn insert(&mut self, key: &str, time: Option<u64>) -> Result<Verdict, Error> {
                <$cache>::insert(self, key, time.map(Timestamp::from_millis))
            }
            fn insert_batch(
                &mut self,
                entries: &[(Fingerprint, Timestamp)],
                verdicts: &mut Vec<Verdict>,
            ) -> Result<(), Error> {
                <$cache>::insert_batch(self, entries, verdicts)
            }
            fn claim(&mut self, key: &str, time: Option<u64>) -> Result<Claimed<$claim>, Error> {
                <$cache>::claim(self, key, time.map(Timestamp::from_millis))
            }
            fn commit(&mut self, claim: $claim) -> Result<(), Error> {
                $commit(self, claim)
            }
            fn abort(&mut self, claim: $claim) {
                $abort(self, claim)
            }
            fn commit_batch(&mut self, claims: Vec<$claim>) -> Result<Committed, Error> {
                <$cache>::commit_batch(self, claims)
            }
            fn process_once(
                &mut self,
                key: &str,
                time: u64,
                handler: impl FnOnce() -> Result<(), ()>,
            ) -> Result<Claimed<Result<(), ()>>, Error> {
                <$cache>::process_once(self, key, Timestamp::from_millis(time), handler)
            }
            fn remove(&mut self, key: &str) -> bool {
                <$cache>::remove(self, key).expect("no journal that could fail")
            }
            fn observe(&mut self, min_msg_time: MinMsgTime) -> Result<(), Error> {
                <$cache>::observe(self, min_msg_time)
            }
            fn try_advance(&mut self, now: u64) -> Result<(), Error> {
                <$cache>::advance(self, Timestamp::from_millis(now))
            }
            fn maintain(&mut self) {
                <$cache>::maintain(self).expect("no journal that could fail");
            }
            fn watermark(&self) -> Option<u64> {
                <$cache>::watermark(self).map(Timestamp::as_millis)
            }
            fn fingerprint(&self, key: &str) -> Fingerprint {
                <$cache>::fingerprint(self, key)
            }
            fn len(&self) -> usize {
                <$cache>::len(self)
            }
            fn shrink(&mut self) -> bool {
                <$cache>::shrink(self)
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

front!(unsync::DedupCache, unsync::Claim, unsync::DedupCache::commit, unsync::DedupCache::abort);
front!(
    sync::DedupCache,
    sync::Claim,
    |_: &mut sync::DedupCache, claim: sync::Claim| claim.commit(),
    |_: &mut sync::DedupCache, claim: sync::Claim| claim.abort()
);

/// Makes one test of a promise into two, one for each front.
macro_rules! on_both_fronts {
    ($($(#[$attribute:meta])* fn $name:ident<$front:ident: Front>() $body:block)*) => {
        $(
            mod $name {
                use super::*;

                $(#[$attribute])*
                fn promise<$front: Front>() $body

                #[test]
                fn unsync() {
                    promise::<oncewheel::unsync::DedupCache>();
                }

                #[test]
                fn sync() {
                    promise::<oncewheel::sync::DedupCache>();
                }
            }
        )*
    };
}
pub(crate) use on_both_fronts;
