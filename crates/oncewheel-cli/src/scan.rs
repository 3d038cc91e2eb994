//! The fast path of [`Fields`](crate::fields::Fields): reads the JSON that is common, in one pass.

use crate::fields::{Found, Node, Value};
use std::borrow::Cow;

/// Deeper values are left to the slow path, which has no limit.
const DEPTH_MAX: u32 = 32;

/// Reads one JSON object and keeps its wanted fields.
///
/// `None` is no verdict on the line. It is wrong, or has what is rare: escapes in a name, a name
/// that is there twice. What is accepted here is JSON, and the slow path would find the same in it:
/// the fuzz target `lines` compares the two, and both with a third reader.
pub(crate) fn scan<'a, const N: usize>(line: &'a str, root: &Node, found: &mut Found<'a, N>) -> Option<()> {
    let mut scanner = Scanner { line, at: 0 };
    scanner.skip_space();
    scanner.members(root, found, 0)?;
    scanner.skip_space();
    (scanner.at == line.len()).then_some(())
}

struct Scanner<'a> {
    line: &'a str,
    /// Always at the start of a character
    at: usize,
}

/// Whether a string has any
#[derive(PartialEq)]
enum Escapes {
    None,
    Some,
}

#[derive(PartialEq)]
enum Number {
    Integer,
    /// With a fraction or an exponent
    Other,
}

impl<'a> Scanner<'a> {
    fn members<const N: usize>(&mut self, node: &Node, found: &mut Found<'a, N>, depth: u32) -> Option<()> {
        self.expect(b'{')?;
        if self.skips(b'}') {
            return Some(());
        }
        let mut seen = 0_u64;
        loop {
            let name = self.name()?;
            match node.children.iter().position(|child| child.name == name) {
                None => self.value(depth)?,
                Some(index) if seen & 1 << index != 0 => return None,
                Some(index) => {
                    seen |= 1 << index;
                    self.member(&node.children[index], found, depth + 1)?;
                }
            }
            if self.skips(b'}') {
                return Some(());
            }
            self.expect(b',')?;
            self.skip_space();
        }
    }

    #[inline]
    fn member<const N: usize>(&mut self, node: &Node, found: &mut Found<'a, N>, depth: u32) -> Option<()> {
        if node.children.is_empty() {
            let value = self.wanted_value(depth)?;
            node.keep(value, found);
            return Some(());
        }
        let start = self.at;
        if self.byte() == Some(b'{') {
            self.members(node, found, depth)?;
        } else {
            self.value(depth)?;
        }
        if !node.wanted.is_empty() {
            node.keep(Value::from_json(&self.line[start..self.at]).ok()?, found);
        }
        Some(())
    }

    /// As [`Value::from_json`], but for what the first reading shows already.
    #[inline]
    fn wanted_value(&mut self, depth: u32) -> Option<Value<'a>> {
        let start = self.at;
        match self.byte()? {
            b'"' if self.string()? == Escapes::None => {
                return Some(Value::Text(Cow::Borrowed(&self.line[start + 1..self.at - 1])));
            }
            b'"' => {}
            b'-' | b'0'..=b'9' if self.number()? == Number::Integer => {
                return Some(Value::Integer(&self.line[start..self.at]));
            }
            b'-' | b'0'..=b'9' => {}
            _ => self.value(depth)?,
        }
        Value::from_json(&self.line[start..self.at]).ok()
    }

    /// A name and the colon after it, up to the value
    #[inline]
    fn name(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        self.expect(b'"')?;
        self.skip_text();
        let name = &self.line[start..self.at];
        self.expect(b'"')?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Some(name)
    }

    #[inline]
    fn value(&mut self, depth: u32) -> Option<()> {
        match self.byte()? {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'{' if depth < DEPTH_MAX => self.object(depth + 1),
            b'[' if depth < DEPTH_MAX => self.array(depth + 1),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => None,
        }
    }

    fn object(&mut self, depth: u32) -> Option<()> {
        self.at += 1;
        if self.skips(b'}') {
            return Some(());
        }
        loop {
            self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            self.value(depth)?;
            if self.skips(b'}') {
                return Some(());
            }
            self.expect(b',')?;
            self.skip_space();
        }
    }

    fn array(&mut self, depth: u32) -> Option<()> {
        self.at += 1;
        if self.skips(b']') {
            return Some(());
        }
        loop {
            self.value(depth)?;
            if self.skips(b']') {
                return Some(());
            }
            self.expect(b',')?;
            self.skip_space();
        }
    }

    #[inline]
    fn string(&mut self) -> Option<Escapes> {
        self.expect(b'"')?;
        self.skip_text();
        if self.expect(b'"').is_some() {
            return Some(Escapes::None);
        }
        loop {
            match self.byte()? {
                b'"' => {
                    self.at += 1;
                    return Some(Escapes::Some);
                }
                b'\\' => self.escape()?,
                _ => return None, // a control character
            }
            self.skip_text();
        }
    }

    fn escape(&mut self) -> Option<()> {
        let rest = &self.line.as_bytes()[self.at + 1..];
        self.at += match rest.first()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' if rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        Some(())
    }

    #[inline]
    fn number(&mut self) -> Option<Number> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if !matches!(self.byte(), Some(b'.' | b'e' | b'E')) {
            return Some(Number::Integer);
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(Number::Other)
    }

    /// One or more
    #[inline]
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.line.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// To the next quote, backslash or control character. Eight bytes at a time, by the bits that a
    /// subtraction borrows (Mycroft's test for a zero byte); a byte beyond the first that is found
    /// may be wrong, and the first never is.
    #[inline]
    fn skip_text(&mut self) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGHS: u64 = ONES << 7;
        let bytes = self.line.as_bytes();
        while let Some(eight) = bytes.get(self.at..self.at + 8) {
            let eight = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
            let is_zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
            let is_control = eight.wrapping_sub(ONES * 0x20) & !eight;
            let quote = is_zero(eight ^ (ONES * u64::from(b'"')));
            let backslash = is_zero(eight ^ (ONES * u64::from(b'\\')));
            let ends = (is_control | quote | backslash) & HIGHS;
            if ends != 0 {
                self.at += ends.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.byte().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.byte() == Some(byte)).then(|| self.at += 1)
    }

    /// Whether it comes next but for space, which is skipped too.
    #[inline]
    fn skips(&mut self, byte: u8) -> bool {
        self.skip_space();
        self.expect(byte).is_some()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
    }
}
