//! The detector: a message and its layers in, findings out. All witnesses but persistence, which needs a memory.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use super::{
    Context, Crypt, Finding, Kind, Witness,
    candidate::{Candidate, Place, Reason},
    data::{At, Data},
    dictionary::Dictionary,
    fields::Weight,
    judge::{self, Case, Rulings},
    memo::{Memo, Told},
    needles::{hex, is_nothing},
    own_words::OwnWords,
    path::{MAX_DEPTH, Step, render, text_of},
    persist::Store,
    position::{self, Degrees, Position},
    scan::{Hit, Scanner},
    settle::{Spotted, settle},
    shape::{Shapes, Site},
    take::is_package_name,
    token::last_key,
    truth::Truth,
};
use crate::{
    unwrap::{Content, Node, Seen, Telemetry, Tree, Value},
    wire::Message,
};

/// This many of the phone's packages in one message are a list of apps.
const APP_LIST: usize = 3;
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
        let mut work = Work {
            detector: self,
            tree,
            site: Site {
                host: context.host.map(|host| host.name.as_str()).or(message.host.as_deref()),
                domain: context.host.and_then(|host| host.domain.as_deref()),
                data: &self.data,
                form: own.form,
            },
            own: &own,
            candidates: Vec::new(),
            truths: Vec::new(),
            packages: HashMap::new(),
            silent: Memo::default(),
            silent_keys: Seen::default(),
            told: Told::default(),
            left_out: Vec::new(),
            payload: telemetry.filter(|t| t.unreadable.is_none()).and_then(|t| t.payload),
            app_packages: &context.app.packages,
        };
        work.dictionary(telemetry, &fields);
        work.resolve();
        work.scan(&fields);
        let mut candidates = work.finish();
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

/// Headers whose value is never looked at: what is in them is not to be shown.
fn is_secret(node: &Node) -> bool {
    matches!(node.step.as_str(), "header:authorization" | "header:proxy-authorization")
}

struct Work<'a> {
    detector: &'a Detector,
    tree: &'a Tree,
    site: Site<'a>,
    own: &'a OwnWords<'a>,
    candidates: Vec<Candidate<'a>>,
    truths: Vec<Spotted<'a>>,
    /// Installed packages seen, each with its first place.
    packages: HashMap<usize, Place>,
    /// Keys with values of which nothing was to be said.
    silent: Memo<'a>,
    /// Keys that hold nothing of this phone.
    silent_keys: Seen<'a>,
    /// Texts of which the truth has told, with their layer and place.
    told: Told<'a>,
    /// Where the texts lie that the dictionary left out as it had told of the same before, in order.
    left_out: Vec<usize>,
    payload: Option<usize>,
    app_packages: &'a [String],
}

