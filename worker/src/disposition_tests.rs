//! The table of decisions, and that every task comes to an end.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    attempts: 3,
    holds: 2,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(10),
};

fn answered(finish: Finish, new_pairs: u32, problems: &[Problem]) -> CallOutcome {
    let truncated = problems.contains(&Problem::Cut);
    CallOutcome::Answered { finish, new_pairs, problems: problems.to_vec(), truncated }
}

fn failed(kind: LlmErrorKind) -> CallOutcome {
    CallOutcome::Error(LlmError::new(kind, "what happened"))
}

fn tally(have: u32, attempts: u32) -> Tally {
    Tally { asked: 3, have, attempts, answers: attempts, ..Tally::default() }
}

fn ask_again(reason: &str, missing: u32, shorter: bool) -> Next {
    Next::AskAgain { reason: reason.to_owned(), missing, shorter }
}

fn failure(reason: FailureReason, message: &str) -> Next {
    Next::Fail(Failure { reason, message: message.to_owned() })
}

fn handed_back(cause: HandBackCause, seconds: u64) -> Next {
    Next::HandBack { cause, message: "what happened".to_owned(), after: Duration::from_secs(seconds) }
}

#[test]
fn answers() {
    let stop = || Finish::Stop;
    for (before, outcome, expected) in [
        (tally(0, 0), answered(stop(), 3, &[]), Next::Accept),
        (tally(0, 0), answered(stop(), 3, &[Problem::TooMany]), Next::Accept),
        (tally(0, 0), answered(Finish::Length, 3, &[]), Next::Accept),
        (tally(2, 1), answered(stop(), 1, &[]), Next::Accept),
        (tally(0, 0), answered(stop(), 2, &[]), ask_again("there were fewer pairs than asked for", 1, false)),
        (
            tally(0, 0),
            answered(stop(), 0, &[Problem::NoJson]),
            ask_again("the answer held no JSON", 3, false),
        ),
        (
            tally(0, 0),
            answered(Finish::Length, 2, &[Problem::Cut]),
            ask_again("the answer was cut before its end", 1, true),
        ),
        (
            tally(0, 0),
            answered(Finish::Invalid("json_validate_failed".to_owned()), 0, &[Problem::NoJson]),
            ask_again(
                "the answer failed the service's own check (`json_validate_failed`); the answer held no JSON",
                3,
                false,
            ),
        ),
        (
            tally(0, 0),
            answered(Finish::Repetition, 1, &[Problem::Cut]),
            ask_again("the answer repeated itself without end", 2, false),
        ),
        (
            tally(0, 2),
            answered(Finish::Repetition, 0, &[Problem::Cut]),
            failure(
                FailureReason::NoUsableAnswer,
                "the answer repeated itself without end (after 3 attempts)",
            ),
        ),
        (
            Tally { cut: 1, repeated: 1, ..tally(0, 2) },
            answered(Finish::Length, 0, &[Problem::Cut]),
            failure(FailureReason::Repetition, "the answer was cut before its end (after 3 attempts)"),
        ),
        (
            Tally { cut: 1, repeated: 1, ..tally(0, 2) },
            answered(Finish::Repetition, 0, &[Problem::Cut]),
            failure(FailureReason::Repetition, "the answer repeated itself without end (after 3 attempts)"),
        ),
        (
            tally(0, 1),
            answered(Finish::Length, 0, &[Problem::Empty]),
            ask_again("the answer reached the output limit; the answer was empty", 2, true),
        ),
        (
            tally(0, 0),
            answered(Finish::Refused("SAFETY".to_owned()), 0, &[]),
            failure(FailureReason::Refused, "the model or its provider declines: SAFETY"),
        ),
        (tally(1, 1), answered(Finish::Refused("no".to_owned()), 0, &[]), Next::Accept),
        (
            tally(0, 0),
            answered(Finish::Other("RECITATION".to_owned()), 0, &[]),
            ask_again(
                "the server ended the answer with `RECITATION`; use words of your own instead of long quotations",
                3,
                false,
            ),
        ),
        (
            tally(0, 1),
            answered(Finish::Other("load".to_owned()), 0, &[]),
            ask_again("the server ended the answer with `load`", 3, false),
        ),
        (tally(1, 2), answered(stop(), 0, &[Problem::Duplicate]), Next::Accept),
        (tally(0, 2), answered(stop(), 1, &[]), Next::Accept),
        (
            tally(0, 2),
            answered(stop(), 0, &[Problem::NoPairs]),
            failure(
                FailureReason::NoUsableAnswer,
                "the JSON held no question with an answer (after 3 attempts)",
            ),
        ),
    ] {
        let mut after = before;
        assert_eq!(decide(&outcome, &mut after, &LIMITS), expected, "{before:?} {outcome:?}");
        assert_eq!(after.attempts, before.attempts + 1);
    }
}

