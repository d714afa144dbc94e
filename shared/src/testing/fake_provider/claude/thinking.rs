//! Claude's rules about thinking, which differ from model to model.

use serde_json::Value;

use super::faults::invalid;
use super::request::strictly;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, may, must};
use crate::testing::fake_provider::llm::FakeLlm;

/// A model with this among what it rejects does not think less at high efforts (Opus 5).
const HIGH_WITHOUT_THINKING: &str = "effort_without_thinking";

const KINDS: Kind = Kind::OneOf(&["enabled", "disabled", "adaptive"]);
const THINKING: &[Field] = &[
    must("type", KINDS),
    may("budget_tokens", Kind::Whole(0, i64::MAX)),
    may("display", Kind::OneOf(&["summarized", "omitted"])),
];

/// How much is thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Off,
    /// About this many tokens.
    On(usize),
}

impl Thinking {
    pub(super) fn is_on(self) -> bool {
        self != Self::Off
    }

    pub(super) fn tokens(self) -> usize {
        match self {
            Self::Off => 0,
            Self::On(tokens) => tokens,
        }
    }
}

pub(super) fn read(body: &Value, model: &FakeLlm, max_tokens: u64) -> Result<Thinking, Fault> {
    let effort = body.get("output_config").and_then(|output| output["effort"].as_str());
    if let Some(effort) = effort {
        if model.efforts.is_empty() {
            return Err(invalid("This model does not support the effort parameter."));
        }
        if !model.efforts.iter().any(|known| known == effort) {
            let known = model.efforts.join(", ");
            return Err(invalid(format!("output_config.effort: '{effort}' is not supported, only {known}")));
        }
    }
    let at_effort = effort.map_or(model.reasons, |effort| model.reasons_at(effort));
    let is_on_by_default = model.reasons_by_default > 0;
    let thinking = match body.get("thinking") {
        None if is_on_by_default => Thinking::On(at_effort),
        None => Thinking::Off,
        Some(thinking) => {
            strictly(thinking, "thinking", THINKING)?;
            match thinking["type"].as_str() {
                Some("enabled") => enabled(thinking, model, max_tokens)?,
                Some("adaptive") => adaptive(thinking, model, at_effort)?,
                _ => disabled(thinking, model, effort)?,
            }
        }
    };
    if thinking.is_on() {
        sampling(body)?;
    }
    Ok(thinking)
}

fn enabled(thinking: &Value, model: &FakeLlm, max_tokens: u64) -> Result<Thinking, Fault> {
    let Some((least, _)) = model.budget else {
        return Err(invalid(
            "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
             \"output_config.effort\" to control thinking behavior.",
        ));
    };
    let Some(budget) = thinking["budget_tokens"].as_u64() else {
        return Err(invalid("thinking.enabled.budget_tokens: Field required"));
    };
    if budget < least {
        return Err(invalid(format!(
            "thinking.enabled.budget_tokens: Input should be greater than or equal to {least}"
        )));
    }
    if budget >= max_tokens {
        return Err(invalid("`max_tokens` must be greater than `thinking.budget_tokens`."));
    }
    Ok(Thinking::On(usize::try_from(budget).unwrap_or(usize::MAX).min(model.reasons)))
}

fn adaptive(thinking: &Value, model: &FakeLlm, at_effort: usize) -> Result<Thinking, Fault> {
    if !model.adaptive {
        return Err(invalid("adaptive thinking is not supported on this model"));
    }
    without_budget(thinking, "adaptive")?;
    Ok(Thinking::On(at_effort))
}

fn disabled(thinking: &Value, model: &FakeLlm, effort: Option<&str>) -> Result<Thinking, Fault> {
    if !model.can_disable {
        return Err(invalid("\"thinking.type.disabled\" is not supported for this model."));
    }
    if model.rejects(HIGH_WITHOUT_THINKING) && matches!(effort, Some("xhigh" | "max")) {
        return Err(invalid("\"thinking.type.disabled\" is not supported with this effort for this model."));
    }
    without_budget(thinking, "disabled")?;
    Ok(Thinking::Off)
}

fn without_budget(thinking: &Value, kind: &str) -> Result<(), Fault> {
    match thinking.get("budget_tokens") {
        Some(_) => Err(invalid(format!("thinking.{kind}.budget_tokens: Extra inputs are not permitted"))),
        None => Ok(()),
    }
}

/// While it thinks, sampling keeps its defaults.
fn sampling(body: &Value) -> Result<(), Fault> {
    if body.get("temperature").is_some_and(|temperature| temperature.as_f64() != Some(1.0)) {
        return Err(invalid("`temperature` may only be set to 1 when thinking is enabled."));
    }
    if body.get("top_k").is_some() {
        return Err(invalid("`top_k` must be unset when thinking is enabled."));
    }
    Ok(())
}
