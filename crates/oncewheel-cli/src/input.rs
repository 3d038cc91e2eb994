//! Opens the inputs: files and standard input, plain and compressed.

use crate::decompress::{Gzip, Zstd};
use crate::failure::{Failure, Place};
use crate::lines::Lines;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What an input starts with, whatever its name.
#[derive(Clone, Copy)]
enum Start {
    Gzip,
    Zstd,
    /// Compressed in a way that is not read; the command that decompresses a file, and standard
    /// input
    Foreign(&'static str, [&'static str; 2]),
    ByteOrderMark,
    /// As `iconv` names it
    Utf16(&'static str),
}

const COMPRESSED: &[(&[u8], Start)] = &[
    (b"\x1f\x8b", Start::Gzip),
    (b"\x28\xb5\x2f\xfd", Start::Zstd),
    (b"\xfd7zXZ\0", Start::Foreign("xz", ["xz -dc", "xz -dc"])),
    (b"BZh", Start::Foreign("bzip2", ["bzip2 -dc", "bzip2 -dc"])),
    (b"\x04\x22\x4d\x18", Start::Foreign("lz4", ["lz4 -dc", "lz4 -dc"])),
    (b"PK\x03\x04", Start::Foreign("zip", ["unzip -p", "funzip"])),
    (b"LZIP", Start::Foreign("lzip", ["lzip -dc", "lzip -dc"])),
    (b"7z\xbc\xaf\x27\x1c", Start::Foreign("7-Zip", ["7z x -so", "7z x -si -so"])),
    (b"\xff\x06\0\0sNaPpY", Start::Foreign("snappy", ["snzip -dc", "snzip -dc"])),
];

const TEXT: &[(&[u8], Start)] = &[
    (b"\xef\xbb\xbf", Start::ByteOrderMark),
    (b"\xff\xfe", Start::Utf16("UTF-16")),
    (b"\xfe\xff", Start::Utf16("UTF-16")),
    (b"{\0", Start::Utf16("UTF-16LE")),
    (b"\0{", Start::Utf16("UTF-16BE")),
];

/// How many bytes were read of all inputs, before they were decompressed.
pub(crate) type BytesRead = Rc<Cell<u64>>;

/// As messages name it
const STDIN: &str = "<stdin>";

pub(crate) struct Input {
    /// As messages name it
    pub(crate) name: String,
    source: Box<dyn Read>,
}

impl Input {
    pub(crate) fn open(path: &Path, bytes_read: &BytesRead) -> Result<Self, Failure> {
        if is_stdin(path) {
            let source = Counted { source: io::stdin().lock(), bytes_read: bytes_read.clone() };
            return Ok(Self { name: STDIN.to_owned(), source: Box::new(source) });
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

    /// Decompresses gzip and zstd; a byte-order mark is not part of the first line.
    pub(crate) fn lines(self) -> Result<Lines<Box<dyn Read>>, Failure> {
        let Self { name, source } = self;
        let failure = |error| Failure::Read { place: Place { file: name.clone(), line: 1 }, error };
        let (start, source) = recognise(source, COMPRESSED).map_err(failure)?;
        let source: Box<dyn Read> = match start {
            Some(Start::Gzip) => Box::new(Gzip::new(source)),
            Some(Start::Zstd) => Box::new(Zstd::new(source)),
            Some(Start::Foreign(format, commands)) => return Err(foreign(name, format, commands)),
            _ => source,
        };
        let (start, mut source) = recognise(source, TEXT).map_err(failure)?;
        match start {
            Some(Start::Utf16(encoding)) => Err(utf16(name, encoding)),
            Some(Start::ByteOrderMark) => {
                source.read_exact(&mut [0; 3]).map_err(failure)?;
                Ok(Lines::new(source))
            }
            _ => Ok(Lines::new(source)),
        }
    }
}

/// Reads no more bytes than needed: a pipe may have no others yet.
fn recognise(mut source: Box<dyn Read>, starts: &[(&[u8], Start)]) -> io::Result<(Option<Start>, Box<dyn Read>)> {
    let mut read = Vec::new();
    while starts.iter().any(|(bytes, _)| bytes.len() > read.len() && bytes.starts_with(&read)) {
        if source.by_ref().take(1).read_to_end(&mut read)? == 0 {
            break;
        }
    }
    let start = starts.iter().find(|(bytes, _)| read.starts_with(bytes)).map(|(_, start)| *start);
    Ok((start, Box::new(Cursor::new(read).chain(source))))
}

fn foreign(file: String, format: &str, [of_file, of_stdin]: [&str; 2]) -> Failure {
    let command = if file == STDIN { format!("... | {of_stdin}") } else { format!("{of_file} {file}") };
    let what = format!("compressed by {format}, which is not read directly: {command} | oncewheel dedup ...");
    Failure::WrongFormat { file, what }
}

fn utf16(file: String, encoding: &str) -> Failure {
    let convert = format!("iconv -f {encoding} -t UTF-8");
    let command = if file == STDIN { format!("... | {convert}") } else { format!("{convert} {file}") };
    let what = format!("this is UTF-16, not UTF-8; convert it first: {command} | oncewheel dedup ...");
    Failure::WrongFormat { file, what }
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
