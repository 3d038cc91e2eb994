//! The report as text: Markdown for people, CSV with every number behind it.

use crate::figures::{Figure, Goal};
use crate::{Results, Speed, machine};
use std::fmt::Write as _;
use std::io::Result;
use std::path::Path;

pub(crate) fn write(out: &Path, results: &Results, figures: &[Figure]) -> Result<()> {
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("README.md"), markdown(results, figures))?;
    std::fs::write(out.join("speed.csv"), speed_csv(results))?;
    std::fs::write(out.join("memory.csv"), memory_csv(results))?;
    std::fs::write(out.join("latency.csv"), latency_csv(results))
}

const METHOD: &str = "\
All contenders take the same stream: 128-bit random keys, 5 % of them duplicates of uniform age
within the window, time advancing as keys enter. Each contender reports the duplicates that it finds
and removes the keys that have left the window. All is measured at steady state, where one key
expires for each that enters. Expiry is included; hashing of longer keys is not. The watermark moves
once in 1,024 keys. All contenders of a table run in one process, which has done nothing before, and
take turns in rounds. A figure is the median of its rounds. *Held* is the number of keys in the
cache after the last round. Those beyond the live keys are held longer than needed.

* `floor` is a lower bound without a cache. For each key it reads and writes two random cache lines,
  one for the key that enters and one for the key that leaves, prefetched in groups of 32, over as
  many lines as this crate's index has (live keys / 5.85).
* `dashmap_wheel`: `DashMap` and a wheel behind a mutex, with a second copy of each key.
  `hashmap_fifo`: `hashbrown::HashMap` and a FIFO of the same keys. `two_generations`: two
  `hashbrown::HashSet`s, rotated once a window. All use their own hashers.
* `moka_ttl` expires by the wall clock only. So its deliveries are paced to arrive one in 10 us, and
  only its own work is timed. Its rounds are not interleaved with the others', because its keys
  would expire meanwhile.
* `quick_cache` is bounded by the number of live keys and evicts by its own policy.
* Memory is the growth of the resident memory of a process that does nothing else, over two windows,
  divided by the live keys.
* Latencies are of single calls and include the clock's own 20 to 30 ns. Of three runs of the same
  calls, each call counts with its least time, to leave out the system's scheduler. The worst of
  each run is given, too.
* The cost of a journal: [journal.md](journal.md).
";

fn markdown(results: &Results, figures: &[Figure]) -> String {
    let mut text = String::from("# Benchmarks\n\n");
    let _ = writeln!(text, "Measured on {}: {}.", machine::date(), machine::describe());
    text += "To measure again, on an idle machine:\n\n    cargo run --release -p oncewheel-report -- --with-100m\n\n";
    text += &figures_table(figures);
    text += "\n![Time per key over live keys](time.svg)\n![Memory per key over live keys](memory.svg)\n";
    text += "![Time of single calls](latency.svg)\n\n";
    for (title, live, threads) in [
        ("One thread", results.small, 1),
        ("One thread", results.large, 1),
        ("Two threads", results.small, 2),
        ("Two threads", results.large, 2),
    ] {
        let _ = writeln!(text, "## {title}, {} live keys\n", grouped(live));
        text += &speed_table(results.speeds.iter().filter(|speed| (speed.live, speed.threads) == (live, threads)));
    }
    if !results.ten_times.is_empty() {
        text += "## Ten times the live keys, side by side\n\n";
        text += &size_table(&results.ten_times);
    }
    let _ = writeln!(text, "## Memory\n");
    text += &memory_table(results);
    let _ = writeln!(text, "## Single calls, growing to {} live keys and through expiry\n", grouped(results.large));
    text += &latency_table(results);
    text + "## Method\n\n" + METHOD
}

pub(crate) fn figures_table(figures: &[Figure]) -> String {
    let mut table = String::from("| figure | measured | must | aim | |\n|---|--:|--:|--:|---|\n");
    for figure in figures {
        let Figure { what, unit, measured, goal, must, aim } = figure;
        let sign = if *goal == Goal::AtLeast { "≥" } else { "≤" };
        let verdict = figure.verdict();
        let measured = measured.map_or("–".to_owned(), |measured| format!("{} {unit}", short(measured)));
        let _ = writeln!(table, "| {what} | {measured} | {sign} {must} | {sign} {aim} | {verdict} |");
    }
    table
}

