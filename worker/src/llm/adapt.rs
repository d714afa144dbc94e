//! A service refused a parameter: which of the model's traits was wrong, and what is tried instead.
//!
//! PURE. Each adaptation takes something away, so that a request cannot be adapted for ever. What was learned
//! holds for the process. It must not know how a request is sent.

use qa_shared::model::Reasoning;
use qa_shared::model_table::{
    ModelTraits, OutputLimit, ReasoningControl, ReasoningOff, Service, Streaming, Structured, Temperature,
};
use serde_json::Value;

use super::retry::ErrorInfo;
use super::system_role::is_refused;

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
const UNKNOWN: &[&str] = &[
    "unsupported",
    "not supported",
    "not support",
    "n't support",
    "unknown",
    "unrecognized",
    "not permitted",
    "not allowed",
    "not stream",
    "extra inputs",
    "instead",
];

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
    let what = if let Some(what) = other_conversation(&mut traits, service, body, &text) {
        what
    } else if names(&["temperature"]) && (sent("/temperature") || sent("/generationConfig/temperature")) {
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

/// What is about the conversation rather than about its answer: who speaks, whether the model reasons, how
/// the answer travels.
fn other_conversation(
    traits: &mut ModelTraits,
    service: Service,
    body: &Value,
    text: &str,
) -> Option<&'static str> {
    let names = |names: &[&str]| names.iter().any(|name| text.contains(name));
    if is_refused(text) && has_system(body) {
        traits.system_role = false;
        return Some("takes no system message: the first question begins with it");
    }
    if names(&["enable_thinking", "enable thinking", "chat_template_kwargs"])
        && let Some(what) = other_switch(traits, body, text)
    {
        return Some(what);
    }
    if is_openai(service)
        && let Some(what) = other_streaming(traits, body, text)
    {
        return Some(what);
    }
    let has_penalty = ["/frequency_penalty", "/generationConfig/frequencyPenalty"]
        .iter()
        .any(|name| body.pointer(name).is_some());
    (has_penalty && names(&["frequency_penalty", "frequencypenalty", "penalties", "penalty"])).then(|| {
        traits.frequency_penalty = false;
        "takes no penalty for repetitions"
    })
}

fn has_system(body: &Value) -> bool {
    body.get("systemInstruction").is_some()
        || body["messages"]
            .as_array()
            .is_some_and(|all| all.iter().any(|message| message["role"] == "system"))
}

/// Servers take the switch for reasoning in the template's arguments, in the request itself, or not at all.
fn other_switch(traits: &mut ModelTraits, body: &Value, text: &str) -> Option<&'static str> {
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let sent = |name: &str| body.get(name).is_some();
    let (in_request, in_template) = (sent("enable_thinking"), sent("chat_template_kwargs"));
    let names_template = text.contains("chat_template_kwargs");
    if !in_request && says(&["false", "required", "missing"]) && !says(UNKNOWN) {
        traits.reasoning = if in_template { ReasoningControl::Switches } else { ReasoningControl::Switch };
        return Some("wants its switch for reasoning in the request itself");
    }
    if in_request && traits.stream == Streaming::Never && text.contains("stream") {
        traits.stream = Streaming::WithUsage;
        return Some("reasons in streams only: its answers are streamed");
    }
    if !in_request && !in_template {
        return None;
    }
    let (control, what) = match traits.reasoning {
        ReasoningControl::Switches if names_template => {
            (ReasoningControl::Switch, "takes no arguments for its chat template")
        }
        ReasoningControl::Switches => {
            (ReasoningControl::Template, "has no switch for reasoning in the request")
        }
        ReasoningControl::Template if names_template && !text.contains("enable_thinking") => (
            ReasoningControl::Switch,
            "takes no arguments for its chat template: the request itself has the switch",
        ),
        _ => (ReasoningControl::None, "has no switch for its reasoning"),
    };
    traits.reasoning = control;
    Some(what)
}

