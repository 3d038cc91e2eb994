//! Measurements that need a process of their own: memory that earlier work has left behind would hide in theirs.

use crate::contenders::{ENTRANTS, Entrant};
use crate::{latency, memory};
use std::io::{Error, Result};
use std::process::{Command, Stdio};

const FLAG: &str = "--child";

/// Runs this program again for one measurement; what that wrote.
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

/// Takes the measurement that was asked for, if one was.
pub(crate) fn serve(args: &[String]) -> bool {
    let [flag, what, name, live] = args else { return false };
    let entrant = ENTRANTS.iter().find(|entrant| entrant.name == name);
    let (Some(entrant), Ok(live)) = (entrant, live.parse()) else { return false };
    let serve: fn(&Entrant, usize) = match what.as_str() {
        memory::FULL => memory::serve_full,
        memory::EMPTY => memory::serve_empty,
        latency::LATENCY => latency::serve,
        _ => return false,
    };
    if flag == FLAG {
        serve(entrant, live);
    }
    flag == FLAG
}
