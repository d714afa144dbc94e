//! A line as a JSON object, in the form of the log's own objects.

use serde_json::{Map, Value};
use tracing::Level;

use crate::{clock, plain};

/// One object on one line.
pub(super) fn record(level: Level, event: &str, message: &str, fields: Map<String, Value>) -> String {
    let mut object = Map::new();
    object.insert("timestamp".to_owned(), format!("{:.6}", clock::now()).into());
    object.insert("level".to_owned(), level.as_str().into());
    object.insert("event".to_owned(), event.into());
    object.insert("message".to_owned(), message.into());
    object.extend(fields);
    plain::json(&Value::Object(object).to_string())
}
