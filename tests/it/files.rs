//! Configuration and statistics in files (feature `serde`).

use oncewheel::journal::Durability;
use oncewheel::{Clock, Config, Horizon, Stats, Timestamp, Verdict, WhenFull, unsync::DedupCache};
use std::time::Duration;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn durations_are_as_people_write_them_and_what_is_left_out_has_its_default() {
    let text = r#"{
        "horizon": {"max_retry": "10m", "max_network": "1m 30s", "max_retention": "15d", "max_clock_skew": "500ms"},
        "when_full": "evict_oldest",
        "lease": "1h30m"
    }"#;
    let horizon = Horizon::new(seconds(600), seconds(90))
        .max_retention(seconds(15 * 86_400))
        .max_clock_skew(Duration::from_millis(500));
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!(config, Config::new(horizon).when_full(WhenFull::EvictOldest).lease(seconds(5_400)));
    let least: Config = serde_json::from_str(r#"{"horizon": {"max_retry": "1s", "max_network": "0s"}}"#).unwrap();
    assert_eq!(least, Config::new(Horizon::new(seconds(1), seconds(0))));
}

#[test]
fn what_is_written_is_read_again_but_for_the_secret() {
    let horizon = Horizon::new(seconds(90_061), Duration::from_nanos(1)).max_out_of_orderness(seconds(3));
    let config = Config::new(horizon).max_keys(7).clock(Clock::Manual).shards(3).secret([7; 16]);
    let text = serde_json::to_string(&config).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let read: Config = serde_json::from_str(&text).unwrap();
    assert_eq!(read.secret([7; 16]), config);
    for durability in [Durability::Memory, Durability::Process, Durability::Power] {
        let text = serde_json::to_string(&durability).unwrap();
        assert_eq!(text, format!("\"{durability}\""));
        assert_eq!(serde_json::from_str::<Durability>(&text).unwrap(), durability);
    }
}

#[test]
fn a_secret_is_32_hexadecimal_digits_and_a_wrong_one_is_not_repeated() {
    let read = |secret: &str| {
        let text = format!(r#"{{"horizon": {{"max_retry": "1s", "max_network": "0s"}}, "secret": "{secret}"}}"#);
        serde_json::from_str::<Config>(&text)
    };
    let secret = read("000102030405060708090a0b0c0d0e0F").unwrap().secret.unwrap();
    assert_eq!(secret, std::array::from_fn(|byte| byte as u8));
    for wrong in ["", "000102", "+00102030405060708090a0b0c0d0e0f", "0g0102030405060708090a0b0c0d0e0f"] {
        let error = read(wrong).unwrap_err().to_string();
        assert!(error.contains("32 hexadecimal digits") && (wrong.is_empty() || !error.contains(wrong)), "{error}");
    }
}

#[test]
fn unknown_fields_and_what_is_no_duration_are_errors() {
    let in_horizon = |field: &str| format!(r#"{{"horizon": {{"max_retry": "1s", "max_network": "0s", {field}}}}}"#);
    for (text, what) in [
        (r#"{"horizon": {"max_retry": "1s", "max_network": "0s"}, "max_key": 5}"#.to_owned(), "max_key"),
        (in_horizon(r#""retention": "1d""#), "retention"),
        (in_horizon(r#""max_retention": "1 month""#), "use days at most"),
        (in_horizon(r#""max_retention": "-1s""#), "negative"),
        (in_horizon(r#""max_clock_skew": "soon""#), "no duration"),
        (r#"{"horizon": {"max_retry": "1s"}}"#.to_owned(), "max_network"),
    ] {
        let error = serde_json::from_str::<Config>(&text).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
    assert!(serde_json::from_str::<Stats>(r#"{"fresh": 1, "stale": 2}"#).is_err());
    let too_many = format!(r#"{{"duplicate_ages": {{"counts_by_bits": {:?}, "max_ms": 1}}}}"#, [0; 66]);
    assert!(serde_json::from_str::<Stats>(&too_many).is_err());
}

#[test]
fn statistics_come_back_as_they_were() {
    let horizon = Horizon::new(seconds(60), seconds(5)).max_retention(seconds(100));
    let mut cache = DedupCache::new(Config::new(horizon).clock(Clock::Manual)).unwrap();
    cache.advance(Timestamp::from_millis(250_000)).unwrap();
    for (time, verdict) in [(200_000, Verdict::Fresh), (231_000, Verdict::Duplicate), (200_001, Verdict::Duplicate)] {
        assert_eq!(cache.insert("a", Timestamp::from_millis(time)).unwrap(), verdict);
    }
    let stats = cache.stats();
    assert!(stats.watermark_lag.is_some() && stats.duplicate_ages.count() == 2);
    let text = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats, "{text}");
}
