//! Deliveries recorded from a real broker: every event once, in the order of its first delivery.

use super::{Folder, Ran, dedup};
use flate2::read::GzDecoder;
use std::collections::HashSet;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const LONG_ENOUGH: [&str; 4] = ["--max-retry", "60s", "--max-network", "5s"];
const TOO_SHORT: [&str; 4] = ["--max-retry", "4s", "--max-network", "1s"];

/// The first 25,000 deliveries of the recording.
pub(super) fn trimmed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/nats-retry-redelivery-25k.ndjson.gz")
}

/// The whole recording, which lies beside the repository where it is developed.
fn whole() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces/nats-retry-redelivery-1.ndjson.gz");
    if !path.exists() {
        println!("skipped: there is no {}", path.display());
    }
    path.exists().then_some(path)
}

pub(super) fn text(trace: &Path) -> String {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(trace).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// The lines with a key not seen before. The key comes first on every line, and no key has an
/// escape in it.
pub(super) fn first_deliveries(deliveries: &str) -> String {
    let mut seen = HashSet::new();
    deliveries.split_inclusive('\n').filter(|line| seen.insert(line.split('"').nth(3).unwrap())).collect()
}

/// Takes up to 3 s off each message's time: as many as a hash of the line's number says.
fn shaken(deliveries: &str) -> String {
    let mut shaken = String::new();
    for (number, line) in (0_u64..).zip(deliveries.split_inclusive('\n')) {
        let (before, rest) = line.split_once(",\"msg_time\":").unwrap();
        let (time, after) = rest.split_once(',').unwrap();
        let earlier = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 3001;
        let time = time.parse::<u64>().unwrap() - earlier;
        write!(shaken, "{before},\"msg_time\":{time},{after}").unwrap();
    }
    shaken
}

fn judge(trace: &Path, limits: &[&str]) -> Ran {
    dedup(&[&[trace.to_str().unwrap(), "--summary", "-"], limits].concat(), "")
}

fn counts<const N: usize>(ran: &Ran, names: [&str; N]) -> [u64; N] {
    names.map(|name| ran.json()[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", ran.stderr)))
}

#[track_caller]
fn comes_out_exact(trace: &Path) {
    let ran = judge(trace, &LONG_ENOUGH);
    assert!(ran.succeeds().text() == first_deliveries(&text(trace)), "other lines than the first of each key");
    assert_eq!(
        counts(&ran, ["too_old", "late_duplicates", "rejected", "rejected_watermarks", "clamped_times"]),
        [0; 5]
    );
}

#[test]
fn each_event_of_the_trimmed_recording_comes_out_once_in_the_order_of_first_delivery() {
    comes_out_exact(&trimmed());
    let ran = judge(&trimmed(), &LONG_ENOUGH);
    let [deliveries, fresh, duplicates] = counts(&ran, ["deliveries", "fresh", "duplicates"]);
    assert_eq!((deliveries, fresh + duplicates), (25_000, 25_000));
}

#[test]
fn each_event_of_the_whole_recording_comes_out_once_in_the_order_of_first_delivery() {
    let Some(trace) = whole() else { return };
    comes_out_exact(&trace);
    let ran = judge(&trace, &LONG_ENOUGH);
    assert_eq!(counts(&ran, ["deliveries", "fresh", "duplicates"]), [214_468, 203_390, 11_078]);
    let [live_max, live_end] = counts(&ran, ["keys_live_max", "keys_live_end"]);
    assert!(live_max < 150_000 && live_end < live_max, "keys expire: {live_max}, {live_end}");
}

#[test]
fn the_age_of_duplicates_tells_the_horizon_that_the_whole_recording_needs() {
    let Some(trace) = whole() else { return };
    let ran = judge(&trace, &LONG_ENOUGH);
    let [age] = counts(&ran, ["duplicate_age_ms_max"]);
    assert!((31_467..32_500).contains(&age), "{age}");
}

#[track_caller]
fn too_short_a_horizon_shows(trace: &Path, keys: u64) {
    let [fresh, late] = counts(&judge(trace, &TOO_SHORT), ["fresh", "late_duplicates"]);
    assert!(fresh > keys && late > 0, "fresh {fresh}, late {late}");
    let in_words = dedup(&[&[trace.to_str().unwrap()], &TOO_SHORT[..]].concat(), "");
    assert!(in_words.stderr.contains("The horizon is too short: raise it to "), "{}", in_words.stderr);
}

#[test]
fn a_horizon_too_short_for_the_trimmed_recording_shows_in_the_summary() {
    too_short_a_horizon_shows(&trimmed(), 23_958);
}

#[test]
fn a_horizon_too_short_for_the_whole_recording_shows_in_the_summary() {
    if let Some(trace) = whole() {
        too_short_a_horizon_shows(&trace, 203_390);
    }
}

#[track_caller]
fn shaken_times_need_out_of_orderness(trace: &Path) {
    let folder = Folder::new();
    let deliveries = shaken(&text(trace));
    let shaken = PathBuf::from(folder.write("shaken.ndjson", &deliveries));
    let [too_old] = counts(&judge(&shaken, &LONG_ENOUGH), ["too_old"]);
    assert!(too_old > 0, "messages are older than the watermark");
    let ran = judge(&shaken, &[&LONG_ENOUGH[..], &["--max-out-of-orderness", "3s"]].concat());
    assert_eq!(counts(&ran, ["too_old", "late_duplicates"]), [0, 0]);
    assert!(ran.succeeds().text() == first_deliveries(&deliveries), "other lines than the first of each key");
}

#[test]
fn shaken_times_of_the_trimmed_recording_are_too_old_unless_that_is_allowed_for() {
    shaken_times_need_out_of_orderness(&trimmed());
}

#[test]
fn shaken_times_of_the_whole_recording_are_too_old_unless_that_is_allowed_for() {
    if let Some(trace) = whole() {
        shaken_times_need_out_of_orderness(&trace);
    }
}
