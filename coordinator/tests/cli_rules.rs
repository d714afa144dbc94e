//! What the coordinator's settings mean together: precedence, modes, files, notes.
#![expect(clippy::unwrap_used, reason = "part of the tests")]

mod cli_support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cli_support::{cancel, combine, enough, generate, generate_in, notes, status, with_file};
use qa_coordinator::config::{CancelTarget, Place, Sample, Start};
use qa_shared::model::{NanoUsd, Provider};
use qa_shared::settings::{Environment, NatsAuth};

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let file = "GENERATOR_TEMPERATURE=0.1\nGENERATOR_MAX_TOKENS=1001\nGENERATOR_QUESTIONS_PER_CHUNK=5\n";
    let variables = [("GENERATOR_TEMPERATURE", "0.2"), ("GENERATOR_MAX_TOKENS", "1002")];
    let environment = with_file(enough(&variables), file);
    let settings = generate_in(&["--temperature", "0.3"], &environment).unwrap().settings;
    assert_eq!((settings.temperature, settings.max_tokens, settings.questions_per_chunk), (0.3, 1002, 5));
    let defaults = generate(&[], &[]).unwrap().settings;
    assert_eq!((defaults.temperature, defaults.max_tokens, defaults.questions_per_chunk), (0.7, 2000, 3));
}

#[test]
fn the_header_tells_where_each_value_is_from() {
    let environment = with_file(enough(&[("OLLAMA_TOP_K", "9")]), "\nGENERATOR_TEMPERATURE=0.1 # low\n");
    let config = generate_in(&["--max-tokens", "900"], &environment).unwrap();
    assert_eq!(config.common.env_file.as_deref(), Some(Path::new("config.env")));
    let sources: Vec<_> = config.common.sources.iter().map(ToString::to_string).collect();
    for expected in [
        "--temperature = 0.1 (config.env:2)",
        "--max-tokens = 900 (flag)",
        "--ollama-top-k = 9 (environment, OLLAMA_TOP_K)",
        "--questions-per-chunk = 3 (default)",
    ] {
        assert!(sources.iter().any(|source| source == expected), "{expected}: {sources:#?}");
    }
}

#[test]
fn the_first_env_file_found_is_read() {
    let directory = qa_shared::testing::temporary_folder();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let tokens = |explicit: Option<&str>| {
        let environment = enough(&[]).with_env_file(explicit.map(Path::new), directory.path());
        generate_in(&[], &environment).map(|config| config.settings.max_tokens)
    };
    assert_eq!(tokens(None), Ok(2000));
    write(".env", "GENERATOR_MAX_TOKENS=1\n");
    assert_eq!(tokens(None), Ok(1));
    std::fs::create_dir(directory.path().join("config.env")).unwrap();
    assert_eq!(tokens(None), Ok(1), "a directory is no env file");
    std::fs::remove_dir(directory.path().join("config.env")).unwrap();
    write("config.env", "GENERATOR_MAX_TOKENS=2\n");
    assert_eq!(tokens(None), Ok(2));
    write("mine", "GENERATOR_MAX_TOKENS=3\n");
    assert_eq!(tokens(Some("mine")), Ok(3));
    let error = tokens(Some("other")).unwrap_err().to_string();
    assert!(error.contains("--env-file: cannot read the env file `other`"), "{error}");
}

