//! JSON text → [`Value`]: numbers keep their text, duplicate keys stay, and a text that ends early gives what it had.
//!
//! Own parser, for four things no crate gives together: the number's own text without a crate-wide switch
//! (serde_json's `arbitrary_precision`), the honest rest of a cut text, lone surrogates (Java cuts strings in
//! the middle of a pair; a parser that stops there would hide all that follows), and a bound on items while reading.
#![forbid(unsafe_code)]

use super::{Str, Value, limits::Budget, limits::Limits};

/// What came out of a text.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    /// The value; for several values one after the other (JSON lines) a list of them.
    pub(super) value: Value,
    /// How many values stood there.
    pub(super) count: usize,
    /// Why it is not all of it.
    pub(super) cut: Option<&'static str>,
}

/// Why a value could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The text is over.
    End,
    /// A limit was hit.
    Limit,
    /// This is not JSON.
    Not,
}

/// Reads objects and arrays (a bare number or word is no layer). `None` when the text is not JSON.
///
/// A text that ends early is taken when at least one member was complete.
pub(super) fn parse(text: &str, budget: &mut Budget) -> Option<Parsed> {
    let items = budget.items();
    let mut parser = Parser::new(text, budget);
    let parsed = parser.document();
    if parsed.is_none() {
        budget.restore_items(items);
    }
    parsed
}

/// Reads one JSON string literal that makes up the whole text, for JSON that was encoded twice.
pub(super) fn parse_string(text: &str, budget: &mut Budget) -> Option<Str> {
    let mut parser = Parser::new(text, budget);
    if parser.peek()? != b'"' {
        return None;
    }
    let inner = parser.string().ok()?;
    parser.after_space().is_none().then_some(inner)
}

struct Parser<'t, 'b> {
    text: &'t str,
    bytes: &'t [u8],
    pos: usize,
    budget: &'b mut Budget,
    /// Members of the containers that are still open: a container is allocated once, when its size is known.
    members: Vec<(Str, Value)>,
    items: Vec<Value>,
    /// The string at hand without its escapes: one block for all of them.
    unescaped: String,
}

impl<'t, 'b> Parser<'t, 'b> {
    fn new(text: &'t str, budget: &'b mut Budget) -> Self {
        Parser {
            text,
            bytes: text.as_bytes(),
            pos: 0,
            budget,
            members: Vec::new(),
            items: Vec::new(),
            unescaped: String::new(),
        }
    }

    fn document(&mut self) -> Option<Parsed> {
        let mut values = Vec::new();
        loop {
            match self.after_space() {
                Some(b'{' | b'[') => {}
                None if !values.is_empty() => return Some(several(values, None)),
                _ => return None,
            }
            let (value, stop) = self.value(0);
            let cut = match stop {
                Ok(()) => None,
                Err(Stop::Not) => return None,
                Err(Stop::End) => Some(Limits::CUT_SHORT),
                Err(Stop::Limit) => Some(Limits::CUT_ITEMS),
            };
            match value {
                Some(value) if cut.is_none() || !empty(&value) => values.push(value),
                _ => {}
            }
            if cut.is_some() {
                return (!values.is_empty()).then(|| several(values, cut));
            }
        }
    }

    /// A value, whole or the part before the stop.
    fn value(&mut self, depth: usize) -> (Option<Value>, Result<(), Stop>) {
        if !self.budget.take_item() {
            return (None, Err(Stop::Limit));
        }
        match self.peek() {
            Some(b'"') => match self.string() {
                Ok(text) => (Some(Value::Text(text)), Ok(())),
                Err(stop) => (None, Err(stop)),
            },
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => match self.number() {
                Ok(number) => (Some(number), Ok(())),
                Err(stop) => (None, Err(stop)),
            },
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            // Not in the grammar, but Java's and JavaScript's own writers let it through.
            Some(b'N') => self.word("NaN", Value::Number("NaN".into())),
            Some(_) => (None, Err(Stop::Not)),
            None => (None, Err(Stop::End)),
        }
    }

