//! Writes messages and the summary.

use crate::failure::Failure;
use crate::outputs;
use crate::summary::Summary;
use indicatif::HumanCount;
use oncewheel::journal::Recovery;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Where the summary goes. Opened before the run, so that a wrong path does not show only at its
/// end.
pub(crate) enum Report {
    /// Standard error, in words
    Text,
    /// Standard error, in JSON
    OnStderr,
    /// A file, in JSON; and standard error, in words
    InFile(File, String),
}

impl Report {
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Text),
            Some(path) if path.as_os_str() == "-" => Ok(Self::OnStderr),
            Some(path) => Ok(Self::InFile(outputs::create_file(path)?, path.display().to_string())),
        }
    }

    /// What was restored from the journal, and its damage. The summary in JSON has both.
    pub(crate) fn print_recovery(&self, recovery: &Recovery) {
        if let Self::OnStderr = self {
            return;
        }
        for damage in &recovery.damage {
            print(&format!("oncewheel: {damage}; keys that were there may be written again"));
        }
        if recovery.keys_restored > 0 {
            print(&format!("oncewheel: {} keys restored from the journal", HumanCount(recovery.keys_restored as u64)));
        }
    }

    /// No text if nobody reads the output any more (`is_watched`).
    pub(crate) fn write(self, summary: &Summary, is_watched: bool) -> Result<(), Failure> {
        let mut result = Ok(());
        let wants_text = match self {
            Self::Text => true,
            Self::OnStderr => {
                print(&summary.json());
                false
            }
            Self::InFile(mut file, name) => {
                let written = writeln!(file, "{}", summary.json());
                result = written.map_err(|error| Failure::Write { file: name, error });
                true
            }
        };
        if wants_text && is_watched {
            print(summary.to_string().trim_end());
        }
        result
    }
}

/// One line on standard error. If that is closed, it is no failure (`eprintln!` would panic).
pub(crate) fn print(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
