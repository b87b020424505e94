//! What a detector noticed, before it is weighed against the others and becomes a finding. Nearly all of it is borrowed from the
//! message and the rows: of a batch's hundreds of candidates a few become findings, and only those are put into words.

use std::{borrow::Cow, fmt};

use super::{
    Kind, Witness,
    fields::Weight,
    needles::{Known, Needle},
    position::Position,
};

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
pub(crate) struct Candidate<'a> {
    pub(crate) kind: Kind,
    pub(crate) value: Cow<'a, str>,
    pub(crate) form: Option<&'a str>,
    pub(crate) raw: Option<Cow<'a, str>>,
    pub(crate) by: Witness,
    pub(crate) weight: Weight,
    pub(crate) place: Place,
    pub(crate) why: Why<'a>,
    /// The package this part of the message speaks for.
    pub(crate) sender: Option<&'a str>,
    /// It speaks of other apps than its sender.
    pub(crate) others: bool,
    /// It stands in what the owner wrote himself.
    pub(crate) own_words: bool,
    /// For a location: where that is.
    pub(crate) position: Option<Position>,
}

/// Why something is said: a reason, and what the truth added to it.
#[derive(Debug, Clone)]
pub(crate) struct Why<'a>(pub(crate) Reason<'a>, pub(crate) Option<Reason<'a>>);

/// One reason, in words only when it is written.
#[derive(Debug, Clone)]
pub(crate) enum Reason<'a> {
    /// A row of the dictionary shows this.
    Field(&'a str),
    /// The same, and the package it speaks of.
    FieldOf(&'a str, String),
    /// A row of the shapes shows this.
    Shape(&'a str),
    /// The needle that was found, and what it stands for.
    Truth(&'a Needle, &'a Known),
    /// So many kilometres from where the phone last was.
    Near(f64),
    /// This many of the phone's apps are named.
    Apps(usize),
    /// In words already.
    Said(String),
}

impl<'a> From<Reason<'a>> for Why<'a> {
    fn from(reason: Reason<'a>) -> Why<'a> {
        Why(reason, None)
    }
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why(reason, None) => reason.fmt(f),
            Why(reason, Some(more)) => write!(f, "{reason}, {more}"),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Field(shows) => write!(f, "a known field of the protocol: {shows}"),
            Reason::FieldOf(shows, package) => {
                write!(f, "a known field of the protocol: {shows} ({package})")
            }
            Reason::Shape(shows) => write!(f, "the key says {shows} and the value has that shape"),
            Reason::Truth(needle, known) => {
                let name = &known.name;
                let whose = if known.canary { "" } else { "this phone's " };
                match &needle.form {
                    Some(form) => write!(f, "{form} of {whose}{name}{}", needle.spelling),
                    None => write!(f, "{whose}{name}"),
                }
            }
            Reason::Near(kilometres) => {
                write!(f, "{} from where the phone last was", super::position::words(*kilometres))
            }
            Reason::Apps(count) => write!(f, "{count} of this phone's apps are named in one message"),
            Reason::Said(words) => f.write_str(words),
        }
    }
}
