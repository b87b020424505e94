//! What known telemetry says in which field: the rows of `data/dictionary.toml`, compiled so that one walk over a payload
//! serves them all.

use std::{borrow::Cow, collections::HashMap};

use super::{
    Kind, Witness,
    candidate::{Candidate, Place, Reason},
    data::{At, Data, Row, Take},
    detector::Field,
    judge::{has_parts, is_host, is_identifier},
    memo::Told,
    path::{Path, Step, Trie, get, leaves, render, text_of},
    take,
};
use crate::unwrap::{Content, Node, Tree, Value};

/// The most findings one payload may give before the rest is left uncounted.
const MAX_FOUND: usize = 2048;
/// Keys under which other protocols keep an event's fields.
const PARAM_KEYS: &[&str] = &["properties", "params", "data", "attributes", "B", "ps", "payload", "extra"];

/// The compiled rows.
#[derive(Debug)]
pub(crate) struct Dictionary {
    rows: Vec<Row>,
    by_protocol: HashMap<String, usize>,
    families: Vec<Family>,
    /// Rows of any family, by the event's name.
    any: HashMap<String, Vec<usize>>,
    /// Rows that depend on the host alone.
    by_host: Vec<usize>,
}

#[derive(Debug, Default)]
struct Family {
    root: Trie,
    scopes: Vec<Scope>,
    /// Rows beside the payload: form fields, the query, the body.
    beside: Vec<usize>,
    senders: Vec<At>,
}

#[derive(Debug)]
struct Scope {
    each: Trie,
    name: Path,
    sender: Option<Path>,
    every: Trie,
    named: HashMap<String, Named, foldhash::fast::RandomState>,
}

#[derive(Debug, Default)]
struct Named {
    fields: Trie,
    /// Rows whose place is the event itself, each with the paths shown for it, from the event.
    events: Vec<(usize, Vec<Path>)>,
}

/// What was said of one event of a batch and would be said of the next in the same words.
#[derive(Debug, Default)]
struct Repeats<'v> {
    /// The layer.
    node: usize,
    told: Told<'v>,
    /// Kinds that were left out of the event at hand for it.
    of_this_event: Vec<Kind>,
    /// Where their texts lie: in no other value.
    left_out: Vec<usize>,
}

impl Dictionary {
    /// Compiles the rows of `data`.
    pub(crate) fn new(data: &Data) -> Dictionary {
        let mut dictionary = Dictionary {
            rows: data.rows.clone(),
            by_protocol: HashMap::new(),
            families: Vec::new(),
            any: HashMap::new(),
            by_host: Vec::new(),
        };
        for (id, row) in data.rows.iter().enumerate() {
            if row.family == "any" {
                for event in &row.events {
                    dictionary.any.entry(event.clone()).or_default().push(id);
                }
            }
            if row.host.is_some() {
                dictionary.by_host.push(id);
            }
        }
        for family in &data.families {
            for protocol in &family.protocols {
                dictionary.by_protocol.insert(protocol.clone(), dictionary.families.len());
            }
            let mut compiled = Family { senders: family.senders.clone(), ..Family::default() };
            compiled.scopes = family
                .events
                .iter()
                .map(|spec| {
                    let mut each = Trie::default();
                    each.insert(&spec.each, 0);
                    let (name, sender) = (spec.name.clone(), spec.sender.clone());
                    Scope { each, name, sender, every: Trie::default(), named: HashMap::default() }
                })
                .collect();
            for (id, row) in data.rows.iter().enumerate() {
                let any = row.family == "any";
                if (!any && row.family != family.id) || row.host.is_some() {
                    continue;
                }
                let params = family.params.as_ref().filter(|_| any);
                let below = |path: &Path| params.map_or_else(|| path.clone(), |params| path.under(params));
                for at in &row.at {
                    match at {
                        At::Root(path) => compiled.root.insert(path, id),
                        At::Inside(path) => compiled.scopes.iter_mut().for_each(|scope| {
                            if row.events.is_empty() {
                                scope.every.insert(&below(path), id);
                            }
                            for event in &row.events {
                                scope.named.entry(event.clone()).or_default().fields.insert(&below(path), id);
                            }
                        }),
                        At::Event => compiled.scopes.iter_mut().for_each(|scope| {
                            let shown: Vec<Path> = row.show.iter().map(below).collect();
                            for event in &row.events {
                                scope
                                    .named
                                    .entry(event.clone())
                                    .or_default()
                                    .events
                                    .push((id, shown.clone()));
                            }
                        }),
                        At::Form(_) | At::Header(_) | At::Query | At::Body => compiled.beside.push(id),
                    }
                }
            }
            dictionary.families.push(compiled);
        }
        dictionary
    }

