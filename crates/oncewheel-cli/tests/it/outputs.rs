//! What is written, byte for byte, and where.

use super::{Folder, command, dedup, finish};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Fresh, duplicate, too old, bad; each with oddities that must come out as they came in.
const FRESH: &str = "  {\"key\" : \"a\",\t\"msg_time\":5000, \"min_msg_time\":4000 , \"x\":1.50}  \r\n";
const DUPLICATE: &str = "{\"msg_time\":5001,\"key\":\"\\u0061\",\"\u{e9}\":\"\\u00e9\"}\n";
const TOO_OLD: &str = "{\"key\":\"b\",\"msg_time\":3999}\r\n";
const BAD: &str = "\tnot a delivery \r\n";

#[test]
fn every_line_goes_to_its_output_byte_for_byte() {
    let folder = Folder::new();
    let files = ["duplicates", "too-old", "rejects"];
    let args: Vec<String> = files.iter().flat_map(|name| [format!("--{name}"), folder.path(name)]).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    files.iter().for_each(|name| drop(folder.write(name, "what was there before\n")));
    let ran = dedup(&args, [FRESH, DUPLICATE, TOO_OLD, BAD, DUPLICATE].concat());
    assert_eq!(ran.succeeds().text(), FRESH);
    assert_eq!(files.map(|name| folder.read(name)), [&[DUPLICATE, DUPLICATE].concat(), TOO_OLD, BAD]);
}

#[test]
fn blank_lines_are_no_deliveries() {
    let ran = dedup(&["--summary", "-"], "\n{\"key\":1}\n \t\r\n\n{\"key\":2}\n\n");
    assert_eq!(ran.succeeds().text(), "{\"key\":1}\n{\"key\":2}\n");
    assert_eq!(ran.json()["deliveries"], 2);
    assert_eq!(dedup(&[], "\n\n  ").succeeds().text(), "");
}

#[test]
fn a_last_line_without_newline_gets_one_only_if_another_line_follows() {
    let folder = Folder::new();
    let open = folder.write("open.ndjson", "{\"key\":1}\n{\"key\":2}");
    let next = folder.write("next.ndjson", "{\"key\":3}");
    assert_eq!(dedup(&[&open], "").succeeds().text(), "{\"key\":1}\n{\"key\":2}");
    assert_eq!(dedup(&[&open, &open], "").succeeds().text(), "{\"key\":1}\n{\"key\":2}");
    assert_eq!(dedup(&[&open, &next], "").succeeds().text(), "{\"key\":1}\n{\"key\":2}\n{\"key\":3}");
    dedup(&[&open, &next, &open, &next, "--duplicates", &folder.path("duplicates")], "").succeeds();
    assert_eq!(folder.read("duplicates"), "{\"key\":1}\n{\"key\":2}\n{\"key\":3}");
}

#[test]
fn standard_output_that_is_closed_ends_the_run_quietly() {
    let folder = Folder::new();
    let lines: String = (0..200_000).map(|n| format!("{{\"key\":{n}}}\n")).collect();
    let many = folder.write("many.ndjson", lines);
    let mut child = command(&["dedup", &many]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let ran = finish(child, b"");
    assert_eq!((&*first, ran.status, &*ran.stderr), ("{\"key\":0}\n", 0, ""));
}

#[test]
fn standard_error_that_is_closed_changes_nothing() {
    for (input, status) in [("{\"key\":1}\n", 0), ("{}\n", 65)] {
        let mut child = command(&["dedup"]).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(finish(child, input.as_bytes()).status, status);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_that_takes_no_more_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let child = command(&["dedup"]).stdout(Stdio::from(full)).spawn().unwrap();
    finish(child, b"{\"key\":1}\n").fails(74, "cannot write to standard output: ");

    let ran = dedup(&["--duplicates", "/dev/full"], "{\"key\":1}\n{\"key\":1}\n{\"key\":2}\n");
    ran.fails(74, "cannot write to /dev/full: ");
    assert_eq!(ran.text(), "{\"key\":1}\n{\"key\":2}\n");
    dedup(&["--summary", "/dev/full"], "{\"key\":1}\n").fails(74, "cannot write to /dev/full: ");
}

#[test]
fn an_output_that_cannot_be_made_is_an_error_before_anything_is_read() {
    let folder = Folder::new();
    for option in ["--duplicates", "--too-old", "--rejects", "--summary"] {
        let ran = dedup(&[option, &folder.path("no/such/folder")], "{\"key\":1}\n");
        ran.fails(73, "cannot create ");
        assert_eq!(ran.text(), "");
    }
}

#[test]
fn no_output_is_an_input_or_another_output() {
    let folder = Folder::new();
    let input = folder.write("input", "{\"key\":1}\n");
    let same = folder.path("./input");
    for option in ["--duplicates", "--too-old", "--rejects", "--summary"] {
        dedup(&[&input, option, &same], "").fails(64, "is also an input: name another file for ");
        assert_eq!(folder.read("input"), "{\"key\":1}\n");
    }
    let new = [folder.path("new"), folder.path("./new")];
    let ran = dedup(&["--duplicates", &new[0], "--summary", &new[1]], "");
    ran.fails(64, "is also --duplicates: name another file for --summary");
    assert!(!std::fs::exists(&new[0]).unwrap());
}

#[test]
fn nor_by_way_of_standard_input_and_output_or_another_name() {
    use std::fs::File;
    let folder = Folder::new();
    let input = folder.write("input", "{\"key\":1}\n");
    let link = folder.path("link");
    std::fs::hard_link(&input, &link).unwrap();
    dedup(&[&input, "--rejects", &link], "").fails(64, "is also an input: name another file for --rejects");
    let run = |args: &[&str], stdin: Option<&str>, stdout: Option<&str>| {
        let mut command = command(&[&["dedup"], args].concat());
        stdin.map(|path| command.stdin(File::open(path).unwrap()));
        stdout.map(|path| command.stdout(File::options().append(true).create(true).open(path).unwrap()));
        finish(command.spawn().unwrap(), b"")
    };
    run(&["--rejects", &input], Some(&input), None).fails(64, "is also an input: name another file for --rejects");
    run(&["-"], Some(&input), Some(&link)).fails(64, "standard output is also an input: send it to another file");
    run(&[&input], None, Some(&input)).fails(64, "standard output is also an input: send it to another file");
    let out = folder.path("out");
    let ran = run(&[&input, "--duplicates", &out], None, Some(&out));
    ran.fails(64, "is also standard output: name another file for --duplicates");
    assert_eq!((folder.read("input"), folder.read("out")), ("{\"key\":1}\n".into(), String::new()));
    run(&[&input], None, Some(&out)).succeeds();
    assert_eq!(folder.read("out"), "{\"key\":1}\n");
}

#[test]
#[cfg(unix)]
fn two_outputs_may_go_to_the_same_device() {
    dedup(&["--duplicates", "/dev/null", "--too-old", "/dev/null"], FRESH).succeeds();
}
