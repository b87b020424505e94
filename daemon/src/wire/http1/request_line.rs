//! Request lines: reading one, and finding where one begins among other bytes.

use super::super::authority::absolute;
use super::trim;

/// Methods that mark the start of a request where the position alone does not (RFC 9110 section 9.3, RFC 5789,
/// RFC 4918, RFC 3253, UPnP).
const METHODS: [&[u8]; 18] = [
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"REPORT",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"M-SEARCH",
    b"NOTIFY",
    b"SUBSCRIBE",
];
/// Longest method token taken for one; the longest registered one (`UPDATEREDIRECTREF`) has 17 letters.
const METHOD_MAX: usize = 24;
/// A line of chunk size and extensions, or a probed request line after `Expect`, is given up beyond this.
pub(super) const LINE_MAX: usize = 8 << 10;

/// A request line taken apart.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
}

impl<'a> RequestLine<'a> {
    /// Blanks inside the target are let through: clients that forget to encode a search term exist.
    /// Of a line that was `cut` the version is not asked for.
    pub(super) fn parse(line: &'a [u8], cut: bool) -> Option<Self> {
        let space = line.iter().position(|b| matches!(b, b' ' | b'\t'))?;
        let (method, rest) = line.split_at_checked(space)?;
        if !is_method(method) {
            return None;
        }
        let rest = trim(rest);
        if cut {
            return METHODS.contains(&method).then_some(RequestLine { method, target: rest });
        }
        let (before, version) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        let version_ok = version.get(..7).is_some_and(|v| v.eq_ignore_ascii_case(b"HTTP/1."))
            && version.get(7).is_some_and(u8::is_ascii_digit);
        let target = trim(before);
        (version_ok && target.len() < before.len() && !target.is_empty())
            .then_some(RequestLine { method, target })
    }
}

fn is_method(token: &[u8]) -> bool {
    (1..=METHOD_MAX).contains(&token.len())
        && token.first().is_some_and(u8::is_ascii_uppercase)
        && token.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(b))
}

/// Whether the bytes may be the beginning of a request: a method, a blank, then text.
pub(in super::super) fn could_be_request(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line = bytes.get(start..).unwrap_or_default();
    match line.iter().position(|b| matches!(b, b' ' | b'\t')) {
        None => line.is_empty() || is_method(line),
        Some(space) => {
            let (method, rest) = line.split_at_checked(space).unwrap_or((line, &[]));
            // Only the beginning: this is asked again with every piece of a long line.
            is_method(method)
                && rest.iter().take(64).all(|&b| b >= b' ' || matches!(b, b'\t' | b'\r' | b'\n'))
        }
    }
}

/// Whether the bytes may be the beginning of a request and show a whole method.
pub(in super::super) fn shows_method(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line = bytes.get(start..).unwrap_or_default();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t'));
    end.and_then(|end| line.get(..end)).is_some_and(is_method)
}

/// Whether the bytes begin with a known method and a blank, or with the beginning of one.
pub(super) fn starts_with_method(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line = bytes.get(start..).unwrap_or_default();
    METHODS.iter().any(|m| match line.get(..m.len()) {
        Some(token) => token == *m && line.get(m.len()).is_none_or(|&b| b == b' '),
        None => m.starts_with(line),
    })
}

/// The first position at or after `from` where a request with a known method starts, its request line complete.
pub(in super::super) fn find_request(bytes: &[u8], from: usize) -> Option<usize> {
    let mut search = from;
    while let Some(found) = memchr::memmem::find(bytes.get(search..)?, b" HTTP/1.") {
        let version = search.saturating_add(found);
        let end = version.saturating_add(9);
        let eol = matches!(bytes.get(end..)?, [b'\n', ..] | [b'\r', b'\n', ..]);
        // Only what the parser will take: else the two would hand it to each other for ever.
        if eol
            && let Some(start) = method_before(bytes, version)
            && let Some(line) = bytes.get(start..end)
            && could_be_request(line)
            && RequestLine::parse(line, false).is_some()
        {
            return Some(start);
        }
        search = version.saturating_add(1);
    }
    None
}

/// Where the request line whose version stands at `version` begins.
fn method_before(bytes: &[u8], version: usize) -> Option<usize> {
    let line_start = version.saturating_sub(LINE_MAX);
    let before = bytes.get(line_start..version)?;
    let line_start = match before.iter().rposition(|&b| b == b'\n') {
        Some(at) => line_start.saturating_add(at).saturating_add(1),
        None => line_start,
    };
    let line = bytes.get(line_start..version)?;
    // A body may end without a line end right before the method, so that every blank of the line is a candidate,
    // nearest to the version first.
    for (space, _) in line.iter().enumerate().rev().filter(|&(_, &b)| b == b' ') {
        let (head, target) = line.split_at_checked(space)?;
        let form = matches!(target, [_, b'/' | b'*', ..]) || absolute(target.get(1..)?).is_some();
        let method = METHODS.iter().filter(|m| head.ends_with(m)).max_by_key(|m| m.len());
        if let Some(method) = method
            && (form || *method == b"CONNECT")
        {
            return Some(line_start.saturating_add(space).saturating_sub(method.len()));
        }
    }
    None
}

/// Where an unfinished request line may begin at the end of the bytes; what is before it can be let go.
pub(in super::super) fn unfinished_request(bytes: &[u8]) -> usize {
    let tail_start = bytes.len().saturating_sub(LINE_MAX);
    let tail = bytes.get(tail_start..).unwrap_or(bytes);
    let line = match tail.iter().rposition(|&b| b == b'\n') {
        Some(at) => tail_start.saturating_add(at).saturating_add(1),
        None => tail_start,
    };
    let rest = bytes.get(line..).unwrap_or_default();
    let known = METHODS.iter().filter_map(|m| memchr::memmem::find(rest, m)).min();
    let partial = || {
        (1..=9).rev().find(|&n| {
            let end = rest.len().checked_sub(n).and_then(|at| rest.get(at..));
            end.is_some_and(|end| METHODS.iter().any(|m| m.starts_with(end)))
        })
    };
    match known {
        Some(at) => line.saturating_add(at),
        None => bytes.len().saturating_sub(partial().unwrap_or(0)),
    }
}
