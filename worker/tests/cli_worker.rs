//! The worker's command line: settings and their mistakes, and the real binary.

use std::process::Command;
use std::time::Duration;

use clap::Parser;
use qa_shared::settings::Environment;
use qa_worker::cli::Cli;
use qa_worker::config::{ModelChoice, Slots, WorkerConfig};
use qa_worker::exit::ExitCode;

fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<WorkerConfig, Vec<String>> {
    let cli = Cli::try_parse_from(["qa-worker"].iter().chain(args)).unwrap_or_else(|error| panic!("{error}"));
    let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    WorkerConfig::read(&cli, &Environment::from_pairs(pairs))
        .map_err(|mistakes| mistakes.all().iter().map(ToString::to_string).collect())
}

#[test]
fn without_any_setting_it_works_for_this_machine() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.nats.url.expose(), "nats://127.0.0.1:4222");
    assert_eq!(config.serving.servers.len(), 1);
    assert_eq!(config.serving.servers[0].url.expose(), "http://127.0.0.1:11434");
    assert_eq!(config.serving.servers[0].slots, Slots::Auto);
    assert_eq!(config.serving.attempts, 3);
    assert_eq!(config.serving.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.serving.task_timeout, Duration::from_secs(30 * 60));
    assert_eq!(config.serving.request_timeout, Duration::from_secs(10 * 60));
    assert_eq!(config.serving.idle_timeout, Duration::from_secs(120));
    assert!(config.models.is_empty() && config.pools.is_empty() && !config.serving.pull);
}

#[test]
fn servers_slots_models_and_pools_are_lists() {
    let environment = [
        ("OLLAMA_BASE_URL", "gpu1, gpu2:8080"),
        ("QA_CONCURRENCY", "4, Auto"),
        ("QA_POOL", "night, day,night"),
    ];
    let config = read(&["--models", "qwen3:14b", "--models", "llama3=llama3.1:8b"], &environment).unwrap();
    let servers: Vec<_> =
        config.serving.servers.iter().map(|server| (server.url.expose(), server.slots)).collect();
    assert_eq!(servers, [("http://gpu1:11434", Slots::Fixed(4)), ("http://gpu2:8080", Slots::Auto)]);
    let choice = |name: &str, served: &str| ModelChoice { name: name.to_owned(), served: served.to_owned() };
    assert_eq!(config.models, [choice("qwen3:14b", "qwen3:14b"), choice("llama3", "llama3.1:8b")]);
    let pools: Vec<_> = config.pools.iter().map(qa_shared::model::PoolName::as_str).collect();
    assert_eq!(pools, ["night", "day"]);
    assert_eq!(read(&["--drain-timeout", "0"], &[]).unwrap().serving.drain_timeout, Duration::ZERO);
}

#[test]
fn providers_are_served_whose_key_or_address_is_set() {
    let served = |args: &[&str], environment: &[(&str, &str)]| -> Vec<String> {
        let servers = read(args, environment).unwrap().serving.servers;
        servers.iter().map(|server| format!("{:?} {} {}", server.service, server.url, server.slots)).collect()
    };
    let ollama = "Ollama http://127.0.0.1:11434 auto";
    let openai = "OpenAi https://api.openai.com/v1 auto";
    assert_eq!(served(&[], &[]), [ollama]);
    assert_eq!(served(&[], &[("OPENAI_API_KEY", "your_openai_api_key_here")]), [ollama]);
    assert_eq!(served(&[], &[("OPENAI_API_KEY", "sk-1")]), [openai]);
    let both = [("OPENAI_API_KEY", "sk-1"), ("OLLAMA_BASE_URL", "http://127.0.0.1:11434")];
    assert_eq!(served(&[], &both), [ollama, openai]);
    assert_eq!(served(&["--providers", "local,openai"], &both[..1]), [ollama, openai]);
    assert_eq!(served(&["--providers", "OpenAI"], &both), [openai]);
    let many = [
        ("OPENAI_BASE_URL", "gpu1:8000, https://gateway.example/api/v1"),
        ("CLAUDE_API_KEY", "sk-2"),
        ("GOOGLE_API_KEY", "sk-3"),
        ("QA_CONCURRENCY", "4,16"),
        ("QA_ACCOUNT_CONCURRENCY", "3"),
    ];
    assert_eq!(
        served(&[], &many),
        [
            "Compatible http://gpu1:8000/v1 4",
            "Compatible https://gateway.example/api/v1 16",
            "Claude https://api.anthropic.com 3",
            "Gemini https://generativelanguage.googleapis.com 3",
        ]
    );
}

