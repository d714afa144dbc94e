//! What decides what pairs look like: provider, model, sampling, prompt.

use qa_shared::model::{GenerationSettings, OllamaOptions, PromptSettings, Provider, Reasoning};
use qa_shared::model_table::{ModelTable, ReasoningControl, Service, Temperature};
use qa_shared::settings::{Found, Mistake, Origin, Reader, Setting, values};
use qa_shared::template;
use qa_worker::cli::ServingArgs;
use qa_worker::config::{is_key_set, ways_to_set_key};

use crate::cli_generate::GenerationArgs;
use crate::config_job::TEMPLATE_TEXT;
use crate::config_place::Place;
use crate::config_settings::{
    BATCH_PROCESSING, EXTRA_INSTRUCTIONS, KEEP_ALIVE, MAX_TOKENS, MODEL, NUM_CTX, NUM_PREDICT, PROVIDER,
    QUESTIONS, REASONING, REPEAT_PENALTY, STOP, SYSTEM_MESSAGE, TEMPERATURE, TEMPLATE_FILE, TOP_K, TOP_P,
};

/// Output tokens that a pair takes, roughly.
const TOKENS_PER_PAIR: u32 = 150;

pub(crate) struct Generation {
    pub(crate) settings: GenerationSettings,
    pub(crate) missing: Option<Missing>,
}

/// What a list of local models would help with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Key,
    Model,
}

/// The provider, and where it was found.
pub(crate) struct ChosenProvider {
    pub(crate) provider: Provider,
    pub(crate) origin: Origin,
    /// Whether a flag names a server with OpenAI's API, rightly or wrongly.
    pub(crate) names_openai_server: bool,
}

/// Who shall generate. An Ollama server that is named on the command line says it, too.
pub(crate) fn read_provider(
    reader: &mut Reader<'_>,
    args: &GenerationArgs,
    serving: &ServingArgs,
) -> ChosenProvider {
    let expected = "openai, claude, gemini or local (also: anthropic, google, ollama)";
    let found = reader.word(&PROVIDER, args.provider.as_deref());
    let names_openai_server = !serving.openai_base_url.is_empty();
    let chosen = |provider, origin| ChosenProvider { provider, origin, names_openai_server };
    let local = |origin| chosen(Provider::Local, origin);
    let Some(Found { value, origin }) = found else { return local(Origin::Default) };
    let names_ollama = !serving.ollama_base_url.is_empty() && !names_openai_server;
    if origin == Origin::Default && names_ollama {
        reader.note("--ollama-base-url is given and no provider: the provider is local");
        return local(origin);
    }
    if let Ok(provider) = value.parse() {
        return chosen(provider, origin);
    }
    reader.mistake(Mistake::value(&PROVIDER, &Found { value, origin: origin.clone() }, expected));
    local(origin)
}

/// Reads everything else; in local mode the provider's key must be there.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    args: &GenerationArgs,
    chosen: &ChosenProvider,
    place: &Place,
) -> Generation {
    let provider = chosen.provider;
    let provider_is_missing_key = lacks_key(reader, chosen, place);
    let model = reader.word(&MODEL, args.model.as_deref()).map(|found| found.value);
    let model_is_missing = model.is_none();
    // Whoever has no key is helped with the models that are there.
    if model_is_missing && !provider_is_missing_key {
        let mistake = Mistake::new(&MODEL, "no model is set");
        reader.mistake(mistake.remedy(format!("set {}", MODEL.ways_to_set())));
    }
    let settings = GenerationSettings {
        provider,
        model: model.unwrap_or_default(),
        questions_per_chunk: read_questions(reader, args),
        temperature: number(
            reader,
            &TEMPERATURE,
            args.temperature.as_deref(),
            "a number from 0 to 2, such as 0.7",
            values::within(0.0..=2.0),
        )
        .unwrap_or_default(),
        max_tokens: number(
            reader,
            &MAX_TOKENS,
            args.max_tokens.as_deref(),
            "a whole number of at least 1",
            values::within(1..=u32::MAX),
        )
        .unwrap_or_default(),
        reasoning: reader.parsed(
            &REASONING,
            args.reasoning.as_deref(),
            "off, minimal, low, medium or high",
            |text| Reasoning::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text)),
        ),
        prompt: read_prompt(reader, args),
        ollama: read_ollama(reader, args),
    };
    note_ceiling(reader, &settings);
    let flag = args.batch_processing.then_some(true);
    // Said at the first start of a job, not at every one.
    if reader.yes_or_no(&BATCH_PROCESSING, flag) && !reader.has_job() {
        reader.note("--batch-processing changes nothing: chunks are always worked on in parallel");
    }
    let missing = if provider_is_missing_key { Some(Missing::Key) } else { None };
    let model_is_missing = model_is_missing && provider == Provider::Local;
    Generation { settings, missing: missing.or(model_is_missing.then_some(Missing::Model)) }
}