#[test]
fn the_file_of_the_python_program_works_as_it_is() {
    let file = "\u{feff}# config\r\nGENERATOR_PROVIDER=LOCAL\r\nGENERATOR_MODEL=qwen3:14b\r\n\
        GENERATOR_CHUNK_SIZE=abc\r\nVALIDATOR_MODEL='x'\r\nLOG_LEVEL=INFO\r\n\
        GENERATOR_TEMPERATURE=0.3            # LLM temperature (0.0-1.0)\r\n\
        OLLAMA_BASE_URL=http://192.168.50.133:11434/v1/\r\nOPENAI_API_KEY=your_openai_api_key_here\r\n\
        OLLAMA_STOP=[\"<|im_end|>\"]\r\nQA_EXTRA_INSTRUCTIONS=Don't ask about $prices\r\n\
        GENERATOR_RESUME=true\r\nGENERATOR_BATCH_PROCESSING=True\r\nQA_SYSTEM_MESSAGE=\r\n\
        OLLAMA_NUM_PREDICT=-1\r\n";
    let config = generate_in(&[], &with_file(Environment::default(), file)).unwrap();
    assert_eq!(config.settings.provider, Provider::Local);
    assert_eq!((config.settings.temperature, config.settings.max_tokens), (0.3, 2000));
    assert_eq!(config.settings.ollama.stop, ["<|im_end|>"]);
    assert_eq!(config.settings.ollama.num_predict, None);
    assert_eq!(config.settings.prompt.extra_instructions.as_deref(), Some("Don't ask about $prices"));
    assert_eq!(config.settings.prompt.system_message, None);
    assert_eq!(config.run.start, Start::Resume);
    assert_eq!(config.pool.as_str(), "ollama/qwen3:14b");
    let Place::Local(local) = &config.place else { panic!("no NATS server is named") };
    assert_eq!(local.serving.servers[0].url.expose(), "http://192.168.50.133:11434");
    assert_eq!(
        notes(&config),
        [
            "--ollama-num-predict -1 counts as unset: the ceiling is --max-tokens",
            "OLLAMA_STOP now takes effect (the Python program ignored it): [\"<|im_end|>\"]",
            "--batch-processing changes nothing: chunks are always worked on in parallel",
        ]
    );
}

#[test]
fn empty_values_and_placeholders_count_as_unset() {
    let environment = with_file(
        enough(&[("GENERATOR_MAX_TOKENS", ""), ("QA_NATS_URL", " "), ("QA_POOL", "your_pool_here")]),
        "GENERATOR_MAX_TOKENS=77\nQA_LOG_DIR=\n",
    );
    let config = generate_in(&[], &environment).unwrap();
    assert_eq!(config.settings.max_tokens, 77, "the file counts where the environment is empty");
    assert!(matches!(config.place, Place::Local(_)));
    assert_eq!((config.pool.as_str(), config.log_dir), ("ollama/qwen3:14b", None));
    let config = generate_in(&["--max-tokens", ""], &environment).unwrap();
    assert_eq!(config.settings.max_tokens, 2000, "an empty flag asks for the default");
}

#[test]
fn flags_against_resuming_beat_the_environment() {
    for (args, start) in [
        (&[][..], Start::Resume),
        (&["--no-resume"], Start::Fresh),
        (&["--restart"], Start::Restart),
        (&["--resume", "--accept-changes"], Start::Resume),
    ] {
        let config = generate(args, &[("GENERATOR_RESUME", "true")]).unwrap();
        assert_eq!(config.run.start, start, "{args:?}");
        // A flag is echoed as itself.
        if let [flag] = args {
            let echo = format!("{flag} = true (flag)");
            assert!(config.common.sources.iter().any(|source| source.to_string() == echo), "{echo}");
        }
    }
    assert_eq!(generate(&[], &[]).unwrap().run.start, Start::Fresh);
}

