//! The Ollama client against a server that behaves as real ones do: what is sent, and what good answers and
//! errors become. Broken and slow servers are in `ollama_faults.rs`.

#![expect(clippy::unwrap_used, reason = "a test whose preparation fails has to fail")]

use qa_shared::model::{OllamaOptions, Usage};
use qa_shared::testing::fake_ollama::{
    Behaviour, FakeConfig, FakeModel, FakeOllama, PromptCounts, expected_pair,
};
use qa_worker::answer::parse;
use qa_worker::llm::http::Timeouts;
use qa_worker::llm::ollama::OllamaServer;
use qa_worker::llm::{ChatReply, ChatRequest, Finish, LlmError, LlmErrorKind, LlmServer, Message, Role};
use qa_worker::prompt::answer_schema;
use serde_json::json;

const MODEL: &str = "qwen3:8b";

fn client(fake: &FakeOllama) -> OllamaServer {
    OllamaServer::new(&fake.url(), Timeouts::default(), None).unwrap()
}

fn request(text: &str) -> ChatRequest {
    ChatRequest {
        model: MODEL.to_owned(),
        messages: vec![
            Message::new(Role::System, "You write pairs."),
            Message::new(Role::User, format!("Write 2 pairs.\n<chunk>\n{text}\n</chunk>")),
        ],
        schema: Some(answer_schema(2)),
        temperature: 0.3,
        max_output: 500,
        reasoning: None,
        num_ctx: 8192,
        sampling: OllamaOptions::default(),
        seed: None,
        repetitions: 0,
    }
}

fn of_model(model: &str) -> ChatRequest {
    ChatRequest { model: model.to_owned(), ..request("A") }
}

fn with_models(models: Vec<FakeModel>) -> FakeOllama {
    FakeOllama::start(FakeConfig { models, ..FakeConfig::default() })
}

async fn ask(fake: &FakeOllama) -> Result<ChatReply, LlmError> {
    client(fake).chat(&request("A stream stores messages.")).await
}

#[tokio::test]
async fn an_answer_arrives_with_its_counts() {
    let fake = FakeOllama::start(FakeConfig::default());
    let reply = ask(&fake).await.unwrap();
    let pairs = parse(&reply.content, 2, &[]).pairs;
    assert_eq!(pairs, [1, 2].map(|n| expected_pair("A stream stores messages.", n)));
    assert_eq!(reply.finish, Finish::Stop);
    assert_eq!(u64::from(reply.prompt_tokens.unwrap()), reply.usage.input_tokens);
    assert!(reply.usage.output_tokens > 10 && reply.usage.generation_ms > 0, "{:?}", reply.usage);
}

