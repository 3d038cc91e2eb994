//! Runs the library against a simulated queue, checks that no event takes effect twice or is lost,
//! and compares it with caches that expire keys by the wall clock.
//!
//! ```text
//! cargo run --release -p oncewheel-simulate -- --deliveries 1000000
//! cargo run --release -p oncewheel-simulate -- --scenario stalls --seed 7 --deliveries 100000
//! cargo run --release -p oncewheel-simulate -- --table --deliveries 1000000
//! ```
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

mod arguments;
mod table;

use arguments::Arguments;
use oncewheel_simulate::{Scenario, Tally};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let passed = if arguments.table { table::print(&arguments) } else { run_all(&arguments) };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the scenarios in turn, in each round with the next seed, until this many messages were
/// delivered. The deliveries that drain the queues at the ends are extra. Several threads share the
/// runs.
fn run_all(arguments: &Arguments) -> bool {
    let scenarios = |seed| -> Vec<Scenario> {
        let mut all = oncewheel_simulate::all(seed);
        if let Some(name) = &arguments.scenario {
            all.extend(oncewheel_simulate::compared().into_iter().map(|(_, scenario)| scenario));
            all.retain(|scenario| name == scenario.name);
        }
        all
    };
    let width = scenarios(arguments.seed).len() as u64;
    if width == 0 {
        let names: Vec<_> = oncewheel_simulate::all(0).iter().map(|scenario| scenario.name).collect();
        eprintln!("unknown scenario; the scenarios are: {}", names.join(", "));
        return false;
    }
    let per_run = (arguments.deliveries / width).clamp(1, arguments.per_run);
    let runs = arguments.deliveries.div_ceil(per_run);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (deliveries, events) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Relaxed);
                    if run >= runs {
                        return;
                    }
                    let seed = arguments.seed + run / width;
                    let scenario = &scenarios(seed)[(run % width) as usize];
                    match oncewheel_simulate::run(scenario, seed, per_run, false) {
                        Ok(tally) => {
                            deliveries.fetch_add(tally.deliveries, Relaxed);
                            events.fetch_add(tally.events, Relaxed);
                            println!("{:<26} seed {seed:<6} {}", scenario.name, line(&tally));
                        }
                        Err(failure) => {
                            failed.store(true, Relaxed);
                            eprintln!("FAILED {failure}");
                        }
                    }
                }
            });
        }
    });
    println!("{runs} runs, {} events, {} deliveries", events.into_inner(), deliveries.into_inner());
    !failed.into_inner()
}

fn line(tally: &Tally) -> String {
    let (doubled, library) = (&tally.doubled, &tally.library);
    format!(
        "{:>8} events {:>8} deliveries {:>4} h | effects doubled: before commit {} restart {} taken over {} broken {} | lost \
         after insert {} dropped {} dead letters {} | crashes {} stalls {} | in flight {} full {} too old {} late {} \
         clamped {} rejected {} regressions {} | keys {} of {} backlog",
        tally.events,
        tally.deliveries,
        tally.time / 3_600_000,
        doubled.before_commit,
        doubled.restart,
        doubled.taken_over,
        doubled.broken,
        tally.lost_after_insert,
        tally.dropped,
        tally.dead_lettered,
        tally.crashes,
        tally.stalls,
        library.answers.in_flight,
        tally.answers.full,
        library.answers.too_old,
        library.late_duplicates,
        library.clamped_times,
        library.rejected_watermarks,
        library.watermark_regressions,
        tally.keys_max,
        tally.backlog_max,
    )
}