#[test]
fn a_directory_takes_the_combined_file_along_wherever_it_is_named() {
    let file = ("GENERATOR_OUTPUT_FILE", "/data/results/all.json");
    let combined = |args: &[&str], environment: &[(&str, &str)]| {
        let config = generate(args, environment).unwrap();
        let same = combine(args, environment).unwrap();
        assert_eq!(config.output, same.output, "both commands agree");
        config.output.combined_file
    };
    assert_eq!(combined(&[], &[]), PathBuf::from("/data/results/training_data.json"));
    assert_eq!(combined(&[], &[file]), PathBuf::from("/data/results/all.json"));
    assert_eq!(combined(&["--qa-dir", "out"], &[]), PathBuf::from("out/training_data.json"));
    assert_eq!(combined(&["--qa-dir", "out"], &[file]), PathBuf::from("out/training_data.json"));
    assert_eq!(combined(&["--qa-dir", "out", "--output-file", "x.json"], &[file]), PathBuf::from("x.json"));
    let from_environment = ("GENERATOR_OUTPUT_DIR", "out");
    // A directory is given wherever it is named; a file counts that is named beside it.
    assert_eq!(combined(&[], &[from_environment]), PathBuf::from("out/training_data.json"));
    assert_eq!(combined(&[], &[from_environment, file]), PathBuf::from("/data/results/all.json"));
    let (dir, name) = ("GENERATOR_OUTPUT_DIR=out", "GENERATOR_OUTPUT_FILE=/x/all.json");
    let in_env_file = |variables: &[(&str, &str)], text: &str| {
        generate_in(&[], &with_file(enough(variables), text)).unwrap().output.combined_file
    };
    assert_eq!(in_env_file(&[], dir), PathBuf::from("out/training_data.json"));
    assert_eq!(in_env_file(&[], &format!("{dir}\n{name}")), PathBuf::from("/x/all.json"));
    assert_eq!(in_env_file(&[file], dir), PathBuf::from("/data/results/all.json"));
    // The file of an env file belongs to its own directory.
    assert_eq!(in_env_file(&[from_environment], name), PathBuf::from("out/training_data.json"));
    let config = generate(&["--qa-dir", "out"], &[file]).unwrap();
    assert!(notes(&config)[0].starts_with("the combined file goes to out/training_data.json"));
}

#[test]
fn a_nats_server_makes_it_a_fleet() {
    let environment = [
        ("QA_NATS_URL", "tls://me:secret@q1,q2:4333/"),
        ("OLLAMA_BASE_URL", "not a url"),
        ("OPENAI_API_KEY", "sk-secret"),
        ("QA_CONCURRENCY", "2,2,2"),
        ("QA_NATS_TOKEN", "t-secret"),
    ];
    let config = generate(&["--detach", "--pool", "night"], &environment).unwrap();
    let Place::Fleet(fleet) = &config.place else { panic!("a NATS server is named") };
    assert!(fleet.detach);
    assert_eq!(fleet.nats.url.expose(), "tls://me:secret@q1,nats://q2:4333");
    assert_eq!(config.pool.as_str(), "night");
    assert!(matches!(&fleet.nats.auth, NatsAuth::Token(token) if token.expose() == "t-secret"));
    assert!(notes(&config).contains(
        &"ignored because the workers talk to the models: what is set in OLLAMA_BASE_URL (environment), in OPENAI_API_KEY (environment)"
    ));
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    let header: Vec<_> = config.common.sources.iter().map(ToString::to_string).collect();
    assert!(header.contains(&"--nats-token = *** (environment, QA_NATS_TOKEN)".to_owned()), "{header:#?}");
}

#[test]
fn local_beats_a_nats_server_that_is_not_a_flag() {
    let config = generate(&["--local", "--listen", "4333"], &[("QA_NATS_URL", "q")]).unwrap();
    let Place::Local(local) = &config.place else { panic!("--local was asked for") };
    assert_eq!(local.listen, Some("0.0.0.0:4333".parse().unwrap()));
    assert!(notes(&config)[0].starts_with("--local: the NATS server in QA_NATS_URL (environment)"));
    for (text, address) in [
        (":5", "0.0.0.0:5"),
        ("10.0.0.5", "10.0.0.5:4222"),
        ("localhost:9", "127.0.0.1:9"),
        ("[::]:7", "[::]:7"),
    ] {
        let config = generate(&["--listen", text], &[]).unwrap();
        let Place::Local(local) = config.place else { panic!("local is the default") };
        assert_eq!(local.listen, Some(address.parse().unwrap()), "{text}");
    }
}

#[test]
fn local_mode_serves_several_servers() {
    let args =
        ["--ollama-base-url", "gpu1,http://gpu2:8080/", "--ollama-base-url", "gpu3", "--concurrency", "4"];
    let Place::Local(local) = generate(&args, &[]).unwrap().place else { panic!("local is the default") };
    let servers: Vec<_> = local
        .serving
        .servers
        .iter()
        .map(|server| (server.url.to_string(), server.slots.to_string()))
        .collect();
    let expected = ["http://gpu1:11434", "http://gpu2:8080", "http://gpu3:11434"];
    assert_eq!(servers, expected.map(|url| (url.to_owned(), "4".to_owned())));
}

