//! An experiment that runs: where its texts were seen going, what could not be read meanwhile, and the verdict on each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{HOST, Trial, What};
use crate::{
    alert::{Alert, harmless, time},
    app::App,
    leak::Kind,
};

/// Ways and apps remembered; an experiment that shows more has shown enough.
const MOST: usize = 256;
/// Names in one sentence.
const NAMED: usize = 3;

/// What came of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It left the phone to somebody it was not meant for.
    Sent,
    /// What could have carried it could not be read.
    NotReadable,
    /// All that its app sent was read, and it was not in there.
    NotSeen,
}

impl Verdict {
    /// As records and the page say it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Sent => "sent",
            Verdict::NotReadable => "not readable there",
            Verdict::NotSeen => "not seen",
        }
    }
}

/// One verdict: of a text that was sent, one for each app and recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Of which text.
    pub what: What,
    /// What came of it.
    pub verdict: Verdict,
    /// The app, when it was sent.
    pub app: String,
    /// To which host.
    pub host: String,
    /// How it was wrapped: the route, with the hash or encoding it travelled as.
    pub via: String,
    /// The rest, in a sentence.
    pub why: String,
}

impl Outcome {
    /// The evidence record of it.
    pub fn record(&self, trial: &Trial, now_ms: u64) -> Map<String, Value> {
        let record = json!({"type": "try", "time": time(now_ms), "trial": trial.id, "place": self.what.place(),
            "what": self.what.name(), "verdict": self.verdict.name(), "app": self.app, "host": self.host,
            "via": self.via, "why": self.why});
        match record {
            Value::Object(record) => record,
            _ => Map::new(),
        }
    }

    /// For the terminal.
    pub fn sentence(&self) -> String {
        let mut text = format!("{} ({}): {}", self.what.name(), self.what.place(), self.verdict.name());
        if self.verdict == Verdict::Sent {
            text.push_str(&format!(" by {} to {}, as {}", self.app, self.host, self.via));
        }
        if !self.why.is_empty() {
            text.push_str(&format!(" ({})", self.why));
        }
        harmless(&text).into_owned()
    }
}

/// A text on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sighting {
    what: What,
    app: String,
    label: String,
    host: String,
    via: String,
    why: String,
    /// To the page itself, or to the engine that was asked.
    meant: bool,
}

/// What an app sent meanwhile.
#[derive(Debug, Clone, Default)]
struct Heard {
    label: String,
    role: Option<String>,
    readable: bool,
    /// What could not be read, and why: `one.example (its own cipher)`.
    unreadable: BTreeSet<String>,
}

/// An experiment with all that was noticed since it began.
#[derive(Debug, Clone)]
pub struct Watch {
    trial: Trial,
    sightings: Vec<Sighting>,
    heard: BTreeMap<String, Heard>,
}

impl Watch {
    /// Begins to watch.
    pub fn new(trial: Trial) -> Watch {
        Watch { trial, sightings: Vec::new(), heard: BTreeMap::new() }
    }

    /// What it watches for.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// A verdict was asked for once more.
    pub fn ask(&mut self, asked: u64) {
        self.trial.asked = asked;
    }

    /// Looks at a finding; gives the verdict when it shows something new that was sent.
    pub fn see(&mut self, alert: &Alert) -> Option<Outcome> {
        let host = destination(alert);
        if alert.kind() == Kind::EncryptedTelemetry {
            self.unreadable(&alert.app, &host, "sealed by the app's own cipher");
        }
        let what = self.trial.carried(alert)?;
        // Stricter than `asked`, which lets a browser tell an address to any site: here it is known which site that is.
        let to = alert.host.as_ref();
        let meant = match what {
            What::Address => to.and_then(|host| host.domain.as_deref()) == Some(HOST),
            What::Phrase => {
                to.and_then(|host| host.role.as_deref()) == Some("search") && alert.finding.protocol.is_none()
            }
            What::Folder | What::Song => false,
        };
        let mut via = alert.via.clone();
        if let Some(form) = &alert.finding.form {
            via.push_str(&format!(" ({form})"));
        }
        let owner = alert.host.as_ref().and_then(|host| host.owner.clone());
        let sighting = Sighting {
            what,
            app: alert.app.name.clone(),
            label: label(&alert.app),
            why: owner.map_or_else(String::new, |owner| format!("{owner} domain")),
            host,
            via,
            meant,
        };
        let known = self
            .sightings
            .iter()
            .any(|old| old.what == what && old.app == sighting.app && old.host == sighting.host);
        if known || self.sightings.len() >= MOST {
            return None;
        }
        let outcome = (!meant).then(|| sighting.outcome());
        self.sightings.push(sighting);
        outcome
    }

    /// An app sent something that was read.
    pub fn readable(&mut self, app: &App) {
        if let Some(heard) = self.heard(app) {
            heard.readable = true;
        }
    }

    /// An app sent something that could not be read, and why.
    pub fn unreadable(&mut self, app: &App, host: &str, why: &str) {
        if let Some(heard) = self.heard(app)
            && heard.unreadable.len() < MOST
        {
            heard.unreadable.insert(format!("{host} ({why})"));
        }
    }

