//! Compares this crate with what a user would take instead, and checks the figures that it promises.
//!
//! ```text
//! cargo run --release --example report                 about 15 minutes, 12 GiB; writes docs/benchmarks/
//! cargo run --release --example report -- --with-100m  100 million live keys too
//! cargo run --release --example report -- --quick      a check that it works: a tenth of all keys, to target/benchmarks/
//! cargo run --release --example report -- --out DIR    writes elsewhere
//! ```
//!
//! Let nothing else run meanwhile. Exits with an error if the cache missed a duplicate.

#[path = "../../benches/contenders/mod.rs"]
mod contenders;

mod speed;

mod child;
mod latency;
mod memory;

mod figures;
mod machine;
mod output;
mod plots;

use contenders::{ENTRANTS, THREADED};
use latency::Latency;
use memory::Memory;
use speed::{Plan, Speed};
use std::io::Result;
use std::path::PathBuf;
use std::process::ExitCode;

struct Options {
    is_quick: bool,
    with_100m: bool,
    out: PathBuf,
}

impl Options {
    fn parse(args: &[String]) -> Option<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let (mut is_quick, mut with_100m, mut out) = (false, false, None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => is_quick = true,
                "--with-100m" => with_100m = true,
                "--out" => out = Some(PathBuf::from(args.next()?)),
                _ => return None,
            }
        }
        let out = out.unwrap_or_else(|| root.join(if is_quick { "target/benchmarks" } else { "docs/benchmarks" }));
        Some(Self { is_quick, with_100m, out })
    }

    fn scaled(&self, live: usize) -> usize {
        if self.is_quick { live / 10 } else { live }
    }
}

/// All that was measured.
struct Results {
    /// The two sizes that the figures speak of: 1 and 10 million keys, but for `--quick`.
    small: usize,
    large: usize,
    speeds: Vec<Speed>,
    memories: Vec<Memory>,
    /// What an `unsync` cache takes that has just been made.
    empty_bytes: usize,
    latencies: Vec<Latency>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if child::serve(&args) {
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(&args) else {
        eprintln!("usage: report [--quick] [--with-100m] [--out DIR]");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("oncewheel missed duplicates");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every duplicate was found.
fn run(options: &Options) -> Result<bool> {
    let results = measure(options)?;
    let figures = figures::of(&results);
    output::write(&options.out, &results, &figures)?;
    plots::draw(&options.out, &results).map_err(std::io::Error::other)?;
    println!("\n{}", output::figures_table(&figures));
    eprintln!("written to {}", options.out.display());
    Ok(results.speeds.iter().all(Speed::is_exact_where_promised))
}

fn measure(options: &Options) -> Result<Results> {
    // Half decades.
    let sizes = [10_000, 31_623, 100_000, 316_228, 1_000_000, 3_162_278, 10_000_000].map(|live| options.scaled(live));
    let [.., small, _, large] = sizes;
    // Children first, while this process is small.
    let memories = memory::measure_all(&sizes)?;
    let empty_bytes = memory::measure_empty(large)?;
    let latencies = latency::measure_all(large)?;

    let plan = Plan { rounds: if options.is_quick { 3 } else { 9 }, batches: options.scaled(1024) as u64 };
    let mut speeds = Vec::new();
    for live in sizes {
        speeds.extend(speed::measure(&ENTRANTS, live, 1, &plan));
    }
    for live in [small, large] {
        speeds.extend(speed::measure(&THREADED, live, 2, &plan));
    }
    if options.with_100m {
        let batch = ENTRANTS.iter().filter(|entrant| entrant.name == "oncewheel_unsync_batch");
        speeds.extend(batch.flat_map(|entrant| speed::measure([entrant], 10 * large, 1, &plan)));
    }
    Ok(Results { small, large, speeds, memories, empty_bytes, latencies })
}