    /// Everything the dictionary knows of a recognised protocol's payload, but for what the same field of an earlier event said
    /// already: the answer is where the texts of those lie.
    pub(crate) fn payload<'v>(
        &'v self,
        protocol: &str,
        node: usize,
        payload: &'v Value,
        out: &mut Vec<Candidate<'v>>,
    ) -> Vec<usize> {
        let Some(family) = self.family(protocol) else { return Vec::new() };
        let mut repeats = Repeats { node, ..Repeats::default() };
        family.root.walk(payload, &mut Vec::new(), &mut |id, steps, value| {
            self.take(id, steps, value, None, &mut repeats, out);
        });
        for scope in &family.scopes {
            scope.each.walk(payload, &mut Vec::new(), &mut |_, steps, event| {
                if out.len() < MAX_FOUND {
                    repeats.of_this_event.clear();
                    self.event(scope, node, steps, event, &mut repeats, out);
                }
            });
        }
        repeats.left_out
    }

    fn event<'v>(
        &'v self,
        scope: &'v Scope,
        node: usize,
        steps: &[Step<'v>],
        event: &'v Value,
        repeats: &mut Repeats<'v>,
        out: &mut Vec<Candidate<'v>>,
    ) {
        let name = scope.name.first(event).and_then(text_of);
        let sender = scope.sender.as_ref().and_then(|path| path.first(event)).and_then(text_of);
        let sender = sender.filter(|name| take::is_package_name(name));
        let mut way = steps.to_vec();
        let first = out.len();
        scope.every.walk(event, &mut way, &mut |id, steps, value| {
            self.take(id, steps, value, sender, repeats, out);
        });
        let Some((name, named)) = name.and_then(|name| Some((name, scope.named.get(name)?))) else { return };
        named.fields.walk(event, &mut way, &mut |id, steps, value| {
            self.take(id, steps, value, sender, repeats, out);
        });
        for (id, shown) in &named.events {
            let Some(row) = self.rows.get(*id) else { continue };
            // A field that says the same in more words was already taken.
            if repeats.of_this_event.contains(&row.kind)
                || out.iter().skip(first).any(|candidate| candidate.kind == row.kind)
            {
                continue;
            }
            let mut best = None;
            for path in shown {
                path.find(event, &mut way, &mut |steps, value| {
                    best = text_of(value).filter(|text| !text.is_empty()).map(|text| (render(steps), text));
                    best.is_some()
                });
                if best.is_some() {
                    break;
                }
            }
            let (at, text) = best.unwrap_or_else(|| (place_of(&scope.name, event, &mut way), name));
            self.push(row, Place { node, at }, text.into(), sender, out);
        }
    }

    /// Events with a name that any family may use, in an object of no known protocol.
    pub(crate) fn loose<'v>(
        &'v self,
        node: usize,
        steps: &mut Vec<Step<'v>>,
        map: &'v Value,
        out: &mut Vec<Candidate<'v>>,
    ) {
        let Value::Map(entries) = map else { return };
        let named = entries.iter().find_map(|(key, value)| {
            let key: &'v str = key;
            names_event(key).then(|| Some((key, text_of(value)?))).flatten()
        });
        let Some((key, name)) = named else { return };
        let Some(rows) = self.any.get(name) else { return };
        let first = out.len();
        for fields in [true, false] {
            for row in rows.iter().filter_map(|id| self.rows.get(*id)) {
                let paths: Vec<&Path> = row
                    .at
                    .iter()
                    .filter_map(|at| if let At::Inside(path) = at { Some(path) } else { None })
                    .collect();
                if paths.is_empty() == fields || out.iter().skip(first).any(|found| found.kind == row.kind) {
                    continue;
                }
                let wanted: Vec<&Path> = if fields { paths } else { row.show.iter().collect() };
                let shown = wanted.iter().find_map(|path| {
                    let inner = PARAM_KEYS.iter().filter_map(|key| Some((Some(*key), get(map, key)?)));
                    std::iter::once((None, map)).chain(inner).find_map(|(param, value)| {
                        let text = text_of(path.first(value)?).filter(|text| !text.is_empty())?;
                        Some((param, place_of(path, value, &mut Vec::new()), text))
                    })
                });
                let start = render(steps);
                let dot = if start.is_empty() { "" } else { "." };
                match shown {
                    Some((param, inner, text)) => {
                        let param = param.map(|param| format!("{param}.")).unwrap_or_default();
                        let at = format!("{start}{dot}{param}{inner}");
                        self.push(row, Place { node, at }, text.into(), None, out);
                    }
                    None if !fields => {
                        self.push(
                            row,
                            Place { node, at: format!("{start}{dot}{key}") },
                            name.into(),
                            None,
                            out,
                        );
                    }
                    None => {}
                }
            }
        }
    }

    /// Rows beside a payload: form fields, headers, and the whole query or body.
    pub(crate) fn beside<'v>(
        &'v self,
        protocol: Option<&str>,
        host: Option<&str>,
        tree: &'v Tree,
        fields: &[Field<'v>],
        out: &mut Vec<Candidate<'v>>,
    ) {
        let family = protocol.and_then(|protocol| self.family(protocol));
        let on_host = |id: &&usize| {
            let wanted = self.rows.get(**id).and_then(|row| row.host.as_deref());
            wanted.zip(host).is_some_and(|(wanted, host)| is_host(host, wanted))
        };
        let ids =
            family.map_or(&[][..], |family| &family.beside).iter().chain(self.by_host.iter().filter(on_host));
        for row in ids.filter_map(|id| self.rows.get(*id)) {
            for at in &row.at {
                let open = |field: &&Field<'_>| tree.nodes.get(field.node).is_some_and(|node| !node.covered);
                for field in
                    fields.iter().filter(|field| is_at(at, field) && (field.part != "body" || open(field)))
                {
                    let mut push = |text: &'v str| {
                        let place = Place { node: field.node, at: field.at.clone() };
                        self.push(row, place, text.into(), None, out);
                    };
                    match &row.take {
                        Take::DeviceQuery if !take::is_device_parameter(field.name) => {}
                        Take::Packages => take::packages(field.text).into_iter().for_each(push),
                        _ => push(field.text),
                    }
                }
                if matches!(at, At::Body) && row.take == Take::Packages {
                    for (node, value) in
                        tree.nodes.iter().enumerate().filter_map(|(i, n)| Some((i, value_of(n)?)))
                    {
                        self.take_row(row, node, &[], value, None, out);
                    }
                }
            }
        }
    }

    /// Where a protocol's message names its true sender.
    pub(crate) fn senders(&self, protocol: &str) -> &[At] {
        self.family(protocol).map_or(&[], |family| &family.senders)
    }

    /// The package the first event that names one speaks for.
    pub(crate) fn event_sender<'v>(&self, protocol: &str, payload: &'v Value) -> Option<&'v str> {
        let family = self.family(protocol)?;
        family.scopes.iter().find_map(|scope| {
            let sender = scope.sender.as_ref()?;
            let mut found = None;
            scope.each.walk(payload, &mut Vec::new(), &mut |_, _, event| {
                if found.is_none() {
                    found = sender.first(event).and_then(text_of);
                }
            });
            found
        })
    }

    fn family(&self, protocol: &str) -> Option<&Family> {
        self.families.get(*self.by_protocol.get(protocol)?)
    }

    fn take<'v>(
        &'v self,
        id: usize,
        steps: &[Step<'v>],
        value: &'v Value,
        sender: Option<&'v str>,
        repeats: &mut Repeats<'v>,
        out: &mut Vec<Candidate<'v>>,
    ) {
        let Some(row) = self.rows.get(id).filter(|_| out.len() < MAX_FOUND) else { return };
        // What may be the whole of which the truth finds a part is compared with it place by place.
        let simple = matches!(row.take, Take::Text | Take::Leaves) && !has_parts(row.kind);
        let text = text_of(value).filter(|_| simple);
        if let Some(text) = text.filter(|text| repeats.told.has(id, text, steps)) {
            repeats.of_this_event.push(row.kind);
            repeats.left_out.push(text.as_ptr().addr());
            return;
        }
        let before = out.len();
        self.take_row(row, repeats.node, steps, value, sender, out);
        if let Some(text) = text.filter(|_| out.len() > before) {
            repeats.told.note(id, text, steps);
        }
    }

    fn take_row<'v>(
        &'v self,
        row: &'v Row,
        node: usize,
        steps: &[Step<'v>],
        value: &'v Value,
        sender: Option<&'v str>,
        out: &mut Vec<Candidate<'v>>,
    ) {
        let here = || Place { node, at: render(steps) };
        match &row.take {
            Take::Text | Take::Leaves => {
                if let Some(text) = text_of(value) {
                    if row.equals.as_deref().is_none_or(|wanted| wanted == text) {
                        self.push(row, here(), text.into(), sender, out);
                    }
                    return;
                }
                let numbers = row.take == Take::Text;
                leaves(value, &mut steps.to_vec(), &mut |steps, leaf| match leaf {
                    Value::Text(text) => {
                        self.push(row, Place { node, at: render(steps) }, (&**text).into(), sender, out)
                    }
                    Value::Number(text) if numbers => {
                        self.push(row, Place { node, at: render(steps) }, (&**text).into(), sender, out);
                    }
                    _ => {}
                });
            }
            Take::Parts(name) => {
                let Some(text) = text_of(value) else { return };
                for (part, text) in take::parts(text, name) {
                    let at = format!("{}##{part}", render(steps));
                    self.push(row, Place { node, at }, text.into(), sender, out);
                }
            }
            Take::Position(lat, lon) => {
                let (lat_value, lon_value) =
                    (get(value, lat).and_then(text_of), get(value, lon).and_then(text_of));
                let Some((lat_text, lon_text)) = lat_value.zip(lon_value) else { return };
                if let Some((position, scaled)) = super::position::pair(lat_text, lon_text) {
                    let mut place = here();
                    if !place.at.is_empty() {
                        place.at.push('.');
                    }
                    place.at.push_str(lat);
                    let before = out.len();
                    self.push(row, place, position.to_string().into(), sender, out);
                    if let Some(candidate) = out.get_mut(before) {
                        candidate.position = Some(position);
                        candidate.raw = scaled.then(|| format!("{lat_text},{lon_text}").into());
                    }
                }
            }
            Take::Opened => {
                for package in take::usage(value).opened {
                    self.push(row, here(), package.into(), sender, out);
                }
            }
            Take::UsageTime => {
                for (package, seconds) in take::usage(value).seconds {
                    let before = out.len();
                    self.push(row, here(), seconds.to_string().into(), sender, out);
                    if let Some(candidate) = out.get_mut(before) {
                        candidate.why = Reason::FieldOf(&row.shows, package).into();
                    }
                }
            }
            Take::Span => {
                if let Some(span) = take::span(value) {
                    self.push(row, here(), span.into(), sender, out);
                }
            }
            Take::Packages | Take::DeviceQuery => {
                leaves(value, &mut steps.to_vec(), &mut |steps, leaf| {
                    for package in text_of(leaf).map(take::packages).unwrap_or_default() {
                        self.push(row, Place { node, at: render(steps) }, package.into(), sender, out);
                    }
                });
            }
        }
    }

    fn push<'v>(
        &self,
        row: &'v Row,
        place: Place,
        value: Cow<'v, str>,
        sender: Option<&'v str>,
        out: &mut Vec<Candidate<'v>>,
    ) {
        let text = match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        if text.is_empty() || out.len() >= MAX_FOUND {
            return;
        }
        if is_identifier(row.kind) && text.contains(',') && take::joined(&text).all(|part| part.len() >= 8) {
            // Two slots, two values: `imei1,imei2`, each as it is or hashed.
            for part in take::joined(&text).take(8) {
                self.push(row, place.clone(), part.to_owned().into(), sender, out);
            }
            return;
        }
        let value = if is_address(row.kind) && text.contains('@') {
            take::without_userinfo(&text).into()
        } else {
            text
        };
        out.push(Candidate {
            kind: row.kind,
            value,
            form: row.form.as_deref(),
            raw: None,
            by: Witness::Dictionary,
            weight: row.weight,
            place,
            why: Reason::Field(&row.shows).into(),
            sender,
            others: row.others,
            own_words: false,
            position: None,
        });
    }
}

fn is_at(at: &At, field: &Field<'_>) -> bool {
    match at {
        At::Form(name) => field.part == "form" && field.name == name,
        At::Header(name) => field.part == "header" && field.name == name,
        At::Query => field.part == "query",
        At::Body => matches!(field.part, "form" | "part" | "body"),
        At::Event | At::Inside(_) | At::Root(_) => false,
    }
}

/// Whether other protocols name an event under this key.
fn names_event(key: &str) -> bool {
    matches!(key, "event" | "event_name" | "eventName" | "event_type" | "eventType" | "key" | "action" | "e")
}

fn value_of(node: &Node) -> Option<&Value> {
    match &node.content {
        Content::Value(value) if !node.step.starts_with("header:") => Some(value),
        _ => None,
    }
}

fn is_address(kind: Kind) -> bool {
    matches!(kind, Kind::VisitedUrl | Kind::Download | Kind::ScreenView)
}

fn place_of<'v>(path: &Path, value: &'v Value, way: &mut Vec<Step<'v>>) -> String {
    let mut place = None;
    path.find(value, way, &mut |steps, _| {
        place = Some(render(steps));
        true
    });
    place.unwrap_or_default()
}
