//! Rare events for the crate `tracing` (feature `tracing`); without it nothing of this is compiled
//! in.
//!
//! An event is emitted where its cause is met, by a front or the journal, on a path that is slow
//! already. Refusals can come by the million, so each kind of them has a [`Limit`] in each cache.

use crate::Error;
use crate::journal::{self, Recovery};

/// The events of one cache that can come in floods.
#[derive(Default)]
pub(crate) struct Refusals {
    #[cfg(feature = "tracing")]
    full: limit::Limit,
    #[cfg(feature = "tracing")]
    watermarks: limit::Limit,
}

impl Refusals {
    /// Emits what a call was refused with, if it is [`Error::Full`] or [`Error::WatermarkAhead`].
    /// Call it without a lock: a subscriber may ask the cache.
    #[cold]
    pub(crate) fn emit(&self, error: &Error) {
        #[cfg(not(feature = "tracing"))]
        let _ = error;
        #[cfg(feature = "tracing")]
        match error {
            Error::Full { next_expiry } => {
                if let Some(times) = self.full.count() {
                    let next_expiry_ms = next_expiry.map(crate::Timestamp::as_millis);
                    tracing::warn!(target: "oncewheel", next_expiry_ms, times, "{error}");
                }
            }
            Error::WatermarkAhead { watermark, limit } => {
                if let Some(times) = self.watermarks.count() {
                    let (watermark_ms, limit_ms) = (watermark.as_millis(), limit.as_millis());
                    tracing::warn!(
                        target: "oncewheel", watermark_ms, limit_ms, times, "{error}"
                    );
                }
            }
            _ => {}
        }
    }
}

/// One event for a journal that was opened with damage.
pub(crate) fn recovered(recovery: &Recovery) {
    #[cfg(not(feature = "tracing"))]
    let _ = recovery;
    #[cfg(feature = "tracing")]
    if let Some(first) = recovery.damage.first() {
        let (places, keys_restored) = (recovery.damage.len(), recovery.keys_restored);
        let bytes: u64 = recovery.damage.iter().map(|damage| damage.bytes).sum();
        tracing::warn!(
            target: "oncewheel", places, bytes, keys_restored,
            "journal damaged: keys that stood there are fresh again, see `recovery()`; the first: {first}"
        );
    }
}

/// One event for a journal: poisoned, it stays so.
#[cold]
pub(crate) fn poisoned(error: &journal::Error) {
    #[cfg(not(feature = "tracing"))]
    let _ = error;
    #[cfg(feature = "tracing")]
    tracing::error!(target: "oncewheel", path = %error.path().display(), "{error}");
}

#[cfg(feature = "tracing")]
mod limit {
    use crate::locks::Mutex;
    use std::time::{Duration, Instant};

    const INTERVAL: Duration = Duration::from_secs(10);

    /// Lets one of a flood through, then none for ten seconds.
    #[derive(Default)]
    pub(super) struct Limit {
        state: Mutex<State>,
    }

    #[derive(Default)]
    struct State {
        emitted_at: Option<Instant>,
        /// Since then.
        held_back: u64,
    }

    impl Limit {
        /// Counts an occurrence. If an event is due: how many it stands for.
        pub(super) fn count(&self) -> Option<u64> {
            self.count_at(Instant::now())
        }

        pub(super) fn count_at(&self, now: Instant) -> Option<u64> {
            let mut state = self.state.lock();
            state.held_back += 1;
            let is_due = state.emitted_at.is_none_or(|before| now.saturating_duration_since(before) >= INTERVAL);
            is_due.then(|| {
                state.emitted_at = Some(now);
                std::mem::take(&mut state.held_back)
            })
        }
    }
}

#[cfg(test)]
#[cfg(feature = "tracing")]
mod tests {
    use super::limit::Limit;
    use crate::journal::Durability;
    use crate::testing::disk::{Disk, Fault, Simulated};
    use crate::{Clock, Config, Error, Horizon, MinMsgTime, Timestamp, sync, unsync};
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use tracing::field::{Field, Visit};
    use tracing::span;

    /// Keeps each event as a line: its level, and its fields in order.
    #[derive(Clone, Default)]
    struct Collector {
        lines: Arc<Mutex<Vec<String>>>,
        /// Is asked during each event.
        cache: Option<sync::DedupCache>,
    }

