//! Which names may stand where: the rules of the design as a table, and the matcher that applies it.

use crate::source::SourceFile;

/// Names and the only places where they may stand.
struct Rule {
    /// Names: a path (`std::fs`), a crate, a word, or a macro with its `!`.
    names: &'static [&'static str],
    /// Path prefixes of the only files that may use them.
    only_in: &'static [&'static str],
    /// Path prefixes of the files that the rule is about.
    about: &'static [&'static str],
    /// What the rule is for.
    reason: &'static str,
}

const EVERYWHERE: &[&str] = &["coordinator/src/", "shared/src/", "worker/src/"];

const RULES: &[Rule] = &[
    Rule {
        names: &[
            "tokio",
            "futures_util",
            "async_nats",
            "reqwest",
            "std::fs",
            "std::env",
            "std::net",
            "std::io",
            "std::process",
            "std::thread",
            "Instant",
            "SystemTime",
            "tracing",
            "async",
            "await",
        ],
        only_in: &[],
        about: &[
            "coordinator/src/core/",
            "coordinator/src/estimate.rs",
            "coordinator/src/report_forecast.rs",
            "coordinator/src/happening.rs",
            "coordinator/src/slowest.rs",
            "coordinator/src/failure_groups.rs",
            "coordinator/src/document_names.rs",
            "coordinator/src/report_chunk.rs",
            "coordinator/src/report_failures.rs",
            "coordinator/src/story.rs",
            "coordinator/src/trace_url.rs",
            "coordinator/src/report_story.rs",
            "coordinator/src/report/terminal",
            "shared/src/console/fold.rs",
            "shared/src/console/look.rs",
            "shared/src/console/painter.rs",
            "shared/src/model/",
            "shared/src/model_table.rs",
            "coordinator/src/sample.rs",
            "coordinator/src/changes.rs",
        ],
        reason: "it is pure: no runtime, no clock, no I/O",
    },
    Rule {
        names: &[
            "tokio",
            "reqwest",
            "futures_util",
            "async",
            "await",
            "std::fs",
            "std::net",
            "qa_shared::queue",
            "crate::llm::http",
        ],
        only_in: &[],
        about: &[
            "worker/src/answer.rs",
            "worker/src/breaker.rs",
            "worker/src/concurrency.rs",
            "worker/src/concurrency/",
            "worker/src/context.rs",
            "worker/src/disposition.rs",
            "worker/src/json_salvage.rs",
            "worker/src/outside_reasoning.rs",
            "worker/src/reasoning.rs",
            "worker/src/llm/adapt.rs",
            "worker/src/llm/claude.rs",
            "worker/src/llm/failed_generation.rs",
            "worker/src/llm/gemini.rs",
            "worker/src/llm/openai.rs",
            "worker/src/llm/rate_limit.rs",
            "worker/src/llm/repetition.rs",
            "worker/src/llm/reply.rs",
            "worker/src/llm/retry.rs",
            "worker/src/llm/retry_after.rs",
            "worker/src/llm/schema.rs",
            "worker/src/llm/sse.rs",
            "worker/src/llm/system_role.rs",
            "worker/src/pair_check.rs",
            "worker/src/pools.rs",
            "worker/src/prompt.rs",
            "worker/src/second_round.rs",
        ],
        reason: "it is pure: what it decides depends on its arguments only",
    },
    Rule {
        names: &["async_nats"],
        only_in: &["shared/src/queue/", "shared/tests/queue/", "shared/src/testing/"],
        about: &["coordinator/", "shared/", "worker/"],
        reason: "NATS is spoken in shared/src/queue only",
    },
    Rule {
        names: &["reqwest"],
        only_in: &["worker/src/llm/", "shared/src/telemetry/exporters.rs"],
        about: EVERYWHERE,
        reason: "HTTP to models is spoken in worker/src/llm only, to collectors in shared/src/telemetry/exporters.rs",
    },
    Rule {
        names: &["opentelemetry_otlp", "opentelemetry_sdk"],
        only_in: &["shared/src/telemetry/"],
        about: EVERYWHERE,
        reason: "what is sent to collectors, and how, is the business of shared/src/telemetry only",
    },
    Rule {
        names: &["std::fs", "tokio::fs", "File::open", "File::create", "OpenOptions", "tempfile"],
        only_in: &[
            "coordinator/src/files/",
            "shared/src/nats_server/",
            "shared/src/settings/",
            "shared/src/testing/",
            // Looks whether the certificates that the client is about to read are readable.
            "shared/src/queue/certificates.rs",
            // Looks in /proc whether SIGHUP is ignored.
            "shared/src/shutdown.rs",
        ],
        about: EVERYWHERE,
        reason: "files are read and written in coordinator/src/files only; the rest reads settings or runs nats-server",
    },
    Rule {
        names: &[
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
            "env::set_var",
            "env::remove_var",
            "dotenvy",
        ],
        only_in: &["shared/src/settings/", "shared/src/testing/"],
        about: EVERYWHERE,
        reason: "the environment is read in shared/src/settings only",
    },
    Rule {
        names: &["qa_worker"],
        only_in: &[
            "coordinator/src/cli",
            "coordinator/src/commands",
            "coordinator/src/config",
            "coordinator/src/local",
            "coordinator/src/run",
            "coordinator/src/main.rs",
            // Shows the prompt that a worker would send.
            "coordinator/src/show_prompt.rs",
        ],
        about: &["coordinator/src/", "shared/src/"],
        reason: "only local mode lets the coordinator use the worker",
    },
    Rule {
        names: &["qa_coordinator"],
        only_in: &["coordinator/src/main.rs"],
        about: EVERYWHERE,
        reason: "dependencies run coordinator → shared ← worker",
    },
    Rule {
        names: &["todo!", "unimplemented!", "dbg!"],
        only_in: &[],
        about: &["coordinator/", "shared/", "worker/"],
        reason: "unfinished",
    },
];

