//! The summary of a run, as JSON and as text.

use crate::args::Limits;
use crate::durations;
use crate::guard::WrongTimes;
use crate::judge::Peaks;
use indicatif::{BinaryBytes, HumanCount};
use oncewheel::journal::Recovery;
use oncewheel::{Stats, Timestamp};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// As JSON: all counts are from the start of the run, times and ages in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Lines that were judged or rejected
    deliveries: u64,
    fresh: u64,
    duplicates: u64,
    too_old: u64,
    rejected: u64,
    keys_live_max: usize,
    keys_live_end: usize,
    memory_bytes_max: usize,
    /// Ages are null if there was no duplicate. Half of the duplicates were not older than `p50`,
    /// or up to twice that.
    duplicate_age_ms_p50: Option<u64>,
    duplicate_age_ms_p99: Option<u64>,
    duplicate_age_ms_max: Option<u64>,
    /// Duplicates whose copies lay further apart than `max_retry + max_network`
    late_duplicates: u64,
    /// How far behind the watermark the oldest of the `too_old` was
    too_old_by_ms_max: u64,
    clamped_times: u64,
    rejected_watermarks: u64,
    /// Times of deliveries and of the queue that were ignored, since other lines contradict them;
    /// the `rejected_watermarks` among them. And the first of them, in words
    wrong_times: u64,
    wrong_times_first: Vec<String>,
    expired: u64,
    watermark_ms: Option<u64>,
    elapsed_ms: u64,
    deliveries_per_second: u64,
    #[serde(flatten)]
    journal: Option<JournalSummary>,
    /// Of the recording: no advice may exceed it.
    #[serde(skip)]
    length: Duration,
    #[serde(skip)]
    span: Duration,
    #[serde(skip)]
    max_out_of_orderness: Duration,
    #[serde(skip)]
    max_clock_skew: Duration,
}

/// Only with a journal.
#[derive(Debug, Serialize)]
struct JournalSummary {
    /// Keys that an earlier run had committed and that had not expired
    keys_restored: usize,
    /// At the end, on disk
    journal_bytes: u64,
    /// What could not be read: how many bytes, and each place in words
    damaged_bytes: u64,
    damage: Vec<String>,
    /// Operations that failed and cost nothing but space
    journal_failures: u64,
}

impl Summary {
    pub(crate) fn new(stats: &Stats, peaks: Peaks, rejected: u64, elapsed: Duration, limits: &Limits) -> Self {
        let deliveries = stats.fresh + stats.duplicate + stats.too_old + rejected;
        let ages = &stats.duplicate_ages;
        Self {
            deliveries,
            fresh: stats.fresh,
            duplicates: stats.duplicate,
            too_old: stats.too_old,
            rejected,
            keys_live_max: peaks.keys_live.max(stats.keys_live),
            keys_live_end: stats.keys_live,
            memory_bytes_max: peaks.memory_bytes.max(stats.memory_bytes),
            duplicate_age_ms_p50: ages.quantile(0.5).map(millis),
            duplicate_age_ms_p99: ages.quantile(0.99).map(millis),
            duplicate_age_ms_max: ages.max().map(millis),
            late_duplicates: stats.late_duplicates,
            too_old_by_ms_max: peaks.too_old_by_ms,
            clamped_times: stats.clamped_times,
            rejected_watermarks: stats.rejected_watermarks,
            wrong_times: 0,
            wrong_times_first: Vec::new(),
            expired: stats.expired,
            watermark_ms: stats.watermark.map(Timestamp::as_millis),
            elapsed_ms: millis(elapsed),
            deliveries_per_second: (deliveries as f64 / elapsed.as_secs_f64().max(1e-6)) as u64,
            journal: None,
            length: Duration::MAX,
            span: limits.max_retry.saturating_add(limits.max_network),
            max_out_of_orderness: limits.max_out_of_orderness,
            max_clock_skew: limits.max_clock_skew,
        }
    }

    pub(crate) fn with_times(self, wrong: &WrongTimes, length: Duration) -> Self {
        Self { wrong_times: wrong.count, wrong_times_first: wrong.named.clone(), length, ..self }
    }

    pub(crate) fn with_journal(self, recovery: Option<&Recovery>, stats: &Stats) -> Self {
        let journal = recovery.map(|Recovery { keys_restored, damage, .. }| JournalSummary {
            keys_restored: *keys_restored,
            journal_bytes: stats.journal_bytes,
            damaged_bytes: damage.iter().map(|damage| damage.bytes).sum(),
            damage: damage.iter().map(ToString::to_string).collect(),
            journal_failures: stats.journal_failures,
        });
        Self { journal, ..self }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
    }

