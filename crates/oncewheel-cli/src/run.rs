//! One run: every line of every input to the output it belongs to.

use crate::args::Options;
use crate::delivery::Deliveries;
use crate::failure::{Failure, Place};
use crate::input::{self, BytesRead, Input};
use crate::judge::Judge;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::report::Report;
use crate::summary::Summary;
use oncewheel::journal::ErrorKind;
use oncewheel::{Claimed, Error};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The first thing that went wrong is what is returned; what was judged before is written out in any case, and the
/// summary too.
pub(crate) fn dedup(options: &Options) -> Result<(), Failure> {
    // Checked before any output is emptied.
    let judge = Judge::open(options).map_err(|error| opening_failure(error, options))?;
    let outputs = Outputs::create(options)?;
    let report = Report::create(options.summary.as_deref())?;
    judge.recovery().into_iter().for_each(|recovery| report.tell_recovery(recovery));
    let bytes_read = BytesRead::default();
    let mut run = Run {
        options,
        deliveries: Deliveries::new(options),
        judge,
        outputs,
        progress: Progress::new(input::bytes_in_all(&options.files), bytes_read.clone()),
        bytes_read,
        judged: 0,
        rejected: 0,
    };
    let read = run.read_all();
    let settled = run.settle();
    let elapsed = run.progress.finish();
    let done = read.and(settled);
    let is_watched = !matches!(done, Err(Failure::OutputClosed));
    let reported = report.write(&run.summary(elapsed), is_watched);
    done.and(reported)
}

struct Run<'a> {
    options: &'a Options,
    deliveries: Deliveries,
    judge: Judge,
    outputs: Outputs,
    progress: Progress,
    bytes_read: BytesRead,
    judged: u64,
    rejected: u64,
}

impl Run<'_> {
    fn read_all(&mut self) -> Result<(), Failure> {
        let stdin = [PathBuf::from("-")];
        let files = if self.options.files.is_empty() { &stdin } else { self.options.files.as_slice() };
        files.iter().try_for_each(|file| self.read(Input::open(file, &self.bytes_read)?))
    }

    fn read(&mut self, input: Input) -> Result<(), Failure> {
        let mut place = Place { file: input.name.clone(), line: 0 };
        let mut lines = input.lines()?;
        loop {
            while let Some(line) = lines.next() {
                place.line += 1;
                self.take(line, &place)?;
            }
            // Reading may have to wait; nobody downstream should wait for what is judged already.
            self.settle()?;
            self.progress.update(self.judged + self.rejected);
            if !lines.read_on().map_err(|error| read_failure(&place, error))? {
                break;
            }
        }
        place.line += 1;
        lines.rest().map_or(Ok(()), |line| self.take(line, &place))
    }

    #[inline]
    fn take(&mut self, line: &[u8], place: &Place) -> Result<(), Failure> {
        let delivery = match self.deliveries.read(line) {
            Ok(delivery) => delivery,
            Err(_) if line.trim_ascii().is_empty() => return Ok(()),
            Err(what) => return self.reject(line, place, what),
        };
        let now = self.judge.now(&delivery);
        if self.judge.would_pass_the_group(&delivery, now) {
            self.settle()?;
        }
        let mut claimed = self.judge.judge(&delivery, now);
        if let Ok(Claimed::InFlight) = claimed {
            // A line of the open group has the key.
            self.settle()?;
            claimed = self.judge.ask_again(&delivery);
        }
        let claimed = claimed.map_err(|error| self.judging_failure(&error, place))?;
        self.judged += 1;
        match claimed {
            Claimed::Fresh(claim) => {
                self.outputs.fresh.write_line(line)?;
                return if self.judge.written(claim, &delivery) { self.settle() } else { Ok(()) };
            }
            // What was in flight is recorded by now.
            Claimed::Duplicate | Claimed::InFlight => self.outputs.duplicates.as_mut(),
            Claimed::TooOld => self.outputs.too_old.as_mut(),
        }
        .map_or(Ok(()), |output| output.write_line(line))
    }

    /// Hands on what was judged and then records it: effect, commit. What standard output does not take is not recorded.
    fn settle(&mut self) -> Result<(), Failure> {
        let written = self.outputs.fresh.flush();
        let files = self.outputs.flush_files();
        written?;
        self.judge.commit().map_err(|(error, lines)| Failure::NotRecorded { what: error.to_string(), lines })?;
        files
    }

    #[cold]
    fn reject(&mut self, line: &[u8], place: &Place, what: String) -> Result<(), Failure> {
        let Some(rejects) = &mut self.outputs.rejects else {
            return Err(Failure::BadLine { place: place.clone(), what });
        };
        self.rejected += 1;
        rejects.write_line(line)
    }

    #[cold]
    fn judging_failure(&self, error: &Error, place: &Place) -> Failure {
        match error {
            Error::Journal(error) => Failure::NotRecorded { what: error.to_string(), lines: self.judge.unrecorded() },
            _ => Failure::Refused { place: place.clone(), what: self.judge.refusal(error, self.options) },
        }
    }

    fn summary(&mut self, elapsed: Duration) -> Summary {
        let stats = self.judge.stats();
        let summary = Summary::new(&stats, self.judge.peaks, self.rejected, elapsed, &self.options.limits);
        summary.with_journal(self.judge.recovery(), &stats)
    }
}

fn opening_failure(error: Error, options: &Options) -> Failure {
    match error {
        Error::Journal(error) if error.kind() == ErrorKind::TooManyKeys => {
            Failure::JournalTooLarge { keys_max: options.limits.max_keys }
        }
        Error::Journal(error) => Failure::Journal(error),
        error => Failure::Usage(with_option_names(&error)),
    }
}

/// The library speaks of settings, the command of options.
fn with_option_names(error: &Error) -> String {
    let option = |word: &str| match word.strip_prefix("max_") {
        Some(setting) => format!("--max-{}", setting.replace('_', "-")),
        None => word.to_owned(),
    };
    error.to_string().split(' ').map(option).collect::<Vec<_>>().join(" ")
}

/// The line that could not be read is the one after the last that was.
fn read_failure(last: &Place, error: io::Error) -> Failure {
    Failure::Read { place: Place { file: last.file.clone(), line: last.line + 1 }, error }
}