    fn heard(&mut self, app: &App) -> Option<&mut Heard> {
        if self.heard.len() >= MOST && !self.heard.contains_key(&app.name) {
            return None;
        }
        let heard = self.heard.entry(app.name.clone()).or_default();
        if heard.label.is_empty() {
            heard.label = label(app);
            heard.role = app.role.clone();
        }
        Some(heard)
    }

    /// The verdicts on all texts as things stand.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.trial.texts.iter().flat_map(|(what, _)| self.of(*what)).collect()
    }

    fn of(&self, what: What) -> Vec<Outcome> {
        let seen = || self.sightings.iter().filter(|sighting| sighting.what == what);
        let sent: Vec<Outcome> = seen().filter(|sighting| !sighting.meant).map(Sighting::outcome).collect();
        if !sent.is_empty() {
            return sent;
        }
        // The apps it was used in: those that asked for it themselves, else those made for it; of no such app was
        // anything heard: any.
        let users: BTreeSet<&str> = seen().map(|sighting| sighting.app.as_str()).collect();
        let made_for = |heard: &Heard| heard.role.as_deref().is_some_and(|role| what.roles().contains(&role));
        let is_known = self.heard.values().any(made_for) || !users.is_empty();
        let unread: Vec<String> = self
            .heard
            .iter()
            .filter(|(name, heard)| !is_known || users.contains(name.as_str()) || made_for(heard))
            .filter(|(_, heard)| !heard.unreadable.is_empty())
            .map(|(_, heard)| format!("{} to {}", heard.label, list(&heard.unreadable)))
            .collect();
        let mut outcome = Outcome {
            what,
            verdict: Verdict::NotSeen,
            app: String::new(),
            host: String::new(),
            via: String::new(),
            why: String::new(),
        };
        let meant: BTreeSet<String> =
            seen().map(|sighting| format!("{} to {}", sighting.label, sighting.host)).collect();
        let meant =
            if meant.is_empty() { String::new() } else { format!("; as you asked: {}", list(&meant)) };
        if unread.is_empty() {
            outcome.why = match (meant.is_empty(), is_known) {
                (false, _) => format!("nowhere else{meant}"),
                (true, true) => "all that its app sent could be read; not used is not seen either".to_owned(),
                (true, false) => "nothing of an app for it was seen at all: was it used?".to_owned(),
            };
        } else {
            outcome.verdict = Verdict::NotReadable;
            outcome.why = format!("not read: {}{meant}", list(&unread.into_iter().collect()));
        }
        vec![outcome]
    }
}

impl Sighting {
    fn outcome(&self) -> Outcome {
        Outcome {
            what: self.what,
            verdict: Verdict::Sent,
            app: self.label.clone(),
            host: self.host.clone(),
            via: self.via.clone(),
            why: self.why.clone(),
        }
    }
}

fn label(app: &App) -> String {
    if app.label.is_empty() { app.name.clone() } else { app.label.clone() }
}

fn destination(alert: &Alert) -> String {
    let peer = || alert.peer.map_or_else(|| "an unknown host".to_owned(), |peer| peer.to_string());
    alert.host.as_ref().map_or_else(peer, |host| host.name.clone())
}

