//! An answer before it is sent: its tokens, and how it ends.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::{Value, json};

use super::answer::pairs_for;
use super::call::{Call, Durations};
use super::config::{FakeModel, PromptCounts};
use super::script::{Behaviour, ChatCall};
use crate::testing::fake_server::answer::{as_json, fenced, repeating, tokens};
use crate::testing::fake_server::pause;

/// Tokens that come before a fault in the middle of an answer.
const TOKENS_BEFORE_FAULT: usize = 3;
/// Without a delay this many tokens share a line.
const TOKENS_PER_LINE: usize = 16;

/// How an answer ends.
#[derive(Clone)]
enum Ending {
    Done(String),
    Line(String),
    Early,
    Hang,
    Break,
}

/// An answer before it is sent.
pub(super) struct Plan {
    model: String,
    /// Tokens with whether they are reasoning.
    pieces: Vec<(bool, String)>,
    /// What is reported for the prompt; nothing where it is left out.
    counted: Option<usize>,
    ending: Ending,
    done: bool,
}

impl Plan {
    pub(super) fn new(
        call: &ChatCall,
        behaviour: &Behaviour,
        model: &FakeModel,
        prompt: usize,
        context: usize,
        counts: PromptCounts,
    ) -> Self {
        let reasoning = reasoning_tokens(&call.body, model);
        let text = content(call, behaviour, model);
        let mut pieces: Vec<(bool, String)> = vec![(true, "hm, ".to_owned()); reasoning];
        let is_thought = matches!(behaviour, Behaviour::InThinking(_));
        pieces.extend(tokens(&text).into_iter().map(|token| (is_thought, token)));
        let ceiling = call.body["options"]["num_predict"].as_u64().and_then(|n| usize::try_from(n).ok());
        let mut ceiling = ceiling.unwrap_or(usize::MAX).min(context.saturating_sub(prompt));
        if let Behaviour::CutAfter(tokens) = behaviour {
            ceiling = ceiling.min(*tokens);
        }
        let ending = match behaviour {
            Behaviour::ErrorLine(text) => Ending::Line(json!({ "error": text }).to_string()),
            Behaviour::GarbageLine => Ending::Line("<html>bad gateway</html>".to_owned()),
            Behaviour::EndsEarly => Ending::Early,
            Behaviour::HangMidStream => Ending::Hang,
            Behaviour::DropMidStream => Ending::Break,
            Behaviour::DoneReason(reason) => Ending::Done(reason.clone()),
            _ if pieces.len() > ceiling => Ending::Done("length".to_owned()),
            _ => Ending::Done("stop".to_owned()),
        };
        let sent = if matches!(ending, Ending::Done(_)) { ceiling } else { ceiling.min(TOKENS_BEFORE_FAULT) };
        pieces.truncate(sent);
        let done = *behaviour != Behaviour::NotDone;
        let counted = counts.reported(prompt);
        Self { model: model.name.clone(), pieces, counted, ending, done }
    }

    /// How many tokens it has.
    pub(super) fn tokens(&self) -> u32 {
        u32::try_from(self.pieces.len()).unwrap_or(u32::MAX)
    }

    /// The lines of a stream; the call lives as long as they do.
    pub(super) fn stream(self, call: Call, token_delay: Duration) -> Body {
        let per_line = if token_delay.is_zero() { TOKENS_PER_LINE } else { 1 };
        let mut lines: Vec<String> = Vec::new();
        for group in self.pieces.chunk_by(|a, b| a.0 == b.0) {
            for pieces in group.chunks(per_line) {
                let text: String = pieces.iter().map(|(_, token)| token.as_str()).collect();
                lines.push(self.line(pieces[0].0, &text));
            }
        }
        match &self.ending {
            Ending::Line(line) => lines.push(line.clone()),
            Ending::Done(_) | Ending::Early | Ending::Hang | Ending::Break => {}
        }
        let last = match &self.ending {
            Ending::Done(reason) => Some(self.last_line("", "", reason)),
            _ => None,
        };
        let state = (lines.into_iter(), last, Some(call), self.ending, true);
        Body::from_stream(stream::unfold(
            state,
            move |(mut lines, mut last, mut call, ending, first)| async move {
                let delay = if first { Duration::ZERO } else { token_delay };
                if let Some(line) = lines.next() {
                    pause(delay).await;
                    return Some((Ok(Bytes::from(line + "\n")), (lines, last, call, ending, false)));
                }
                if let Some(mut line) = last.take() {
                    pause(delay).await;
                    tell(&mut line, call.as_ref().map(Call::durations).unwrap_or_default());
                    let line = Bytes::from(format!("{line}\n"));
                    return Some((Ok(line), (lines, None, call, ending, false)));
                }
                if matches!(ending, Ending::Hang) {
                    std::future::pending::<()>().await;
                }
                if let Some(call) = call.take() {
                    call.finish();
                }
                match ending {
                    Ending::Break => {
                        // What was said before goes out first: the HTTP server flushes when it has to wait.
                        tokio::task::yield_now().await;
                        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
                        Some((Err(broken), (lines, None, call, Ending::Early, false)))
                    }
                    _ => None,
                }
            },
        ))
    }

