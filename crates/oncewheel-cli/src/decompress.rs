//! Decompresses gzip and zstd, each as a sequence of parts: members, frames.

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

const BUFFER_BYTES: usize = 1 << 16;

pub(crate) struct Gzip<R> {
    /// `None`: at the end
    member: Option<GzDecoder<BufReader<R>>>,
}

impl<R: Read> Gzip<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, source))) }
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let bytes = member.read(into)?;
            if bytes > 0 || into.is_empty() {
                return Ok(bytes);
            }
            if let Some(source) = self.member.take().map(GzDecoder::into_inner) {
                self.member = next_member(source)?.map(GzDecoder::new);
            }
        }
        Ok(0)
    }
}

/// What follows the last member may be padded with zeros to the end of a block, as tapes and some
/// object stores do.
fn next_member<R: BufRead>(mut source: R) -> io::Result<Option<R>> {
    if source.fill_buf()?.first() != Some(&0) {
        return Ok(if source.fill_buf()?.is_empty() { None } else { Some(source) });
    }
    loop {
        let padding = source.fill_buf()?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(ErrorKind::InvalidData, "zeros and then more bytes follow the gzip data"));
        }
        let bytes = padding.len();
        if bytes == 0 {
            return Ok(None);
        }
        source.consume(bytes);
    }
}

pub(crate) struct Zstd<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    is_within_frame: bool,
}

impl<R: Read> Zstd<R> {
    pub(crate) fn new(source: R) -> Self {
        let source = BufReader::with_capacity(BUFFER_BYTES, source);
        Self { source, decoder: FrameDecoder::new(), is_within_frame: false }
    }

    /// Begins the next frame, or skips one that holds no data. `false`: there is none.
    fn next_frame(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.is_within_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
        }
        Ok(true)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.is_within_frame = false;
        let stated = self.decoder.get_checksum_from_data();
        if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a zstd frame fails its checksum"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            while self.is_within_frame {
                let bytes = self.decoder.read(into)?;
                if bytes > 0 || into.is_empty() {
                    return Ok(bytes);
                }
                if self.decoder.is_finished() {
                    self.end_frame()?;
                } else {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
                }
            }
            if !self.next_frame()? {
                return Ok(0);
            }
        }
    }
}
