//! The scanner against serde_json's own parser.

use std::io::BufReader;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// Scans with a tiny read buffer, so that every token is cut somewhere.
fn scan(bytes: &[u8], streamed: &[&str]) -> Result<Map<String, Value>, ScanError> {
    let mut scanner = Scanner::new(BufReader::with_capacity(3, bytes), streamed);
    let mut object = Map::new();
    let mut array = None;
    while let Some(event) = scanner.next()? {
        match event {
            Event::Field { key, value } => {
                assert_eq!(value.raw, piece(bytes, value.span));
                object.insert(key, value.parse()?);
            }
            Event::ArrayStart { key } => array = Some((key, Vec::new())),
            Event::Element(element) => {
                assert_eq!(element.raw, piece(bytes, element.span));
                array.as_mut().unwrap().1.push(element.parse()?);
            }
            Event::ArrayEnd => {
                let (key, elements) = array.take().unwrap();
                object.insert(key, Value::Array(elements));
            }
        }
    }
    Ok(object)
}

fn piece(bytes: &[u8], span: Span) -> &[u8] {
    let start = usize::try_from(span.offset).unwrap();
    &bytes[start..start + usize::try_from(span.len).unwrap()]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a\"\\\\{}\\[\\],:\n é概]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec(("[ab\"é]{0,3}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(("(chunks|[a-c\"\\\\é]{0,4})", value()), 0..6)
        .prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn the_pieces_are_what_serde_json_reads(object in object(), pretty in any::<bool>(), mark in any::<bool>()) {
        let mut bytes = if mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        bytes.extend(if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap());
        prop_assert_eq!(&scan(&bytes, &["chunks"]).unwrap(), &object);
        prop_assert_eq!(&scan(&bytes, &[]).unwrap(), &object);
    }

    #[test]
    fn every_prefix_is_truncated(object in object(), at in any::<prop::sample::Index>()) {
        let bytes = serde_json::to_vec_pretty(&object).unwrap();
        let cut = &bytes[..at.index(bytes.len())];
        let error = scan(cut, &["chunks"]).unwrap_err();
        prop_assert!(matches!(error, ScanError::Truncated { offset } if offset == cut.len() as u64), "{}", error);
    }

    #[test]
    fn what_is_accepted_is_json(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        "[{}\\[\\],:\"\\\\ 1an]{0,24}".prop_map(String::into_bytes),
        "\\{\"chunks\":\\[[{}\\[\\],:\"1 ]{0,8}\\]\\}".prop_map(String::into_bytes),
    ]) {
        if let Ok(object) = scan(&bytes, &["chunks"]) {
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            prop_assert_eq!(object, json_repair::from_slice(text).unwrap());
        }
    }
}

#[test]
fn what_follows_the_object_is_refused() {
    let error = scan(b"{} {}", &[]).unwrap_err();
    assert_eq!(error.to_string(), "not JSON: found `{` at byte 3, expected the end of the file");
}

#[test]
fn a_list_is_no_object() {
    let error = scan(b"[]", &[]).unwrap_err();
    assert_eq!(error.to_string(), "not JSON: found `[` at byte 0, expected an object (`{`)");
}

#[test]
fn deep_nesting_is_gone_through_without_recursion() {
    let bytes = format!("{{\"a\":{}1{},\"b\":2}}", "[".repeat(100_000), "]".repeat(100_000));
    let object = scan(bytes.as_bytes(), &[]).unwrap();
    assert!(object["a"].is_array() && object["b"] == 2);
}

#[test]
fn a_named_field_that_is_no_array_comes_whole() {
    assert_eq!(
        Value::from(scan(br#"{"chunks": {"a": 1}}"#, &["chunks"]).unwrap()),
        json!({"chunks": {"a": 1}})
    );
}
