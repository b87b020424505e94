//! The promises of `telltale decode` as a whole, from a connection's bytes to lines and JSON: it ends, no decoder fails, each
//! line is one line of its own that fits the log, and what it was said to have found of the phone's own values is not in it.

use std::{cell::RefCell, io};

use telltale::{
    alert::{
        Alert, Ledger,
        sink::{Json, Lines, MAX_LINE, Sink},
    },
    cli::{DecodeOptions, decode::Decoder},
    leak::{Truth, persist::Store},
};

/// A phone's own values, composed: those that are looked for in lines are long enough to stand in none by chance.
const TRUTH: &str = r#"{"imei1": "490154203237518", "android_id": "9f3c2b7a1d4e5f60", "mac": "34:ce:00:12:34:56",
    "serial": "f1a2b3c4", "gaid": "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b", "ssid": "Lisboa-Home-5G",
    "bssid": "a4:2b:b0:11:22:33", "mi_account": "6012345678", "lat": 38.722252, "lon": -9.139337,
    "imsi": "268011234567890", "phone": "+351912345678", "packages": ["com.whatsapp", "com.example.bank", "com.example.dating"]}"#;
/// Those of them that a line which says that they were sent may not show, lower case.
const OWN: [&str; 9] = [
    "490154203237518",
    "9f3c2b7a1d4e5f60",
    "34:ce:00:12:34:56",
    "f1a2b3c4",
    "3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b",
    "lisboa-home-5g",
    "6012345678",
    "268011234567890",
    "351912345678",
];

thread_local! {
    static DECODER: RefCell<Option<Decoder>> = RefCell::new(decoder());
}

fn decoder() -> Option<Decoder> {
    let options = DecodeOptions { app: Some("com.example.app".to_owned()), ..DecodeOptions::default() };
    Decoder::new(&options, &Truth::from_json(TRUTH).ok()?, &mut io::sink()).ok()
}

/// Looks at what is written of each alert.
struct Reader;

impl Sink for Reader {
    fn alert(&mut self, alert: &Alert) -> io::Result<()> {
        let mut json = Vec::new();
        Json(&mut json).alert(alert)?;
        let said = str::from_utf8(&json).expect("JSON is text");
        assert!(said.ends_with("}\n") && said.matches('\n').count() == 1 && said.starts_with('{'));
        let mut lines = Vec::new();
        Lines(&mut lines).alert(alert)?;
        let said = str::from_utf8(&lines).expect("a line is text");
        for line in said.lines() {
            assert!(line.len() <= MAX_LINE + "W telltale: ".len() && !line.chars().any(char::is_control));
        }
        let said = said.to_ascii_lowercase();
        let value = alert.finding.value.to_ascii_lowercase();
        if let Some(own) = OWN.iter().find(|own| value.ends_with(**own)) {
            assert!(!said.contains(own), "{said}");
        }
        Ok(())
    }
}

/// What a client sent on one connection, or a HAR file, on a phone that remembers nothing yet.
pub fn whole(data: &[u8]) {
    DECODER.with_borrow_mut(|decoder| {
        let decoder = decoder.as_mut().expect("the rows that are part of the program");
        decoder.pipeline.settings().memory = Some(Store::new());
        *decoder.pipeline.ledger() = Ledger::default();
        decoder.read(&mut &*data, &mut Reader).expect("neither reading nor writing fails");
        assert_eq!(decoder.pipeline.flows(), 0);
        assert_eq!(decoder.pipeline.counts().failed, 0);
    });
}
