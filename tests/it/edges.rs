//! Time at its limits: years of it, powers of two, the bounds of the wheel's levels, the first and
//! last times.

use crate::fronts::{Front, on_both_fronts};
use oncewheel::{Claimed, Clock, Config, ConfigError, Error, Horizon, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

const DAY: u64 = 86_400_000;
const YEAR: u64 = 365 * DAY;
const T0: u64 = 1_795_302_291_895;

/// A cache. For each key, the watermarks until which it must and may be held.
struct Edge<C> {
    cache: C,
    span: u64,
    watermark: u64,
    keys: BTreeMap<String, (u64, u64)>,
}

impl<C: Front> Edge<C> {
    fn new(span: u64) -> Self {
        let horizon = Horizon::new(Duration::from_millis(span), Duration::ZERO).max_clock_skew(Duration::ZERO);
        let config = Config::new(horizon).clock(Clock::Manual).max_keys(100_000).shards(2);
        Self { cache: C::new(config).unwrap(), span, watermark: 0, keys: BTreeMap::new() }
    }

    /// A new message.
    fn put(&mut self, key: String, time: u64) {
        let verdict = self.cache.insert(&key, Some(time));
        if time < self.watermark {
            assert_eq!(verdict, Ok(Verdict::TooOld), "{key} at {time}, watermark {}", self.watermark);
            return;
        }
        assert_eq!(verdict, Ok(Verdict::Fresh), "{key} at {time}, watermark {}", self.watermark);
        let deadline = time.saturating_add(self.span);
        let life = deadline - self.watermark;
        // Before the first watermark there is no bound.
        let last = if self.watermark == 0 { u64::MAX } else { deadline.saturating_add(life / 64 + 1) };
        self.keys.insert(key, (deadline, last));
    }

    fn follow(&mut self, watermark: u64) {
        self.cache.observe_known(watermark).unwrap();
        self.watermark = self.watermark.max(watermark);
        assert_eq!(self.cache.watermark(), Some(self.watermark));
    }

    /// Every key is held for as long as it must be, and is no longer held than it may be.
    fn check(&mut self) {
        self.cache.validate();
        let (mut must, mut may) = (0, 0);
        for (key, (deadline, last)) in &self.keys {
            may += usize::from(*last >= self.watermark);
            // A copy from before the watermark: if its key has expired, it is too old rather than
            // fresh.
            let verdict = self.cache.insert(key, Some(self.watermark.saturating_sub(1))).unwrap();
            if *deadline >= self.watermark {
                must += 1;
                assert_eq!(verdict, Verdict::Duplicate, "{key}: deadline {deadline}, watermark {}", self.watermark);
            } else if *last < self.watermark {
                assert_eq!(verdict, Verdict::TooOld, "{key}: deadline {deadline}, watermark {}", self.watermark);
            }
        }
        assert!((must..=may).contains(&self.cache.len()), "{} keys of {must} to {may}", self.cache.len());
        let watermark = self.watermark;
        self.keys.retain(|_, (_, last)| *last >= watermark);
    }
}

/// Each power of two, and one less and more.
fn powers_of_two() -> impl Iterator<Item = u64> + Clone {
    (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1]).chain([u64::MAX - 1, u64::MAX])
}

/// Numbers that look random (the finaliser of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

