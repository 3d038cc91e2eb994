//! Wrong times, missing times, and gaps: what they cost, and what the summary tells.

use super::{Folder, Ran, dedup};

/// Some day of last year, in milliseconds
const DAY: u64 = 1_750_000_000_000;
const MONTH: u64 = 30 * 86_400_000;
const WEEK: u64 = 7 * 86_400_000;

fn delivery(key: &str, time: u64, min_msg_time: u64) -> String {
    format!("{{\"key\":\"{key}\",\"msg_time\":{time},\"min_msg_time\":{min_msg_time},\"delivered_at\":{time}}}\n")
}

fn without_clock(key: &str, time: u64, min_msg_time: u64) -> String {
    format!("{{\"key\":\"{key}\",\"msg_time\":{time},\"min_msg_time\":{min_msg_time}}}\n")
}

/// A hundred lines and a thousand, one second apart; each tenth a copy.
fn good(line: fn(&str, u64, u64) -> String) -> [String; 2] {
    let line = |n: u64| {
        let key = if n % 10 == 9 { n - 5 } else { n };
        line(&format!("k{key}"), DAY + n * 1_000, DAY + n * 1_000 - 500)
    };
    [(0..100).map(line).collect(), (100..1_100).map(line).collect()]
}

#[track_caller]
fn comes_out<const N: usize>(ran: &Ran, expected: [(&str, u64); N]) {
    let json = ran.succeeds().json();
    expected.iter().for_each(|(name, count)| assert_eq!(json[*name], *count, "{name} of {json}"));
}

#[test]
fn lines_without_a_time_do_not_decide_the_clock_of_a_recording() {
    let [some, more] = good(delivery);
    for timeless in ["{\"key\":\"a\"}\n".to_owned(), (0..50).map(|n| format!("{{\"key\":\"a{n}\"}}\n")).collect()] {
        let count = timeless.lines().count() as u64;
        let input = [&*timeless, &some, &timeless, &more].concat();
        let ran = dedup(&["--summary", "-"], input);
        comes_out(&ran, [("fresh", 990 + count), ("duplicates", 110 + count), ("too_old", 0), ("wrong_times", 0)]);
        assert!(ran.json()["watermark_ms"].as_u64() < Some(DAY + 2_000_000));
    }
}

#[test]
fn a_recording_after_the_wall_clock_has_counted_is_an_error() {
    // Nothing is kept by the broker: the watermark follows the clock from the first line on.
    let input = ["{\"key\":\"a\"}\n", &delivery("b", DAY, DAY)].concat();
    let ran = dedup(&["--max-retention", "0s"], &input);
    ran.fails(65, "<stdin>:2: a delivery of the time 1750000000000 ms, after lines without a time");
    ran.fails(65, "Give every line its time, or run the two kinds apart");
    let now = oncewheel::Timestamp::now().as_millis() + 5_000;
    dedup(&["--max-retention", "0s"], ["{\"key\":\"a\"}\n", &delivery("b", now, 0)].concat()).succeeds();
}

#[test]
fn one_wrong_time_costs_no_other_line_and_is_named() {
    let month_ahead = |line: u64, time: u64| {
        [
            format!("{{\"key\":\"bad\",\"msg_time\":{time},\"delivered_at\":{}}}\n", time + MONTH),
            format!("{{\"key\":\"bad\",\"msg_time\":{time},\"min_msg_time\":{}}}\n", time + MONTH),
            without_clock("bad", time + MONTH, time + MONTH),
            delivery("bad", time + MONTH, time + MONTH),
        ]
        .map(|bad| (bad, format!("<stdin>:{line}: ")))
    };
    for line in [delivery, without_clock] {
        let [some, more] = good(line);
        // Without other lines' `delivered_at`, nothing is known of one.
        let is_first = usize::from(!good(line)[0].contains("delivered_at"));
        for (bad, place) in month_ahead(101, DAY + 100_000).into_iter().skip(is_first) {
            let ran = dedup(&["--summary", "-"], [&*some, &bad, &more].concat());
            comes_out(&ran, [("fresh", 991), ("duplicates", 110), ("too_old", 0)]);
            assert!(ran.json()["watermark_ms"].as_u64() < Some(DAY + 2_000_000));
            let named = ran.json()["wrong_times_first"][0].as_str().unwrap_or_default().to_owned();
            assert!(named.starts_with(&place) && named.contains("720h"), "{bad}{}", ran.stderr);
        }
        // The first line's, too.
        for (bad, place) in month_ahead(1, DAY).into_iter().skip(is_first) {
            let ran = dedup(&["--summary", "-"], [&*bad, &some, &more].concat());
            comes_out(&ran, [("fresh", 991), ("duplicates", 110), ("too_old", 0)]);
            assert!(ran.json()["wrong_times_first"][0].as_str().unwrap().starts_with(&place));
        }
    }
}

