//! The settings of telemetry: OpenTelemetry's own variables, which may stand in the env file too.
//!
//! They mean what OpenTelemetry's specification says, with one difference: without an address, and without an
//! exporter that is asked for, nothing is sent. It must not know what is sent, nor send anything.

use std::path::PathBuf;
use std::time::Duration;

use super::errors::Mistake;
use super::reader::Reader;
use super::setting::Setting;
use super::source::Found;
use super::{Address, values, variables};
use crate::base_url::normalise_url;
use crate::secret::Secret;

static DISABLED: Setting = Setting::variable(&[&variables::OTEL_SDK_DISABLED]);
static ENDPOINT: Setting = Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_ENDPOINT]);
static PROTOCOL: Setting = Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_PROTOCOL]);
static HEADERS: Setting = Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_HEADERS]);
static TIMEOUT: Setting = Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TIMEOUT]);
static COMPRESSION: Setting = Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_COMPRESSION]);
static CERTIFICATE: Setting = Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_CERTIFICATE]);
static SERVICE_NAME: Setting = Setting::variable(&[&variables::OTEL_SERVICE_NAME]);
static RESOURCE: Setting = Setting::variable(&[&variables::OTEL_RESOURCE_ATTRIBUTES]);
static SAMPLER: Setting = Setting::variable(&[&variables::OTEL_TRACES_SAMPLER]);
static SAMPLER_ARG: Setting = Setting::variable(&[&variables::OTEL_TRACES_SAMPLER_ARG]);
static DELAY: Setting = Setting::variable(&[&variables::OTEL_BSP_SCHEDULE_DELAY]);
static QUEUE: Setting = Setting::variable(&[&variables::OTEL_BSP_MAX_QUEUE_SIZE]);
static BATCH: Setting = Setting::variable(&[&variables::OTEL_BSP_MAX_EXPORT_BATCH_SIZE]);
static INTERVAL: Setting = Setting::variable(&[&variables::OTEL_METRIC_EXPORT_INTERVAL]);
static CONTENT: Setting = Setting::variable(&[&variables::QA_TRACE_CONTENT]);

/// The settings of one signal; each beats the one for all signals.
struct Signal {
    /// The end of the collector's path.
    path: &'static str,
    exporter: Setting,
    endpoint: Setting,
    protocol: Setting,
    headers: Setting,
    timeout: Setting,
    compression: Setting,
    certificate: Setting,
}

static TRACES: Signal = Signal {
    path: "/v1/traces",
    exporter: Setting::variable(&[&variables::OTEL_TRACES_EXPORTER]),
    endpoint: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT]),
    protocol: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TRACES_PROTOCOL]),
    headers: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TRACES_HEADERS]),
    timeout: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TRACES_TIMEOUT]),
    compression: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TRACES_COMPRESSION]),
    certificate: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE]),
};
static METRICS: Signal = Signal {
    path: "/v1/metrics",
    exporter: Setting::variable(&[&variables::OTEL_METRICS_EXPORTER]),
    endpoint: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_METRICS_ENDPOINT]),
    protocol: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_METRICS_PROTOCOL]),
    headers: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_METRICS_HEADERS]),
    timeout: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_METRICS_TIMEOUT]),
    compression: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_METRICS_COMPRESSION]),
    certificate: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE]),
};
static LOGS: Signal = Signal {
    path: "/v1/logs",
    exporter: Setting::variable(&[&variables::OTEL_LOGS_EXPORTER]),
    endpoint: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_LOGS_ENDPOINT]),
    protocol: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_LOGS_PROTOCOL]),
    headers: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_LOGS_HEADERS]),
    timeout: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_LOGS_TIMEOUT]),
    compression: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_LOGS_COMPRESSION]),
    certificate: Setting::variable(&[&variables::OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE]),
};

/// What is sent, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// Where spans go; nowhere if absent.
    pub traces: Option<Collector>,
    /// Where metrics go.
    pub metrics: Option<Collector>,
    /// Where log records go.
    pub logs: Option<Collector>,
    /// The service's name, where the user chose one.
    pub service_name: Option<String>,
    /// Attributes of everything that is sent.
    pub attributes: Vec<(String, String)>,
    /// Which traces are sent.
    pub sampler: Sampler,
    /// How spans are gathered.
    pub batch: Batch,
    /// Time between two reports of metrics.
    pub metric_interval: Duration,
    /// Whether prompts and answers become attributes of spans.
    pub content: bool,
}

