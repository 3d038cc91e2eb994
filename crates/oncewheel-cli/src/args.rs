//! The command line.

use crate::durations;
use crate::failure::Failure;
use crate::fields::Path as FieldPath;
use crate::units::Unit;
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use oncewheel::{Config, Horizon};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Exact deduplication for consumers of at-least-once message queues
#[derive(Debug, Parser)]
#[command(name = "oncewheel", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dedup(Box<Options>),
}

const AFTER_HELP: &str = "\
Deliveries are JSON objects, one a line. Lines are written byte for byte as they came, in order;
blank lines and a byte-order mark are skipped. gzip and zstd are decompressed.
The key is a string or an integer; 1 and \"1\" are the same key.
Times are integers (--time-unit), the same as strings, or RFC 3339 text. null, 0, -1, the year 1
and absence mean: unknown.
If no line has any of the three time fields, the wall clock counts.

A wrong time costs its own line at most. A time of a delivery or of the queue that jumps ahead,
by more than --max-clock-skew and 1m, moves the clock only once two following lines confirm it.
If one contradicts it, it is ignored and the summary names its line. The lines between are
judged by the clock before the jump: their keys are kept longer, not shorter. Three wrong times
in a row that agree are taken for true. A gap is confirmed by the lines after it and is no
error.

With --journal, lines are written, then committed: a run that was cut short and is started again
on the same input writes what is missing, to be appended (>>) to what it has written. Only lines
that were written and not yet committed when it was killed are written twice, at most --commit-
every of them; a truncated line is one of these. What was not written is never committed.

Exit status: 0 done; 64 wrong usage; 65 a bad line, or an input in another format; 66 an input
is missing, or a journal cannot be used as it is; 73 an output cannot be created; 74 reading or
writing failed, the journal's too; 75 the cache is full, or the journal is in use: try again
later; 76 more than a tenth of the deliveries were too old, and no --too-old takes them. What
was judged is written in any case.";

/// Write each delivery once: read newline-delimited JSON, leave out what was delivered before
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Deliveries, read in order, plain or compressed by gzip or zstd. '-' or none: standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Field with the dedup key. A dot leads into a nested object or is part of a name: payload.id.
    /// A JSON pointer has one meaning: /payload/id, /payload.id
    #[arg(long, value_name = "FIELD", default_value = "key", help_heading = "Fields")]
    pub(crate) key: FieldPath,

    /// Field with the time at which the broker stored this copy
    #[arg(long, value_name = "FIELD", default_value = "msg_time", help_heading = "Fields")]
    pub(crate) msg_time: FieldPath,

    /// Field with the time of the queue's oldest message that is not yet acknowledged
    #[arg(long, value_name = "FIELD", default_value = "min_msg_time", help_heading = "Fields")]
    pub(crate) min_msg_time: FieldPath,

    /// Field with the time of the delivery; where a line has none, the clock stays
    #[arg(long, value_name = "FIELD", default_value = "delivered_at", help_heading = "Fields")]
    pub(crate) now: FieldPath,

    /// Unit of times that are integers
    #[arg(long, value_name = "UNIT", value_enum, default_value = "ms", help_heading = "Fields")]
    pub(crate) time_unit: Unit,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) journal: JournalOptions,

    /// Where duplicates go; otherwise they are only counted
    #[arg(long, value_name = "FILE", value_parser = output, help_heading = "Outputs")]
    pub(crate) duplicates: Option<PathBuf>,

    /// Where deliveries go that cannot be vouched for: older than the watermark, with a key that is
    /// not held; otherwise they are only counted
    #[arg(long, value_name = "FILE", value_parser = output, help_heading = "Outputs")]
    pub(crate) too_old: Option<PathBuf>,

    /// Where lines go that are no deliveries; otherwise the run stops at the first one
    #[arg(long, value_name = "FILE", value_parser = output, help_heading = "Outputs")]
    pub(crate) rejects: Option<PathBuf>,

    /// Where a summary in JSON goes; '-' is standard error, in place of the summary for people
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    pub(crate) summary: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits (durations such as 500ms, 90s, 10m, 1h30m, 15d)")]
pub(crate) struct Limits {
    /// Longest time between a producer's first and last attempt to send the same message
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = durations::parse)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_retry: Duration,

    /// Longest time that a copy can be under way before the broker has stored it
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = durations::parse)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_network: Duration,

    /// How long the broker keeps messages; 'none': for ever
    #[arg(long, value_name = "DURATION", default_value = "15d", value_parser = retention)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_retention: Retention,

    /// How far a message's time may lie below that of one ahead of it in the queue: seconds where
    /// producers make the times
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = durations::parse)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_out_of_orderness: Duration,

    /// How far a time may lie ahead of the time of the delivery: a message's is clamped to that, a
    /// queue's is rejected; both are counted. And how far the clock may jump without confirmation,
    /// at least 1m
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = durations::parse)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_clock_skew: Duration,

    /// Most keys held at once, some 31 bytes each; memory is allocated as they come
    #[arg(long, value_name = "COUNT", default_value = "10000000", allow_hyphen_values = true)]
    pub(crate) max_keys: usize,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Restarts")]
pub(crate) struct JournalOptions {
    /// Keep the keys in this directory too, so that a run that ended, however it ended, can be
    /// started again
    #[arg(id = "journal", long = "journal", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// What a committed key survives: a crash of the process, or loss of power as well, which costs
    /// a sync of the disk for every group of lines and whenever the watermark moves
    #[arg(long, value_enum, value_name = "WHAT", default_value = "process", requires = "journal")]
    pub(crate) durability: Outlasts,

    /// Lines that are committed together, at most: as many may be written twice after a crash
    #[arg(long, value_name = "COUNT", default_value = "1000", requires = "journal")]
    #[arg(value_parser = value_parser!(u32).range(1..), allow_hyphen_values = true)]
    pub(crate) commit_every: u32,

    /// Refuse a journal that is damaged or has a truncated tail, as a crash leaves it behind;
    /// otherwise what is readable is recovered
    #[arg(long, requires = "journal")]
    pub(crate) strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outlasts {
    Process,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention(pub(crate) Option<Duration>);

/// The cache's own bound, of 10,000 years: times are bounded before they reach it (`guard.rs`).
const GUARDED: Duration = Duration::from_secs(10_000 * 366 * 86_400);

impl Limits {
    pub(crate) fn config(&self) -> Config {
        let horizon = Horizon::new(self.max_retry, self.max_network)
            .max_out_of_orderness(self.max_out_of_orderness)
            .max_clock_skew(GUARDED);
        let horizon = match self.max_retention {
            Retention(Some(retention)) => horizon.max_retention(retention),
            Retention(None) => horizon,
        };
        Config::new(horizon).max_keys(self.max_keys)
    }
}

fn retention(text: &str) -> Result<Retention, String> {
    if text == "none" {
        return Ok(Retention(None));
    }
    durations::parse(text).map(|retention| Retention(Some(retention))).map_err(|fix| format!("{fix}; or none"))
}

fn output(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("standard output carries the deliveries to be processed: name a file".to_owned()),
        path => Ok(path.into()),
    }
}

/// `None`: help or the version was requested, and is printed.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Cli>, Failure> {
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if error.use_stderr() => Err(Failure::Usage(in_one_line(&error))),
        Err(help) => {
            let _ = help.print(); // standard output is closed
            Ok(None)
        }
    }
}

/// clap's message in one line: the error and its tips, without the usage.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let message = lines.join("; ").replace(":; ", ": ");
    format!("{}; see oncewheel dedup --help", message.strip_prefix("error: ").unwrap_or(&message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
