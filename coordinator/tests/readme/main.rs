//! README, `--help`, config.env.example and code say the same: what README names exists, its tables are those of
//! the code, its commands are understood, and its first example runs.
#![expect(clippy::unwrap_used, reason = "part of the tests")]

mod markdown;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use markdown::{Readme, ShellCommand};
use qa_coordinator::cli::{Cli, Command};
use qa_coordinator::config::{
    CancelConfig, CombineConfig, FailuresConfig, ForgetConfig, GenerateConfig, PromptConfig, ShowConfig,
    StatusConfig,
};
use qa_coordinator::exit::ExitCode;
use qa_shared::model::FailureReason;
use qa_shared::queue::topology::MIN_SERVER_VERSION;
use qa_shared::settings::{Environment, variables};
use qa_worker::cli::Cli as WorkerCli;
use qa_worker::config::WorkerConfig;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The flags of every command of both programs, and of cargo where README uses it.
fn known_flags() -> BTreeSet<String> {
    let mut flags: BTreeSet<String> =
        ["--locked", "--path", "--features", "--test", "--bench", "--example", "--help", "--version"]
            .map(str::to_owned)
            .into();
    let commands = [Cli::command(), WorkerCli::command()];
    for command in commands.iter().flat_map(|command| command.get_subcommands().chain([command])) {
        flags.extend(
            command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))),
        );
    }
    flags
}

