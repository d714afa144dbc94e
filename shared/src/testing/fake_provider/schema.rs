//! Walks a JSON schema; what may stand in one is the services' business.

use serde_json::{Map, Value};

/// Keywords with a schema, with a list of schemas, with named schemas.
const ONE: &[&str] = &["items", "additionalProperties", "not", "if", "then", "else", "contains"];
const MANY: &[&str] = &["anyOf", "allOf", "oneOf", "prefixItems"];
const NAMED: &[&str] = &["properties", "$defs", "definitions", "patternProperties"];

/// A schema within a schema.
pub(super) struct Node<'a> {
    pub(super) schema: &'a Map<String, Value>,
    /// Its place, such as `properties.pairs.items`; empty for the root.
    pub(super) path: String,
    /// Levels of objects and lists around it.
    pub(super) depth: usize,
}

impl Node<'_> {
    /// Whether it speaks about values of a type, alone or among others.
    pub(super) fn is(&self, kind: &str) -> bool {
        match self.schema.get("type") {
            Some(Value::String(one)) => one.eq_ignore_ascii_case(kind),
            Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
            _ => false,
        }
    }

    /// The first keyword that is not among these.
    pub(super) fn other_than(&self, known: &[&str]) -> Option<&str> {
        self.schema.keys().map(String::as_str).find(|keyword| !known.contains(keyword))
    }
}

/// Every schema within a schema, the root first.
pub(super) fn nodes(root: &Value) -> Vec<Node<'_>> {
    let mut found = Vec::new();
    visit(root, String::new(), 0, &mut found);
    found
}

fn visit<'a>(value: &'a Value, path: String, depth: usize, found: &mut Vec<Node<'a>>) {
    let Some(schema) = value.as_object() else { return };
    let below = |keyword: &str, name: &str| {
        let steps = [path.as_str(), keyword, name];
        steps.into_iter().filter(|step| !step.is_empty()).collect::<Vec<_>>().join(".")
    };
    let mut inner = Vec::new();
    for (keyword, value) in schema {
        let word = keyword.as_str();
        if ONE.contains(&word) {
            inner.push((value, below(word, ""), depth + 1));
        } else if MANY.contains(&word) {
            let list = value.as_array().into_iter().flatten().enumerate();
            inner.extend(list.map(|(at, value)| (value, below(word, &at.to_string()), depth)));
        } else if NAMED.contains(&word) {
            let members = value.as_object().into_iter().flatten();
            inner.extend(members.map(|(name, value)| (value, below(word, name), depth + 1)));
        }
    }
    found.push(Node { schema, path, depth });
    for (value, path, depth) in inner {
        visit(value, path, depth, found);
    }
}
