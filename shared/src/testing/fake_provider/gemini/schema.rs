//! Google's rules for the schema of an answer: one of OpenAPI's kind, or a JSON schema of which it reads a
//! part.

use serde_json::Value;

use crate::testing::fake_provider::schema::{Node, nodes};

const OPEN_API: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "items",
    "properties",
    "required",
    "propertyOrdering",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "pattern",
    "anyOf",
    "example",
    "default",
];
/// Deeper or larger ones are refused; the real limits are not told.
const MOST_LEVELS: usize = 32;
const MOST_SCHEMAS: usize = 2000;

const TOO_COMPLEX: &str = "The specified schema produces a constraint that has too many states for serving.";

/// What a `responseSchema` breaks.
pub(super) fn open_api_breach(root: &Value) -> Option<String> {
    let nodes = nodes(root);
    let unknown = nodes.iter().find_map(|node| {
        let keyword = node.other_than(OPEN_API)?;
        let place = place("response_schema", node);
        Some(format!(
            "Invalid JSON payload received. Unknown name \"{keyword}\" at '{place}': Cannot find field."
        ))
    });
    unknown
        .or_else(|| nodes.iter().find_map(|node| listed_type(node, "response_schema")))
        .or_else(|| too_complex(&nodes))
}

/// What a `responseJsonSchema` breaks; keywords that are not known are ignored.
pub(super) fn json_schema_breach(root: &Value) -> Option<String> {
    too_complex(&nodes(root))
}

/// A type is one word here.
fn listed_type(node: &Node<'_>, root: &str) -> Option<String> {
    let kind = node.schema.get("type")?;
    (!kind.is_string()).then(|| format!("Invalid value at '{}.type' (Type), {kind}", place(root, node)))
}

fn too_complex(nodes: &[Node<'_>]) -> Option<String> {
    let is_deep = nodes.iter().any(|node| node.depth > MOST_LEVELS);
    (is_deep || nodes.len() > MOST_SCHEMAS).then(|| TOO_COMPLEX.to_owned())
}

fn place(root: &str, node: &Node<'_>) -> String {
    let path = if node.path.is_empty() { String::new() } else { format!(".{}", node.path) };
    format!("generation_config.{root}{path}")
}
