//! The real binary: help, completions, exit codes, and what goes to which stream.
#![expect(clippy::unwrap_used, reason = "part of the tests")]

mod cli_support;

use std::path::Path;
use std::process::{Command, Output};

use qa_coordinator::exit::ExitCode;

fn run(args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let directory = qa_shared::testing::temporary_folder();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_qa-coordinator"))
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn help_texts_are_those_checked_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for (name, args) in [
        ("qa-coordinator.txt", &["--help"][..]),
        ("generate.txt", &["generate", "--help"]),
        ("combine.txt", &["combine", "--help"]),
        ("status.txt", &["status", "--help"]),
        ("failures.txt", &["failures", "--help"]),
        ("show.txt", &["show", "--help"]),
        ("cancel.txt", &["cancel", "--help"]),
        ("forget.txt", &["forget", "--help"]),
        ("prompt.txt", &["prompt", "--help"]),
        ("settings.txt", &["help", "settings"]),
    ] {
        let (code, stdout, stderr) = run(args, &[]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
        cli_support::compare_with_file(&folder.join(name), &stdout);
    }
}

#[test]
fn the_help_shows_every_exit_code() {
    let (_, help, _) = run(&["generate", "--help"], &[]);
    assert!(help.contains(ExitCode::table().trim_end()), "{help}");
    let codes = ExitCode::ALL.map(ExitCode::code);
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 70, 75, 130]);
}

#[test]
fn the_help_has_common_flags_and_the_list_of_settings_all_of_them() {
    let (_, help, _) = run(&["generate", "--help"], &[]);
    let (code, settings, _) = run(&["help", "settings"], &[]);
    assert_eq!(code, 0);
    assert_eq!(run(&["settings"], &[]).0, 0);
    for flag in
        ["--model", "--qa-dir", "--resume", "--sample", "--max-cost", "--nats-url", "--ollama-base-url"]
    {
        assert!(help.contains(flag) && settings.contains(flag), "{flag}");
    }
    for flag in
        ["--ollama-top-k <K>", "--idle-timeout <DURATION>", "--no-speculation", "--metrics-listen <ADDRESS>"]
    {
        assert!(!help.contains(flag) && settings.contains(flag), "{flag}");
    }
    for variable in
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "QA_ACK_WAIT", "QA_NATS_PASSWORD_FILE", "QA_TRACE_CONTENT"]
    {
        assert!(!help.contains(variable) && settings.contains(variable), "{variable}");
    }
    assert!(help.contains("qa-coordinator help settings"), "{help}");
    assert!(help.lines().count() < 160, "only what is used often");
}

#[test]
fn a_command_without_output_to_look_at_says_so() {
    let directory = qa_shared::testing::temporary_folder();
    let qa_dir = directory.path().to_str().unwrap();
    let (code, stdout, _) = run(&["failures", "--qa-dir", qa_dir], &[]);
    assert_eq!((code, stdout), (0, format!("no failures in {qa_dir}\n")));
    let (code, _, stderr) = run(&["status"], &[]);
    assert!(code == 2 && stderr.contains("--nats-url"), "{stderr}");
}

#[test]
fn the_prompt_is_shown_as_it_is_built_and_as_it_is_sent() {
    let directory = qa_shared::testing::temporary_folder();
    let image = "iVBORw0KGgo".repeat(50);
    let chunks = format!(
        r#"{{"status": "completed", "chunks": [{{"text": "See ![pump](data:image/png;base64,{image})."}}, {{"text": "The boiler <b>"}}]}}"#
    );
    std::fs::write(directory.path().join("manual_chunks.json"), chunks).unwrap();
    let (code, built_in, _) = run(&["prompt", "--show", "--questions-per-chunk", "4"], &[]);
    assert_eq!(code, 0);
    assert!(built_in.contains("exactly 4") && built_in.contains("{text}"), "{built_in}");
    let at = ["--chunks-dir", directory.path().to_str().unwrap(), "--qa-extra-instructions", "No prices."];
    let (code, sent, stderr) = run(&[&["prompt", "--show", "manual", "1"], &at[..]].concat(), &[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(sent.contains("<chunk>\nThe boiler <b>\n</chunk>") && sent.contains("No prices."), "{sent}");
    let (_, without_image, _) = run(&[&["prompt", "--show", "manual", "0"], &at[..]].concat(), &[]);
    assert!(without_image.contains("pump") && !without_image.contains("iVBORw0KGgo"), "{without_image}");
    for (wanted, part) in [(["manual", "2"], "has 2 chunks"), (["manuel", "0"], "near are manual")] {
        let (code, _, stderr) = run(&[&["prompt", "--show"], &wanted[..], &at[..]].concat(), &[]);
        assert!(code == 2 && stderr.contains(part), "{stderr}");
    }
}

#[test]
fn completions_come_for_every_shell() {
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let (code, stdout, stderr) = run(&["completions", shell], &[]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        assert!(stdout.contains(mark) && stdout.contains("ollama-base-url"), "{shell}");
    }
}

#[test]
fn a_wrong_command_line_or_setting_ends_with_code_2() {
    for (args, part) in [
        (&["generate", "--tempature", "1"][..], "a similar argument exists: '--temperature'"),
        (&["generate", "--temperature", "hot"], "--temperature: found `hot`"),
        (&["generate"], "error: a setting is wrong, nothing was done:\n  --provider: the provider is openai"),
        (&["generate", "--env-file", "mine"], "--env-file: cannot read the env file `mine`"),
        (&["status", "--interval", "1"], "--interval:"),
        (&["cancel", "--job", "x"], "--job:"),
        (&["cancel", "--purge"], "--purge:"),
        (&["forget", "--nats-url", "q"], "--job:"),
        (&["forget", "--job", "0123456789ab"], "--nats-url"),
        (&["show"], "DOCUMENT: no document is named"),
        (&["show", "a", "-1"], "CHUNK: found `-1`"),
        (&["show", "a", "--random", "3"], "--random: it chooses among all documents"),
        (&["show", "a", "--seed", "3"], "--seed: it only counts together with --random"),
        (&["combine", "--log-format", "xml"], "--log-format:"),
        (&["generat"], "a similar subcommand exists: 'generate'"),
        (&[], "Usage: qa-coordinator <COMMAND>"),
    ] {
        let (code, stdout, stderr) = run(args, &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

#[test]
fn who_forgets_the_command_is_told_what_to_type() {
    let (code, _, stderr) = run(&["--provider", "local", "--model", "m"], &[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("tip: the main job is a command of its own: qa-coordinator generate ..."),
        "{stderr}"
    );
}

#[test]
fn secrets_are_in_no_message() {
    let environment = [("OPENAI_API_KEY", "sk-secret"), ("QA_NATS_URL", "http://me:sk-secret@q")];
    let args = ["generate", "--api-key", "sk-secret", "--nats-token", "sk-secret"];
    let (code, stdout, stderr) = run(&args, &environment);
    assert_eq!(code, 2);
    assert!(!(stdout + &stderr).contains("sk-secret"), "{stderr}");
}
