//! Bad input: nothing is lost, and the error says where and what.

use super::{Folder, dedup, gzip};

const GOOD: &str = "{\"key\":\"a\",\"msg_time\":5000}\n";
const AFTER: &str = "{\"key\":\"b\",\"msg_time\":5000}\n";

/// Lines that are no deliveries, and the message.
const BAD_LINES: &[(&[u8], &str)] = &[
    (b"{\"key\":\"x\"", "not JSON: EOF while parsing an object at column 10"),
    (b"{\"key\":\"x\"} {}", "not JSON: trailing characters at column 13"),
    (b"{\"key\":\"x\",\"other\":[1,2,}", "not JSON: "),
    (b"{\"key\":\"x\",\"msg_time\":01}", "not JSON: "),
    (b"hello", "not JSON: "),
    (b"[\"key\"]", "invalid type: sequence, expected a JSON object"),
    (b"\"key\"", "invalid type: string \"key\", expected a JSON object"),
    (b"null", "invalid type: null, expected a JSON object"),
    (b"{\"key\":\"\xff\"}", "not UTF-8 at byte 9"),
    (b"{\"key\":\"x\",\"other\":\"\xff\"}", "not UTF-8 at byte 21"),
    (b"{}", "no key: there is no field \"key\""),
    (b"{\"id\":\"x\"}", "no key: there is no field \"key\""),
    (b"{\"key\":null}", "no key: the field \"key\" is null"),
    (b"{\"key\":\"\"}", "no key: the field \"key\" is an empty string"),
    (b"{\"key\":true}", "no key: the field \"key\" is true"),
    (b"{\"key\":1.0}", "no key: the field \"key\" is a fraction, or has an exponent"),
    (b"{\"key\":1e3}", "no key: the field \"key\" is a fraction, or has an exponent"),
    (b"{\"key\":[\"x\"]}", "no key: the field \"key\" is an array"),
    (b"{\"key\":{\"x\":1}}", "no key: the field \"key\" is an object"),
    (b"{\"key\":\"x\",\"key\":\"x\"}", "the field \"key\" is there twice"),
    (b"{\"key\":\"x\",\"msg_time\":1,\"msg_time\":null}", "the field \"msg_time\" is there twice"),
    (b"{\"key\":\"x\",\"msg_time\":1.5}", "the time \"msg_time\" is a fraction"),
    (b"{\"key\":\"x\",\"msg_time\":1e3}", "the time \"msg_time\" is a fraction"),
    (b"{\"key\":\"x\",\"msg_time\":-2}", "the time \"msg_time\" is negative"),
    (b"{\"key\":\"x\",\"msg_time\":18446744073709551616}", "the time \"msg_time\" is too large a number"),
    (b"{\"key\":\"x\",\"min_msg_time\":false}", "the time \"min_msg_time\" is false"),
    (b"{\"key\":\"x\",\"min_msg_time\":\"\"}", "the time \"min_msg_time\" is \"\": neither"),
    (b"{\"key\":\"x\",\"msg_time\":\"yesterday\"}", "the time \"msg_time\" is \"yesterday\": neither"),
    (b"{\"key\":\"x\",\"msg_time\":\"2023-11-14T22:13:20\"}", "neither a Unix time nor RFC 3339 text"),
    (b"{\"key\":\"x\",\"msg_time\":\"1969-12-31T23:59:59.999Z\"}", "before 1970"),
    (b"{\"key\":\"x\",\"delivered_at\":[1]}", "the time \"delivered_at\" is an array"),
    (
        b"{\"key\":\"x\",\"delivered_at\":1700000000000000}",
        "which looks like microseconds, not milliseconds: add --time-unit us",
    ),
    (b"{\"key\":\"x\",\"delivered_at\":\"253402300800000\"}", "beyond the year 9999"),
];

fn between_good_lines(bad: &[u8]) -> Vec<u8> {
    [GOOD.as_bytes(), bad, b"\n", AFTER.as_bytes()].concat()
}

#[test]
fn a_bad_line_stops_the_run_and_what_was_judged_before_is_written() {
    for (bad, what) in BAD_LINES {
        let ran = dedup(&[], between_good_lines(bad));
        ran.fails(65, "\n<stdin>:2: ");
        ran.fails(65, what);
        assert_eq!(ran.text(), GOOD, "{what}");
    }
}

#[test]
fn with_rejects_bad_lines_are_written_there_unchanged_and_counted_and_the_run_goes_on() {
    let folder = Folder::new();
    for (bad, what) in BAD_LINES {
        let ran = dedup(&["--rejects", &folder.path("rejects"), "--summary", "-"], between_good_lines(bad));
        assert_eq!(ran.succeeds().text(), [GOOD, AFTER].concat(), "{what}");
        assert_eq!(std::fs::read(folder.path("rejects")).unwrap(), [bad, b"\n".as_slice()].concat());
        assert_eq!((&ran.json()["rejected"], &ran.json()["deliveries"]), (&1.into(), &3.into()));
    }
}

#[test]
fn the_message_names_the_file_and_the_line_in_it() {
    let folder = Folder::new();
    let first = folder.write("first.ndjson", [GOOD, "\n", AFTER].concat());
    let second = folder.write("second.ndjson", ["\n", "{}\n"].concat());
    dedup(&[&first, &second], "").fails(65, &format!("{second}:2: no key"));
}