#[test]
fn only_cut_answers_blame_the_output_limit() {
    let mut tally = Tally { asked: 3, ..Tally::default() };
    for expected_end in [false, false, true] {
        let next = decide(&answered(Finish::Length, 0, &[Problem::Empty]), &mut tally, &LIMITS);
        match next {
            Next::Fail(failure) if expected_end => assert_eq!(failure.reason, FailureReason::OutputLimit),
            Next::AskAgain { shorter: true, missing: 2, .. } if !expected_end => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn errors() {
    use LlmErrorKind as Kind;
    let s = Duration::from_secs;
    let hold = |spread| Next::Hold { at_least: Duration::ZERO, spread: s(spread) };
    for (before, kind, expected, counts) in [
        (tally(0, 0), Kind::Unreachable, handed_back(HandBackCause::Unreachable, 1), 0),
        (tally(2, 2), Kind::Unreachable, handed_back(HandBackCause::Unreachable, 1), 0),
        (tally(0, 0), Kind::ProxyReply, handed_back(HandBackCause::ProxyReply, 1), 0),
        (tally(0, 0), Kind::SubscriptionRequired, handed_back(HandBackCause::SubscriptionRequired, 10), 0),
        (tally(0, 2), Kind::Overloaded { retry_after: None }, hold(1), 0),
        (
            tally(0, 0),
            Kind::Overloaded { retry_after: Some(s(7)) },
            Next::Hold { at_least: s(7), spread: s(1) },
            0,
        ),
        (
            tally(0, 0),
            Kind::Overloaded { retry_after: Some(s(700)) },
            handed_back(HandBackCause::Overloaded, 700),
            0,
        ),
        (tally(0, 0), Kind::KeyRefused, handed_back(HandBackCause::KeyRefused, 300), 0),
        (tally(0, 0), Kind::QuotaExhausted, handed_back(HandBackCause::QuotaExhausted, 300), 0),
        (tally(1, 1), Kind::QuotaExhausted, Next::Accept, 0),
        (tally(1, 1), Kind::NotBegun, handed_back(HandBackCause::Stopping, 0), 0),
        (tally(0, 0), Kind::Refused, failure(FailureReason::Refused, "what happened (after 1 attempt)"), 1),
        (tally(0, 0), Kind::ModelLoading, hold(1), 0),
        (tally(0, 0), Kind::ModelNotFound, handed_back(HandBackCause::ModelMissing, 10), 0),
        (tally(0, 0), Kind::OutOfMemory, handed_back(HandBackCause::OutOfMemory, 10), 0),
        (tally(0, 0), Kind::ServerFault, hold(1), 1),
        (tally(0, 1), Kind::IdleTimeout, hold(2), 1),
        (tally(0, 0), Kind::Malformed, hold(1), 1),
        (tally(2, 2), Kind::Timeout, Next::Accept, 1),
        (
            tally(0, 2),
            Kind::ServerFault,
            failure(FailureReason::ServerError, "what happened (after 3 attempts)"),
            1,
        ),
        (
            tally(0, 0),
            Kind::PromptTooLong,
            failure(FailureReason::PromptTooLong, "what happened (after 1 attempt)"),
            1,
        ),
        (tally(1, 1), Kind::PromptTooLong, Next::Accept, 1),
        (tally(0, 0), Kind::Rejected, failure(FailureReason::Rejected, "what happened (after 1 attempt)"), 1),
    ] {
        let mut after = before;
        assert_eq!(decide(&failed(kind), &mut after, &LIMITS), expected, "{before:?} {kind:?}");
        assert_eq!(after.attempts, before.attempts + counts, "{kind:?}");
    }
}

#[test]
fn a_server_that_stays_overloaded_loses_the_task_after_growing_waits() {
    let mut tally = tally(1, 1);
    let nexts: Vec<_> = (0..3)
        .map(|_| decide(&failed(LlmErrorKind::Overloaded { retry_after: None }), &mut tally, &LIMITS))
        .collect();
    let hold = |spread| Next::Hold { at_least: Duration::ZERO, spread: Duration::from_secs(spread) };
    assert_eq!(nexts, [hold(1), hold(2), handed_back(HandBackCause::Overloaded, 4)]);
    assert_eq!(tally.attempts, 1);
}

fn any_outcome() -> impl Strategy<Value = CallOutcome> {
    use LlmErrorKind as Kind;
    let kind = prop_oneof![
        any::<Option<u8>>().prop_map(|seconds| Kind::Overloaded {
            retry_after: seconds.map(|seconds| Duration::from_secs(seconds.into()))
        }),
        Just(Kind::Unreachable),
        Just(Kind::ProxyReply),
        Just(Kind::SubscriptionRequired),
        Just(Kind::ModelLoading),
        Just(Kind::ModelNotFound),
        Just(Kind::KeyRefused),
        Just(Kind::QuotaExhausted),
        Just(Kind::PromptTooLong),
        Just(Kind::Rejected),
        Just(Kind::OutOfMemory),
        Just(Kind::ServerFault),
        Just(Kind::Malformed),
        Just(Kind::Timeout),
        Just(Kind::IdleTimeout),
    ];
    let finish = prop_oneof![Just(Finish::Stop), Just(Finish::Length), "[a-z]{0,5}".prop_map(Finish::Other)];
    let finish = prop_oneof![9 => finish, 1 => Just(Finish::Refused("no".to_owned()))];
    let problem = prop_oneof![Just(Problem::Empty), Just(Problem::Cut), Just(Problem::Duplicate)];
    prop_oneof![
        kind.prop_map(failed),
        (finish, 0..4u32, prop::collection::vec(problem, 0..3))
            .prop_map(|(finish, new_pairs, problems)| { answered(finish, new_pairs, &problems) }),
    ]
}

proptest! {
    #[test]
    fn every_task_ends_within_its_limits(
        outcomes in prop::collection::vec(any_outcome(), 12),
        attempts in 1..5u32,
        holds in 0..5u32,
        asked in 1..5u32,
    ) {
        let limits = Limits { attempts, holds, ..LIMITS };
        let mut tally = Tally { asked, ..Tally::default() };
        let mut ended = false;
        for outcome in &outcomes {
            let before = tally;
            let next = decide(outcome, &mut tally, &limits);
            if let CallOutcome::Error(error) = outcome
                && matches!(
                    error.kind,
                    LlmErrorKind::Overloaded { .. }
                        | LlmErrorKind::ModelLoading
                        | LlmErrorKind::Unreachable
                        | LlmErrorKind::ProxyReply
                        | LlmErrorKind::SubscriptionRequired
                        | LlmErrorKind::KeyRefused
                        | LlmErrorKind::QuotaExhausted
                )
            {
                prop_assert_eq!(tally.attempts, before.attempts, "overload is no attempt");
                prop_assert!(!matches!(next, Next::Fail(_)), "overload fails no chunk");
            }
            prop_assert!(tally.attempts <= attempts && tally.holds <= holds);
            match next {
                Next::AskAgain { missing, .. } => prop_assert!((1..=asked - tally.have).contains(&missing)),
                Next::Hold { at_least, spread } => {
                    prop_assert!(at_least <= limits.longest_wait && spread <= limits.longest_wait);
                }
                Next::Accept => prop_assert!(tally.have > 0),
                Next::Fail(_) => prop_assert_eq!(tally.have, 0),
                Next::HandBack { .. } => {}
            }
            ended = !matches!(next, Next::AskAgain { .. } | Next::Hold { .. });
            if ended {
                break;
            }
        }
        prop_assert!(ended, "a task that never ends");
    }
}
