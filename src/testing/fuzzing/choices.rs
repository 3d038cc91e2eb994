//! Turns the bytes of a fuzzer into choices.

/// Choices made of bytes. Every method returns `None` once the bytes are used up.
pub(crate) struct Choices<'a>(std::slice::Iter<'a, u8>);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    pub(crate) fn number(&mut self) -> Option<usize> {
        Some(usize::from(self.byte()?) << 8 | usize::from(self.byte()?))
    }

    /// A number below `count`; 0 if `count` is 0.
    pub(crate) fn among(&mut self, count: usize) -> Option<usize> {
        Some(self.number()? % count.max(1))
    }

    /// A span of time: from a millisecond to years, or at a bound of the wheel's levels and slots,
    /// or one off that bound.
    pub(crate) fn span(&mut self) -> Option<u64> {
        let (how, count) = (self.byte()?, self.byte()?);
        if how < 128 {
            let scale = [1, 10, 1_000, 60_000, 86_400_000, 40_000_000_000][usize::from(how) % 6];
            return Some(scale * u64::from(count));
        }
        let slots: u128 = [1, 63, 64, 511, 512, 513, 1023, 1024][usize::from(count) % 8];
        let span = slots << (3 * (u32::from(how) % 20));
        let off = i64::from(count / 8 % 3) - 1;
        Some(u64::try_from(span).unwrap_or(u64::MAX).saturating_add_signed(off))
    }

    /// A time before or after `origin`, or at one of the ends of time.
    pub(crate) fn time(&mut self, origin: u64) -> Option<u64> {
        let how = self.byte()?;
        let span = self.span()?;
        Some(match how {
            0..100 => origin.saturating_add(span),
            100..200 => origin.saturating_sub(span),
            200..248 => origin,
            248..252 => u64::MAX - span % 2,
            252.. => span % 2,
        })
    }
}
