//! The settings that a job keeps: what a resume takes over from it, and what goes back into it (PURE).
//!
//! Keys and addresses are never kept. What belongs to this machine and its servers (slots, timeouts) is not the
//! job's either.

use std::path::{Path, PathBuf};

use qa_shared::model::{GenerationSettings, NanoUsd, OllamaOptions, PromptSettings};
use qa_shared::settings::{JobValues, Origin, Setting};

use crate::config::{GenerateConfig, Place};
use crate::config_settings::{
    CHUNKS_DIR, EXTRA_INSTRUCTIONS, KEEP_ALIVE, LOG_DIR, MAX_COST, MAX_FAILURE_RATE, MAX_TOKENS,
    MAX_TOKENS_TOTAL, MODEL, MODEL_TABLE, NUM_CTX, NUM_PREDICT, OUTPUT_FILE, POOL, PROVIDER, QUESTIONS,
    REASONING, REPEAT_PENALTY, SPECULATION, STOP, SYSTEM_MESSAGE, TEMPERATURE, TEMPLATE_FILE, TOP_K, TOP_P,
};
use crate::files::{JobFile, KeptSettings};

/// The text of the prompt template: a job keeps the text and not the file's name.
pub(crate) static TEMPLATE_TEXT: Setting = Setting::argument("text of the prompt template");
/// `true` for a job of a fleet.
pub(crate) static FLEET: Setting = Setting::argument("fleet");
/// The settings that a job keeps and that have a flag.
pub(crate) static KEPT: &[&Setting] = &[
    &CHUNKS_DIR,
    &OUTPUT_FILE,
    &PROVIDER,
    &MODEL,
    &POOL,
    &QUESTIONS,
    &TEMPERATURE,
    &MAX_TOKENS,
    &REASONING,
    &TOP_K,
    &TOP_P,
    &REPEAT_PENALTY,
    &NUM_PREDICT,
    &NUM_CTX,
    &KEEP_ALIVE,
    &STOP,
    &SYSTEM_MESSAGE,
    &EXTRA_INSTRUCTIONS,
    &TEMPLATE_FILE,
    &SPECULATION,
    &MAX_FAILURE_RATE,
    &MAX_COST,
    &MAX_TOKENS_TOTAL,
    &MODEL_TABLE,
];

/// What holds for a resume of the job where neither flag nor variable says anything. `path` is the job's file.
pub fn values_of(job: &JobFile, path: &Path) -> JobValues {
    let mut values = JobValues::new(path);
    keep_generation(&mut values, &job.settings);
    // A pool that follows from the model goes on following it.
    if job.pool != job.settings.provider.pool(&job.settings.model) {
        values.keep(POOL.name(), job.pool.as_str());
    }
    if let Some(kept) = &job.kept {
        keep_others(&mut values, kept);
    }
    values
}

fn keep_generation(values: &mut JobValues, settings: &GenerationSettings) {
    // Every field by its name: one that is added must be kept too.
    let GenerationSettings {
        provider,
        model,
        questions_per_chunk,
        temperature,
        max_tokens,
        reasoning,
        prompt: PromptSettings { system_message, extra_instructions, template },
        ollama: OllamaOptions { top_k, top_p, repeat_penalty, num_predict, num_ctx, keep_alive, stop },
    } = settings;
    let mut keep = |setting: &Setting, value: Option<String>| {
        if let Some(value) = value {
            values.keep(setting.name(), value);
        }
    };
    keep(&PROVIDER, Some(provider.to_string()));
    keep(&MODEL, Some(model.clone()));
    keep(&QUESTIONS, Some(questions_per_chunk.to_string()));
    keep(&TEMPERATURE, Some(temperature.to_string()));
    keep(&MAX_TOKENS, Some(max_tokens.to_string()));
    keep(&REASONING, reasoning.map(|level| level.to_string()));
    keep(&SYSTEM_MESSAGE, system_message.clone());
    keep(&EXTRA_INSTRUCTIONS, extra_instructions.clone());
    keep(&TEMPLATE_TEXT, template.clone());
    keep(&TOP_K, top_k.map(|value| value.to_string()));
    keep(&TOP_P, top_p.map(|value| value.to_string()));
    keep(&REPEAT_PENALTY, repeat_penalty.map(|value| value.to_string()));
    keep(&NUM_PREDICT, num_predict.map(|value| value.to_string()));
    keep(&NUM_CTX, num_ctx.map(|value| value.to_string()));
    keep(&KEEP_ALIVE, keep_alive.clone());
    keep(&STOP, (!stop.is_empty()).then(|| serde_json::to_string(stop).unwrap_or_default()));
}

