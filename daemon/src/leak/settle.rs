//! What is left to say when all witnesses have spoken: each value once per place, by the strongest of them.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use memchr::memmem;

use super::{Kind, Witness, candidate::Candidate, judge::has_parts, path::AnyEvent};
use crate::unwrap::Tree;

/// A truth hit on its way to becoming a candidate.
pub(crate) struct Spotted<'a> {
    pub(crate) candidate: Candidate<'a>,
    /// It stands in the raw bytes of a layer, not at a named place.
    pub(crate) loose: bool,
}

/// Candidates by layer and place: the last one of each, and before every one the one before it.
#[derive(Default)]
struct ByPlace<'c> {
    last: HashMap<(usize, &'c str), usize, RandomState>,
    entries: Vec<(&'c Candidate<'c>, Option<usize>)>,
}

impl<'c> ByPlace<'c> {
    fn new(candidates: &'c [Candidate<'c>]) -> ByPlace<'c> {
        let mut all = ByPlace::default();
        all.last.reserve(candidates.len());
        all.entries.reserve(candidates.len());
        let mark = memmem::Finder::new(b"##");
        for candidate in candidates {
            let at = candidate.place.at.as_str();
            let parts = mark.find_iter(at.as_bytes()).filter_map(|end| at.get(..end));
            for place in std::iter::once(at).chain(parts) {
                let before = all.last.insert((candidate.place.node, place), all.entries.len());
                all.entries.push((candidate, before));
            }
        }
        all
    }

    fn at(&self, node: usize, place: &str) -> impl Iterator<Item = &'c Candidate<'c>> {
        let mut next = self.last.get(&(node, place)).copied();
        std::iter::from_fn(move || {
            let (candidate, before) = self.entries.get(next?)?;
            next = *before;
            Some(*candidate)
        })
    }
}

/// One finding per value and place; the strongest witness wins; an inner layer does not repeat an outer one.
pub(crate) fn settle<'a>(
    tree: &Tree,
    candidates: Vec<Candidate<'a>>,
    spotted: Vec<Spotted<'a>>,
) -> Vec<Candidate<'a>> {
    let (stronger, shapes): (Vec<Candidate<'a>>, Vec<Candidate<'a>>) =
        candidates.into_iter().partition(|c| c.by < Witness::Shape);
    let kept: Vec<bool> = if spotted.is_empty() {
        Vec::new()
    } else {
        // By layer and place: a batch has hundreds of both, and comparing each with each took longer than finding them.
        let by_place = ByPlace::new(&stronger);
        let others = Others::new(&spotted);
        let is_told = |(index, spot)| is_told(tree, index, spot, others, &stronger, &by_place);
        spotted.iter().enumerate().map(|spot| !is_told(spot)).collect()
    };
    let mut kept = kept.into_iter();
    let kept: Vec<Candidate<'a>> =
        spotted.into_iter().filter(|_| kept.next() == Some(true)).map(|spot| spot.candidate).collect();
    let shapes: Vec<Candidate<'a>> = if shapes.is_empty() {
        shapes
    } else {
        let truth_places: HashSet<(usize, &str), RandomState> =
            kept.iter().chain(&stronger).map(|c| (c.place.node, c.place.at.as_str())).collect();
        let mut free = shapes
            .iter()
            .map(|c| !truth_places.contains(&(c.place.node, c.place.at.as_str())))
            .collect::<Vec<_>>()
            .into_iter();
        shapes.into_iter().filter(|_| free.next() == Some(true)).collect()
    };
    let mut all = stronger;
    all.extend(kept);
    all.extend(shapes);
    let mut first: Vec<bool> = Vec::with_capacity(all.len());
    {
        let mut seen: HashSet<(Kind, &str, usize, AnyEvent<'_>), RandomState> =
            HashSet::with_capacity_and_hasher(all.len(), RandomState::default());
        first.extend(all.iter().map(|candidate| {
            let place = AnyEvent(&candidate.place.at);
            seen.insert((candidate.kind, &*candidate.value, candidate.place.node, place))
        }));
    }
    let mut first = first.into_iter();
    all.retain(|_| first.next() == Some(true));
    all
}

/// The spots that may stand for each other.
#[derive(Clone, Copy)]
struct Others<'c> {
    all: &'c [Spotted<'c>],
    /// All of them are in one layer: named places of one layer never stand for each other.
    one_layer: bool,
}

impl<'c> Others<'c> {
    fn new(all: &'c [Spotted<'c>]) -> Others<'c> {
        let mut nodes = all.iter().map(|spot| spot.candidate.place.node);
        let first = nodes.next();
        Others { all, one_layer: nodes.all(|node| Some(node) == first) }
    }
}

/// True when something else in the message already says what the spot at `index` says, at the same or a better place.
fn is_told(
    tree: &Tree,
    index: usize,
    spot: &Spotted<'_>,
    others: Others<'_>,
    stronger: &[Candidate<'_>],
    by_place: &ByPlace<'_>,
) -> bool {
    let mine = &spot.candidate;
    let same = |other: &Candidate<'_>| other.kind == mine.kind && other.value == mine.value;
    // The dictionary's value is all of a field of which an experiment's text is a part.
    let sent = mine.raw.as_deref().unwrap_or(&mine.value);
    let is_part = has_parts(mine.kind) && mine.form.is_none();
    let holds = |other: &Candidate<'_>| is_part && other.kind == mine.kind && other.value.contains(sent);
    by_place
        .at(mine.place.node, &mine.place.at)
        .any(|other| same(other) || holds(other) || other.position.is_some() && mine.position.is_some())
        || (spot.loose || !others.one_layer)
            && others.all.iter().enumerate().any(|(other_index, other)| {
                // That is most pairs, and no text is compared.
                (spot.loose || other.candidate.place.node != mine.place.node)
                    && other_index != index
                    && same(&other.candidate)
                    && repeats(tree, spot, other)
            })
        || spot.loose
            && stronger.iter().any(|other| same(other) && is_inside(tree, other.place.node, mine.place.node))
}

/// True when `mine` is what `other` already says at a better place.
fn repeats(tree: &Tree, mine: &Spotted<'_>, other: &Spotted<'_>) -> bool {
    let (a, b) = (mine.candidate.place.node, other.candidate.place.node);
    if a == b {
        return mine.loose && !other.loose;
    }
    if is_inside(tree, b, a) { mine.loose } else { is_inside(tree, a, b) && !other.loose }
}

/// True when layer `inner` was taken out of layer `outer`.
fn is_inside(tree: &Tree, inner: usize, outer: usize) -> bool {
    let mut next = tree.nodes.get(inner).and_then(|node| node.parent);
    while let Some(index) = next {
        if index == outer {
            return true;
        }
        next = tree.nodes.get(index).and_then(|node| node.parent).filter(|parent| *parent < index);
    }
    false
}
