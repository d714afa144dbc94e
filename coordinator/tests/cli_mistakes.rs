//! Every bad setting of the coordinator with its exact message.

mod cli_support;

use cli_support::{cancel, enough, generate, generate_in, mistakes, status, with_file};
use qa_shared::settings::Environment;

/// Flags, and the one mistake that they are.
const WRONG_FLAGS: &[(&[&str], &str)] = &[
    (
        &["--provider", "azure"],
        "--provider: found `azure` on the command line, expected openai, claude, gemini or local (also: anthropic, google, ollama)",
    ),
    (
        &["--questions-per-chunk", "0"],
        "--questions-per-chunk: found `0` on the command line, expected a whole number from 1 to 50",
    ),
    (
        &["--questions-per-chunk", "51"],
        "--questions-per-chunk: found `51` on the command line, expected a whole number from 1 to 50",
    ),
    (
        &["--questions-per-chunk", "-1"],
        "--questions-per-chunk: found `-1` on the command line, expected a whole number from 1 to 50",
    ),
    (
        &["--temperature", "2.1"],
        "--temperature: found `2.1` on the command line, expected a number from 0 to 2, such as 0.7",
    ),
    (
        &["--temperature", "NaN"],
        "--temperature: found `NaN` on the command line, expected a number from 0 to 2, such as 0.7",
    ),
    (
        &["--max-tokens", "0"],
        "--max-tokens: found `0` on the command line, expected a whole number of at least 1",
    ),
    (
        &["--ollama-top-k", "-3"],
        "--ollama-top-k: found `-3` on the command line, expected a whole number of at least 0",
    ),
    (
        &["--ollama-top-p", "1.5"],
        "--ollama-top-p: found `1.5` on the command line, expected a number from 0 to 1",
    ),
    (
        &["--ollama-repeat-penalty", "0"],
        "--ollama-repeat-penalty: found `0` on the command line, expected a number above 0 and up to 10",
    ),
    (
        &["--ollama-num-predict", "0"],
        "--ollama-num-predict: found `0` on the command line, expected a whole number of at least 1, or -1 for no ceiling of its own",
    ),
    (
        &["--ollama-num-ctx", "100"],
        "--ollama-num-ctx: found `100` on the command line, expected a whole number of at least 512",
    ),
    (
        &["--ollama-keep-alive", "soon"],
        "--ollama-keep-alive: found `soon` on the command line, expected a time such as 10m or 1h30m, a number of seconds, or -1 for ever",
    ),
    (
        &["--ollama-num-predict", "-3"],
        "--ollama-num-predict: found `-3` on the command line, expected a whole number of at least 1, or -1 for no ceiling of its own",
    ),
    (
        &["--max-cost", "0"],
        "--max-cost: found `0` on the command line, expected an amount of US dollars above 0, such as 2.50",
    ),
    (
        &["--max-cost", "2,50"],
        "--max-cost: found `2,50` on the command line, expected an amount of US dollars above 0, such as 2.50",
    ),
    (
        &["--max-tokens-total", "0"],
        "--max-tokens-total: found `0` on the command line, expected a whole number of at least 1",
    ),
    (
        &["--max-tokens-total", "9", "--detach", "--nats-url", "nats://queue:4222"],
        "--detach: with --max-tokens-total somebody has to watch what is spent; leave out one of them",
    ),
    (
        &["--ollama-base-url", "ftp://gpu1"],
        "--ollama-base-url: `ftp://gpu1` is not a server address: its scheme is neither http nor https; expected for example http://gpu1:11434 (found on the command line)",
    ),
    (
        &["--concurrency", "2,3", "--ollama-base-url", "localhost,http://127.0.0.1:11434/v1"],
        "--concurrency: found 2 numbers on the command line for 1 server; give one number for all servers, or one for each",
    ),
    (
        &["--provider", "openai", "--openai-base-url", "https://x.openai.azure.com/openai/deployments/D"],
        "--openai-base-url: `https://x.openai.azure.com/openai/deployments/D` is not a server address: an Azure deployment needs its API version: add ?api-version=DATE; expected for example http://gpu1:11434 (found on the command line)",
    ),
    (
        &["--ollama-base-url", ","],
        "--ollama-base-url: found `,` on the command line, expected an address such as http://gpu1:11434",
    ),
    (
        &["--concurrency", "0"],
        "--concurrency: found `0` on the command line, expected auto or a whole number from 1 to 256, or one of these per server separated by commas",
    ),
    (
        &["--concurrency", "2,2"],
        "--concurrency: found 2 numbers on the command line for 1 server; give one number for all servers, or one for each",
    ),
    (
        &["--drain-timeout", "soon"],
        "--drain-timeout: found `soon` on the command line, expected a duration, such as 0, 30, 30s or 5m",
    ),
    (
        &["--request-timeout", "0"],
        "--request-timeout: found `0` on the command line, expected a duration above 0, such as 30, 30s, 5m or 2h",
    ),
    (
        &["--attempts", "21"],
        "--attempts: found `21` on the command line, expected a whole number from 1 to 20",
    ),
    (
        &["--sample", "0"],
        "--sample: found `0` on the command line, expected a number of chunks of at least 1",
    ),
    (
        &["--sample", "2", "--seed", "x"],
        "--seed: found `x` on the command line, expected a whole number of at least 0",
    ),
    (&["--seed", "1"], "--seed: it only counts together with --sample; add --sample N, or leave it out"),
    (
        &["--max-failure-rate", "0"],
        "--max-failure-rate: found `0` on the command line, expected a percentage above 0 and up to 100, or off",
    ),
    (
        &["--max-failure-rate", "101%"],
        "--max-failure-rate: found `101%` on the command line, expected a percentage above 0 and up to 100, or off",
    ),
    (&["--resume", "--restart"], "--resume: it contradicts --restart; keep one of them"),
    (&["--resume", "--no-resume"], "--resume: it contradicts --no-resume; keep one of them"),
    (
        &["--accept-changes"],
        "--accept-changes: it only counts together with --resume; add --resume, or leave it out",
    ),
    (
        &["--detach"],
        "--detach: only a NATS server that outlives this process can keep the tasks; name one with --nats-url, or leave it out",
    ),
    (
        &["--listen", "nowhere:x"],
        "--listen: found `nowhere:x` on the command line, expected an address to listen on, such as 0.0.0.0:4222 or 4222",
    ),
    (
        &["--pool", "a,b"],
        "--pool: found `a,b` on the command line, expected the name of one pool, without commas",
    ),
    (
        &["--nats-token", "secret"],
        "--nats-token: it is for a NATS server, but local mode has one of its own; add --nats-url, or leave it out",
    ),
    (&["--local", "--nats-url", "nats://q"], "--local: it contradicts --nats-url; keep one of them"),
    (
        &["--nats-url", "http://q"],
        "--nats-url: found `http://q` on the command line, expected an address such as nats://host:4222 (also tls://, ws:// and wss://; all of one kind)",
    ),
    (
        &["--nats-url", "nats://q,wss://q"],
        "--nats-url: found `nats://q,wss://q` on the command line, expected an address such as nats://host:4222 (also tls://, ws:// and wss://; all of one kind)",
    ),
    (
        &["--nats-url", "q:0"],
        "--nats-url: found `q:0` on the command line, expected an address such as nats://host:4222 (also tls://, ws:// and wss://; all of one kind)",
    ),
    (
        &["--nats-url", "q", "--api-key", "sk-1"],
        "--api-key: with a NATS server the workers talk to the models; give the key to qa-worker; secrets do not travel through the queue",
    ),
    (
        &["--nats-url", "q", "--ollama-base-url", "gpu1"],
        "--ollama-base-url: with a NATS server the workers talk to the models; give --ollama-base-url to qa-worker, or use --local",
    ),
    (
        &["--nats-url", "q", "--concurrency", "4"],
        "--concurrency: with a NATS server the workers talk to the models; give --concurrency to qa-worker, or use --local",
    ),
    (
        &["--nats-url", "q", "--listen", "4222"],
        "--listen: it opens local mode's own queue, but a NATS server is named; add --local, or leave it out: workers join the NATS server",
    ),
    (
        &["--nats-url", "q", "--nats-server", "x"],
        "--nats-server: it is for local mode, but a NATS server is named; add --local, or leave it out",
    ),
    (
        &["--qa-prompt-template-file", "/no/such"],
        "--qa-prompt-template-file: found `/no/such` on the command line, but it cannot be read: No such file or directory (os error 2); name a file that exists and that you may read",
    ),
    (&["--log-format", "xml"], "--log-format: found `xml` on the command line, expected human or json"),
];