#[tokio::test]
async fn every_option_is_explicit_in_the_request() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    server.chat(&request("A")).await.unwrap();
    let body = fake.stats().last_body();
    assert_eq!(
        body["options"],
        json!({
            "num_ctx": 8192, "num_predict": 500, "temperature": 0.3, "top_p": 0.9, "top_k": 40, "min_p": 0.0,
            "repeat_penalty": 1.0,
        })
    );
    for (field, value) in [
        ("stream", json!(true)),
        ("truncate", json!(false)),
        ("shift", json!(false)),
        ("keep_alive", json!("30m")),
        ("format", answer_schema(2)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    assert_eq!(body.get("think"), None, "a model that does not reason gets no think");

    let sampling = OllamaOptions {
        top_k: Some(7),
        top_p: Some(0.5),
        repeat_penalty: Some(1.2),
        num_predict: Some(9999),
        stop: vec!["<END>".to_owned()],
        ..OllamaOptions::default()
    };
    let users = ChatRequest { sampling, seed: Some(42), schema: None, ..request("A") };
    server.chat(&users).await.unwrap();
    let body = fake.stats().last_body();
    assert_eq!(
        body["options"],
        json!({
            "num_ctx": 8192, "num_predict": 500, "temperature": 0.3, "top_p": 0.5, "top_k": 7, "min_p": 0.0,
            "repeat_penalty": 1.2, "seed": 42, "stop": ["<END>"],
        })
    );
    assert_eq!(body.get("format"), None);
}

#[tokio::test]
async fn a_single_object_is_accepted_where_a_stream_was_asked_for() {
    let fake = FakeOllama::start(FakeConfig::default());
    let streamed = ask(&fake).await.unwrap();
    fake.fault_next(Behaviour::Single);
    let mut single = ask(&fake).await.unwrap();
    // How long it took is measured, and differs.
    let Usage { load_ms, prompt_ms, generation_ms, .. } = streamed.usage;
    single.usage = Usage { load_ms, prompt_ms, generation_ms, ..single.usage };
    assert_eq!(single, streamed);
}

#[tokio::test]
async fn an_answer_at_the_output_ceiling_is_cut_and_says_so() {
    let fake = FakeOllama::start(FakeConfig::default());
    let reply = client(&fake).chat(&ChatRequest { max_output: 20, ..request("A") }).await.unwrap();
    assert_eq!((reply.finish, reply.usage.output_tokens), (Finish::Length, 20));
}

#[tokio::test]
async fn an_unusual_end_is_passed_on() {
    let fake = FakeOllama::start(FakeConfig::default());
    fake.fault_next(Behaviour::DoneReason("load".to_owned()));
    assert_eq!(ask(&fake).await.unwrap().finish, Finish::Other("load".to_owned()));
    fake.fault_next(Behaviour::DoneReason(String::new()));
    assert_eq!(ask(&fake).await.unwrap().finish, Finish::Other("no reason".to_owned()));
}

#[tokio::test]
async fn reasoning_is_turned_off_where_the_model_has_it() {
    let fake = with_models(vec![FakeModel::thinking("qwen3:14b"), FakeModel::gpt_oss("gpt-oss:20b")]);
    let server = client(&fake);
    let reply = server.chat(&of_model("qwen3:14b")).await.unwrap();
    assert_eq!(reply.thinking, None);
    assert_eq!(fake.stats().last_body()["think"], json!(false));

    let reply = server.chat(&of_model("gpt-oss:20b")).await.unwrap();
    assert!(reply.thinking.is_some() && !reply.content.is_empty());
    assert_eq!(fake.stats().last_body()["think"], json!("low"));
}

#[tokio::test]
async fn reasoning_that_eats_the_output_ceiling_leaves_an_empty_cut_answer() {
    let fake = with_models(vec![FakeModel::gpt_oss("gpt-oss:20b")]);
    let tight = ChatRequest { max_output: 5, ..of_model("gpt-oss:20b") };
    let reply = client(&fake).chat(&tight).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.finish), ("", Finish::Length));
}

#[tokio::test]
async fn a_missing_model_says_how_to_pull_it() {
    let fake = FakeOllama::start(FakeConfig::default());
    let error = client(&fake).chat(&of_model("llama3:70b")).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::ModelNotFound);
    assert!(error.message.contains("ollama pull llama3:70b"), "{error}");
    assert!(error.message.contains(&fake.url()), "{error}");
    let error = client(&fake).warm_up("llama3:70b", 4096).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::ModelNotFound);
}

#[tokio::test]
async fn a_model_that_vanished_between_two_calls_is_missing() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    server.chat(&request("A")).await.unwrap();
    fake.reconfigure(|config| config.models.clear());
    assert_eq!(server.chat(&request("A")).await.unwrap_err().kind, LlmErrorKind::ModelNotFound);
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_not_cut() {
    let fake = FakeOllama::start(FakeConfig::default());
    let long = ChatRequest { num_ctx: 1000, ..request(&"word ".repeat(2000)) };
    let error = client(&fake).chat(&long).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::PromptTooLong);
    assert!(error.message.contains("exceeds the available context size (1000 tokens)"), "{error}");
}

