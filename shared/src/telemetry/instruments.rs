//! Every metric of both programs in one table: what it is called, what it counts, in which unit, by which
//! labels. Whoever measures names one of these; nothing is computed where no metrics are wanted.
//!
//! Names and units follow OpenTelemetry's conventions; those of messaging and generative AI are taken over where
//! they fit, ours begin with `qa.`. No label has a value for each chunk, document or run but the job.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::{KeyValue, global};

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Seconds of a model call: the conventions' buckets end at 82 s, and local models take minutes.
const CALL_SECONDS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0];
/// Seconds of work on files.
const FILE_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Seconds in a queue: of a full one hours.
const WAIT_SECONDS: &[f64] = &[0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];
/// Tokens of a call.
const TOKENS: &[f64] = &[1.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// How it is now.
    Gauge,
    /// How values are spread, with the upper bounds of the buckets.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// OpenTelemetry's name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, as UCUM writes it.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Who measures it.
    pub program: &'static str,
    /// What it tells, for people.
    pub about: &'static str,
    instrument: OnceLock<Instrument>,
}

#[derive(Debug)]
enum Instrument {
    Counter(Counter<u64>),
    Histogram(Histogram<f64>),
    /// Asked for its value by whoever reads it.
    Gauge,
}

macro_rules! metrics {
    ($($program:literal { $($name:ident $text:literal $kind:expr, $unit:literal, [$($label:literal),*], $about:literal;)+ })+) => {
        $($(
            #[doc = $about]
            pub static $name: Metric = Metric {
                name: $text, kind: $kind, unit: $unit, labels: &[$($label),*], program: $program, about: $about,
                instrument: OnceLock::new(),
            };
        )+)+

        /// All of them.
        pub static ALL: &[&Metric] = &[$($(&$name,)+)+];
    };
}

use Kind::{Counter as Sum, Gauge, Histogram as Spread};

metrics! {
    "qa-coordinator" {
        JOB_CHUNKS "qa.job.chunks" Gauge, "{chunk}", ["qa.job", "qa.state"],
            "Chunks of the job that are completed, failed, published (queued, running or answered) or waiting";
        JOB_DOCUMENTS "qa.job.documents" Gauge, "{document}", ["qa.job", "qa.state"],
            "Documents of the job that are done, broken (cannot be processed) or open";
        JOB_PAIRS "qa.job.pairs" Gauge, "{pair}", ["qa.job"],
            "Pairs in all completed chunks of the job";
        JOB_ETA "qa.job.eta" Gauge, "s", ["qa.job"],
            "Time until the end at the rate of the last minutes; absent without a rate";
        JOB_COST "qa.job.cost" Gauge, "{USD}", ["qa.job"],
            "What all runs of the job have cost; absent where nothing costs anything";
        JOB_CONNECTED "qa.job.connected" Gauge, "{server}", ["qa.job"],
            "1 while the queue server can be reached, else 0";
        JOB_STALLED "qa.job.stalled" Gauge, "s", ["qa.job"],
            "How long tasks have been out, with free slots, and nothing was delivered and no result came; 0 while it moves";
        FLEET_SERVERS "qa.fleet.servers" Gauge, "{server}", ["qa.job", "qa.state"],
            "LLM servers of present workers that serve the job's model (serving), or not (other)";
        FLEET_SLOTS "qa.fleet.slots" Gauge, "{slot}", ["qa.job", "qa.state"],
            "Slots of the serving LLM servers, busy or free, as their workers last told";
        QUEUE_TASKS "qa.queue.tasks" Gauge, "{task}", ["qa.job", "qa.state"],
            "Tasks in the job's pool that are queued or running, of all jobs there";
        QUEUE_AGE "qa.queue.age" Gauge, "s", ["qa.job"],
            "Time since a result last came while tasks were published; a queue that is stuck grows old";
        CHUNKS "qa.chunks" Sum, "{chunk}", ["qa.job", "qa.outcome", "qa.reason"],
            "Results that were taken: completed, short (fewer pairs than asked for), failed with its reason, or ignored";
        PAIRS "qa.pairs" Sum, "{pair}", ["qa.job"],
            "Pairs that were taken";
        TASKS_PUBLISHED "qa.tasks.published" Sum, "{task}", ["qa.job"],
            "Tasks that were published";
        TASKS_REPUBLISHED "qa.tasks.republished" Sum, "{task}", ["qa.job"],
            "Tasks that the queue had lost and that are published again";
        SPECULATION "qa.speculation" Sum, "{task}", ["qa.job", "qa.outcome"],
            "Second rounds beside chunks that seemed stuck: started, won (answered first) or lost (for nothing)";
        JOURNAL_SYNC "qa.journal.sync.duration" Spread(FILE_SECONDS), "s", [],
            "Time to make a group of results durable";
        JOURNAL_BYTES "qa.journal.written" Sum, "By", [],
            "Bytes appended to the journal";
        SNAPSHOT_TIME "qa.snapshot.duration" Spread(FILE_SECONDS), "s", [],
            "Time to replace a document's Q&A file";
        SNAPSHOT_BYTES "qa.snapshot.written" Sum, "By", [],
            "Bytes of Q&A files written";
    }
    "qa-worker" {
        CALL_DURATION "gen_ai.client.operation.duration" Spread(CALL_SECONDS), "s",
            ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port", "error.type"],
            "Duration of model calls, also the failed ones";
        CALL_TOKENS "gen_ai.client.token.usage" Spread(TOKENS), "{token}",
            ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port", "gen_ai.token.type"],
            "Tokens of model calls, input and output";
        QUEUE_WAIT "qa.queue.wait.duration" Spread(WAIT_SECONDS), "s", [],
            "Time from a task's publication to its first delivery";
        PROCESS_DURATION "messaging.process.duration" Spread(CALL_SECONDS), "s",
            ["messaging.system", "messaging.operation.name", "messaging.destination.name", "qa.outcome"],
            "Time that a task took a slot: completed, failed, answered before, handed back or discarded";
        REDELIVERIES "qa.worker.redeliveries" Sum, "{delivery}", [],
            "Tasks that were delivered a second time or later";
        RETRIES "qa.worker.retries" Sum, "{call}", ["qa.reason"],
            "Model calls that were made again for the same chunk, by what was wrong with the one before";
        SERVER_SLOTS "qa.worker.slots" Gauge, "{slot}", ["server.address", "server.port", "qa.state"],
            "Slots of an LLM server, busy or free";
        SERVER_UP "qa.worker.server.up" Gauge, "{server}", ["server.address", "server.port"],
            "1 while the LLM server answers, else 0";
        SERVER_SPEED "qa.worker.server.speed" Gauge, "{token}/s", ["server.address", "server.port"],
            "Tokens that the LLM server generates per second, over the last 5 minutes";
    }
}

