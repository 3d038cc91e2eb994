//! Statistics for the facade crate [`metrics`](https://docs.rs/metrics), and so for Prometheus and
//! others (feature `metrics`).
//!
//! A [`Publisher`] publishes the snapshots of one cache. Call it every few seconds, or when the
//! page is scraped. The cache itself knows nothing of it, so it costs a delivery nothing.
//!
//! ```
//! use oncewheel::{Config, Horizon, metrics::Publisher, sync::DedupCache};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), oncewheel::Error> {
//! let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
//! let cache = DedupCache::new(Config::new(horizon))?;
//! let mut publisher = Publisher::new([("queue", "payments")]);
//! let _ = cache.insert("order-1", None)?;
//! publisher.publish(&cache.stats()); // to the recorder that your service has installed, if any
//! # Ok(())
//! # }
//! ```
//!
//! # Names
//!
//! Counters never go back. They count from when the publisher was made.
//!
//! | counter | unit | what it counts |
//! |---|---|---|
//! | `oncewheel_deliveries_total` | deliveries | answers, by `verdict`: `fresh`, `duplicate`, `in_flight`, `too_old` |
//! | `oncewheel_expired_keys_total` | keys | [`Stats::expired`] |
//! | `oncewheel_evicted_keys_total` | keys | [`Stats::evicted`] |
//! | `oncewheel_clamped_times_total` | deliveries | [`Stats::clamped_times`] |
//! | `oncewheel_rejected_watermarks_total` | calls | [`Stats::rejected_watermarks`] |
//! | `oncewheel_watermark_regressions_total` | calls | [`Stats::watermark_regressions`] |
//! | `oncewheel_late_duplicates_total` | deliveries | [`Stats::late_duplicates`]: **above 0, the horizon is too short** |
//! | `oncewheel_journal_failures_total` | operations | [`Stats::journal_failures`]: **above 0, look at the disk** |
//! | `oncewheel_duplicate_age_seconds_bucket` | deliveries | duplicates whose age was at most `le` seconds |
//! | `oncewheel_duplicate_age_seconds_count` | deliveries | all duplicates |
//!
//! | gauge | unit | what it shows |
//! |---|---|---|
//! | `oncewheel_keys_live` | keys | [`Stats::keys_live`] |
//! | `oncewheel_claims_open` | claims | [`Stats::claims_open`] |
//! | `oncewheel_memory_bytes` | bytes | [`Stats::memory_bytes`] |
//! | `oncewheel_journal_bytes` | bytes | [`Stats::journal_bytes`] |
//! | `oncewheel_watermark_timestamp_seconds` | seconds, Unix time | [`Stats::watermark`] |
//! | `oncewheel_watermark_lag_seconds` | seconds | [`Stats::watermark_lag`] |
//! | `oncewheel_complete_since_timestamp_seconds` | seconds, Unix time | [`Stats::complete_since`] |
//! | `oncewheel_duplicate_age_seconds_max` | seconds | the greatest of [`Stats::duplicate_ages`] |
//!
//! A gauge whose value is not known is absent, or `NaN` if it was known before.
//!
//! # The ages of duplicates
//!
//! They are a histogram in the form that Prometheus knows: cumulative buckets from 15 ms to 49.7
//! days, each twice as wide as the one before. The following query tells what `max_retry +
//! max_network` must cover. (As [`DuplicateAges`](crate::DuplicateAges) documents, ages are rounded
//! up.)
//!
//! ```text
//! histogram_quantile(0.999, sum by (le) (increase(oncewheel_duplicate_age_seconds_bucket[1d])))
//! ```
//!
//! There is no `_sum`, since the cache does not count one. So a mean cannot be computed. Buckets
//! are published as counters, since the facade's histograms take single samples: let your exporter
//! leave names as they are (in `metrics-exporter-prometheus`, no `_total` appended to counters).

use crate::{Stats, Timestamp, Verdict};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit};

/// Publishes the statistics of one cache under its labels.
///
/// Every cache needs a publisher of its own, with labels that tell it from the others. Totals over
/// caches are the dashboard's to add up. The labels `verdict` and `le` are taken.
///
/// **A cache that is made again** counts from 0. The publisher notices it when any count is lower
/// than in the snapshot before, and adds what it has seen of the earlier cache: no counter goes
/// back. A new cache that has overtaken every count of the old one before it is published is not
/// noticed. Its counters then lack what the old one had counted.
///
/// Names and units are in the [module documentation](self).
///
/// ```
/// use oncewheel::{Stats, metrics::Publisher};
///
/// let mut publisher = Publisher::new([("service", "billing"), ("queue", "payments")]);
/// let mut unlabelled = Publisher::default();
/// publisher.publish(&Stats::default());
/// unlabelled.publish(&Stats::default());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Publisher {
    labels: Vec<Label>,
    /// The counts of earlier caches.
    earlier: Stats,
    last: Stats,
    is_described: bool,
}