/// The first few, and how many more.
fn list(names: &BTreeSet<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        leak::{Crypt, Data, Detector, Truth},
        pipeline::{Flow, Pipeline, Settings},
        stream::Chunk,
    };
    use base64::Engine as _;

    fn trial() -> Trial {
        Trial::new(&[3, 200, 17, 44, 90, 121, 7, 66, 250, 31, 180, 99, 1, 2, 3, 4], 0)
    }

    fn browser() -> App {
        App { name: "com.b".into(), label: "Browser".into(), role: Some("browser".into()), ..App::default() }
    }

    /// Sends requests through a pipeline that knows the texts, and lets a watch see what comes of it.
    fn watched(app: &App, requests: &[(&str, String)]) -> Watch {
        let mut truth = Truth::default();
        truth.canaries = trial().canaries();
        let detector = Detector::new(&truth, Data::built_in().unwrap());
        let mut pipeline = Pipeline::new(Settings::new(detector));
        let mut watch = Watch::new(trial());
        for (host, request) in requests {
            let flow = Flow {
                host: Some((*host).to_owned()),
                host_from: "sni".into(),
                ..Flow::new(app.clone(), Crypt::Tls)
            };
            let id = pipeline.open(flow);
            let mut alerts = pipeline.push(id, Chunk::Bytes(request.as_bytes()), 1);
            alerts.extend(pipeline.close(id, 1));
            watch.readable(app);
            alerts.iter().for_each(|alert| drop(watch.see(alert)));
        }
        watch
    }

    fn text(what: What) -> String {
        trial().texts.into_iter().find(|(other, _)| *other == what).unwrap().1
    }

    fn post(host: &str, body: &str) -> String {
        format!(
            "POST /collect HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn verdicts(watch: &Watch, what: What) -> Vec<(Verdict, String)> {
        watch
            .outcomes()
            .into_iter()
            .filter(|outcome| outcome.what == what)
            .map(|outcome| (outcome.verdict, outcome.host))
            .collect()
    }

    #[test]
    fn every_form_is_recognised_wherever_it_goes() {
        use md5::{Digest as _, Md5};
        use sha2::Sha256;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for what in What::ALL {
            let text = text(what);
            let address = format!("https://{text}");
            let (path, whole) = match what {
                What::Address => (text.trim_start_matches("example.com"), address.as_str()),
                _ => (text.as_str(), text.as_str()),
            };
            let mut forms = vec![
                format!("{{\"note\":\"{path}\"}}"),
                format!("q={}", whole.replace(' ', "+")),
                format!("q={}", whole.replace(' ', "%20")),
                whole.to_ascii_uppercase(),
                hex(&Md5::digest(whole)),
                hex(&Sha256::digest(whole)).to_uppercase(),
                encode(&Md5::digest(whole)),
                hex(whole.as_bytes()),
            ];
            // In base64, at every place of a longer text.
            forms.extend(
                (0..3).map(|before| encode(format!("{}{whole} more", "x".repeat(before)).as_bytes())),
            );
            for form in forms {
                let watch = watched(&browser(), &[("c.tracker.example", post("c.tracker.example", &form))]);
                assert_eq!(
                    verdicts(&watch, what),
                    [(Verdict::Sent, "c.tracker.example".into())],
                    "{what:?} as {form}"
                );
            }
        }
    }

    #[test]
    fn the_page_itself_is_meant_and_what_else_goes_out_is_not() {
        let address = text(What::Address);
        let path = address.trim_start_matches("example.com");
        let page = ("example.com", format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        let watch = watched(&browser(), std::slice::from_ref(&page));
        let [outcome] =
            &watch.outcomes().into_iter().filter(|o| o.what == What::Address).collect::<Vec<_>>()[..]
        else {
            panic!()
        };
        assert_eq!(outcome.verdict, Verdict::NotSeen);
        assert!(outcome.why.contains("as you asked: Browser to example.com"), "{}", outcome.why);

        let body = format!("{{\"url\":\"https://{address}\"}}");
        let report = ("sa.api.intl.miui.com", post("sa.api.intl.miui.com", &body));
        let watch = watched(&browser(), &[page, report]);
        assert_eq!(verdicts(&watch, What::Address), [(Verdict::Sent, "sa.api.intl.miui.com".into())]);
        let sent = &watch.outcomes()[0];
        assert_eq!((sent.app.as_str(), sent.why.as_str()), ("Browser", "Xiaomi domain"));
        assert!(sent.via.starts_with("tls>http1>"), "{}", sent.via);
        assert_eq!(sent.record(&trial(), 0).get("verdict").unwrap(), "sent");
    }

    #[test]
    fn what_could_not_be_read_is_no_acquittal() {
        let mut watch = watched(&browser(), &[]);
        assert!(watch.outcomes().iter().all(|outcome| outcome.verdict == Verdict::NotSeen));
        assert!(watch.outcomes()[0].why.contains("was it used?"));
        let other = App { name: "com.other".into(), ..App::default() };
        watch.unreadable(&other, "x.example", "its own TLS");
        assert!(watch.outcomes().iter().all(|outcome| outcome.verdict == Verdict::NotReadable));
        // The browser is known and was read: what another app sends does not matter to the private tab.
        watch.readable(&browser());
        let outcome = |watch: &Watch, what| verdicts(watch, what)[0].0;
        assert_eq!(outcome(&watch, What::Address), Verdict::NotSeen);
        assert_eq!(outcome(&watch, What::Song), Verdict::NotReadable);
        watch.unreadable(&browser(), "t.example", "QUIC");
        assert_eq!(outcome(&watch, What::Phrase), Verdict::NotReadable);
        let named = &watch.outcomes()[1].why;
        assert!(named.contains("Browser to t.example (QUIC)") && !named.contains("com.other"), "{named}");
    }

    #[test]
    fn a_body_the_app_sealed_itself_is_not_readable_there() {
        let sealed: Vec<u8> = (0..600_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
        let body = base64::engine::general_purpose::STANDARD.encode(&sealed);
        let watch = watched(&browser(), &[("t.example", post("t.example", &body))]);
        let outcome = watch.outcomes().into_iter().find(|o| o.what == What::Phrase).unwrap();
        assert_eq!(outcome.verdict, Verdict::NotReadable, "{outcome:?}");
        assert!(outcome.sentence().contains("own cipher"));
    }

    #[test]
    fn the_same_way_is_told_once() {
        let body = post("c.example", &text(What::Phrase));
        let mut watch = watched(&browser(), &[("c.example", body.clone()), ("c.example", body)]);
        assert_eq!(verdicts(&watch, What::Phrase).len(), 1);
        watch.ask(3);
        assert_eq!(watch.trial().asked, 3);
    }
}
