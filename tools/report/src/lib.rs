//! Compares this crate with what a user would choose instead, and checks the figures that it
//! promises.
//!
//! ```text
//! cargo run --release -p oncewheel-report     about 15 minutes, 12 GiB; writes docs/benchmarks/
//!     -- --with-100m                          100 million live keys too
//!     -- --quick                              a check that it works: a tenth of all keys, written
//!                                             to target/benchmarks/
//!     -- --out DIR                            writes elsewhere
//! ```
//!
//! Let nothing else run meanwhile. Exits with an error if the cache missed a duplicate.

#[path = "../../../benches/contenders/mod.rs"]
mod contenders;

mod speed;

mod child;
mod latency;
mod lineup;
mod memory;

mod figures;
mod machine;
mod output;
mod plots;

mod journal_cost;
pub use journal_cost::journal_cost;

use latency::Latency;
use lineup::Lineup;
use memory::Memory;
use speed::Speed;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

struct Options {
    is_quick: bool,
    with_100m: bool,
    out: PathBuf,
}

impl Options {
    fn parse(args: &[String]) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
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

/// All measurements.
struct Results {
    /// The two sizes that the figures refer to: 1 and 10 million keys, or less with `--quick`.
    small: usize,
    large: usize,
    speeds: Vec<Speed>,
    /// The batch and the floor at `large` keys and ten times as many, side by side. Empty without
    /// `--with-100m`.
    ten_times: Vec<Speed>,
    memories: Vec<Memory>,
    /// The memory of a new `unsync` cache.
    empty_bytes: usize,
    latencies: Vec<Latency>,
}

/// The comparison, or the part of it that this child process measures.
pub fn report() -> ExitCode {
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
    Ok(results.all_speeds().all(|speed| speed.is_exact))
}

fn measure(options: &Options) -> Result<Results> {
    // Half decades.
    let sizes = [10_000, 31_623, 100_000, 316_228, 1_000_000, 3_162_278, 10_000_000].map(|live| options.scaled(live));
    let [.., small, _, large] = sizes;
    let memories = memory::measure_all(&sizes)?;
    let empty_bytes = memory::measure_empty(large)?;
    let latencies = latency::measure_all(large)?;

    let mut speeds = Vec::new();
    for live in sizes {
        speeds.extend(lineup::measure(Lineup::OneThread, live, options.is_quick)?);
    }
    for live in [small, large] {
        speeds.extend(lineup::measure(Lineup::TwoThreads, live, options.is_quick)?);
    }
    let ten_times = match options.with_100m {
        true => lineup::measure(Lineup::TenTimes, large, options.is_quick)?,
        false => Vec::new(),
    };
    Ok(Results { small, large, speeds, ten_times, memories, empty_bytes, latencies })
}
