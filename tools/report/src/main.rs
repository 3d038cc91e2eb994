//! The comparison: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    oncewheel_report::report()
}
