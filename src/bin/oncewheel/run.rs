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
use oncewheel::Verdict;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The first thing that went wrong is what is returned; what was judged before is written out in any case, and the
/// summary too.
pub(crate) fn dedup(options: &Options) -> Result<(), Failure> {
    // Checked before any output is emptied.
    let judge = Judge::new(options.limits.config()).map_err(|error| Failure::Usage(with_option_names(&error)))?;
    let outputs = Outputs::create(options)?;
    let report = Report::create(options.summary.as_deref())?;
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
    let flushed = run.outputs.flush();
    let elapsed = run.progress.finish();
    let done = read.and(flushed);
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
        let mut lines = input.lines().map_err(|error| read_failure(&place, error))?;
        loop {
            while let Some(line) = lines.next() {
                place.line += 1;
                self.take(line, &place)?;
            }
            // Reading may have to wait; nobody downstream should wait for what is judged already.
            self.outputs.flush()?;
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
        let verdict = self.judge.judge(&delivery).map_err(|error| {
            let what = self.judge.refusal(&error, self.options);
            Failure::Refused { place: place.clone(), what }
        })?;
        self.judged += 1;
        match verdict {
            Verdict::Fresh => return self.outputs.fresh.write_line(line),
            // Nothing is ever claimed here, so that nothing is in flight.
            Verdict::Duplicate | Verdict::InFlight => self.outputs.duplicates.as_mut(),
            Verdict::TooOld => self.outputs.too_old.as_mut(),
        }
        .map_or(Ok(()), |output| output.write_line(line))
    }

    #[cold]
    fn reject(&mut self, line: &[u8], place: &Place, what: String) -> Result<(), Failure> {
        let Some(rejects) = &mut self.outputs.rejects else {
            return Err(Failure::BadLine { place: place.clone(), what });
        };
        self.rejected += 1;
        rejects.write_line(line)
    }

    fn summary(&mut self, elapsed: Duration) -> Summary {
        let stats = self.judge.stats();
        Summary::new(&stats, self.judge.peaks, self.rejected, elapsed, &self.options.limits)
    }
}

/// The library speaks of settings, the command of options.
fn with_option_names(error: &oncewheel::Error) -> String {
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