/// The fakes count four characters as a token; a raised context makes room for twice as many.
#[tokio::test]
async fn a_context_that_is_too_small_is_raised_once_for_all_requests() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    let of = |words: usize| ChatRequest { num_ctx: 1000, ..request(&"word ".repeat(words)) };
    let reply = server.chat(&of(1000)).await.unwrap();
    assert!(reply.prompt_tokens.unwrap() > 1000);
    server.chat(&of(10)).await.unwrap();
    server.warm_up(MODEL, 1000).await.unwrap();
    let contexts: Vec<u64> =
        fake.stats().bodies.iter().map(|body| body["options"]["num_ctx"].as_u64().unwrap()).collect();
    assert_eq!(contexts, [1000, 2000, 2000]);
    assert_eq!(fake.stats().loads.len(), 2, "no reload but for the raise: {:?}", fake.stats().loads);

    let error = server.chat(&of(1800)).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::PromptTooLong);
    assert!(error.message.contains("not raised this far"), "{error}");
}

/// A long chunk with a larger context than all others.
#[tokio::test]
async fn the_context_of_one_request_does_not_raise_that_of_all() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    server.warm_up(MODEL, 1000).await.unwrap();
    let apart = ChatRequest { num_ctx: 3000, ..request(&"word ".repeat(3000)) };
    assert_eq!(server.chat(&apart).await.unwrap_err().kind, LlmErrorKind::PromptTooLong);
    server.chat(&ChatRequest { num_ctx: 1000, ..request("A") }).await.unwrap();
    assert_eq!(fake.stats().last_body()["options"]["num_ctx"], json!(1000));
}

#[tokio::test]
async fn a_context_that_the_user_fixed_is_not_raised() {
    let fake = FakeOllama::start(FakeConfig::default());
    let sampling = OllamaOptions { num_ctx: Some(1000), ..OllamaOptions::default() };
    let long = ChatRequest { num_ctx: 1000, sampling, ..request(&"word ".repeat(1000)) };
    let error = client(&fake).chat(&long).await.unwrap_err();
    assert_eq!((error.kind, fake.stats().chat_calls), (LlmErrorKind::PromptTooLong, 1));
    assert!(error.message.contains("--ollama-num-ctx"), "{error}");
}

#[tokio::test]
async fn a_context_is_not_raised_beyond_the_model() {
    let fake = with_models(vec![FakeModel { context_length: 1000, ..FakeModel::new(MODEL) }]);
    let long = ChatRequest { num_ctx: 1000, ..request(&"word ".repeat(1000)) };
    let error = client(&fake).chat(&long).await.unwrap_err();
    assert_eq!((error.kind, fake.stats().chat_calls), (LlmErrorKind::PromptTooLong, 1));
    assert!(error.message.contains("takes no more than 1000 tokens"), "{error}");
}

#[tokio::test]
async fn a_server_that_cuts_the_prompt_silently_is_found_out() {
    for (counts, count) in [(PromptCounts::CutToContext, 4096), (PromptCounts::CutToHalf, 2050)] {
        let fake = FakeOllama::start(FakeConfig { counts, ..FakeConfig::default() });
        let server = client(&fake);
        let of = |times: usize| {
            let text = "a consumer acknowledges its message. ".repeat(times);
            ChatRequest { num_ctx: 4096, ..request(&text) }
        };
        server.chat(&of(40)).await.unwrap();
        for (times, calls) in [(700, 3), (900, 4)] {
            let error = server.chat(&of(times)).await.unwrap_err();
            assert_eq!(error.kind, LlmErrorKind::PromptTooLong);
            let said = format!("cut the prompt: it used {count} tokens of it, with a context of 4096");
            assert!(error.message.contains(&said), "{error}");
            assert!(error.usage.input_tokens >= count, "what the refused answer cost is recorded");
            assert_eq!(fake.stats().chat_calls, calls, "one more call settles it, and only once");
        }
        server.chat(&of(50)).await.unwrap();
    }
}

