//! Notices that a server cut the prompt although it was told not to.
//!
//! PURE. A cut prompt gives good-looking pairs about half a chunk, and nothing in the reply says so but the
//! count of prompt tokens. The bounds are one-sided: better a cut that is missed than a good chunk refused,
//! since current servers refuse by themselves. It must not know how a request travels.

use qa_shared::tokens::estimate_tokens;

/// Good replies before a model's own ratio is trusted.
const ENOUGH_SAMPLES: u32 = 5;
/// A prompt of fewer estimated tokens says nothing about the model's ratio.
const SMALLEST_SAMPLE: u32 = 200;
/// How far below the smallest ratio seen a prompt may lie.
const RATIO_MARGIN: f64 = 0.7;
/// How far below the language's own bound a prompt may lie.
const BOUND_MARGIN: f64 = 0.9;

/// What is known about a model's tokens per estimated token, from good replies about mostly ASCII prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Calibration {
    smallest_ratio: f64,
    samples: u32,
}

impl Calibration {
    /// Learns from a reply whose prompt was not cut.
    pub(crate) fn learn(&mut self, prompt: &PromptSize, prompt_tokens: u32) {
        if !prompt.mostly_ascii || prompt.estimate < SMALLEST_SAMPLE {
            return;
        }
        let ratio = f64::from(prompt_tokens) / f64::from(prompt.estimate);
        self.smallest_ratio = if self.samples == 0 { ratio } else { self.smallest_ratio.min(ratio) };
        self.samples = self.samples.saturating_add(1);
    }
}

/// How large a prompt is, seen from its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PromptSize {
    /// Careful estimate in tokens, repeated characters counted once.
    estimate: u32,
    /// Tokens that it takes at least.
    at_least: u32,
    mostly_ascii: bool,
}

impl PromptSize {
    /// Measures all messages of a conversation together.
    pub(crate) fn of<'a>(contents: impl IntoIterator<Item = &'a str>) -> Self {
        let mut dense = String::new();
        for content in contents {
            // Tokenizers merge runs of blanks and lines: a padded table is smaller than it looks.
            let mut last = None;
            for c in content.chars() {
                if c.is_alphanumeric() || last != Some(c) {
                    dense.push(c);
                }
                last = Some(c);
            }
        }
        let (mut ascii, mut letters, mut ideographs) = (0_u32, 0_u32, 0_u32);
        for c in dense.chars() {
            match c {
                '\0'..='\x7f' => ascii += 1,
                '\u{2e80}'.. => ideographs += 1,
                _ => letters += 1,
            }
        }
        let at_least = ascii / 8 + letters / 8 + ideographs / 4;
        let mostly_ascii = ascii / 10 >= letters + ideographs;
        Self { estimate: estimate_tokens(&dense), at_least, mostly_ascii }
    }
}

/// Says why a prompt was probably cut, given the prompt tokens that the server reports.
pub(crate) fn looks_cut(
    prompt: &PromptSize,
    prompt_tokens: u32,
    num_ctx: u32,
    calibration: &Calibration,
) -> Option<String> {
    if prompt_tokens.saturating_add(1) >= num_ctx {
        return Some(format!("the prompt fills the whole context of {num_ctx} tokens"));
    }
    let half = num_ctx / 2 + 2;
    // Servers from 0.30 cut a long message to half of the context; a prompt may also just be that long.
    if prompt_tokens.abs_diff(half) <= 1 && prompt.estimate > half.saturating_add(half / 2) {
        return Some(format!(
            "the server used {prompt_tokens} tokens of it, half of the context of {num_ctx}"
        ));
    }
    let reported = f64::from(prompt_tokens);
    if reported < BOUND_MARGIN * f64::from(prompt.at_least) {
        return Some(format!("the server used {prompt_tokens} tokens of at least {}", prompt.at_least));
    }
    let expected = f64::from(prompt.estimate) * calibration.smallest_ratio;
    if calibration.samples >= ENOUGH_SAMPLES && prompt.mostly_ascii && reported < RATIO_MARGIN * expected {
        return Some(format!("the server used {prompt_tokens} tokens of about {expected:.0}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "The consumer acknowledges each message before the server sends the next one. ";

    fn prose(repeats: usize) -> PromptSize {
        PromptSize::of([PROSE.repeat(repeats).as_str()])
    }

    /// Prose takes about 14 tokens per sentence.
    fn tokens(repeats: usize) -> u32 {
        u32::try_from(repeats * 14).unwrap()
    }

    fn calibrated() -> Calibration {
        let mut calibration = Calibration::default();
        for repeats in 20..30 {
            calibration.learn(&prose(repeats), tokens(repeats));
        }
        calibration
    }

    #[test]
    fn whole_prompts_of_many_kinds_do_not_look_cut() {
        let calibration = calibrated();
        let table = format!("{}{}", PROSE.repeat(50), "| a          | b          |\n".repeat(300));
        for (text, prompt_tokens) in [
            (PROSE.repeat(100), 1400),
            // Russian at about 4 characters per token, Chinese at about 1.7.
            ("Потребитель подтверждает каждое сообщение. ".repeat(50), 540),
            ("消费者确认每条消息后服务器才发送下一条".repeat(50), 560),
            (table, 700 + 1800),
            ("{\"id\": 17, \"ok\": [1, 2, 3]}\n".repeat(100), 2000),
        ] {
            let prompt = PromptSize::of([text.as_str()]);
            assert_eq!(looks_cut(&prompt, prompt_tokens, 8192, &calibration), None, "{text:.60}");
            assert_eq!(looks_cut(&prompt, prompt_tokens, 8192, &Calibration::default()), None);
        }
    }

    #[test]
    fn a_prompt_that_fills_the_context_was_cut() {
        for prompt_tokens in [4095, 4096, 5000] {
            assert!(looks_cut(&prose(400), prompt_tokens, 4096, &Calibration::default()).is_some());
        }
    }

    #[test]
    fn a_prompt_of_half_the_context_was_cut_unless_it_is_that_short() {
        assert!(looks_cut(&prose(320), 2050, 4096, &Calibration::default()).is_some());
        assert_eq!(looks_cut(&prose(100), 2050, 4096, &Calibration::default()), None);
    }

    #[test]
    fn far_fewer_tokens_than_the_text_can_have_mean_a_cut() {
        let reason = looks_cut(&prose(300), 1000, 32768, &Calibration::default());
        assert!(reason.is_some_and(|reason| reason.contains("at least")));
    }

    #[test]
    fn a_calibrated_model_shows_smaller_cuts() {
        let half = tokens(100) / 2;
        assert_eq!(looks_cut(&prose(100), half + 200, 8192, &Calibration::default()), None);
        assert!(looks_cut(&prose(100), half + 200, 8192, &calibrated()).is_some());
    }
}
