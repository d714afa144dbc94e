//! The form that a request to OpenAI wants its answer in: free, some JSON, a schema, a tool.

use serde_json::Value;

use super::faults::{INVALID, of_problem, unsupported};
use super::schema;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, Unknown, check, may, must};
use crate::testing::fake_provider::llm::FakeLlm;
use crate::testing::fake_provider::request::{Form, turns};

const LONGEST_NAME: usize = 64;

const KINDS: Kind = Kind::OneOf(&["text", "json_object", "json_schema"]);
const FORMAT: &[Field] = &[must("type", KINDS)];
const WITH_SCHEMA: &[Field] = &[must("type", KINDS), must("json_schema", Kind::Object)];
const SCHEMA: &[Field] = &[
    must("name", Kind::Text),
    must("schema", Kind::Object),
    may("strict", Kind::Flag),
    may("description", Kind::Text),
];
const TOOL: &[Field] = &[must("type", Kind::OneOf(&["function"])), must("function", Kind::Object)];
const FUNCTION: &[Field] = &[
    must("name", Kind::Text),
    may("description", Kind::Text),
    may("parameters", Kind::Object),
    may("strict", Kind::Flag),
];

pub(crate) fn read(body: &Value, model: &FakeLlm) -> Result<Form, Fault> {
    if let Some(tool) = forced_tool(body)? {
        return Ok(tool);
    }
    let Some(format) = body.get("response_format") else { return Ok(Form::Free) };
    let at = "response_format";
    match format["type"].as_str() {
        Some("json_schema") => {
            strictly(format, at, WITH_SCHEMA)?;
            if !model.supports_schema {
                return Err(not_with_this_model("json_schema"));
            }
            let schema = &format["json_schema"];
            strictly(schema, "response_format.json_schema", SCHEMA)?;
            let name = schema["name"].as_str().unwrap_or_default();
            valid_name(name, "response_format.json_schema.name")?;
            if schema["strict"] == true {
                unfit("response_format", name, &schema["schema"])?;
            }
            Ok(Form::Schema(schema["schema"].clone()))
        }
        Some("json_object") => {
            strictly(format, at, FORMAT)?;
            if !model.supports_json_object {
                return Err(not_with_this_model("json_object"));
            }
            if turns(body).iter().any(|turn| turn.text.to_ascii_lowercase().contains("json")) {
                return Ok(Form::Json);
            }
            let message = "'messages' must contain the word 'json' in some form, to use 'response_format' of \
                           type 'json_object'.";
            Err(Fault::new(400, INVALID, message).param("messages"))
        }
        _ => strictly(format, at, FORMAT).map(|()| Form::Free),
    }
}

/// The tool that the model must call.
fn forced_tool(body: &Value) -> Result<Option<Form>, Fault> {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, tool) in tools.iter().enumerate() {
        let at = format!("tools[{index}]");
        strictly(tool, &at, TOOL)?;
        let function = &tool["function"];
        strictly(function, &format!("{at}.function"), FUNCTION)?;
        let name = function["name"].as_str().unwrap_or_default();
        valid_name(name, &format!("{at}.function.name"))?;
        if function["strict"] == true {
            unfit("function", name, &function["parameters"])?;
        }
    }
    let choice = &body["tool_choice"];
    let forced = match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("required"), _) => tools.first(),
        (_, Some(name)) => tools.iter().find(|tool| tool["function"]["name"] == name),
        _ if choice.is_null() || choice == "auto" || choice == "none" => return Ok(None),
        _ => None,
    };
    let Some(tool) = forced else {
        let message = "Invalid value for 'tool_choice': no such tool in 'tools'.";
        return Err(Fault::new(400, INVALID, message).param("tool_choice"));
    };
    let function = &tool["function"];
    let name = function["name"].as_str().unwrap_or_default().to_owned();
    Ok(Some(Form::Tool(name, function["parameters"].clone())))
}

fn strictly(value: &Value, at: &str, fields: &[Field]) -> Result<(), Fault> {
    check(value, at, fields, Unknown::Refused).map_err(|problem| of_problem(&problem))
}

fn valid_name(name: &str, param: &str) -> Result<(), Fault> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let message = format!(
        "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern \
         '^[a-zA-Z0-9_-]+$' with a length from 1 to 64."
    );
    Err(Fault::new(400, INVALID, message).code("invalid_value").param(param))
}

/// Refuses a strict schema that breaks the rules.
fn unfit(place: &str, name: &str, schema: &Value) -> Result<(), Fault> {
    match schema::breach(schema) {
        None => Ok(()),
        Some(breach) => {
            let message = format!("Invalid schema for {place} '{name}': {breach}");
            let fault = Fault::new(400, INVALID, message).param(place);
            Err(if place == "function" { fault.code("invalid_function_parameters") } else { fault })
        }
    }
}

fn not_with_this_model(kind: &str) -> Fault {
    let message =
        format!("Invalid parameter: 'response_format' of type '{kind}' is not supported with this model.");
    Fault { message, ..unsupported("response_format") }
}