#[test]
fn every_wrong_flag_says_what_was_found_and_expected() {
    for (args, message) in WRONG_FLAGS {
        assert_eq!(mistakes(generate(args, &[])), [*message], "{args:?}");
    }
}

#[test]
fn every_wrong_variable_says_where_it_was_found() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("GENERATOR_RESUME", "maybe")],
            "--resume: found `maybe` in GENERATOR_RESUME (environment), expected true or false (also 1, yes, on, 0, no, off)",
        ),
        (
            &[("OLLAMA_STOP", "[\"a\"")],
            "--ollama-stop: found `[\"a\"` in OLLAMA_STOP (environment), expected a JSON list of texts, or one text; write for example [\"<|im_end|>\"]",
        ),
        (
            &[("RUST_LOG", "a=b=c")],
            "RUST_LOG: found `a=b=c` in RUST_LOG (environment), expected a log filter such as info or info,qa_worker=debug",
        ),
        (
            &[("GENERATOR_TEMPERATURE", "0.3            # LLM temperature")],
            "--temperature: found `0.3            # LLM temperature` in GENERATOR_TEMPERATURE (environment), expected a value without a comment; GENERATOR_TEMPERATURE comes from the process environment, where text after ` #` is no comment: Docker's --env-file and systemd pass them on as part of the value; correct it there",
        ),
        (
            &[("GENERATOR_OUTPUT_DIR", "/data/qa # results")],
            "--qa-dir: found `/data/qa # results` in GENERATOR_OUTPUT_DIR (environment), expected a value without a comment; GENERATOR_OUTPUT_DIR comes from the process environment, where text after ` #` is no comment: Docker's --env-file and systemd pass them on as part of the value; correct it there",
        ),
        (
            &[("GENERATOR_MODEL", "\"qwen3\"")],
            "--model: found `\"qwen3\"` in GENERATOR_MODEL (environment), expected a value without quotes; GENERATOR_MODEL comes from the process environment, where quotes are not removed: Docker's --env-file and systemd pass them on as part of the value; correct it there",
        ),
        (
            &[("QA_NATS_URL", "q"), ("QA_NATS_USER", "u")],
            "QA_NATS_USER: QA_NATS_PASSWORD is not set; set both or none",
        ),
        (
            &[("QA_NATS_URL", "q"), ("QA_NATS_PASSWORD", "p")],
            "QA_NATS_PASSWORD: QA_NATS_USER is not set; set both or none",
        ),
        (
            &[("QA_NATS_URL", "q"), ("QA_NATS_TOKEN", "t"), ("QA_NATS_USER", "u"), ("QA_NATS_PASSWORD", "p")],
            "--nats-url: there is more than one way to log in: a token, a user; keep one of them",
        ),
        (
            &[("QA_NATS_URL", "q"), ("QA_NATS_REPLICAS", "0")],
            "QA_NATS_REPLICAS: found `0` in QA_NATS_REPLICAS (environment), expected a whole number from 1 to 5",
        ),
        (
            &[("QA_NATS_URL", "q"), ("QA_NATS_REPLICAS", "three")],
            "QA_NATS_REPLICAS: found `three` in QA_NATS_REPLICAS (environment), expected a whole number from 1 to 5",
        ),
        (
            &[("QA_NATS_URL", "q"), ("QA_NATS_TOKEN_FILE", "/no/such")],
            "QA_NATS_TOKEN_FILE: found `/no/such` in QA_NATS_TOKEN_FILE (environment), but it cannot be read: No such file or directory (os error 2); name a file that exists and that you may read",
        ),
    ];
    for (environment, message) in cases {
        let found = mistakes(generate(&[], environment));
        assert!(found.iter().any(|found| found == message), "{environment:?}: {found:#?}");
    }
}

