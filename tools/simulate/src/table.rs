//! The comparison, as a table in Markdown.

use crate::arguments::Arguments;
use oncewheel_simulate::{NAMES, RivalTally};

/// Runs each row and prints it. A cell holds the effects beyond an event's first, and the most keys
/// held at once.
pub(crate) fn print(arguments: &Arguments) -> bool {
    let [first, second, third] = NAMES;
    println!("| | oncewheel | {first} | {second} | {third} |\n|---|--:|--:|--:|--:|");
    let mut events = 0;
    let mut hours = 0;
    let mut lost = 0;
    for (name, scenario) in oncewheel_simulate::compared() {
        match oncewheel_simulate::run(&scenario, arguments.seed, arguments.deliveries, true) {
            Ok(tally) => {
                let rule =
                    RivalTally { twice: tally.doubled.sum(), lost: tally.dead_lettered, keys_max: tally.keys_max };
                let cells: Vec<_> = [rule].iter().chain(&tally.rivals).map(cell).collect();
                println!("| {name} | {} |", cells.join(" | "));
                lost += rule.lost + tally.rivals.iter().map(|rival| rival.lost).sum::<u64>();
                events += tally.events;
                hours += tally.time / 3_600_000;
            }
            Err(failure) => {
                eprintln!("FAILED {failure}");
                return false;
            }
        }
    }
    println!(
        "\nseed {}, {} deliveries a row, {events} events in all, {hours} hours; lost by any of them: {lost}",
        arguments.seed, arguments.deliveries
    );
    true
}

fn cell(tally: &RivalTally) -> String {
    format!("{}; {}", grouped(tally.twice), grouped(tally.keys_max as u64))
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
