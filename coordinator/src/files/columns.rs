//! One type per column of the combined file's pairs (PURE).
//!
//! Loaders of training files want it. Documents of different chunkers may count chunk ids as text here and as
//! numbers there; each of them is right by itself. Whole numbers and others are one type, and null is of every
//! type. It does not know where pairs stand.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::json_repair::{self, repaired};
use super::pretty::pretty;

/// Documents that a note names for each type.
const MOST_NAMED: usize = 3;
/// An object with more names is no column of a table.
const MOST_FIELDS: usize = 256;

/// What a loader takes a value for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Null,
    Bool,
    Number,
    Text,
    List(Box<Self>),
    Object(Vec<(String, Self)>),
    /// Of several types, here or further in.
    Mixed,
}

/// The types that a note tells apart, with their names.
const KINDS: [&str; 5] = ["true or false", "number", "text", "list", "object"];

impl Shape {
    fn kind(&self) -> Option<usize> {
        match self {
            Self::Null | Self::Mixed => None,
            Self::Bool => Some(0),
            Self::Number => Some(1),
            Self::Text => Some(2),
            Self::List(_) => Some(3),
            Self::Object(_) => Some(4),
        }
    }

    fn include(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Mixed, _) | (_, Self::Null) => {}
            (Self::Null, other) => *self = other,
            (Self::List(mine), Self::List(other)) => mine.include(*other),
            (Self::Object(mine), Self::Object(others)) => {
                for (name, other) in others {
                    if let Some(field) = field(mine, &name) {
                        field.include(other);
                    }
                }
                if mine.len() > MOST_FIELDS {
                    *self = Self::Mixed;
                }
            }
            (mine, other) => {
                if *mine != other {
                    *self = Self::Mixed;
                }
            }
        }
    }

    fn is_mixed(&self) -> bool {
        match self {
            Self::Mixed => true,
            Self::List(inner) => inner.is_mixed(),
            Self::Object(fields) => fields.iter().any(|(_, field)| field.is_mixed()),
            Self::Null | Self::Bool | Self::Number | Self::Text => false,
        }
    }
}

fn field<'a>(fields: &'a mut Vec<(String, Shape)>, name: &str) -> Option<&'a mut Shape> {
    let index = fields.iter().position(|(known, _)| known == name).unwrap_or(fields.len());
    if index == fields.len() {
        fields.push((name.to_owned(), Shape::Null));
    }
    fields.get_mut(index).map(|(_, shape)| shape)
}

/// Reads a value only as far as its shape goes.
struct ShapeOf;

