//! The command line of the simulation.

pub(crate) const USAGE: &str = "usage: simulate [--deliveries N] [--per-run N] [--seed N] [--scenario NAME] [--table]";

pub(crate) struct Arguments {
    pub(crate) deliveries: u64,
    /// The most deliveries in a run. Further deliveries are runs with the next seeds.
    pub(crate) per_run: u64,
    pub(crate) seed: u64,
    /// All scenarios if `None`.
    pub(crate) scenario: Option<String>,
    pub(crate) table: bool,
}

impl Arguments {
    pub(crate) fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self { deliveries: 1_000_000, per_run: 1_000_000, seed: 1, scenario: None, table: false };
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--deliveries" => arguments.deliveries = number(&value()?)?,
                "--per-run" => arguments.per_run = number(&value()?)?.max(1),
                "--seed" => arguments.seed = number(&value()?)?,
                "--scenario" => arguments.scenario = Some(value()?),
                "--table" => arguments.table = true,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(arguments)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|_| format!("{text} is not a number"))
}