#[test]
fn limits_belong_to_accounts() {
    let environment = [
        ("OPENAI_API_KEY", "sk-1"),
        ("ANTHROPIC_API_KEY", "sk-2"),
        ("QA_REQUESTS_PER_MINUTE", "claude=50, openai=500"),
        ("QA_TOKENS_PER_MINUTE", "90000"),
    ];
    let servers = read(&[], &environment).unwrap().serving.servers;
    let limits: Vec<_> =
        servers.iter().map(|server| (server.limits.requests, server.limits.tokens)).collect();
    assert_eq!(limits, [(Some(500), Some(90_000)), (Some(50), Some(90_000))]);
}

#[test]
fn a_key_may_stand_in_a_file_and_in_one_place_only() {
    let directory = qa_shared::testing::temporary_folder();
    let path = directory.path().join("key");
    std::fs::write(&path, "sk-from-file\n").unwrap();
    let file = path.to_str().unwrap();
    let servers = read(&[], &[("ANTHROPIC_API_KEY_FILE", file)]).unwrap().serving.servers;
    assert_eq!(servers[0].key.as_ref().unwrap().expose(), "sk-from-file");
    let both = [("ANTHROPIC_API_KEY_FILE", file), ("ANTHROPIC_API_KEY", "sk-1")];
    let mistakes = read(&[], &both).unwrap_err().concat();
    assert!(mistakes.contains("ANTHROPIC_API_KEY is set too; keep one of them"), "{mistakes}");
    std::fs::write(&path, "sk one\nsk two\n").unwrap();
    let mistakes = read(&[], &both[..1]).unwrap_err().concat();
    assert!(
        mistakes.contains("ANTHROPIC_API_KEY_FILE: the key holds a blank") && !mistakes.contains("sk one"),
        "{mistakes}"
    );
}

#[test]
fn every_wrong_setting_has_its_message() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--concurrency", "257"],
            "--concurrency: found `257` on the command line, expected auto or a whole number from 1 to 256, or one of these per server separated by commas",
        ),
        (
            &["--ollama-base-url", "a,b", "--concurrency", "1,2,3"],
            "--concurrency: found 3 numbers on the command line for 2 servers; give one number for all servers, or one for each",
        ),
        (
            &["--account-concurrency", "0"],
            "--account-concurrency: found `0` on the command line, expected auto or a whole number from 1 to 256",
        ),
        (
            &["--requests-per-minute", "azure=5"],
            "--requests-per-minute: found `azure=5` on the command line, expected a whole number of at least 1, or PROVIDER=N separated by commas",
        ),
        (
            &["--providers", "claude"],
            "--providers: provider claude is named, but its key is not set; set ANTHROPIC_API_KEY or CLAUDE_API_KEY or ANTHROPIC_API_KEY_FILE, or leave it out",
        ),
        (
            &["--providers", "azure"],
            "--providers: found `azure` on the command line, expected some of local, openai, claude, gemini, separated by commas",
        ),
        (
            &["--models", "a=b=c"],
            "--models: found `a=b=c` on the command line, expected model names or NAME=SERVED, separated by commas",
        ),
        (&["--models", "a,a=b"], "--models: the model a is named twice on the command line; name it once"),
        (
            &["--task-timeout", "1 day"],
            "--task-timeout: found `1 day` on the command line, expected a duration above 0, such as 30, 30s, 5m or 2h",
        ),
        (
            &["--nats-url", "nats://:4222"],
            "--nats-url: found `nats://:4222` on the command line, expected an address such as nats://host:4222 (also tls://, ws:// and wss://; all of one kind)",
        ),
    ];
    for (args, message) in cases {
        assert_eq!(read(args, &[]).unwrap_err(), [*message], "{args:?}");
    }
}

#[test]
fn a_certificate_needs_its_key() {
    let mistakes = read(&[], &[("QA_NATS_CERT", "/no/such")]).unwrap_err();
    assert_eq!(
        mistakes,
        [
            "QA_NATS_CERT: QA_NATS_KEY is not set; set both or none",
            "QA_NATS_CERT: found `/no/such` in QA_NATS_CERT (environment), but it cannot be read: No such file or directory (os error 2); name a file that exists and that you may read",
        ]
    );
}

#[test]
fn the_binary_explains_itself_and_ends_with_the_documented_codes() {
    let run = |args: &[&str]| {
        let directory = qa_shared::testing::temporary_folder();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qa-worker"));
        let output = command.args(args).env_clear().current_dir(directory.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains(ExitCode::table().trim_end()), "{help}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help.txt");
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting")]
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &help).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == help, "{path} is out of date: run the tests with UPDATE_SNAPSHOTS=1; now:\n{help}");

    let (code, settings, _) = run(&["help", "settings"]);
    assert_eq!(code, 0);
    for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "QA_ACK_WAIT", "QA_NATS_PASSWORD_FILE"] {
        assert!(!help.contains(variable) && settings.contains(variable), "{variable}");
    }

    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.contains("drain-timeout"), "{shell}");
    }
    for args in [&["--attempts", "x"][..], &["--no-such-flag"]] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        assert!(stderr.contains(args[0]), "{stderr}");
    }
}