/// How a signal reaches its collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// The language spoken there.
    pub protocol: Protocol,
    /// The address; with [`Protocol::Http`] the signal's path is part of it.
    pub url: Address,
    /// Headers of each request.
    pub headers: Vec<(String, Secret)>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// Certificates of the only authorities to trust, as PEM.
    pub authorities: Option<(PathBuf, String)>,
}

/// One of OTLP's two transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in HTTP requests.
    Http,
    /// gRPC.
    Grpc,
}

/// Which traces are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether the decision of whoever began a trace counts.
    pub parent_based: bool,
    /// The share of the traces that begin here.
    pub share: f64,
}

/// How spans are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Longest time between two batches.
    pub delay: Duration,
    /// Spans that may wait.
    pub queue: usize,
    /// Spans in a batch at most.
    pub size: usize,
}

/// What holds for all signals.
struct General {
    endpoint: Option<String>,
    protocol: Option<Protocol>,
    headers: Option<Vec<(String, Secret)>>,
    timeout: Option<Duration>,
    gzip: Option<bool>,
    authorities: Option<(PathBuf, String)>,
}

impl TelemetrySettings {
    /// Reads and checks them all, also those that have no effect at the moment.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let disabled = reader.yes_or_no(&DISABLED, None);
        let general = General {
            endpoint: endpoint(reader, &ENDPOINT),
            protocol: protocol(reader, &PROTOCOL),
            headers: headers(reader, &HEADERS),
            timeout: milliseconds(reader, &TIMEOUT),
            gzip: compression(reader, &COMPRESSION),
            authorities: reader.file_text(&CERTIFICATE, None),
        };
        let mut collector =
            |signal: &'static Signal| collector(reader, signal, &general).filter(|_| !disabled);
        let (traces, metrics, logs) = (collector(&TRACES), collector(&METRICS), collector(&LOGS));
        let batch = read_batch(reader);
        Self {
            traces,
            metrics,
            logs,
            service_name: reader.word(&SERVICE_NAME, None).map(|found| found.value),
            attributes: read_attributes(reader),
            sampler: read_sampler(reader),
            batch,
            metric_interval: milliseconds(reader, &INTERVAL).unwrap_or_default(),
            content: reader.yes_or_no(&CONTENT, None),
        }
    }

    /// Whether anything is sent.
    pub fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

fn collector(reader: &mut Reader<'_>, signal: &'static Signal, general: &General) -> Option<Collector> {
    let expected = "otlp or none";
    let wanted = reader.parsed(&signal.exporter, None, expected, |text| match text {
        "otlp" => Some(true),
        "none" => Some(false),
        _ => None,
    });
    let own_endpoint = endpoint(reader, &signal.endpoint);
    let own_protocol = protocol(reader, &signal.protocol);
    let own_headers = headers(reader, &signal.headers);
    let own_timeout = milliseconds(reader, &signal.timeout);
    let own_gzip = compression(reader, &signal.compression);
    let own_authorities = reader.file_text(&signal.certificate, None);
    let protocol = own_protocol.or(general.protocol).unwrap_or(Protocol::Http);
    let is_wanted = wanted.unwrap_or(own_endpoint.is_some() || general.endpoint.is_some());
    let (usual, path) = match protocol {
        Protocol::Http => ("http://localhost:4318", signal.path),
        Protocol::Grpc => ("http://localhost:4317", ""),
    };
    let url =
        own_endpoint.unwrap_or_else(|| format!("{}{path}", general.endpoint.as_deref().unwrap_or(usual)));
    is_wanted.then(|| Collector {
        protocol,
        url: Address::new(url),
        headers: own_headers.or_else(|| general.headers.clone()).unwrap_or_default(),
        timeout: own_timeout.or(general.timeout).unwrap_or_default(),
        gzip: own_gzip.or(general.gzip).unwrap_or_default(),
        authorities: own_authorities.or_else(|| general.authorities.clone()),
    })
}

