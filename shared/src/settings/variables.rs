//! The one table of every environment variable that either program reads.
//!
//! It drives reading (a variable that is not here cannot be named), the list at the end of `--help` and
//! `config.env.example`. It must not know flags or rules.

use std::fmt::Write as _;

/// One of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `qa-coordinator`
    Coordinator,
    /// `qa-worker`
    Worker,
}

/// Who reads a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    Coordinator,
    Worker,
    Both,
}

use Readers::{Both, Coordinator, Worker};

/// An environment variable of ours. Only this table makes them.
#[derive(Debug)]
pub struct Variable {
    name: &'static str,
    group: &'static str,
    readers: Readers,
    default: Option<&'static str>,
    example: &'static str,
    secret: bool,
    doc: &'static str,
}

impl Variable {
    /// The name in the environment.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What holds when it is set nowhere, in the notation of the variable.
    pub const fn default(&self) -> Option<&'static str> {
        self.default
    }

    /// A value as a user could write it.
    pub fn example(&self) -> &'static str {
        self.default.unwrap_or(self.example)
    }

    /// Whether its value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// What it is for, in one line.
    pub fn doc(&self) -> &'static str {
        self.doc
    }

    /// Whether this program reads it.
    pub fn is_read_by(&self, program: Program) -> bool {
        match self.readers {
            Both => true,
            Coordinator => program == Program::Coordinator,
            Worker => program == Program::Worker,
        }
    }
}

macro_rules! variables {
    ($($group:literal { $($name:ident, $readers:ident, $default:expr, $example:literal, $secret:literal, $doc:literal;)+ })+) => {
        $($(
            #[doc = $doc]
            pub static $name: Variable = Variable {
                name: stringify!($name),
                group: $group,
                readers: $readers,
                default: $default,
                example: $example,
                secret: $secret,
                doc: $doc,
            };
        )+)+

        /// Every variable, in the order in which they are shown.
        pub static ALL: &[&Variable] = &[$($(&$name),+),+];
    };
}

