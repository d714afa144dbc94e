//! Failures as people read them (PURE).

use std::fmt::Write;

use crate::failure_groups::Group;
use crate::failures::Failures;
use crate::format::{count, counted, line, text};
use crate::report_story::when;

/// Groups of each kind that are shown.
const GROUPS_SHOWN: usize = 20;
/// What is shown of an answer, in characters and lines.
const ANSWER_SHOWN: usize = 800;
const LINES_SHOWN: usize = 12;

/// The failures as text.
pub(crate) fn failures(failures: &Failures) -> String {
    let mut told = String::new();
    let mut say = |line: String| writeln!(told, "{line}").expect("a String takes every text");
    let sum = |groups: &[Group]| groups.iter().map(|group| group.count).sum::<u64>();
    let grouped = &failures.grouped;
    let has_none = grouped.failed_chunks.is_empty()
        && grouped.unusable_answers.is_empty()
        && failures.failed_documents.is_empty()
        && failures.unreadable.is_empty()
        && failures.unreadable_lines == 0;
    if has_none {
        say(format!("no failures in {}", line(&failures.directory, 300)));
        return told;
    }
    for (name, error) in &failures.failed_documents {
        say(format!("document       {}: {}", line(name, 100), line(error, 400)));
    }
    say(format!(
        "failed chunks  {} in {}",
        count(sum(&grouped.failed_chunks)),
        counted(failures.documents, "document")
    ));
    tell_groups(&grouped.failed_chunks, &mut say);
    say(format!(
        "bad answers    {}; a chunk may have got its pairs in another attempt",
        count(sum(&grouped.unusable_answers))
    ));
    tell_groups(&grouped.unusable_answers, &mut say);
    if grouped.other_kinds > 0 {
        say(format!("and {} of other kinds", count(grouped.other_kinds)));
    }
    for problem in &failures.unreadable {
        say(format!("unreadable     {}", line(problem, 400)));
    }
    if failures.unreadable_lines > 0 {
        let lines = counted(failures.unreadable_lines, "line");
        say(format!("unreadable     {lines} of the failure log"));
    }
    if failures.failure_logs.is_empty() {
        say("failure log    none".to_owned());
    }
    for path in &failures.failure_logs {
        say(format!("failure log    {path}"));
    }
    told
}

fn tell_groups(groups: &[Group], say: &mut impl FnMut(String)) {
    for group in groups.iter().take(GROUPS_SHOWN) {
        let who =
            |word: &str, who: &str| if who.is_empty() { String::new() } else { format!(" {word} {who}") };
        say(format!(
            "{} x {}{}{}{}",
            count(group.count),
            group.reason,
            who("with", &group.model),
            who("at", &group.server),
            who("on", &group.host)
        ));
        say(format!("  what to do   {}", group.remedy));
        let example = &group.example;
        let at = example.at.as_ref().map(|at| format!(", {}", when(at))).unwrap_or_default();
        let link = example.trace_url.as_ref().map(|url| format!("  {url}")).unwrap_or_default();
        say(format!("  for example  {}, chunk {}{at}{link}", line(&example.document, 120), example.chunk));
        if !example.message.is_empty() {
            say(format!("               {}", line(&example.message, 300)));
        }
        match &example.raw_answer {
            Some(answer) => tell_answer(answer, say),
            None => say("  raw answer   none in the log".to_owned()),
        }
    }
    if groups.len() > GROUPS_SHOWN {
        say(format!(
            "and {} more; --json shows them",
            counted((groups.len() - GROUPS_SHOWN) as u64, "group")
        ));
    }
}

fn tell_answer(answer: &str, say: &mut impl FnMut(String)) {
    let shown: String = text(answer.trim()).chars().take(ANSWER_SHOWN).collect();
    for (number, line) in shown.lines().take(LINES_SHOWN).enumerate() {
        let label = if number == 0 { "  raw answer   | " } else { "               | " };
        say(format!("{label}{line}"));
    }
    if shown.len() < text(answer.trim()).len() || shown.lines().count() > LINES_SHOWN {
        say("               | … (more of it is in the failure log)".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_failed_that_is_said() {
        let none = Failures { directory: "qa".to_owned(), ..Failures::default() };
        assert_eq!(failures(&none), "no failures in qa\n");
        let broken = [("a".to_owned(), "truncated".to_owned())].into();
        let document = Failures { failed_documents: broken, ..Failures::default() };
        assert!(failures(&document).starts_with("document       a: truncated\nfailed chunks  0 in"));
        let unreadable = Failures { unreadable_lines: 1, ..none };
        assert!(failures(&unreadable).contains("failed chunks  0 in 0 documents"), "not all could be read");
    }
}
