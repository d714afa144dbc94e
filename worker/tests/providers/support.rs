//! Clients of the fakes, and tasks for them.

use std::sync::Arc;
use std::time::Duration;

use qa_shared::model::{FailureReason, GenerationSettings, JobId, Outcome, Pair, Provider, Reasoning, Task};
use qa_shared::model_table::{ModelTable, Service};
use qa_shared::secret::Secret;
use qa_shared::testing::fake_provider::{FAKE_KEY, FakeLlm, FakeProvider, FakeProviderConfig, FakeService};
use qa_shared::testing::samples;
use qa_worker::disposition::Limits;
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::rate_limit::PerMinute;
use qa_worker::llm::remote::{RemoteServer, RemoteSettings};
use qa_worker::process::{Processed, Processing, process};
use qa_worker::progress::{Spent, TaskProgress};

pub(crate) const TEXT: &str = "A stream stores messages until limits or acks remove them.";

/// Every fake, as tests start it.
pub(crate) fn every_service() -> Vec<FakeProviderConfig> {
    vec![
        FakeProviderConfig::open_ai(),
        FakeProviderConfig::llama_cpp(),
        FakeProviderConfig::vllm(),
        FakeProviderConfig::lm_studio(),
        FakeProviderConfig::claude(),
        FakeProviderConfig::gemini(),
    ]
}

/// A service that has this model only.
pub(crate) fn with_model(config: FakeProviderConfig, model: FakeLlm) -> FakeProviderConfig {
    FakeProviderConfig { models: vec![model], ..config }
}

pub(crate) fn client(fake: &FakeProvider, service: FakeService) -> RemoteServer {
    client_with(fake, service, Timeouts::default(), PerMinute::default())
}

pub(crate) fn client_with(
    fake: &FakeProvider,
    service: FakeService,
    timeouts: Timeouts,
    limits: PerMinute,
) -> RemoteServer {
    let (service, path) = match service {
        FakeService::OpenAi => (Service::OpenAi, "/v1"),
        FakeService::LlamaCpp | FakeService::Vllm | FakeService::LmStudio => (Service::Compatible, "/v1"),
        FakeService::Claude => (Service::Claude, ""),
        FakeService::Gemini => (Service::Gemini, ""),
    };
    let url = Secret::new(format!("{}{path}", fake.url()));
    let settings = RemoteSettings { service, url, key: Some(Secret::new(FAKE_KEY)), limits };
    RemoteServer::new(settings, Arc::new(ModelTable::default()), timeouts, None).unwrap()
}

pub(crate) fn task(model: &str, reasoning: Option<Reasoning>) -> Task {
    let key = samples::key(&JobId::from_random(1), 0);
    let settings = samples::settings(Provider::OpenAi, model);
    let settings = GenerationSettings { temperature: 0.3, max_tokens: 4000, reasoning, ..settings };
    Task { settings, ..samples::task(&Provider::OpenAi.pool(model), key, TEXT) }
}

/// Works on a task with waits that tests can wait for.
pub(crate) async fn work(server: &RemoteServer, task: &Task) -> Processed {
    let limits = Limits {
        attempts: 3,
        holds: 2,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
    };
    let num_ctx = u32::MAX;
    let model = task.settings.model.clone();
    process(
        task,
        server,
        &Processing { model, num_ctx, longest_ctx: None, limits, deadline: None },
        &mut TaskProgress::default(),
    )
    .await
}

pub(crate) fn completed(processed: Processed) -> (Vec<Pair>, Spent) {
    match processed {
        Processed::Result { outcome: Outcome::Completed { pairs }, spent, .. } => (pairs, spent),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn failed(processed: Processed) -> (FailureReason, String, Spent) {
    match processed {
        Processed::Result { outcome: Outcome::Failed { failure }, spent, .. } => {
            (failure.reason, failure.message, spent)
        }
        other => panic!("{other:?}"),
    }
}
