//! The user's prompt template: parsed once, rendered in a single pass.
//!
//! Both programs check templates (the coordinator at its start, the worker when it builds a prompt). It must
//! not know where a template comes from nor what is asked with it.

/// Why a template cannot be used. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that nobody fills.
    #[error(
        "unknown placeholder `{{{name}}}` in line {line}: expected {{text}}, {{num_questions}} or \
         {{extra_instructions}}; write {{{{ and }}}} for literal braces"
    )]
    UnknownPlaceholder {
        /// What stands between the braces, cut to 40 characters.
        name: String,
        /// Where.
        line: usize,
    },
    /// `{` without its `}`, or the reverse.
    #[error("lone `{brace}` in line {line}: write {brace}{brace} for a literal brace")]
    LoneBrace {
        /// Which one.
        brace: char,
        /// Where.
        line: usize,
    },
    /// The chunk would not be in the prompt.
    #[error("the placeholder {{text}} is missing: put it where the chunk's text belongs")]
    TextMissing,
}

/// A prompt template whose placeholders are known to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Text,
    NumQuestions,
    ExtraInstructions,
}

/// Checks a template without keeping it.
pub fn validate(template: &str) -> Result<(), TemplateError> {
    Template::parse(template).map(drop)
}

impl Template {
    /// Reads `{text}`, `{num_questions}`, `{extra_instructions}`; `{{` and `}}` are literal braces.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut line = 1;
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace_and_after) = rest.split_at(at);
            literal.push_str(before);
            line += before.matches('\n').count();
            if let Some(after) = brace_and_after.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = brace_and_after.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(after) = brace_and_after.strip_prefix('{') {
                let end = after.find(['{', '}', '\n']).filter(|end| after[*end..].starts_with('}'));
                let Some(end) = end else { return Err(TemplateError::LoneBrace { brace: '{', line }) };
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(placeholder(&after[..end], line)?);
                rest = &after[end + 1..];
            } else {
                return Err(TemplateError::LoneBrace { brace: '}', line });
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.contains(&Part::Text) { Ok(Self { parts }) } else { Err(TemplateError::TextMissing) }
    }

    /// The rendered text up to the chunk's place: the same for every chunk.
    pub fn constant_start(&self, num_questions: u32, extra_instructions: &str) -> String {
        let parts = self.parts.iter().take_while(|part| **part != Part::Text).cloned().collect();
        Self { parts }.render("", num_questions, extra_instructions)
    }

    /// Fills the placeholders. Braces inside the values stay as they are.
    pub fn render(&self, text: &str, num_questions: u32, extra_instructions: &str) -> String {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => rendered.push_str(literal),
                Part::Text => rendered.push_str(text),
                Part::NumQuestions => rendered.push_str(&num_questions.to_string()),
                Part::ExtraInstructions => rendered.push_str(extra_instructions),
            }
        }
        rendered
    }
}

fn placeholder(name: &str, line: usize) -> Result<Part, TemplateError> {
    match name {
        "text" => Ok(Part::Text),
        "num_questions" => Ok(Part::NumQuestions),
        "extra_instructions" => Ok(Part::ExtraInstructions),
        _ => Err(TemplateError::UnknownPlaceholder { name: name.chars().take(40).collect(), line }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn placeholders_are_filled_and_doubled_braces_become_one() {
        let template =
            Template::parse("{num_questions} from {text}: {{\"q\"}}{extra_instructions}!").unwrap();
        assert_eq!(template.render("T", 3, " please"), "3 from T: {\"q\"} please!");
    }

    #[test]
    fn braces_in_the_text_are_never_expanded() {
        let template = Template::parse("{text}|{extra_instructions}").unwrap();
        assert_eq!(template.render("{num_questions} {{x}}", 3, "{text}"), "{num_questions} {{x}}|{text}");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (template, message) in [
            ("a\n{txt}", "unknown placeholder `{txt}` in line 2"),
            ("{ text }", "unknown placeholder `{ text }` in line 1"),
            ("{}{text}", "unknown placeholder `{}` in line 1"),
            ("{text}\n\n{\"question\": 1", "lone `{` in line 3"),
            ("{\n}{text}", "lone `{` in line 1"),
            ("{text} }", "lone `}` in line 1"),
            ("{text}}", "lone `}` in line 1"),
            ("{text", "lone `{` in line 1"),
            ("no chunk {{text}}", "the placeholder {text} is missing"),
        ] {
            let error = validate(template).unwrap_err().to_string();
            assert!(error.starts_with(message), "{template:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_escaped_and_comes_back(before in ".*", text in ".*", after in ".*") {
            let escape = |s: &str| s.replace('{', "{{").replace('}', "}}");
            let template = format!("{}{{text}}{}", escape(&before), escape(&after));
            prop_assert_eq!(Template::parse(&template).unwrap().render(&text, 1, ""), before + &text + &after);
        }

        #[test]
        fn no_template_panics(template in "[{}a\n ]{0,30}|.*") {
            let _checked: Result<_, _> = validate(&template);
        }
    }
}
