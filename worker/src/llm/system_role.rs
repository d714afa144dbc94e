//! A conversation for models that know no system message.
//!
//! PURE. Gemma 2 and older Mistral models refuse one; the rules stand before the first question then. It must
//! not know which server refuses what.

use super::{Message, Role};

/// The same conversation with its system messages at the beginning of the user's first message.
pub(super) fn without_system(messages: &[Message]) -> Vec<Message> {
    let rules: Vec<&str> = messages
        .iter()
        .filter(|message| message.role == Role::System)
        .map(|message| message.content.as_str())
        .collect();
    let mut rest: Vec<Message> =
        messages.iter().filter(|message| message.role != Role::System).cloned().collect();
    if rules.is_empty() {
        return rest;
    }
    let rules = rules.join("\n\n");
    match rest.first_mut().filter(|first| first.role == Role::User) {
        Some(first) => {
            // The rules are the same for every chunk of a job.
            first.constant += rules.len() + 2;
            first.content = format!("{rules}\n\n{}", first.content);
        }
        None => rest.insert(0, Message::new(Role::User, rules)),
    }
    rest
}

/// Whether an error's text, in lower case, says that there is no system message.
pub(super) fn is_refused(text: &str) -> bool {
    const CERTAIN: &[&str] = &[
        "system role not supported",
        "roles must alternate user/assistant",
        "only user and assistant roles",
        "developer instruction is not enabled",
    ];
    const ABOUT: &[&str] = &[
        "system role",
        "role system",
        "role: system",
        "role 'system'",
        "role `system`",
        "role \"system\"",
        "'system' role",
        "`system` role",
        "\"system\" role",
        "system message",
        "system prompt",
        "system instruction",
    ];
    const REFUSED: &[&str] = &[
        "not supported",
        "unsupported",
        "not support",
        "n't support",
        "not enabled",
        "not allowed",
        "not permitted",
        "invalid",
        "unknown",
        "unexpected",
        "not one of",
    ];
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    says(CERTAIN) || (says(ABOUT) && says(REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_question_begins_with_the_rules() {
        let question = Message { constant: 4, ..Message::new(Role::User, "Ask: chunk") };
        let messages = [
            Message::new(Role::System, "Rules."),
            question,
            Message::new(Role::Assistant, "{}"),
            Message::new(Role::User, "Again."),
        ];
        let merged = without_system(&messages);
        let roles: Vec<Role> = merged.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
        assert_eq!(merged[0].content, "Rules.\n\nAsk: chunk");
        assert_eq!(merged[0].constant_part(), "Rules.\n\nAsk:");
        assert_eq!(without_system(&merged), merged);
        assert_eq!(without_system(&messages[..1])[0].role, Role::User);
    }

    #[test]
    fn refusals_of_known_servers_are_understood() {
        for text in [
            "System role not supported",
            "Jinja Exception: System role not supported",
            "Template error: template error: invalid operation: System role not supported (in <string>:1)",
            "Conversation roles must alternate user/assistant/user/assistant/...",
            "Only user and assistant roles are supported!",
            "Developer instruction is not enabled for models/gemma-3-27b-it",
            "unsupported role: system is not one of user, assistant: role: system",
            "This model does not support system messages",
            "messages[0]: 'system' role is not supported with this model",
        ] {
            assert!(is_refused(&text.to_lowercase()), "{text}");
        }
        for text in ["the system is overloaded", "unsupported parameter: 'temperature'", "system fingerprint"]
        {
            assert!(!is_refused(text), "{text}");
        }
    }
}