on_both_fronts! {
    fn in_ten_years_of_uptime_each_key_expires_when_the_rule_requires<C: Front>() {
        let mut edge = Edge::<C>::new(3_600_000);
        edge.follow(T0);
        let mut steps = 0;
        while edge.watermark < T0 + 10 * YEAR {
            steps += 1;
            // Steps from a millisecond to a month, every order of magnitude equally often; messages
            // up to a year ahead.
            let order = |random: u64, bits: u64| (1 << (random % bits)) + (random >> 8) % (1 << (random % bits));
            for number in 0..2 {
                let time = edge.watermark + order(mixed(steps * 3 + number), 35);
                edge.put(format!("{steps}/{number}"), time);
            }
            edge.put(format!("{steps}/now"), edge.watermark);
            let now = edge.watermark + order(mixed(steps * 3 + 2), 32);
            edge.cache.advance(now + 2 * YEAR); // no message is clamped
            edge.follow(now);
            edge.check();
        }
        assert!(steps > 500 && edge.cache.stats().expired > 1_000, "{steps} steps");
        assert_eq!(edge.cache.stats().clamped_times, 0);
    }

    fn messages_of_every_power_of_two_of_milliseconds_under_every_such_watermark<C: Front>() {
        for first in [0].into_iter().chain(powers_of_two().filter(|value| *value > 0)).step_by(7) {
            let mut edge = Edge::<C>::new(1_000);
            if first > 0 {
                edge.follow(first);
            }
            for time in powers_of_two().chain([first]) {
                if !edge.keys.contains_key(&time.to_string()) {
                    edge.put(time.to_string(), time);
                }
            }
            edge.check();
            for watermark in powers_of_two().filter(|value| *value > first) {
                edge.follow(watermark);
                edge.check();
            }
        }
    }

    fn horizons_of_every_power_of_two_of_milliseconds<C: Front>() {
        for span in powers_of_two().filter(|span| *span > 0) {
            for start in [1, T0, 1 << 62, u64::MAX - 5] {
                let mut edge = Edge::<C>::new(span);
                edge.follow(start);
                edge.put("key".to_owned(), start);
                edge.put("later".to_owned(), start.saturating_add(span / 2 + 1));
                let (deadline, last) = edge.keys["key"];
                for watermark in [start, deadline - 1, deadline, deadline.saturating_add(1), last.saturating_add(1)] {
                    edge.follow(watermark.max(1));
                    edge.check();
                }
            }
        }
    }

    fn lives_at_every_bound_of_the_wheels_levels<C: Front>() {
        for start in [1, 511, 512, T0, T0 - T0 % (1 << 30), 1 << 62] {
            for level in 0..=18 {
                let mut edge = Edge::<C>::new(1);
                edge.follow(start);
                let mut moments = Vec::new();
                for slots in [1u64, 7, 8, 63, 64, 511, 512, 513, 1023, 1024] {
                    let width = 1u64 << (3 * level);
                    for off in [-1, 0, 1] {
                        let life = slots.saturating_mul(width).saturating_add_signed(off);
                        let time = start.saturating_add(life.max(1) - 1);
                        if !edge.keys.contains_key(&time.to_string()) {
                            edge.put(time.to_string(), time);
                        }
                        let (deadline, last) = edge.keys[&time.to_string()];
                        moments.extend([deadline, deadline.saturating_add(1), last, last.saturating_add(1)]);
                    }
                }
                edge.check();
                moments.sort_unstable();
                for watermark in moments {
                    edge.follow(watermark);
                    edge.check();
                }
            }
        }
    }

    fn a_claim_committed_after_its_deadline_is_held_until_the_next_slot<C: Front>() {
        for late in powers_of_two().filter(|late| *late > 0 && *late < u64::MAX - T0 - 2) {
            let mut edge = Edge::<C>::new(1);
            edge.follow(T0);
            let Ok(Claimed::Fresh(claim)) = edge.cache.claim("late", Some(T0)) else { panic!("never seen") };
            let Ok(Claimed::Fresh(aborted)) = edge.cache.claim("aborted", Some(T0)) else { panic!("never seen") };
            edge.follow(T0 + late);
            edge.put("other".to_owned(), T0 + late);
            edge.cache.commit(claim).unwrap();
            edge.cache.abort(aborted);
            edge.cache.validate();
            assert_eq!(edge.cache.insert("late", Some(T0)), Ok(Verdict::Duplicate), "held until the next slot, {late}");
            assert_eq!(edge.cache.insert("aborted", Some(T0)), Ok(Verdict::TooOld));
            edge.follow(T0 + late + 2);
            edge.check();
            assert_eq!(edge.cache.insert("late", Some(T0)), Ok(Verdict::TooOld));
        }
    }

    fn keys_with_the_last_times_are_held_at_the_last_watermark<C: Front>() {
        let mut edge = Edge::<C>::new(1_000);
        edge.follow(u64::MAX - 2_000);
        for before in (0..2_000).step_by(13) {
            edge.put(before.to_string(), u64::MAX - before);
        }
        for before in (0..2_000).rev().step_by(7) {
            edge.follow(u64::MAX - before);
            edge.check();
        }
        edge.follow(u64::MAX);
        edge.check();
        assert_eq!(edge.cache.insert("last", Some(u64::MAX)), Ok(Verdict::Fresh));
        assert_eq!(edge.cache.insert("last", Some(u64::MAX)), Ok(Verdict::Duplicate));
        assert_eq!(edge.cache.insert("before", Some(u64::MAX - 1)), Ok(Verdict::TooOld));
        edge.cache.advance(u64::MAX);
        assert_eq!(edge.cache.observe_known(u64::MAX), Ok(()));
        edge.cache.validate();
    }

    fn retention_out_of_orderness_and_skew_of_every_power_of_two<C: Front>() {
        let millis = Duration::from_millis;
        for length in powers_of_two() {
            let horizon = Horizon::new(millis(1), Duration::ZERO);
            let shapes = [
                horizon.max_retention(millis(length)).max_clock_skew(Duration::ZERO),
                horizon.max_out_of_orderness(millis(length)).max_retention(Duration::ZERO).max_clock_skew(Duration::ZERO),
                horizon.max_clock_skew(millis(length)),
            ];
            for (which, horizon) in shapes.into_iter().enumerate() {
                let made = C::new(Config::new(horizon).clock(Clock::Manual).max_keys(10));
                let Ok(mut cache) = made else {
                    assert!(length == u64::MAX && matches!(made.err(), Some(Error::Config(ConfigError::HorizonOverflow))), "{length}");
                    continue;
                };
                cache.advance(T0);
                let watermark = T0.saturating_sub(length);
                if which < 2 {
                    assert_eq!(cache.watermark().unwrap_or(0), watermark, "{length}");
                    let before = watermark.checked_sub(1).map(|time| cache.insert("before", Some(time)));
                    assert!(before.is_none_or(|verdict| verdict == Ok(Verdict::TooOld)));
                    assert_eq!(cache.insert("at", Some(watermark)), Ok(Verdict::Fresh));
                } else {
                    let limit = T0.saturating_add(length);
                    assert_eq!(cache.observe_known(limit), Ok(()));
                    assert!(limit.checked_add(1).is_none_or(|beyond| cache.observe_known(beyond).is_err()));
                }
                cache.validate();
            }
        }
    }
}
