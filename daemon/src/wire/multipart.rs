//! `multipart/form-data` (RFC 7578) and its relatives (RFC 2046 section 5.1): a body taken apart at its boundary.

use memchr::memmem;

use super::authority::text_of;

/// More parts than this in one body are not looked at.
pub const PARTS_MAX: usize = 256;
/// More fields than this in the head of one part are not looked at.
const FIELDS_MAX: usize = 32;
/// RFC 2046 allows 70 characters; some clients go beyond.
const BOUNDARY_MAX: usize = 200;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part<'a> {
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, &'a [u8])>,
    /// The bytes of the part; a `Content-Transfer-Encoding` is still on them.
    pub body: &'a [u8],
    /// False when the body ended before the part did.
    pub complete: bool,
}

impl<'a> Part<'a> {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|&(_, v)| v)
    }

    /// The form field's name.
    pub fn name(&self) -> Option<String> {
        self.header("content-disposition").and_then(|d| parameter(d, "name"))
    }

    /// The file's name, where the part is a file.
    pub fn filename(&self) -> Option<String> {
        self.header("content-disposition").and_then(|d| parameter(d, "filename"))
    }
}

/// The parts of a body. An empty list when the type names no boundary and the body does not begin with one either.
/// A boundary that the type names but the body does not use gives way to the one the body begins with.
pub fn parts<'a>(content_type: &[u8], body: &'a [u8]) -> Vec<Part<'a>> {
    let named = parameter(content_type, "boundary").filter(|b| !b.is_empty() && b.len() <= BOUNDARY_MAX);
    if let Some(boundary) = named {
        let found = split(boundary.as_bytes(), body);
        if !found.is_empty() {
            return found;
        }
    }
    match first_line_boundary(body) {
        Some(boundary) => split(boundary, body),
        None => Vec::new(),
    }
}

/// The value of a parameter (`name="x"; boundary=y`) of a header field. Backslash escapes are undone.
pub fn parameter(value: &[u8], wanted: &str) -> Option<String> {
    let mut rest = value.get(memchr::memchr(b';', value)?..)?;
    while let Some(after) = rest.strip_prefix(b";") {
        let equals = after.iter().position(|b| matches!(b, b'=' | b';'))?;
        let (name, tail) = after.split_at_checked(equals)?;
        let Some(tail) = tail.strip_prefix(b"=") else {
            rest = tail;
            continue;
        };
        let tail = tail.trim_ascii_start();
        let (text, tail) = match tail.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted),
            None => {
                let end = memchr::memchr(b';', tail).unwrap_or(tail.len());
                let (text, tail) = tail.split_at_checked(end)?;
                (text.trim_ascii().to_vec(), tail)
            }
        };
        if name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(text_of(&text));
        }
        rest = tail.get(memchr::memchr(b';', tail)?..)?;
    }
    None
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut text = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            // Browsers do not escape a backslash in a Windows path, so only `\"` and `\\` are escapes.
            [b'\\', byte @ (b'"' | b'\\'), tail @ ..] => {
                text.push(*byte);
                rest = tail;
            }
            [b'"', tail @ ..] => return (text, tail),
            [byte, tail @ ..] => {
                text.push(*byte);
                rest = tail;
            }
            [] => return (text, &[]),
        }
    }
}

fn first_line_boundary(body: &[u8]) -> Option<&[u8]> {
    let body = body.trim_ascii_start();
    let line = body.split(|&b| b == b'\n').next()?.trim_ascii_end();
    let boundary = line.strip_prefix(b"--")?;
    let printable = boundary.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    (!boundary.is_empty() && boundary.len() <= BOUNDARY_MAX && printable).then_some(boundary)
}

fn split<'a>(boundary: &[u8], body: &'a [u8]) -> Vec<Part<'a>> {
    let delimiter = [b"--", boundary].concat();
    let mut found = Vec::new();
    let Some(mut start) = next_delimiter(body, &delimiter, 0) else { return found };
    while found.len() < PARTS_MAX {
        let after = start.saturating_add(delimiter.len());
        let Some(rest) = body.get(after..) else { break };
        // `--` right after the boundary closes the body.
        if rest.starts_with(b"--") {
            break;
        }
        // Blanks may follow a boundary (RFC 2046 section 5.1.1).
        let Some(line_end) = memchr::memchr(b'\n', rest) else { break };
        let content_start = after.saturating_add(line_end).saturating_add(1);
        let next = next_delimiter(body, &delimiter, content_start);
        let content = body.get(content_start..next.unwrap_or(body.len())).unwrap_or_default();
        // The line end before a boundary belongs to the boundary.
        let content = match next {
            Some(_) => strip_line_end(content),
            None => content,
        };
        found.push(part(content, next.is_some()));
        match next {
            Some(next) => start = next,
            None => break,
        }
    }
    found
}

