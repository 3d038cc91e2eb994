//! `--journal`: what a run has written, the next run over the same input does not write again,
//! however the first ended.

use super::{Folder, Ran, command, dedup, finish, trace};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn delivery(key: impl std::fmt::Display, time: u64) -> String {
    format!("{{\"key\":\"{key}\",\"msg_time\":{time},\"min_msg_time\":{},\"delivered_at\":{time}}}\n", time - 100)
}

/// Each key twice, up to 20 deliveries apart.
fn deliveries(keys: u64) -> String {
    let keys: Vec<u64> = (0..keys).collect();
    let twice = keys.chunks(20).flat_map(|part| [part, part].concat());
    (1000..).zip(twice).map(|(time, key)| delivery(key, time)).collect()
}

fn keys(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split('"').nth(3).unwrap()).collect()
}

fn journaled(folder: &Folder, args: &[&str], input: &str) -> Ran {
    dedup(&[&["--journal", &folder.path("journal")], args].concat(), input)
}

#[test]
fn a_run_over_the_same_input_writes_nothing_again() {
    let input = deliveries(3000);
    for durability in ["process", "power"] {
        let folder = Folder::new();
        let args = ["--durability", durability];
        let first = journaled(&folder, &args, &input);
        assert_eq!(keys(first.succeeds().text()).len(), 3000);
        assert!(!first.stderr.contains("restored from the journal"), "{}", first.stderr);
        let second = journaled(&folder, &args, &input);
        assert_eq!(second.succeeds().text(), "");
        assert!(second.stderr.starts_with("oncewheel: 3,000 keys restored from the journal\n"), "{}", second.stderr);
    }
}

#[test]
fn half_an_input_and_then_the_whole_write_each_key_once() {
    let folder = Folder::new();
    let input = deliveries(3000);
    let (half, _) = input.split_at(input[..input.len() / 2].rfind('\n').unwrap() + 1);
    let runs = [half, &input].map(|input| journaled(&folder, &[], input).succeeds().text().to_owned());
    assert!(runs.iter().all(|written| !written.is_empty()));
    assert_eq!(runs.concat(), dedup(&[], &input).text());
}

#[test]
fn a_run_that_a_bad_line_stops_has_committed_what_it_wrote() {
    let folder = Folder::new();
    let input = deliveries(50);
    let first = journaled(&folder, &[], &[&input, "oops\n"].concat());
    first.fails(65, "<stdin>:101: not JSON");
    assert_eq!(keys(first.text()).len(), 50);
    assert_eq!(journaled(&folder, &[], &input).succeeds().text(), "");
}

/// But for time and memory.
#[test]
fn the_summary_of_the_trimmed_recording_is_that_of_a_run_without_a_journal() {
    let recording = trace::trimmed();
    let args = [&[recording.to_str().unwrap(), "--summary", "-"], &trace::LONG_ENOUGH[..]].concat();
    let plain = dedup(&args, "");
    for commit_every in ["1", "7", "1000", "4000000000"] {
        let folder = Folder::new();
        let journaled = journaled(&folder, &[&args[..], &["--commit-every", commit_every]].concat(), "");
        assert!(journaled.succeeds().stdout == plain.succeeds().stdout);
        let mut json = journaled.json();
        assert!(json["journal_bytes"].as_u64() > Some(23_958 * 24));
        for (name, value) in plain.json().as_object().unwrap() {
            if !["memory_bytes_max", "elapsed_ms", "deliveries_per_second"].contains(&&**name) {
                assert_eq!(json[name], *value, "{name} with --commit-every {commit_every}");
            }
        }
        let names = ["keys_restored", "damaged_bytes", "damage", "journal_failures"];
        assert_eq!(names.map(|name| json[name].take().to_string()), ["0", "0", "[]", "0"]);
    }
}

#[test]
fn the_recordings_come_out_exact_over_runs_that_end_anywhere() {
    let text = trace::text(&trace::trimmed());
    let expected = trace::first_deliveries(&text);
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let folder = Folder::new();
    let mut written = String::new();
    for end in [1, 2, 5_000, 5_001, 17_777, lines.len()] {
        written += journaled(&folder, &trace::LONG_ENOUGH, &lines[..end].concat()).succeeds().text();
    }
    assert!(written == expected, "other lines than the first of each key");
}