#[tokio::test]
async fn a_whole_prompt_with_the_count_of_a_cut_one_is_answered() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    let empty = ChatRequest { num_ctx: 4096, ..request("") };
    let around = server.chat(&empty).await.unwrap().prompt_tokens.unwrap();
    for half in [2048, 2050] {
        // Four characters are a token here.
        let text = "abc ".repeat(usize::try_from(half - around).unwrap());
        let reply = server.chat(&ChatRequest { num_ctx: 4096, ..request(&text) }).await.unwrap();
        assert_eq!(reply.prompt_tokens, Some(half));
    }
    assert_eq!(fake.stats().chat_calls, 4, "one suspicion is enough");
}

#[tokio::test]
async fn counts_that_cannot_be_used_are_estimated() {
    let odd = [PromptCounts::Constant(1), PromptCounts::Constant(10), PromptCounts::Missing];
    for counts in odd {
        let fake = FakeOllama::start(FakeConfig { counts, ..FakeConfig::default() });
        let server = client(&fake);
        for times in [100, 200] {
            let usage =
                server.chat(&request(&"a consumer acknowledges. ".repeat(times))).await.unwrap().usage;
            let least = u64::try_from(times * 5).unwrap();
            assert!(usage.input_tokens > least && usage.input_tokens < 4 * least, "{counts:?}: {usage:?}");
            assert_eq!(usage.estimated_input_tokens, usage.input_tokens);
            assert_eq!(usage.estimated_output_tokens, usage.output_tokens);
        }
    }
}

/// One version counted only what it had not computed before.
#[tokio::test]
async fn the_counts_of_ollama_0_30_0_are_estimated() {
    let config = FakeConfig { version: "0.30.0".to_owned(), ..FakeConfig::default() };
    let usage = ask(&FakeOllama::start(config)).await.unwrap().usage;
    assert!(usage.estimated_input_tokens > 0 && usage.input_tokens == usage.estimated_input_tokens);
}

#[tokio::test]
async fn a_refused_schema_is_given_up_once_and_remembered() {
    let fake = FakeOllama::start(FakeConfig { refuse_schema: true, ..FakeConfig::default() });
    let server = client(&fake);
    server.chat(&request("A")).await.unwrap();
    server.chat(&request("B")).await.unwrap();
    let formats: Vec<bool> = fake.stats().bodies.iter().map(|body| body["format"].is_object()).collect();
    assert_eq!(formats, [true, false, false]);
    assert_eq!(fake.stats().last_body()["format"], json!("json"));
}

#[tokio::test]
async fn a_server_older_than_schemas_is_asked_for_plain_json() {
    let fake = FakeOllama::start(FakeConfig { version: "0.4.7".to_owned(), ..FakeConfig::default() });
    ask(&fake).await.unwrap();
    let stats = fake.stats();
    assert_eq!((stats.chat_calls, &stats.last_body()["format"]), (1, &json!("json")));
}

#[tokio::test]
async fn a_warm_up_loads_with_the_options_of_the_calls_that_follow() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    server.warm_up(MODEL, 8192).await.unwrap();
    server.chat(&request("A")).await.unwrap();
    server.chat(&request("B")).await.unwrap();
    let stats = fake.stats();
    assert_eq!((stats.loads.as_slice(), stats.warm_ups), (&[(MODEL.to_owned(), 8192)][..], 1));
    assert_eq!(server.loaded().await.unwrap()[0].context_length, Some(8192));

    server.chat(&ChatRequest { num_ctx: 4096, ..request("C") }).await.unwrap();
    assert_eq!(fake.stats().loads.len(), 2, "another context makes a reload");
}

