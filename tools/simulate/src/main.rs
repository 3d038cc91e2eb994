//! Runs the library against a simulated queue, checks that nothing takes effect twice or is lost, and compares it with
//! caches that go by the wall clock.
//!
//! ```text
//! cargo run --release -p oncewheel-simulate -- --deliveries 1000000
//! cargo run --release -p oncewheel-simulate -- --scenario stalls --seed 7 --deliveries 100000
//! cargo run --release -p oncewheel-simulate -- --table --deliveries 1000000
//! ```
#![allow(clippy::print_stdout, reason = "that is what it is for")]

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

/// Takes scenarios in turn, each with the next seed in the next round, until so many messages were delivered; the drains at the
/// ends come on top. Two threads or more share the runs.
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
        eprintln!("there is no such scenario; there are: {}", names.join(", "));
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
        "{:>8} events {:>8} deliveries {:>4} h | effects doubled: window {} restart {} taken over {} broken {} | lost on \
         sight {} dropped {} dead letters {} | crashes {} stalls {} | in flight {} full {} too old {} late {} clamped {} \
         refused {} back {} | keys {} of {} backlog",
        tally.events,
        tally.deliveries,
        tally.time / 3_600_000,
        doubled.window,
        doubled.restart,
        doubled.taken_over,
        doubled.broken,
        tally.lost_on_sight,
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
