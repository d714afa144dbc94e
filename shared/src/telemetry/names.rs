//! The names of spans' attributes, in one place. Those of OpenTelemetry's conventions for messaging and
//! generative AI are written out here, since the conventions still change; ours begin with `qa.`.

use opentelemetry::KeyValue;

use crate::model::TaskKey;
use crate::queue::{RESULTS, TASKS};

/// What a step of a chunk's way is about.
pub fn of_task(key: &TaskKey) -> Vec<KeyValue> {
    vec![
        KeyValue::new("qa.job", key.job.as_str().to_owned()),
        KeyValue::new("qa.document.token", key.document.as_str().to_owned()),
        KeyValue::new("qa.chunk", i64::from(key.chunk)),
        KeyValue::new("qa.round", i64::from(key.round)),
        KeyValue::new("messaging.system", "nats"),
        KeyValue::new("messaging.message.id", key.to_string()),
    ]
}

/// A message that is sent, or worked on: `name` is what the conventions call the operation's name, `kind` its
/// type.
pub fn operation(name: &'static str, kind: &'static str) -> [KeyValue; 2] {
    [KeyValue::new("messaging.operation.name", name), KeyValue::new("messaging.operation.type", kind)]
}

/// Where tasks are.
pub fn tasks() -> [KeyValue; 2] {
    destination(TASKS, "qa.task.v1.{pool}.{job}.{document}.{chunk}.{round}")
}

/// Where results are.
pub fn results() -> [KeyValue; 2] {
    destination(RESULTS, "qa.result.v1.{job}.{document}.{chunk}.{round}")
}

fn destination(stream: &'static str, template: &'static str) -> [KeyValue; 2] {
    [
        KeyValue::new("messaging.destination.name", stream),
        KeyValue::new("messaging.destination.template", template),
    ]
}