    /// The answer in one object.
    pub(super) fn whole(&self, durations: Durations) -> Value {
        let text = |reasoning: bool| -> String {
            self.pieces.iter().filter(|piece| piece.0 == reasoning).map(|piece| piece.1.as_str()).collect()
        };
        if !self.done {
            let message = json!({ "role": "assistant", "content": text(false) });
            return json!({ "model": self.model, "message": message, "done": false });
        }
        let reason = if let Ending::Done(reason) = &self.ending { reason } else { "stop" };
        let mut line = self.last_line(&text(false), &text(true), reason);
        tell(&mut line, durations);
        line
    }

    fn line(&self, reasoning: bool, text: &str) -> String {
        let (content, thinking) = if reasoning { ("", text) } else { (text, "") };
        json!({ "model": self.model, "message": message(content, thinking), "done": false }).to_string()
    }

    fn last_line(&self, content: &str, thinking: &str, reason: &str) -> Value {
        let generated = self.pieces.len();
        let mut line = json!({
            "model": self.model, "message": message(content, thinking), "done": true, "done_reason": reason,
        });
        if let Some(counted) = self.counted {
            line["prompt_eval_count"] = json!(counted);
            line["eval_count"] = json!(generated);
        }
        line
    }
}

/// Completes a last line, in nanoseconds.
fn tell(line: &mut Value, durations: Durations) {
    let Durations { total, load, prompt, generation } = durations;
    let all = [
        ("total_duration", total),
        ("load_duration", load),
        ("prompt_eval_duration", prompt),
        ("eval_duration", generation),
    ];
    for (name, duration) in all {
        line[name] = json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

fn message(content: &str, thinking: &str) -> Value {
    let mut message = json!({ "role": "assistant", "content": content });
    if !thinking.is_empty() {
        message["thinking"] = json!(thinking);
    }
    message
}

/// Reasoning is on unless it is turned off; the gpt-oss family only knows levels.
fn reasoning_tokens(body: &Value, model: &FakeModel) -> usize {
    if !model.can("thinking") {
        return 0;
    }
    match &body["think"] {
        Value::Bool(false) if model.architecture != "gptoss" => 0,
        Value::String(level) if level == "low" => model.thinking_tokens / 20,
        _ => model.thinking_tokens,
    }
}

fn content(call: &ChatCall, behaviour: &Behaviour, model: &FakeModel) -> String {
    // With think:false and a schema, gpt-oss models give nothing at all.
    if model.architecture == "gptoss" && call.body["think"] == json!(false) && call.body["format"].is_object()
    {
        return String::new();
    }
    let good = as_json(&pairs_for(call, call.asked));
    match behaviour {
        Behaviour::Text(text) | Behaviour::InThinking(text) => text.clone(),
        Behaviour::Repeat(unit) => {
            let ceiling = call.body["options"]["num_predict"].as_u64().and_then(|n| usize::try_from(n).ok());
            repeating(&pairs_for(call, 1), unit, ceiling.unwrap_or(usize::MAX))
        }
        Behaviour::Fewer(count) => as_json(&pairs_for(call, *count)),
        Behaviour::EmbeddedThinking => format!("<think>\nLet me see {{...}}.\n</think>\n\n{good}"),
        Behaviour::Fenced => fenced(&good),
        _ => good,
    }
}
