//! Where the lines go.

use crate::args::Options;
use crate::failure::Failure;
use crate::input;
use same_file::Handle;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
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
    /// Creates the files, or empties them; but nothing is touched if two would be the same, or one
    /// an input or standard output.
    pub(crate) fn create(options: &Options) -> Result<Self, Failure> {
        refuse_clashes(options)?;
        let create = |path: &Option<PathBuf>| path.as_deref().map(Output::create).transpose();
        Ok(Self {
            fresh: Output::stdout(options.journal.dir.is_some() && stdout_ends_open()),
            duplicates: create(&options.duplicates)?,
            too_old: create(&options.too_old)?,
            rejects: create(&options.rejects)?,
        })
    }

    /// Hands on what was written to the other outputs. Each gets its share whatever becomes of the
    /// others.
    pub(crate) fn flush_files(&mut self) -> Result<(), Failure> {
        let files = [&mut self.duplicates, &mut self.too_old, &mut self.rejects];
        files.into_iter().flatten().map(Output::flush).fold(Ok(()), Result::and)
    }
}

impl Output {
    fn stdout(ends_open: bool) -> Self {
        let stdout = Self::new("standard output".to_owned(), true, Box::new(io::stdout().lock()));
        Self { ends_open, ..stdout }
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

    /// Hands on all that was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
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

/// Whether standard output is appended to a file that ends in half a line, as a run that was killed
/// may leave it behind: the next line, glued to that, would be lost. Elsewhere than on Linux,
/// opening it again would share its position.
fn stdout_ends_open() -> bool {
    const STDOUT: &str = "/proc/self/fd/1";
    let last_byte = || -> io::Result<u8> {
        let mut file = File::open(STDOUT)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte).map(|()| byte[0])
    };
    let is_file = fs::metadata(STDOUT).is_ok_and(|stdout| stdout.is_file());
    cfg!(target_os = "linux") && is_file && last_byte().is_ok_and(|byte| byte != b'\n')
}

fn refuse_clashes(options: &Options) -> Result<(), Failure> {
    let named = [
        ("--duplicates", options.duplicates.as_deref()),
        ("--too-old", options.too_old.as_deref()),
        ("--rejects", options.rejects.as_deref()),
        ("--summary", options.summary.as_deref().filter(|path| path.as_os_str() != "-")),
    ];
    let reads_stdin = options.files.is_empty() || options.files.iter().any(|path| input::is_stdin(path));
    let stdin = reads_stdin.then(|| Identity::of_stream(Handle::stdin())).flatten();
    let files = options.files.iter().filter(|path| !input::is_stdin(path));
    let inputs = files.filter_map(|path| Identity::of(path)).chain(stdin);
    let mut taken: Vec<_> = inputs.map(|input| ("an input", input)).collect();
    if let Some(stdout) = Identity::of_stream(Handle::stdout()) {
        if taken.iter().any(|(_, input)| *input == stdout) {
            return Err(Failure::Usage("standard output is also an input: send it to another file".to_owned()));
        }
        taken.push(("standard output", stdout));
    }
    for (option, path) in named {
        let Some(path) = path else { continue };
        let Some(identity) = Identity::of(path) else { continue };
        if let Some((other, _)) = taken.iter().find(|(_, taken)| *taken == identity) {
            let path = path.display();
            return Err(Failure::Usage(format!("{option} {path} is also {other}: name another file for {option}")));
        }
        taken.push((option, identity));
    }
    Ok(())
}

/// Which file it is, whatever it is called; pipes and devices (`/dev/null`), which may be named
/// twice, have none.
#[derive(PartialEq)]
enum Identity {
    There(Handle),
    ToBeMade(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(there) => there.is_file().then(|| Handle::from_path(path).ok().map(Self::There)).flatten(),
            Err(_) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Some(Self::ToBeMade(fs::canonicalize(folder).ok()?.join(path.file_name()?)))
            }
        }
    }

    fn of_stream(stream: io::Result<Handle>) -> Option<Self> {
        let stream = stream.ok()?;
        stream.as_file().metadata().is_ok_and(|there| there.is_file()).then_some(Self::There(stream))
    }
}