#[test]
fn a_wrong_line_of_the_env_file_is_named_with_all_other_mistakes() {
    let file = "GENERATOR_TEMPERATURE=hot # very\nQA_EXTRA_INSTRUCTIONS='Don't'\nGENERATOR_MAX_TOKENS=many\n";
    let environment = with_file(enough(&[("GENERATOR_QUESTIONS_PER_CHUNK", "x")]), file);
    let error = generate_in(&["--ollama-top-p", "7"], &environment).unwrap_err();
    assert_eq!(
        error.to_string(),
        "5 settings are wrong, nothing was done:\n  \
         --max-tokens: found `many` in GENERATOR_MAX_TOKENS (config.env:3), expected a whole number of at least 1\n  \
         --ollama-top-p: found `7` on the command line, expected a number from 0 to 1\n  \
         --questions-per-chunk: found `x` in GENERATOR_QUESTIONS_PER_CHUNK (environment), expected a whole number from 1 to 50\n  \
         --temperature: found `hot` in GENERATOR_TEMPERATURE (config.env:1), expected a number from 0 to 2, such as 0.7\n  \
         config.env:2: there is text after the closing quote of QA_EXTRA_INSTRUCTIONS; escape a quote inside quotes with \\, or leave the value without quotes"
    );
}

#[test]
fn a_template_that_cannot_work_is_a_mistake() {
    let directory = qa_shared::testing::temporary_folder();
    let path = directory.path().join("prompt.txt");
    std::fs::write(&path, "Ask about {txt}").unwrap();
    let path = path.to_str().unwrap();
    let found = mistakes(generate(&["--qa-prompt-template-file", path], &[]));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("unknown placeholder `{txt}` in line 1"), "{found:?}");
}