variables! {
    "The main job" {
        GENERATOR_PROVIDER, Coordinator, Some("openai"), "", false,
            "Who generates: openai (also any server with its API), claude, gemini or local (Ollama)";
        GENERATOR_MODEL, Coordinator, None, "qwen3:14b", false,
            "The model's name";
        GENERATOR_PROCESS_DIR, Coordinator, Some("/data/chunks"), "", false,
            "Directory of the chunk files (NAME_chunks.json)";
        GENERATOR_OUTPUT_DIR, Coordinator, Some("/data/qa_results"), "", false,
            "Directory of the Q&A files (NAME_qa.json)";
        GENERATOR_OUTPUT_FILE, Coordinator, Some("/data/results/training_data.json"), "", false,
            "The combined file";
        GENERATOR_QUESTIONS_PER_CHUNK, Coordinator, Some("3"), "", false,
            "Pairs asked for per chunk, 1 to 50";
        GENERATOR_TEMPERATURE, Coordinator, Some("0.7"), "", false,
            "Sampling temperature, 0 to 2";
        GENERATOR_MAX_TOKENS, Coordinator, Some("2000"), "", false,
            "Ceiling of one answer in tokens; allow about 150 per pair";
        QA_REASONING, Coordinator, None, "low", false,
            "How much the model reasons first: off, minimal, low, medium or high; unset: as little as it allows";
        GENERATOR_RESUME, Coordinator, Some("false"), "", false,
            "Go on with what is in the output directory (--no-resume and --restart beat it)";
        GENERATOR_BATCH_PROCESSING, Coordinator, Some("false"), "", false,
            "Accepted for the Python program's sake; changes nothing";
        QA_SYSTEM_MESSAGE, Coordinator, None, "You write exam questions for engineers.", false,
            "Replaces the built-in system message";
        QA_EXTRA_INSTRUCTIONS, Coordinator, None, "Don't ask about prices.", false,
            "Added to the instructions of the prompt";
        QA_PROMPT_TEMPLATE_FILE, Coordinator, None, "prompt.txt", false,
            "File with a prompt of your own: {text}, {num_questions}, {extra_instructions}; {{ and }} are braces";
        QA_LOG_DIR, Coordinator, None, "/data/logs", false,
            "Also write the log of unusable answers into this directory";
        QA_ON_FINISH, Coordinator, None, "sh tell-me.sh", false,
            "Command for /bin/sh at the end of a run; it finds the outcome in QA_OUTCOME, QA_REPORT and others";
    }
    "Ollama" {
        OLLAMA_BASE_URL, Both, Some("http://127.0.0.1:11434"), "", false,
            "Address of the Ollama server, or several separated by commas; on a fleet the workers read it";
        OLLAMA_API_KEY, Both, None, "your_ollama_api_key_here", true,
            "Key for Ollama behind a gateway, sent as a bearer's to every Ollama server whose address holds no USER:PASSWORD@";
        OLLAMA_API_KEY_FILE, Both, None, "/run/secrets/ollama-key", false,
            "File that holds it";
        OLLAMA_TOP_K, Coordinator, None, "40", false,
            "Sampling: only the K most likely tokens (40 if unset)";
        OLLAMA_TOP_P, Coordinator, None, "0.9", false,
            "Sampling: only the most likely tokens that sum up to P, 0 to 1 (0.9 if unset)";
        OLLAMA_REPEAT_PENALTY, Coordinator, None, "1.1", false,
            "Penalty on repetition, above 0 (1.0, none, if unset)";
        OLLAMA_NUM_PREDICT, Coordinator, None, "2000", false,
            "Ceiling of one answer in tokens; wins over GENERATOR_MAX_TOKENS";
        OLLAMA_NUM_CTX, Coordinator, None, "8192", false,
            "Context of every request in tokens; unset: what the chunks need, and larger ones for the few that need far more";
        OLLAMA_KEEP_ALIVE, Coordinator, None, "30m", false,
            "How long a model stays loaded after a request, as Ollama writes it: 10m, 3600, -1 for ever (30m if unset)";
        OLLAMA_STOP, Coordinator, None, "[\"<|im_end|>\"]", false,
            "Texts that end an answer: a JSON list, or one text";
    }
    "OpenAI, Claude, Gemini and servers with OpenAI's API" {
        QA_API_KEY, Coordinator, None, "your_api_key_here", true,
            "Key of the provider, whichever it is; wins over the ones below";
        OPENAI_API_KEY, Both, None, "your_openai_api_key_here", true,
            "Key of provider openai; on a fleet the workers read keys";
        OPENAI_API_KEY_FILE, Both, None, "/run/secrets/openai-key", false,
            "File that holds it";
        OPENAI_BASE_URL, Both, None, "http://gpu1:8000/v1", false,
            "Address of a server with OpenAI's API (vLLM, llama.cpp, LM Studio), or several separated by commas; unset: OpenAI's own service";
        ANTHROPIC_API_KEY, Both, None, "your_anthropic_api_key_here", true,
            "Key of provider claude";
        ANTHROPIC_API_KEY_FILE, Both, None, "/run/secrets/anthropic-key", false,
            "File that holds it";
        CLAUDE_API_KEY, Both, None, "your_claude_api_key_here", true,
            "Another name of ANTHROPIC_API_KEY; where both are set, that one counts";
        ANTHROPIC_BASE_URL, Both, Some("https://api.anthropic.com"), "", false,
            "Address of Anthropic's service, or of a gateway to it";
        GEMINI_API_KEY, Both, None, "your_gemini_api_key_here", true,
            "Key of provider gemini";
        GEMINI_API_KEY_FILE, Both, None, "/run/secrets/gemini-key", false,
            "File that holds it";
        GOOGLE_API_KEY, Both, None, "your_google_api_key_here", true,
            "Another name of GEMINI_API_KEY; where both are set, that one counts";
        GEMINI_BASE_URL, Both, Some("https://generativelanguage.googleapis.com"), "", false,
            "Address of Google's service, or of a gateway to it";
        QA_REQUESTS_PER_MINUTE, Both, None, "openai=500,claude=50", false,
            "Requests per minute that an account may take: one number for each, or PROVIDER=N separated by commas; the service's own headers count as well";
        QA_TOKENS_PER_MINUTE, Both, None, "openai=200000", false,
            "The same for tokens, input and output together";
        QA_ACCOUNT_CONCURRENCY, Both, Some("auto"), "", false,
            "Requests in flight per provider account: auto, which is as many as its limits allow, up to 64, or a number from 1 to 256";
    }
    "The queue (NATS JetStream)" {
        QA_NATS_URL, Both, None, "nats://10.0.0.5:4222", false,
            "Address of the NATS server, or several separated by commas (nats://, tls://, ws:// or wss://); unset: the coordinator runs on this machine alone and a worker tries nats://127.0.0.1:4222";
        QA_NATS_TOKEN, Both, None, "your_nats_token_here", true,
            "Token for the NATS server";
        QA_NATS_TOKEN_FILE, Both, None, "/run/secrets/nats-token", false,
            "File that holds the token";
        QA_NATS_USER, Both, None, "qa-fleet", false,
            "User name for the NATS server";
        QA_NATS_PASSWORD, Both, None, "your_nats_password_here", true,
            "Password of QA_NATS_USER";
        QA_NATS_PASSWORD_FILE, Both, None, "/run/secrets/nats-password", false,
            "File that holds the password";
        QA_NATS_CREDS, Both, None, "/etc/qa-fleet/nats.creds", false,
            "Credentials file (JWT and seed)";
        QA_NATS_NKEY_SEED_FILE, Both, None, "/etc/qa-fleet/nats.nk", false,
            "File that holds an NKey seed";
        QA_NATS_CA, Both, None, "/etc/qa-fleet/ca.pem", false,
            "Certificates that the server's certificate is checked against (PEM)";
        QA_NATS_CERT, Both, None, "/etc/qa-fleet/client.pem", false,
            "Client certificate (PEM)";
        QA_NATS_KEY, Both, None, "/etc/qa-fleet/client.key", false,
            "Key of the client certificate (PEM)";
        QA_NATS_SERVER, Coordinator, None, "/usr/local/bin/nats-server", false,
            "The nats-server program for local mode; unset: found on PATH";
        QA_NATS_REPLICAS, Coordinator, None, "3", false,
            "On how many servers of a cluster each stream is kept, 1 to 5; unset: 1 for new streams, and no change of those that are there";
        QA_NATS_MAX_BYTES, Coordinator, None, "500M", false,
            "How many bytes each of the five streams may hold, at least 1M, for accounts that demand a size; unset: no limit for new streams, and no change of those that are there";
        QA_NATS_DOMAIN, Both, None, "hub", false,
            "JetStream domain of the streams, for programs that connect to a leaf node; unset: that of the server";
        QA_ACK_WAIT, Both, Some("60s"), "", false,
            "How long a task may go without a sign of life before another worker gets it";
        QA_PRESENCE_AGE, Both, Some("30s"), "", false,
            "How long a silent worker counts as present, and a silent coordinator as running; the same for all processes";
    }
    "The fleet" {
        QA_POOL, Both, None, "night-shift", false,
            "Pool of the tasks instead of the model's own; a worker may name several, separated by commas";
        QA_MAX_FAILURE_RATE, Coordinator, Some("20"), "", false,
            "Stop when more than this percentage of the last 100 chunks failed, or `off`";
        QA_WAIT, Coordinator, Some("false"), "", false,
            "Local mode: keep waiting when no LLM server can serve, instead of ending with exit code 7";
        QA_NO_SERVER_TIMEOUT, Coordinator, Some("2m"), "", false,
            "How long a local run waits when no LLM server can serve for a reason that stays (memory, subscription, unknown model, credentials, nothing listens)";
        QA_SPECULATION, Coordinator, Some("true"), "", false,
            "At the end of a run, give up to 3 % of the chunks that seem stuck to a free server too; the first answer counts";
        QA_CONCURRENCY, Both, Some("auto"), "", false,
            "Requests in flight per server of your own: auto, which measures how many are best and follows when that changes, a number from 1 to 256, or one of these per server separated by commas";
        QA_PROVIDERS, Worker, None, "local", false,
            "Serve these providers only; unset: each whose key or address is set, and Ollama on this machine if there is none";
        QA_MODELS, Worker, None, "qwen3:14b,llama3=llama3.1:8b", false,
            "Serve these models only; NAME=SERVED serves NAME with the server's model SERVED";
        QA_LLM_CA, Both, None, "/etc/qa-fleet/llm-ca.pem", false,
            "Certificates of authorities to trust besides the system's for LLM servers with https (PEM); on a fleet the workers read it";
        QA_DRAIN_TIMEOUT, Both, Some("30s"), "", false,
            "How long a stopping worker may finish its tasks";
        QA_TASK_TIMEOUT, Both, Some("30m"), "", false,
            "How long a task may take with all its attempts";
        QA_REQUEST_TIMEOUT, Both, Some("10m"), "", false,
            "How long one model call may take";
        QA_IDLE_TIMEOUT, Both, Some("2m"), "", false,
            "How long a model call may stall between two tokens";
        QA_ATTEMPTS, Both, Some("3"), "", false,
            "Model calls per task at most, 1 to 20";
    }
    "Cost and budget" {
        QA_MODEL_TABLE, Both, None, "models.json", false,
            "File with rows of your own for the table of models: prices and what a model can do";
        QA_MAX_COST, Coordinator, None, "5.00", false,
            "Stop before the job has cost more than this many US dollars; all its runs count";
        QA_MAX_TOKENS_TOTAL, Coordinator, None, "1000000", false,
            "Stop before the job has used more than this many tokens, input and output together; all its runs count";
    }
    "Logs" {
        QA_LOG_FORMAT, Both, Some("human"), "", false,
            "human or json";
        QA_TRACE_URL, Coordinator, None, "http://jaeger:16686/trace/{trace_id}", false,
            "Where a trace can be looked at, for links in summaries: an address with {trace_id} in it";
        RUST_LOG, Both, Some("info"), "", false,
            "What is logged, for example debug or info,qa_worker=debug";
    }
    "Telemetry" {
        QA_METRICS_LISTEN, Both, None, "127.0.0.1:9464", false,
            "Serve /metrics (for Prometheus), /healthz and /readyz at this address";
        OTEL_EXPORTER_OTLP_ENDPOINT, Both, None, "http://127.0.0.1:4318", false,
            "Address of an OpenTelemetry collector; traces and metrics are sent there. Unset: nothing is sent";
        OTEL_EXPORTER_OTLP_PROTOCOL, Both, Some("http/protobuf"), "", false,
            "http/protobuf (usually port 4318) or grpc (usually port 4317)";
        OTEL_EXPORTER_OTLP_HEADERS, Both, None, "authorization=Bearer%20my-token", true,
            "Headers for the collector: NAME=VALUE, separated by commas, values percent-encoded";
        OTEL_EXPORTER_OTLP_TIMEOUT, Both, Some("10000"), "", false,
            "How long the collector may take for one request, in milliseconds";
        OTEL_EXPORTER_OTLP_COMPRESSION, Both, Some("none"), "", false,
            "none or gzip";
        OTEL_EXPORTER_OTLP_CERTIFICATE, Both, None, "/etc/qa-fleet/collector-ca.pem", false,
            "Certificates of the authorities to trust for the collector instead of the system's (PEM)";
        OTEL_TRACES_EXPORTER, Both, None, "otlp", false,
            "otlp or none (otlp where an address is set)";
        OTEL_METRICS_EXPORTER, Both, None, "otlp", false,
            "otlp or none (otlp where an address is set)";
        OTEL_LOGS_EXPORTER, Both, Some("none"), "", false,
            "otlp or none";
        OTEL_SDK_DISABLED, Both, Some("false"), "", false,
            "Send nothing, whatever else is set";
        OTEL_SERVICE_NAME, Both, None, "qa-night-shift", false,
            "Name of this service (qa-coordinator or qa-worker if unset)";
        OTEL_RESOURCE_ATTRIBUTES, Both, None, "deployment.environment.name=lab", false,
            "Attributes of everything that is sent: NAME=VALUE, separated by commas, values percent-encoded";
        OTEL_TRACES_SAMPLER, Both, Some("parentbased_always_on"), "", false,
            "Which traces are sent: always_on, always_off or traceidratio, also with parentbased_ before it; the coordinator's decision holds for a whole trace";
        OTEL_TRACES_SAMPLER_ARG, Both, None, "0.1", false,
            "The share of traces that traceidratio sends, 0 to 1 (1 if unset)";
        OTEL_BSP_SCHEDULE_DELAY, Both, Some("5000"), "", false,
            "Longest time between two batches of spans, in milliseconds";
        OTEL_BSP_MAX_QUEUE_SIZE, Both, Some("2048"), "", false,
            "Spans that may wait; more are dropped";
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE, Both, Some("512"), "", false,
            "Spans in one batch at most";
        OTEL_METRIC_EXPORT_INTERVAL, Both, Some("60000"), "", false,
            "Time between two reports of metrics, in milliseconds";
        QA_TRACE_CONTENT, Both, Some("false"), "", false,
            "Write prompts and answers into the spans of model calls, 4 KiB of each";
    }
    "Telemetry of one signal" {
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, Both, None, "http://127.0.0.1:4318/v1/traces", false,
            "Address for traces, taken as it is: with http/protobuf it ends in /v1/traces";
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, Both, None, "http/protobuf", false,
            "OTEL_EXPORTER_OTLP_PROTOCOL for traces only";
        OTEL_EXPORTER_OTLP_TRACES_HEADERS, Both, None, "authorization=Bearer%20my-token", true,
            "OTEL_EXPORTER_OTLP_HEADERS for traces only";
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, Both, None, "10000", false,
            "OTEL_EXPORTER_OTLP_TIMEOUT for traces only";
        OTEL_EXPORTER_OTLP_TRACES_COMPRESSION, Both, None, "gzip", false,
            "OTEL_EXPORTER_OTLP_COMPRESSION for traces only";
        OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE, Both, None, "/etc/qa-fleet/collector-ca.pem", false,
            "OTEL_EXPORTER_OTLP_CERTIFICATE for traces only";
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, Both, None, "http://127.0.0.1:4318/v1/metrics", false,
            "Address for metrics, taken as it is: with http/protobuf it ends in /v1/metrics";
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL, Both, None, "http/protobuf", false,
            "OTEL_EXPORTER_OTLP_PROTOCOL for metrics only";
        OTEL_EXPORTER_OTLP_METRICS_HEADERS, Both, None, "authorization=Bearer%20my-token", true,
            "OTEL_EXPORTER_OTLP_HEADERS for metrics only";
        OTEL_EXPORTER_OTLP_METRICS_TIMEOUT, Both, None, "10000", false,
            "OTEL_EXPORTER_OTLP_TIMEOUT for metrics only";
        OTEL_EXPORTER_OTLP_METRICS_COMPRESSION, Both, None, "gzip", false,
            "OTEL_EXPORTER_OTLP_COMPRESSION for metrics only";
        OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE, Both, None, "/etc/qa-fleet/collector-ca.pem", false,
            "OTEL_EXPORTER_OTLP_CERTIFICATE for metrics only";
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, Both, None, "http://127.0.0.1:4318/v1/logs", false,
            "Address for logs, taken as it is: with http/protobuf it ends in /v1/logs";
        OTEL_EXPORTER_OTLP_LOGS_PROTOCOL, Both, None, "http/protobuf", false,
            "OTEL_EXPORTER_OTLP_PROTOCOL for logs only";
        OTEL_EXPORTER_OTLP_LOGS_HEADERS, Both, None, "authorization=Bearer%20my-token", true,
            "OTEL_EXPORTER_OTLP_HEADERS for logs only";
        OTEL_EXPORTER_OTLP_LOGS_TIMEOUT, Both, None, "10000", false,
            "OTEL_EXPORTER_OTLP_TIMEOUT for logs only";
        OTEL_EXPORTER_OTLP_LOGS_COMPRESSION, Both, None, "gzip", false,
            "OTEL_EXPORTER_OTLP_COMPRESSION for logs only";
        OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE, Both, None, "/etc/qa-fleet/collector-ca.pem", false,
            "OTEL_EXPORTER_OTLP_CERTIFICATE for logs only";
    }
}