    fn object(&mut self, depth: usize) -> (Option<Value>, Result<(), Stop>) {
        if depth >= self.budget.limits().nesting {
            return (None, Err(Stop::Limit));
        }
        self.pos += 1;
        if self.after_space() == Some(b'}') {
            self.pos += 1;
            return (Some(Value::Map(Vec::new())), Ok(()));
        }
        let first = self.members.len();
        let stop = loop {
            match self.key() {
                Ok(key) => {
                    // Most members are texts and numbers: straight to their place, without the way through [`Parser::value`].
                    let leaf = match self.peek() {
                        Some(b'"') if self.budget.take_item() => self.string().map(Value::Text),
                        Some(b'-' | b'0'..=b'9') if self.budget.take_item() => self.number(),
                        _ => {
                            let (value, stop) = self.value(depth + 1);
                            self.members.extend(value.map(|value| (key, value)));
                            if stop.is_err() {
                                break stop;
                            }
                            match self.after_member(b'}') {
                                Ok(true) => continue,
                                Ok(false) => break Ok(()),
                                Err(stop) => break Err(stop),
                            }
                        }
                    };
                    match leaf {
                        Ok(leaf) => self.members.push((key, leaf)),
                        Err(stop) => break Err(stop),
                    }
                }
                Err(stop) => break Err(stop),
            }
            match self.after_member(b'}') {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(stop) => break Err(stop),
            }
        };
        let members = self.members.split_off(first);
        (Some(Value::Map(members)), stop)
    }

    fn array(&mut self, depth: usize) -> (Option<Value>, Result<(), Stop>) {
        if depth >= self.budget.limits().nesting {
            return (None, Err(Stop::Limit));
        }
        self.pos += 1;
        if self.after_space() == Some(b']') {
            self.pos += 1;
            return (Some(Value::List(Vec::new())), Ok(()));
        }
        let first = self.items.len();
        let stop = loop {
            let (value, stop) = self.value(depth + 1);
            self.items.extend(value);
            if stop.is_err() {
                break stop;
            }
            match self.after_member(b']') {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(stop) => break Err(stop),
            }
        };
        let items = self.items.split_off(first);
        (Some(Value::List(items)), stop)
    }

