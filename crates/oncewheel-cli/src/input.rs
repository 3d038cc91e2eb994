//! Opens the inputs: files and standard input, plain and compressed.

use crate::failure::Failure;
use crate::lines::Lines;
use flate2::read::MultiGzDecoder;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How many bytes were read of all inputs, before they were decompressed.
pub(crate) type BytesRead = Rc<Cell<u64>>;

pub(crate) struct Input {
    /// As messages name it
    pub(crate) name: String,
    source: Box<dyn Read>,
}

impl Input {
    pub(crate) fn open(path: &Path, bytes_read: &BytesRead) -> Result<Self, Failure> {
        if is_stdin(path) {
            let source = Counted { source: io::stdin().lock(), bytes_read: bytes_read.clone() };
            return Ok(Self { name: "<stdin>".to_owned(), source: Box::new(source) });
        }
        let name = path.display().to_string();
        match open_file(path) {
            Ok(file) => {
                let source = Counted { source: file, bytes_read: bytes_read.clone() };
                Ok(Self { name, source: Box::new(source) })
            }
            Err(error) => Err(Failure::NoInput { file: name, error }),
        }
    }

    /// Decompresses what starts as gzip does, whatever its name.
    pub(crate) fn lines(mut self) -> io::Result<Lines<Box<dyn Read>>> {
        let mut start = Vec::new();
        self.source.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut start)?;
        let compressed = start == GZIP_MAGIC;
        let source = Cursor::new(start).chain(self.source);
        Ok(Lines::new(if compressed { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) }))
    }
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The sizes of all inputs together, if they are files.
pub(crate) fn bytes_in_all(paths: &[PathBuf]) -> Option<u64> {
    let sizes = paths.iter().map(|path| path.metadata().ok().filter(|file| file.is_file()).map(|file| file.len()));
    if paths.is_empty() { None } else { sizes.sum() }
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // A directory can be opened; only reading it fails, and less clearly.
    if file.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

struct Counted<R> {
    source: R,
    bytes_read: BytesRead,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read(into)?;
        self.bytes_read.set(self.bytes_read.get() + bytes as u64);
        Ok(bytes)
    }
}
