//! What is read: files, standard input, compressed or not; fields and times in their forms.

use super::{Folder, command, dedup, gzip};
use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn files_and_standard_input_plain_and_compressed_are_read_in_order() {
    let folder = Folder::new();
    let plain = folder.write("1.ndjson", "{\"key\":1}\n");
    let misnamed = folder.write("2.txt", gzip("{\"key\":2}\n{\"key\":1}\n"));
    let two_members = folder.write("4.gz", [gzip("{\"key\":3}\n{\"ke"), gzip("y\":4}\n")].concat());
    let empty = folder.write("empty", "");
    for stdin in [b"{\"key\":3}\n".to_vec(), gzip("{\"key\":3}\n")] {
        let ran = dedup(&[&plain, &misnamed, "-", &empty, &two_members], stdin);
        assert_eq!(ran.succeeds().text(), "{\"key\":1}\n{\"key\":2}\n{\"key\":3}\n{\"key\":4}\n");
    }
    assert_eq!(dedup(&[], "").succeeds().text(), "");
}

const LINES: &str = "{\"key\":1}\n{\"key\":2}\n";

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_line() {
    let marked = ["\u{feff}", LINES].concat();
    for input in [marked.clone().into_bytes(), gzip(&marked)] {
        assert_eq!(dedup(&[], input).succeeds().text(), LINES);
    }
    dedup(&[], "\u{feff}").succeeds();
    dedup(&[], "\u{feff}oops").fails(65, "<stdin>:1: not JSON");
}

#[test]
fn zeros_after_the_end_of_gzip_are_padding() {
    for zeros in [1, 500, 200_000] {
        let padded = [gzip(LINES), vec![0; zeros]].concat();
        assert_eq!(dedup(&[], &padded).succeeds().text(), LINES);
        let ran = dedup(&[], [padded, gzip(LINES)].concat());
        ran.fails(74, "<stdin>:3: the input cannot be read from here on: zeros and then more bytes follow");
        assert_eq!(ran.text(), LINES);
    }
}

/// By the reference implementation, with a checksum.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x68\xb5\0\0\x70\x7b\x22\x6b\x65\x79\x22\x3a\x31\x7d\x0a\
                      \x32\x31\x7d\x0a\x02\0\xa0\x88\x66\x05\x09\x01\xf4\xda\xd9";

#[test]
fn zstd_is_read_frame_by_frame() {
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0any";
    let more = ruzstd::encoding::compress_to_vec(&b"{\"key\":3}\n"[..], ruzstd::encoding::CompressionLevel::Fastest);
    let ran = dedup(&[], [ZSTD, skippable, &more].concat());
    assert_eq!(ran.succeeds().text(), [LINES, "{\"key\":3}\n"].concat());
}

#[test]
fn zstd_that_breaks_off_or_fails_its_checksum_is_an_error() {
    let mut corrupt = ZSTD.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    for bad in [corrupt, ZSTD[..ZSTD.len() - 1].to_vec(), ZSTD[..20].to_vec(), [ZSTD, b"garbage"].concat()] {
        let ran = dedup(&[], bad);
        ran.fails(74, ": the input cannot be read from here on: ");
        assert!(LINES.starts_with(ran.text()) || ran.text() == LINES);
    }
}

#[test]
fn other_formats_are_named_with_the_command_that_makes_lines_of_them() {
    let folder = Folder::new();
    for (bytes, what, of_file, of_stdin) in [
        (&b"\xfd7zXZ\0rest"[..], "compressed by xz,", "xz -dc ", "... | xz -dc |"),
        (b"BZh91AY", "compressed by bzip2,", "bzip2 -dc ", "... | bzip2 -dc |"),
        (b"\x04\x22\x4d\x18rest", "compressed by lz4,", "lz4 -dc ", "... | lz4 -dc |"),
        (b"PK\x03\x04rest", "compressed by zip,", "unzip -p ", "... | funzip |"),
        (b"\xff\xfe{\0", "this is UTF-16,", "iconv -f UTF-16 -t UTF-8 ", "... | iconv -f UTF-16 -t UTF-8 |"),
        (b"{\0\"\0", "this is UTF-16,", "iconv -f UTF-16LE -t UTF-8 ", "... | iconv -f UTF-16LE -t UTF-8 |"),
        (b"\0{\0\"", "this is UTF-16,", "iconv -f UTF-16BE -t UTF-8 ", "... | iconv -f UTF-16BE -t UTF-8 |"),
    ] {
        let file = folder.write("file", bytes);
        let ran = dedup(&[&file], "");
        ran.fails(65, &format!("{file}: {what}"));
        ran.fails(65, &format!(" {of_file}{file} | oncewheel dedup"));
        dedup(&[], bytes).fails(65, &format!(" {of_stdin} oncewheel dedup"));
    }
    // A start of one is none.
    dedup(&[], "B").fails(65, "<stdin>:1: not JSON");
}

