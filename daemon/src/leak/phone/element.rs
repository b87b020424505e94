//! Android's settings files as a flat list of elements: text XML, or the binary form that has taken its place since
//! Android 12. Any file may be either.

use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};

use super::{SourceError, abx};

/// The most elements read of one file; a package list of a thousand apps has some ten thousand.
pub(super) const MAX_ELEMENTS: usize = 100_000;

/// An element, its attributes, and the text directly in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) text: String,
}

impl Element {
    /// The value of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The elements of a file in document order, whichever form it has.
pub(super) fn elements(bytes: &[u8]) -> Result<Vec<Element>, SourceError> {
    if abx::is(bytes) {
        return abx::elements(bytes);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| SourceError::Format("it is neither XML text nor ABX"))?;
    let mut reader = Reader::from_str(text);
    let mut out: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|_| SourceError::Format("it is no well-formed XML"))?;
        let (start, stays) = match event {
            Event::Start(start) => (start, true),
            Event::Empty(start) => (start, false),
            Event::End(_) => {
                open.pop();
                continue;
            }
            Event::Text(piece) => {
                add(&mut out, &open, &piece);
                continue;
            }
            Event::CData(piece) => {
                add(&mut out, &open, &piece);
                continue;
            }
            Event::GeneralRef(entity) => {
                if let Ok(Some(character)) = entity.resolve_char_ref() {
                    add(&mut out, &open, character.encode_utf8(&mut [0; 4]));
                } else if let Some(known) = resolve_predefined_entity(&entity) {
                    add(&mut out, &open, known);
                }
                continue;
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
        };
        if out.len() >= MAX_ELEMENTS {
            return Err(SourceError::Format("it has too many elements"));
        }
        let mut element = Element { name: start.name().as_ref().into(), ..Element::default() };
        for attribute in start.attributes().with_checks(false).flatten() {
            let value = quick_xml::escape::unescape(&attribute.value);
            let value = value.map_or_else(|_| attribute.value.to_string(), |value| value.into_owned());
            element.attributes.push((attribute.key.as_ref().into(), value));
        }
        if stays {
            open.push(out.len());
        }
        out.push(element);
    }
    if open.is_empty() { Ok(out) } else { Err(SourceError::Format("it ends inside an element")) }
}

fn add(out: &mut [Element], open: &[usize], piece: &str) {
    if let Some(element) = open.last().and_then(|index| out.get_mut(*index)) {
        element.text.push_str(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_attributes_and_entities() {
        let xml = "<?xml version='1.0'?><map a=\"1 &amp; 2\"><string name=\"SSID\">&quot;Caf&#233;&quot;</string><null/></map>";
        let all = elements(xml.as_bytes()).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].get("a"), Some("1 & 2"));
        assert_eq!((all[1].get("name"), all[1].text.as_str()), (Some("SSID"), "\"Café\""));
        assert_eq!(all[2].name, "null");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_or_shorter_never_wrong() {
        let xml = "<m><s n=\"1\">a</s><s n=\"2\">b</s></m>";
        for end in 0..xml.len() {
            if let Ok(all) = elements(&xml.as_bytes()[..end]) {
                assert!(all.is_empty(), "{end}: {all:?}");
            }
        }
    }
}