#[test]
fn a_copy_of_a_line_that_is_not_committed_yet_is_a_duplicate_and_counts_once() {
    let at = |key: &str, time: u64| format!("{{\"key\":\"{key}\",\"msg_time\":{time},\"delivered_at\":1000000}}\n");
    // The second copy's time is clamped: once, though it is judged twice.
    let input = [at("a", 1_000_000), at("a", 9_000_000), at("b", 1_000_000)].concat();
    for args in [&["--summary", "-"][..], &["--summary", "-", "--max-keys", "2"]] {
        let folder = Folder::new();
        let ran = journaled(&folder, &[args, &["--duplicates", &folder.path("duplicates")]].concat(), &input);
        assert_eq!(keys(ran.succeeds().text()), ["a", "b"]);
        assert_eq!(folder.read("duplicates"), at("a", 9_000_000));
        let names = ["fresh", "duplicates", "clamped_times", "keys_live_max", "duplicate_age_ms_max"];
        assert_eq!(names.map(|name| ran.json()[name].as_u64().unwrap()), [2, 1, 1, 2, 60_000]);
    }
}

#[test]
fn a_line_that_waits_to_be_committed_does_not_keep_another_out_of_a_cache_with_few_places() {
    let folder = Folder::new();
    let far_apart: String = (1..100).map(|n| delivery(n, n * 1_000_000)).collect();
    let ran = journaled(&folder, &["--max-keys", "2", "--max-clock-skew", "20m"], &far_apart);
    assert_eq!(keys(ran.succeeds().text()).len(), 99);
}

