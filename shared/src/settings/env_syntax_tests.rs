//! The table of what python-dotenv 1.x makes of a file, and properties of the translation.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Values<'a> = &'a [(&'a str, &'a str)];

/// A file, and what python-dotenv gives for it with `HOME_DIR=/home/me` in the environment (`None` as empty).
/// A name that is not plain cannot be one of ours and is left out.
const PYTHON_DOTENV: &[(&str, Values<'_>)] = &[
    ("A=1", &[("A", "1")]),
    ("GENERATOR_TEMPERATURE=0.3            # LLM temperature (0.0-1.0)", &[("GENERATOR_TEMPERATURE", "0.3")]),
    ("OLLAMA_BASE_URL=http://192.168.50.133:11434", &[("OLLAMA_BASE_URL", "http://192.168.50.133:11434")]),
    ("OLLAMA_STOP=[\"<|im_end|>\"]", &[("OLLAMA_STOP", "[\"<|im_end|>\"]")]),
    (
        "QA_EXTRA_INSTRUCTIONS=Don't ask about $prices",
        &[("QA_EXTRA_INSTRUCTIONS", "Don't ask about $prices")],
    ),
    ("A=two words  ", &[("A", "two words")]),
    ("A=a#b", &[("A", "a#b")]),
    ("A=#b", &[("A", "#b")]),
    ("A= # only a comment", &[("A", "")]),
    ("A=x\t# comment", &[("A", "x")]),
    ("A=", &[("A", "")]),
    ("A=\nB=2", &[("A", ""), ("B", "2")]),
    ("A", &[("A", "")]),
    ("A\nB=2", &[("A", ""), ("B", "2")]),
    ("export A=1", &[("A", "1")]),
    ("export\tA=1", &[("A", "1")]),
    ("export=1", &[("export", "1")]),
    (" A = 1 ", &[("A", "1")]),
    ("\u{feff}A=1", &[("A", "1")]),
    ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")]),
    ("A=1\rB=2", &[("A", "1"), ("B", "2")]),
    ("A=1\nA=2", &[("A", "2")]),
    ("A=1\nA=", &[("A", "")]),
    ("A=1\nA", &[("A", "")]),
    ("A='single $x #no'", &[("A", "single $x #no")]),
    ("A='it\\'s'", &[("A", "it's")]),
    ("A='a\\\\b\\n'", &[("A", "a\\b\\n")]),
    ("A=\"say \\\"hi\\\"\"", &[("A", "say \"hi\"")]),
    ("A=\"tab\\tend\\nline\\r\"", &[("A", "tab\tend\nline\r")]),
    ("A=\"\\q\\x41\"", &[("A", "\\q\\x41")]),
    ("A=\"two\nlines\"\nB=2", &[("A", "two\nlines"), ("B", "2")]),
    ("A='two\r\nlines'\nB=2", &[("A", "two\nlines"), ("B", "2")]),
    ("A=\"\"", &[("A", "")]),
    ("A=''", &[("A", "")]),
    ("A=\"x\" # comment", &[("A", "x")]),
    ("A=\"x\"#comment", &[("A", "x")]),
    ("A='x'   ", &[("A", "x")]),
    ("A=\\n\\t", &[("A", "\\n\\t")]),
    ("A=C:\\dir\\new", &[("A", "C:\\dir\\new")]),
    ("A=\"a$b${\"", &[("A", "a$b${")]),
    ("A=$HOME_DIR", &[("A", "$HOME_DIR")]),
    ("A=${HOME_DIR}/x", &[("A", "/home/me/x")]),
    ("A='${HOME_DIR}'", &[("A", "/home/me")]),
    ("A=\"${HOME_DIR}\"", &[("A", "/home/me")]),
    ("A=${NONE}", &[("A", "")]),
    ("A=${NONE:-default}", &[("A", "default")]),
    ("A=${NONE:-}", &[("A", "")]),
    ("A=${HOME_DIR:-default}", &[("A", "/home/me")]),
    ("A=1\nB=${A}2", &[("A", "1"), ("B", "12")]),
    ("B=${A}\nA=1", &[("B", ""), ("A", "1")]),
    ("A=1\nA=${A}2", &[("A", "12")]),
    ("HOME_DIR=/file\nA=${HOME_DIR}", &[("HOME_DIR", "/file"), ("A", "/home/me")]),
    ("A\nB=${A:-x}", &[("A", ""), ("B", "")]),
    ("A=${NONE:x}", &[("A", "${NONE:x}")]),
    ("A=${a:${HOME_DIR}}", &[("A", "${a:/home/me}")]),
    ("A=$$ $1 ${", &[("A", "$$ $1 ${")]),
    ("A=\"${NONE:-a b}\"", &[("A", "a b")]),
    ("A=ü ñ 日本", &[("A", "ü ñ 日本")]),
    ("A=a\u{a0}# comment", &[("A", "a")]),
    ("A=a\u{a0}", &[("A", "a")]),
    ("'A'=1", &[("A", "1")]),
    ("A.B=1\nC=2", &[("C", "2")]),
    ("A-B=1\nC=${A-B}", &[("C", "1")]),
    ("1A=x\nB=2", &[("B", "2")]),
    ("# comment\n\n  # another\nA=1", &[("A", "1")]),
    ("A=b=c==", &[("A", "b=c==")]),
    ("A=`x` 'y' \"z\"", &[("A", "`x` 'y' \"z\"")]),
    ("A= 'x'", &[("A", "x")]),
    ("export # x\nA=1", &[("A", "1")]),
];

fn process(name: &str) -> Option<String> {
    (name == "HOME_DIR").then(|| "/home/me".to_owned())
}

fn read(text: &str) -> (BTreeMap<String, String>, Vec<SyntaxError>) {
    let prepared = prepare(text, &process);
    let pairs: Vec<_> = dotenvy::from_read_iter(prepared.text.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(pairs.len(), prepared.lines.len(), "every line is one pair: {text:?}");
    (pairs.into_iter().collect(), prepared.errors)
}

fn owned(values: Values<'_>) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn values_mean_what_python_dotenv_gives() {
    for (text, expected) in PYTHON_DOTENV {
        let (values, errors) = read(text);
        assert_eq!(values, owned(expected), "{text:?}");
        assert_eq!(errors, [], "{text:?}");
    }
}

#[test]
fn a_line_that_is_not_understood_is_reported_and_no_later_line_is_lost() {
    let cases: &[(&str, Values<'_>, usize, &str)] = &[
        ("A='x' y\nB=2", &[("B", "2")], 1, "there is text after the closing quote of A"),
        ("A='Don't ask\nB=2", &[("B", "2")], 1, "there is text after the closing quote of A"),
        ("A=\"open\nB=2", &[("B", "2")], 1, "the quote of A is not closed"),
        ("A='open\nB=2", &[("B", "2")], 1, "the quote of A is not closed"),
        ("= x\nB=2", &[("B", "2")], 1, "no variable name found"),
        ("two words\nB=2", &[("B", "2")], 1, "no `=` after `two`"),
        ("'A=1\nB=2", &[("B", "2")], 1, "a quoted name is not closed"),
        ("A=1\nB='\n#\n C=3", &[("A", "1"), ("C", "3")], 2, "the quote of B is not closed"),
    ];
    for (text, expected, line, problem) in cases {
        let (values, errors) = read(text);
        assert_eq!(values, owned(expected), "{text:?}");
        let errors: Vec<_> = errors.iter().map(|error| (error.line, error.problem.as_str())).collect();
        assert_eq!(errors, [(*line, *problem)], "{text:?}");
    }
}

#[test]
fn an_error_never_repeats_a_value() {
    let (_, errors) = read("OPENAI_API_KEY='sk-secret' oops\nQA_NATS_TOKEN='sk-secret\n");
    assert_eq!(errors.len(), 2);
    assert!(!format!("{errors:?}").contains("secret"), "{errors:?}");
}

#[test]
fn lines_are_counted_in_the_file_of_the_user() {
    let prepared = prepare("# a\r\n\r\nA=\"1\r\n2\"\r\n-B=no\r\nexport C=3\r\n", &process);
    assert_eq!(prepared.lines, [3, 6]);
}

proptest! {
    #[test]
    fn any_value_survives_between_double_quotes(value in "\\PC*|[\"'\\\\$#{} \n\t]{0,20}") {
        let value = value.replace("${", "$ {");
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        let (values, errors) = read(&format!("A=\"{escaped}\"\nB=2"));
        prop_assert_eq!(errors, []);
        prop_assert_eq!(values.get("A").map(String::as_str), Some(value.as_str()));
        prop_assert_eq!(values.get("B").map(String::as_str), Some("2"));
    }

    #[test]
    fn no_text_panics_or_confuses_dotenvy(text in "[AB='\"\\\\$#{}: \n\r\t-]{0,30}|.*") {
        let (values, _) = read(&text);
        prop_assert!(values.len() <= text.len());
    }
}