    fn write_duplicates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  duplicates {:>14}", HumanCount(self.duplicates).to_string())?;
        let ages = (self.duplicate_age_ms_p50, self.duplicate_age_ms_p99, self.duplicate_age_ms_max);
        let (Some(p50), Some(p99), Some(max)) = ages else { return writeln!(f) };
        let share = 100.0 * self.duplicates as f64 / self.deliveries as f64;
        let [p50, p99, max] = [p50, p99, max].map(age);
        writeln!(f, "   {share:.2} %; copies apart: half up to {p50}, 99 % up to {p99}, all up to {max}")
    }

    /// What to set a limit to: in seconds, rounded up. `None`: it would exceed the recording.
    fn advice(&self, enough: Duration) -> Option<String> {
        let seconds = durations::seconds_up(enough);
        (enough <= self.length).then(|| durations::text(if seconds <= self.length { seconds } else { enough }))
    }

    fn write_wrong_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contradicted = self.wrong_times - self.rejected_watermarks;
        if contradicted > 0 {
            let contradicted = HumanCount(contradicted);
            writeln!(f, "warning: {contradicted} times jumped ahead, were contradicted by the next lines and ignored")?;
        }
        self.wrong_times_first.iter().try_for_each(|wrong| writeln!(f, "  {wrong}"))?;
        match self.wrong_times - self.wrong_times_first.len() as u64 {
            0 => Ok(()),
            others => writeln!(f, "  and {} more", HumanCount(others)),
        }
    }

    fn write_warnings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = durations::text(self.length);
        if self.late_duplicates > 0 {
            let (late, span) = (HumanCount(self.late_duplicates), durations::text(self.span));
            let max = self.duplicate_age_ms_max.unwrap_or_default();
            let what_to_do = match self.advice(Duration::from_millis(max)) {
                Some(enough) => format!("The horizon is too short: raise it to {enough} at least"),
                None => format!(
                    "Copies lie {} apart, further than the recording of {length} is long: check the times",
                    age(max)
                ),
            };
            writeln!(
                f,
                "warning: {late} duplicates came later than --max-retry + --max-network = {span} allows and were found only \
                 because the queue was behind. {what_to_do}"
            )?;
        }
        if self.too_old > 0 {
            let too_old = HumanCount(self.too_old);
            let behind = Duration::from_millis(self.too_old_by_ms_max);
            let what_to_do = match self.advice(self.max_out_of_orderness.saturating_add(behind)) {
                Some(enough) => {
                    format!("If producers make the times, set --max-out-of-orderness, here to {enough} at least")
                }
                None => format!(
                    "They lie up to {} behind it, further than the recording of {length} is long: check the times \
                     and their unit; --too-old FILE keeps these deliveries",
                    durations::text(behind)
                ),
            };
            writeln!(
                f,
                "warning: {too_old} deliveries were older than the watermark and their keys are not held: they may be duplicates or not. \
                 {what_to_do}"
            )?;
        }
        if self.too_old > 0 && self.journal.as_ref().is_some_and(|journal| journal.keys_restored > 0) {
            writeln!(
                f,
                "  (on input that an earlier run has read already, these are deliveries whose keys had expired by its end; --too-old FILE takes them)"
            )?;
        }
        if self.clamped_times + self.rejected_watermarks > 0 {
            let (clamped, rejected) = (HumanCount(self.clamped_times), HumanCount(self.rejected_watermarks));
            let skew = durations::text(self.max_clock_skew);
            writeln!(
                f,
                "warning: {clamped} times of messages and {rejected} min_msg_times lay more than --max-clock-skew = {skew} \
                 ahead of the clock and were clamped or rejected: check their unit (--time-unit) and the clocks"
            )?;
        }
        self.write_wrong_times(f)?;
        if let Some(failures) = self.journal.as_ref().map(|journal| journal.journal_failures).filter(|count| *count > 0)
        {
            writeln!(f, "warning: {failures} operations on the journal failed and cost only space: check the disk")?;
        }
        Ok(())
    }
}

/// As text.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: u64| HumanCount(count).to_string();
        let seconds = self.elapsed_ms as f64 / 1000.0;
        writeln!(
            f,
            "{} deliveries in {seconds:.2} s, {} a second",
            count(self.deliveries),
            count(self.deliveries_per_second)
        )?;
        writeln!(f, "  fresh      {:>14}", count(self.fresh))?;
        self.write_duplicates(f)?;
        writeln!(f, "  too old    {:>14}", count(self.too_old))?;
        writeln!(f, "  rejected   {:>14}", count(self.rejected))?;
        let [max, end] = [self.keys_live_max, self.keys_live_end].map(|keys| count(keys as u64));
        let memory = BinaryBytes(self.memory_bytes_max as u64);
        writeln!(f, "  keys held  {max:>14}   at most, {end} at the end; {memory} of memory")?;
        if let Some(journal) = &self.journal {
            let (restored, bytes) = (count(journal.keys_restored as u64), BinaryBytes(journal.journal_bytes));
            writeln!(f, "  restored   {restored:>14}   keys of earlier runs; the journal has {bytes} now")?;
        }
        self.write_warnings(f)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn age(ms: u64) -> String {
    durations::text(Duration::from_millis(ms))
}