#[test]
fn sample_and_failure_rate() {
    let run = |args: &[&str]| generate(args, &[]).unwrap().run;
    assert_eq!(run(&["--sample", "5"]).sample, Some(Sample { chunks: 5, seed: 0 }));
    assert_eq!(run(&["--sample", "5", "--seed", "7"]).sample, Some(Sample { chunks: 5, seed: 7 }));
    assert_eq!(run(&[]).sample, None);
    assert_eq!(run(&[]).max_failure_percent, Some(20.0));
    assert_eq!(run(&["--max-failure-rate", "12.5%"]).max_failure_percent, Some(12.5));
    assert_eq!(run(&["--max-failure-rate", "OFF"]).max_failure_percent, None);
    assert_eq!(run(&[]).no_server_timeout, Some(Duration::from_secs(120)));
    assert_eq!(run(&["--wait"]).no_server_timeout, None);
    assert!(!run(&["--no-retry-failed"]).retry_failed);
}

#[test]
fn a_ceiling_that_is_too_low_for_the_pairs_is_a_warning() {
    let warnings = |args: &[&str]| {
        let notes = generate(args, &[]).unwrap().common.notes;
        notes.into_iter().filter(|note| note.warning).map(|note| note.text).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&["--max-tokens", "450"]), [""; 0]);
    assert_eq!(
        warnings(&["--max-tokens", "449"]),
        ["449 tokens (--max-tokens) are few for 3 pairs per chunk: answers may be cut, allow about 450"]
    );
    assert_eq!(
        warnings(&["--ollama-num-predict", "100"]),
        [
            "100 tokens (--ollama-num-predict) are few for 3 pairs per chunk: answers may be cut, allow about 450"
        ]
    );
}

#[test]
fn texts_may_begin_with_a_dash_and_stops_are_taken_as_they_are() {
    let args = ["--qa-extra-instructions", "- be brief", "--ollama-stop", "---", "--ollama-stop", "a,b"];
    let settings = generate(&args, &[("OLLAMA_STOP", "x")]).unwrap().settings;
    assert_eq!(settings.prompt.extra_instructions.as_deref(), Some("- be brief"));
    assert_eq!(settings.ollama.stop, ["---", "a,b"]);
}

#[test]
fn a_prompt_template_is_read_at_start() {
    let directory = qa_shared::testing::temporary_folder();
    let path = directory.path().join("prompt.txt");
    std::fs::write(&path, "\u{feff}{num_questions} about {text}").unwrap();
    let config = generate(&[], &[("QA_PROMPT_TEMPLATE_FILE", path.to_str().unwrap())]).unwrap();
    assert_eq!(config.settings.prompt.template.as_deref(), Some("{num_questions} about {text}"));
}

#[test]
fn secrets_come_from_files_too() {
    let directory = qa_shared::testing::temporary_folder();
    let path = directory.path().join("token");
    std::fs::write(&path, "t-secret\n").unwrap();
    let environment = [("QA_NATS_URL", "q"), ("QA_NATS_TOKEN_FILE", path.to_str().unwrap())];
    let Place::Fleet(fleet) = generate(&[], &environment).unwrap().place else { panic!("a fleet") };
    assert!(matches!(&fleet.nats.auth, NatsAuth::Token(token) if token.expose() == "t-secret"));
    assert!(!format!("{fleet:?}").contains("secret"));
}

#[test]
fn status_and_cancel_know_their_job() {
    let config = status(&["--watch", "--interval", "5"], &[("QA_NATS_URL", "q")]).unwrap();
    assert_eq!(config.watch, Some(Duration::from_secs(5)));
    assert!(config.nats.is_some());
    assert_eq!(status(&["--watch"], &[]).unwrap().watch, Some(Duration::from_secs(2)));
    assert_eq!(status(&[], &[]).unwrap().watch, None);
    let config = cancel(&["--job", "0123456789ab", "--nats-url", "q"], &[]).unwrap();
    assert!(matches!(config.target, CancelTarget::Job(job) if job.as_str() == "0123456789ab"));
    let config = cancel(&["--qa-dir", "out"], &[]).unwrap();
    assert_eq!(config.target, CancelTarget::Directory("out".into()));
}

