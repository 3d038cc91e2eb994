//! Hands the summary to whom it is for.

use crate::failure::Failure;
use crate::outputs;
use crate::summary::Summary;
use indicatif::HumanCount;
use oncewheel::journal::Recovery;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Where the summary goes. Opened before the run, so that a wrong path does not show only at its end.
pub(crate) enum Report {
    /// Standard error, in words
    ForPeople,
    /// Standard error, in JSON
    OnStderr,
    /// A file, in JSON; and standard error, in words
    InFile(File, String),
}

impl Report {
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::ForPeople),
            Some(path) if path.as_os_str() == "-" => Ok(Self::OnStderr),
            Some(path) => Ok(Self::InFile(outputs::create_file(path)?, path.display().to_string())),
        }
    }

    /// What a journal still knew and what of it was damaged. In the summary in JSON it stands as well.
    pub(crate) fn tell_recovery(&self, recovery: &Recovery) {
        if let Self::OnStderr = self {
            return;
        }
        for damage in &recovery.damage {
            tell(&format!("oncewheel: {damage}; keys that stood there may come out again"));
        }
        if recovery.keys_restored > 0 {
            tell(&format!("oncewheel: {} keys are known from before", HumanCount(recovery.keys_restored as u64)));
        }
    }

    /// People are told nothing if they have turned away.
    pub(crate) fn write(self, summary: &Summary, is_watched: bool) -> Result<(), Failure> {
        let mut said = Ok(());
        let is_for_people = match self {
            Self::ForPeople => true,
            Self::OnStderr => {
                tell(&summary.json());
                false
            }
            Self::InFile(mut file, name) => {
                let written = writeln!(file, "{}", summary.json());
                said = written.map_err(|error| Failure::Write { file: name, error });
                true
            }
        };
        if is_for_people && is_watched {
            tell(summary.to_string().trim_end());
        }
        said
    }
}

/// Says something on standard error. If nobody listens, that is no failure (`eprintln!` would panic).
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
