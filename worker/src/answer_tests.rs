//! Answers as models give them, and what is taken out of them.

use proptest::prelude::*;

use super::*;

fn pair(question: &str, answer: &str) -> Pair {
    Pair { question: question.to_owned(), answer: answer.to_owned() }
}

fn two() -> Vec<Pair> {
    vec![pair("What is a stream?", "A message store."), pair("Who acks?", "The consumer acks.")]
}

#[test]
fn the_forms_that_models_use_are_understood() {
    let inner = r#"{"question":"What is a stream?","answer":"A message store."},{"question":"Who acks?","answer":"The consumer acks."}"#;
    for raw in [
        format!(r#"{{"pairs":[{inner}]}}"#),
        format!("[{inner}]"),
        format!(r#"{{"qa_pairs":[{inner}]}}"#),
        format!(r#"{{"result":{{"data":[{inner}]}}}}"#),
        inner.replace("},{", "}\n{"),
        format!("```json\n[{inner}]\n```"),
        format!("Here are [2] pairs:\n\n[{inner}]\n\nI hope {{this}} helps."),
        format!("<think>\nI could write {{\"question\":\"x\",\"answer\":\"y\"}}.\n</think>\n\n[{inner}]"),
        format!("the template opened it</think>[{inner}]"),
        format!("<thinking>hm</thinking>```\n[{inner}]"),
        format!("[{}]", inner.replace("\"question\"", "\"Question\"").replace("\"answer\"", "\"ANSWER\"")),
        format!("[{}]", inner.replace("\"question\"", "\"q\"").replace("\"answer\"", "\"a\"")),
        format!("[{}]", inner.replace("\"question\"", "\"instruction\"").replace("\"answer\"", "\"output\"")),
        format!("[{}]", inner.replace("\"answer\"", "\"response\"")),
        r#"{"question_1":"What is a stream?","answer_1":"A message store.","question_2":"Who acks?","answer_2":"The consumer acks."}"#.to_owned(),
        r#"[{"answer":" A message store. ","question":"What is a stream?\n"},{"id":7,"q":"Who acks?","a":["The consumer acks."]}]"#.to_owned(),
        r#"{"response":{"pairs":[{"question":"What is a stream?","response":"A message store."},{"question":"Who acks?","response":"The consumer acks."}]}}"#.to_owned(),
    ] {
        let parsed = parse(&raw, 5, &[]);
        assert_eq!(parsed.pairs, two(), "{raw}");
        assert!(parsed.problems.is_empty() && !parsed.truncated, "{raw}: {:?}", parsed.problems);
    }
}

const ONE: &str = r#"{"pairs":[{"question":"What is a stream?","response":"A message store."},{"question":"Who acks?","response":"The consumer acks."}]}"#;

/// An answer with as many pairs that are drafts.
fn draft() -> String {
    ONE.replace("What is", "DRAFT: what is").replace("Who", "DRAFT: who")
}

#[test]
fn drafts_in_reasoning_never_become_pairs() {
    let draft = draft();
    for (open, end) in [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<thought>", "</thought>"),
        ("[THINK]", "[/THINK]"),
        ("<seed:think>", "</seed:think>"),
        ("<reasoning>", "</reasoning>"),
        ("◁think▷", "◁/think▷"),
        ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>\n<|begin_of_solution|>"),
        ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
        ("<|channel>thought\n", "<channel|>"),
        ("<|inner_prefix|>", "<|inner_suffix|>"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        (
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
        ),
        ("analysis", "assistantfinal"),
        ("Here is my thought process:\n", "\nHere is my response:\n"),
    ] {
        for before in
            [draft.clone(), format!("Hm, {draft} is \"good"), r#"{"pairs":[{"question":"DRAFT of"#.to_owned()]
        {
            let whole = format!("{open}{before}{end}\n{ONE}");
            assert_eq!(parse(&whole, 2, &[]).pairs, two(), "{whole}");
            let cut = format!("{open}{before}");
            let parsed = parse(&cut, 2, &[]);
            assert_eq!((parsed.pairs, parsed.truncated), (vec![], true), "{cut}");
            assert_eq!(parsed.problems, [Problem::OnlyReasoning], "{cut}");
        }
        // Where the prompt template opens the reasoning, only its end is in the answer.
        let opened_before = format!("{draft}{end}\n{ONE}");
        assert_eq!(parse(&opened_before, 2, &[]).pairs, two(), "{opened_before}");
    }
}

#[test]
fn of_several_complete_answers_the_last_one_counts() {
    let draft = draft();
    let short = r#"{"pairs":[{"question":"DRAFT?","response":"d"}]}"#;
    let ellipsis = r#"{"pairs":[{"question":"DRAFT?","response":"d"}, ...]}"#;
    for raw in [
        format!("First try:\n{draft}\nBetter:\n{ONE}"),
        format!("```json\n{draft}\n```\n```json\n{ONE}\n```"),
        format!("{draft}{ONE}"),
        format!("A first one: {short} And all of them: {ONE}"),
        format!("The form is {ellipsis} so I write {ONE} as asked."),
        format!(
            "{ONE}\nI followed this form: {{\"pairs\": [{{\"question\": \"...\", \"response\": \"...\"}}]}}"
        ),
        format!("Draft: {draft} Answer: {}", &ONE[10..ONE.len() - 2].replace("},{", "}\n{")),
    ] {
        assert_eq!(parse(&raw, 2, &[]).pairs, two(), "{raw}");
    }
    // Without marks nothing says that the complete one is a draft.
    let cut = format!("{ONE}\nOnce more: {}", &draft[..draft.len() - 20]);
    assert_eq!(parse(&cut, 2, &[]).pairs, two());
}

#[test]
fn pairs_in_several_pieces_are_one_answer() {
    let inner = &ONE[10..ONE.len() - 2];
    for raw in [
        format!(
            "1. {}\n2. {}",
            &inner[..=inner.find("},").unwrap()],
            &inner[inner.find("},").unwrap() + 2..]
        ),
        inner.replace("},{", "}\nAnd the second one:\n{"),
        format!("[{}]", inner.replace("},{", "}]\n[{")),
        // The list goes on behind a place that cannot be read.
        format!("[{}]", inner.replace("},{", "}, oops {")),
    ] {
        assert_eq!(parse(&raw, 2, &[]).pairs, two(), "{raw}");
    }
}

#[test]
fn json_inside_a_json_string_is_read() {
    let encode = |text: &str| serde_json::to_string(text).unwrap();
    let once = encode(ONE);
    let inner: Vec<String> = two().iter().map(|pair| serde_json::to_string(pair).unwrap()).collect();
    for raw in [
        once.clone(),
        encode(&once),
        format!("  {once}\n"),
        format!("<think>so</think>{once}"),
        format!("```json\n{once}\n```"),
        format!("Here: {once} as asked"),
        ONE.replace('"', "\\\""),
        serde_json::to_string(&inner).unwrap(),
        format!(r#"{{"pairs":{}}}"#, encode(&ONE[9..ONE.len() - 1])),
        format!(r#"{{"response":{once}}}"#),
        format!(r#"{{"answer":{}}}"#, encode(&once)),
        format!(r#"{{"pairs":[{once}]}}"#),
        format!("\u{feff}{once}"),
    ] {
        let parsed = parse(&raw, 2, &[]);
        assert_eq!((parsed.pairs, parsed.truncated), (two(), false), "{raw}");
    }
    // What a document says is no pair.
    let quoted = r#"[{"question":"What does it log?","answer":"{\"question\":\"Q?\",\"answer\":\"A\"}"}]"#;
    assert_eq!(parse(quoted, 2, &[]).pairs.len(), 1);
}

#[test]
fn an_answer_that_ends_the_reasoning_counts() {
    let draft = draft();
    for raw in [
        ONE.to_owned(),
        format!("```json\n{ONE}\n```"),
        format!("I need two pairs.\n{ONE}"),
        format!("First {draft}, or rather\n{ONE}\nThat is it."),
        format!("<think>{draft}</think>{ONE}"),
        serde_json::to_string(ONE).unwrap(),
    ] {
        assert_eq!(parse_reasoning(&raw, 2, &[]).map(|parsed| parsed.pairs), Some(two()), "{raw}");
    }
    for raw in [
        String::new(),
        "I think about it.".to_owned(),
        format!("So {draft} could be it. {}", "But I am not sure about the second one. ".repeat(8)),
        format!("First {draft}, or rather {}", &ONE[..ONE.len() - 9]),
        format!("<think>{draft}"),
    ] {
        assert_eq!(parse_reasoning(&raw, 2, &[]), None, "{raw}");
    }
}

#[test]
fn what_is_unusable_says_why() {
    for (raw, problem) in [
        ("  \n", Problem::Empty),
        ("<think>I wonder {\"question\":\"x?\",\"answer\":\"y\"}", Problem::OnlyReasoning),
        ("I cannot do that.", Problem::NoJson),
        (r#"{"pairs":[]}"#, Problem::NoPairs),
        (r#"{"error":"no"}"#, Problem::NoPairs),
        (r#"[{"question":"Why?"}]"#, Problem::Incomplete),
        (r#"[{"question":"Why?","answer":"  "}]"#, Problem::Incomplete),
        (r#"[{"question":"Why?","answer":null}]"#, Problem::Incomplete),
        (r#"[{"question":"Why so?","answer":"why  SO"}]"#, Problem::AnswerIsQuestion),
        (r#"[{"question":"...","answer":"..."}]"#, Problem::Placeholder),
        (r#"[{"question":"string","answer":"string"}]"#, Problem::Placeholder),
        (r#"[{"question":"Question 1","answer":"Because."}]"#, Problem::Placeholder),
        (r#"[{"question":"question_2?","answer":"Because."}]"#, Problem::Placeholder),
        (r#"[{"question":"Why is that?","answer":"<answer>"}]"#, Problem::Placeholder),
        (r#"[{"question":"Why is that?","answer":"N/A"}]"#, Problem::Placeholder),
        (r#"[{"question":"???","answer":"Because."}]"#, Problem::Placeholder),
    ] {
        let parsed = parse(raw, 3, &[]);
        assert_eq!((parsed.pairs.len(), parsed.problems), (0, vec![problem]), "{raw}");
    }
    let endless = format!(r#"[{{"question":"Why?","answer":"{}"}}]"#, "very ".repeat(10_000));
    assert_eq!(parse(&endless, 3, &[]).problems, [Problem::TooLong]);
}

#[test]
fn short_and_symbolic_answers_are_answers() {
    for answer in ["*", ">", "-", "42", "Yes", "null", "None", "A <div> element", "?foo", "QUESTION"] {
        let raw = format!(r#"[{{"question":"Which one?","answer":"{answer}"}}]"#);
        let expected: &[Pair] = if answer == "QUESTION" { &[] } else { &[pair("Which one?", answer)] };
        assert_eq!(parse(&raw, 1, &[]).pairs, expected, "{answer}");
    }
    assert_eq!(parse(r#"[{"q":"How many?","a":42}]"#, 1, &[]).pairs, [pair("How many?", "42")]);
}

#[test]
fn a_cut_answer_keeps_its_complete_pairs() {
    let whole = r#"{"pairs":[{"question":"What is a stream?","response":"A message store."},{"question":"Who acks?","response":"The cons"#;
    let parsed = parse(whole, 3, &[]);
    assert_eq!(parsed.pairs, two()[..1]);
    assert!(parsed.truncated && parsed.problems.contains(&Problem::Cut));
}

#[test]
fn duplicates_are_dropped_whatever_their_case_and_punctuation() {
    let raw = r#"[{"q":"What is  a stream","a":"x"},{"q":"Who acks?","a":"1"},{"q":"“WHO acks”","a":"2"},{"q":"What does * match?","a":"3"},{"q":"What does > match?","a":"4"}]"#;
    let parsed = parse(raw, 9, &two()[..1]);
    let questions: Vec<_> = parsed.pairs.iter().map(|pair| pair.question.as_str()).collect();
    assert_eq!(questions, ["Who acks?", "What does * match?", "What does > match?"]);
    assert_eq!(parsed.problems, [Problem::Duplicate]);
}

#[test]
fn too_many_pairs_leave_the_first_ones() {
    let raw = serde_json::to_string(&two()).unwrap();
    let parsed = parse(&raw, 1, &[]);
    assert_eq!((parsed.pairs, parsed.problems), (two()[..1].to_vec(), vec![Problem::TooMany]));
}

#[test]
fn an_enormous_answer_is_read_up_to_the_limit() {
    let raw = format!("[{}", "{\"q\":\"a".repeat(1_000_000));
    assert!(parse(&raw, 3, &[]).pairs.is_empty());
    assert!(parse(&"[".repeat(5_000_000), 3, &[]).pairs.is_empty());
    assert!(parse(&"\"{ \"".repeat(1_000_000), 3, &[]).pairs.is_empty());
}

fn any_pairs() -> impl Strategy<Value = Vec<Pair>> {
    // A unique number makes the questions distinct.
    prop::collection::vec(
        ("[a-zA-Zäö中文 {}\\[\\]\",\\\\\n]{0,30}", "[a-z中é {}\\[\\]\",:\\\\\n]{1,30}x"),
        0..6,
    )
    .prop_map(|texts| {
        let number = |(n, (question, answer)): (usize, (String, String))| Pair {
            question: format!("{n}{question}").trim().to_owned(),
            answer: format!("because {answer}"),
        };
        texts.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #[test]
    fn valid_pairs_come_back_from_any_wrapping(pairs in any_pairs(), wrapping in 0..4u8) {
        let json = serde_json::to_string(&pairs).unwrap();
        let raw = match wrapping {
            0 => json,
            1 => format!("{{\"pairs\":{json}}}"),
            2 => format!("<think>so [x]</think>Here:\n```json\n{json}\n```\nDone."),
            _ => serde_json::to_string_pretty(&pairs).unwrap(),
        };
        prop_assert_eq!(parse(&raw, pairs.len(), &[]).pairs, pairs);
    }

    #[test]
    fn a_draft_before_an_end_mark_never_becomes_a_pair(
        pairs in any_pairs(),
        draft in any_pairs(),
        noise in "[a-z{}\\[\\]\":,. \n]{0,20}",
        mark in prop::sample::select(vec![
            "</think>", "[/THINK]", "</seed:think>", "</thought>", "◁/think▷", "<|END_THINKING|>",
            "<|channel|>final<|message|>", "<answer>",
        ]),
        encoded: bool,
    ) {
        prop_assume!(!pairs.is_empty());
        let json = serde_json::to_string(&pairs).unwrap();
        let json = if encoded { serde_json::to_string(&json).unwrap() } else { json };
        let raw = format!("{}{noise}{mark}{json}", serde_json::to_string(&draft).unwrap());
        prop_assert_eq!(parse(&raw, pairs.len(), &[]).pairs, pairs, "{}", raw);
    }

    #[test]
    fn a_mark_in_a_pair_cuts_nothing(
        pairs in any_pairs(),
        mark in prop::sample::select(vec![
            "<think>", "</think>", "[/THINK]", "◁/think▷", "<|channel|>final<|message|>", "<answer>", "assistantfinal",
        ]),
        has_reasoning: bool,
    ) {
        let marked: Vec<Pair> = pairs.iter().map(|pair| Pair {
            question: format!("{} {mark}?", pair.question),
            answer: format!("{mark} {}", pair.answer),
        }).collect();
        let before = if has_reasoning { "<think>so [x]</think>" } else { "" };
        let raw = format!("{before}{}", serde_json::to_string(&marked).unwrap());
        prop_assert_eq!(parse(&raw, marked.len(), &[]).pairs, marked, "{}", raw);
    }

    #[test]
    fn a_cut_answer_gives_a_prefix_of_its_pairs(pairs in any_pairs(), at: prop::sample::Index) {
        let raw = serde_json::to_string(&pairs).unwrap();
        let ends: Vec<usize> = raw.char_indices().map(|(end, _)| end).collect();
        let cut = parse(&raw[..ends[at.index(ends.len())]], pairs.len(), &[]).pairs;
        prop_assert!(cut.len() <= pairs.len());
        prop_assert_eq!(&cut[..], &pairs[..cut.len()]);
    }

    #[test]
    fn a_damaged_answer_never_panics_nor_exceeds_what_was_asked(
        pairs in any_pairs(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 0..8),
        asked in 0..4usize,
    ) {
        let mut chars: Vec<char> = serde_json::to_string(&pairs).unwrap().chars().collect();
        for (at, c) in damage {
            let at = at.index(chars.len());
            chars[at] = c;
        }
        let parsed = parse(&chars.into_iter().collect::<String>(), asked, &[]);
        prop_assert!(parsed.pairs.len() <= asked);
        prop_assert!(parsed.pairs.iter().all(|pair| check(pair).is_ok()));
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let parsed = parse(&String::from_utf8_lossy(&bytes), 3, &[]);
        prop_assert!(!parsed.problems.is_empty() || !parsed.pairs.is_empty());
    }
}
