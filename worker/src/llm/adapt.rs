//! A service refused a parameter: which of the model's traits was wrong, and what is tried instead.
//!
//! PURE. Each adaptation takes something away, so that a request cannot be adapted for ever. What was learned
//! holds for the process. It must not know how a request is sent.

use qa_shared::model::Reasoning;
use qa_shared::model_table::{
    ModelTraits, OutputLimit, ReasoningControl, ReasoningOff, Service, Structured, Temperature,
};
use serde_json::Value;

use super::retry::ErrorInfo;

/// What a model turned out to be like, and that in words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adapted {
    pub(super) traits: ModelTraits,
    pub(super) what: &'static str,
}

/// What is done only once, since it could go to and fro.
pub(super) const RENAMED: &str = "wants the output ceiling under its other name";

/// Names under which services speak of the form of an answer.
const FORMAT: &[&str] = &[
    "response_format",
    "json_schema",
    "json mode",
    "json_object",
    "output_config.format",
    "output_format",
    "structured output",
    "responsejsonschema",
    "response_json_schema",
    "response_schema",
    "responsemimetype",
    "response_mime_type",
    "tool_choice",
    "input_schema",
    "grammar",
    "schema",
];
const THINKING: &[&str] = &[
    "thinking",
    "budget_tokens",
    "thinking_budget",
    "thinkingbudget",
    "thinkinglevel",
    "adaptive",
    "effort",
];
const UNKNOWN: &[&str] =
    &["unsupported", "not supported", "unknown", "unrecognized", "not permitted", "extra inputs", "instead"];

/// Adapts to an error that names a parameter of `body`, the request that it answers.
pub(super) fn adapt(
    service: Service,
    traits: &ModelTraits,
    wish: Option<Reasoning>,
    body: &Value,
    info: &ErrorInfo,
) -> Option<Adapted> {
    let text = format!("{} {}", info.parameter.as_deref().unwrap_or_default(), info.message).to_lowercase();
    let names = |names: &[&str]| names.iter().any(|name| text.contains(name));
    let sent = |pointer: &str| body.pointer(pointer).is_some();
    let mut traits = traits.clone();
    let what = if names(&["temperature"]) && (sent("/temperature") || sent("/generationConfig/temperature")) {
        traits.temperature = Temperature::Never;
        "does not take a temperature: its own is used"
    } else if names(&["max_tokens", "max_completion_tokens"]) && names(UNKNOWN) && is_openai(service) {
        let other = match traits.output_limit {
            OutputLimit::MaxTokens => OutputLimit::MaxCompletionTokens,
            OutputLimit::MaxCompletionTokens => OutputLimit::MaxTokens,
        };
        traits.output_limit = other;
        RENAMED
    } else if names(&["reasoning_effort", "reasoning.effort"]) && sent("/reasoning_effort") {
        let refused = traits.level(wish);
        traits.levels.retain(|level| Some(*level) != refused);
        if traits.levels.is_empty() {
            traits.reasoning = ReasoningControl::None;
        }
        "does not take this reasoning effort: the next one is used"
    } else if names(&["chat_template_kwargs", "enable_thinking"]) && sent("/chat_template_kwargs") {
        traits.reasoning = ReasoningControl::None;
        "has no switch for its reasoning"
    } else if names(FORMAT) && traits.structured > Structured::Prompt && is_structured(body) {
        traits.structured = lower(service, traits.structured);
        match traits.structured {
            Structured::BoundedSchema | Structured::Schema => {
                "does not take bounds in a schema: they are left out"
            }
            Structured::Tool => "does not take a schema: a tool is used to get one",
            Structured::Json => "does not take a schema: plain JSON is asked for",
            Structured::Prompt => {
                "does not take any form of structured answer: only the prompt asks for JSON"
            }
        }
    } else if names(THINKING) && (sent("/thinking") || sent("/output_config/effort")) {
        calm_claude(&mut traits, body["thinking"]["type"] == "disabled");
        "does not take this way of saying how much it may think"
    } else if names(THINKING) && sent("/generationConfig/thinkingConfig") {
        calm_gemini(&mut traits, wish);
        "does not take this way of saying how much it may think"
    } else {
        return None;
    };
    Some(Adapted { traits, what })
}

fn is_openai(service: Service) -> bool {
    matches!(service, Service::OpenAi | Service::Compatible)
}

fn is_structured(body: &Value) -> bool {
    ["/response_format", "/output_config/format", "/tool_choice", "/generationConfig/responseMimeType"]
        .iter()
        .any(|pointer| body.pointer(pointer).is_some())
}

/// The next way to a structured answer that the service has.
fn lower(service: Service, structured: Structured) -> Structured {
    match (service, structured) {
        (_, Structured::BoundedSchema) => Structured::Schema,
        (Service::Claude, Structured::Schema) => Structured::Tool,
        (Service::OpenAi | Service::Compatible | Service::Gemini, Structured::Schema) => Structured::Json,
        (_, _) => Structured::Prompt,
    }
}

/// Budget, then adaptive, then nothing at all.
fn calm_claude(traits: &mut ModelTraits, says_disabled: bool) {
    match (traits.reasoning, traits.off) {
        (ReasoningControl::Budget, _) => traits.reasoning = ReasoningControl::Adaptive,
        (ReasoningControl::Adaptive, ReasoningOff::Disabled) if says_disabled => {
            traits.off = ReasoningOff::Impossible;
        }
        _ => traits.reasoning = ReasoningControl::None,
    }
}

