//! Bytes per live key, by the growth of the process's resident memory.

use crate::child;
use crate::contenders::{Buffers, ENTRANTS, Entrant, Team};
use std::io::{Error, Result};

pub(crate) const FULL: &str = "memory";
pub(crate) const EMPTY: &str = "memory-empty";

/// Contenders that differ from another only in how they are called.
const SAME_AS_ANOTHER: [&str; 4] = ["floor", "oncewheel_unsync_batch", "oncewheel_sync_batch", "oncewheel_claim"];

pub(crate) struct Memory {
    pub(crate) name: &'static str,
    pub(crate) live: usize,
    /// Growth of the process's resident memory.
    pub(crate) resident: usize,
    /// The cache's own count.
    pub(crate) counted: Option<usize>,
    pub(crate) held: usize,
}

impl Memory {
    /// Divided by the keys that must be held. Keys that are held longer than needed do not count.
    pub(crate) fn bytes_per_key(&self) -> f64 {
        self.resident as f64 / self.live as f64
    }
}

pub(crate) fn measure_all(sizes: &[usize]) -> Result<Vec<Memory>> {
    let entrants = ENTRANTS.iter().filter(|entrant| !SAME_AS_ANOTHER.contains(&entrant.name));
    let pairs = entrants.flat_map(|entrant| sizes.iter().map(move |live| (entrant.name, *live)));
    pairs.map(|(name, live)| measure(name, live)).collect()
}

fn measure(name: &'static str, live: usize) -> Result<Memory> {
    let written = child::ask(FULL, name, live)?;
    let [resident, counted, held] = numbers(&written)?[..] else { return Err(child::garbled(FULL)) };
    Ok(Memory { name, live, resident, counted: Some(counted).filter(|counted| *counted > 0), held })
}

pub(crate) fn measure_empty(live: usize) -> Result<usize> {
    numbers(&child::ask(EMPTY, "oncewheel_unsync", live)?)?.first().copied().ok_or_else(|| child::garbled(EMPTY))
}

fn numbers(written: &[u8]) -> Result<Vec<usize>> {
    let text = str::from_utf8(written).map_err(Error::other)?;
    text.split_whitespace().map(|number| number.parse().map_err(Error::other)).collect()
}

/// In the child. Runs for more than two windows, so that every table has reached its final size.
pub(crate) fn serve_full(entrant: &Entrant, live: usize) {
    let buffers = Buffers::new(1);
    let before = resident_bytes();
    let mut team = Team::new(entrant, live, buffers);
    team.fill(if team.runs_on_wall_clock() { 1.1 } else { 2.2 });
    let after = resident_bytes();
    println!("{} {} {}", after.saturating_sub(before), team.memory_counted().unwrap_or(0), team.held());
}

/// In the child.
pub(crate) fn serve_empty(entrant: &Entrant, live: usize) {
    let buffers = Buffers::new(1);
    let before = resident_bytes();
    let team = Team::new(entrant, live, buffers);
    println!("{}", resident_bytes().saturating_sub(before).max(team.memory_counted().unwrap_or(0)));
}

/// Linux only. Exact, unlike `/proc/self/statm`, which is late by some pages for each processor.
/// Without the pages of the program itself, which are loaded 16 at a time when it first runs there.
fn resident_bytes() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux with /proc mounted");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.expect("a line with the resident memory") * 1024
}
