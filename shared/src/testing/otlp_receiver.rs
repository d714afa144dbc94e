//! An OpenTelemetry collector for tests: takes OTLP over HTTP, keeps what it gets, and fails on request.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use tokio::net::TcpListener;

use super::fake_server::life::Life;
use super::fake_server::lock;

/// How it treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes them.
    Fine,
    /// Takes them after this long.
    Slow(Duration),
    /// Refuses them with this status.
    Refusing(u16),
}

/// A span as it arrived. Ids are hexadecimal; attributes are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSpan {
    /// Attributes of the process that sent it.
    pub resource: BTreeMap<String, String>,
    /// The trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The id of the span that it is part of; empty for none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// OpenTelemetry's number of its kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// When it began, in nanoseconds.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Trace and id of the spans that it is linked to.
    pub links: Vec<(String, String)>,
    /// The message of a failure.
    pub error: Option<String>,
    /// Whether the sampled flag is set.
    pub is_sampled: bool,
}

impl ReceivedSpan {
    /// An attribute, empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The service that sent it.
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }
}

/// A log record as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRecord {
    /// The trace that it belongs to; empty for none.
    pub trace: String,
    /// Its text.
    pub text: String,
}

#[derive(Debug)]
struct Kept {
    mood: Mood,
    requests: u64,
    headers: Vec<BTreeMap<String, String>>,
    spans: Vec<ReceivedSpan>,
    records: Vec<ReceivedRecord>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

/// A collector that runs until it is dropped.
#[derive(Debug)]
pub struct OtlpReceiver {
    kept: Arc<Mutex<Kept>>,
    life: Life,
}

impl OtlpReceiver {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept {
            mood: Mood::Fine,
            requests: 0,
            headers: Vec::new(),
            spans: Vec::new(),
            records: Vec::new(),
            metrics: Vec::new(),
        }));
        let life = Life::start("otlp-receiver", |listener| serve(listener, Arc::clone(&kept)));
        Self { kept, life }
    }

    /// What to set `OTEL_EXPORTER_OTLP_ENDPOINT` to.
    pub fn url(&self) -> String {
        self.life.url()
    }

    /// Ends it as `kill -9` does: connections break, the port refuses.
    pub fn disappear(&self) {
        self.life.end();
    }

    /// Starts it again on the same port, with what it had.
    pub fn come_back(&self) {
        self.life.begin_again(|listener| serve(listener, Arc::clone(&self.kept)));
    }

    /// Treats requests like this from now on.
    pub fn set_mood(&self, mood: Mood) {
        lock(&self.kept).mood = mood;
    }

    /// Requests so far, refused ones too.
    pub fn requests(&self) -> u64 {
        lock(&self.kept).requests
    }

    /// The headers of each request.
    pub fn headers(&self) -> Vec<BTreeMap<String, String>> {
        lock(&self.kept).headers.clone()
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        lock(&self.kept).spans.clone()
    }

    /// Every log record so far.
    pub fn records(&self) -> Vec<ReceivedRecord> {
        lock(&self.kept).records.clone()
    }

    /// Every report of metrics so far.
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        lock(&self.kept).metrics.clone()
    }

    /// Waits until this holds for the spans, and gives them.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&[ReceivedSpan]) -> bool) -> Vec<ReceivedSpan> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let spans = self.spans();
            if holds(&spans) {
                return spans;
            }
            assert!(Instant::now() < until, "the collector does not get {what}; it has {spans:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn serve(listener: TcpListener, kept: Arc<Mutex<Kept>>) {
    let app = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .route("/v1/logs", post(logs))
        .layer(DefaultBodyLimit::disable())
        .with_state(kept);
    // It ends with its runtime.
    drop(axum::serve(listener, app).await);
}

type Shared = State<Arc<Mutex<Kept>>>;

/// The body that a handler shall read, once the mood allows it.
async fn take(kept: &Mutex<Kept>, headers: &HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let mood = {
        let mut kept = lock(kept);
        kept.requests += 1;
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        kept.headers.push(headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect());
        kept.mood
    };
    match mood {
        Mood::Fine => {}
        Mood::Slow(time) => tokio::time::sleep(time).await,
        Mood::Refusing(status) => {
            return Err(StatusCode::from_u16(status).expect("a test names a status that exists"));
        }
    }
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut plain).map_err(|_| StatusCode::BAD_REQUEST)?;
        return Ok(plain);
    }
    Ok(body.to_vec())
}

async fn traces(State(kept): Shared, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let body = take(&kept, &headers, body).await?;
    let request = ExportTraceServiceRequest::decode(&body[..]).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let resource = texts(group.resource.unwrap_or_default().attributes);
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let status = span.status.unwrap_or_default();
            spans.push(ReceivedSpan {
                resource: resource.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                start: span.start_time_unix_nano,
                end: span.end_time_unix_nano,
                attributes: texts(span.attributes),
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                error: (status.code == 2).then_some(status.message),
                is_sampled: span.flags & 1 == 1,
            });
        }
    }
    lock(&kept).spans.extend(spans);
    Ok(Vec::new())
}

async fn metrics(State(kept): Shared, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let body = take(&kept, &headers, body).await?;
    let request = ExportMetricsServiceRequest::decode(&body[..]).map_err(|_| StatusCode::BAD_REQUEST)?;
    lock(&kept).metrics.push(request);
    Ok(Vec::new())
}

async fn logs(State(kept): Shared, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let body = take(&kept, &headers, body).await?;
    let request = ExportLogsServiceRequest::decode(&body[..]).map_err(|_| StatusCode::BAD_REQUEST)?;
    let scopes = request.resource_logs.into_iter().flat_map(|group| group.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records).map(|record| ReceivedRecord {
        trace: hex(&record.trace_id),
        text: record.body.map(text).unwrap_or_default(),
    });
    lock(&kept).records.extend(records);
    Ok(Vec::new())
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::ArrayValue(list)) => list.values.into_iter().map(text).collect::<Vec<_>>().join(","),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