#[test]
fn lines_are_committed_before_more_input_is_waited_for() {
    let folder = Folder::new();
    let mut child = command(&["dedup", "--journal", &folder.path("journal")]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(deliveries(10).as_bytes()).unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..10 {
        stdout.read_line(&mut line).unwrap();
    }
    // Written and for a moment not committed; committed once the next line is written.
    stdin.write_all(delivery("next", 2000).as_bytes()).unwrap();
    stdout.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let again = journaled(&folder, &[], &deliveries(10));
    assert_eq!(again.succeeds().text(), "");
}

/// A watermark outlives the run that it came in: if it were stored before a line that it passes,
/// that line would be too old for the next run, and no run would write it.
#[test]
fn the_watermark_does_not_pass_a_line_that_is_not_committed() {
    let passes = [
        ("\"min_msg_time\":1001", &["--max-retention", "none"][..]),
        ("\"min_msg_time\":1011", &["--max-out-of-orderness", "10ms"]),
        ("\"delivered_at\":2001", &["--max-retention", "1s"]),
        ("\"delivered_at\":2011", &["--max-retention", "1s", "--max-out-of-orderness", "10ms"]),
    ];
    for (time, limits) in passes {
        let folder = Folder::new();
        let input = format!("{{\"key\":\"a\",\"msg_time\":1000}}\n{{\"key\":\"b\",\"msg_time\":3000,{time}}}\n");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let journal = folder.path("journal");
        let args = [&["dedup", "--journal", &journal], limits].concat();
        finish(command(&args).stdout(writer).spawn().unwrap(), input.as_bytes()).succeeds();
        assert_eq!(keys(journaled(&folder, limits, &input).succeeds().text()), ["a", "b"], "{time}");
        let again = journaled(&folder, &[limits, &["--summary", "-"]].concat(), &input);
        assert_eq!(again.json()["watermark_ms"], 1001, "{time} has passed the first line");
    }
}

#[test]
fn what_standard_output_does_not_take_is_not_committed() {
    let folder = Folder::new();
    let journal = folder.path("journal");
    let run_to = |stdout: Stdio| {
        let child = command(&["dedup", "--journal", &journal]).stdout(stdout).spawn().unwrap();
        finish(child, deliveries(10).as_bytes())
    };
    if cfg!(target_os = "linux") {
        let full = File::options().write(true).open("/dev/full").unwrap();
        run_to(full.into()).fails(74, "cannot write to standard output: ");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run_to(writer.into()).status, 0, "a closed output is no failure");
    assert_eq!(keys(journaled(&folder, &[], &deliveries(10)).succeeds().text()).len(), 10);
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_journal_does_not_take_is_reported_and_written_again() {
    let folder = Folder::new();
    let (journal, input) = (folder.path("journal"), deliveries(1000));
    // No file may grow beyond 16 blocks: the journal's segment breaks off in the midst of a write.
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" dedup --journal \"$1\" --commit-every 100";
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_oncewheel"), &journal]);
    let limited = limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = finish(limited, input.as_bytes());
    first.fails(74, "what was being written is not committed: fix the cause and try again. ");
    let lines: usize = first.stderr.split(". ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    first.fails(74, " lines were written and not committed: a run that is started again may write them again");
    let second = journaled(&folder, &[], &input);
    let (first, second) = (keys(first.text()), keys(second.succeeds().text()));
    assert!((1..=100).contains(&lines) && !first.is_empty() && second.len() < 1000, "{lines}");
    assert_eq!(first.len() + second.len(), 1000 + lines);
    assert_eq!(first.iter().chain(&second).collect::<HashSet<_>>().len(), 1000);
}

#[test]
#[cfg(target_os = "linux")]
fn a_line_is_not_glued_to_half_of_one_that_a_killed_run_left_behind() {
    let folder = Folder::new();
    let whole = delivery("a", 1000);
    for (before, expected) in [
        ("", whole.clone()),
        ("{\"key\":\"z\"}\n", format!("{{\"key\":\"z\"}}\n{whole}")),
        (&whole[..7], format!("{}\n{whole}", &whole[..7])),
    ] {
        let output = folder.write("output", before);
        let journal = folder.path(&format!("journal-{}", before.len()));
        let stdout = OpenOptions::new().append(true).open(&output).unwrap();
        let child = command(&["dedup", "--journal", &journal]).stdout(stdout).spawn().unwrap();
        finish(child, whole.as_bytes()).succeeds();
        assert_eq!(folder.read("output"), expected);
    }
}

#[test]
fn a_journal_in_use_is_refused_and_nothing_is_touched() {
    let folder = Folder::new();
    let mut holder = command(&["dedup", "--journal", &folder.path("journal")]).spawn().unwrap();
    let mut stdin = holder.stdin.take().unwrap();
    stdin.write_all(delivery("a", 1000).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let duplicates = folder.write("duplicates", "from before\n");
    let ran = journaled(&folder, &["--duplicates", &duplicates], &deliveries(1));
    ran.fails(75, "oncewheel: the journal is in use (");
    assert_eq!((ran.text(), &*folder.read("duplicates")), ("", "from before\n"));
    drop(stdin);
    assert!(holder.wait().unwrap().success());
    journaled(&folder, &[], &deliveries(1)).succeeds();
}

#[test]
fn a_journal_that_cannot_be_opened_is_refused_before_anything_is_read() {
    let folder = Folder::new();
    let file = folder.write("file", "");
    for path in [file.clone(), folder.path("file/journal")] {
        let ran = dedup(&["--journal", &path], deliveries(1));
        ran.fails(74, &format!("oncewheel: {}", folder.path("file")));
        assert_eq!((ran.text(), ran.stderr.lines().count()), ("", 1), "{}", ran.stderr);
    }
    journaled(&folder, &["--max-keys", "10"], &deliveries(10)).succeeds();
    journaled(&folder, &["--max-keys", "9"], "").fails(75, "holds more than 9 keys: raise --max-keys");
    fs::remove_file(folder.path("journal/secret")).unwrap();
    journaled(&folder, &[], "").fails(66, "secret is missing or damaged");
}

/// Overwrites some bytes in the midst of the only segment: of the first key, that is, behind the
/// header and the first watermark.
fn damage(folder: &Folder) {
    let files = fs::read_dir(folder.path("journal")).unwrap().map(|entry| entry.unwrap().path());
    let segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|suffix| suffix == "segment")).collect();
    let [segment] = &*segments else { panic!("{segments:?}") };
    let mut bytes = fs::read(segment).unwrap();
    bytes[170..176].fill(0xff);
    fs::write(segment, bytes).unwrap();
}

#[test]
fn damage_is_reported_and_strict_refuses_it() {
    let folder = Folder::new();
    let input = deliveries(10);
    journaled(&folder, &["--commit-every", "1"], &input).succeeds();
    damage(&folder);
    let strict = journaled(&folder, &["--strict"], &input);
    strict.fails(66, "unreadable bytes at ");
    strict.fails(66, "; nothing was changed: leave --strict out to recover what is readable\n");
    assert_eq!(strict.text(), "");

    let copy = folder.path("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(folder.path("journal")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), format!("{copy}/{}", entry.file_name().to_str().unwrap())).unwrap();
    }
    let recovered = journaled(&folder, &[], &input);
    let lost = keys(recovered.succeeds().text()).len();
    assert!((1..10).contains(&lost), "{lost} keys were there");
    assert!(
        recovered.stderr.contains(", skipped; keys that were there may be written again\n"),
        "{}",
        recovered.stderr
    );
    assert!(recovered.stderr.contains("keys restored from the journal\n"), "{}", recovered.stderr);

    let json = dedup(&["--journal", &copy, "--summary", "-"], &input).succeeds().json();
    assert_eq!((json["keys_restored"].as_u64(), json["fresh"].as_u64()), (Some(10 - lost as u64), Some(lost as u64)));
    assert!(json["damaged_bytes"].as_u64() > Some(0) && json["damage"][0].as_str().unwrap().contains("unreadable"));
}

/// Bytes of the input that are fed at once, and the pause after them: what is killed is somewhere
/// in between.
const FED_BYTES: usize = 5_000;

/// Feeds a run slowly, kills it after `life`, and returns what it wrote; whether it came to its end
/// before.
fn kill_after(life: Duration, mut child: Child, input: &str) -> (String, bool) {
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let feed = input.to_owned();
    let feeder = thread::spawn(move || {
        // The end of the run breaks the pipe.
        feed.as_bytes().chunks(FED_BYTES).all(|part| {
            thread::sleep(Duration::from_micros(200));
            stdin.write_all(part).is_ok()
        })
    });
    let reader = thread::spawn(move || {
        let mut written = String::new();
        stdout.read_to_string(&mut written).map(|_| written).unwrap()
    });
    let deadline = Instant::now() + life;
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill(); // it may have ended by itself
    let is_done = child.wait().unwrap().success();
    feeder.join().unwrap();
    (reader.join().unwrap(), is_done)
}

/// Kills runs over the recording until one comes to its end; the lives get longer, so that one
/// does.
fn killed_runs_miss_nothing(commit_every: usize, extra: &[&str]) {
    let input = trace::text(&trace::trimmed());
    let input = &input[..input[..input.len() / 2].rfind('\n').unwrap() + 1];
    let folder = Folder::new();
    let (journal, every) = (folder.path("journal"), commit_every.to_string());
    let args = [&["dedup", "--journal", &journal, "--commit-every", &every], &trace::LONG_ENOUGH[..], extra].concat();
    let mut times: HashMap<String, usize> = HashMap::new();
    let mut kills = 0;
    let mut state = u64::from(std::process::id()) + commit_every as u64;
    loop {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(5 + (state >> 33) % 40 + 5 * kills as u64);
        let (written, is_done) = kill_after(life, command(&args).spawn().unwrap(), input);
        // A truncated line was not committed, and is written again.
        let whole = &written[..written.rfind('\n').map_or(0, |end| end + 1)];
        for key in keys(whole) {
            *times.entry(key.to_owned()).or_default() += 1;
        }
        if is_done {
            break;
        }
        kills += 1;
    }
    let expected: HashSet<_> = keys(input).into_iter().collect();
    assert_eq!(times.len(), expected.len(), "after {kills} kills a key is missing");
    let again: usize = times.values().map(|times| times - 1).sum();
    assert!(again <= kills * commit_every, "{again} lines came again after {kills} kills");
    println!("--commit-every {commit_every}: {kills} kills, {again} lines came again");
}

#[test]
fn runs_that_are_killed_write_every_key_and_at_most_one_line_a_kill_twice_if_each_is_committed() {
    killed_runs_miss_nothing(1, &[]);
}

#[test]
fn runs_that_are_killed_write_every_key_and_twice_only_those_of_the_last_group() {
    killed_runs_miss_nothing(100, &[]);
    killed_runs_miss_nothing(1000, &["--durability", "power"]);
}