#[test]
fn the_only_min_msg_time_is_contradicted_by_the_messages_after_it() {
    let [some, more] = good(|key, time, _| format!("{{\"key\":{key:?},\"msg_time\":{time}}}\n"));
    let bad = format!("{{\"key\":\"bad\",\"min_msg_time\":{}}}\n", DAY + MONTH);
    for (input, place) in [([&*some, &bad, &more], "<stdin>:101: min_msg_time"), ([&bad, &some, &more], "<stdin>:1: ")]
    {
        let ran = dedup(&["--summary", "-"], input.concat());
        comes_out(&ran, [("fresh", 991), ("duplicates", 110), ("too_old", 0), ("wrong_times", 1)]);
        assert!(ran.json()["wrong_times_first"][0].as_str().unwrap().starts_with(place), "{}", ran.stderr);
    }
}

#[test]
fn wrong_times_here_and_there_and_two_in_a_row_cost_no_other_line() {
    let [some, more] = good(delivery);
    let bad = |n: u64| delivery(&format!("bad{n}"), DAY + MONTH + n, DAY + MONTH + n);
    let mut input = [&some, &*bad(1), &bad(2)].concat();
    for (n, line) in (3..).zip(more.split_inclusive('\n')) {
        input += line;
        input += &if n % 50 == 0 { bad(n) } else { String::new() };
    }
    let ran = dedup(&["--summary", "-"], &input);
    comes_out(&ran, [("fresh", 990 + 2 + 20), ("duplicates", 110), ("too_old", 0)]);
    assert!(ran.json()["wrong_times"].as_u64() >= Some(22), "{}", ran.stderr);
    assert_eq!(ran.json()["wrong_times_first"].as_array().unwrap().len(), 10);
    let words = dedup(&[], &input).stderr;
    assert!(words.contains("contradicted by the next lines") && words.contains("  and "), "{words}");
}

#[test]
fn a_gap_that_is_real_is_no_error_and_expires_what_lies_before_it() {
    for line in [delivery, without_clock] {
        let before: String = (0..100).map(|n| line(&format!("k{n}"), DAY + n, DAY + n)).collect();
        let after: String = (0..100).map(|n| line(&format!("k{n}"), DAY + WEEK + n, DAY + WEEK + n)).collect();
        let ran = dedup(&["--summary", "-"], [&*before, &after].concat());
        let json = ran.succeeds().json();
        let [fresh, duplicates] = ["fresh", "duplicates"].map(|name| json[name].as_u64().unwrap());
        // Late is safe: the lines that the jump needs for its confirmation find the keys still
        // there.
        assert!((198..=200).contains(&fresh) && fresh + duplicates == 200, "{json}");
        assert_eq!((&json["too_old"], &json["wrong_times"], &json["expired"]), (&0.into(), &0.into(), &100.into()));
        assert_eq!(json["watermark_ms"], DAY + WEEK + 99);
    }
}

#[test]
fn a_message_after_a_gap_that_is_not_confirmed_yet_is_kept_as_long_as_any() {
    // Every line is a jump: the clock is two lines late, and a message's time must not be cut to
    // it.
    let hour = 3_600_000;
    let lines: String =
        (0..50).flat_map(|n| [n, n - 1].map(|key| delivery(&format!("k{key}"), DAY + n as u64 * hour, 0))).collect();
    let ran = dedup(&["--max-retry", "90m", "--summary", "-"], lines);
    comes_out(&ran, [("fresh", 51), ("duplicates", 49), ("clamped_times", 0), ("late_duplicates", 0)]);
}