#[test]
fn nested_fields_are_named_with_dots() {
    let input = "{\"m\":{\"id\":\"a\",\"t\":{\"at\":5}},\"id\":1}\n{\"id\":2,\"m\":{\"t\":{},\"id\":\"a\"}}\n";
    let ran = dedup(&["--key", "m.id", "--msg-time", "m.t.at"], input);
    assert_eq!(ran.succeeds().text(), input.lines().next().unwrap().to_owned() + "\n");
    dedup(&["--key", "m.id.x"], input).fails(65, "<stdin>:1: no key: there is no field \"m.id.x\"");
}

#[test]
fn a_dot_may_be_part_of_a_name_and_a_pointer_says_which_is_meant_where_both_are_there() {
    let flat = "{\"event.id\":\"a\",\"@timestamp\":\"2026-11-01T10:00:00Z\"}\n";
    let nested = "{\"event\":{\"id\":\"a\"},\"@timestamp\":\"2026-11-01T10:00:01Z\"}\n";
    let times = ["--msg-time", "@timestamp"];
    let ran = dedup(&[&times[..], &["--key", "event.id"]].concat(), [flat, nested].concat());
    assert_eq!(ran.succeeds().text(), flat);

    let both = ["a", "b"].map(|id| format!("{{\"event.id\":{id:?},\"event\":{{\"id\":1}}}}\n"));
    dedup(&["--key", "event.id"], &both[0]).fails(65, "say which with a JSON pointer, such as /event.id or /event/id");
    assert_eq!(dedup(&["--key", "/event.id"], both.concat()).succeeds().text(), both.concat());
    assert_eq!(dedup(&["--key", "/event/id"], both.concat()).succeeds().text(), both[0]);
}

#[test]
fn integers_beyond_64_bits_are_keys_as_they_are_written() {
    let lines = ["18446744073709551616", "18446744073709551617", "-170141183460469231731687303715884105728"]
        .map(|digits| format!("{{\"key\":{digits}}}\n"));
    let same = "{\"key\":\"18446744073709551616\"}\n";
    assert_eq!(dedup(&[], [&*lines.concat(), same].concat()).succeeds().text(), lines.concat());
}

#[test]
fn values_that_stand_for_no_time_are_unknown_times() {
    for no_time in ["-1", "\"-1\"", "-62135596800000", "\"0001-01-01T00:00:00Z\"", "\"0001-01-01T00:00:00\""] {
        let known = "{\"key\":1,\"msg_time\":5000,\"min_msg_time\":4000,\"delivered_at\":5000}\n";
        let unknown =
            format!("{{\"key\":2,\"msg_time\":{no_time},\"min_msg_time\":{no_time},\"delivered_at\":{no_time}}}\n");
        let ran = dedup(&["--summary", "-"], [known, &unknown].concat());
        assert_eq!(ran.succeeds().text(), [known, &unknown].concat());
        assert_eq!((&ran.json()["watermark_ms"], &ran.json()["too_old"]), (&4000.into(), &0.into()), "{no_time}");
    }
}

#[test]
fn a_time_in_another_unit_is_an_error_that_names_field_unit_and_fix() {
    let line = |msg_time: &str, rest: &str| format!("{{\"key\":1,\"msg_time\":{msg_time}{rest}}}\n");
    for (input, fix) in [
        (line("1795302291", ",\"delivered_at\":1795302291500"), "such as with jq -c '.msg_time *= 1000'"),
        (
            line("1795302291", ",\"delivered_at\":1795302292"),
            "looks like seconds, not milliseconds: add --time-unit s ",
        ),
        (line("1795302291000000", ""), "looks like microseconds, not milliseconds: add --time-unit us "),
        (line("\"1795302291000000000\"", ""), "looks like nanoseconds, not milliseconds: add --time-unit ns "),
        (
            line("null", ",\"min_msg_time\":1795302291000000"),
            "the time \"min_msg_time\" is 1795302291000000, which looks ",
        ),
    ] {
        let ran = dedup(&[], &input);
        ran.fails(65, "<stdin>:1: the time \"m");
        ran.fails(65, fix);
        assert_eq!(ran.text(), "");
    }
    dedup(&["--time-unit", "us"], line("1795302291000", ""))
        .fails(65, "milliseconds, not microseconds: add --time-unit ms");
}

#[test]
fn with_their_unit_named_copies_a_minute_apart_are_duplicates() {
    for (unit, per_second) in [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000_u64)] {
        let line = |key: u64, seconds: u64| {
            let time = (1_795_302_291 + seconds) * per_second;
            format!("{{\"key\":{key},\"msg_time\":{time},\"min_msg_time\":{time}}}\n")
        };
        let lines: String = (0..480).map(|n| line(n % 60 + n / 120 * 60, n)).collect();
        let json = dedup(&["--time-unit", unit, "--summary", "-"], lines).succeeds().json();
        assert_eq!((&json["fresh"], &json["duplicates"]), (&240.into(), &240.into()), "{unit}");
    }
}