pub(crate) fn read_questions(reader: &mut Reader<'_>, args: &GenerationArgs) -> u32 {
    let expected = "a whole number from 1 to 50";
    let questions = args.questions_per_chunk.as_deref();
    number(reader, &QUESTIONS, questions, expected, values::within(1..=50)).unwrap_or_default()
}

fn number<T>(
    reader: &mut Reader<'_>,
    setting: &'static Setting,
    flag: Option<&str>,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    reader.parsed(setting, flag, expected, parse)
}

/// Whether nobody could generate because the provider's key is not set.
fn lacks_key(reader: &mut Reader<'_>, chosen: &ChosenProvider, place: &Place) -> bool {
    let Place::Local(local) = place else { return false };
    let Some(ways) = ways_to_set_key(chosen.provider) else { return false };
    // What is set and wrong has its own message.
    let names_server = chosen.provider == Provider::OpenAi && chosen.names_openai_server;
    if !local.serving.servers.is_empty() || names_server || is_key_set(reader, chosen.provider) {
        return false;
    }
    let server = if chosen.provider == Provider::OpenAi {
        "; OPENAI_BASE_URL names a server of your own with its API"
    } else {
        ""
    };
    let problem = format!(
        "the provider is {} ({}), but its key is not set (--api-key, {ways}{server})",
        chosen.provider,
        where_from(&chosen.origin)
    );
    reader.mistake(Mistake::new(&PROVIDER, problem).remedy("use --provider local --model MODEL"));
    true
}

fn where_from(origin: &Origin) -> String {
    match origin {
        Origin::Default => "the default".to_owned(),
        found => format!("found {found}"),
    }
}

pub(crate) fn read_prompt(reader: &mut Reader<'_>, args: &GenerationArgs) -> PromptSettings {
    let system_message = reader.text(&SYSTEM_MESSAGE, args.qa_system_message.as_deref());
    let extra_instructions = reader.text(&EXTRA_INSTRUCTIONS, args.qa_extra_instructions.as_deref());
    let flag = args.qa_prompt_template_file.as_deref();
    let file = reader.file_text(&TEMPLATE_FILE, flag);
    // The job keeps the text; a flag without a name asks for the built-in prompt.
    let is_named = flag.is_some() || reader.is_set(&TEMPLATE_FILE).is_some();
    let kept = reader.in_job(&TEMPLATE_TEXT).filter(|_| !is_named).map(|found| found.value);
    if let Some((path, text)) = &file
        && let Err(error) = template::validate(text)
    {
        let mistake = Mistake::new(&TEMPLATE_FILE, format!("the template `{}`: {error}", path.display()));
        reader.mistake(mistake);
    }
    PromptSettings {
        system_message: system_message.map(|found| found.value),
        extra_instructions: extra_instructions.map(|found| found.value),
        template: file.map(|(_, text)| text).or(kept),
    }
}

fn read_ollama(reader: &mut Reader<'_>, args: &GenerationArgs) -> OllamaOptions {
    let top_k = "a whole number of at least 0";
    let penalty = "a number above 0 and up to 10";
    OllamaOptions {
        top_k: number(reader, &TOP_K, args.ollama_top_k.as_deref(), top_k, values::within(0..=u32::MAX)),
        top_p: number(
            reader,
            &TOP_P,
            args.ollama_top_p.as_deref(),
            "a number from 0 to 1",
            values::within(0.0..=1.0),
        ),
        repeat_penalty: number(
            reader,
            &REPEAT_PENALTY,
            args.ollama_repeat_penalty.as_deref(),
            penalty,
            |text| values::within(0.0..=10.0)(text).filter(|penalty| *penalty > 0.0),
        ),
        num_predict: read_num_predict(reader, args.ollama_num_predict.as_deref()),
        num_ctx: number(
            reader,
            &NUM_CTX,
            args.ollama_num_ctx.as_deref(),
            "a whole number of at least 512",
            values::within(512..=10_000_000),
        ),
        keep_alive: number(
            reader,
            &KEEP_ALIVE,
            args.ollama_keep_alive.as_deref(),
            "a time such as 10m or 1h30m, a number of seconds, or -1 for ever",
            |text| is_keep_alive(text).then(|| text.to_owned()),
        ),
        stop: read_stop(reader, &args.ollama_stop),
    }
}

/// Whether Ollama takes a text for a time: a whole number of seconds, or numbers with units, as Go writes them.
fn is_keep_alive(text: &str) -> bool {
    let positive = text.strip_prefix('-').unwrap_or(text);
    if positive.parse::<u32>().is_ok() {
        return true;
    }
    let mut rest = positive;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, after) = rest.split_at(digits);
        let unit = ["ms", "us", "ns", "s", "m", "h"].into_iter().find(|unit| after.starts_with(unit));
        let (Ok(_), Some(unit)) = (number.parse::<f64>(), unit) else { return false };
        rest = &after[unit.len()..];
    }
    !positive.is_empty()
}

