//! What models write, mutated: pairs are found or not, and nothing else happens.

use qa_shared::testing::fuzz::Fuzz;
use qa_worker::answer::parse;

#[test]
fn answers_of_models() {
    let good = r#"{"pairs": [{"question": "Why so often?", "response": "Because of lime."}, {"question": "What is E07?", "response": "An error of the boiler."}]}"#;
    let fuzz = Fuzz::of("answers of models")
        .example(good)
        .example(format!("<think>Hm.</think>\nHere you are:\n```json\n{good}\n```"))
        .example(r#"[{"question":"A?","answer":"B"}]"#)
        .example("1. **Question**: Why?\n   **Answer**: Because.\n");
    fuzz.run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let parsed = parse(&text, 3, &[]);
        assert!(parsed.pairs.len() <= 3);
        for pair in &parsed.pairs {
            assert!(!pair.question.trim().is_empty() && !pair.answer.trim().is_empty(), "{pair:?}");
        }
    });
}