impl Publisher {
    /// A publisher that has seen nothing yet. `labels` are names and values, added to every metric.
    #[must_use]
    pub fn new(labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let label = |(name, value): (_, _)| Label::new(Into::<String>::into(name), Into::<String>::into(value));
        Self { labels: labels.into_iter().map(label).collect(), ..Self::default() }
    }

    /// Publishes a snapshot to the current recorder. Costs some fifty look-ups in it, besides what
    /// `stats()` costs. Without a recorder it only keeps the snapshot: counts are complete in one
    /// that is installed later. Descriptions go to the recorder of the first call.
    pub fn publish(&mut self, stats: &Stats) {
        let was_made_again = COUNTERS.iter().any(|counter| (counter.value)(stats) < (counter.value)(&self.last));
        let last = std::mem::replace(&mut self.last, stats.clone());
        if was_made_again {
            self.earlier += last.clone();
        }
        let mut total = self.earlier.clone();
        total += stats.clone();
        metrics::with_recorder(|recorder| {
            if !std::mem::replace(&mut self.is_described, true) {
                describe(recorder);
            }
            self.publish_counters(recorder, &total);
            self.publish_ages(recorder, &total);
            self.publish_gauges(recorder, stats, &last);
        });
    }

    fn publish_counters(&self, recorder: &dyn Recorder, total: &Stats) {
        for Metric { name, label, value, .. } in COUNTERS {
            let label = label.map(|(name, value)| Label::from_static_parts(name, value));
            recorder.register_counter(&self.key(name, label), &METADATA).absolute(value(total));
        }
    }

    fn publish_ages(&self, recorder: &dyn Recorder, total: &Stats) {
        let publish = |le: String, count| {
            let key = self.key(AGE_BUCKET, Some(Label::new("le", le)));
            recorder.register_counter(&key, &METADATA).absolute(count);
        };
        for bits in AGE_BITS {
            let upper_ms = (1u64 << bits) - 1;
            publish((upper_ms as f64 / 1e3).to_string(), total.duplicate_ages.count_to(bits));
        }
        publish("+Inf".to_owned(), total.duplicate_ages.count());
    }

    fn publish_gauges(&self, recorder: &dyn Recorder, stats: &Stats, last: &Stats) {
        for Metric { name, value, .. } in GAUGES {
            let is_unknown_now = || value(last).map(|_| f64::NAN);
            if let Some(value) = value(stats).or_else(is_unknown_now) {
                recorder.register_gauge(&self.key(name, None), &METADATA).set(value);
            }
        }
    }

    fn key(&self, name: &'static str, label: Option<Label>) -> Key {
        Key::from_parts(name, self.labels.iter().cloned().chain(label).collect::<Vec<_>>())
    }
}

/// Called once, as exporters may keep each description that they are given until a page is scraped.
fn describe(recorder: &dyn Recorder) {
    recorder.describe_counter(AGE_BUCKET.into(), Some(Unit::Count), AGE_BUCKET_HELP.into());
    for Metric { name, unit, help, .. } in COUNTERS {
        recorder.describe_counter((*name).into(), Some(*unit), (*help).into());
    }
    for Metric { name, unit, help, .. } in GAUGES {
        recorder.describe_gauge((*name).into(), Some(*unit), (*help).into());
    }
}

const METADATA: Metadata<'static> = Metadata::new("oncewheel", Level::INFO, Some(module_path!()));

struct Metric<V> {
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
    unit: Unit,
    help: &'static str,
    value: fn(&Stats) -> V,
}

impl<V> Metric<V> {
    const fn new(name: &'static str, unit: Unit, help: &'static str, value: fn(&Stats) -> V) -> Self {
        Self { name, label: None, unit, help, value }
    }
}

const fn deliveries(verdict: Verdict, value: fn(&Stats) -> u64) -> Metric<u64> {
    let verdict = match verdict {
        Verdict::Fresh => "fresh",
        Verdict::Duplicate => "duplicate",
        Verdict::InFlight => "in_flight",
        Verdict::TooOld => "too_old",
    };
    let counter = Metric::new("oncewheel_deliveries_total", Unit::Count, "Deliveries, by the answer given.", value);
    Metric { label: Some(("verdict", verdict)), ..counter }
}

/// Those that end in so many bits, in milliseconds, have a bucket: 15 ms to 49.7 days.
const AGE_BITS: std::ops::RangeInclusive<usize> = 4..=32;
const AGE_BUCKET: &str = "oncewheel_duplicate_age_seconds_bucket";
const AGE_BUCKET_HELP: &str = "Duplicates whose two copies were at most le seconds apart.";

