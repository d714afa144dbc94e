//! Google's `generationConfig`: ceilings, the form of the answer, thinking.

use serde_json::Value;

use super::faults::invalid;
use super::request::strictly;
use super::schema;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, may};
use crate::testing::fake_provider::llm::FakeLlm;
use crate::testing::fake_provider::request::Form;

const MOST_STOPS: usize = 5;
const JSON: &str = "application/json";

const CONFIG: &[Field] = &[
    may("maxOutputTokens", Kind::Whole(1, i64::MAX)),
    may("temperature", Kind::Number(0.0, 2.0)),
    may("topP", Kind::Number(0.0, 1.0)),
    may("topK", Kind::Whole(1, i64::MAX)),
    may("seed", Kind::Whole(i32::MIN as i64, i32::MAX as i64)),
    may("stopSequences", Kind::List),
    may("presencePenalty", Kind::Number(-2.0, 2.0)),
    may("frequencyPenalty", Kind::Number(-2.0, 2.0)),
    may("candidateCount", Kind::Whole(1, 8)),
    may("responseMimeType", Kind::OneOf(&[JSON, "text/plain", "text/x.enum"])),
    may("responseSchema", Kind::Object),
    may("responseJsonSchema", Kind::Object),
    may("responseLogprobs", Kind::Flag),
    may("logprobs", Kind::Whole(0, 20)),
    may("thinkingConfig", Kind::Object),
];
const LEVELS: &[&str] = &["minimal", "low", "medium", "high", "MINIMAL", "LOW", "MEDIUM", "HIGH"];
const THINKING: &[Field] = &[
    may("includeThoughts", Kind::Flag),
    may("thinkingBudget", Kind::Whole(-1, i32::MAX as i64)),
    may("thinkingLevel", Kind::OneOf(LEVELS)),
];

/// What the configuration says.
pub(super) struct Generation {
    pub(super) ceiling: usize,
    pub(super) form: Form,
    pub(super) reasoning: usize,
    pub(super) shows_thoughts: bool,
    pub(super) answers: usize,
}

pub(super) fn read(body: &Value, model: &FakeLlm) -> Result<Generation, Fault> {
    let none = Value::Object(serde_json::Map::new());
    let config = body.get("generationConfig").unwrap_or(&none);
    strictly(config, "generationConfig", CONFIG)?;
    if config["stopSequences"].as_array().is_some_and(|stops| stops.len() > MOST_STOPS) {
        return Err(invalid(format!("The number of stop sequences must be at most {MOST_STOPS}.")));
    }
    let most = model.max_output;
    let ceiling = config["maxOutputTokens"].as_u64().unwrap_or(u64::from(most));
    if ceiling > u64::from(most) {
        return Err(invalid(format!(
            "Unable to submit request because it has a maxOutputTokens value of {ceiling} but the supported range \
             is from 1 (inclusive) to {} (exclusive). Update the value and try again.",
            most + 1
        )));
    }
    Ok(Generation {
        ceiling: usize::try_from(ceiling).unwrap_or(usize::MAX),
        form: form(config, model)?,
        reasoning: reasoning(config, model)?,
        shows_thoughts: config["thinkingConfig"]["includeThoughts"] == true,
        answers: config["candidateCount"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
    })
}

fn form(config: &Value, model: &FakeLlm) -> Result<Form, Fault> {
    let is_json = config["responseMimeType"] == JSON;
    if is_json && !model.supports_json_object {
        return Err(invalid(format!("JSON mode is not enabled for models/{}", model.name)));
    }
    let (schema, breach) = match (config.get("responseSchema"), config.get("responseJsonSchema")) {
        (None, None) => return Ok(if is_json { Form::Json } else { Form::Free }),
        (Some(_), Some(_)) => {
            return Err(invalid("Only one of response_schema and response_json_schema may be set."));
        }
        (Some(schema), None) => (schema, schema::open_api_breach(schema)),
        (None, Some(schema)) => (schema, schema::json_schema_breach(schema)),
    };
    if !is_json {
        return Err(invalid("A response schema needs the response_mime_type application/json."));
    }
    if !model.supports_schema {
        return Err(invalid(format!("response_schema is not supported for models/{}", model.name)));
    }
    match breach {
        Some(breach) => Err(invalid(breach)),
        None => Ok(Form::Schema(schema.clone())),
    }
}

/// Tokens that the model reasons.
fn reasoning(config: &Value, model: &FakeLlm) -> Result<usize, Fault> {
    let Some(thinking) = config.get("thinkingConfig") else { return Ok(model.reasons_by_default) };
    strictly(thinking, "generationConfig.thinkingConfig", THINKING)?;
    if !model.can_reason() {
        return Err(invalid("Thinking is not enabled for this model (thinkingConfig)."));
    }
    match (thinking["thinkingBudget"].as_i64(), thinking["thinkingLevel"].as_str()) {
        (Some(_), Some(_)) => {
            Err(invalid("You can only set only one of thinking budget and thinking level."))
        }
        (Some(budget), None) => with_budget(budget, model),
        (None, Some(level)) => with_level(level, model),
        (None, None) => Ok(model.reasons_by_default),
    }
}

fn with_budget(budget: i64, model: &FakeLlm) -> Result<usize, Fault> {
    let Some((least, most)) = model.budget else {
        return Err(invalid("Thinking budget is not supported for this model."));
    };
    match u64::try_from(budget) {
        Err(_) => Ok(model.reasons),
        Ok(0) if model.budget_off => Ok(0),
        Ok(0) => Err(invalid("Budget 0 is invalid. This model only works in thinking mode.")),
        Ok(budget) if (least..=most).contains(&budget) => {
            Ok(usize::try_from(budget).unwrap_or(usize::MAX).min(model.reasons))
        }
        Ok(budget) => Err(invalid(format!(
            "The thinking budget {budget} is invalid. Please choose a value between {least} and {most}."
        ))),
    }
}

fn with_level(level: &str, model: &FakeLlm) -> Result<usize, Fault> {
    if model.efforts.is_empty() {
        return Err(invalid("Thinking level is not supported for this model."));
    }
    if !model.efforts.iter().any(|known| known.eq_ignore_ascii_case(level)) {
        let level = level.to_ascii_uppercase();
        return Err(invalid(format!(
            "Thinking level {level} is not supported for this model. Please retry with other thinking level."
        )));
    }
    Ok(model.reasons_at(level))
}