/// From now on metrics are measured; the global meter provider is there.
pub(super) fn switch_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// Whether anybody wants metrics.
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

fn meter() -> Meter {
    global::meter("qa-fleet")
}

/// A label and its value.
pub type Label = KeyValue;

impl Metric {
    fn instrument(&self) -> &Instrument {
        self.instrument.get_or_init(|| match self.kind {
            Sum => Instrument::Counter(
                meter().u64_counter(self.name).with_unit(self.unit).with_description(self.about).build(),
            ),
            Spread(bounds) => Instrument::Histogram(
                meter()
                    .f64_histogram(self.name)
                    .with_unit(self.unit)
                    .with_description(self.about)
                    .with_boundaries(bounds.to_vec())
                    .build(),
            ),
            Gauge => Instrument::Gauge,
        })
    }

    /// What Prometheus calls it.
    pub fn prometheus_name(&self) -> String {
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            "{token}/s" => "_per_second",
            _ => "",
        };
        let total = if self.kind == Sum { "_total" } else { "" };
        format!("{}{unit}{total}", self.name.replace('.', "_"))
    }

    fn are_known(&self, labels: &[Label]) -> bool {
        labels.iter().all(|label| self.labels.contains(&label.key.as_str()))
    }

    /// Counts so many more.
    pub fn add(&self, count: u64, labels: impl FnOnce() -> Vec<Label>) {
        if is_on()
            && let Instrument::Counter(counter) = self.instrument()
        {
            let labels = labels();
            debug_assert!(self.are_known(&labels), "{}: {labels:?}", self.name);
            counter.add(count, &labels);
        }
    }

    /// Takes a value of a histogram.
    pub fn record(&self, value: f64, labels: impl FnOnce() -> Vec<Label>) {
        if is_on()
            && let Instrument::Histogram(histogram) = self.instrument()
        {
            let labels = labels();
            debug_assert!(self.are_known(&labels), "{}: {labels:?}", self.name);
            histogram.record(value, &labels);
        }
    }

    /// Asks for a gauge's values whenever somebody reads them.
    pub fn observe(&'static self, values: impl Fn(&mut dyn FnMut(f64, Vec<Label>)) + Send + Sync + 'static) {
        if !is_on() {
            return;
        }
        meter()
            .f64_observable_gauge(self.name)
            .with_unit(self.unit)
            .with_description(self.about)
            .with_callback(move |observer| {
                values(&mut |value, labels| {
                    debug_assert!(self.are_known(&labels), "{}: {labels:?}", self.name);
                    observer.observe(value, &labels);
                });
            })
            .build();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_texts_are_sentences() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(
                metric.about.chars().next().is_some_and(|first| !first.is_lowercase()),
                "{}",
                metric.about
            );
            assert!(!metric.about.ends_with('.') && !metric.unit.is_empty(), "{}", metric.name);
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted(), "{}", metric.name);
            }
        }
    }
}
