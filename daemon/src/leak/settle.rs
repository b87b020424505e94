//! What is left to say when all witnesses have spoken: each value once per place, by the strongest of them.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::{Kind, Witness, candidate::Candidate, path::without_indices};
use crate::unwrap::Tree;

/// A truth hit on its way to becoming a candidate.
pub(crate) struct Spotted {
    pub(crate) candidate: Candidate,
    /// It stands in the raw bytes of a layer, not at a named place.
    pub(crate) loose: bool,
}

/// Candidates by layer and place.
type ByPlace<'c> = HashMap<(usize, &'c str), Vec<&'c Candidate>, RandomState>;

/// One finding per value and place; the strongest witness wins; an inner layer does not repeat an outer one.
pub(crate) fn settle(tree: &Tree, candidates: Vec<Candidate>, spotted: Vec<Spotted>) -> Vec<Candidate> {
    let (stronger, shapes): (Vec<Candidate>, Vec<Candidate>) =
        candidates.into_iter().partition(|c| c.by < Witness::Shape);
    let kept: Vec<bool> = {
        // By layer and place: a batch has hundreds of both, and comparing each with each took longer than finding them.
        let mut by_place: ByPlace<'_> =
            HashMap::with_capacity_and_hasher(stronger.len(), RandomState::default());
        for told in &stronger {
            let at = told.place.at.as_str();
            let parts = at.match_indices("##").filter_map(|(end, _)| at.get(..end));
            for place in std::iter::once(at).chain(parts) {
                by_place.entry((told.place.node, place)).or_default().push(told);
            }
        }
        spotted
            .iter()
            .enumerate()
            .map(|(index, spot)| !is_told(tree, index, spot, &spotted, &stronger, &by_place))
            .collect()
    };
    let mut kept = kept.into_iter();
    let kept: Vec<Candidate> =
        spotted.into_iter().filter(|_| kept.next() == Some(true)).map(|spot| spot.candidate).collect();
    let shapes: Vec<Candidate> = {
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
        let mut seen: HashSet<(Kind, &str, usize, String), RandomState> =
            HashSet::with_capacity_and_hasher(all.len(), RandomState::default());
        first.extend(all.iter().map(|candidate| {
            let place = without_indices(&candidate.place.at);
            seen.insert((candidate.kind, candidate.value.as_str(), candidate.place.node, place))
        }));
    }
    let mut first = first.into_iter();
    all.retain(|_| first.next() == Some(true));
    all
}

/// True when something else in the message already says what the spot at `index` says, at the same or a better place.
fn is_told(
    tree: &Tree,
    index: usize,
    spot: &Spotted,
    spotted: &[Spotted],
    stronger: &[Candidate],
    by_place: &ByPlace<'_>,
) -> bool {
    let mine = &spot.candidate;
    let same = |other: &Candidate| other.kind == mine.kind && other.value == mine.value;
    let here = by_place.get(&(mine.place.node, mine.place.at.as_str()));
    // The dictionary's value is all of a field of which an experiment's text is a part.
    let sent = mine.raw.as_deref().unwrap_or(&mine.value);
    let is_part = matches!(mine.kind, Kind::VisitedUrl | Kind::SearchQuery | Kind::FolderOpen | Kind::Music)
        && mine.form.is_none();
    let holds = |other: &Candidate| is_part && other.kind == mine.kind && other.value.contains(sent);
    here.into_iter()
        .flatten()
        .any(|other| same(other) || holds(other) || other.position.is_some() && mine.position.is_some())
        || spotted.iter().enumerate().any(|(other_index, other)| {
            // Two named places of one layer never stand for each other: that is most pairs, and no text is compared.
            (spot.loose || other.candidate.place.node != mine.place.node)
                && other_index != index
                && same(&other.candidate)
                && repeats(tree, spot, other)
        })
        || spot.loose
            && stronger.iter().any(|other| same(other) && is_inside(tree, other.place.node, mine.place.node))
}

/// True when `mine` is what `other` already says at a better place.
fn repeats(tree: &Tree, mine: &Spotted, other: &Spotted) -> bool {
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
