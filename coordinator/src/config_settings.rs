//! The coordinator's settings: which flag and which variables belong together. What values mean is decided
//! where they are read.

use qa_shared::settings::{Setting, variables};

macro_rules! settings {
    ($($name:ident = $setting:expr;)+) => {
        $(pub(crate) static $name: Setting = $setting;)+

        /// Every one of them.
        #[cfg(test)]
        pub(crate) static ALL: &[&Setting] = &[$(&$name),+];
    };
}

settings! {
    CHUNKS_DIR = Setting::new("--chunks-dir", &[&variables::GENERATOR_PROCESS_DIR]);
    QA_DIR = Setting::new("--qa-dir", &[&variables::GENERATOR_OUTPUT_DIR]);
    OUTPUT_FILE = Setting::new("--output-file", &[&variables::GENERATOR_OUTPUT_FILE]);
    LOG_DIR = Setting::variable(&[&variables::QA_LOG_DIR]);
    ON_FINISH = Setting::new("--on-finish", &[&variables::QA_ON_FINISH]);
    TRACE_URL = Setting::variable(&[&variables::QA_TRACE_URL]);

    PROVIDER = Setting::new("--provider", &[&variables::GENERATOR_PROVIDER]);
    MODEL = Setting::new("--model", &[&variables::GENERATOR_MODEL]);
    API_KEY = Setting::new("--api-key", &[&variables::QA_API_KEY]);
    QUESTIONS = Setting::new("--questions-per-chunk", &[&variables::GENERATOR_QUESTIONS_PER_CHUNK]);
    TEMPERATURE = Setting::new("--temperature", &[&variables::GENERATOR_TEMPERATURE]);
    MAX_TOKENS = Setting::new("--max-tokens", &[&variables::GENERATOR_MAX_TOKENS]);
    REASONING = Setting::new("--reasoning", &[&variables::QA_REASONING]);
    TOP_K = Setting::new("--ollama-top-k", &[&variables::OLLAMA_TOP_K]);
    TOP_P = Setting::new("--ollama-top-p", &[&variables::OLLAMA_TOP_P]);
    REPEAT_PENALTY = Setting::new("--ollama-repeat-penalty", &[&variables::OLLAMA_REPEAT_PENALTY]);
    NUM_PREDICT = Setting::new("--ollama-num-predict", &[&variables::OLLAMA_NUM_PREDICT]);
    NUM_CTX = Setting::new("--ollama-num-ctx", &[&variables::OLLAMA_NUM_CTX]);
    KEEP_ALIVE = Setting::new("--ollama-keep-alive", &[&variables::OLLAMA_KEEP_ALIVE]);
    STOP = Setting::new("--ollama-stop", &[&variables::OLLAMA_STOP]);
    SYSTEM_MESSAGE = Setting::new("--qa-system-message", &[&variables::QA_SYSTEM_MESSAGE]);
    EXTRA_INSTRUCTIONS = Setting::new("--qa-extra-instructions", &[&variables::QA_EXTRA_INSTRUCTIONS]);
    TEMPLATE_FILE = Setting::new("--qa-prompt-template-file", &[&variables::QA_PROMPT_TEMPLATE_FILE]);
    BATCH_PROCESSING = Setting::new("--batch-processing", &[&variables::GENERATOR_BATCH_PROCESSING]);

    RESUME = Setting::new("--resume", &[&variables::GENERATOR_RESUME]);
    NO_RESUME = Setting::flag("--no-resume", None);
    RESTART = Setting::flag("--restart", None);
    ACCEPT_CHANGES = Setting::flag("--accept-changes", None);
    SAMPLE = Setting::flag("--sample", None);
    SEED = Setting::flag("--seed", Some("0"));
    SPECULATION = Setting::new("--no-speculation", &[&variables::QA_SPECULATION]);
    WAIT = Setting::new("--wait", &[&variables::QA_WAIT]);
    NO_SERVER_TIMEOUT = Setting::variable(&[&variables::QA_NO_SERVER_TIMEOUT]);
    MAX_FAILURE_RATE = Setting::new("--max-failure-rate", &[&variables::QA_MAX_FAILURE_RATE]);

    MODEL_TABLE = Setting::new("--model-table", &[&variables::QA_MODEL_TABLE]);
    MAX_COST = Setting::new("--max-cost", &[&variables::QA_MAX_COST]);
    MAX_TOKENS_TOTAL = Setting::new("--max-tokens-total", &[&variables::QA_MAX_TOKENS_TOTAL]);

    LOCAL = Setting::flag("--local", None);
    LISTEN = Setting::flag("--listen", None);
    NATS_SERVER = Setting::new("--nats-server", &[&variables::QA_NATS_SERVER]);
    NATS_TOKEN = Setting::flag("--nats-token", None);
    DETACH = Setting::flag("--detach", None);
    POOL = Setting::new("--pool", &[&variables::QA_POOL]);

    INTERVAL = Setting::flag("--interval", Some("2s"));
    JOB = Setting::flag("--job", None);
    PURGE = Setting::flag("--purge", None);

    DOCUMENT = Setting::argument("DOCUMENT");
    CHUNK = Setting::argument("CHUNK");
    RANDOM = Setting::flag("--random", None);
    SHOW_SEED = Setting::flag("--seed", None);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::ALL;
    use crate::cli::Cli;

    #[test]
    fn the_help_of_every_flag_names_its_variable_and_its_default() {
        let command = Cli::command();
        for setting in ALL.iter().filter(|setting| setting.name().starts_with("--")) {
            let flag = setting.name().trim_start_matches('-');
            let helps: Vec<_> = command
                .get_subcommands()
                .flat_map(clap::Command::get_arguments)
                .filter(|argument| argument.get_long() == Some(flag))
                .map(|argument| argument.get_long_help().or(argument.get_help()).unwrap().to_string())
                .collect();
            assert!(!helps.is_empty(), "--{flag} is no flag");
            for help in helps {
                if let Some(variable) = setting.variables().first() {
                    let name = variable.name();
                    let named = help.contains(&format!("env: {name}")) || help.contains(&format!(", {name}"));
                    assert!(named, "--{flag}: {help}");
                }
                if let Some(default) = setting.default().filter(|default| *default != "false") {
                    assert!(help.contains("[default: ") && help.contains(default), "--{flag}: {help}");
                }
            }
        }
    }
}