/// Where the delimiter next stands at the beginning of a line.
fn next_delimiter(body: &[u8], delimiter: &[u8], from: usize) -> Option<usize> {
    memmem::find_iter(body.get(from..)?, delimiter).map(|at| at.saturating_add(from)).find(|&at| {
        let line_start = at.checked_sub(1).is_none_or(|before| body.get(before) == Some(&b'\n'));
        // A longer boundary that begins with this one is another boundary (nested multiparts).
        let after = body.get(at.saturating_add(delimiter.len())..).unwrap_or_default();
        line_start && matches!(after, [] | [b'\r' | b'\n' | b' ' | b'\t', ..] | [b'-', b'-', ..])
    })
}

fn part(content: &[u8], complete: bool) -> Part<'_> {
    let mut headers: Vec<(String, &[u8])> = Vec::new();
    let mut rest = content;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at_checked(end.saturating_add(1)).unwrap_or((rest, &[]));
        let line = strip_line_end(line);
        if line.is_empty() {
            return Part { headers, body: after, complete };
        }
        let Some((name, value)) = memchr::memchr(b':', line).and_then(|at| line.split_at_checked(at)) else {
            // No head at all: all of it is content.
            return Part { headers: Vec::new(), body: content, complete };
        };
        if headers.len() < FIELDS_MAX {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            headers.push((text_of(name.trim_ascii()).to_ascii_lowercase(), value));
        }
        rest = after;
    }
    // The head did not end: nothing of the content was seen.
    Part { headers, body: &[], complete }
}

fn strip_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the example in RFC 7578 section 4.1 and what browsers send.
    const BODY: &[u8] = b"preamble\r\n--AaB03x\r\ncontent-disposition: form-data; name=\"field1\"\r\n\
        Content-Type: text/plain;charset=UTF-8\r\n\r\nJoe owes\r\n--AaB0 100.\r\n--AaB03x \t\r\n\
        Content-Disposition: form-data; filename=\"a\\\"b; c.txt\"; name=pics\r\n\r\n\x00\xff\r\n\r\n--AaB03x--\r\nepilogue";

    #[test]
    fn parts_have_names_and_exact_bytes() {
        let found = parts(b"multipart/form-data; charset=x; Boundary=\"AaB03x\"", BODY);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name().as_deref(), Some("field1"));
        assert_eq!(found[0].header("content-type"), Some(&b"text/plain;charset=UTF-8"[..]));
        assert_eq!(found[0].body, b"Joe owes\r\n--AaB0 100.");
        assert_eq!(found[1].filename().as_deref(), Some("a\"b; c.txt"));
        assert_eq!(found[1].name().as_deref(), Some("pics"));
        assert_eq!((found[1].body, found[1].complete), (&b"\x00\xff\r\n"[..], true));
    }

    #[test]
    fn the_body_tells_the_boundary_when_the_type_does_not() {
        let body = b"--xyz\nA: 1\n\none\n--xyz\n\ntwo\n--xyz--";
        for content_type in [&b"multipart/mixed"[..], b"multipart/mixed; boundary=other", b""] {
            let found = parts(content_type, body);
            assert_eq!(found.iter().map(|p| p.body).collect::<Vec<_>>(), [b"one", b"two"]);
        }
        assert!(parts(b"multipart/mixed", b"no boundary").is_empty());
    }

    #[test]
    fn a_nested_boundary_that_begins_alike_is_another() {
        let body = b"--b\r\n\r\nx\r\n--b-inner\r\n\r\ny\r\n--b--";
        let found = parts(b"m/x; boundary=b", body);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].body, b"x\r\n--b-inner\r\n\r\ny");
    }

    #[test]
    fn every_truncation_is_said_to_be_incomplete() {
        let whole = parts(b"m/f; boundary=AaB03x", BODY);
        for end in 0..BODY.len() {
            let cut = parts(b"m/f; boundary=AaB03x", &BODY[..end]);
            for (i, part) in cut.iter().enumerate() {
                if part.complete {
                    assert_eq!(part.body, whole[i].body, "cut at {end}");
                }
            }
        }
    }

    #[test]
    fn parameters_with_quotes_blanks_and_none() {
        assert_eq!(parameter(b"a/b; x = \"1;2\" ; y=3 ", "y").as_deref(), Some("3"));
        assert_eq!(parameter(b"a/b; flag; y=3", "y").as_deref(), Some("3"));
        assert_eq!(parameter(b"a/b; y=\"c:\\dir\\f", "y").as_deref(), Some("c:\\dir\\f"));
        assert_eq!(parameter(b"a/b", "y"), None);
        assert_eq!(parameter(b"a/b;;y=1", "y").as_deref(), Some("1"));
    }

    #[test]
    fn many_parts_are_bounded() {
        assert_eq!(parts(b"m/x; boundary=b", "--b\n\nx\n".repeat(1000).as_bytes()).len(), PARTS_MAX);
    }
}