#[test]
fn a_slip_in_a_variables_name_is_told_and_other_programs_variables_are_not() {
    let text = "GENERATOR_TEMPRATURE=0.3\nQA_CONCURENCY=3\nGENERATOR_CHUNK_SIZE=1000\nOLLAMA_HOST=0.0.0.0\n\
                VALIDATOR_MODEL=x\nGENERATOR_INCOMING_DIR=/data/incoming\n";
    let config = generate_in(&[], &with_file(enough(&[]), text)).unwrap();
    let warnings: Vec<_> =
        config.common.notes.iter().filter(|note| note.warning).map(|note| &note.text).collect();
    assert_eq!(
        warnings,
        [
            "config.env:1: GENERATOR_TEMPRATURE is not a setting; did you mean GENERATOR_TEMPERATURE?",
            "config.env:2: QA_CONCURENCY is not a setting; did you mean QA_CONCURRENCY?"
        ]
    );
}

/// A file with a price for every local model.
fn priced() -> (tempfile::TempDir, String) {
    let folder = qa_shared::testing::temporary_folder();
    let path = folder.path().join("models.json");
    let rows = r#"[{"service": "ollama", "model": "*", "price": {"input": 1, "output": 2}}]"#;
    std::fs::write(&path, rows).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_budget_is_read_from_flags_and_variables_and_a_users_price_counts() {
    let (_folder, table) = priced();
    let limits = [("QA_MAX_COST", "$2.5"), ("QA_MAX_TOKENS_TOTAL", "1000"), ("QA_MODEL_TABLE", &table)];
    let budget = generate(&["--max-tokens-total", "2000", "--attempts", "2"], &limits).unwrap().budget;
    assert_eq!((budget.max_cost, budget.max_tokens), (Some(NanoUsd(2_500_000_000)), Some(2000)));
    assert_eq!((budget.calls_per_task, budget.is_limited()), (2, true));
    assert_eq!(budget.real_price().unwrap().at_most(1000, 0), NanoUsd(1_000_000));
    let none = generate(&["--model-table", &table], &[]).unwrap().budget;
    assert!(!none.is_limited() && !none.dry_run && none.real_price().is_some());
}

#[test]
fn a_limit_on_the_cost_of_what_costs_nothing_is_noted() {
    let config = generate(&["--max-cost", "1"], &[]).unwrap();
    assert_eq!(config.budget.real_price(), None);
    let notes = notes(&config);
    assert!(
        notes.iter().any(|note| note.contains("--max-cost stops nothing") && note.contains("qwen3:14b")),
        "{notes:?}"
    );
}

#[test]
fn settings_that_a_model_cannot_follow_are_told_beforehand() {
    let told = |args: &[&str]| {
        let all = [args, &["--api-key", "sk-1"]].concat();
        notes(&generate(&all, &[("OLLAMA_BASE_URL", "")]).unwrap()).join("; ")
    };
    for (args, part) in [
        (&["--provider", "claude", "--model", "claude-sonnet-5"][..], "claude-sonnet-5 takes no temperature"),
        (
            &[
                "--provider",
                "claude",
                "--model",
                "claude-haiku-4-5",
                "--reasoning",
                "low",
                "--max-tokens",
                "2000",
            ],
            "needs --max-tokens of at least 2048",
        ),
        (
            &["--provider", "claude", "--model", "claude-haiku-4-5", "--temperature", "1.5"],
            "takes temperatures up to 1",
        ),
        (
            &["--provider", "openai", "--model", "gpt-4.1", "--reasoning", "high"],
            "--reasoning high changes nothing",
        ),
        (
            &["--provider", "gemini", "--model", "gemini-2.5-pro", "--reasoning", "off"],
            "cannot do without reasoning",
        ),
    ] {
        let told = told(args);
        assert!(told.contains(part), "{args:?}: {told}");
    }
    assert_eq!(told(&["--provider", "openai", "--model", "gpt-4.1"]), "");
}