impl<'de> DeserializeSeed<'de> for ShapeOf {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ShapeOf {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut inner = Shape::Null;
        while let Some(shape) = list.next_element_seed(ShapeOf)? {
            inner.include(shape);
        }
        Ok(Shape::List(Box::new(inner)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Shape, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = object.next_key::<String>()? {
            if fields.len() > MOST_FIELDS {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let shape = object.next_value_seed(ShapeOf)?;
            if let Some(field) = field(&mut fields, &name) {
                field.include(shape);
            }
        }
        Ok(if fields.len() > MOST_FIELDS { Shape::Mixed } else { Shape::Object(fields) })
    }
}

/// The columns of one document's pairs.
#[derive(Debug, Default)]
pub(super) struct DocumentColumns(Vec<Column>);

#[derive(Debug)]
struct Column {
    name: String,
    shape: Shape,
    /// Which of [`KINDS`] stand in it.
    kinds: [bool; KINDS.len()],
}

impl DocumentColumns {
    /// Takes a pair, which has to be an object. Says whether it has to be repaired, see [`super::Repairs`].
    pub(super) fn add(&mut self, pair: &[u8]) -> Result<bool, serde_json::Error> {
        let mut strict = serde_json::Deserializer::from_slice(pair);
        let Err(error) = strict.deserialize_map(&mut *self) else { return Ok(false) };
        let (text, _) = repaired(pair).ok_or(error)?;
        serde_json::Deserializer::from_slice(&text).deserialize_map(self).map(|()| true)
    }

    fn include(&mut self, name: &str, shape: Shape) {
        let kind = shape.kind();
        let index = self.0.iter().position(|column| column.name == name).unwrap_or(self.0.len());
        if index == self.0.len() {
            let kinds = [false; KINDS.len()];
            self.0.push(Column { name: name.to_owned(), shape: Shape::Null, kinds });
        }
        let Some(column) = self.0.get_mut(index) else { return };
        column.shape.include(shape);
        if let Some(kind) = kind {
            column.kinds[kind] = true;
        }
    }
}

impl<'de> Visitor<'de> for &mut DocumentColumns {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pair (an object)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pair: A) -> Result<(), A::Error> {
        while let Some(name) = pair.next_key::<std::borrow::Cow<'de, str>>()? {
            let shape = pair.next_value_seed(ShapeOf)?;
            self.include(&name, shape);
        }
        Ok(())
    }
}

/// The columns of all documents.
#[derive(Debug, Default)]
pub(super) struct Columns {
    columns: Vec<(Column, [Named; KINDS.len()])>,
}

/// Documents with values of one type in a column.
#[derive(Debug, Default)]
struct Named {
    number: usize,
    first: Vec<String>,
}

impl Columns {
    /// Takes the columns of a document.
    pub(super) fn include(&mut self, document: &str, columns: DocumentColumns) {
        for Column { name, shape, kinds } in columns.0 {
            let index = self.columns.iter().position(|(column, _)| column.name == name);
            let index = index.unwrap_or_else(|| {
                let column = Column { name, shape: Shape::Null, kinds: [false; KINDS.len()] };
                self.columns.push((column, Default::default()));
                self.columns.len() - 1
            });
            let Some((column, named)) = self.columns.get_mut(index) else { continue };
            column.shape.include(shape);
            for (named, _) in named.iter_mut().zip(kinds).filter(|(_, is_there)| *is_there) {
                named.number += 1;
                if named.first.len() < MOST_NAMED {
                    named.first.push(document.to_owned());
                }
            }
        }
    }

    /// Names of the columns that hold values of several types.
    pub(super) fn mixed(&self) -> Vec<String> {
        let mixed = self.columns.iter().filter(|(column, _)| column.shape.is_mixed());
        mixed.map(|(column, _)| column.name.clone()).collect()
    }