    impl tracing::Subscriber for Collector {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.target() == "oncewheel"
        }
        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.lines.lock().unwrap().push(line.0);
            let _ = self.cache.as_ref().map(sync::DedupCache::stats);
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0 += &format!(" {field}={value:?}");
        }
    }

    fn emitted(call: impl FnOnce()) -> Vec<String> {
        emitted_by(None, call)
    }

    fn emitted_by(cache: Option<&sync::DedupCache>, call: impl FnOnce()) -> Vec<String> {
        let collector = Collector { cache: cache.cloned(), ..Collector::default() };
        tracing::subscriber::with_default(collector.clone(), call);
        std::mem::take(&mut *collector.lines.lock().unwrap())
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn config() -> Config {
        Config::new(Horizon::new(Duration::from_secs(1), Duration::from_secs(1))).clock(Clock::Manual)
    }

    fn assert_one(events: &[String], level: &str, fields: &[&str]) {
        let [event] = events else { panic!("one event: {events:?}") };
        assert!(event.starts_with(level), "{event}");
        fields.iter().for_each(|field| assert!(event.contains(field), "{field} in {event}"));
    }

    #[test]
    fn of_a_flood_one_is_emitted_each_ten_seconds_and_tells_how_many_there_were() {
        let (limit, start) = (Limit::default(), Instant::now());
        let count_at = |ms| limit.count_at(start + Duration::from_millis(ms));
        assert_eq!([0, 1, 9_999].map(count_at), [Some(1), None, None]);
        assert_eq!([10_000, 10_001, 30_000].map(count_at), [Some(3), None, Some(2)]);
    }

    #[test]
    fn a_full_cache_emits_one_event_however_often_it_refuses() {
        let fields = ["the cache is full", " times=1", " next_expiry_ms=3"];
        let batch =
            |fingerprint: &dyn Fn(&str) -> crate::Fingerprint| ["b", "c"].map(|key| (fingerprint(key), at(1_000)));

        let cache = sync::DedupCache::new(config().max_keys(1)).unwrap();
        let _ = cache.insert("a", at(1_000)).unwrap();
        let refuse = || {
            assert!(matches!(cache.insert("b", at(1_000)), Err(Error::Full { .. })));
            assert!(matches!(cache.claim("b", at(1_000)), Err(Error::Full { .. })));
            cache.insert_batch(&batch(&|key| cache.fingerprint(key)), &mut Vec::new()).unwrap_err();
        };
        assert_one(&emitted_by(Some(&cache), refuse), "WARN", &fields);
        assert_eq!(emitted(|| drop(cache.insert("a", at(1_000)))), [""; 0], "a duplicate");

        let mut cache = unsync::DedupCache::new(config().max_keys(1)).unwrap();
        let _ = cache.insert("a", at(1_000)).unwrap();
        let batch = batch(&|key| cache.fingerprint(key));
        let refuse = || {
            assert!(matches!(cache.insert("b", at(1_000)), Err(Error::Full { .. })));
            assert!(matches!(cache.claim("b", at(1_000)), Err(Error::Full { .. })));
            cache.insert_batch(&batch, &mut Vec::new()).unwrap_err();
        };
        assert_one(&emitted(refuse), "WARN", &fields);
    }

    #[test]
    fn each_cache_has_floods_of_its_own() {
        let refuse = || {
            for _ in 0..2 {
                let cache = sync::DedupCache::new(config().max_keys(1)).unwrap();
                let _ = cache.insert("a", at(1_000)).unwrap();
                cache.insert("b", at(1_000)).unwrap_err();
            }
        };
        assert_eq!(emitted(refuse).len(), 2);
    }

    #[test]
    fn a_rejected_watermark_emits_one_event_however_often_it_comes() {
        let fields = ["was rejected", " times=1", " watermark_ms=900000000", " limit_ms="];
        let far = MinMsgTime::Known(at(900_000_000));
        let cache = sync::DedupCache::new(config()).unwrap();
        cache.advance(at(1_000)).unwrap();
        let reject = || {
            assert!(matches!(cache.observe(far), Err(Error::WatermarkAhead { .. })));
            assert!(matches!(cache.observe(far), Err(Error::WatermarkAhead { .. })));
            cache.observe(MinMsgTime::Known(at(1_000))).unwrap();
        };
        assert_one(&emitted_by(Some(&cache), reject), "WARN", &fields);

        let mut cache = unsync::DedupCache::new(config()).unwrap();
        cache.advance(at(1_000)).unwrap();
        let reject = || {
            assert!(matches!(cache.observe(far), Err(Error::WatermarkAhead { .. })));
            assert!(matches!(cache.observe(far), Err(Error::WatermarkAhead { .. })));
        };
        assert_one(&emitted(reject), "WARN", &fields);
    }

    #[test]
    fn damage_that_recovery_finds_is_one_event() {
        let simulated = Simulated::on(Disk::default());
        let open = |simulated: &Simulated| {
            sync::DedupCache::open_in(|| Ok(simulated.boxed()), config(), Durability::Process.into()).unwrap()
        };
        let cache = open(&simulated);
        for key in ["a", "b", "c"] {
            let _ = cache.insert(key, at(1_000)).unwrap();
        }
        drop(cache);
        let mut files = simulated.disk().contents();
        let sound = Simulated::on(Disk::of(files.clone()));
        assert_eq!(emitted(|| drop(open(&sound))), [""; 0]);
        let (_, bytes) = files.iter_mut().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let damaged = Simulated::on(Disk::of(files));
        let fields = ["journal damaged: ", " places=1", " keys_restored=2", " bytes="];
        assert_one(&emitted(|| drop(open(&damaged))), "WARN", &fields);
    }

    #[test]
    fn a_journal_that_is_poisoned_is_one_event() {
        let simulated = Simulated::on(Disk::default());
        let cache = sync::DedupCache::open_in(|| Ok(simulated.boxed()), config(), Durability::Power.into()).unwrap();
        let _ = cache.insert("a", at(1_000)).unwrap();
        simulated.fail(simulated.calls()..usize::MAX, Fault::Error(std::io::ErrorKind::Other));
        let poison = || {
            cache.insert("b", at(1_000)).unwrap_err();
            cache.insert("c", at(1_000)).unwrap_err();
        };
        assert_one(&emitted_by(Some(&cache), poison), "ERROR", &["the journal is poisoned", " path="]);
    }
}
