//! Reads the members of a request as strictly as typed services do: what is unknown, null, of another type
//! or out of its range is a problem, which each service says in its own words.

use serde_json::Value;

/// What a member may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    /// A whole number within these bounds.
    Whole(i64, i64),
    /// A number within these bounds.
    Number(f64, f64),
    List,
    Object,
    TextOrList,
    TextOrObject,
    OneOf(&'static [&'static str]),
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    is_required: bool,
}

/// A member that may be left out.
pub(super) const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, is_required: false }
}

/// A member that must be there.
pub(super) const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, is_required: true }
}

/// What is wrong with a member.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Unknown,
    Missing,
    Null,
    /// It should be of this type.
    Type(&'static str),
    TooLow(f64),
    TooHigh(f64),
    NotOneOf(&'static [&'static str]),
}

/// Something wrong with a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    /// The object's place in the request; empty for the request itself.
    pub(super) at: String,
    pub(super) name: String,
    pub(super) what: What,
    /// What was found, as JSON.
    pub(super) found: String,
}

impl Problem {
    /// The member's place in the request.
    pub(super) fn path(&self) -> String {
        match (self.at.as_str(), self.name.as_str()) {
            ("", name) => name.to_owned(),
            (at, "") => at.to_owned(),
            (at, name) => format!("{at}.{name}"),
        }
    }
}

/// What services do with members that they do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Refused,
    Ignored,
}

/// The first problem of the object at `at`.
pub(super) fn check(value: &Value, at: &str, fields: &[Field], unknown: Unknown) -> Result<(), Problem> {
    let problem = |name: &str, what, found: &Value| Problem {
        at: at.to_owned(),
        name: name.to_owned(),
        what,
        found: found.to_string(),
    };
    let Some(object) = value.as_object() else {
        let what = if value.is_null() { What::Null } else { What::Type("object") };
        return Err(problem("", what, value));
    };
    for (name, value) in object {
        match fields.iter().find(|field| field.name == name) {
            None if unknown == Unknown::Refused => return Err(problem(name, What::Unknown, value)),
            None => {}
            Some(field) => {
                if let Some(what) = wrong(field.kind, value) {
                    return Err(problem(name, what, value));
                }
            }
        }
    }
    match fields.iter().find(|field| field.is_required && !object.contains_key(field.name)) {
        Some(field) => Err(problem(field.name, What::Missing, &Value::Null)),
        None => Ok(()),
    }
}

fn wrong(kind: Kind, value: &Value) -> Option<What> {
    if value.is_null() {
        return Some(What::Null);
    }
    let is_expected = match kind {
        Kind::Text | Kind::OneOf(_) => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Whole(..) => value.is_i64() || value.is_u64(),
        Kind::Number(..) => value.is_number(),
        Kind::List => value.is_array(),
        Kind::Object => value.is_object(),
        Kind::TextOrList => value.is_string() || value.is_array(),
        Kind::TextOrObject => value.is_string() || value.is_object(),
    };
    if !is_expected {
        return Some(What::Type(type_name(kind)));
    }
    let (least, most) = match kind {
        Kind::Whole(least, most) => (least as f64, most as f64),
        Kind::Number(least, most) => (least, most),
        Kind::OneOf(words) if !words.iter().any(|word| value == word) => return Some(What::NotOneOf(words)),
        _ => return None,
    };
    let number = value.as_f64()?;
    if number < least { Some(What::TooLow(least)) } else { (number > most).then_some(What::TooHigh(most)) }
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::OneOf(_) => "string",
        Kind::Flag => "boolean",
        Kind::Whole(..) => "integer",
        Kind::Number(..) => "number",
        Kind::List => "array",
        Kind::Object => "object",
        Kind::TextOrList => "string or array",
        Kind::TextOrObject => "string or object",
    }
}
