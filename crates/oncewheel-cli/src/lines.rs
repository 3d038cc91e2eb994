//! Splits a stream into lines without copying them.

use std::io::{self, ErrorKind, Read};

const CHUNK_BYTES: usize = 1 << 18;

/// Lines of a source, their newlines included. The caller decides when to read on, so that it can
/// do something before it has to wait.
pub(crate) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// `buffer[start..end]` is what was read and not yet given out; up to `searched` it holds no
    /// newline.
    start: usize,
    searched: usize,
    end: usize,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; CHUNK_BYTES], start: 0, searched: 0, end: 0 }
    }

    /// The next complete line, if one was read already, and what was read after it.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(&[u8], &[u8])> {
        let Some(newline) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) else {
            self.searched = self.end;
            return None;
        };
        let line = self.start..self.searched + newline + 1;
        (self.start, self.searched) = (line.end, line.end);
        let ahead = &self.buffer[line.end..self.end];
        Some((&self.buffer[line], ahead))
    }

    /// Reads on, once. `false`: there is no more.
    pub(crate) fn read_on(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.searched, self.end) = (self.searched - self.start, self.end - self.start);
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => {
                    let bytes = read?;
                    self.end += bytes;
                    return Ok(bytes > 0);
                }
            }
        }
    }

    /// At the end: the last line, if no newline ends it.
    pub(crate) fn rest(&self) -> Option<&[u8]> {
        let rest = &self.buffer[self.start..self.end];
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out at most so many bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let bytes = self.1.min(into.len());
            self.0.read(&mut into[..bytes])
        }
    }

    fn lines(text: &[u8], bytes_at_once: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(Trickle(text, bytes_at_once));
        let mut all = Vec::new();
        loop {
            while let Some((line, _)) = lines.next() {
                all.push(line.to_vec());
            }
            if !lines.read_on().unwrap() {
                all.extend(lines.rest().map(<[u8]>::to_vec));
                return all;
            }
        }
    }

    #[test]
    fn lines_are_whole_however_the_bytes_arrive() {
        let long = [vec![b'x'; 3 * CHUNK_BYTES], vec![b'\n']].concat();
        let text = [b"a\n\nbc\r\n".as_slice(), &long, b"end"].concat();
        let expected = [b"a\n".as_slice(), b"\n", b"bc\r\n", &long, b"end"];
        for bytes_at_once in [1_000, CHUNK_BYTES - 1, CHUNK_BYTES] {
            assert_eq!(lines(&text, bytes_at_once), expected);
        }
        assert_eq!(lines(b"a\nb\n", 1), [b"a\n", b"b\n"]);
        assert!(lines(b"", 1).is_empty());
    }
}