#[test]
fn every_flag_that_readme_names_exists() {
    let known = known_flags();
    let named = Readme::load().flags();
    assert!(named.len() > 20, "the flags are not found any more: {named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "README.md names flags that do not exist: {unknown:?}");
}

#[test]
fn every_variable_that_readme_names_exists() {
    let known: BTreeSet<_> = variables::ALL.iter().map(|variable| variable.name().to_owned()).collect();
    let named = Readme::load().variables();
    assert!(named.len() > 5, "the variables are not found any more: {named:?}");
    // Ollama's own settings, on its hosts, those of a test, and streams.
    let theirs = [
        "OLLAMA_HOST",
        "OLLAMA_NUM_PARALLEL",
        "QA_CHAOS_SCHEDULES",
        "QA_CHAOS_SEED",
        "QA_RESULTS",
        "QA_SOAK_CHUNKS",
        "QA_TASKS",
    ];
    let theirs = theirs.into_iter().chain(qa_coordinator::on_finish::VARIABLES).map(str::to_owned).collect();
    let unknown: Vec<_> =
        named.difference(&known).filter(|name| !BTreeSet::contains(&theirs, *name)).collect();
    assert!(unknown.is_empty(), "README.md names variables that no program reads: {unknown:?}");
}

#[test]
fn the_commands_in_readme_are_understood_with_all_their_settings() {
    let commands = Readme::load().commands();
    let programs: BTreeSet<_> = commands.iter().map(ShellCommand::program).collect();
    for program in ["qa-coordinator", "qa-worker", "cargo", "deploy/quickstart.sh", "deploy/test.sh"] {
        assert!(programs.contains(program), "README.md shows no use of {program}");
    }
    for command in &commands {
        match command.program() {
            "qa-coordinator" => coordinator_understands(command),
            "qa-worker" => worker_understands(command),
            "cargo" => {}
            script => assert!(is_program(&root().join(script)), "{script} is no program"),
        }
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn coordinator_understands(command: &ShellCommand) {
    let cli = match Cli::read(command.words.iter().map(Into::into)) {
        Ok(cli) => cli,
        // Help is understood too, though it ends the program.
        Err(error) if !error.use_stderr() => return,
        Err(error) => panic!("{command}: {error}"),
    };
    // What the examples leave out because it stays the same.
    let rest =
        [("GENERATOR_PROVIDER", "local"), ("GENERATOR_MODEL", "m"), ("QA_NATS_URL", "nats://queue:4222")];
    let names_no_server = !command.words.iter().any(|word| word == "--detach" || word == "--job");
    let rest = &rest[..if names_no_server { 2 } else { 3 }];
    let environment = Environment::from_pairs(
        rest.iter().copied().chain(command.variables.iter().map(|(n, v)| (&n[..], &v[..]))),
    );
    let mistakes = match cli.command {
        Command::Generate(args) => GenerateConfig::read(&args, &environment).err(),
        Command::Combine(args) => CombineConfig::read(&args, &environment).err(),
        Command::Status(args) => StatusConfig::read(&args, &environment).err(),
        Command::Failures(args) => FailuresConfig::read(&args, &environment).err(),
        Command::Show(args) => ShowConfig::read(&args, &environment).err(),
        Command::Cancel(args) => CancelConfig::read(&args, &environment).err(),
        Command::Forget(args) => ForgetConfig::read(&args, &environment).err(),
        Command::Prompt(args) => PromptConfig::read(&args, &environment).err(),
        Command::Completions { .. } | Command::Settings | Command::NatsSupervisor { .. } => None,
    };
    assert!(mistakes.is_none(), "{command}: {}", mistakes.unwrap());
}

fn worker_understands(command: &ShellCommand) {
    let cli = match WorkerCli::try_parse_from(&command.words) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => return,
        Err(error) => panic!("{command}: {error}"),
    };
    let environment = Environment::from_pairs(command.variables.clone());
    if let Err(mistakes) = WorkerConfig::read(&cli, &environment) {
        panic!("{command}: {mistakes}");
    }
}

#[test]
fn the_table_of_exit_codes_is_the_programs() {
    let table = Readme::load().table("Exit codes of qa-coordinator");
    let expected: Vec<_> =
        ExitCode::ALL.iter().map(|code| vec![code.code().to_string(), code.meaning().to_owned()]).collect();
    assert_eq!(table, expected);
}

#[test]
fn the_table_of_failures_is_the_programs() {
    let table = Readme::load().table("When a chunk fails");
    let expected: Vec<_> =
        reasons().into_iter().map(|reason| vec![format!("`{reason}`"), reason.remedy().to_owned()]).collect();
    assert_eq!(table, expected);
}

/// Every reason; one that is new does not compile here until it has its place in the list, and in README.
fn reasons() -> Vec<FailureReason> {
    use FailureReason as R;
    let mut all = vec![R::NoUsableAnswer];
    while let Some(reason) = all.last() {
        all.push(match reason {
            R::NoUsableAnswer => R::OutputLimit,
            R::OutputLimit => R::Repetition,
            R::Repetition => R::PromptTooLong,
            R::PromptTooLong => R::EmptyChunk,
            R::EmptyChunk => R::InvalidChunk,
            R::InvalidChunk => R::Rejected,
            R::Rejected => R::Refused,
            R::Refused => R::ServerError,
            R::ServerError => R::Deadline,
            R::Deadline => R::Poison,
            R::Poison => R::TaskTooLarge,
            R::TaskTooLarge => R::UnreadableTask,
            R::UnreadableTask => R::Other,
            R::Other => break,
        });
    }
    all
}

#[test]
fn the_code_map_names_files_that_exist_and_leaves_no_package_out() {
    let places: Vec<String> = Readme::load()
        .table("How it is built")
        .into_iter()
        .flat_map(|row| {
            row[0].split(", ").map(|place| place.trim_matches('`').to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<_> = places.iter().filter(|place| !root().join(place).exists()).collect();
    assert!(missing.is_empty(), "the code map of README.md names what is not there: {missing:?}");
    for package in ["shared/src/", "coordinator/src/", "worker/src/"] {
        for entry in fs::read_dir(root().join(package)).unwrap() {
            let entry = entry.unwrap();
            let place = format!("{package}{}/", entry.file_name().into_string().unwrap());
            let is_folder = entry.file_type().unwrap().is_dir();
            assert!(!is_folder || places.contains(&place), "the code map of README.md lacks {place}");
        }
    }
}

#[test]
fn links_lead_somewhere_and_versions_are_those_of_the_code() {
    let readme = Readme::load();
    for link in readme.links() {
        assert!(root().join(&link).exists(), "README.md links to {link}, which is not there");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let rust =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let nats = MIN_SERVER_VERSION.to_string();
    let nats = nats.trim_end_matches(".0");
    for phrase in [format!("Rust toolchain ({rust} or newer)"), format!("nats-server {nats} or newer")] {
        assert!(readme.text.contains(&phrase), "README.md does not say: {phrase}");
    }
}