fn endpoint(reader: &mut Reader<'_>, setting: &'static Setting) -> Option<String> {
    let found = reader.word(setting, None)?;
    match normalise_url(&found.value) {
        Ok(url) if !url.contains('@') => Some(url),
        Ok(_) => {
            let problem = format!("the address {} holds credentials", found.origin);
            let remedy = "put them into OTEL_EXPORTER_OTLP_HEADERS";
            reader.mistake(Mistake::new(setting, problem).remedy(remedy));
            None
        }
        Err(_) => {
            reader.mistake(Mistake::value(setting, &found, "an address such as http://collector:4318"));
            None
        }
    }
}

fn protocol(reader: &mut Reader<'_>, setting: &'static Setting) -> Option<Protocol> {
    reader.parsed(setting, None, "http/protobuf or grpc", |text| match text {
        "http/protobuf" => Some(Protocol::Http),
        "grpc" => Some(Protocol::Grpc),
        _ => None,
    })
}

fn compression(reader: &mut Reader<'_>, setting: &'static Setting) -> Option<bool> {
    reader.parsed(setting, None, "none or gzip", |text| match text {
        "gzip" => Some(true),
        "none" => Some(false),
        _ => None,
    })
}

fn milliseconds(reader: &mut Reader<'_>, setting: &'static Setting) -> Option<Duration> {
    const LONGEST: u64 = 24 * 3600 * 1000;
    let expected = "a whole number of milliseconds above 0, at most a day";
    reader.parsed(setting, None, expected, values::within(1..=LONGEST)).map(Duration::from_millis)
}

fn headers(reader: &mut Reader<'_>, setting: &'static Setting) -> Option<Vec<(String, Secret)>> {
    let found = reader.word(setting, None)?;
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b))
    };
    // A value with a line break would be a header of its own.
    let is_value = |value: &str| value.chars().all(|c| c == '\t' || (' '..='~').contains(&c));
    let pairs =
        pairs(&found).filter(|pairs| pairs.iter().all(|(name, value)| is_name(name) && is_value(value)));
    let Some(pairs) = pairs else {
        let expected = "NAME=VALUE, several separated by commas, values percent-encoded";
        reader.mistake(Mistake::value(setting, &found, expected));
        return None;
    };
    let secret = |(name, value): (String, String)| (name.to_ascii_lowercase(), Secret::new(value));
    Some(pairs.into_iter().map(secret).collect())
}

fn read_attributes(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let Some(found) = reader.word(&RESOURCE, None) else { return Vec::new() };
    pairs(&found).unwrap_or_else(|| {
        let expected = "NAME=VALUE, several separated by commas, values percent-encoded";
        reader.mistake(Mistake::value(&RESOURCE, &found, expected));
        Vec::new()
    })
}

fn read_sampler(reader: &mut Reader<'_>) -> Sampler {
    let expected = "always_on, always_off or traceidratio, also with parentbased_ before it";
    let share =
        reader.parsed(&SAMPLER_ARG, None, "a number from 0 to 1", values::within(0.0..=1.0)).unwrap_or(1.0);
    let sampler = reader.parsed(&SAMPLER, None, expected, |text| {
        let (parent_based, name) = match text.strip_prefix("parentbased_") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let share = match name {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => share,
            _ => return None,
        };
        Some(Sampler { parent_based, share })
    });
    sampler.unwrap_or(Sampler { parent_based: true, share: 1.0 })
}

fn read_batch(reader: &mut Reader<'_>) -> Batch {
    // The queue is what bounds the memory while a collector is away.
    const MOST: usize = 1_000_000;
    let expected = "a whole number from 1 to 1000000";
    let delay = milliseconds(reader, &DELAY).unwrap_or_default();
    let queue = reader.parsed(&QUEUE, None, expected, values::within(1..=MOST)).unwrap_or(1);
    let size = reader.parsed(&BATCH, None, expected, values::within(1..=MOST)).unwrap_or(1);
    // A queue that was made small means small batches too.
    Batch { delay, queue, size: size.min(queue) }
}

