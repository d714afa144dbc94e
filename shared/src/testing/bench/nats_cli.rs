//! The server's own benchmark tool, `nats bench` of the `nats` command line, with the sizes of our messages.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use crate::testing::{TestNats, TestNatsOptions, temporary_folder};

/// Streams for tasks and for results.
const STREAMS: [&str; 2] = ["BENCHTASKS", "BENCHRESULTS"];

/// How many chunks per second the tool would come to with messages of these sizes, one kind of operation after the
/// other: publish without waiting for the last confirmation, fetch and acknowledge without confirmation. Nothing
/// where there is no `nats` on `PATH`.
///
/// # Panics
///
/// When the tool fails, or says what cannot be read.
pub async fn nats_bench(chunks: u32, sizes: [usize; 2], sync_always: bool) -> Option<f64> {
    let nats = TestNats::start_with(TestNatsOptions { sync_always, ..Default::default() }).await;
    let directory = temporary_folder();
    let csv = directory.path().join("figures.csv");
    let mut seconds = 0.0;
    for (stream, size) in STREAMS.into_iter().zip(sizes) {
        let subject = stream.to_lowercase();
        let publish = ["pub", "async", &subject, "--create", "--multisubject", "--multisubjectmax", "0"];
        let fetch = ["fetch"];
        for operation in [&publish[..], &fetch[..]] {
            let mut tool = Command::new("nats");
            tool.args(["--no-context", "--server", &nats.url(), "bench", "js"]).args(operation);
            tool.args(["--stream", stream, "--no-progress"]);
            tool.args(["--msgs", &chunks.to_string(), "--size", &size.to_string()]).arg("--csv").arg(&csv);
            let output = match tool.output() {
                Ok(output) => output,
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                Err(error) => panic!("nats bench cannot be started: {error}"),
            };
            assert!(
                output.status.success(),
                "nats bench failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            seconds += 1.0 / messages_per_second(&csv);
        }
    }
    Some(1.0 / seconds)
}

fn messages_per_second(csv: &Path) -> f64 {
    let text = std::fs::read_to_string(csv).expect("nats bench writes its figures");
    let mut lines = text.lines().map(|line| line.split(','));
    let (mut names, mut values) = (lines.next().expect("names"), lines.next().expect("values"));
    let column = names.position(|name| name == "MsgsPerSec").expect("messages per second");
    values.nth(column).and_then(|value| value.parse().ok()).expect("a number of messages per second")
}