#[tokio::test]
async fn a_server_tells_its_version_its_models_and_what_they_can() {
    let mut half_on_cpu = FakeModel::thinking("qwen3");
    half_on_cpu.gpu_percent = 40;
    let fake = with_models(vec![FakeModel::new(MODEL), half_on_cpu, FakeModel::embedding("nomic-embed:v1")]);
    let server = client(&fake);
    let info = server.inspect().await.unwrap();
    assert_eq!(info.version.as_deref(), Some("0.32.15"));
    let names: Vec<_> = info.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["nomic-embed:v1", MODEL, "qwen3:latest"]);
    assert!(info.models.iter().all(|model| model.digest.is_some() && model.gpu_percent.is_none()));

    server.warm_up("qwen3", 4096).await.unwrap();
    let info = server.inspect().await.unwrap();
    assert_eq!(info.models[2].gpu_percent, Some(40));

    let model = server.show("qwen3").await.unwrap();
    assert_eq!((model.context_length, model.thinking, model.completion), (Some(40_960), true, true));
    assert_eq!(model.digest, info.models[2].digest);
    assert!(!server.show("nomic-embed:v1").await.unwrap().completion);
    assert_eq!(server.show("none").await.unwrap_err().kind, LlmErrorKind::ModelNotFound);
}

#[tokio::test]
async fn a_model_whose_weights_changed_is_looked_at_again() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = client(&fake);
    server.inspect().await.unwrap();
    server.chat(&request("A")).await.unwrap();
    assert_eq!(fake.stats().last_body().get("think"), None);
    let update = FakeModel { digest: "sha256:new".to_owned(), ..FakeModel::thinking(MODEL) };
    fake.reconfigure(|config| config.models = vec![update]);
    server.inspect().await.unwrap();
    server.chat(&request("A")).await.unwrap();
    assert_eq!(fake.stats().last_body()["think"], json!(false));
}

#[tokio::test]
async fn a_pull_reports_its_progress_and_its_errors() {
    let pullable = vec![FakeModel::new("llama3:8b")];
    let fake = FakeOllama::start(FakeConfig { pullable, ..FakeConfig::default() });
    let server = client(&fake);
    let mut steps = Vec::new();
    server.pull("llama3:8b", |step| steps.push((step.status, step.completed))).await.unwrap();
    assert_eq!(steps.first().map(|step| step.0.as_str()), Some("pulling manifest"));
    assert_eq!(steps.last().map(|step| step.0.as_str()), Some("success"));
    assert!(steps.iter().any(|step| step.1 == Some(500)));
    server.chat(&of_model("llama3:8b")).await.unwrap();

    let error = server.pull("nonsense", |_| {}).await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::Rejected);
    assert!(
        error.message.contains("cannot pull nonsense: pull model manifest: file does not exist"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_that_is_shown_holds_the_credentials_of_an_address() {
    let fake = FakeOllama::start(FakeConfig::default());
    let url = fake.url().replace("http://", "http://me:s3cret@");
    let server = OllamaServer::new(&url, Timeouts::default(), None).unwrap();
    server.chat(&request("A")).await.unwrap();
    let missing = server.chat(&of_model("x")).await.unwrap_err();
    fake.disappear();
    let unreachable = server.chat(&request("A")).await.unwrap_err();
    for shown in [server.url().to_owned(), missing.to_string(), unreachable.to_string()] {
        assert!(!shown.contains("s3cret") && shown.contains("127.0.0.1"), "{shown}");
    }
    assert!(!format!("{server:?}").contains("s3cret"), "{server:?}");
}

#[tokio::test]
async fn something_that_is_no_ollama_server_is_named_as_such() {
    let fake = FakeOllama::start(FakeConfig::default());
    let server = OllamaServer::new(&format!("{}/somewhere", fake.url()), Timeouts::default(), None).unwrap();
    let error = server.inspect().await.unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::ProxyReply);
    assert!(error.message.contains("is this an Ollama server?"), "{error}");
}