/// The parts of `NAME=VALUE,NAME=VALUE`, decoded.
fn pairs(found: &Found) -> Option<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (percent_decoded(name.trim())?, percent_decoded(value.trim())?);
        (!name.is_empty()).then_some((name, value))
    };
    values::comma_list(&found.value).into_iter().map(pair).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Environment;

    fn read(pairs: &[(&str, &str)]) -> Result<TelemetrySettings, String> {
        let environment = Environment::from_pairs(pairs.iter().copied());
        let mut reader = Reader::new(&environment);
        let settings = TelemetrySettings::read(&mut reader);
        reader.finish(settings).map(|(settings, ..)| settings).map_err(|mistakes| mistakes.to_string())
    }

    fn url(collector: Option<&Collector>) -> Option<&str> {
        collector.map(|collector| collector.url.expose())
    }

    #[test]
    fn nothing_is_sent_unless_an_address_or_an_exporter_is_set() {
        assert!(!read(&[]).unwrap().is_on());
        assert!(!read(&[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "always_on")]).unwrap().is_on());
        let explicit = read(&[("OTEL_TRACES_EXPORTER", "otlp")]).unwrap();
        assert_eq!(url(explicit.traces.as_ref()), Some("http://localhost:4318/v1/traces"));
        assert_eq!(explicit.metrics, None);
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        let on = read(&[endpoint]).unwrap();
        assert_eq!(url(on.traces.as_ref()), Some("http://c:4318/v1/traces"));
        assert_eq!(url(on.metrics.as_ref()), Some("http://c:4318/v1/metrics"));
        assert_eq!(on.logs, None, "log records are sent on request only");
        let off = read(&[endpoint, ("OTEL_SDK_DISABLED", "true"), ("OTEL_LOGS_EXPORTER", "otlp")]).unwrap();
        assert!(!off.is_on());
        let metrics_only = read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).unwrap();
        assert!(metrics_only.traces.is_none() && metrics_only.metrics.is_some());
    }

    #[test]
    fn what_is_set_for_a_signal_beats_what_is_set_for_all() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "A=1, b=x%20y"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d/own/path"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c=3"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ])
        .unwrap();
        let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
        assert_eq!((traces.url.expose(), traces.protocol), ("http://d/own/path", Protocol::Http));
        assert_eq!(traces.headers, [("c".to_owned(), Secret::new("3"))]);
        assert_eq!((traces.timeout, traces.gzip), (Duration::from_millis(250), true));
        assert_eq!((metrics.url.expose(), metrics.protocol), ("http://c:4317", Protocol::Grpc));
        let headers = [("a".to_owned(), Secret::new("1")), ("b".to_owned(), Secret::new("x y"))];
        assert_eq!(metrics.headers, headers);
        assert_eq!((metrics.timeout, metrics.gzip), (Duration::from_secs(10), false));
    }

    #[test]
    fn samplers_have_their_names_and_their_share() {
        for (name, arg, parent_based, share) in [
            ("", "", true, 1.0),
            ("always_off", "", false, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("parentbased_traceidratio", "0.5", true, 0.5),
            ("parentbased_always_on", "0.5", true, 1.0),
            ("traceidratio", "", false, 1.0),
        ] {
            let settings = read(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)]).unwrap();
            assert_eq!(settings.sampler, Sampler { parent_based, share }, "{name} {arg}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_with_its_variable_and_what_is_expected() {
        for (name, value, expected) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x", "such as http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:pw@c", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf or grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", "whole number of milliseconds"),
            ("OTEL_TRACES_EXPORTER", "jaeger", "otlp or none"),
            ("OTEL_TRACES_SAMPLER", "xray", "always_on, always_off or traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2", "a number from 0 to 1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "x", "NAME=VALUE"),
            ("OTEL_RESOURCE_ATTRIBUTES", "x=%zz", "percent-encoded"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "from 1 to 1000000"),
            ("OTEL_SDK_DISABLED", "maybe", "true or false"),
        ] {
            let said = read(&[(name, value)]).unwrap_err();
            assert!(said.contains(name) && said.contains(expected), "{said}");
        }
        for value in ["secret-without-name", "x=%0asecret"] {
            let said = read(&[("OTEL_EXPORTER_OTLP_HEADERS", value)]).unwrap_err();
            assert!(said.contains("OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn a_small_queue_makes_small_batches() {
        let settings = read(&[("OTEL_BSP_MAX_QUEUE_SIZE", "10")]).unwrap();
        assert_eq!((settings.batch.queue, settings.batch.size), (10, 10));
    }
}
