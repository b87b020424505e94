//! One row of a data file, read field by field so that whatever is wrong is named: file, table, row, field.

use std::{cell::RefCell, collections::BTreeSet};

use toml::{Table, Value};

use super::{Error, Kind};

/// What it costs the owner when this is known to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    Low,
    Medium,
    High,
}

/// A row being read.
pub(crate) struct Fields<'a> {
    file: &'a str,
    table: &'a str,
    number: usize,
    fields: &'a Table,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The row `number` (from 1) of `[[table]]` in `file`.
    pub(crate) fn new(file: &'a str, table: &'a str, number: usize, fields: &'a Table) -> Self {
        Fields { file, table, number, fields, asked: RefCell::default() }
    }

    /// An error about one field of this row.
    pub(crate) fn error(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Row {
            file: self.file.into(),
            table: self.table.into(),
            row: self.number,
            field: field.into(),
            problem: problem.into(),
        }
    }

    fn get(&self, field: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(field);
        self.fields.get(field)
    }

    /// An optional text.
    pub(crate) fn optional(&self, field: &'static str) -> Result<Option<&'a str>, Error> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(field, "must be text")),
        }
    }

    /// A text that must be there and not be empty.
    pub(crate) fn text(&self, field: &'static str) -> Result<&'a str, Error> {
        match self.optional(field)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.error(field, "must not be empty")),
            None => Err(self.error(field, "is missing")),
        }
    }

    /// A text or a list of texts; empty when the field is not there.
    pub(crate) fn texts(&self, field: &'static str) -> Result<Vec<String>, Error> {
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| self.error(field, "must hold texts only"))
                })
                .collect(),
            Some(_) => Err(self.error(field, "must be text or a list of texts")),
        }
    }

    /// A list of texts of which at least one must be there.
    pub(crate) fn some_texts(&self, field: &'static str) -> Result<Vec<String>, Error> {
        let texts = self.texts(field)?;
        if texts.is_empty() { Err(self.error(field, "is missing")) } else { Ok(texts) }
    }

    /// A list of tables; empty when the field is not there.
    pub(crate) fn tables(&self, field: &'static str) -> Result<Vec<&'a Table>, Error> {
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_table().ok_or_else(|| self.error(field, "must hold { … } only")))
                .collect(),
            Some(_) => Err(self.error(field, "must be a list of { … }")),
        }
    }

    /// True or false, when there.
    pub(crate) fn flag(&self, field: &'static str) -> Result<Option<bool>, Error> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.error(field, "must be true or false")),
        }
    }

    /// The field `kind`.
    pub(crate) fn kind(&self) -> Result<Kind, Error> {
        let name = self.text("kind")?;
        Kind::from_name(name).ok_or_else(|| self.error("kind", format!("{name} is no kind")))
    }

    /// The field `severity`.
    pub(crate) fn weight(&self) -> Result<Weight, Error> {
        match self.text("severity")? {
            "high" => Ok(Weight::High),
            "medium" => Ok(Weight::Medium),
            "low" => Ok(Weight::Low),
            other => Err(self.error("severity", format!("{other} is none of high, medium, low"))),
        }
    }

    /// Must be called last: an error for a field that nobody asked for, which is a misspelt one.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let asked = self.asked.borrow();
        match self.fields.keys().find(|key| !asked.contains(key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.error(key, "is no field of this table")),
        }
    }
}
