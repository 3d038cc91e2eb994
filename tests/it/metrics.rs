//! What a Prometheus server reads from the page: scraped over a socket, as in
//! examples/prometheus.rs.

#[allow(dead_code, unreachable_pub, reason = "the example's main is not called")]
#[path = "../../examples/prometheus.rs"]
mod example;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use oncewheel::{Clock, Config, Horizon, MinMsgTime, Stats, Timestamp, metrics::Publisher, unsync::DedupCache};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

/// The samples of a page: name and labels, and the value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    lines.map(|line| sample(line).unwrap()).collect()
}

fn publish(recorder: &PrometheusRecorder, publisher: &mut Publisher, stats: &Stats) -> BTreeMap<String, f64> {
    metrics::with_local_recorder(recorder, || publisher.publish(stats));
    samples(&recorder.handle().render())
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn new_cache() -> DedupCache {
    let horizon = Horizon::new(Duration::from_secs(60), Duration::from_secs(5));
    DedupCache::new(Config::new(horizon).clock(Clock::Manual)).unwrap()
}

/// Duplicates 0, 15, 16 and 40,000 ms after the first copy.
fn cache_with_duplicates() -> DedupCache {
    let mut cache = new_cache();
    for (key, ms) in [("a", 1_000), ("a", 1_000), ("a", 1_015), ("a", 1_016), ("a", 41_000), ("b", 41_000)] {
        let _ = cache.insert(key, at(ms)).unwrap();
    }
    cache.advance(at(60_000)).unwrap();
    cache.observe(MinMsgTime::Known(at(50_500))).unwrap();
    cache
}

#[test]
fn a_scraped_page_has_counters_gauges_and_buckets_that_a_query_can_use() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let stats = cache_with_duplicates().stats();
    let mut publisher = Publisher::new([("queue", "payments")]);
    metrics::with_local_recorder(&recorder, || publisher.publish(&stats));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = recorder.handle();
    std::thread::spawn(move || example::serve(&listener, || handle.render()));
    let page = example::scrape(address).unwrap();

    let samples = samples(&page);
    let value = |name: &str, labels: &str| samples[&format!("oncewheel_{name}{{queue=\"payments\"{labels}}}")];
    assert_eq!(value("deliveries_total", ",verdict=\"fresh\""), 2.0);
    assert_eq!(value("deliveries_total", ",verdict=\"duplicate\""), 4.0);
    assert_eq!(value("deliveries_total", ",verdict=\"in_flight\""), 0.0);
    assert_eq!(value("deliveries_total", ",verdict=\"too_old\""), 0.0);
    assert_eq!(value("keys_live", ""), 2.0);
    assert_eq!(value("memory_bytes", ""), stats.memory_bytes as f64);
    assert_eq!(value("watermark_timestamp_seconds", ""), 50.5);
    assert_eq!(value("watermark_lag_seconds", ""), 9.5);
    assert_eq!(value("duplicate_age_seconds_max", ""), 40.0);
    assert!(page.contains("# TYPE oncewheel_deliveries_total counter"));
    assert!(page.contains("# TYPE oncewheel_keys_live gauge"));
    assert!(page.contains("# HELP oncewheel_watermark_lag_seconds "));

    let bucket = |le: &str| value("duplicate_age_seconds_bucket", &format!(",le=\"{le}\""));
    assert_eq!((bucket("0.015"), bucket("0.031"), bucket("32.767"), bucket("65.535")), (2.0, 3.0, 3.0, 4.0));
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (name, count) in &samples {
        if let Some((_, le)) = name.split_once("_bucket{").and_then(|(_, labels)| labels.split_once("le=\"")) {
            buckets.push((le.trim_end_matches("\"}").parse().unwrap(), *count));
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert_eq!((buckets.len(), buckets[0].0, buckets[28].0), (30, 0.015, 4_294_967.295));
    assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "cumulative: {buckets:?}");
    assert_eq!(buckets[29], (f64::INFINITY, value("duplicate_age_seconds_count", "")));
}

#[test]
fn a_cache_that_is_made_again_takes_no_counter_back() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut publisher = Publisher::default();
    let fresh = "oncewheel_deliveries_total{verdict=\"fresh\"}";
    let last_bucket = "oncewheel_duplicate_age_seconds_bucket{le=\"+Inf\"}";
    let samples = publish(&recorder, &mut publisher, &cache_with_duplicates().stats());
    assert_eq!((samples[fresh], samples[last_bucket], samples["oncewheel_keys_live"]), (2.0, 4.0, 2.0));

    let mut cache = new_cache();
    let samples = publish(&recorder, &mut publisher, &cache.stats());
    assert_eq!((samples[fresh], samples[last_bucket], samples["oncewheel_keys_live"]), (2.0, 4.0, 0.0));
    assert!(samples["oncewheel_watermark_lag_seconds"].is_nan(), "known before, and not any more");

    for key in ["c", "d", "d"] {
        let _ = cache.insert(key, at(1_000)).unwrap();
    }
    let samples = publish(&recorder, &mut publisher, &cache.stats());
    assert_eq!((samples[fresh], samples[last_bucket], samples["oncewheel_keys_live"]), (4.0, 5.0, 2.0));
}

#[test]
fn what_was_published_before_there_was_a_recorder_is_not_lost() {
    let mut publisher = Publisher::default();
    let mut cache = new_cache();
    let _ = cache.insert("a", at(1_000)).unwrap();
    publisher.publish(&cache.stats());
    let _ = cache.insert("b", at(1_000)).unwrap();
    let samples = publish(&PrometheusBuilder::new().build_recorder(), &mut publisher, &cache.stats());
    assert_eq!(samples["oncewheel_deliveries_total{verdict=\"fresh\"}"], 2.0);
    assert!(!samples.contains_key("oncewheel_watermark_lag_seconds"), "never known");
}
