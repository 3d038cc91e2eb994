//! The command `oncewheel`.

use std::process::ExitCode;

fn main() -> ExitCode {
    oncewheel_cli::main()
}
