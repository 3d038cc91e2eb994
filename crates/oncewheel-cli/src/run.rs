//! One run: every line of every input to the output it belongs to.

use crate::args::Options;
use crate::delivery::{Deliveries, Delivery};
use crate::failure::{Failure, Place};
use crate::input::{self, BytesRead, Input};
use crate::judge::Judge;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::report::Report;
use crate::summary::Summary;
use oncewheel::journal::ErrorKind;
use oncewheel::{Claimed, Error, Timestamp};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Returns the first failure. What was judged before it is written in any case, and the summary
/// too.
pub(crate) fn dedup(options: &Options) -> Result<(), Failure> {
    // Checked before any output is emptied.
    let judge = Judge::open(options).map_err(|error| opening_failure(error, options))?;
    let outputs = Outputs::create(options)?;
    let report = Report::create(options.summary.as_deref())?;
    judge.recovery().into_iter().for_each(|recovery| report.print_recovery(recovery));
    let bytes_read = BytesRead::default();
    let mut run = Run {
        options,
        deliveries: Deliveries::new(options),
        judge,
        outputs,
        progress: Progress::new(input::bytes_in_all(&options.files), bytes_read.clone()),
        bytes_read,
        stalled: Vec::new(),
        judged: 0,
        rejected: 0,
    };
    let read = run.read_all();
    let resumed = run.end();
    let settled = run.settle();
    let elapsed = run.progress.finish();
    // The lines that were stalled come before the one that could not be read.
    let done = resumed.and(read).and(settled);
    let is_watched = !matches!(done, Err(Failure::OutputClosed));
    let reported = report.write(&run.summary(elapsed), is_watched);
    done.and(reported).and(run.check_too_old())
}

struct Run<'a> {
    options: &'a Options,
    deliveries: Deliveries,
    judge: Judge,
    outputs: Outputs,
    progress: Progress,
    bytes_read: BytesRead,
    /// Lines that found the cache full while a jump of the clock waited for its confirmation, which
    /// may expire keys; and the lines after them
    stalled: Vec<Stalled>,
    judged: u64,
    rejected: u64,
}

/// Lines that wait for the confirmation at most: those that confirm it may have lines without a
/// time between them.
const STALLED_MAX: usize = 1_000;

/// Lines that are looked through for one with a time
const LINES_AHEAD: usize = 16;

