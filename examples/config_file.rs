//! The configuration from a file, and statistics into one: durations as people write them.
//!
//!     cargo run --example config_file --features serde

use oncewheel::journal::Durability;
use oncewheel::{Config, unsync::DedupCache};
use serde::Deserialize;

/// One queue, as it stands in the service's own configuration. Any format that serde reads will do.
#[derive(Deserialize)]
struct Queue {
    name: String,
    durability: Durability,
    dedup: Config,
}

const FILE: &str = r#"{
    "name": "payments",
    "durability": "memory",
    "dedup": {
        "horizon": { "max_retry": "10m", "max_network": "30s", "max_retention": "4d" },
        "max_keys": 2000000,
        "lease": "1m"
    }
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Queue { name, durability, dedup } = serde_json::from_str(FILE)?;
    let dir = std::env::temp_dir().join(&name); // a journal's; not touched with `memory`
    let mut cache = DedupCache::open(dir, dedup, durability)?;
    println!("{name}: {} now", cache.insert("transfer-1", None)?);
    println!("{}", serde_json::to_string(&cache.stats())?);

    // A misspelt setting is an error, and so is a number without a unit.
    let misspelt = serde_json::from_str::<Queue>(&FILE.replace("max_retry", "max_retries"));
    println!("{}", misspelt.err().ok_or("it was accepted")?);
    let no_unit = serde_json::from_str::<Queue>(&FILE.replace("\"30s\"", "30"));
    println!("{}", no_unit.err().ok_or("it was accepted")?);
    Ok(())
}
