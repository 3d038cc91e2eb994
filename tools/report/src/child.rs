//! Measurements that need a process of their own, because memory that earlier work has freed would
//! be reused.

use crate::contenders::ENTRANTS;
use crate::{latency, lineup, memory};
use std::io::{Error, Result};
use std::process::{Command, Stdio};

const FLAG: &str = "--child";

/// Runs this program again for one measurement, and returns its output.
pub(crate) fn ask(what: &str, name: &str, live: usize) -> Result<Vec<u8>> {
    eprintln!("{live} live keys: {what} of {name}");
    let mut command = Command::new(std::env::current_exe()?);
    command.args([FLAG, what, name, &live.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(Error::other(format!("measuring the {what} of {name} failed"))),
    }
}

pub(crate) fn garbled(what: &str) -> Error {
    Error::other(format!("a child process wrote something else than the {what}"))
}

/// Takes the measurement that the parent has asked for, if there is one.
pub(crate) fn serve(args: &[String]) -> bool {
    let [flag, what, name, live] = args else { return false };
    let (true, Ok(live)) = (flag == FLAG, live.parse()) else { return false };
    let entrant = ENTRANTS.iter().find(|entrant| entrant.name == name);
    match (what.as_str(), entrant) {
        (lineup::SPEED, _) => lineup::serve(name, live, false),
        (lineup::QUICK, _) => lineup::serve(name, live, true),
        (memory::FULL, Some(entrant)) => memory::serve_full(entrant, live),
        (memory::EMPTY, Some(entrant)) => memory::serve_empty(entrant, live),
        (latency::LATENCY, Some(entrant)) => latency::serve(entrant, live),
        _ => return false,
    }
    true
}