fn speed_table<'a>(speeds: impl Iterator<Item = &'a Speed>) -> String {
    let mut table = String::from("| contender | ns/key | held | duplicates missed |\n|---|--:|--:|--:|\n");
    for speed in speeds {
        let missed = speed.missed.map_or("–".to_owned(), |missed| format!("{:.2} %", 100.0 * missed));
        let held = if speed.missed.is_some() { grouped(speed.held) } else { "–".to_owned() };
        let _ = writeln!(table, "| `{}` | {} | {held} | {missed} |", speed.name, short(speed.ns_per_key()));
    }
    table + "\n"
}

fn size_table(speeds: &[Speed]) -> String {
    let mut table = String::from("| contender | live keys | ns/key |\n|---|--:|--:|\n");
    for speed in speeds {
        let _ = writeln!(table, "| `{}` | {} | {} |", speed.name, grouped(speed.live), short(speed.ns_per_key()));
    }
    table + "\n"
}

fn memory_table(results: &Results) -> String {
    let mut table = String::from("| contender | live keys | bytes per live key | held | by its own count |\n");
    table += "|---|--:|--:|--:|--:|\n";
    for memory in results.memories.iter().filter(|memory| [results.small, results.large].contains(&memory.live)) {
        let counted =
            memory.counted.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / memory.live as f64));
        let (live, held) = (grouped(memory.live), grouped(memory.held));
        let _ = writeln!(table, "| `{}` | {live} | {:.1} | {held} | {counted} |", memory.name, memory.bytes_per_key());
    }
    table + "\n"
}

fn latency_table(results: &Results) -> String {
    let mut table =
        String::from("| contender | keys in a call | calls | median | 99.99 % | worst | worst of each run |\n");
    table += "|---|--:|--:|--:|--:|--:|--:|\n";
    for latency in &results.latencies {
        let worst: Vec<_> = latency.worst_of_runs.iter().map(|worst| duration(*worst)).collect();
        let row = [
            format!("`{}`", latency.name),
            latency.keys_per_call.to_string(),
            grouped(latency.calls()),
            duration(latency.slowest(0.5)),
            duration(latency.slowest(1e-4)),
            duration(latency.worst()),
            worst.join(", "),
        ];
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table + "\n"
}

fn speed_csv(results: &Results) -> String {
    let mut csv = String::from("contender,live_keys,threads,round,ns_per_key,held_keys,missed_share\n");
    for speed in results.all_speeds() {
        let missed = speed.missed.map_or(String::new(), |missed| missed.to_string());
        for (round, ns) in speed.rounds.iter().enumerate() {
            let Speed { name, live, threads, held, .. } = speed;
            let _ = writeln!(csv, "{name},{live},{threads},{round},{ns:.2},{held},{missed}");
        }
    }
    csv
}

fn memory_csv(results: &Results) -> String {
    let mut csv = String::from("contender,live_keys,resident_bytes,counted_bytes,held_keys\n");
    for memory in &results.memories {
        let counted = memory.counted.map_or(String::new(), |counted| counted.to_string());
        let _ = writeln!(csv, "{},{},{},{counted},{}", memory.name, memory.live, memory.resident, memory.held);
    }
    csv
}

fn latency_csv(results: &Results) -> String {
    let mut csv = String::from("contender,keys_per_call,calls,share_as_slow_or_slower,ns\n");
    for latency in &results.latencies {
        for share in [0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0] {
            let (calls, ns) = (latency.calls(), latency.slowest(share));
            let _ = writeln!(csv, "{},{},{calls},{share},{ns}", latency.name, latency.keys_per_call);
        }
    }
    csv
}

/// Three significant digits.
fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        1000.0.. => grouped(number.round() as usize),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

pub(crate) fn duration(nanos: u32) -> String {
    match f64::from(nanos) {
        nanos @ 1e6.. => format!("{} ms", short(nanos / 1e6)),
        nanos @ 1e3.. => format!("{} us", short(nanos / 1e3)),
        nanos => format!("{nanos} ns"),
    }
}

/// With commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}
