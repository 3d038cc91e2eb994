//! The command `oncewheel`: runs the dedup cache on deliveries in newline-delimited JSON.

mod args;
mod durations;
mod failure;

mod run;

mod decompress;
mod input;
mod lines;

mod delivery;
mod fields;
mod units;

mod confirmed;
mod guard;
mod journal;
mod judge;

mod outputs;
mod progress;
mod report;
mod summary;

#[cfg(any(test, oncewheel_fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

use crate::args::Command;
use crate::failure::Failure;
use std::process::ExitCode;

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                report::print(&failure.to_string());
            }
            failure.exit_code()
        }
    }
}

fn command() -> Result<(), Failure> {
    match args::parse(std::env::args_os())? {
        None => Ok(()),
        Some(args::Cli { command: Command::Dedup(options) }) => run::dedup(&options),
    }
}
