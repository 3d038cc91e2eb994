//! The one rule: when a key expires, the watermark, and times that are not believed.

use crate::fronts::{Front, on_both_fronts};
use oncewheel::{Clock, Config, ConfigError, Error, Horizon, MinMsgTime, Timestamp, Verdict};
use std::time::Duration;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// A time of our days, not at any round number of milliseconds.
const T0: u64 = 1_795_302_291_895;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn manual(horizon: Horizon) -> Config {
    Config::new(horizon).clock(Clock::Manual).max_keys(1000)
}

/// The value at which the key in the cache expires: the first one from `from` on for which, after
/// `moved(value)`, no key is held.
fn expired_at<C: Front>(cache: &mut C, from: u64, mut moved: impl FnMut(&mut C, u64)) -> u64 {
    let mut step = 1;
    let mut at = from;
    while cache.len() > 0 {
        at += step;
        moved(cache, at);
        step = 1.max((at - from) / 4096);
    }
    at
}

on_both_fronts! {
    /// The reading of the clock may be old by then.
    fn a_watermark_is_not_refused_because_of_an_old_reading_of_the_clock<C: Front>() {
        let horizon = Horizon::new(ms(1_000), ms(0)).max_clock_skew(ms(0));
        let mut cache = C::new(Config::new(horizon)).unwrap();
        assert_eq!(cache.insert("key", None), Ok(Verdict::Fresh));
        for _ in 0..3 {
            std::thread::sleep(ms(30));
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(cache.observe_known(now.as_millis() as u64 - 5), Ok(())); // clocks may round differently
        }
        assert_eq!((cache.stats().rejected_watermarks, cache.stats().watermark_regressions), (0, 0));
    }

    fn the_same_watermark_again_is_no_step_back<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(100), ms(0)))).unwrap();
        for (observed, steps_back) in [(T0, 0), (T0, 0), (T0 - 1, 1), (T0, 1), (T0 - 1, 2), (T0 + 1, 2)] {
            cache.observe_known(observed).unwrap();
            assert_eq!(cache.stats().watermark_regressions, steps_back);
        }
    }

    /// `current_time + max_retention + max_retry + max_network`, with no `min_msg_time` and a
    /// message whose time is unknown.
    fn the_first_formula_states_when_a_key_expires<C: Front>() {
        for (retry, network, retention) in [(300, 50, 100), (600_000, 30_000, 15 * DAY), (0, 1, 0), (8 * HOUR, 5, HOUR)] {
            let horizon = Horizon::new(ms(retry), ms(network)).max_retention(ms(retention));
            let mut cache = C::new(manual(horizon)).unwrap();
            cache.advance(T0);
            assert_eq!(cache.insert("key", None), Ok(Verdict::Fresh));

            let formula = T0 + retention + retry + network;
            cache.advance(formula);
            assert_eq!(cache.len(), 1, "held until the formula's time, that included");
            let life = retention + retry + network;
            let at = expired_at(&mut cache, formula, |cache, now| cache.advance(now));
            assert!(at <= formula + 1 + life / 64 + life / 4096, "expired {} ms late", at - formula - 1);
            if life < 512 {
                assert_eq!(at, formula + 1, "a short life is exact");
            }
        }
    }

    /// `min_msg_time + max_retry + max_network`, in a FIFO queue that hands out its oldest message.
    fn the_second_formula_states_when_a_key_expires<C: Front>() {
        for (retry, network) in [(400, 50), (600_000, 30_000), (0, 1), (30 * DAY, 1)] {
            let mut cache = C::new(manual(Horizon::new(ms(retry), ms(network)))).unwrap();
            cache.observe_known(T0).unwrap();
            assert_eq!(cache.insert("key", Some(T0)), Ok(Verdict::Fresh));

            let formula = T0 + retry + network;
            cache.observe_known(formula).unwrap();
            assert_eq!(cache.len(), 1, "held until the formula's time, that included");
            let at = expired_at(&mut cache, formula, |cache, time| cache.observe_known(time).unwrap());
            let life = retry + network;
            assert!(at <= formula + 1 + life / 64 + life / 4096, "expired {} ms late", at - formula - 1);
        }
    }

    fn a_key_is_held_at_most_a_64th_of_its_life_too_long_at_every_scale<C: Front>() {
        for bits in 0..50 {
            for life in [1u64 << bits, (1 << bits) + 1, (1 << bits) * 511 / 512 + 1] {
                let mut cache = C::new(manual(Horizon::new(ms(life), Duration::ZERO))).unwrap();
                cache.observe_known(T0).unwrap();
                assert_eq!(cache.insert("key", Some(T0)), Ok(Verdict::Fresh));
                // Keys inserted and expired before must not make a later one stay longer.
                cache.observe_known(T0 + 3 * life).unwrap();
                assert_eq!(cache.len(), 0);
                assert_eq!(cache.insert("other", Some(T0 + 4 * life)), Ok(Verdict::Fresh));
                cache.observe_known(T0 + 5 * life).unwrap();
                assert_eq!(cache.len(), 1, "held until its deadline: life {life}");
                cache.observe_known(T0 + 5 * life + 2 * life / 64 + 1).unwrap();
                assert_eq!(cache.len(), 0, "held too long: life {life}");
                cache.validate();
            }
        }
    }

    fn keys_from_before_the_first_watermark_do_not_make_later_ones_stay_longer<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(3_780_000), Duration::ZERO))).unwrap();
        assert_eq!(cache.insert("a day ahead", Some(T0 + DAY)), Ok(Verdict::Fresh));
        cache.observe_known(T0).unwrap();
        assert_eq!(cache.insert("key", Some(T0)), Ok(Verdict::Fresh));
        cache.observe_known(T0 + 3_780_000).unwrap();
        assert_eq!(cache.len(), 2);
        cache.observe_known(T0 + 3_780_000 + 3_780_000 / 64 + 1).unwrap();
        assert_eq!(cache.len(), 1);
        cache.validate();
    }

    fn in_a_backlog_longer_than_the_horizon_no_key_expires_early<C: Front>() {
        let horizon = Horizon::new(ms(60_000), ms(5_000)).max_retention(ms(15 * DAY));
        let mut cache = C::new(manual(horizon)).unwrap();
        cache.advance(T0);
        cache.observe_known(T0 - 1000).unwrap();
        assert_eq!(cache.insert("key", Some(T0 - 1000)), Ok(Verdict::Fresh));
        // The consumer is down for nine hours. The second copy waits behind a backlog.
        cache.advance(T0 + 9 * HOUR);
        cache.observe_known(T0 - 500).unwrap();
        assert_eq!(cache.insert("key", Some(T0 + 20_000)), Ok(Verdict::Duplicate));
        cache.observe(MinMsgTime::Empty { observed_at: Timestamp::from_millis(T0 + 9 * HOUR) }).unwrap();
        assert_eq!(cache.len(), 0, "an empty queue has no second copy left");
    }

    fn a_message_below_the_watermark_is_too_old_and_one_at_it_is_not<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(1000), ms(0)))).unwrap();
        cache.observe_known(T0).unwrap();
        assert_eq!(cache.insert("a", Some(T0 - 1)), Ok(Verdict::TooOld));
        assert_eq!(cache.insert("a", Some(T0)), Ok(Verdict::Fresh));
        assert_eq!(cache.insert("a", Some(T0 - 1)), Ok(Verdict::Duplicate), "known is known");
    }

    fn unknown_changes_nothing_and_a_step_back_is_ignored_and_counted<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(1000), ms(0)))).unwrap();
        for unknown in [MinMsgTime::Unknown, MinMsgTime::Known(Timestamp::from_millis(0))] {
            cache.observe(unknown).unwrap();
            assert_eq!(cache.watermark(), None);
        }
        cache.observe_known(T0).unwrap();
        cache.observe_known(T0 - 1).unwrap();
        cache.observe(MinMsgTime::Unknown).unwrap();
        assert_eq!(cache.watermark(), Some(T0));
        assert_eq!(cache.stats().watermark_regressions, 1);
    }

    fn a_watermark_beyond_the_clock_skew_is_refused_and_changes_nothing<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(1000), ms(0)).max_clock_skew(ms(5000)))).unwrap();
        let _ = cache.insert("key", Some(T0)).unwrap();
        cache.advance(T0);
        let nanoseconds = T0 * 1_000_000;
        for wrong in [T0 + 5001, nanoseconds, u64::MAX] {
            let refused = Error::WatermarkAhead {
                watermark: Timestamp::from_millis(wrong),
                limit: Timestamp::from_millis(T0 + 5000),
            };
            assert_eq!(cache.observe_known(wrong), Err(refused));
        }
        assert_eq!((cache.watermark(), cache.len(), cache.stats().rejected_watermarks), (None, 1, 3));
        assert_eq!(cache.observe_known(T0 + 5000), Ok(()));
        assert_eq!(cache.watermark(), Some(T0 + 5000));
    }

    fn a_message_from_the_future_is_clamped_and_counted_and_does_not_pin_memory<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(1000), ms(0)).max_clock_skew(ms(5000)))).unwrap();
        cache.advance(T0);
        let batch = [(cache.fingerprint("batched"), Timestamp::from_millis(u64::MAX))];
        assert_eq!(cache.insert("single", Some(T0 * 1000)), Ok(Verdict::Fresh));
        cache.insert_batch(&batch, &mut Vec::new()).unwrap();
        assert_eq!(cache.insert("skewed", Some(T0 + 5000)), Ok(Verdict::Fresh));
        assert_eq!((cache.len(), cache.stats().clamped_times), (3, 2));
        cache.advance(T0 + DAY);
        cache.observe_known(T0 + 5000 + 1000 + 1000).unwrap();
        assert_eq!(cache.len(), 0);
    }

    fn at_the_first_and_last_times_nothing_panics_or_expires_early<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(1000), ms(0)))).unwrap();
        let ends = [0, 1, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
        for (number, time) in ends.into_iter().enumerate() {
            assert_eq!(cache.insert(&number.to_string(), Some(time)), Ok(Verdict::Fresh), "{time}");
        }
        for (number, time) in ends.into_iter().enumerate() {
            cache.advance(time);
            cache.observe_known(time).unwrap();
            cache.validate();
            for (held, _) in ends.into_iter().enumerate().filter(|(held, of)| *held >= number && *of >= time) {
                assert_eq!(cache.insert(&held.to_string(), Some(time)), Ok(Verdict::Duplicate), "{held} at {time}");
            }
        }
    }

    fn duplicates_later_than_the_horizon_are_counted_when_the_queue_was_behind<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(4000), ms(1000)))).unwrap();
        cache.observe_known(T0).unwrap();
        let _ = cache.insert("key", Some(T0)).unwrap();
        assert_eq!(cache.insert("key", Some(T0 + 5000)), Ok(Verdict::Duplicate));
        assert_eq!(cache.stats().late_duplicates, 0, "within the horizon");
        assert_eq!(cache.insert("key", Some(T0 + 31_467)), Ok(Verdict::Duplicate));
        let stats = cache.stats();
        assert_eq!(stats.late_duplicates, 1);
        let oldest = stats.duplicate_ages.max().unwrap();
        assert!((ms(31_467)..ms(31_467 + 5000 / 64 + 1)).contains(&oldest), "{oldest:?}");
        assert_eq!(stats.duplicate_ages.count(), 2);
        assert_eq!(cache.insert("other", Some(T0 + 50_000)), Ok(Verdict::Fresh));
        assert_eq!(cache.insert("other", Some(T0 + 1)), Ok(Verdict::Duplicate));
        assert_eq!(cache.stats().late_duplicates, 2, "too early is too far apart as well");
    }

    fn the_system_clock_gives_times_and_moves_the_watermark<C: Front>() {
        let horizon = Horizon::new(ms(1), ms(0)).max_retention(ms(500));
        let mut cache = C::new(Config::new(horizon).max_keys(10)).unwrap();
        let before = Timestamp::now().as_millis();
        assert_eq!(cache.insert("key", None), Ok(Verdict::Fresh));
        assert!(cache.watermark().unwrap() + 500 >= before - 1);
        cache.maintain();
        assert_eq!(cache.len(), 1);
        std::thread::sleep(ms(800));
        cache.maintain();
        assert_eq!(cache.len(), 0);
        assert_eq!(cache.insert("key", Some(before)), Ok(Verdict::TooOld));
    }

    fn a_message_of_unknown_time_is_never_too_old<C: Front>() {
        let mut cache = C::new(Config::new(Horizon::new(ms(1000), ms(0))).max_keys(10_000)).unwrap();
        for number in 0..1000 {
            let broker_is_ahead = Timestamp::from_millis(Timestamp::now().as_millis() + 5_000 * (number % 2));
            cache.observe(MinMsgTime::Empty { observed_at: broker_is_ahead }).unwrap();
            assert_eq!(cache.insert(&number.to_string(), None), Ok(Verdict::Fresh));
        }
    }

    fn the_state_is_sound_after_a_refusal<C: Front>() {
        let mut cache = C::new(Config::new(Horizon::new(ms(1), ms(0)).max_retention(ms(1))).max_keys(10)).unwrap();
        for _ in 0..20 {
            std::thread::sleep(ms(1));
            assert!(cache.observe_known(u64::MAX).is_err());
            cache.validate();
        }
    }

    fn the_watermark_lag_grows_while_no_call_is_made<C: Front>() {
        let mut cache = C::new(Config::new(Horizon::new(ms(1), ms(0))).max_keys(10)).unwrap();
        cache.observe_known(Timestamp::now().as_millis()).unwrap();
        std::thread::sleep(ms(30));
        assert!(cache.stats().watermark_lag.unwrap() >= ms(29));
    }

    fn many_calls_alone_move_the_watermark_under_the_system_clock<C: Front>() {
        let horizon = Horizon::new(ms(1), ms(0)).max_retention(ms(1));
        let mut cache = C::new(Config::new(horizon).max_keys(100_000).shards(1)).unwrap();
        let _ = cache.insert("key", None).unwrap();
        std::thread::sleep(ms(30));
        let now = Timestamp::now().as_millis();
        for number in 0..400 {
            let _ = cache.insert(&number.to_string(), Some(now + 1000)).unwrap();
        }
        assert!(cache.watermark().unwrap() >= now - 10, "whole milliseconds are lost in between");
        assert_eq!(cache.stats().expired, 1);
    }

    fn without_any_time_a_key_is_refused_with_an_error_of_its_own<C: Front>() {
        let mut cache = C::new(manual(Horizon::new(ms(1), ms(0)))).unwrap();
        assert_eq!(cache.insert("key", None), Err(Error::NoTime));
        assert!(matches!(cache.claim("key", None), Err(Error::NoTime)));
        cache.advance(T0);
        assert_eq!(cache.insert("key", None), Ok(Verdict::Fresh));
    }

    fn an_impossible_configuration_is_refused_with_its_own_error<C: Front>() {
        let horizon = Horizon::new(ms(1), ms(0));
        let error = |config: Config| match C::new(config).err() {
            Some(Error::Config(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(error(Config::new(horizon).max_keys(0)), ConfigError::MaxKeysOutOfRange { max_keys: 0 });
        assert_eq!(error(Config::new(horizon).max_keys((1 << 31) + 1)), ConfigError::MaxKeysOutOfRange { max_keys: (1 << 31) + 1 });
        assert_eq!(error(Config::new(horizon).shards(0)), ConfigError::ShardsOutOfRange { shards: 0 });
        assert_eq!(error(Config::new(horizon).shards(1025)), ConfigError::ShardsOutOfRange { shards: 1025 });
        assert_eq!(error(Config::new(horizon).lease(Duration::ZERO)), ConfigError::LeaseOutOfRange);
        assert_eq!(error(Config::new(horizon).lease(Duration::MAX)), ConfigError::LeaseOutOfRange);
        assert_eq!(error(Config::new(Horizon::new(Duration::ZERO, Duration::ZERO))), ConfigError::HorizonEmpty);
        assert_eq!(error(Config::new(Horizon::new(Duration::MAX, Duration::ZERO))), ConfigError::HorizonOverflow);
        let half = ms(u64::MAX / 2 + 1);
        assert_eq!(error(Config::new(Horizon::new(half, half))), ConfigError::HorizonOverflow);
        assert_eq!(error(Config::new(Horizon::new(half, ms(0)).max_retention(half))), ConfigError::HorizonOverflow);
        let full = |next_expiry| Error::Full { next_expiry };
        let errors = [full(None), full(Some(Timestamp::from_millis(7))), Error::ClaimLost, Error::NoTime];
        let config_errors = [ConfigError::HorizonEmpty, ConfigError::HorizonOverflow].map(Error::Config);
        for error in errors.into_iter().chain(config_errors).chain([Error::ClockNotManual]) {
            assert!(error.to_string().contains([':', ';']), "{error}: what to do follows");
        }
    }

    fn only_a_manual_clock_is_advanced<C: Front>() {
        let mut cache = C::new(Config::new(Horizon::new(ms(1), ms(0)).max_retention(ms(0)))).unwrap();
        assert_eq!(cache.try_advance(u64::MAX), Err(Error::ClockNotManual));
        assert!(cache.watermark().unwrap() < Timestamp::now().as_millis() + 1_000);
    }
}
