//! Foreign inputs that both programs read, mutated: messages, env files, addresses, tables, templates.

use qa_shared::base_url::{is_loopback, normalise_api_url, normalise_base_url};
use qa_shared::model::{JobEntry, Task, TaskResult, WorkerPresence};
use qa_shared::model_table::{ModelTable, Service};
use qa_shared::settings::{Environment, values};
use qa_shared::template::Template;
use qa_shared::testing::fuzz::Fuzz;
use qa_shared::wire;

const TASK: &str = r#"{"v":1,"body":{"key":{"job":"0123456789ab","document":"guide-0123456789abcdef","chunk":4,"round":1},"document":"guide","pool":"ollama/m:latest","text":"Streams store messages.","text_hash":"938ba716b1151f366f29f706b38c5f8a","settings":{"provider":"local","model":"m","questions_per_chunk":3,"temperature":0.7,"max_tokens":2000},"published_at_ms":1}}"#;
const RESULT: &str = r#"{"v":1,"body":{"key":{"job":"0123456789ab","document":"guide-0123456789abcdef","chunk":4,"round":1},"outcome":{"status":"completed","pairs":[{"question":"Why so?","answer":"Because."}]},"asked":3,"worker":"gpu1-1-0a0b0c","host":"gpu1","attempts":1,"usage":{"input_tokens":5,"output_tokens":7},"started_at_ms":1,"duration_ms":2}}"#;
const PRESENCE: &str = r#"{"v":1,"body":{"instance":"gpu1-1-0a0b0c","host":"gpu1","pid":1,"version":"0.1.0","servers":[{"url":"http://gpu1:11434","provider":"local","reachable":true,"models":[{"name":"m:latest"}],"slots":2,"busy":1,"finished":9}],"pools":["ollama/m:latest"]}}"#;

#[test]
fn messages() {
    Fuzz::of("messages").example(TASK).example(RESULT).example(PRESENCE).run(|bytes| {
        let _task: Result<Task, _> = wire::decode(bytes);
        let _result: Result<TaskResult, _> = wire::decode(bytes);
        let _presence: Result<WorkerPresence, _> = wire::decode(bytes);
        let _entry: Result<JobEntry, _> = wire::decode(bytes);
    });
}

#[test]
fn what_is_read_of_a_task_can_be_written_and_read_again() {
    Fuzz::of("tasks").example(TASK).run(|bytes| {
        let Ok(task) = wire::decode::<Task>(bytes) else { return };
        let written = wire::encode(&task).expect("what was read can be written");
        assert_eq!(wire::decode::<Task>(&written).expect("and read"), task);
    });
}

#[test]
fn env_files() {
    let folder = qa_shared::testing::temporary_folder();
    let path = folder.path().join("config.env");
    let example = "GENERATOR_MODEL=qwen3:14b # a comment\nOLLAMA_STOP=[\"<|im_end|>\"]\nQA_EXTRA_INSTRUCTIONS='Don\\'t'\n\
                   export A=\"two\nlines\"\nEMPTY=\n";
    Fuzz::of("env files").example(example).run(|bytes| {
        std::fs::write(&path, bytes).expect("the file can be written");
        drop(Environment::from_pairs([("HOME", "/")]).with_env_file(None, folder.path()));
    });
}

#[test]
fn addresses_values_templates_and_tables() {
    Fuzz::of("addresses").example("https://u:p@gpu1:8000/v1/").example("[fe80::1]:11434").run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(url) = normalise_base_url(&text) {
            assert_eq!(normalise_base_url(&url).as_ref(), Ok(&url));
            let _on_this_machine: bool = is_loopback(&url);
        }
        for keeps in [false, true] {
            if let Ok(url) = normalise_api_url(&text, "/v1", keeps) {
                assert!(url.starts_with("http"), "{url}");
            }
        }
        drop((values::duration(&text), values::text_list(&text), values::yes_or_no(&text)));
    });
    Fuzz::of("templates").example("{num_questions} of {text} {{}} {extra_instructions}").run(|bytes| {
        if let Ok(template) = Template::parse(&String::from_utf8_lossy(bytes)) {
            assert!(template.render("chunk", 3, "").contains("chunk"));
        }
    });
    let rows = r#"[{"service": "openai", "model": "gpt-5*", "levels": ["low"], "price": {"input": 1, "output": 2}}]"#;
    Fuzz::of("tables of models").example(rows).run(|bytes| {
        if let Ok(table) = ModelTable::with_rows(&String::from_utf8_lossy(bytes)) {
            drop(table.traits(Service::OpenAi, "gpt-5-mini"));
        }
    });
}