impl<'a> Work<'a> {
    fn dictionary(&mut self, telemetry: Option<&Telemetry>, fields: &[Field<'a>]) {
        let dictionary = &self.detector.dictionary;
        if let Some(telemetry) = telemetry {
            for node in self.payload.iter().chain(&telemetry.opened).copied() {
                if let Some(Content::Value(value)) = self.tree.nodes.get(node).map(|node| &node.content) {
                    let repeated = dictionary.payload(&telemetry.id, node, value, &mut self.candidates);
                    self.left_out.extend(repeated);
                }
            }
            self.left_out.sort_unstable();
        }
        dictionary.beside(
            telemetry.map(|t| t.id.as_str()),
            self.site.host,
            self.tree,
            fields,
            &mut self.candidates,
        );
    }

    /// Lets the truth speak of what the dictionary found, and drops what says that there is nothing.
    fn resolve(&mut self) {
        let detector = self.detector;
        self.candidates.retain_mut(|candidate| {
            if (is_device_kind(candidate.kind) || candidate.kind == Kind::VisitedUrl)
                && is_nothing(&candidate.value, &detector.data)
            {
                return false;
            }
            if let Some(position) = candidate.position {
                near(candidate, position, detector.fix);
            } else if is_device_kind(candidate.kind)
                && let Some((needle, known)) = detector.scanner.whole(&candidate.value)
            {
                if !is_device_kind(known.kind) {
                    return true;
                }
                candidate.kind = known.kind;
                candidate.by = Witness::Truth;
                candidate.form = needle.form.as_deref();
                candidate.why.1 = Some(Reason::Truth(needle, known));
                if let Some(value) = known.value.as_deref() {
                    let sent = std::mem::replace(&mut candidate.value, value.into());
                    candidate.raw = (value != sent).then_some(sent);
                }
            }
            true
        });
    }

    fn scan(&mut self, fields: &[Field<'a>]) {
        let tree = self.tree;
        for field in fields {
            if is_open(field) {
                self.field(field, fields);
            }
        }
        self.field_neighbours(fields);
        let mut hits = Vec::new();
        for (index, node) in tree.nodes.iter().enumerate() {
            match &node.content {
                Content::Value(value) => {
                    let cookie = node.step == "header:cookie";
                    self.value(index, value, &mut Vec::new(), !cookie, &mut hits);
                }
                Content::Bytes(bytes) if !node.covered && !is_secret(node) => {
                    self.text(index, &[], bytes, &mut hits);
                    if let (Some(fix), Ok(text)) = (self.detector.fix, std::str::from_utf8(bytes)) {
                        self.text_position(index, &[], text, fix);
                    }
                }
                Content::Bytes(_) => {}
            }
        }
    }

    fn field(&mut self, field: &Field<'a>, fields: &[Field<'a>]) {
        if !self.detector.shapes.knows(field.name) || self.own.is_own(field.name, "") {
            return;
        }
        let value = Value::Text(field.text.into());
        let beside = |name: &str| {
            let same = |other: &&Field<'a>| other.part == field.part && other.name.eq_ignore_ascii_case(name);
            fields.iter().find(same).map(|other| other.text)
        };
        let place = || Place { node: field.node, at: field.at.clone() };
        let before = self.candidates.len();
        self.detector.shapes.examine(field.name, &value, beside, &self.site, place, &mut self.candidates);
        self.after_shapes(before);
    }

    /// Shapes give way to what stronger witnesses said of the same place, and the truth names what it knows.
    fn after_shapes(&mut self, from: usize) {
        let fix = self.detector.fix;
        for candidate in self.candidates.iter_mut().skip(from) {
            if let Some(position) = candidate.position {
                near(candidate, position, fix);
            }
        }
    }

    fn value(
        &mut self,
        node: usize,
        value: &'a Value,
        steps: &mut Vec<Step<'a>>,
        shapes: bool,
        hits: &mut Vec<Hit<'a>>,
    ) {
        if steps.len() > MAX_DEPTH {
            return;
        }
        match value {
            Value::Map(entries) => {
                if shapes && self.payload != Some(node) {
                    self.detector.dictionary.loose(node, steps, value, &mut self.candidates);
                }
                for (key, inner) in entries {
                    let key: &'a str = key;
                    let leaf = match inner {
                        Value::Text(text) | Value::Number(text) => Some(&**text),
                        _ => None,
                    };
                    if leaf.is_some_and(|text| self.silent.has(key, text)) {
                        continue;
                    }
                    let (candidates, truths) = (self.candidates.len(), self.truths.len());
                    let packages = self.packages.len();
                    steps.push(Step::Key(key));
                    if leaf.is_some_and(|text| self.told.has(node, text, steps)) {
                        steps.pop();
                        continue;
                    }
                    if key.len() >= 8 && !self.silent_keys.has(key) {
                        self.text(node, steps, key.as_bytes(), hits);
                        if hits.is_empty() {
                            self.silent_keys.note(key);
                        }
                    }
                    let known = shapes && self.detector.shapes.knows(key);
                    let repeats = known && leaf.is_some_and(|text| self.is_left_out(text));
                    if known && !repeats && !self.own.is_own(key, "") {
                        let before = self.candidates.len();
                        let beside = |other: &str| {
                            let Value::Map(entries) = value else { return None };
                            let (_, found) = entries.iter().find(|(k, _)| k.eq_ignore_ascii_case(other))?;
                            text_of(found)
                        };
                        let place = || Place { node, at: render(steps) };
                        self.detector.shapes.examine(
                            key,
                            inner,
                            beside,
                            &self.site,
                            place,
                            &mut self.candidates,
                        );
                        self.after_shapes(before);
                    }
                    self.value(node, inner, steps, shapes, hits);
                    let new = self.truths.get(truths..).unwrap_or_default();
                    if let Some(text) = leaf
                        && !new.is_empty()
                        && packages == self.packages.len()
                        && new.iter().all(says_the_same_again)
                    {
                        self.told.note(node, text, steps);
                    }
                    steps.pop();
                    // What a shape says depends on what stands beside it, and on the layer.
                    if let Some(text) = leaf
                        && !known
                        && shapes
                        && candidates == self.candidates.len()
                        && truths == self.truths.len()
                        && packages == self.packages.len()
                    {
                        self.silent.note(key, text);
                    }
                }
                self.siblings(node, value, steps);
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    steps.push(Step::Index(index));
                    self.value(node, item, steps, shapes, hits);
                    steps.pop();
                }
                self.siblings(node, value, steps);
            }
            Value::Text(text) => {
                self.text(node, steps, text.as_bytes(), hits);
                if let Some(fix) = self.detector.fix {
                    self.text_position(node, steps, text, fix);
                }
            }
            Value::Number(text) => self.text(node, steps, text.as_bytes(), hits),
            Value::Bytes(bytes) => self.text(node, steps, bytes, hits),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Whether the dictionary would have told of this very text, had it not told of the same text in an earlier event.
    fn is_left_out(&self, text: &str) -> bool {
        self.left_out.binary_search(&text.as_ptr().addr()).is_ok()
    }

    /// Everything of this phone in one text.
    fn text(&mut self, node: usize, steps: &[Step<'_>], text: &'a [u8], hits: &mut Vec<Hit<'a>>) {
        let detector = self.detector;
        detector.scanner.hits(text, hits);
        for hit in hits.iter() {
            if self.truths.len() >= MAX_FINDINGS {
                return;
            }
            if hit.known.kind == Kind::InstalledApps {
                let own = hit.known.value.as_ref().is_some_and(|name| self.app_packages.contains(name));
                if !own {
                    self.packages.entry(hit.known_index).or_insert_with(|| Place { node, at: render(steps) });
                }
                continue;
            }
            let sent = text.get(hit.start..hit.end).unwrap_or(&[]);
            let sent = std::str::from_utf8(sent).map_or_else(|_| Cow::Owned(hex(sent)), Cow::Borrowed);
            let value = hit.known.value.as_deref().map_or_else(|| sent.clone(), Cow::Borrowed);
            let key = last_key(steps);
            let whole = hit.end - hit.start == text.len();
            let words = if whole { "" } else { std::str::from_utf8(text).unwrap_or("") };
            self.truths.push(Spotted {
                loose: steps.is_empty() && !self.is_field(node),
                candidate: Candidate {
                    kind: hit.known.kind,
                    raw: (value != sent).then_some(sent),
                    value,
                    form: hit.needle.form.as_deref(),
                    by: Witness::Truth,
                    weight: hit.known.weight,
                    place: Place { node, at: render(steps) },
                    why: Reason::Truth(hit.needle, hit.known).into(),
                    sender: None,
                    others: false,
                    // He wrote it to see where it goes.
                    own_words: !hit.known.canary
                        && self.own.is_own(key.or_else(|| self.field_name(node)).unwrap_or(""), words),
                    position: None,
                },
            });
        }
    }

    fn is_field(&self, node: usize) -> bool {
        self.field_name(node).is_some()
    }

    fn field_name(&self, node: usize) -> Option<&'a str> {
        let step = self.tree.nodes.get(node)?.step.as_str();
        let (part, name) = step.split_once(':')?;
        matches!(part, "query" | "form" | "part" | "header").then_some(name)
    }

    /// Two neighbouring numbers that are where the phone is.
    fn siblings(&mut self, node: usize, value: &Value, steps: &[Step<'_>]) {
        let Some(fix) = self.detector.fix else { return };
        match value {
            Value::Map(entries) => {
                let numbers = entries.iter().filter_map(|(key, value)| Some((&**key, number(value)?)));
                self.neighbours(node, steps, fix, numbers);
            }
            Value::List(items) if items.len() <= 8 => {
                let numbers = items.iter().filter_map(|value| Some(("", number(value)?)));
                self.neighbours(node, steps, fix, numbers);
            }
            _ => {}
        }
    }

    /// The same for two neighbouring fields of a query, a form or the head, whatever they are called.
    fn field_neighbours(&mut self, fields: &[Field<'a>]) {
        let Some(fix) = self.detector.fix else { return };
        for pair in fields.windows(2) {
            let [first, second] = pair else { continue };
            if !(is_open(first) || first.part == "header") || first.part != second.part {
                continue;
            }
            let near = |lat, lon| position::pair_near(lat, lon, fix);
            let Some(found) = near(first.text, second.text).or_else(|| near(second.text, first.text)) else {
                continue;
            };
            let place = Place { node: first.node, at: first.at.clone() };
            self.located(place, found, fix, format!("{},{}", first.text, second.text), (first.name, ""));
        }
    }

    fn neighbours<'v>(
        &mut self,
        node: usize,
        steps: &[Step<'_>],
        fix: Position,
        numbers: impl Iterator<Item = (&'v str, &'v str)>,
    ) {
        let mut before = None;
        for (key, second) in numbers {
            let degrees = Degrees::of(second);
            let Some((first_key, first, first_degrees)) = before.replace((key, second, degrees)) else {
                continue;
            };
            if degrees.is_none() || degrees != first_degrees {
                continue;
            }
            let near = |lat, lon| position::pair_near(lat, lon, fix);
            let Some(found) = near(first, second).or_else(|| near(second, first)) else { continue };
            let at = if first_key.is_empty() {
                render(steps)
            } else {
                let mut steps = steps.to_vec();
                steps.push(Step::Key(first_key));
                render(&steps)
            };
            let sent = format!("{first},{second}");
            self.located(Place { node, at }, found, fix, sent, (first_key, ""));
        }
    }

    fn text_position(&mut self, node: usize, steps: &[Step<'_>], text: &str, fix: Position) {
        if let Some(found) = position::pair_in_text(text, fix) {
            let key = last_key(steps).or_else(|| self.field_name(node)).unwrap_or("");
            self.located(Place { node, at: render(steps) }, found, fix, String::new(), (key, text));
        }
    }

    /// A place near where the phone is, under `key` and in the text `around` it.
    fn located(
        &mut self,
        place: Place,
        found: Position,
        fix: Position,
        sent: String,
        (key, around): (&str, &str),
    ) {
        let value = found.to_string();
        self.truths.push(Spotted {
            loose: false,
            candidate: Candidate {
                kind: Kind::Location,
                raw: (!sent.is_empty() && sent != value).then_some(sent.into()),
                value: value.into(),
                form: None,
                by: Witness::Truth,
                weight: Weight::High,
                place,
                why: Reason::Near(found.distance_km(fix)).into(),
                sender: None,
                others: false,
                own_words: self.own.is_own(key, around),
                position: Some(found),
            },
        });
    }

    fn finish(mut self) -> Vec<Candidate<'a>> {
        self.app_list();
        settle(self.tree, self.candidates, self.truths)
    }

    fn app_list(&mut self) {
        if self.packages.len() < APP_LIST {
            return;
        }
        let mut packages: Vec<_> = self.packages.drain().collect();
        packages.sort_by_key(|(known, _)| *known);
        let count = packages.len();
        let told =
            |name: &str| self.candidates.iter().any(|c| c.kind == Kind::InstalledApps && c.value == name);
        packages.retain(|(known, _)| self.detector.scanner.value(*known).is_some_and(|name| !told(name)));
        for (known, place) in packages.into_iter().take(MAX_FINDINGS / 2) {
            let Some(value) = self.detector.scanner.value(known) else { continue };
            self.truths.push(Spotted {
                loose: place.at.is_empty() && !self.is_field(place.node),
                candidate: Candidate {
                    kind: Kind::InstalledApps,
                    value: value.into(),
                    form: None,
                    raw: None,
                    by: Witness::Truth,
                    weight: Weight::High,
                    place,
                    why: Reason::Apps(count).into(),
                    sender: None,
                    others: true,
                    own_words: false,
                    position: None,
                },
            });
        }
    }
}

/// Whether the same text at the same place of another event makes nothing but a repetition of this: what may be a part of a longer
/// value, or a position among others, is compared place by place.
fn says_the_same_again(spot: &Spotted<'_>) -> bool {
    let Spotted { candidate, loose } = spot;
    !loose && candidate.position.is_none() && !judge::has_parts(candidate.kind)
}

fn is_open(field: &Field<'_>) -> bool {
    matches!(field.part, "query" | "form" | "part")
}

fn number(value: &Value) -> Option<&str> {
    match value {
        Value::Number(text) => Some(text),
        Value::Text(text) if text.len() <= 20 && matches!(text.as_bytes(), [b'0'..=b'9' | b'-', ..]) => {
            Some(text)
        }
        _ => None,
    }
}

fn near(candidate: &mut Candidate<'_>, position: Position, fix: Option<Position>) {
    let Some(fix) = fix.filter(|fix| position.is_near(*fix)) else { return };
    candidate.by = Witness::Truth;
    candidate.why.1 = Some(Reason::Near(position.distance_km(fix)));
}

/// Kinds whose values name the phone, its owner or the network it is in, and which the truth can tell better.
fn is_device_kind(kind: Kind) -> bool {
    judge::is_identifier(kind) || matches!(kind, Kind::WifiBssid | Kind::WifiName)
}