const COUNTERS: &[Metric<u64>] = &[
    deliveries(Verdict::Fresh, |stats| stats.fresh),
    deliveries(Verdict::Duplicate, |stats| stats.duplicate),
    deliveries(Verdict::InFlight, |stats| stats.in_flight),
    deliveries(Verdict::TooOld, |stats| stats.too_old),
    Metric::new("oncewheel_expired_keys_total", Unit::Count, "Keys that expired and were reclaimed.", |stats| {
        stats.expired
    }),
    Metric::new("oncewheel_evicted_keys_total", Unit::Count, "Keys evicted because the cache was full.", |stats| {
        stats.evicted
    }),
    Metric::new(
        "oncewheel_clamped_times_total",
        Unit::Count,
        "Message times beyond now + max_clock_skew that were clamped.",
        |stats| stats.clamped_times,
    ),
    Metric::new(
        "oncewheel_rejected_watermarks_total",
        Unit::Count,
        "Watermarks beyond now + max_clock_skew that were rejected.",
        |stats| stats.rejected_watermarks,
    ),
    Metric::new(
        "oncewheel_watermark_regressions_total",
        Unit::Count,
        "Calls of observe with a time before that of an earlier call.",
        |stats| stats.watermark_regressions,
    ),
    Metric::new(
        "oncewheel_late_duplicates_total",
        Unit::Count,
        "Duplicates further apart than max_retry + max_network: above 0, the horizon is too short.",
        |stats| stats.late_duplicates,
    ),
    Metric::new(
        "oncewheel_journal_failures_total",
        Unit::Count,
        "Journal operations that failed and cost only space: above 0, look at the disk.",
        |stats| stats.journal_failures,
    ),
    Metric::new("oncewheel_duplicate_age_seconds_count", Unit::Count, "Duplicates in all buckets.", |stats| {
        stats.duplicate_ages.count()
    }),
];

const GAUGES: &[Metric<Option<f64>>] = &[
    Metric::new("oncewheel_keys_live", Unit::Count, "Keys held.", |stats| Some(stats.keys_live as f64)),
    Metric::new("oncewheel_claims_open", Unit::Count, "Claims neither committed nor released.", |stats| {
        Some(stats.claims_open as f64)
    }),
    Metric::new("oncewheel_memory_bytes", Unit::Bytes, "Memory taken and touched.", |stats| {
        Some(stats.memory_bytes as f64)
    }),
    Metric::new("oncewheel_journal_bytes", Unit::Bytes, "Bytes on disk of the journal.", |stats| {
        Some(stats.journal_bytes as f64)
    }),
    Metric::new(
        "oncewheel_watermark_timestamp_seconds",
        Unit::Seconds,
        "Unix time below which no message is delivered any more.",
        |stats| stats.watermark.map(seconds),
    ),
    Metric::new("oncewheel_watermark_lag_seconds", Unit::Seconds, "How far the watermark lies behind now.", |stats| {
        stats.watermark_lag.map(|lag| lag.as_secs_f64())
    }),
    Metric::new(
        "oncewheel_complete_since_timestamp_seconds",
        Unit::Seconds,
        "Unix time from which on no key was evicted.",
        |stats| stats.complete_since.map(seconds),
    ),
    Metric::new(
        "oncewheel_duplicate_age_seconds_max",
        Unit::Seconds,
        "How far apart two copies were at most, since the cache was made.",
        |stats| stats.duplicate_ages.max().map(|age| age.as_secs_f64()),
    ),
];

fn seconds(time: Timestamp) -> f64 {
    time.as_millis() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile if a statistic is added: publish it above, and count it here.
    #[test]
    fn every_statistic_is_published() {
        let Stats {
            // Counters.
            fresh: _,
            duplicate: _,
            in_flight: _,
            too_old: _,
            expired: _,
            evicted: _,
            clamped_times: _,
            rejected_watermarks: _,
            watermark_regressions: _,
            late_duplicates: _,
            journal_failures: _,
            // Gauges.
            keys_live: _,
            claims_open: _,
            memory_bytes: _,
            journal_bytes: _,
            watermark: _,
            watermark_lag: _,
            complete_since: _,
            // Both, and buckets.
            duplicate_ages: _,
            // The scrape has a time of its own.
            now: _,
        } = Stats::default();
        assert_eq!((COUNTERS.len(), GAUGES.len()), (11 + 1, 7 + 1));
        let names = COUNTERS.iter().map(|counter| (counter.name, counter.label));
        let names: std::collections::BTreeSet<_> = names.chain(GAUGES.iter().map(|gauge| (gauge.name, None))).collect();
        assert_eq!(names.len(), COUNTERS.len() + GAUGES.len(), "each once");
        let page = include_str!("metrics.rs");
        for (name, _) in names {
            assert!(page.contains(&format!("//! | `{name}` | ")), "{name} is not in the documentation");
        }
    }
}
