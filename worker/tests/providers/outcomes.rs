//! The three failures inside a good status, and what becomes of each: cut, refused, empty.

use qa_shared::model::FailureReason;
use qa_shared::testing::fake_provider::{Behaviour, FakeProvider, FakeProviderConfig, expected_pairs};

use crate::support::{TEXT, client, completed, every_service, failed, task, work};

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_never_repeated() {
    let hosted =
        || [FakeProviderConfig::open_ai(), FakeProviderConfig::claude(), FakeProviderConfig::gemini()];
    for behaviour in [Behaviour::Refuse("I will not.".to_owned()), Behaviour::Filtered] {
        for config in hosted() {
            let (service, model) = (config.service, config.models[0].name.clone());
            let fake = FakeProvider::start(config);
            fake.fault_every(1, behaviour.clone());
            let server = client(&fake, service);
            let (reason, message, spent) = failed(work(&server, &task(&model, None)).await);
            assert_eq!(reason, FailureReason::Refused, "{service:?} {behaviour:?}: {message}");
            assert!(message.starts_with("the model or its provider declines: "), "{message}");
            assert_eq!((spent.attempts, fake.stats().calls), (1, 1), "{service:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_quotes_too_much_is_asked_for_in_other_words() {
    let config = FakeProviderConfig::gemini();
    let (service, model) = (config.service, config.models[0].name.clone());
    let fake = FakeProvider::start(config);
    fake.fault_next(Behaviour::Recitation);
    let server = client(&fake, service);
    let (pairs, spent) = completed(work(&server, &task(&model, None)).await);
    assert_eq!((pairs, spent.attempts), (expected_pairs(TEXT, 3), 2));
    assert!(fake.stats().last_body().to_string().contains("use words of your own"));
}

#[tokio::test]
async fn cut_and_empty_answers_are_asked_for_again() {
    for behaviour in [Behaviour::SpentOnReasoning, Behaviour::Empty, Behaviour::CutAfter(4)] {
        for config in every_service() {
            let (service, model) = (config.service, config.models[0].name.clone());
            let fake = FakeProvider::start(config);
            fake.fault_next(behaviour.clone());
            let server = client(&fake, service);
            let (pairs, spent) = completed(work(&server, &task(&model, None)).await);
            assert!(!pairs.is_empty() && spent.attempts >= 2, "{service:?} {behaviour:?}: {pairs:?}");
        }
    }
}

#[tokio::test]
async fn answers_that_are_always_cut_blame_the_limit_and_empty_ones_do_not() {
    for (behaviour, expected) in [
        (Behaviour::SpentOnReasoning, FailureReason::OutputLimit),
        (Behaviour::Empty, FailureReason::NoUsableAnswer),
        (Behaviour::Text("I like trains.".to_owned()), FailureReason::NoUsableAnswer),
    ] {
        for config in every_service() {
            let (service, model) = (config.service, config.models[0].name.clone());
            let fake = FakeProvider::start(config);
            fake.fault_every(1, behaviour.clone());
            let server = client(&fake, service);
            let (reason, message, spent) = failed(work(&server, &task(&model, None)).await);
            assert_eq!((reason, spent.attempts), (expected, 3), "{service:?} {behaviour:?}: {message}");
        }
    }
}

#[tokio::test]
async fn pairs_are_found_wherever_services_put_them() {
    for behaviour in
        [Behaviour::FirstOtherBlock, Behaviour::InReasoning, Behaviour::Fenced, Behaviour::Fewer(2)]
    {
        for config in every_service() {
            let (service, model) = (config.service, config.models[0].name.clone());
            let fake = FakeProvider::start(config);
            fake.fault_next(behaviour.clone());
            let server = client(&fake, service);
            let (pairs, _) = completed(work(&server, &task(&model, None)).await);
            assert_eq!(pairs.len(), 3, "{service:?} {behaviour:?}");
        }
    }
}

#[tokio::test]
async fn a_task_that_a_budget_counts_on_makes_no_more_calls_than_it_says() {
    let config = every_service().remove(0);
    let (service, model) = (config.service, config.models[0].name.clone());
    let fake = FakeProvider::start(config);
    fake.fault_every(1, Behaviour::Empty);
    let server = client(&fake, service);
    let mut limited = task(&model, None);
    limited.max_calls = Some(2);
    failed(work(&server, &limited).await);
    assert_eq!(fake.stats().calls, 2);
}
