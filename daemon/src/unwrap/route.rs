//! Routes: how a layer was reached, in the words of `via=`.
#![forbid(unsafe_code)]

use super::{Content, Tree};

impl Tree {
    /// The route to a node: `http1>form:data_list>base64>gzip>json`.
    ///
    /// Steps are joined by `>`, from the message to the node. A layer taken from a place inside a value has that
    /// place after the value's step and a colon: `http1>json:[0].data>base64>json` is the JSON in base64 in the text at
    /// `[0].data` of the body's JSON. `body` is said only where the body itself is meant; what was made of it follows
    /// the message directly. Undoing the percent-encoding of a form field or parameter is part of that step.
    pub fn via(&self, node: usize) -> String {
        let mut chain = Vec::new();
        let mut next = Some(node);
        while let Some(found) = next.and_then(|index| self.nodes.get(index)) {
            chain.push(found);
            // A child comes after its parent: a tree made otherwise must not send this round in circles.
            next = found.parent.filter(|parent| Some(*parent) < next);
        }
        let mut route = String::new();
        let mut steps = chain.iter().rev().peekable();
        while let Some(step) = steps.next() {
            let inner = steps.peek();
            if step.step == "body" && inner.is_some() {
                continue;
            }
            if !route.is_empty() {
                route.push('>');
            }
            route.push_str(&step.step);
            if let Some(inner) = inner.filter(|inner| !inner.at.is_empty()) {
                route.push(':');
                route.push_str(&inner.at);
            }
        }
        route
    }

    /// The bytes of a node, empty when it holds a value.
    pub fn bytes(&self, node: usize) -> &[u8] {
        match self.nodes.get(node).map(|node| &node.content) {
            Some(Content::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }
}