#[test]
fn a_key_is_a_string_or_an_integer_and_its_digits_are_the_same_key() {
    let input = "{\"key\":1}\n{\"key\":\"1\"}\n{\"key\":-1}\n{\"key\":\"\\u002d1\"}\n{\"k\\u0065y\":\"\u{e9}\"}\n";
    let ran = dedup(&[], input);
    assert_eq!(ran.succeeds().text(), "{\"key\":1}\n{\"key\":-1}\n{\"k\\u0065y\":\"\u{e9}\"}\n");
}

#[test]
fn times_are_numbers_digits_or_rfc_3339_and_all_mean_the_same() {
    let folder = Folder::new();
    for (watermark, behind, at) in [
        ("1700000000123", "1700000000122", "1700000000123"),
        ("\"1700000000123\"", "\"1700000000122\"", "\"1700000000123\""),
        ("\"2023-11-14T22:13:20.123Z\"", "\"2023-11-14T22:13:20.122999Z\"", "\"2023-11-15T00:13:20.1239999+02:00\""),
    ] {
        let lines = [
            format!("{{\"key\":1,\"msg_time\":{watermark},\"min_msg_time\":{watermark}}}\n"),
            format!("{{\"key\":2,\"msg_time\":{behind}}}\n"),
            format!("{{\"key\":3,\"msg_time\":{at}}}\n"),
        ];
        let ran = dedup(&["--summary", "-", "--too-old", &folder.path("too-old")], lines.concat());
        assert_eq!(ran.succeeds().text(), [&*lines[0], &lines[2]].concat());
        assert_eq!(ran.json()["watermark_ms"], 1_700_000_000_123_u64);
        assert_eq!(ran.json()["too_old_by_ms_max"], 1);
    }
}

#[test]
fn a_min_msg_time_counts_before_its_own_delivery_is_judged() {
    let ran = dedup(&["--summary", "-"], "{\"key\":1,\"msg_time\":999,\"min_msg_time\":1000}\n");
    assert_eq!((ran.status, &ran.json()["too_old"]), (76, &1.into()));
}

#[test]
fn unknown_times_change_nothing_and_an_unknown_msg_time_is_now() {
    let unknown = ["null", "0", "\"0\"", "\"1970-01-01T00:00:00Z\""];
    let mut input = "{\"key\":1,\"msg_time\":5000,\"min_msg_time\":4000,\"delivered_at\":6000}\n".to_owned();
    for (key, time) in (2..).zip(unknown) {
        input += &format!("{{\"key\":{key},\"msg_time\":{time},\"min_msg_time\":{time},\"delivered_at\":{time}}}\n");
    }
    // Too old, if its time were 0; a second apart from the first copy's, if it is now.
    input += "{\"key\":1}\n";
    let ran = dedup(&["--max-retry", "500ms", "--max-network", "0s", "--summary", "-"], input);
    let json = ran.succeeds().json();
    assert_eq!((&json["fresh"], &json["too_old"], &json["watermark_ms"]), (&5.into(), &0.into(), &4000.into()));
    assert!((1000..1010).contains(&json["duplicate_age_ms_max"].as_u64().unwrap()), "{json}");
}

#[test]
fn without_any_time_field_the_wall_clock_counts() {
    let day_ms = 86_400_000;
    let now = oncewheel::Timestamp::now().as_millis();
    let ran = dedup(&["--summary", "-"], "{\"key\":1}\n{\"key\":1}\n{\"key\":2}\n");
    let json = ran.succeeds().json();
    let watermark = json["watermark_ms"].as_u64().unwrap();
    assert!((now - 15 * day_ms..now - 14 * day_ms).contains(&watermark), "{watermark}");
    assert_eq!((&json["fresh"], &json["duplicates"]), (&2.into(), &1.into()));
}

#[test]
fn lines_of_any_length_are_read_whole() {
    let long = format!("{{\"key\":\"{}\",\"other\":\"{}\"}}\n", "k".repeat(300_000), "o".repeat(900_000));
    let ran = dedup(&[], [&*long, "{\"key\":1}\n", &long].concat());
    assert!(ran.succeeds().text() == [&*long, "{\"key\":1}\n"].concat());
}

#[test]
fn what_is_judged_is_written_before_more_input_is_waited_for() {
    let mut child = command(&["dedup"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).map(|_| sender.send(line))
    });
    stdin.write_all(b"{\"key\":1}\n").unwrap();
    let line = lines.recv_timeout(Duration::from_secs(30));
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(line.as_deref(), Ok("{\"key\":1}\n"));
}