/// The smallest budget, then one level after the other, then nothing at all.
fn calm_gemini(traits: &mut ModelTraits, wish: Option<Reasoning>) {
    const LEAST_OF_PRO: u32 = 128;
    if traits.reasoning == ReasoningControl::Budget && traits.least_budget < LEAST_OF_PRO {
        traits.least_budget = LEAST_OF_PRO;
    } else if traits.reasoning == ReasoningControl::Budget {
        traits.reasoning = ReasoningControl::Effort;
        traits.levels = vec![Reasoning::Low, Reasoning::Medium, Reasoning::High];
    } else if traits.levels.len() > 1 {
        let refused = traits.level(wish);
        traits.levels.retain(|level| Some(*level) != refused);
    } else {
        traits.reasoning = ReasoningControl::None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qa_shared::model_table::ModelTable;
    use serde_json::json;

    use super::super::{ChatRequest, claude, gemini, openai};
    use super::*;

    fn request() -> ChatRequest {
        ChatRequest { schema: Some(crate::prompt::answer_schema(2)), ..ChatRequest::of("m", "Hello.") }
    }

    fn body(service: Service, traits: &ModelTraits) -> Value {
        match service {
            Service::Claude => claude::body(&request(), traits),
            Service::Gemini => gemini::body(&request(), traits),
            _ => openai::body(&request(), traits),
        }
    }

    /// What a model is taken for after these errors.
    fn after(service: Service, model: &str, errors: &[Value]) -> Vec<Option<ModelTraits>> {
        let mut traits = ModelTable::default().traits(service, model);
        let mut all = Vec::new();
        for error in errors {
            let info = ErrorInfo::read(error.to_string().as_bytes());
            let adapted = adapt(service, &traits, None, &body(service, &traits), &info);
            if let Some(adapted) = &adapted {
                traits = adapted.traits.clone();
            }
            all.push(adapted.map(|adapted| adapted.traits));
        }
        all
    }

    fn named(parameter: &str, message: &str) -> Value {
        json!({"error": {"message": message, "param": parameter, "code": "unsupported_parameter"}})
    }

    #[test]
    fn openai_parameters_are_dropped_or_renamed() {
        let after = after(
            Service::OpenAi,
            "new",
            &[
                named("temperature", "Unsupported value"),
                named("max_completion_tokens", "Unsupported parameter"),
                named("response_format", "Invalid parameter: not supported with this model"),
                named("response_format", "json_object is not supported either"),
                named("response_format", "nothing of this kind is sent any more"),
            ],
        );
        assert_eq!(after[0].as_ref().unwrap().temperature, Temperature::Never);
        assert_eq!(after[1].as_ref().unwrap().output_limit, OutputLimit::MaxTokens);
        assert_eq!(after[2].as_ref().unwrap().structured, Structured::Json);
        assert_eq!(after[3].as_ref().unwrap().structured, Structured::Prompt);
        assert_eq!(after[4], None);
    }

    #[test]
    fn a_ceiling_that_is_too_large_is_not_a_wrong_name() {
        let error = named("max_tokens", "max_tokens is too large: 200000. This model supports at most 16384");
        assert_eq!(after(Service::OpenAi, "gpt-4.1", &[error]), [None]);
    }

    #[test]
    fn reasoning_efforts_are_tried_in_order() {
        let error = named("reasoning_effort", "Unsupported value: 'minimal'");
        let all = after(Service::OpenAi, "gpt-5-mini", &[error.clone(), error.clone(), error.clone(), error]);
        assert_eq!(all[0].as_ref().unwrap().level(None), Some(Reasoning::Low));
        assert_eq!(all[3].as_ref().unwrap().reasoning, ReasoningControl::None);
    }

    #[test]
    fn claude_falls_back_to_a_tool_and_calms_down() {
        let error = |message: &str| json!({"error": {"type": "invalid_request_error", "message": message}});
        let all = after(
            Service::Claude,
            "claude-sonnet-5",
            &[
                error("output_config.format: Extra inputs are not permitted"),
                error("tool_choice: not supported on this model"),
                error("thinking.type: disabled is not supported on this model"),
                error("effort: not supported"),
            ],
        );
        let structured = |index: usize| all[index].as_ref().unwrap().structured;
        assert_eq!((structured(0), structured(1)), (Structured::Tool, Structured::Prompt));
        assert_eq!(all[2].as_ref().unwrap().off, ReasoningOff::Impossible);
        assert_eq!(all[3].as_ref().unwrap().reasoning, ReasoningControl::None);
    }

    #[test]
    fn gemini_finds_the_way_to_say_how_much_it_may_think() {
        let error = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "Thinking budget 0 is invalid"}});
        let all = after(Service::Gemini, "gemini-2.5-new", &vec![error; 5]);
        assert_eq!(all[0].as_ref().unwrap().least_budget, 128);
        assert_eq!(all[1].as_ref().unwrap().reasoning, ReasoningControl::Effort);
        assert_eq!(all[2].as_ref().unwrap().level(None), Some(Reasoning::Medium));
        assert_eq!(all[4].as_ref().unwrap().reasoning, ReasoningControl::None);
    }

    #[test]
    fn an_error_about_something_else_is_not_adapted_to() {
        for service in [Service::OpenAi, Service::Claude, Service::Gemini, Service::Compatible] {
            assert_eq!(after(service, "m", &[named("messages", "too many messages")]), [None]);
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_errors_is_adapted_to_for_ever(
            service in prop::sample::select(vec![
                Service::OpenAi, Service::Compatible, Service::Claude, Service::Gemini,
            ]),
            model in prop::sample::select(vec!["gpt-5", "qwen3", "claude-opus-5", "claude-haiku-4-5", "gemini-2.5-flash"]),
        ) {
            let everything = format!(
                "temperature thinking effort reasoning_effort chat_template_kwargs {}", FORMAT.join(" "),
            );
            let errors = vec![named("x", &everything); 30];
            let adapted = after(service, model, &errors);
            prop_assert!(adapted.last().unwrap().is_none());
        }
    }
}
