//! Where the lines go.

use crate::args::Options;
use crate::failure::Failure;
use crate::input;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 18;

pub(crate) struct Outputs {
    pub(crate) fresh: Output,
    pub(crate) duplicates: Option<Output>,
    pub(crate) too_old: Option<Output>,
    pub(crate) rejects: Option<Output>,
}

/// Takes lines as they are.
pub(crate) struct Output {
    name: String,
    is_stdout: bool,
    writer: BufWriter<Box<dyn Write>>,
    /// The last line came without a newline: it gets one only if another line follows.
    ends_open: bool,
}

impl Outputs {
    /// Creates the files, or empties them; but nothing is touched if two would be the same, or one an input.
    pub(crate) fn create(options: &Options) -> Result<Self, Failure> {
        refuse_clashes(options)?;
        let create = |path: &Option<PathBuf>| path.as_deref().map(Output::create).transpose();
        Ok(Self {
            fresh: Output::stdout(),
            duplicates: create(&options.duplicates)?,
            too_old: create(&options.too_old)?,
            rejects: create(&options.rejects)?,
        })
    }

    /// Hands on all that was written so far. Each output gets its share whatever becomes of the others.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let files = [&mut self.duplicates, &mut self.too_old, &mut self.rejects];
        let files = files.into_iter().flatten().map(Output::flush).fold(Ok(()), Result::and);
        self.fresh.flush().and(files)
    }
}

impl Output {
    fn stdout() -> Self {
        Self::new("standard output".to_owned(), true, Box::new(io::stdout().lock()))
    }

    fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        Ok(Self::new(name, false, Box::new(create_file(path)?)))
    }

    fn new(name: String, is_stdout: bool, writer: Box<dyn Write>) -> Self {
        Self { name, is_stdout, writer: BufWriter::with_capacity(BUFFER_BYTES, writer), ends_open: false }
    }

    #[inline]
    pub(crate) fn write_line(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.ends_open {
            self.writer.write_all(b"\n").map_err(|error| self.failure(error))?;
        }
        self.ends_open = line.last() != Some(&b'\n');
        self.writer.write_all(line).map_err(|error| self.failure(error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| self.failure(error))
    }

    #[cold]
    fn failure(&self, error: io::Error) -> Failure {
        if self.is_stdout && error.kind() == ErrorKind::BrokenPipe {
            return Failure::OutputClosed;
        }
        Failure::Write { file: self.name.clone(), error }
    }
}

pub(crate) fn create_file(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| Failure::Create { file: path.display().to_string(), error })
}

fn refuse_clashes(options: &Options) -> Result<(), Failure> {
    let named = [
        ("--duplicates", options.duplicates.as_deref()),
        ("--too-old", options.too_old.as_deref()),
        ("--rejects", options.rejects.as_deref()),
        ("--summary", options.summary.as_deref().filter(|path| path.as_os_str() != "-")),
    ];
    let files = options.files.iter().filter(|path| !input::is_stdin(path));
    let mut taken: Vec<_> = files.filter_map(|path| Some(("an input", identity(path)?))).collect();
    for (option, path) in named {
        let Some(path) = path else { continue };
        let Some(identity) = identity(path) else { continue };
        if let Some((other, _)) = taken.iter().find(|(_, taken)| *taken == identity) {
            let path = path.display();
            return Err(Failure::Usage(format!("{option} {path} is also {other}: name another file for {option}")));
        }
        taken.push((option, identity));
    }
    Ok(())
}

/// The one name of a file that is there or could be made; none for pipes and devices (`/dev/null`), which may be named
/// twice.
fn identity(path: &Path) -> Option<PathBuf> {
    if let Ok(there) = fs::canonicalize(path) {
        return there.is_file().then_some(there);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
}
