//! OpenAI's chat completions.

use qa_shared::testing::fake_provider::{FakeProvider, FakeProviderConfig, expected_pairs};
use serde_json::{Value, json};

use crate::http::post;

const PATH: &str = "/v1/chat/completions";

fn good() -> Value {
    json!({ "model": "gpt-4.1-mini", "max_completion_tokens": 1000, "messages": [
        { "role": "system", "content": "You reply with JSON." },
        { "role": "user", "content": "Write 2 question-answer pairs. <chunk>\nThe sky is blue.\n</chunk>" },
    ] })
}

#[tokio::test]
async fn a_good_call_is_answered_with_pairs_about_its_chunk() {
    let fake = FakeProvider::start(FakeProviderConfig::open_ai());
    let answer = post(&fake, PATH, &good()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let text: Value =
        serde_json::from_str(body["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    let expected = expected_pairs("The sky is blue.", 2);
    assert_eq!(text["pairs"].as_array().unwrap().len(), 2);
    assert_eq!(text["pairs"][1]["response"], expected[1].answer);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(fake.stats().calls_for("The sky is blue."), 1);
}
