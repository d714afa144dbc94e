//! What becomes of answers by what their server counts, and what is said about it.

use std::time::Duration;

use qa_shared::model::Usage;

use super::*;

fn request(prompt: &str) -> ChatRequest {
    ChatRequest { num_ctx: 4096, ..ChatRequest::of("m", prompt) }
}

fn reply(count: u32, finish: Finish) -> ChatReply {
    ChatReply {
        content: "An answer of some words.".to_owned(),
        thinking: None,
        finish,
        usage: Usage { input_tokens: count.into(), output_tokens: 6, ..Usage::default() },
        prompt_tokens: (count > 0).then_some(count),
        model: None,
        id: None,
        held: Duration::ZERO,
    }
}

fn long_prompt() -> String {
    "A consumer acknowledges its message. ".repeat(500)
}

fn conclude(
    counts: &TokenCounts,
    prompt: &str,
    count: u32,
    probe: Option<u32>,
) -> Result<ChatReply, LlmError> {
    let request = request(prompt);
    let mut reply = reply(count, Finish::Stop);
    let verdict = match counts.judge(&request, &reply) {
        Verdict::Suspicious => {
            let probe = probe.expect("a suspicion");
            counts.probed(&request, &mut reply, Ok(self::reply(probe, Finish::Length)))
        }
        verdict => verdict,
    };
    counts.conclude(("http://h", "ask the operator"), &request, reply, &verdict)
}

#[test]
fn an_answer_about_a_part_of_the_prompt_is_refused_with_what_it_cost() {
    let error = conclude(&TokenCounts::default(), &long_prompt(), 2050, Some(2050)).unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::PromptTooLong);
    assert!(error.message.starts_with("http://h cut the prompt: it used 2050 tokens"), "{error}");
    assert!(error.message.ends_with("; ask the operator"), "{error}");
    // Both calls are recorded.
    assert_eq!((error.usage.input_tokens, error.usage.output_tokens), (4100, 12));
}

#[test]
fn a_suspicion_that_comes_to_nothing_costs_a_call_and_no_answer() {
    let reply = conclude(&TokenCounts::default(), &long_prompt(), 2050, Some(2140)).unwrap();
    assert_eq!((reply.usage.input_tokens, reply.prompt_tokens), (2050 + 2140, Some(2050)));
}

#[test]
fn a_probe_that_is_refused_as_too_long_clears_the_server_and_one_that_fails_says_nothing() {
    for kind in [LlmErrorKind::PromptTooLong, LlmErrorKind::ServerFault] {
        let (counts, request) = (TokenCounts::default(), request(&long_prompt()));
        let mut reply = reply(4096, Finish::Stop);
        assert_eq!(counts.judge(&request, &reply), Verdict::Suspicious);
        let verdict = counts.probed(&request, &mut reply, Err(LlmError::new(kind, "x")));
        assert_eq!(verdict, Verdict::Whole);
    }
}

#[test]
fn counts_that_cannot_be_used_are_ignored_from_then_on_for_every_model() {
    let counts = TokenCounts::default();
    let dummy = conclude(&counts, &long_prompt(), 10, None).unwrap();
    assert!(dummy.prompt_tokens.is_none() && dummy.usage.input_tokens > 2000);
    assert_eq!(dummy.usage.estimated_input_tokens, dummy.usage.input_tokens);
    // Neither suspicious nor counted, whatever they are now.
    let other = ChatRequest { model: "other".to_owned(), ..request(&long_prompt()) };
    let half = reply(2050, Finish::Stop);
    assert_eq!(counts.judge(&other, &half), Verdict::Whole);
    let half = counts.conclude(("http://h", "ask the operator"), &other, half, &Verdict::Whole).unwrap();
    assert!(half.usage.estimated_output_tokens > 0 && half.usage.input_tokens != 2050);
    // Another server may stand there later.
    counts.forget();
    let honest = conclude(&counts, &long_prompt(), 3000, None).unwrap();
    assert_eq!((honest.usage.input_tokens, honest.usage.estimated_input_tokens), (3000, 0));
}

#[test]
fn a_prompt_that_leaves_no_room_is_too_long_and_not_said_to_be_cut() {
    let counts = TokenCounts::default();
    let full = request("Why?");
    let error = counts
        .conclude(("http://h", "ask the operator"), &full, reply(4090, Finish::Length), &Verdict::Whole)
        .unwrap_err();
    assert_eq!(error.kind, LlmErrorKind::PromptTooLong);
    assert!(error.message.contains("no room") && !error.message.contains("cut"), "{error}");
    for (count, finish) in [(4090, Finish::Stop), (3000, Finish::Length), (5000, Finish::Length)] {
        assert!(
            counts
                .conclude(("http://h", "ask the operator"), &full, reply(count, finish), &Verdict::Whole)
                .is_ok()
        );
    }
}

#[test]
fn a_probe_is_the_same_prompt_with_more_text_and_hardly_an_answer() {
    let request = request("Why?");
    let probe = probe(&request);
    assert!(probe.messages[0].content.starts_with("Why? one two"));
    assert_eq!((probe.max_output, probe.num_ctx, &probe.model), (1, 4096, &request.model));
}
