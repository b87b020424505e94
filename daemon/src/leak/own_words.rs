//! What the owner wrote himself: chat, mail, posts, forms he filled in. A phone number in there is his to give.

use super::{Context, data::Data, detector::Field, judge::has_word};
use crate::{
    unwrap::{Content, Tree, Value},
    wire::Message,
};

/// This many spaces make a text prose rather than a field.
const PROSE_SPACES: usize = 4;
/// This many keys of forms people fill in make a body such a form.
const FORM_KEYS: usize = 2;
/// App roles in which people write.
const WRITING_ROLES: &[&str] =
    &["chat", "messenger", "messages", "messaging", "mail", "social", "notes", "keyboard"];

/// What is known of a message in this respect.
#[derive(Debug)]
pub(crate) struct OwnWords<'a> {
    data: &'a Data,
    telemetry: bool,
    /// The body is a sign-in or another form that was filled in.
    pub(crate) form: bool,
    /// All of the body is somebody's writing.
    all: bool,
}

impl<'a> OwnWords<'a> {
    /// Looks at a message as a whole. Telemetry is never the owner's own words, whatever its keys are called.
    pub(crate) fn new(
        data: &'a Data,
        message: &Message,
        tree: &Tree,
        fields: &[Field<'_>],
        context: &Context<'_>,
        telemetry: bool,
    ) -> OwnWords<'a> {
        let posts = !message.body.is_empty();
        let is_form_key = |name: &str| data.form_keys.iter().any(|key| key.eq_ignore_ascii_case(name));
        let form_fields = fields
            .iter()
            .filter(|field| matches!(field.part, "form" | "part") && is_form_key(field.name))
            .count();
        let json_fields = tree
            .nodes
            .iter()
            .filter_map(|node| match &node.content {
                Content::Value(Value::Map(entries)) => {
                    Some(entries.iter().filter(|(key, _)| is_form_key(key)).count())
                }
                _ => None,
            })
            .max()
            .unwrap_or(0);
        let path = message.target.split('?').next().unwrap_or("");
        let last = path.rfind('/').and_then(|slash| path.get(slash..)).unwrap_or("");
        let writing = context.app.role.as_deref().is_some_and(|role| WRITING_ROLES.contains(&role))
            || has_word(&context.app.name, &data.own_apps);
        OwnWords {
            data,
            telemetry,
            form: !telemetry && posts && (form_fields >= FORM_KEYS || json_fields >= FORM_KEYS),
            all: !telemetry
                && posts
                && (writing || data.own_paths.iter().any(|own| last.eq_ignore_ascii_case(own))),
        }
    }

    /// True when what stands under `key` is the owner's own; `around` is the longer text a value was found in.
    pub(crate) fn is_own(&self, key: &str, around: &str) -> bool {
        let known = |keys: &[String]| keys.iter().any(|own| own.eq_ignore_ascii_case(key));
        !self.telemetry
            && (self.all
                || known(&self.data.own_keys)
                || (self.form && known(&self.data.form_keys))
                || around.bytes().filter(|byte| *byte == b' ').count() >= PROSE_SPACES)
    }
}