struct Stalled {
    line: Vec<u8>,
    place: Place,
    /// `now` and `min_msg_time`: a later line's would make this one too old
    times: [Option<Timestamp>; 2],
    msg_time: Timestamp,
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
            while let Some((line, ahead)) = lines.next() {
                place.line += 1;
                self.take(line, ahead, &place)?;
            }
            // Reading may wait for input. What is judged already must not wait with it.
            self.settle()?;
            self.progress.update(self.judged + self.rejected);
            if !lines.read_on().map_err(|error| read_failure(&place, error))? {
                break;
            }
        }
        place.line += 1;
        lines.rest().map_or(Ok(()), |line| self.take(line, &[], &place))
    }

    #[inline]
    fn take(&mut self, line: &[u8], ahead: &[u8], place: &Place) -> Result<(), Failure> {
        let delivery = match self.deliveries.read(line) {
            Ok(delivery) => delivery,
            Err(_) if line.trim_ascii().is_empty() => return Ok(()),
            Err(what) => return self.reject(line, place, what),
        };
        if self.judge.has_first_time(&delivery) {
            self.check_first_time(&delivery, ahead);
        }
        let times = match self.judge.times(&delivery, place) {
            Ok(times) => times,
            Err(what) => return self.reject(line, place, what),
        };
        if !self.stalled.is_empty() {
            self.stall(line, place, &delivery, times.msg_time);
            return self.resume(self.judge.is_holding() && self.stalled.len() < STALLED_MAX);
        }
        self.pass_on(times.now, times.min_msg_time)?;
        match self.judge(&delivery, line, times.msg_time) {
            Err(Unjudged::Cache(Error::Full { .. })) if self.judge.is_holding() => {
                self.stall(line, place, &delivery, times.msg_time);
                Ok(())
            }
            Err(Unjudged::Cache(error)) => Err(self.judging_failure(&error, place)),
            Err(Unjudged::Run(failure)) => Err(failure),
            Ok(()) => Ok(()),
        }
    }

    /// Compares the line with the next one that has a time, if that was read already.
    #[cold]
    fn check_first_time(&mut self, first: &Delivery<'_>, ahead: &[u8]) {
        let complete = ahead.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let mut next = complete.take(LINES_AHEAD).filter_map(|line| self.deliveries.read(line).ok());
        self.judge.check_first_time(first, next.find(Delivery::has_time_fields).as_ref());
    }

    /// The times of a line to the cache. What the watermark would pass is committed before.
    #[inline]
    fn pass_on(&mut self, now: Option<Timestamp>, min_msg_time: Option<Timestamp>) -> Result<(), Failure> {
        if self.judge.would_pass_the_group(now, min_msg_time) {
            self.settle()?;
        }
        self.judge.pass_on(now, min_msg_time);
        Ok(())
    }

    /// The verdict on a line, and the line to where it belongs.
    #[inline]
    fn judge(&mut self, delivery: &Delivery<'_>, line: &[u8], msg_time: Timestamp) -> Result<(), Unjudged> {
        let mut claimed = self.judge.judge(delivery, msg_time)?;
        if let Claimed::InFlight = claimed {
            // A line of the open group has the key.
            self.settle()?;
            claimed = self.judge.judge(delivery, msg_time)?;
        }
        self.judged += 1;
        match claimed {
            Claimed::Fresh(claim) => {
                self.outputs.fresh.write_line(line)?;
                if self.judge.written(claim, msg_time) {
                    self.settle()?;
                }
                return Ok(());
            }
            // What was in flight is committed by now.
            Claimed::Duplicate | Claimed::InFlight => self.outputs.duplicates.as_mut(),
            Claimed::TooOld => self.outputs.too_old.as_mut(),
        }
        .map_or(Ok(()), |output| output.write_line(line))?;
        Ok(())
    }

    #[cold]
    fn stall(&mut self, line: &[u8], place: &Place, delivery: &Delivery<'_>, msg_time: Timestamp) {
        let times = [delivery.now.known(), delivery.min_msg_time.known()];
        self.stalled.push(Stalled { line: line.to_vec(), place: place.clone(), times, msg_time });
    }

    /// Judges the stalled lines, in order, until the cache is full. Unless they `may_wait`, that
    /// is an error.
    #[cold]
    fn resume(&mut self, may_wait: bool) -> Result<(), Failure> {
        let mut stalled = std::mem::take(&mut self.stalled).into_iter();
        while let Some(Stalled { line, place, times, msg_time }) = stalled.next() {
            // It could be read before.
            let Ok(delivery) = self.deliveries.read(&line) else { continue };
            let [now, min_msg_time] = self.judge.as_far_as_believed(times);
            self.pass_on(now, min_msg_time)?;
            match self.judge(&delivery, &line, msg_time) {
                Err(Unjudged::Cache(Error::Full { .. })) if may_wait => {
                    self.stalled.push(Stalled { line, place, times, msg_time });
                    self.stalled.extend(stalled);
                    return Ok(());
                }
                Err(Unjudged::Cache(error)) => return Err(self.judging_failure(&error, &place)),
                Err(Unjudged::Run(failure)) => return Err(failure),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        if !self.stalled.is_empty() {
            self.judge.believe_held();
            self.resume(false)?;
        }
        self.judge.end();
        Ok(())
    }

    /// Nothing is dropped silently.
    fn check_too_old(&mut self) -> Result<(), Failure> {
        let too_old = self.judge.stats().too_old;
        match self.outputs.too_old {
            None if too_old > self.judged / 10 => {
                let is_reported = self.options.summary.as_deref().is_some_and(|path| path.as_os_str() == "-");
                Err(Failure::TooOld { too_old, deliveries: self.judged, is_reported })
            }
            _ => Ok(()),
        }
    }

    /// Flushes what was written and then commits it: effect, then commit. What standard output does
    /// not take is not committed.
    fn settle(&mut self) -> Result<(), Failure> {
        let written = self.outputs.fresh.flush();
        let files = self.outputs.flush_files();
        written?;
        self.judge.commit().map_err(|(error, lines)| Failure::NotCommitted { what: error.to_string(), lines })?;
        files
    }

    #[cold]
    fn reject(&mut self, line: &[u8], place: &Place, what: String) -> Result<(), Failure> {
        self.resume(false)?;
        let Some(rejects) = &mut self.outputs.rejects else {
            return Err(Failure::BadLine { place: place.clone(), what });
        };
        self.rejected += 1;
        rejects.write_line(line)
    }

    #[cold]
    fn judging_failure(&self, error: &Error, place: &Place) -> Failure {
        match error {
            Error::Journal(error) => Failure::NotCommitted { what: error.to_string(), lines: self.judge.uncommitted() },
            _ => Failure::Refused { place: place.clone(), what: self.judge.refusal(error, self.options) },
        }
    }

    fn summary(&mut self, elapsed: Duration) -> Summary {
        let stats = self.judge.stats();
        let summary = Summary::new(&stats, self.judge.peaks, self.rejected, elapsed, &self.options.limits);
        let summary = summary.with_times(self.judge.wrong_times(), self.judge.length());
        summary.with_journal(self.judge.recovery(), &stats)
    }
}

/// Why a line has no verdict, or is not where it belongs.
enum Unjudged {
    Cache(Error),
    Run(Failure),
}

impl From<Error> for Unjudged {
    fn from(error: Error) -> Self {
        Self::Cache(error)
    }
}

impl From<Failure> for Unjudged {
    fn from(failure: Failure) -> Self {
        Self::Run(failure)
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

/// The library's messages name settings; the command has options.
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
