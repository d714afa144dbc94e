//! What all telemetry of this process says about its origin.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use crate::host;
use crate::model::InstanceId;
use crate::settings::TelemetrySettings;
use crate::settings::variables::Program;

/// The attributes of this process; what the user sets beats what is known.
pub(super) fn resource(program: Program, settings: &TelemetrySettings) -> Resource {
    let name = match program {
        Program::Coordinator => "qa-coordinator",
        Program::Worker => "qa-worker",
    };
    let host = host::name();
    let pid = std::process::id();
    let instance = InstanceId::new(&host, pid, rand::random());
    let known = [
        KeyValue::new("service.name", name),
        KeyValue::new("service.namespace", "qa-fleet"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.as_str().to_owned()),
        KeyValue::new("host.name", host),
        KeyValue::new("process.pid", i64::from(pid)),
    ];
    let set = settings.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let service = settings.service_name.iter().map(|name| KeyValue::new("service.name", name.clone()));
    // Of two values of a name the later one holds.
    Resource::builder_empty().with_attributes(known.into_iter().chain(set).chain(service)).build()
}

#[cfg(test)]
mod tests {
    use opentelemetry::{Key, Value};

    use super::*;
    use crate::settings::{Environment, Reader};

    #[test]
    fn what_the_user_sets_beats_what_is_known() {
        let pairs = [("OTEL_RESOURCE_ATTRIBUTES", "host.name=h,service.name=a"), ("OTEL_SERVICE_NAME", "b")];
        let environment = Environment::from_pairs(pairs);
        let settings = TelemetrySettings::read(&mut Reader::new(&environment));
        let resource = resource(Program::Worker, &settings);
        for (name, value) in [("service.name", "b"), ("host.name", "h"), ("service.namespace", "qa-fleet")] {
            assert_eq!(resource.get(&Key::new(name)), Some(Value::from(value)), "{name}");
        }
    }
}