    /// What people are told about these columns, if there are any.
    pub(super) fn note(&self) -> Option<String> {
        let mixed = self.columns.iter().filter(|(column, _)| column.shape.is_mixed());
        let told: Vec<_> = mixed.map(|(column, named)| told(&column.name, named)).collect();
        let one = "its values are of several types and stand there as text";
        let several = "their values are of several types and stand there as text";
        let what = if told.len() == 1 { one } else { several };
        (!told.is_empty()).then(|| format!("in the combined file {}: {what}", told.join("; ")))
    }
}

fn told(name: &str, named: &[Named]) -> String {
    let kinds = KINDS.iter().zip(named).filter(|(_, named)| named.number > 0);
    let kinds: Vec<_> = kinds
        .map(|(kind, named)| {
            let more = named.number - named.first.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{kind} in {}{more}", named.first.join(", "))
        })
        .collect();
    format!("`{name}` ({})", kinds.join("; "))
}

/// A pair with the values of these columns as text; `None` where that changes nothing.
pub(super) fn as_text(pair: &[u8], columns: &[String]) -> Option<Vec<u8>> {
    let mut pair: Map<String, Value> = json_repair::from_slice(pair).ok()?;
    let mut is_changed = false;
    for name in columns {
        if let Some(value) = pair.get_mut(name).filter(|value| !value.is_null() && !value.is_string()) {
            *value = Value::String(value.to_string());
            is_changed = true;
        }
    }
    is_changed.then(|| pretty(&pair, 2).expect("a value with text keys can be written"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn columns(documents: &[&[Value]]) -> Columns {
        let mut columns = Columns::default();
        for (index, pairs) in documents.iter().enumerate() {
            let mut document = DocumentColumns::default();
            for pair in *pairs {
                assert!(!document.add(pair.to_string().as_bytes()).unwrap());
            }
            columns.include(&format!("d{index}_qa.json"), document);
        }
        columns
    }

    #[test]
    fn a_column_with_one_type_is_left_as_it_is() {
        let uniform = columns(&[
            &[
                json!({"id": "0_1", "start": 1, "n": {"a": [1]}}),
                json!({"id": null, "start": 1.5, "n": {"b": true}}),
            ],
            &[json!({"start": null, "n": {"a": [], "b": null}})],
        ]);
        assert_eq!((uniform.mixed(), uniform.note()), (Vec::<String>::new(), None));
    }

    #[test]
    fn a_column_with_several_types_is_named_with_its_documents() {
        let text: &[Value] = &[json!({"id": "1", "x": 1})];
        let number: &[Value] = &[json!({"id": 1, "x": 2})];
        let mixed = columns(&[text, number, number, number, number, &[json!({"id": [2]})]]);
        assert_eq!(mixed.mixed(), ["id"]);
        let note = "in the combined file `id` (number in d1_qa.json, d2_qa.json, d3_qa.json and 1 more; text in \
                    d0_qa.json; list in d5_qa.json): its values are of several types and stand there as text";
        assert_eq!(mixed.note().as_deref(), Some(note));
    }

    #[test]
    fn types_within_a_value_count_too_and_so_do_those_of_one_document() {
        for pairs in [
            [json!({"id": {"page": 1}}), json!({"id": {"page": "1"}})],
            [json!({"id": [1]}), json!({"id": ["1"]})],
            [json!({"id": [{"a": 1}]}), json!({"id": [{"a": [1]}]})],
            [json!({"id": true}), json!({"id": 1})],
            [json!({"id": {}}), json!({"id": []})],
        ] {
            assert_eq!(columns(&[&pairs]).mixed(), ["id"], "{pairs:?}");
            assert_eq!(columns(&[&pairs[..1], &pairs[1..]]).mixed(), ["id"], "{pairs:?}");
        }
        assert_eq!(columns(&[&[json!({"id": [1, "1"]})]]).mixed(), ["id"]);
    }

    #[test]
    fn a_pair_is_an_object_and_may_have_to_be_repaired() {
        let mut document = DocumentColumns::default();
        assert!(document.add(br#"{"q": "\ud835", "n": NaN}"#).unwrap());
        assert!(document.add(b"[1]").is_err() && document.add(b"{\"q\": }").is_err());
    }

    #[test]
    fn values_become_text_in_their_place() {
        let pair = br#"{"q": "\u00fc", "id": 7, "x": {"a": [1.0]}, "n": null, "t": "7"}"#;
        let names = ["id", "x", "n", "t", "absent"].map(str::to_owned);
        let text = String::from_utf8(as_text(pair, &names).unwrap()).unwrap();
        assert!(
            text.starts_with(
                "{\n      \"q\": \"ü\",\n      \"id\": \"7\",\n      \"x\": \"{\\\"a\\\":[1.0]}\""
            ),
            "{text}"
        );
        assert!(text.ends_with("\"n\": null,\n      \"t\": \"7\"\n    }"), "{text}");
        assert_eq!(as_text(pair, &["t".to_owned(), "n".to_owned()]), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::vec(("[ab]", inner), 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_as_text_every_column_has_one_type(values in prop::collection::vec(value(), 1..6)) {
            let pairs: Vec<_> = values.iter().map(|value| json!({"id": value})).collect();
            let mixed = columns(&[&pairs]).mixed();
            let written: Vec<Value> = pairs
                .iter()
                .map(|pair| match as_text(pair.to_string().as_bytes(), &mixed) {
                    Some(text) => serde_json::from_slice(&text).unwrap(),
                    None => pair.clone(),
                })
                .collect();
            prop_assert_eq!(columns(&[&written]).mixed(), Vec::<String>::new());
        }

        #[test]
        fn the_order_of_documents_does_not_matter(one in value(), other in value()) {
            let (one, other): (&[Value], &[Value]) = (&[json!({"id": one})], &[json!({"id": other})]);
            prop_assert_eq!(columns(&[one, other]).mixed(), columns(&[other, one]).mixed());
        }
    }
}
