//! The detector: a message and its layers in, findings out. All witnesses but persistence, which needs a memory.

mod search;

use std::{borrow::Cow, fmt::Write as _};

use super::{
    Context, Crypt, Finding, Kind, Witness,
    candidate::{Candidate, Place, Reason},
    data::{At, Data},
    dictionary::Dictionary,
    fields::Weight,
    judge::{self, Case, Rulings},
    own_words::OwnWords,
    path::text_of,
    persist::Store,
    position::Position,
    scan::Scanner,
    shape::{Shapes, Site},
    take::is_package_name,
    truth::Truth,
};
use crate::{
    unwrap::{Content, Telemetry, Tree},
    wire::Message,
};
use search::Search;

/// The most findings one message gives.
const MAX_FINDINGS: usize = 512;

/// Everything needed to say what a message reveals. Built once; examining needs no memory of earlier messages.
#[derive(Debug)]
pub struct Detector {
    data: Data,
    dictionary: Dictionary,
    shapes: Shapes,
    scanner: Scanner,
    fix: Option<Position>,
}

/// A field beside a structured body: of the query, a form or the headers.
#[derive(Debug, Clone)]
pub(crate) struct Field<'t> {
    pub(crate) node: usize,
    /// `query`, `form`, `part` or `header`; `path` for the path, `body` for any other text.
    pub(crate) part: &'t str,
    pub(crate) name: &'t str,
    pub(crate) text: &'t str,
    pub(crate) at: String,
}

impl Detector {
    /// Builds the sieve over everything `truth` knows and compiles the rows of `data`: milliseconds.
    pub fn new(truth: &Truth, data: Data) -> Detector {
        Detector {
            dictionary: Dictionary::new(&data),
            shapes: Shapes::new(&data),
            scanner: Scanner::new(truth, &data),
            fix: truth.position.map(|(lat, lon)| Position { lat, lon }),
            data,
        }
    }

    /// Looks for other values of this phone from now on; everything else stays as it is.
    pub fn look_for(&mut self, truth: &Truth) {
        self.scanner = Scanner::new(truth, &self.data);
        self.fix = truth.position.map(|(lat, lon)| Position { lat, lon });
    }

    /// The number of texts looked for, and the sieve's size in bytes.
    pub fn size(&self) -> (usize, usize) {
        self.scanner.size()
    }