#[test]
fn an_empty_secret_file_is_a_mistake() {
    let folder = qa_shared::testing::temporary_folder();
    let path = folder.path().join("token");
    std::fs::write(&path, "").unwrap();
    let path = path.to_str().unwrap();
    let found = mistakes(generate(&[], &[("QA_NATS_URL", "q"), ("QA_NATS_TOKEN_FILE", path)]));
    assert_eq!(found, [format!("QA_NATS_TOKEN_FILE: the file `{path}` is empty; write the secret into it")]);
}

#[test]
fn without_a_key_the_message_shows_the_local_models() {
    let error = generate_in(&[], &Environment::default()).unwrap_err();
    let servers: Vec<_> = error.servers_to_ask().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["http://127.0.0.1:11434"]);
    let missing = "--provider: the provider is openai (the default), but its key is not set (--api-key, \
                   OPENAI_API_KEY or OPENAI_API_KEY_FILE; OPENAI_BASE_URL names a server of your own with its API); ";
    let models = |models: &[&str]| models.iter().map(|&model| model.to_owned()).collect::<Vec<_>>();
    let message =
        |names: &[&str]| error.clone().with_local_models(&models(names)).mistakes.all()[0].to_string();
    assert_eq!(error.mistakes.all()[0].to_string(), format!("{missing}use --provider local --model MODEL"));
    assert_eq!(message(&["qwen3:14b"]), format!("{missing}use --provider local --model qwen3:14b"));
    let several = format!("{missing}use --provider local --model a:1 (also there: b, c)");
    assert_eq!(message(&["a:1", "b", "c"]), several);
    assert!(message(&[]).ends_with("start one, then use --provider local --model MODEL"));
}

