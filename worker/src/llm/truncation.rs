//! Notices that a server cut the prompt although the request forbids it, and that its counts mean nothing.
//!
//! PURE. A cut prompt gives good-looking pairs about half a chunk, and nothing in the reply says so but the
//! count of prompt tokens. Refusing good work is worse than missing a cut, so the count alone never decides:
//! texts of one size differ tenfold in tokens, and a whole prompt may be as long as a cut one. What decides is
//! that a server which cuts reports the same count, near the context or its half, *whatever the text*: a count
//! there is a suspicion, and the same prompt with more text behind it (the probe) settles it. It must not know
//! how a request travels.

use qa_shared::tokens::{estimate_tokens, fewest_tokens};

/// How far from the context, or its half, the count of a cut prompt may lie: what is kept at the beginning
/// (`num_keep`) differs by model.
pub(crate) const NEAR: u32 = 16;
/// A probe whose count grew by this much was not cut; the filler takes several times as many tokens.
const GROWN: u32 = 16;
/// The same prompt is counted this alike.
const SAME: u32 = 2;
/// What a chat template and a gateway's own prompt add at most, in tokens.
const TEMPLATE: u32 = 4096;
/// So many prompts of different lengths in a row with the same count are no coincidence.
const CONSTANT_RUN: u32 = 5;
/// How often the probe's filler stands behind the prompt, and the filler itself: a sentence that no
/// tokenizer has a token for.
const FILLER: &str = " one two three four five six seven eight nine ten";
const FILLERS: usize = 10;

/// What a prompt's count says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing against the answer.
    Whole,
    /// The count is what a cut prompt's would be: ask with [`probe_text`] behind the prompt, and say the count to
    /// [`Counts::probed`].
    Suspicious,
    /// The server cut the prompt; says how that shows.
    Cut(String),
    /// The server's counts are not those of its prompts; says how that shows.
    Unusable(String),
}

/// How large a prompt is, seen from its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PromptSize {
    bytes: u32,
    /// Tokens that it takes at least.
    at_least: u32,
    /// Tokens that it takes at most, with a margin for the tokenizers that were not measured.
    at_most: u32,
}

impl PromptSize {
    /// Measures all messages of a conversation together.
    pub(crate) fn of<'a>(contents: impl IntoIterator<Item = &'a str>) -> Self {
        contents.into_iter().fold(Self::default(), |size, content| {
            let estimate = estimate_tokens(content);
            Self {
                bytes: size.bytes.saturating_add(u32::try_from(content.len()).unwrap_or(u32::MAX)),
                at_least: size.at_least.saturating_add(fewest_tokens(content)),
                at_most: size.at_most.saturating_add(estimate).saturating_add(estimate / 8 + 32),
            }
        })
    }
}

/// What is put behind a suspicious prompt to see whether its count grows.
pub(crate) fn probe_text() -> String {
    FILLER.repeat(FILLERS)
}

/// What is known about the counts that a server reports for a model's prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    num_ctx: u32,
    /// The largest count of a prompt that was not cut.
    longest_whole: u32,
    /// The count that the server's cut prompts have.
    cut_at: Option<u32>,
    run: Run,
}

/// The last prompts in a row whose counts were the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Run {
    count: u32,
    length: u32,
    shortest: u32,
    longest: u32,
    last: u32,
}

impl Run {
    fn add(&mut self, bytes: u32, count: u32) {
        if self.length == 0 || self.count != count {
            *self = Self { count, length: 1, shortest: bytes, longest: bytes, last: bytes };
            return;
        }
        // Prompts of one size have one count, whatever the server.
        self.length += u32::from(self.last != bytes);
        self.last = bytes;
        self.shortest = self.shortest.min(bytes);
        self.longest = self.longest.max(bytes);
    }

    /// Whether no tokenizer gives these prompts one count.
    fn is_constant(&self) -> bool {
        let spread = self.longest - self.shortest;
        self.length >= CONSTANT_RUN && spread > 64 && spread > self.longest / 20
    }
}