/// Variables of this group repeat those of another one: `--help` sums them up.
const ONE_SIGNAL: &str = "Telemetry of one signal";

/// The list of a program's variables at the end of its `--help`.
pub fn help(program: Program) -> String {
    let mut text = String::from(
        "Environment variables (also read from the env file; a flag beats the environment, the environment beats \
         the file):\n",
    );
    let mut group = "";
    let variables = ALL.iter().filter(|variable| variable.is_read_by(program));
    for variable in variables.filter(|variable| variable.group != ONE_SIGNAL) {
        if variable.group != group {
            group = variable.group;
            write!(text, "\n  {group}\n").expect("a String takes every text");
        }
        let default = variable.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
        // The description has a line of its own, since a line that is wrapped keeps its indent.
        writeln!(text, "    {}\n          {}{default}", variable.name, variable.doc)
            .expect("a String takes every text");
    }
    text.push_str(
        "\n  The variables OTEL_EXPORTER_OTLP_* also exist for one signal, with TRACES_, METRICS_ or LOGS_ after OTLP_; \
         config.env.example has them all.",
    );
    text
}

/// The text of `config.env.example`: every variable, commented out, with its default or an example.
pub fn example_file() -> String {
    let mut text = String::from(
        "# Settings of qa-coordinator and qa-worker. Copy this file to config.env and uncomment what you change.\n\
         #\n\
         # A flag beats the process environment, the environment beats this file. The first file found is read:\n\
         # the one given by --env-file, ./config.env, ./.env. A config.env of the Python program works as it is.\n\
         # Text after ` #` is a comment here. Docker's --env-file and systemd do NOT strip such comments.\n\
         # Empty values and placeholders such as your_openai_api_key_here count as unset.\n",
    );
    let mut group = "";
    for variable in ALL {
        if variable.group != group {
            group = variable.group;
            write!(text, "\n\n# ---- {group} ----\n").expect("a String takes every text");
        }
        let readers = match variable.readers {
            Coordinator => "coordinator",
            Worker => "worker",
            Both => "coordinator, worker",
        };
        write!(text, "\n# {} ({readers})\n#{}={}\n", variable.doc, variable.name, variable.example())
            .expect("a String takes every text");
    }
    text
}
