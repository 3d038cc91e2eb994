//! The command line: what is impossible is refused in one line with the fix.

use super::{command, dedup, finish};

#[test]
fn what_is_wrong_is_refused_in_one_line_with_the_fix() {
    let cases: &[(&[&str], &str)] = &[
        (&["--no-such-option"], "unexpected argument '--no-such-option'"),
        (&["--max-retri", "5s"], "a similar argument exists: '--max-retry'"),
        (&["--max-retry"], "a value is required for '--max-retry"),
        (&["--max-retry", "90"], "write numbers with their units"),
        (&["--max-retry", "soon"], "write numbers with their units"),
        (&["--max-retry", "-5s"], "a duration cannot be negative"),
        (&["--max-retry=-5s"], "a duration cannot be negative"),
        (&["--max-network", "99999999999999h"], "write numbers with their units"),
        (&["--max-clock-skew", "1 month"], "no months or years"),
        (&["--max-retention", "never"], "; or none"),
        (&["--max-out-of-orderness", ""], "write numbers with their units"),
        (&["--max-retry", "0s", "--max-network", "0s"], "--max-retry + --max-network is zero: set them to "),
        (&["--max-keys", "0"], "--max-keys is 0: choose a number from 1 to 2147483648"),
        (&["--max-keys", "3000000000"], "choose a number from 1 to 2147483648"),
        (&["--max-keys", "many"], "invalid value 'many' for '--max-keys"),
        (&["--key", ""], "name a field"),
        (&["--key", "a..b"], "name a field"),
        (&["--key", "1.2.3.4.5.6.7.8.9"], "write /1/2/3/4/5/6/7/8/9 for nested objects"),
        (&["--time-unit", "minutes"], "[possible values: s, ms, us, ns]"),
        (&["--rejects", "-"], "name a file"),
        (&["--journal"], "a value is required for '--journal"),
        (&["--strict"], "required arguments were not provided: --journal <DIR>"),
        (&["--durability", "power"], "--journal <DIR>"),
        (&["--commit-every", "10"], "--journal <DIR>"),
        (&["--journal", "/", "--commit-every", "0"], "invalid value '0' for '--commit-every"),
        (&["--journal", "/", "--commit-every", "-1"], "invalid value '-1' for '--commit-every"),
        (&["--journal", "/", "--durability", "memory"], "[possible values: process, power]"),
        (&["--key", "a", "--key", "b"], "cannot be used multiple times"),
    ];
    for (args, what) in cases {
        let ran = dedup(args, "{\"key\":1}\n");
        ran.fails(64, what);
        assert_eq!((ran.stderr.lines().count(), ran.text()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("oncewheel: "), "{}", ran.stderr);
    }
}

#[test]
fn a_wrong_or_missing_subcommand_is_refused_in_one_line() {
    for args in [&[][..], &["dedupe"], &["--dedup"]] {
        let ran = finish(command(args).spawn().unwrap(), b"");
        assert_eq!((ran.status, ran.stderr.lines().count()), (64, 1), "{}", ran.stderr);
    }
}

#[test]
fn help_names_every_option_with_its_default() {
    let help = dedup(&["--help"], "");
    let help = help.succeeds().text().split_whitespace().collect::<Vec<_>>().join(" ");
    for (option, default) in [
        ("--key", "key"),
        ("--msg-time", "msg_time"),
        ("--min-msg-time", "min_msg_time"),
        ("--now", "delivered_at"),
        ("--time-unit", "ms"),
        ("--max-retry", "10m"),
        ("--max-network", "30s"),
        ("--max-retention", "15d"),
        ("--max-out-of-orderness", "0s"),
        ("--max-clock-skew", "1m"),
        ("--max-keys", "10000000"),
        ("--durability", "process"),
        ("--commit-every", "1000"),
    ] {
        let (_, after) = help.split_once(&format!("{option} <")).unwrap_or_else(|| panic!("{option}: {help}"));
        let (_, after) = after.split_once("[default: ").unwrap();
        assert!(after.starts_with(&format!("{default}]")), "{option}: {after}");
    }
    for option in ["--duplicates", "--too-old", "--rejects", "--summary"] {
        assert!(help.contains(&format!("{option} <FILE>")), "{option}");
    }
    assert!(help.contains("--journal <DIR>") && help.contains("--strict "), "{help}");
    for status in ["0 done", "64 ", "65 ", "66 ", "73 ", "74 ", "75 ", "76 more than a tenth"] {
        assert!(help.contains(status), "{status}: {help}");
    }
    let version = finish(command(&["--version"]).spawn().unwrap(), b"");
    assert_eq!(version.succeeds().text(), concat!("oncewheel ", env!("CARGO_PKG_VERSION"), "\n"));
}
