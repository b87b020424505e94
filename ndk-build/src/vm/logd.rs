//! Decodes what was written to `/dev/socket/logdw` as Android's logd would, to say what `adb logcat` would show.
//!
//! Format: AOSP liblog, `android_log_header_t` (private/android_logger.h) before the payload of
//! `__android_log_write` (logger_write.cpp). logd refuses or garbles what does not fit it; so does this.

use std::fmt;

/// The buffer `adb logcat` shows by default (`LOG_ID_MAIN`, log/log_id.h).
const MAIN: u8 = 0;
/// id, thread id, seconds, nanoseconds.
const HEADER: usize = 1 + 2 + 4 + 4;
/// `LOGGER_ENTRY_MAX_PAYLOAD` (log/log.h): what is beyond it logd cuts off.
const MAX_PAYLOAD: usize = 4068;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The sending process's uid, as the kernel vouches for it.
    pub(super) uid: u32,
    /// `V`, `D`, `I`, `W`, `E` or `F`, as logcat shows it.
    pub(super) priority: char,
    /// The tag.
    pub(super) tag: String,
    /// The text.
    pub(super) text: String,
    /// Wall clock, seconds since 1970.
    pub(super) seconds: u32,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.priority, self.tag, self.text)
    }
}

impl Line {
    /// Reads one line of the recorder: `UID PID HEX`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn recorded(record: &str) -> Result<Self, String> {
        let mut words = record.split_whitespace();
        let uid = words.next().and_then(|word| word.parse().ok()).ok_or("the recorder's line has no uid")?;
        let hex = words.nth(1).ok_or("the recorder's line has no bytes")?;
        Self::decode(uid, &bytes(hex).ok_or("the recorder's line is not hex")?)
    }

    /// Decodes one datagram.
    ///
    /// # Errors
    /// The rule of liblog's format that it breaks, in words.
    pub(super) fn decode(uid: u32, datagram: &[u8]) -> Result<Self, String> {
        let (header, payload) = datagram
            .split_at_checked(HEADER)
            .ok_or_else(|| format!("{} bytes are no header", datagram.len()))?;
        let (&id, rest) = header.split_first().ok_or("no header")?;
        if id != MAIN {
            return Err(format!("it went to buffer {id}, which `adb logcat` does not show"));
        }
        let word = |at: usize| {
            rest.get(at..)
                .and_then(|bytes| bytes.first_chunk::<4>())
                .map_or(0, |word| u32::from_le_bytes(*word))
        };
        let (seconds, nanoseconds) = (word(2), word(6));
        if nanoseconds >= 1_000_000_000 {
            return Err(format!("its time has {nanoseconds} nanoseconds"));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(format!("its payload has {} bytes; logd cuts at {MAX_PAYLOAD}", payload.len()));
        }
        let (&priority, payload) = payload.split_first().ok_or("it has no payload")?;
        let priority = *b"VDIWEF"
            .get(usize::from(priority).wrapping_sub(2))
            .ok_or_else(|| format!("it has priority {priority}"))?;
        let mut parts = payload.split(|byte| *byte == 0);
        let (tag, text) = (parts.next().unwrap_or_default(), parts.next().ok_or("its tag has no end")?);
        // One NUL ends the text and the datagram.
        if parts.next() != Some(&[]) || parts.next().is_some() {
            return Err("its text does not end where the datagram ends".to_owned());
        }
        let utf8 =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| format!("not UTF-8: {error}"));
        Ok(Self { uid, priority: char::from(priority), tag: utf8(tag)?, text: utf8(text)?, seconds })
    }

    /// The value of a `key=value` pair behind the sentence.
    pub(super) fn field(&self, key: &str) -> Option<&str> {
        let (_, fields) = self.text.rsplit_once(" | ")?;
        fields.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The bytes of a hex string.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(id: u8, priority: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![id, 0x34, 0x12];
        bytes.extend(1_700_000_000_u32.to_le_bytes());
        bytes.extend(999_999_999_u32.to_le_bytes());
        bytes.push(priority);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_line_decodes_as_logcat_shows_it() {
        let line =
            Line::decode(0, &datagram(0, 5, b"telltale\0Mint sent it | kind=imei uid=10123\0")).unwrap();
        assert_eq!(line.to_string(), "W telltale: Mint sent it | kind=imei uid=10123");
        assert_eq!(
            (line.seconds, line.field("uid"), line.field("pid")),
            (1_700_000_000, Some("10123"), None)
        );
    }

    #[test]
    fn a_recorded_line_carries_the_senders_uid() {
        let hex: String =
            datagram(0, 4, b"telltale\0hi\0").iter().map(|byte| format!("{byte:02x}")).collect();
        let line = Line::recorded(&format!("0 1234 {hex}")).unwrap();
        assert_eq!((line.uid, &*line.text, line.priority), (0, "hi", 'I'));
        assert!(Line::recorded("0 1234").is_err());
        assert!(Line::recorded(&format!("0 1 {hex}0")).is_err());
    }

    #[test]
    fn what_logd_would_not_take_is_refused() {
        for (broken, words) in [
            (datagram(3, 4, b"telltale\0hi\0"), "buffer 3"),
            (datagram(0, 0, b"telltale\0hi\0"), "priority 0"),
            (datagram(0, 9, b"telltale\0hi\0"), "priority 9"),
            (datagram(0, 4, b"telltale\0hi"), "does not end"),
            (datagram(0, 4, b"telltale\0hi\0more\0"), "does not end"),
            (datagram(0, 4, b"telltale"), "no end"),
            (datagram(0, 4, &[b'x'; 5000]), "logd cuts"),
            (datagram(0, 4, b"telltale\0\xff\0"), "UTF-8"),
        ] {
            let error = Line::decode(0, &broken).unwrap_err();
            assert!(error.contains(words), "{error} should be about {words}");
        }
    }

    #[test]
    fn no_cut_datagram_decodes_or_panics() {
        let whole = datagram(0, 4, b"telltale\0hi\0");
        for length in 0..whole.len() {
            assert!(Line::decode(0, &whole[..length]).is_err(), "{length}");
        }
    }
}
