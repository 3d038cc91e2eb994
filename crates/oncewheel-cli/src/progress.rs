//! The bar on a terminal.

use crate::input::BytesRead;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use oncewheel::journal::OpenProgress;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// A run that is shorter shows no bar.
const SHORT_RUN: Duration = Duration::from_millis(500);

pub(crate) struct Progress {
    started: Instant,
    is_shown: bool,
    bytes_in_all: Option<u64>,
    bytes_read: BytesRead,
    bar: ProgressBar,
}

impl Progress {
    /// Shown where standard error is a terminal, unless the deliveries go there too. Without
    /// `bytes_in_all`, it only turns and counts.
    pub(crate) fn new(bytes_in_all: Option<u64>, bytes_read: BytesRead) -> Self {
        Self { started: Instant::now(), is_shown: is_shown(), bytes_in_all, bytes_read, bar: ProgressBar::hidden() }
    }

    /// To be called once in some thousand deliveries.
    pub(crate) fn update(&mut self, deliveries: u64) {
        if !self.is_shown || self.started.elapsed() < SHORT_RUN {
            return;
        }
        if self.bar.is_hidden() {
            self.bar = bar(self.bytes_in_all);
        }
        self.bar.set_position(self.bytes_read.get());
        self.bar.set_message(format!("{} deliveries", HumanCount(deliveries)));
    }

    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

/// The bar while a journal is read.
pub(crate) struct OpeningBar {
    started: Instant,
    bar: ProgressBar,
}

impl OpeningBar {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), bar: ProgressBar::hidden() }
    }

    pub(crate) fn update(&mut self, progress: &OpenProgress) {
        if !is_shown() || self.started.elapsed() < SHORT_RUN {
            return;
        }
        if self.bar.is_hidden() {
            self.bar = bar(Some(progress.bytes_in_all));
        }
        self.bar.set_position(progress.bytes_read);
        self.bar.set_message(format!("{} keys of the journal", HumanCount(progress.keys_read)));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn is_shown() -> bool {
    io::stderr().is_terminal() && !io::stdout().is_terminal()
}

fn bar(bytes_in_all: Option<u64>) -> ProgressBar {
    let template = match bytes_in_all {
        Some(_) => "{bar:40} {percent:>3} %, {msg}",
        None => "{spinner} {msg}, {binary_bytes} read",
    };
    // A template that does not parse would show a plainer bar, not end the run.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(bytes_in_all, ProgressDrawTarget::stderr()).with_style(style)
}