#[test]
fn a_missing_file_or_a_directory_is_named_and_what_came_before_stands() {
    let folder = Folder::new();
    let good = folder.write("good.ndjson", GOOD);
    for bad in [folder.path("missing"), folder.path("")] {
        let ran = dedup(&[&good, &bad, &good], "");
        ran.fails(66, &format!("cannot open {bad}: "));
        assert_eq!(ran.text(), GOOD);
    }
}

#[test]
fn of_a_truncated_gzip_the_complete_lines_before_are_judged() {
    let folder = Folder::new();
    let lines: Vec<_> = (0..5000).map(|n| format!("{{\"key\":\"{n}\",\"msg_time\":{n}}}\n")).collect();
    let whole = gzip(lines.concat());
    let cut = folder.write("cut.gz", &whole[..whole.len() / 2]);
    let ran = dedup(&[&cut, "--summary", &folder.path("summary")], "");
    let judged = ran.text().lines().count();
    assert!(judged > 0 && lines.concat().starts_with(ran.text()) && ran.text().ends_with('\n'));
    ran.fails(74, &format!("{cut}:{}: the input cannot be read from here on: ", judged + 1));
    assert!(folder.read("summary").contains(&format!("\"deliveries\":{judged},")));
}

#[test]
fn a_gzip_that_fails_its_checksum_or_is_followed_by_garbage_is_an_error() {
    let mut corrupt = gzip(GOOD);
    let checksum = corrupt.len() - 8;
    corrupt[checksum] ^= 1;
    for bad in [corrupt, [gzip(GOOD), b"garbage".to_vec()].concat()] {
        let ran = dedup(&[], bad);
        ran.fails(74, "<stdin>:2: the input cannot be read from here on: ");
        assert_eq!(ran.text(), GOOD);
    }
}

const TWO_KEYS_THEN_A_THIRD: [&str; 2] = [
    "{\"key\":\"a\",\"msg_time\":9000,\"delivered_at\":9000,\"min_msg_time\":8000}\n{\"key\":\"b\",\"msg_time\":9000}\n",
    "{\"key\":\"a\"}\n{\"key\":\"c\",\"msg_time\":9000}\n{\"key\":\"d\",\"msg_time\":9000}\n",
];

#[test]
fn a_full_cache_evicts_nothing_and_the_message_names_line_and_option() {
    let ran = dedup(&["--max-keys", "2"], TWO_KEYS_THEN_A_THIRD.concat());
    ran.fails(75, "<stdin>:4: the cache is full: 2 keys are held");
    ran.fails(75, "and none has expired yet. Raise --max-keys");
    assert_eq!(ran.text(), TWO_KEYS_THEN_A_THIRD[0]);
    assert!(ran.stderr.contains("3 deliveries"), "the duplicate was judged: {}", ran.stderr);
}

#[test]
fn of_a_full_cache_in_which_nothing_can_ever_expire_the_message_says_why() {
    let no_min_msg_time = TWO_KEYS_THEN_A_THIRD.concat().replace("8000", "null");
    let cases = [
        (["--max-retention", "none"], no_min_msg_time.replace("9000", "1800000000000"), "--max-retention is none"),
        (["--now", "absent"], no_min_msg_time.clone(), "no absent was seen, from which --max-retention counts"),
        (["--max-retention", "15d"], no_min_msg_time, "is it in milliseconds?"),
    ];
    for (args, input, why) in cases {
        let ran = dedup(&[&args[..], &["--max-keys", "2"]].concat(), input);
        ran.fails(75, "none can ever expire, since no min_msg_time was seen and ");
        ran.fails(75, why);
    }
}

#[test]
fn only_the_watermark_expires_keys() {
    let moved = "{\"key\":\"c\",\"msg_time\":90000,\"delivered_at\":90000,\"min_msg_time\":80000}\n";
    let limits = ["--max-retry", "4s", "--max-network", "1s", "--max-keys", "2"];
    let ran = dedup(&limits, [TWO_KEYS_THEN_A_THIRD[0], moved].concat());
    assert_eq!(ran.succeeds().text(), [TWO_KEYS_THEN_A_THIRD[0], moved].concat());
}

#[test]
fn times_at_the_ends_of_their_range_neither_panic_nor_expire_every_key() {
    let lines = "{\"key\":\"a\",\"msg_time\":1800000000000,\"delivered_at\":1800000000000}\n\
                 {\"key\":\"b\",\"msg_time\":18446744073709551615,\"min_msg_time\":18446744073709551615}\n\
                 {\"key\":\"c\",\"msg_time\":1,\"min_msg_time\":1}\n\
                 {\"key\":\"a\",\"msg_time\":1800000000000,\"min_msg_time\":180000000000000000}\n\
                 {\"key\":\"b\",\"msg_time\":0}\n";
    let ran = dedup(&["--summary", "-", "--too-old", "/dev/null"], lines);
    assert_eq!(ran.succeeds().text().lines().count(), 2);
    let json = ran.json();
    let counts =
        ["fresh", "duplicates", "too_old", "rejected_watermarks", "clamped_times"].map(|name| json[name].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(1), Some(2), Some(1)]);
}

#[test]
fn no_bytes_make_it_panic() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"{}[]\":,.key msg_time0123456789-e\\u\n\n\xff\0"[(state >> 33) as usize % 38]
    })
    .take(100_000)
    .collect();
    let folder = Folder::new();
    let deep = [b"{\"key\":".as_slice(), &[b'['; 100_000], b"\n"].concat();
    for bytes in [noise, deep] {
        dedup(&["--rejects", &folder.path("rejects")], bytes).succeeds();
    }
}