/// The Python program sent -1 (no limit) and -2 (to the end of the context) to Ollama. An answer without a
/// ceiling can hold a slot for ever, so ours applies.
fn read_num_predict(reader: &mut Reader<'_>, flag: Option<&str>) -> Option<u32> {
    let expected = "a whole number of at least 1, or -1 for no ceiling of its own";
    let number: i64 = reader.parsed(&NUM_PREDICT, flag, expected, |text| {
        values::within(-2..=i64::from(u32::MAX))(text).filter(|number| *number != 0)
    })?;
    if number < 0 {
        reader.note(format!("--ollama-num-predict {number} counts as unset: the ceiling is --max-tokens"));
    }
    u32::try_from(number).ok()
}

fn read_stop(reader: &mut Reader<'_>, flags: &[String]) -> Vec<String> {
    if !flags.is_empty() {
        let shown = serde_json::to_string(flags).unwrap_or_default();
        let texts: Vec<_> = flags.iter().filter(|text| !text.is_empty()).cloned().collect();
        if !texts.is_empty() {
            reader.text(&STOP, Some(&shown));
        }
        return texts;
    }
    let Some(found) = reader.text(&STOP, None) else { return Vec::new() };
    let Some(mut texts) = values::text_list(&found.value) else {
        let mistake = Mistake::value(&STOP, &found, "a JSON list of texts, or one text");
        reader.mistake(mistake.remedy("write for example [\"<|im_end|>\"]"));
        return Vec::new();
    };
    texts.retain(|text| !text.is_empty());
    if !texts.is_empty() && !reader.has_job() {
        reader.note(format!("OLLAMA_STOP now takes effect (the Python program ignored it): {}", found.value));
    }
    texts
}

/// What the model does with settings that it cannot follow, as far as the table of models knows it.
pub(crate) fn note_model(
    reader: &mut Reader<'_>,
    settings: &GenerationSettings,
    place: &Place,
    table: &ModelTable,
) {
    let is_own = matches!(place, Place::Local(place)
        if place.serving.servers.iter().any(|server| server.service == Service::Compatible));
    let service = if is_own { Service::Compatible } else { settings.provider.into() };
    // Ollama tells by itself whether a model reasons, and takes every temperature.
    if service == Service::Ollama || settings.model.is_empty() {
        return;
    }
    let (traits, model) = (table.traits(service, &settings.model), &settings.model);
    let wish = settings.reasoning.unwrap_or(Reasoning::Off);
    if wish > Reasoning::Off && traits.reasoning == ReasoningControl::None {
        reader.warn(format!(
            "--reasoning {wish} changes nothing: by the table of models {model} has no such control"
        ));
    } else if wish > Reasoning::Off
        && service == Service::Claude
        && traits.reasoning == ReasoningControl::Budget
    {
        const LEAST: u32 = 2048;
        if settings.max_tokens < LEAST {
            reader.warn(format!(
                "--reasoning {wish} changes nothing: {model} needs --max-tokens of at least {LEAST} for it"
            ));
        }
    } else if settings.reasoning == Some(Reasoning::Off) && traits.reasons(settings.reasoning) {
        reader.note(format!("{model} cannot do without reasoning: it is asked for as little as it takes"));
    }
    if traits.temperature == Temperature::Never {
        reader.note(format!("{model} takes no temperature: its own is used"));
    } else if service == Service::Claude && settings.temperature > 1.0 {
        reader.note(format!("{model} takes temperatures up to 1: that is used"));
    }
}

/// Answers that would be cut are foreseen.
fn note_ceiling(reader: &mut Reader<'_>, settings: &GenerationSettings) {
    let ceiling = settings.output_ceiling();
    let has_own_ceiling = settings.ollama.num_predict.is_some();
    let flag = if has_own_ceiling { NUM_PREDICT.name() } else { MAX_TOKENS.name() };
    let needed = settings.questions_per_chunk.saturating_mul(TOKENS_PER_PAIR);
    if ceiling < needed {
        reader.warn(format!(
            "{ceiling} tokens ({flag}) are few for {} pairs per chunk: answers may be cut, allow about {needed}",
            settings.questions_per_chunk
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::is_keep_alive;

    #[test]
    fn times_are_those_that_ollama_takes() {
        for good in ["0", "-1", "3600", "10m", "1h30m", "-1m", "1.5h", "300ms"] {
            assert!(is_keep_alive(good), "{good}");
        }
        for bad in ["", "-", "ten", "10 m", "10x", "m", "1h30", "1.2.3s", "infinity", "1e3"] {
            assert!(!is_keep_alive(bad), "{bad}");
        }
    }
}
