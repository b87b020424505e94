//! Android Binary XML, the form of settings files since Android 12 (AOSP `BinaryXmlSerializer.java`): a token is a byte
//! whose low nibble is the event and whose high nibble is the type of the value that follows; numbers are big-endian.
//!
//! Own reader: no crate on the registry reads it for Rust without a DOM of its own, and it is two screens.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    SourceError,
    element::{Element, MAX_ELEMENTS},
};
use crate::leak::needles::hex;

/// `ABX` and version 0.
const MAGIC: &[u8; 4] = b"ABX\0";
/// An index that says: a new string follows and joins the pool.
const NEW_STRING: u16 = 0xffff;

/// True when the bytes begin as ABX does.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The elements of a document in order.
pub(super) fn elements(bytes: &[u8]) -> Result<Vec<Element>, SourceError> {
    let mut reader = Abx { rest: bytes.get(MAGIC.len()..).unwrap_or(&[]), pool: Vec::new() };
    reader.document().ok_or(SourceError::Format("the ABX ends early or is damaged"))
}

struct Abx<'b> {
    rest: &'b [u8],
    pool: Vec<String>,
}

impl<'b> Abx<'b> {
    /// None when it ends before its end mark, or says what no ABX says.
    fn document(&mut self) -> Option<Vec<Element>> {
        let mut out: Vec<Element> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        loop {
            let [token] = self.array()?;
            let (event, kind) = (token & 0x0f, token >> 4);
            match event {
                // start document
                0 => {}
                // end document
                1 => return open.is_empty().then_some(out),
                // start tag
                2 => {
                    let name = self.value(kind)?;
                    if out.len() >= MAX_ELEMENTS {
                        return None;
                    }
                    open.push(out.len());
                    out.push(Element { name, ..Element::default() });
                }
                // end tag
                3 => {
                    self.value(kind)?;
                    open.pop()?;
                }
                // attribute of the tag just begun: its name is interned
                15 => {
                    let name = self.interned()?;
                    let value = self.value(kind)?;
                    out.last_mut()?.attributes.push((name, value));
                }
                // text, CDATA
                4 | 5 => {
                    let text = self.value(kind)?;
                    if let Some(element) = open.last().and_then(|index| out.get_mut(*index)) {
                        element.text.push_str(&text);
                    }
                }
                // entity reference, white space, processing instruction, comment, document type
                6..=10 => {
                    self.value(kind)?;
                }
                _ => return None,
            }
        }
    }

    /// A value of a type, as the text it would have in XML.
    fn value(&mut self, kind: u8) -> Option<String> {
        Some(match kind {
            1 => String::new(),
            2 => self.string()?,
            3 => self.interned()?,
            4 => hex(self.blob()?),
            5 => STANDARD.encode(self.blob()?),
            6 => i32::from_be_bytes(self.array()?).to_string(),
            7 => format!("{:x}", u32::from_be_bytes(self.array()?)),
            8 => i64::from_be_bytes(self.array()?).to_string(),
            9 => format!("{:x}", u64::from_be_bytes(self.array()?)),
            10 => f32::from_be_bytes(self.array()?).to_string(),
            11 => f64::from_be_bytes(self.array()?).to_string(),
            12 => "true".into(),
            13 => "false".into(),
            _ => return None,
        })
    }

    fn interned(&mut self) -> Option<String> {
        match u16::from_be_bytes(self.array()?) {
            NEW_STRING => {
                let text = self.string()?;
                self.pool.push(text.clone());
                Some(text)
            }
            index => self.pool.get(usize::from(index)).cloned(),
        }
    }

    fn string(&mut self) -> Option<String> {
        Some(modified_utf8(self.blob()?))
    }

    fn blob(&mut self) -> Option<&'b [u8]> {
        let length = u16::from_be_bytes(self.array()?);
        let (taken, rest) = self.rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }
}

/// Java's modified UTF-8: NUL as two bytes, characters beyond the first plane as two surrogates of three bytes each.
fn modified_utf8(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains('\0')
    {
        return text.to_owned();
    }
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().map(|byte| u16::from(*byte));
    while let Some(first) = rest.next() {
        units.push(match first >> 4 {
            0..=7 => first,
            12 | 13 => (first & 0x1f) << 6 | rest.next().unwrap_or(0) & 0x3f,
            14 => {
                let (second, third) = (rest.next().unwrap_or(0), rest.next().unwrap_or(0));
                (first & 0x0f) << 12 | (second & 0x3f) << 6 | third & 0x3f
            }
            _ => 0xfffd,
        });
    }
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Composed after `BinaryXmlSerializer.java`: what settings_ssaid.xml is on Android 12.
    pub(super) fn ssaid() -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mut pool: Vec<&str> = Vec::new();
        let string = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u16).to_be_bytes());
            out.extend(text.as_bytes());
        };
        let mut interned =
            |out: &mut Vec<u8>, text: &'static str| match pool.iter().position(|known| *known == text) {
                Some(index) => out.extend((index as u16).to_be_bytes()),
                None => {
                    pool.push(text);
                    out.extend(NEW_STRING.to_be_bytes());
                    string(out, text);
                }
            };
        out.push(0x10);
        out.push(0x32);
        interned(&mut out, "settings");
        out.push(0x6f);
        interned(&mut out, "version");
        out.extend((-1_i32).to_be_bytes());
        for (name, value, package) in [
            ("userkey", "00ff", "android"),
            ("10093", "9f3c2b7a1d4e5f60", "com.a"),
            ("10094", "0011223344556677", "com.b"),
        ] {
            out.push(0x32);
            interned(&mut out, "setting");
            for (key, text) in [("name", name), ("value", value), ("package", package)] {
                out.push(0x2f);
                interned(&mut out, key);
                string(&mut out, text);
            }
            out.push(0xcf);
            interned(&mut out, "defaultSysSet");
            out.push(0x33);
            interned(&mut out, "setting");
        }
        out.push(0x33);
        interned(&mut out, "settings");
        out.push(0x11);
        out
    }

    #[test]
    fn a_settings_file() {
        let all = elements(&ssaid()).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[0].get("version"), Some("-1"));
        assert_eq!(all[2].get("value"), Some("9f3c2b7a1d4e5f60"));
        assert_eq!((all[3].get("package"), all[3].get("defaultSysSet")), (Some("com.b"), Some("true")));
    }

    #[test]
    fn every_cut_is_refused_and_no_byte_makes_it_panic() {
        let whole = ssaid();
        for end in 0..whole.len() {
            assert!(elements(&whole[..end]).is_err(), "{end}");
        }
        for at in 4..whole.len() {
            for byte in [0, 0x7f, 0xff, whole[at] ^ 0x10] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = elements(&changed);
            }
        }
    }

    #[test]
    fn strings_are_javas() {
        assert_eq!(modified_utf8(b"abc"), "abc");
        assert_eq!(modified_utf8(&[0x61, 0xc0, 0x80]), "a\0");
        assert_eq!(modified_utf8(&[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]), "😀");
        assert_eq!(modified_utf8("é".as_bytes()), "é");
    }
}
