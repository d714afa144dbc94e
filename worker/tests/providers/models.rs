//! Each kind of model takes what is sent to it by the table, and what is not in the table is found out.

use qa_shared::model::Reasoning;
use qa_shared::testing::fake_provider::{FakeLlm, FakeProvider, FakeProviderConfig, expected_pairs};

use crate::support::{TEXT, client, completed, every_service, task, with_model, work};

/// Models by the names under which the table knows them, with the rules of their services.
fn known_models() -> Vec<FakeProviderConfig> {
    let openai = [
        FakeLlm::gpt4_like("gpt-4.1"),
        FakeLlm::gpt35_like("gpt-3.5-turbo"),
        FakeLlm::gpt5_like("gpt-5"),
        FakeLlm::gpt51_like("gpt-5.1"),
        FakeLlm::gpt6_like("gpt-6-astra"),
        FakeLlm::gpt6_like("o4-mini"),
    ];
    let claude = [
        FakeLlm::claude_haiku("claude-haiku-4-5-20251001"),
        FakeLlm::claude_46("claude-sonnet-4-6"),
        FakeLlm::claude_adaptive("claude-opus-4-8"),
        FakeLlm::claude_sonnet_5("claude-sonnet-5"),
        FakeLlm::claude_opus_5("claude-opus-5"),
        FakeLlm::claude_opus_55("claude-opus-5-5"),
        FakeLlm::claude_old("claude-sonnet-4-20250514"),
    ];
    let gemini = [
        FakeLlm::gemini_25_flash("gemini-2.5-flash-lite"),
        FakeLlm::gemini_25_pro("gemini-2.5-pro"),
        FakeLlm::gemini_3("gemini-3-flash-preview"),
        FakeLlm::gemini_3_pro("gemini-3.1-pro-preview"),
    ];
    let mut all = Vec::new();
    all.extend(openai.map(|model| with_model(FakeProviderConfig::open_ai(), model)));
    all.extend(claude.map(|model| with_model(FakeProviderConfig::claude(), model)));
    all.extend(gemini.map(|model| with_model(FakeProviderConfig::gemini(), model)));
    all.push(with_model(FakeProviderConfig::vllm(), FakeLlm::local_thinking("Qwen/Qwen3-8B")));
    all.push(with_model(FakeProviderConfig::llama_cpp(), FakeLlm::local_thinking("qwen3-8b")));
    all
}

/// Works on one task with the service's only model; tells what the service refused.
async fn refusals(config: FakeProviderConfig, reasoning: Option<Reasoning>) -> Vec<String> {
    let (service, model) = (config.service, config.models[0].name.clone());
    let fake = FakeProvider::start(config);
    let server = client(&fake, service);
    let (pairs, spent) = completed(work(&server, &task(&model, reasoning)).await);
    assert_eq!(pairs, expected_pairs(TEXT, 3), "{model}");
    assert_eq!(spent.attempts, 1, "{model}");
    assert!(spent.usage.input_tokens > 0 && spent.usage.output_tokens > 0, "{model}: {spent:?}");
    fake.stats().refusals
}

#[tokio::test]
async fn every_service_gives_pairs_at_the_first_call() {
    for config in every_service() {
        assert_eq!(refusals(config, None).await, [""; 0]);
    }
}

#[tokio::test]
async fn models_in_the_table_are_never_asked_wrongly() {
    for config in known_models() {
        for wish in [None, Some(Reasoning::Off), Some(Reasoning::Low), Some(Reasoning::High)] {
            let model = config.models[0].name.clone();
            assert_eq!(refusals(config.clone(), wish).await, [""; 0], "{model} {wish:?}");
        }
    }
}

#[tokio::test]
async fn models_that_nobody_knows_are_found_out_once() {
    let renamed = |config: FakeProviderConfig| {
        let model = FakeLlm { name: "unheard-of".to_owned(), ..config.models[0].clone() };
        with_model(config, model)
    };
    let gemma = with_model(
        FakeProviderConfig::gemini(),
        FakeLlm { rejects: Vec::new(), ..FakeLlm::gemma("gemma-9") },
    );
    for config in known_models().into_iter().chain([gemma]).map(renamed) {
        let kind = format!("{:?}", config.models[0]);
        let service = config.service;
        let fake = FakeProvider::start(config);
        let server = client(&fake, service);
        let (pairs, _) = completed(work(&server, &task("unheard-of", None)).await);
        assert_eq!(pairs, expected_pairs(TEXT, 3), "{kind}");
        let learned = fake.stats().refusals.len();
        assert!(learned <= 4, "{kind}: {:?}", fake.stats().refusals);
        completed(work(&server, &task("unheard-of", None)).await);
        assert_eq!(fake.stats().refusals.len(), learned, "what was learned is remembered: {kind}");
    }
}

#[tokio::test]
async fn a_service_that_takes_no_schema_is_asked_for_json_and_then_by_prompt_alone() {
    for config in every_service() {
        let model = FakeLlm {
            supports_schema: false,
            supports_json_object: false,
            ..FakeLlm::new("plain").rejecting(&["tool_choice"])
        };
        let service = config.service;
        let fake = FakeProvider::start(with_model(config, model));
        let server = client(&fake, service);
        let (pairs, spent) = completed(work(&server, &task("plain", None)).await);
        assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 1), "{service:?}");
        let refused = fake.stats().refusals.len();
        assert!((1..=3).contains(&refused), "{service:?}: {:?}", fake.stats().refusals);
        completed(work(&server, &task("plain", None)).await);
        assert_eq!(fake.stats().refusals.len(), refused, "{service:?}");
    }
}

#[tokio::test]
async fn the_constant_part_of_long_prompts_is_read_from_the_cache() {
    for config in [FakeProviderConfig::open_ai(), FakeProviderConfig::claude(), FakeProviderConfig::gemini()]
    {
        let (service, model) = (config.service, config.models[0].name.clone());
        let fake = FakeProvider::start(config);
        let server = client(&fake, service);
        let mut first = task(&model, None);
        let rules = "Prefer numbers, names and dates over opinions. ".repeat(600);
        first.settings.prompt.extra_instructions = Some(rules);
        let (_, spent) = completed(work(&server, &first).await);
        assert_eq!(spent.usage.cached_tokens, 0, "{service:?}");
        let second = qa_shared::model::Task { text: format!("{TEXT} More."), ..first };
        let (_, spent) = completed(work(&server, &second).await);
        let (cached, input) = (spent.usage.cached_tokens, spent.usage.input_tokens);
        assert!(cached * 10 > input * 8, "{service:?}: {cached} of {input}");
    }
}