/// Some models only stream, some servers do not, and some stream without telling tokens.
fn other_streaming(traits: &mut ModelTraits, body: &Value, text: &str) -> Option<&'static str> {
    // Gateways speak of their upstream servers.
    let text = text.replace("upstream", "");
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if says(&["stream_options", "include_usage"]) && body.get("stream_options").is_some() {
        traits.stream = Streaming::Plain;
        return Some("does not tell its tokens in a stream");
    }
    if !says(&["stream"]) {
        return None;
    }
    if traits.stream == Streaming::Never {
        let wants_stream = says(&[
            "only support stream",
            "only supports stream",
            "support stream mode",
            "streaming only",
            "stream only",
            "must be stream",
            "must stream",
            "stream must be",
            "stream=true",
            "stream to true",
            "stream: true",
            "\"stream\": true",
            "non-stream",
            "streaming is required",
            "requires stream",
            "require stream",
            "enable the stream",
            "enable stream",
            "use stream",
        ]);
        return wants_stream.then(|| {
            traits.stream = Streaming::WithUsage;
            "only streams: its answers are streamed"
        });
    }
    says(UNKNOWN).then(|| {
        traits.stream = Streaming::Never;
        "does not stream: its answers come in one piece"
    })
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

    fn said(message: &str) -> Value {
        json!({ "error": { "message": message, "type": "invalid_request_error", "param": null } })
    }

    #[test]
    fn a_model_without_a_system_message_gets_none() {
        let mut request = request();
        request.messages.insert(0, super::super::Message::new(super::super::Role::System, "Rules."));
        let traits = ModelTable::default().traits(Service::Compatible, "gemma-2-9b-it");
        let info = ErrorInfo::read(said("System role not supported").to_string().as_bytes());
        let adapted =
            adapt(Service::Compatible, &traits, None, &openai::body(&request, &traits), &info).unwrap();
        let body = openai::body(&request, &adapted.traits);
        assert_eq!(body["messages"], json!([{ "role": "user", "content": "Rules.\n\nHello." }]));
        assert!(
            adapt(Service::Compatible, &adapted.traits, None, &body, &info).is_none(),
            "there is none left"
        );
        let traits = ModelTable::default().traits(Service::Gemini, "gemma-3-27b-it");
        let info = ErrorInfo::read(
            said("Developer instruction is not enabled for models/gemma-3-27b-it").to_string().as_bytes(),
        );
        let adapted = adapt(Service::Gemini, &traits, None, &gemini::body(&request, &traits), &info).unwrap();
        let body = gemini::body(&request, &adapted.traits);
        assert_eq!(
            (body.get("systemInstruction"), &body["contents"][0]["parts"][0]["text"]),
            (None, &json!("Rules.\n\nHello."))
        );
    }

    #[test]
    fn the_switch_for_reasoning_stands_where_the_server_reads_it() {
        let must = "parameter.enable_thinking must be set to false for non-streaming calls";
        let unknown = |name: &str| said(&format!("Unrecognized request argument supplied: {name}"));
        let control = |model: &str, errors: &[Value]| {
            let all = after(Service::Compatible, model, errors);
            all.last().unwrap().as_ref().map(|traits| traits.reasoning)
        };
        assert_eq!(control("qwen3", &[said(must)]), Some(ReasoningControl::Switches));
        assert_eq!(control("qwen-plus", &[said(must)]), Some(ReasoningControl::Switch));
        assert_eq!(control("qwen3", &[unknown("chat_template_kwargs")]), Some(ReasoningControl::Switch));
        assert_eq!(
            control("qwen3", &[said(must), unknown("enable_thinking")]),
            Some(ReasoningControl::Template)
        );
        assert_eq!(
            control("qwen3", &[unknown("chat_template_kwargs"), unknown("enable_thinking")]),
            Some(ReasoningControl::None)
        );
        let only_true = said("The value of the enable_thinking parameter is restricted to True.");
        assert_eq!(control("qwen3", &[only_true]), Some(ReasoningControl::None));
    }

    #[test]
    fn answers_travel_as_the_server_can() {
        let streaming = |service, errors: &[Value]| {
            let all = after(service, "m", errors);
            all.last().unwrap().as_ref().map(|traits| traits.stream)
        };
        for message in [
            "This model only support stream mode, please enable the stream parameter to access the model. ",
            "Stream must be set to true for this model",
            "Non-streaming requests are not supported",
        ] {
            assert_eq!(streaming(Service::OpenAi, &[said(message)]), Some(Streaming::WithUsage), "{message}");
        }
        let options = said("stream_options: Extra inputs are not permitted");
        assert_eq!(streaming(Service::Compatible, std::slice::from_ref(&options)), Some(Streaming::Plain));
        assert_eq!(
            streaming(Service::Compatible, &[options, said("'stream' is not supported")]),
            Some(Streaming::Never)
        );
        assert_eq!(streaming(Service::Compatible, &[said("upstream: not supported")]), None);
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
                "temperature thinking effort reasoning_effort chat_template_kwargs enable_thinking stream \
                 stream_options frequency_penalty system role not supported {}", FORMAT.join(" "),
            );
            let errors = vec![named("x", &everything); 30];
            let adapted = after(service, model, &errors);
            prop_assert!(adapted.last().unwrap().is_none());
        }
    }
}
