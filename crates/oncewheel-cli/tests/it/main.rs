//! The command, run as a user runs it.
#![allow(clippy::unwrap_used, reason = "a test that panics fails")]

mod bad_input;
mod inputs;
mod journal;
mod outputs;
mod summary;
mod times;
mod trace;
mod usage;

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process, thread};

struct Ran {
    status: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stderr).unwrap()
    }

    /// Exit status, and a phrase that standard error must hold.
    #[track_caller]
    fn fails(&self, status: i32, phrase: &str) {
        assert!(self.stderr.contains(phrase), "{phrase:?} is not in: {}", self.stderr);
        assert_eq!(self.status, status, "{}", self.stderr);
    }

    #[track_caller]
    fn succeeds(&self) -> &Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncewheel"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `oncewheel dedup` on these arguments and this standard input.
fn dedup(args: &[&str], input: impl AsRef<[u8]>) -> Ran {
    finish(command(&[&["dedup"], args].concat()).spawn().unwrap(), input.as_ref())
}

fn finish(mut child: Child, input: &[u8]) -> Ran {
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // A run that fails early does not read all of it.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    let stderr = String::from_utf8(output.stderr).unwrap();
    Ran { status: output.status.code().unwrap(), stdout: output.stdout, stderr }
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes.as_ref()).unwrap();
    gzip.finish().unwrap()
}

/// A directory of one test, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("oncewheel-test-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), bytes).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
