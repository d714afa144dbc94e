//! The blocks of a prompt for Claude: who may say what, and where it may be remembered.

use serde_json::Value;

use super::faults::invalid;
use super::request::strictly;
use crate::testing::fake_provider::fault::Fault;
use crate::testing::fake_provider::fields::{Field, Kind, may, must};
use crate::testing::fake_provider::request::{Piece, text_of};

const MOST_BREAKPOINTS: usize = 4;

const MESSAGE: &[Field] =
    &[must("role", Kind::OneOf(&["user", "assistant"])), must("content", Kind::TextOrList)];
const KINDS: &[&str] = &["text", "thinking", "redacted_thinking", "tool_use", "tool_result"];
const TEXT: &[Field] =
    &[must("type", Kind::OneOf(&["text"])), must("text", Kind::Text), may("cache_control", Kind::Object)];
const BLOCK: &[Field] = &[
    must("type", Kind::OneOf(KINDS)),
    may("thinking", Kind::Text),
    may("signature", Kind::Text),
    may("data", Kind::Text),
    may("id", Kind::Text),
    may("name", Kind::Text),
    may("input", Kind::Object),
    may("tool_use_id", Kind::Text),
    may("content", Kind::TextOrList),
    may("is_error", Kind::Flag),
    may("cache_control", Kind::Object),
];
const CACHE: &[Field] = &[must("type", Kind::OneOf(&["ephemeral"])), may("ttl", Kind::OneOf(&["5m", "1h"]))];

/// The prompt in the order in which it is remembered: tools, system, messages.
pub(super) fn prompt(body: &Value) -> Result<Vec<Piece>, Fault> {
    let mut reader = Reader::default();
    for (index, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        reader.take("tool", &tool.to_string(), tool, &format!("tools.{index}"))?;
    }
    match &body["system"] {
        Value::String(text) => reader.take("system", text, &Value::Null, "system")?,
        system => {
            for (index, block) in system.as_array().into_iter().flatten().enumerate() {
                let at = format!("system.{index}");
                text_block(block, &at)?;
                reader.take("system", &text_of(&Value::Array(vec![block.clone()])), block, &at)?;
            }
        }
    }
    messages(body, &mut reader)?;
    reader.end()
}

fn messages(body: &Value, reader: &mut Reader) -> Result<(), Fault> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        return Err(invalid("messages: at least one message is required"));
    }
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages.{index}");
        strictly(message, &at, MESSAGE)?;
        if index == 0 && message["role"] != "user" {
            return Err(invalid("messages: first message must use the \"user\" role"));
        }
        let owner = format!("{index} {}", message["role"]);
        let content = &message["content"];
        let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
        if blocks.is_empty() && content.as_str().is_none_or(str::is_empty) {
            return Err(invalid(format!("{at}: messages must have non-empty content")));
        }
        if let Some(text) = content.as_str() {
            reader.take(&owner, text, &Value::Null, &at)?;
        }
        for (index, block) in blocks.iter().enumerate() {
            let at = format!("{at}.content.{index}");
            if block["type"] == "text" {
                text_block(block, &at)?;
            } else {
                strictly(block, &at, BLOCK)?;
            }
            reader.take(&owner, &text_of(&Value::Array(vec![block.clone()])), block, &at)?;
        }
    }
    Ok(())
}

fn text_block(block: &Value, at: &str) -> Result<(), Fault> {
    strictly(block, at, TEXT)?;
    if block["text"] == "" {
        return Err(invalid(format!("{at}: text content blocks must be non-empty")));
    }
    Ok(())
}

#[derive(Default)]
struct Reader {
    pieces: Vec<Piece>,
    is_short: bool,
}

impl Reader {
    fn take(&mut self, owner: &str, text: &str, block: &Value, at: &str) -> Result<(), Fault> {
        let mut piece = Piece::new(owner, text);
        if let Some(cache) = block.get("cache_control") {
            strictly(cache, &format!("{at}.cache_control"), CACHE)?;
            piece.is_breakpoint = true;
            let is_long = cache["ttl"] == "1h";
            if is_long && self.is_short {
                return Err(invalid(format!(
                    "{at}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' \
                     cache_control block."
                )));
            }
            self.is_short = !is_long;
        }
        self.pieces.push(piece);
        Ok(())
    }

    fn end(self) -> Result<Vec<Piece>, Fault> {
        let breakpoints = self.pieces.iter().filter(|piece| piece.is_breakpoint).count();
        if breakpoints > MOST_BREAKPOINTS {
            return Err(invalid(format!(
                "A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {breakpoints}."
            )));
        }
        Ok(self.pieces)
    }
}
