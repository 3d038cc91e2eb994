//! The summary, for programs and for people.

use super::{Folder, dedup};

const LATE: &str = "{\"key\":1,\"msg_time\":1000,\"delivered_at\":1000}\n\
                    {\"key\":2,\"msg_time\":1000}\n\
                    {\"key\":1,\"msg_time\":8500,\"delivered_at\":9000}\n\
                    {\"key\":3,\"msg_time\":3000,\"min_msg_time\":5500}\n\
                    {\"key\":4,\"msg_time\":999999}\n\
                    {\"key\":5,\"msg_time\":9000,\"min_msg_time\":999999}\n";
const FIVE_SECONDS: [&str; 4] = ["--max-retry", "4s", "--max-network", "1s"];

#[test]
fn the_json_holds_all_counts() {
    let folder = Folder::new();
    let path = folder.path("summary.json");
    let input = [LATE, "oops\n"].concat();
    let (rejects, too_old) = (folder.path("rejects"), folder.path("too-old"));
    let outputs = ["--summary", &path, "--rejects", &rejects, "--too-old", &too_old];
    dedup(&[&FIVE_SECONDS[..], &outputs].concat(), input).succeeds();
    let text = folder.read("summary.json");
    assert_eq!(text.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, expected) in [
        ("deliveries", 7),
        ("fresh", 4),
        ("duplicates", 1),
        ("too_old", 1),
        ("rejected", 1),
        ("keys_live_max", 4),
        ("keys_live_end", 4),
        ("late_duplicates", 1),
        ("too_old_by_ms_max", 2500),
        ("clamped_times", 1),
        ("rejected_watermarks", 1),
        ("wrong_times", 1),
        ("expired", 0),
        ("watermark_ms", 5500),
    ] {
        assert_eq!(json[name], expected, "{name} of {text}");
    }
    for name in ["duplicate_age_ms_p50", "duplicate_age_ms_p99", "duplicate_age_ms_max"] {
        assert!((7500..7600).contains(&json[name].as_u64().unwrap()), "{name} of {text}");
    }
    for name in ["memory_bytes_max", "elapsed_ms", "deliveries_per_second"] {
        assert!(json[name].is_u64(), "{name} of {text}");
    }
}

#[test]
fn keys_are_counted_at_their_most_and_at_the_end() {
    let many: String = (0..1000).map(|n| format!("{{\"key\":{n},\"msg_time\":1000}}\n")).collect();
    let later = "{\"key\":\"x\",\"msg_time\":900000,\"min_msg_time\":900000}\n".repeat(2);
    let json = dedup(&["--summary", "-"], [many, later].concat()).succeeds().json();
    assert_eq!((&json["keys_live_max"], &json["expired"]), (&1000.into(), &1000.into()));
    assert_eq!(json["keys_live_end"], 1);
    assert!(json["memory_bytes_max"].as_u64() > Some(1000 * 16));
}

#[test]
fn on_standard_error_the_json_stands_in_place_of_the_words() {
    let ran = dedup(&["--summary", "-"], "{\"key\":1}\n");
    assert_eq!(ran.succeeds().json()["deliveries"], 1);
    assert!(ran.json()["duplicate_age_ms_max"].is_null());
}

#[test]
fn the_words_say_how_many_how_old_and_how_much() {
    let lines: String = (0..1234).map(|n| format!("{{\"key\":{n},\"msg_time\":1}}\n").repeat(2)).collect();
    let ran = dedup(&[], lines);
    for words in
        ["2,468 deliveries in ", " a second", "1,234 ", "50.00 %", "all up to ", "1,234   at most", "iB of memory"]
    {
        assert!(ran.succeeds().stderr.contains(words), "{words} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
}

#[test]
fn the_words_warn_of_a_horizon_too_short_and_say_what_to_raise_it_to() {
    let folder = Folder::new();
    let ran = dedup(&[&FIVE_SECONDS[..], &["--too-old", &folder.path("too-old")]].concat(), LATE);
    for words in [
        "warning: 1 duplicates came later than --max-retry + --max-network = 5s allows",
        "raise it to 8s at least",
        "warning: 1 deliveries were older than the watermark and their keys are not held",
        "set --max-out-of-orderness, here to 3s at least",
        "warning: 1 times of messages and 1 min_msg_times lay more than --max-clock-skew = 1m ahead",
    ] {
        assert!(ran.succeeds().stderr.contains(words), "{words} in {}", ran.stderr);
    }
    let enough = ["--max-retry", "8s", "--max-out-of-orderness", "3s"];
    let enough = dedup(&enough, LATE.replace("999999", "9000"));
    assert!(!enough.succeeds().stderr.contains("warning"), "{}", enough.stderr);
}

#[test]
fn after_a_failure_the_summary_tells_what_was_done() {
    let folder = Folder::new();
    let ran = dedup(&["--summary", &folder.path("summary")], "{\"key\":1}\n{}\n");
    ran.fails(65, "1 deliveries in ");
    assert!(folder.read("summary").contains("\"deliveries\":1,"));
}