fn keep_others(values: &mut JobValues, kept: &KeptSettings) {
    let KeptSettings {
        chunks_dir,
        output_file,
        log_dir,
        model_table,
        max_cost,
        max_tokens_total,
        max_failure_rate,
        speculation,
        fleet,
    } = kept;
    let mut keep = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            values.keep(name, value);
        }
    };
    keep(CHUNKS_DIR.name(), chunks_dir.clone());
    keep(OUTPUT_FILE.name(), output_file.clone());
    keep(LOG_DIR.name(), log_dir.clone());
    keep(MODEL_TABLE.variables()[0].name(), model_table.clone());
    keep(MAX_COST.name(), max_cost.map(|dollars| dollars.to_string()));
    keep(MAX_TOKENS_TOTAL.name(), max_tokens_total.map(|tokens| tokens.to_string()));
    keep(MAX_FAILURE_RATE.name(), Some(max_failure_rate.map_or("off".to_owned(), |rate| rate.to_string())));
    keep(SPECULATION.name(), Some(speculation.to_string()));
    keep(FLEET.name(), Some(fleet.to_string()));
}

/// What goes into the job's file. The directories are the ones really used.
pub(crate) fn kept_settings(
    config: &GenerateConfig,
    chunks_dir: &Path,
    qa_dir: &Path,
    combined_file: &Path,
) -> KeptSettings {
    let inside = combined_file.strip_prefix(qa_dir).ok().and_then(Path::to_str).map(str::to_owned);
    let mut sources = config.common.sources.iter();
    // Without a flag it goes by the name of its variable.
    let names = [MODEL_TABLE.name(), MODEL_TABLE.variables()[0].name()];
    let table = sources.find(|source| names.contains(&source.setting));
    KeptSettings {
        chunks_dir: absolute(chunks_dir),
        output_file: inside.or_else(|| absolute(combined_file)),
        log_dir: config.log_dir.as_deref().and_then(absolute),
        model_table: table.and_then(|source| absolute(Path::new(source.full.as_ref()?))),
        max_cost: config.budget.max_cost.map(NanoUsd::dollars),
        max_tokens_total: config.budget.max_tokens,
        max_failure_rate: config.run.max_failure_percent,
        speculation: config.run.speculates,
        fleet: matches!(config.place, Place::Fleet(_)),
    }
}

/// The settings that flags of this command line say.
pub(crate) fn declared(config: &GenerateConfig) -> Vec<&'static str> {
    let flags = config.common.sources.iter().filter(|source| matches!(source.origin, Origin::Flag(_)));
    flags.map(|source| source.setting).collect()
}