    /// What this message says about the owner, the loudest first. The same value at the same place is said once.
    pub fn examine(&self, context: &Context<'_>, message: &Message, tree: &Tree) -> Vec<Finding> {
        let telemetry = tree.protocol.as_ref();
        let fields = fields(tree);
        let own = OwnWords::new(&self.data, message, tree, &fields, context, telemetry.is_some());
        let sender = self.sender(telemetry, tree, &fields);
        let site = Site {
            host: context.host.map(|host| host.name.as_str()).or(message.host.as_deref()),
            domain: context.host.and_then(|host| host.domain.as_deref()),
            data: &self.data,
            form: own.form,
        };
        let mut candidates =
            Search::new(self, tree, site, &own, &context.app.packages).candidates(telemetry, &fields);
        candidates.extend(self.sealed(telemetry, tree));
        for candidate in &mut candidates {
            // The message's own word counts for all of it; without one each event speaks for itself.
            if sender.named.is_some() || candidate.sender.is_none() {
                candidate.sender = sender.named.or(sender.of_an_event);
            }
        }
        let case = Case { context, target: &message.target, telemetry: telemetry.is_some() };
        let mut rulings = Rulings::default();
        let mut findings: Vec<Finding> = candidates
            .into_iter()
            .take(MAX_FINDINGS)
            .map(|candidate| self.judge(case, tree, telemetry, candidate, &mut rulings))
            .collect();
        judge::join(&mut findings);
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.node.cmp(&b.node)));
        findings
    }

    /// Takes the message into the memory of tokens, and adds to `findings` what only a memory can say: an unknown token that
    /// lasts, a new one after a reset, one that two apps send to the same owner.
    pub fn remember(
        &self,
        store: &mut Store,
        context: &Context<'_>,
        message: &Message,
        tree: &Tree,
        findings: &mut Vec<Finding>,
    ) {
        store.observe(context, tree, &self.data, &message.target, findings);
        judge::join(findings);
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.node.cmp(&b.node)));
    }

    fn judge<'d>(
        &'d self,
        case: Case<'_>,
        tree: &Tree,
        telemetry: Option<&Telemetry>,
        candidate: Candidate<'_>,
        rulings: &mut Rulings<'d>,
    ) -> Finding {
        let node = candidate.place.node;
        let (asked, reason) =
            rulings.asked(candidate.kind, || judge::asked(&self.data, case, candidate.kind));
        let severity = judge::severity(&self.data, case, &candidate, asked);
        // Room for all that is added here and in joining, at once.
        let mut why = String::with_capacity(reason.map_or(0, str::len) + 192);
        let _ = write!(why, "{}", candidate.why);
        if candidate.own_words {
            why.push_str("; it stands in what the owner wrote himself");
        } else if let Some(reason) = reason {
            why.push_str("; ");
            why.push_str(reason);
        }
        if let Some(cut) = cut(tree, node) {
            why.push_str("; not all of the message was read, or not all of it is sound: ");
            why.push_str(cut);
        }
        let sealed = candidate.kind == Kind::EncryptedTelemetry;
        let (via, way) = rulings.way(node, || (tree.via(node), crypt(tree, node, case.context.crypt)));
        Finding {
            kind: candidate.kind,
            value: candidate.value.into_owned(),
            form: candidate.form.map(str::to_owned),
            raw: candidate.raw.map(Cow::into_owned),
            by: candidate.by,
            asked,
            severity,
            sender: candidate.sender.map(str::to_owned),
            protocol: telemetry.map(|telemetry| telemetry.id.clone()),
            crypt: if sealed { Crypt::Sealed } else { way },
            via,
            at: candidate.place.at,
            why,
            node,
        }
    }

    /// A body whose content the app sealed itself.
    fn sealed<'t>(&self, telemetry: Option<&'t Telemetry>, tree: &Tree) -> Option<Candidate<'t>> {
        let candidate = |value: Cow<'t, str>, by, weight, node, why: String| Candidate {
            kind: Kind::EncryptedTelemetry,
            value,
            form: None,
            raw: None,
            by,
            weight,
            place: Place { node, at: String::new() },
            why: Reason::Said(why).into(),
            sender: None,
            others: true,
            own_words: false,
            position: None,
        };
        let unopened = tree.unopened.map_or_else(String::new, |why| format!("; {why}"));
        if let Some((telemetry, why)) = telemetry.and_then(|t| Some((t, t.unreadable.as_ref()?))) {
            let node = telemetry.payload.or(telemetry.start).unwrap_or(0);
            let facts: Vec<String> =
                telemetry.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
            let why = format!("{}: {why}{facts}{unopened}", telemetry.name);
            return Some(candidate(
                telemetry.summary.as_str().into(),
                Witness::Dictionary,
                if telemetry.no_content { Weight::Low } else { Weight::Medium },
                node,
                why,
            ));
        }
        let opaque = tree.opaque.as_ref().filter(|_| telemetry.is_none())?;
        let value = format!("{} bytes", opaque.bytes);
        let why = format!("a body of no known format that looks encrypted: {}{unopened}", opaque.why);
        Some(candidate(value.into(), Witness::Shape, Weight::Low, opaque.node, why))
    }

    /// The true sender, where the message names one.
    fn sender<'t>(
        &self,
        telemetry: Option<&'t Telemetry>,
        tree: &'t Tree,
        fields: &[Field<'t>],
    ) -> Sender<'t> {
        let Some(telemetry) = telemetry else { return Sender::default() };
        let payload = telemetry.payload.and_then(|node| match &tree.nodes.get(node)?.content {
            Content::Value(value) => Some(value),
            Content::Bytes(_) => None,
        });
        let beside = |part: &str, name: &str| {
            let named = |field: &&Field<'_>| field.part == part && field.name.eq_ignore_ascii_case(name);
            fields.iter().find(named).map(|field| field.text)
        };
        let named = self.dictionary.senders(&telemetry.id).iter().find_map(|at| match at {
            At::Root(path) => path.first(payload?).and_then(text_of),
            At::Form(name) => beside("form", name),
            At::Header(name) => beside("header", name),
            _ => None,
        });
        let fact =
            || telemetry.facts.iter().find(|(name, _)| name == "sender").map(|(_, value)| value.as_str());
        let of_an_event = || payload.and_then(|payload| self.dictionary.event_sender(&telemetry.id, payload));
        // Any other text could be content, and a line shows a sender as it is.
        let package = |text: &&str| is_package_name(text);
        Sender { named: named.or_else(fact).filter(package), of_an_event: of_an_event().filter(package) }
    }
}

/// Who a message speaks for.
#[derive(Debug, Default)]
struct Sender<'t> {
    /// What the message says of all of it.
    named: Option<&'t str>,
    /// What its first event says.
    of_an_event: Option<&'t str>,
}

/// The limit or the early end that cut a layer or one around it short.
fn cut(tree: &Tree, node: usize) -> Option<&'static str> {
    let mut next = Some(node);
    while let Some(node) = next.and_then(|index| tree.nodes.get(index)) {
        if node.cut.is_some() {
            return node.cut;
        }
        next = node.parent;
    }
    None
}

/// The innermost protection on the way to a layer.
fn crypt(tree: &Tree, node: usize, outer: Crypt) -> Crypt {
    let mut next = Some(node);
    while let Some(node) = next.and_then(|index| tree.nodes.get(index)) {
        if node.step.starts_with("aes") {
            return Crypt::KeyInMessage;
        }
        if node.step.starts_with("sealed") {
            return Crypt::Sealed;
        }
        next = node.parent;
    }
    outer
}

fn fields(tree: &Tree) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    for (index, node) in tree.nodes.iter().enumerate() {
        let (part, name) = node.step.split_once(':').unwrap_or((node.step.as_str(), ""));
        if !matches!(part, "query" | "form" | "part" | "header" | "path" | "body") {
            continue;
        }
        if let Content::Bytes(bytes) = &node.content
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            fields.push(Field { node: index, part, name, text, at: node.at.clone() });
        }
    }
    fields
}
