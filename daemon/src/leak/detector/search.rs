//! The search of one message: the dictionary first, then the truth and the shapes at every field and value, and what they noticed
//! settled among themselves.

mod places;

use std::{borrow::Cow, collections::HashMap};

use super::{Detector, Field, MAX_FINDINGS};
use crate::{
    leak::{
        Kind, Witness,
        candidate::{Candidate, Place, Reason},
        fields::Weight,
        judge,
        memo::{Memo, Told},
        needles::{hex, is_nothing},
        own_words::OwnWords,
        path::{MAX_DEPTH, Step, render, text_of},
        scan::Hit,
        settle::{Spotted, settle},
        shape::Site,
        token::last_key,
    },
    unwrap::{Content, Node, Seen, Telemetry, Tree, Value},
};

/// This many of the phone's packages in one message are a list of apps.
const APP_LIST: usize = 3;

/// Headers whose value is never looked at: what is in them is not to be shown.
fn is_secret(node: &Node) -> bool {
    matches!(node.step.as_str(), "header:authorization" | "header:proxy-authorization")
}

/// Looks through one message.
pub(super) struct Search<'a> {
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

impl<'a> Search<'a> {
    /// A search that has found nothing yet.
    pub(super) fn new(
        detector: &'a Detector,
        tree: &'a Tree,
        site: Site<'a>,
        own: &'a OwnWords<'a>,
        app_packages: &'a [String],
    ) -> Search<'a> {
        let telemetry = tree.protocol.as_ref();
        Search {
            detector,
            tree,
            site,
            own,
            candidates: Vec::new(),
            truths: Vec::new(),
            packages: HashMap::new(),
            silent: Memo::default(),
            silent_keys: Seen::default(),
            told: Told::default(),
            left_out: Vec::new(),
            payload: telemetry.filter(|t| t.unreadable.is_none()).and_then(|t| t.payload),
            app_packages,
        }
    }

    /// What all witnesses say of it, each value once per place.
    pub(super) fn candidates(
        mut self,
        telemetry: Option<&Telemetry>,
        fields: &[Field<'a>],
    ) -> Vec<Candidate<'a>> {
        self.dictionary(telemetry, fields);
        self.resolve();
        self.scan(fields);
        self.finish()
    }

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
                places::near(candidate, position, detector.fix);
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
                places::near(candidate, position, fix);
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

/// Kinds whose values name the phone, its owner or the network it is in, and which the truth can tell better.
fn is_device_kind(kind: Kind) -> bool {
    judge::is_identifier(kind) || matches!(kind, Kind::WifiBssid | Kind::WifiName)
}