#[test]
fn room_that_a_gap_makes_is_waited_for() {
    let full = [delivery("a", DAY, DAY), delivery("b", DAY, DAY)].concat();
    let after: String = (0..2).map(|n| delivery(&format!("c{n}"), DAY + WEEK + n, DAY + WEEK + n)).collect();
    let stalled = "{\"key\":\"c0\"}\n";
    let more = [stalled, &delivery("c1", DAY + WEEK + 1, DAY + WEEK + 1), &delivery("c0", DAY + WEEK, DAY)].concat();
    for end in [after.clone(), [&*after, &more].concat()] {
        let ran = dedup(&["--max-keys", "2"], [&*full, &end].concat());
        assert_eq!(ran.succeeds().text(), [&*full, &after].concat());
    }
    // Not if the next line contradicts the gap, or cannot be read.
    let gap = delivery("c", DAY + WEEK, DAY + WEEK);
    for (next, what) in [(delivery("d", DAY, DAY), "the cache is full"), ("oops\n".to_owned(), "the cache is full")] {
        let ran = dedup(&["--max-keys", "2"], [&*full, &gap, &next].concat());
        ran.fails(75, &format!("<stdin>:3: {what}"));
        assert_eq!(ran.text(), full);
    }
}

#[test]
fn a_jump_that_no_line_confirms_does_not_reach_the_journal() {
    let folder = Folder::new();
    let journal = folder.path("journal");
    let [some, more] = good(delivery);
    let bad = delivery("bad", DAY + MONTH, DAY + MONTH);
    dedup(&["--journal", &journal], [&*some, &bad].concat()).succeeds();
    let ran = dedup(&["--journal", &journal, "--summary", "-"], &more);
    comes_out(&ran, [("too_old", 0), ("fresh", 900), ("duplicates", 100)]);

    // Not even for the room that it would make.
    let journal = folder.path("full");
    let gap = delivery("c", DAY + WEEK, DAY + WEEK);
    let full = [delivery("a", DAY, DAY), delivery("b", DAY, DAY), gap].concat();
    dedup(&["--journal", &journal, "--max-keys", "2"], &full).fails(75, "<stdin>:3: the cache is full");
    comes_out(&dedup(&["--journal", &journal, "--summary", "-"], ""), [("watermark_ms", DAY)]);
}

#[test]
fn where_more_than_a_tenth_is_too_old_the_exit_status_says_so_unless_a_file_takes_them() {
    let folder = Folder::new();
    let old =
        |count: u64| -> String { (0..count).map(|n| without_clock(&format!("old{n}"), DAY - 10_000, 0)).collect() };
    let [some, _] = good(without_clock);
    dedup(&[], [&*some, &old(11)].concat()).succeeds();
    let ran = dedup(&[], [&*some, &old(12)].concat());
    ran.fails(
        76,
        "oncewheel: 12 of 112 deliveries were too old and were written nowhere: name a file for them with --too-old",
    );
    assert_eq!(ran.text().lines().count(), 90);
    let ran = dedup(&["--summary", "-"], [&*some, &old(12)].concat());
    assert_eq!((ran.status, &ran.json()["too_old"]), (76, &12.into()));
    dedup(&["--too-old", &folder.path("too-old")], [&*some, &old(12)].concat()).succeeds();
    assert_eq!(folder.read("too-old"), old(12));
}

#[test]
fn no_advice_is_longer_than_the_recording() {
    let [some, more] = good(delivery);
    let ancient = without_clock("ancient", 1_000, 0);
    let ran = dedup(&[], [&*some, &ancient, &more].concat());
    let words = &ran.succeeds().stderr;
    assert!(!words.contains("set --max-out-of-orderness"), "{words}");
    assert!(words.contains("further than the recording of 18m19s is long: check the times and their unit"), "{words}");

    let far_apart = [0, MONTH].map(|time| format!("{{\"key\":\"a\",\"msg_time\":{}}}\n", DAY + time)).concat();
    let some = good(|key, time, _| format!("{{\"key\":{key:?},\"msg_time\":{time}}}\n"));
    let ran = dedup(&[], [&*far_apart, &some.concat()].concat());
    let words = &ran.succeeds().stderr;
    assert!(words.contains("Copies lie 720h apart, further than the recording of 18m19s is long"), "{words}");
}