/// An absolute path that can be kept as text.
pub(crate) fn absolute(path: &Path) -> Option<String> {
    let path: PathBuf = std::path::absolute(path).ok()?;
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qa_shared::model::{JobId, PoolName, Provider, Reasoning};
    use qa_shared::settings::Environment;

    use super::*;
    use crate::cli_generate::GenerateArgs;

    fn job(settings: GenerationSettings, kept: Option<KeptSettings>) -> JobFile {
        let pool = settings.provider.pool(&settings.model);
        let new = JobFile::new(JobId::from_random(5), String::new(), pool, settings);
        JobFile { kept, ..new }
    }

    fn settings() -> GenerationSettings {
        GenerationSettings {
            provider: Provider::Local,
            model: "it's \"mine\":1".into(),
            questions_per_chunk: 7,
            temperature: 0.35,
            max_tokens: 900,
            reasoning: Some(Reasoning::Low),
            prompt: PromptSettings {
                system_message: Some("  Two\nlines  ".into()),
                extra_instructions: Some("# none".into()),
                template: Some("Ask {num_questions} about\n{text}\n{extra_instructions}".into()),
            },
            ollama: OllamaOptions {
                top_k: Some(11),
                top_p: Some(0.55),
                repeat_penalty: Some(1.25),
                num_predict: Some(777),
                num_ctx: Some(8192),
                keep_alive: Some("1h".into()),
                stop: vec!["<|x|>".into(), "a,b".into()],
            },
        }
    }

    fn resumed(job: &JobFile, args: &GenerateArgs, variables: &[(&str, &str)]) -> GenerateConfig {
        let environment = Environment::from_pairs(variables.iter().copied());
        let environment = environment.with_job(values_of(job, Path::new("q/.qa-fleet/job.json")));
        GenerateConfig::read(args, &environment).unwrap()
    }

    fn resume() -> GenerateArgs {
        let mut args = GenerateArgs::default();
        args.run.resume = true;
        args.files.qa_dir = Some("q".into());
        args
    }

    #[test]
    fn a_resume_without_any_setting_has_all_of_the_job() {
        let kept = KeptSettings {
            chunks_dir: Some("/my chunks".into()),
            output_file: Some("all.json".into()),
            log_dir: Some("/logs".into()),
            model_table: None,
            max_cost: Some(2.5),
            max_tokens_total: Some(12_000),
            max_failure_rate: None,
            speculation: false,
            fleet: false,
        };
        let job = JobFile { pool: PoolName::new("own"), ..job(settings(), Some(kept.clone())) };
        let config = resumed(&job, &resume(), &[]);
        assert_eq!((&config.settings, &config.pool), (&job.settings, &job.pool));
        assert_eq!(config.chunks_dir, Path::new("/my chunks"));
        assert_eq!(config.output.combined_file, Path::new("q/all.json"));
        let again = kept_settings(&config, &config.chunks_dir, Path::new("q"), &config.output.combined_file);
        assert_eq!(again, kept);
    }

    #[test]
    fn what_a_source_says_beats_the_job() {
        let mut args = resume();
        args.generation.temperature = Some("1.5".into());
        args.generation.qa_system_message = Some(String::new());
        let config = resumed(&job(settings(), None), &args, &[("OLLAMA_TOP_K", "99")]);
        assert!((config.settings.temperature - 1.5).abs() < 1e-9);
        // An empty flag asks for the default.
        assert_eq!(config.settings.prompt.system_message, None);
        assert_eq!(config.settings.ollama.top_k, Some(99));
        assert_eq!(config.settings.questions_per_chunk, 7);
    }

    #[test]
    fn the_pool_of_another_model_follows_the_model() {
        let mut args = resume();
        args.generation.model = Some("other:1".into());
        let config = resumed(&job(settings(), None), &args, &[]);
        assert_eq!(config.pool, Provider::Local.pool("other:1"));
    }

    #[test]
    fn a_job_of_an_earlier_version_leaves_the_rest_to_the_defaults() {
        let config = resumed(&job(settings(), None), &resume(), &[]);
        assert_eq!(config.settings, settings());
        assert_eq!(config.chunks_dir, Path::new("/data/chunks"));
        assert_eq!(config.run.max_failure_percent, Some(20.0));
    }

    #[test]
    fn a_job_of_a_fleet_does_not_go_on_alone_unless_that_is_said() {
        let job = job(settings(), Some(KeptSettings { fleet: true, ..KeptSettings::default() }));
        let environment = Environment::default().with_job(values_of(&job, Path::new("job.json")));
        let error = GenerateConfig::read(&resume(), &environment).unwrap_err().to_string();
        assert!(error.contains("--nats-url") && error.contains("--local"), "{error}");
        let mut alone = resume();
        alone.place.local = true;
        assert!(GenerateConfig::read(&alone, &environment).is_ok());
        let mut fleet = resume();
        fleet.nats.nats_url = Some("nats://queue:4222".into());
        assert!(GenerateConfig::read(&fleet, &environment).is_ok());
    }

    proptest! {
        #[test]
        fn numbers_and_texts_survive_the_way_through_the_job(
            temperature in 0.0..=2.0_f64,
            top_p in 0.0..=1.0_f64,
            text in "\\PC{1,40}",
            stop in prop::collection::vec("\\PC{1,12}", 0..4),
        ) {
            let mut wanted = settings();
            (wanted.temperature, wanted.ollama.top_p) = (temperature, Some(top_p));
            (wanted.prompt.extra_instructions, wanted.ollama.stop) = (Some(text), stop);
            let config = resumed(&job(wanted.clone(), None), &resume(), &[]);
            prop_assert_eq!(config.settings, wanted);
        }
    }
}