impl Counts {
    /// Judges the count of a reply's prompt, whatever becomes of the reply, and learns from it.
    pub(crate) fn judge(&mut self, prompt: &PromptSize, count: u32, num_ctx: u32) -> Verdict {
        if self.num_ctx != num_ctx {
            *self = Self { num_ctx, ..Self::default() };
        }
        self.run.add(prompt.bytes, count);
        if let Some(limit) = self.limit_near(count)
            && prompt.at_most > self.never_cut_below(limit, count)
            && self.run.shortest.saturating_add(NEAR) >= count
        {
            let is_known = self.cut_at.is_some_and(|cut| cut.abs_diff(count) <= SAME);
            return if is_known { self.is_cut(count) } else { Verdict::Suspicious };
        }
        if let Some(why) = self.why_unusable(prompt, count) {
            return Verdict::Unusable(why);
        }
        self.longest_whole = self.longest_whole.max(count);
        Verdict::Whole
    }

    /// Settles a suspicion: the count of the probe, or nothing where the server refused it as too long, as no
    /// server does that cuts.
    pub(crate) fn probed(&mut self, count: u32, probe: Option<u32>) -> Verdict {
        match probe {
            Some(probe) if probe.abs_diff(count) <= SAME => return self.is_cut(count),
            // The probe is what was cut, to the other limit.
            Some(probe) if probe < count && self.limit_near(probe) == Some(Limit::Half) => {
                self.cut_at = Some(probe);
                self.longest_whole = self.longest_whole.max(count);
            }
            Some(probe) if probe < count => {
                return Verdict::Unusable(format!(
                    "it reports {count} tokens for a prompt, and {probe} for the same with more text behind it"
                ));
            }
            Some(probe) if probe >= count.saturating_add(GROWN) => {
                self.longest_whole = self.longest_whole.max(probe);
            }
            Some(_) | None => self.longest_whole = self.longest_whole.max(count),
        }
        Verdict::Whole
    }

    /// The limit that a cut prompt with this count was cut to.
    fn limit_near(&self, count: u32) -> Option<Limit> {
        let half = self.num_ctx / 2;
        if count.abs_diff(self.num_ctx) <= NEAR {
            // Longer prompts came whole: this server's context is another one.
            (self.longest_whole <= self.num_ctx.saturating_add(NEAR)).then_some(Limit::Whole)
        } else if count.abs_diff(half) <= NEAR {
            Some(Limit::Half)
        } else {
            None
        }
    }

    /// How many tokens a prompt needs that is cut to `limit`: a server that reports counts between half of the
    /// context and all of it cuts only what exceeds the context.
    fn never_cut_below(&self, limit: Limit, count: u32) -> u32 {
        let counts_beyond_half = self.longest_whole > self.num_ctx / 2 + NEAR;
        match limit {
            Limit::Half if counts_beyond_half => self.num_ctx,
            Limit::Half | Limit::Whole => count,
        }
    }

    fn is_cut(&mut self, count: u32) -> Verdict {
        self.cut_at = Some(count);
        Verdict::Cut(format!("it used {count} tokens of it, with a context of {}", self.num_ctx))
    }

    fn why_unusable(&self, prompt: &PromptSize, count: u32) -> Option<String> {
        if u64::from(count) * 2 < u64::from(prompt.at_least) {
            let least = prompt.at_least;
            return Some(format!("it reports {count} tokens for a prompt of at least {least}"));
        }
        if count > prompt.bytes.saturating_add(TEMPLATE) {
            return Some(format!("it reports {count} tokens for a prompt of {} bytes", prompt.bytes));
        }
        self.run.is_constant().then(|| {
            let Run { count, shortest, longest, .. } = self.run;
            format!("it reports {count} tokens for prompts of {shortest} bytes and of {longest}")
        })
    }
}

/// What a server cuts a prompt to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Whole,
    Half,
}

#[cfg(test)]
#[path = "truncation_tests.rs"]
mod tests;