    /// A key, its colon and the space after it.
    fn key(&mut self) -> Result<Str, Stop> {
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return Err(Stop::Not),
            None => return Err(Stop::End),
        }
        let key = self.string()?;
        match self.after_space() {
            Some(b':') => self.pos += 1,
            Some(_) => return Err(Stop::Not),
            None => return Err(Stop::End),
        }
        self.after_space();
        Ok(key)
    }

    /// True when a comma announces another member, false when `close` ends the container.
    fn after_member(&mut self, close: u8) -> Result<bool, Stop> {
        match self.after_space() {
            Some(b',') => {
                self.pos += 1;
                self.after_space();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.pos += 1;
                Ok(false)
            }
            Some(_) => Err(Stop::Not),
            None => Err(Stop::End),
        }
    }

    #[inline]
    fn number(&mut self) -> Result<Value, Stop> {
        let start = self.pos;
        self.pos += usize::from(self.peek() == Some(b'-'));
        let first = self.pos;
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        match self.peek() {
            // A number at the very end may go on: 38.7 of 38.722252 would be a lie.
            None => Err(Stop::End),
            Some(b'-' | b'+' | b'.' | b'e' | b'E') => self.broken_number(start),
            // Whole numbers need no look at point and exponent.
            Some(_) if self.pos > first => Ok(Value::Number(self.since(start)?.into())),
            Some(_) => Err(Stop::Not),
        }
    }

    /// A number with a point or an exponent, of which all before them was read.
    fn broken_number(&mut self, start: usize) -> Result<Value, Stop> {
        while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') = self.peek() {
            self.pos += 1;
        }
        if self.pos == self.bytes.len() {
            return Err(Stop::End);
        }
        let text = self.since(start)?;
        plain_number(text).then(|| Value::Number(text.into())).ok_or(Stop::Not)
    }

    /// The text from `start` on to here.
    fn since(&self, start: usize) -> Result<&'t str, Stop> {
        self.text.get(start..self.pos).ok_or(Stop::Not)
    }

    fn word(&mut self, word: &str, value: Value) -> (Option<Value>, Result<(), Stop>) {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.pos += word.len();
            (Some(value), Ok(()))
        } else if word.as_bytes().starts_with(rest) {
            (None, Err(Stop::End))
        } else {
            (None, Err(Stop::Not))
        }
    }

    /// The string whose opening quote is next. Raw control characters are let through: some writers send them.
    #[inline(always)] // a third of the time of a short string goes into calling
    fn string(&mut self) -> Result<Str, Stop> {
        let start = self.pos + 1;
        let len = quote_or_escape(self.bytes.get(start..).unwrap_or_default()).ok_or(Stop::End)?;
        self.pos = start + len;
        if self.peek() != Some(b'"') {
            return self.with_escapes(start);
        }
        let plain = self.since(start)?;
        self.pos += 1;
        Ok(plain.into())
    }

    /// A string that has an escape here.
    #[inline(never)]
    fn with_escapes(&mut self, start: usize) -> Result<Str, Stop> {
        let mut out = std::mem::take(&mut self.unescaped);
        out.clear();
        out.push_str(self.since(start)?);
        let read = self.escaped(&mut out);
        let text = read.map(|()| out.as_str().into());
        self.unescaped = out;
        text
    }

    /// The rest of a string from its first escape on.
    fn escaped(&mut self, out: &mut String) -> Result<(), Stop> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.pos += 1;
                    self.escape(out)?;
                }
                _ => {
                    let start = self.pos;
                    let rest = self.bytes.get(start..).unwrap_or_default();
                    self.pos += quote_or_escape(rest).ok_or(Stop::End)?;
                    out.push_str(self.text.get(start..self.pos).ok_or(Stop::Not)?);
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Stop> {
        let byte = self.peek().ok_or(Stop::End)?;
        self.pos += 1;
        out.push(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' | b'\'' => char::from(byte),
            b'u' => {
                let unit = self.hex4()?;
                self.unicode(unit)?
            }
            _ => return Err(Stop::Not),
        });
        Ok(())
    }

    /// The character of a `\u` unit; half a surrogate pair becomes U+FFFD.
    fn unicode(&mut self, unit: u16) -> Result<char, Stop> {
        let ahead = self.bytes.get(self.pos..).unwrap_or_default();
        if (0xd800..0xdc00).contains(&unit) && ahead.starts_with(b"\\u") {
            let back = self.pos;
            self.pos += 2;
            let low = self.hex4()?;
            if let Some(Ok(pair)) = char::decode_utf16([unit, low]).next() {
                return Ok(pair);
            }
            self.pos = back;
        }
        Ok(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u16, Stop> {
        let Some(digits) = self.bytes.get(self.pos..self.pos + 4) else {
            return Err(Stop::End);
        };
        self.pos += 4;
        digits.iter().try_fold(0u16, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(Stop::Not)?;
            Ok(unit << 4 | u16::try_from(digit).map_err(|_| Stop::Not)?)
        })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    /// The next byte that is no white space.
    #[inline]
    fn after_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.pos += 1,
                other => return other,
            }
        }
    }
}

/// One value stays itself, several become a list.
fn several(mut values: Vec<Value>, cut: Option<&'static str>) -> Parsed {
    let count = values.len();
    let value = match values.pop() {
        Some(only) if count == 1 => only,
        last => {
            values.extend(last);
            Value::List(values)
        }
    };
    Parsed { value, count, cut }
}

/// Whether no leaf of a value cut short was complete.
fn empty(value: &Value) -> bool {
    match value {
        Value::Map(members) => members.iter().all(|(_, v)| empty(v)),
        Value::List(members) => members.iter().all(empty),
        _ => false,
    }
}

/// Whether signs, point and exponent stand where a number has them.
fn plain_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}

/// Where the next `"` or `\` is. Eight bytes at a time: most strings of telemetry are longer than that, and
/// calling a vector routine for each costs more than it saves.
#[inline(always)]
fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The lowest set high bit marks the first zero byte; borrows only spoil bytes above it.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|b| matches!(b, b'"' | b'\\')).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests;