#[test]
fn a_provider_wants_its_own_key_or_any_by_flag() {
    for (provider, variable) in [
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("claude", "CLAUDE_API_KEY"),
        ("gemini", "GEMINI_API_KEY"),
        ("Google", "GOOGLE_API_KEY"),
        ("gemini", "QA_API_KEY"),
    ] {
        let set = |key: &str| {
            let pairs = [("GENERATOR_PROVIDER", provider), ("GENERATOR_MODEL", "m"), (variable, key)];
            generate_in(&[], &Environment::from_pairs(pairs))
        };
        let config = set("sk-secret").unwrap();
        assert!(!format!("{config:?}").contains("sk-secret"), "{provider}");
        let message = set("your_key_here").unwrap_err().to_string();
        assert!(message.contains("key is not set"), "{message}");
    }
    let config = generate(&["--provider", "claude", "--model", "m", "--api-key", "sk-secret"], &[]).unwrap();
    assert!(!format!("{config:?}").contains("sk-secret"));
}

#[test]
fn a_server_that_the_provider_does_not_use_is_a_mistake() {
    for (args, flag) in [
        (["--provider", "local", "--openai-base-url", "gpu1:8000"], "--openai-base-url"),
        (["--provider", "openai", "--ollama-base-url", "gpu1"], "--ollama-base-url"),
    ] {
        let message =
            generate(&args, &[("GENERATOR_MODEL", "m"), ("QA_API_KEY", "k")]).unwrap_err().to_string();
        assert!(message.contains(flag) && message.contains("the provider is"), "{message}");
    }
}

#[test]
fn a_missing_model_can_be_helped_too() {
    let error = generate(&["--model", ""], &[]).unwrap_err();
    assert_eq!(
        error.mistakes.all()[0].to_string(),
        "--model: no model is set; set --model or GENERATOR_MODEL"
    );
    let helped = error.with_local_models(&["qwen3:14b".to_owned()]);
    assert_eq!(helped.mistakes.all()[0].to_string(), "--model: no model is set; use --model qwen3:14b");
}

#[test]
fn the_other_commands_check_theirs() {
    assert_eq!(
        mistakes(status(&["--interval", "5"], &[])),
        ["--interval: it only counts together with --watch; add --watch"]
    );
    assert_eq!(
        mistakes(cancel(&["--job", "x", "--nats-url", "q"], &[])),
        [
            "--job: found `x` on the command line, expected a job id of 12 lowercase hexadecimal digits, as `status` shows it"
        ]
    );
    assert_eq!(
        mistakes(cancel(&["--job", "0123456789ab", "--qa-dir", "x"], &[])),
        [
            "--job: --qa-dir names a job too; keep one of them",
            "--job: a job can be found by its id on a NATS server only; add --nats-url URL, or name its directory with --qa-dir",
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_text_is_a_mistake() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let environment = Environment::from_pairs([
        ("GENERATOR_PROVIDER", OsString::from("local")),
        ("GENERATOR_MODEL", OsString::from_vec(vec![b'm', 0xff])),
    ]);
    let found = mistakes(generate_in(&[], &environment));
    assert!(found.contains(
        &"--model: the value of GENERATOR_MODEL in the environment is not UTF-8 text; set it again in a UTF-8 terminal"
            .to_owned()
    ), "{found:?}");
}

#[test]
fn a_limit_on_the_cost_of_a_model_without_a_price_says_how_to_give_one() {
    let args = ["--provider", "openai", "--api-key", "k", "--model", "nobody-knows", "--max-cost", "1"];
    let found = mistakes(generate(&args, &[])).join("\n");
    for part in [
        "--max-cost: the price of openai model nobody-knows is not known; give it in US dollars per million tokens",
        "QA_MODEL_TABLE",
        r#"[{"service": "openai", "model": "nobody-knows", "price": {"input": 1.25, "output": 10}}]"#,
    ] {
        assert!(found.contains(part), "{found}");
    }
}