/// What a file may not say, one sentence each.
pub(crate) fn violations(file: &SourceFile) -> Vec<String> {
    let is_under = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.path.starts_with(prefix));
    let code = if file.is_product() { file.code() } else { String::new() };
    let every_code = SourceFile { path: file.path.clone(), text: file.text.clone() }.code();
    let mut found = Vec::new();
    for rule in RULES.iter().filter(|rule| is_under(rule.about) && !is_under(rule.only_in)) {
        // A rule about sources does not bind what tests them.
        let code = if rule.about.iter().all(|about| about.contains("/src/")) { &code } else { &every_code };
        for name in rule.names.iter().filter(|name| says(code, name)) {
            found.push(format!("{} names {name}: {}", file.path, rule.reason));
        }
    }
    found
}

/// Rules' paths under which no file lies any more.
pub(crate) fn paths_without_files(files: &[SourceFile]) -> Vec<&'static str> {
    let paths = RULES.iter().flat_map(|rule| rule.about.iter().chain(rule.only_in));
    let is_there = |path: &str| files.iter().any(|file| file.path.starts_with(path));
    paths.copied().filter(|path| !is_there(path)).collect()
}

/// Whether code says a name: as whole words, with any blanks around `::`, also where a `use` with braces takes
/// it apart (`use std::{fs, io}`).
fn says(code: &str, name: &str) -> bool {
    if let Some((module, item)) = name.rsplit_once("::")
        && grouped_items(code, module).any(|group| says(group, item))
    {
        return true;
    }
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (code[..at].chars().next_back(), code[at + name.len()..].chars().next());
        !is_word(before) && (name.ends_with('!') || !is_word(after))
    })
}

/// What stands between the braces of every `module::{...}`.
fn grouped_items<'a>(code: &'a str, module: &str) -> impl Iterator<Item = &'a str> {
    let open = format!("{module}::{{");
    let starts: Vec<_> = code.match_indices(&open).map(|(at, _)| at + open.len()).collect();
    starts.into_iter().map(move |start| {
        let rest = &code[start..];
        let mut depth = 1usize;
        let end = rest.find(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        &rest[..end.unwrap_or(rest.len())]
    })
}

mod tests {
    use super::{says, violations};
    use crate::source::SourceFile;

    fn judged(path: &str, text: &str) -> Vec<String> {
        violations(&SourceFile { path: path.into(), text: text.into() })
    }

    #[test]
    fn each_rule_catches_its_violation_and_lets_the_owner_be() {
        for (bad, good, text) in [
            ("coordinator/src/core/x.rs", "coordinator/src/driver.rs", "async fn f() { g().await }"),
            ("coordinator/src/core/x.rs", "coordinator/src/driver.rs", "use std::time::Instant;"),
            ("shared/src/model/x.rs", "shared/src/clock.rs", "use std::time::SystemTime;"),
            ("worker/src/prompt.rs", "worker/src/driver.rs", "use qa_shared::{queue::Tasks, model};"),
            ("coordinator/src/intake.rs", "shared/src/queue/x.rs", "use async_nats::Client;"),
            ("coordinator/tests/x.rs", "shared/tests/queue/x.rs", "use async_nats::Client;"),
            ("worker/src/process.rs", "worker/src/llm/x.rs", "type C = reqwest::Client;"),
            ("coordinator/src/run.rs", "coordinator/src/files/x.rs", "fn f() { std::fs::remove_file(p) }"),
            ("worker/src/process.rs", "shared/src/settings/x.rs", "use std::{fs, io};"),
            ("worker/src/process.rs", "shared/src/nats_server/x.rs", "let f = File::open(p)?;"),
            ("worker/src/main.rs", "shared/src/settings/x.rs", "let h = std::env::var_os(n);"),
            ("coordinator/src/driver.rs", "coordinator/src/local.rs", "qa_worker::driver::run()"),
            ("shared/src/wire.rs", "coordinator/src/config_place.rs", "use qa_worker::config::Serving;"),
            ("worker/src/driver.rs", "coordinator/src/main.rs", "use qa_coordinator::cli;"),
        ] {
            assert_ne!(judged(bad, text), Vec::<String>::new(), "{bad}: {text}");
            assert_eq!(judged(good, text), Vec::<String>::new(), "{good}: {text}");
        }
        assert_ne!(judged("worker/tests/x.rs", "fn f() { todo!() }"), Vec::<String>::new());
    }

    #[test]
    fn words_that_only_look_alike_comments_texts_and_tests_are_no_violation() {
        for text in [
            "fn asynchronous(awaiting: Tokio) {}",
            "// tokio\nconst S: &str = \"std::fs\";",
            "#[cfg(test)]\nmod tests { use tokio::test; }",
        ] {
            assert_eq!(judged("coordinator/src/core/x.rs", text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(judged("worker/tests/x.rs", "use reqwest::Client;"), Vec::<String>::new());
    }

    #[test]
    fn names_are_found_in_groups_too() {
        assert!(says("use std::{collections::{BTreeMap, BTreeSet}, fs, io};", "std::fs"));
        assert!(!says("use std::{collections::fs_like, io};", "std::fs"));
        assert!(says("use tokio::{fs, sync};", "tokio::fs"));
    }
}
