//! Which context the requests of a run need, and what people are told about chunks that need far more than the
//! others (PURE).

use qa_shared::model::{GenerationSettings, Provider};

use crate::core::Core;
use crate::estimate::{self, Contexts};
use crate::format::{count, counted, line};

/// Chunks that a note names.
const MOST_NAMED: usize = 3;

/// Has chunks that are far longer than the others done apart from them, at the end.
pub(crate) fn plan_contexts(
    settings: &GenerationSettings,
    core: &mut Core,
    notes: &mut Vec<String>,
) -> Contexts {
    let contexts = estimate::contexts(settings, core.wanted_tokens());
    if let Some(apart) = contexts.apart {
        core.do_apart(apart.above);
        let (number, named) = longest(core, |tokens| tokens > apart.above);
        notes.push(format!(
            "{} far longer than the others: {named}; asked about last, with a context of {} tokens instead of {}",
            counted(number, "chunk"),
            count(apart.num_ctx.into()),
            count(requested(contexts.ordinary).into())
        ));
    }
    if let Some(fixed) = settings.ollama.num_ctx.filter(|_| settings.provider == Provider::Local) {
        let (number, named) = longest(core, |tokens| estimate::context_tokens(settings, tokens) > fixed);
        if number > 0 {
            notes.push(format!(
                "{} may need more than --ollama-num-ctx {fixed} with prompt and answer: {named}; what does not fit \
                 fails as prompt_too_long",
                counted(number, "chunk")
            ));
        }
    }
    contexts
}

/// How many wanted chunks are of such a size, and the longest of them in words.
fn longest(core: &Core, is_long: impl Fn(u32) -> bool) -> (u64, String) {
    let mut long: Vec<_> = core.wanted_chunks().filter(|(_, _, tokens)| is_long(*tokens)).collect();
    long.sort_by_key(|(_, _, tokens)| std::cmp::Reverse(*tokens));
    let named = long.iter().take(MOST_NAMED).map(|(document, chunk, tokens)| {
        format!("{} chunk {chunk} (about {} tokens)", line(document.as_str(), 120), count((*tokens).into()))
    });
    let mut named: Vec<_> = named.collect();
    if long.len() > MOST_NAMED {
        named.push("...".to_owned());
    }
    (long.len() as u64, named.join(", "))
}

/// What a worker asks for: rounded up, and no less than Ollama gives anyhow.
fn requested(context: u32) -> u32 {
    context.div_ceil(1024).saturating_mul(1024).max(4096)
}
