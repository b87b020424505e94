//! What a detector noticed, before it is weighed against the others and becomes a finding.

use super::{Kind, Witness, fields::Weight, position::Position};

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The layer.
    pub(crate) node: usize,
    /// The place in it.
    pub(crate) at: String,
}

/// Something noticed.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    pub(crate) value: String,
    pub(crate) form: Option<String>,
    pub(crate) raw: Option<String>,
    pub(crate) by: Witness,
    pub(crate) weight: Weight,
    pub(crate) place: Place,
    pub(crate) why: String,
    /// The package this part of the message speaks for.
    pub(crate) sender: Option<String>,
    /// It speaks of other apps than its sender.
    pub(crate) others: bool,
    /// It stands in what the owner wrote himself.
    pub(crate) own_words: bool,
    /// For a location: where that is.
    pub(crate) position: Option<Position>,
}
