//! For this room's tests: values from JSON text, trees around them, and a detector that knows the samples' phone.

use super::{Context, Crypt, Data, Detector, Finding, Truth};
use crate::{
    app::App,
    place::Host,
    unwrap::{Content, Node, Telemetry, Tree, Value},
    wire::{Message, Protocol},
};

/// JSON text as a value.
pub(crate) fn value(json: &str) -> Value {
    convert(&serde_json::from_str(json).unwrap())
}

fn convert(json: &serde_json::Value) -> Value {
    use serde_json::Value as J;
    match json {
        J::Null => Value::Null,
        J::Bool(b) => Value::Bool(*b),
        J::Number(n) => Value::Number(n.to_string().into()),
        J::String(s) => Value::Text(s.as_str().into()),
        J::Array(list) => Value::List(list.iter().map(convert).collect()),
        J::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.as_str().into(), convert(v))).collect()),
    }
}

/// The truth of the samples' phone.
pub(crate) fn truth() -> Truth {
    Truth::from_json(include_str!("../../tests/samples/device_truth.json")).unwrap()
}

/// A detector that knows the samples' phone.
pub(crate) fn detector() -> Detector {
    Detector::new(&truth(), Data::built_in().unwrap())
}

/// A message under examination, built step by step.
pub(crate) struct Case {
    pub(crate) app: App,
    pub(crate) host: Host,
    pub(crate) message: Message,
    pub(crate) tree: Tree,
}

impl Case {
    /// A POST from `com.example.game` to `api.example.io` with nothing in it.
    pub(crate) fn new() -> Case {
        let mut case = Case {
            app: App {
                name: "com.example.game".into(),
                packages: vec!["com.example.game".into()],
                ..App::default()
            },
            host: Host {
                name: "api.example.io".into(),
                domain: Some("example.io".into()),
                ..Host::default()
            },
            message: Message {
                protocol: Protocol::Http1,
                method: "POST".into(),
                target: "/r".into(),
                ..Message::default()
            },
            tree: Tree::default(),
        };
        case.tree.nodes.push(node(None, "http1", Content::Bytes(Vec::new()), true));
        case
    }

    /// Adds a layer; its index.
    pub(crate) fn layer(&mut self, parent: usize, step: &str, content: Content) -> usize {
        self.tree.nodes.push(node(Some(parent), step, content, false));
        self.tree.nodes.len() - 1
    }

    /// A body of JSON.
    pub(crate) fn json(mut self, json: &str) -> Case {
        self.message.body = json.into();
        let body = self.layer(0, "body", Content::Bytes(json.into()));
        self.tree.nodes[body].covered = true;
        self.layer(body, "json", Content::Value(value(json)));
        self
    }

    /// A parameter of the query or a field of the form.
    pub(crate) fn field(mut self, part: &str, name: &str, text: &str) -> Case {
        self.message.body = if part == "form" { b"form".to_vec() } else { self.message.body };
        self.layer(0, &format!("{part}:{name}"), Content::Bytes(text.into()));
        self
    }

    /// The JSON is a known protocol's payload.
    pub(crate) fn telemetry(mut self, id: &str) -> Case {
        let payload = self.tree.nodes.iter().position(|node| matches!(node.content, Content::Value(_)));
        self.tree.protocol = Some(Telemetry {
            opened: Vec::new(),
            start: None,
            id: id.into(),
            name: id.into(),
            payload,
            unreadable: None,
            no_content: false,
            proven: false,
            summary: String::new(),
            facts: Vec::new(),
        });
        self
    }

    /// From this package.
    pub(crate) fn from(mut self, package: &str, role: Option<&str>) -> Case {
        self.app = App {
            name: package.into(),
            packages: vec![package.into()],
            role: role.map(str::to_owned),
            ..App::default()
        };
        self
    }

    /// To a host of this role.
    pub(crate) fn to(mut self, host: &str, role: Option<&str>) -> Case {
        self.host = Host { name: host.into(), role: role.map(str::to_owned), ..Host::default() };
        self
    }

    /// What the samples' phone's detector says.
    pub(crate) fn examine(&self, detector: &Detector) -> Vec<Finding> {
        let context =
            Context { app: &self.app, host: Some(&self.host), crypt: Crypt::Tls, now_ms: 1_588_291_200_000 };
        detector.examine(&context, &self.message, &self.tree)
    }
}

fn node(parent: Option<usize>, step: &str, content: Content, covered: bool) -> Node {
    Node { parent, at: String::new(), step: step.into(), content, why: "test", cut: None, covered }
}
