//! What a person meets at a terminal: it is closed, resized, narrow, without colours; and outputs that nobody reads.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::process::Stdio;

use qa_shared::testing::TestNats;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use crate::command_line::Line;
use crate::documents::Document;
use crate::processes::{PATIENCE, no_process_is_left_in, signal};
use crate::site::Site;
use crate::terminal::Terminal;

impl Line {
    pub(crate) fn on_terminal(self, columns: u16, rows: u16) -> Terminal {
        Terminal::start(self, columns, rows)
    }
}

fn documents() -> [Document; 2] {
    [Document::new("handbook", 36), Document::new("notes", 14)]
}

const CHUNKS: u64 = 50;

fn server(millis: u64) -> FakeOllama {
    let server = FakeOllama::start(FakeConfig { slots: 4, ..FakeConfig::default() });
    server.respond_with(move |_| Behaviour::Slow(std::time::Duration::from_millis(millis)));
    server
}

#[tokio::test]
async fn closing_the_terminal_in_mid_run_stops_it_as_sigterm_does() {
    let (site, server) = (Site::new(&documents()), server(150));
    let mut terminal = site.generate().servers(&[&server]).on_terminal(80, 24);
    terminal.shows("a rate", |text| text.contains("chunks/min")).await;
    terminal.close().await;
    terminal.ends_with(3).await;
    no_process_is_left_in(site.root()).await;
    assert_eq!(server.stats().cancelled, 0, "a running call was given up");
    assert!(server.stats().chat_calls < CHUNKS, "the stop came too late to prove anything");
    assert_eq!(site.summary()["status"], "interrupted");
    assert_eq!(site.status_of("handbook"), "interrupted");
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
}

#[tokio::test]
async fn closing_the_terminal_during_the_header_stops_the_run() {
    let (site, server) = (Site::new(&documents()), server(150));
    let mut terminal = site.generate().servers(&[&server]).on_terminal(80, 24);
    terminal.shows("the job", |text| text.contains("job ")).await;
    terminal.close().await;
    terminal.ends_with(3).await;
    no_process_is_left_in(site.root()).await;
    site.generate().arg("--resume").servers(&[&server]).run(0).await;
    site.check();
    assert_eq!(server.stats().chat_calls, CHUNKS);
}

#[tokio::test]
async fn closing_the_terminal_during_the_summary_changes_no_exit_code() {
    let (site, server) = (Site::new(&documents()), server(0));
    let mut terminal =
        site.generate().args(["--on-finish", "sleep 1"]).servers(&[&server]).on_terminal(80, 24);
    terminal.shows("the result", |text| text.contains("result      finished")).await;
    terminal.close().await;
    terminal.ends_with(0).await;
    no_process_is_left_in(site.root()).await;
    site.check();
}

#[tokio::test]
async fn a_worker_and_a_watched_status_end_with_their_terminal() {
    let nats = TestNats::start().await;
    let (site, server) = (Site::new(&documents()), server(0));
    let mut worker = Line::worker(&nats, &[&server]).on_terminal(80, 24);
    worker.shows("that it is connected", |text| text.contains("connected")).await;
    site.generate().fleet(&nats).run(0).await;
    let mut status = site.coordinator("status").args(["--watch"]).on_terminal(80, 24);
    status.shows("the files", |text| text.contains("Q&A files    2 completed")).await;
    for terminal in [&mut worker, &mut status] {
        terminal.close().await;
        terminal.ends_with(0).await;
    }
}

/// A pipe whose writing end takes nothing more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 512]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

fn both(command: &mut std::process::Command, output: impl Fn() -> Stdio) -> std::process::Child {
    command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn().unwrap()
}

async fn code_of(mut child: std::process::Child) -> Option<i32> {
    let pid = child.id();
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap().code());
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(code) => code.unwrap(),
        Err(_elapsed) => {
            signal(pid, "KILL");
            panic!("the program does not end within {PATIENCE:?}")
        }
    }
}

#[tokio::test]
async fn outputs_that_nobody_takes_change_nothing_about_a_run() {
    let server = server(0);
    for kind in ["broken pipe", "full pipe", "full disk"] {
        let site = Site::new(&documents());
        let mut command = site.generate().servers(&[&server]).into_parts().1;
        let (_reader, child) = match kind {
            "broken pipe" => {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                (None, both(&mut command, || writer.try_clone().unwrap().into()))
            }
            "full pipe" => {
                let (reader, writer) = full_pipe();
                (Some(reader), both(&mut command, || writer.try_clone().unwrap().into()))
            }
            _ => (None, both(&mut command, || File::options().write(true).open("/dev/full").unwrap().into())),
        };
        assert_eq!(code_of(child).await, Some(0), "{kind}");
        site.check();
    }
}

#[tokio::test]
async fn a_run_whose_json_nobody_takes_is_no_success() {
    let server = server(0);
    for kind in ["broken pipe", "full disk"] {
        let site = Site::new(&documents());
        let mut command = site.generate().arg("--json").servers(&[&server]).into_parts().1;
        let child = match kind {
            "broken pipe" => {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                both(&mut command, || writer.try_clone().unwrap().into())
            }
            _ => both(&mut command, || File::options().write(true).open("/dev/full").unwrap().into()),
        };
        assert_eq!(code_of(child).await, Some(6), "{kind}");
        // The run itself is done.
        site.check();
    }
    // Where somebody may still read, only a stop ends the waiting.
    let site = Site::new(&documents());
    let (_reader, writer) = full_pipe();
    let (mut errors, told) = std::io::pipe().unwrap();
    let mut command = site.generate().arg("--json").servers(&[&server]).into_parts().1;
    let run = command.stdin(Stdio::null()).stdout(writer).stderr(told).spawn().unwrap();
    drop(command);
    let said = tokio::task::spawn_blocking(move || {
        let (mut said, mut buffer) = (String::new(), [0; 4096]);
        while !said.contains("combined    ") {
            let count = errors.read(&mut buffer).unwrap();
            assert!(count > 0, "no summary:\n{said}");
            said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        // Kept open: whether somebody reads this is another question.
        errors
    });
    let _errors = said.await.unwrap();
    signal(run.id(), "TERM");
    assert_eq!(code_of(run).await, Some(6));
}

#[tokio::test]
async fn commands_whose_json_cannot_be_written_are_no_success() {
    let server = server(0);
    let site = Site::new(&documents());
    site.generate().servers(&[&server]).run(0).await;
    for (command, more) in
        [("status", ""), ("failures", ""), ("show", "--random=1"), ("combine", "--overwrite")]
    {
        for kind in ["broken pipe", "full disk"] {
            let line = site.coordinator(command).arg("--json");
            let line = if more.is_empty() { line } else { line.arg(more) };
            let mut line = line.into_parts().1;
            let stdout: Stdio = if kind == "full disk" {
                File::options().write(true).open("/dev/full").unwrap().into()
            } else {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                writer.into()
            };
            let child = line.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
            assert_eq!(code_of(child).await, Some(6), "{command}, {kind}");
        }
    }
}

#[tokio::test]
async fn a_worker_works_without_a_standard_error_that_can_be_written() {
    let (nats, server) = (TestNats::start().await, server(0));
    let site = Site::new(&documents());
    let mut worker = Line::worker(&nats, &[&server]).into_parts().1;
    let worker = both(&mut worker, || File::options().write(true).open("/dev/full").unwrap().into());
    let pid = worker.id();
    site.generate().fleet(&nats).run(0).await;
    signal(pid, "TERM");
    assert_eq!(code_of(worker).await, Some(0));
    site.check();
}

#[tokio::test]
async fn errors_keep_their_exit_code_where_nobody_reads_them() {
    let site = Site::new(&documents());
    let full = || File::options().write(true).open("/dev/full").unwrap().into();
    let code = |mut command: std::process::Command| code_of(both(&mut command, full));
    let unreachable = site.generate().args(["--nats-url", "nats://127.0.0.1:9"]);
    assert_eq!(code(unreachable.into_parts().1).await, Some(5));
    assert_eq!(code(site.generate().args(["--temperature", "99"]).into_parts().1).await, Some(2));
    assert_eq!(code(site.generate().args(["--no-such-flag"]).into_parts().1).await, Some(2));
    // Nothing can be made below a file.
    let below = site.root().join("file/below.json");
    fs::write(site.root().join("file"), "").unwrap();
    fs::create_dir_all(site.qa_dir()).unwrap();
    let unwritable = site.coordinator("combine").arg("--output-file").arg(below);
    assert_eq!(code(unwritable.into_parts().1).await, Some(6));
}

#[tokio::test]
async fn nothing_wraps_and_another_size_leaves_no_debris_and_every_log_line() {
    for (columns, next) in [(60, 200), (80, 60), (200, 80)] {
        let (site, server) = (Site::new(&documents()), server(100));
        server.respond_with(|call| match call.number {
            2 | 9 | 16 => Behaviour::Text("I cannot help with that.".to_owned()),
            _ => Behaviour::Slow(std::time::Duration::from_millis(100)),
        });
        let line = site.generate().args(["--attempts", "1", "--max-failure-rate", "off"]);
        let mut terminal = line.servers(&[&server]).on_terminal(columns, 30);
        let is_under_way = |text: &str| text.contains("left") && text.contains("documents done");
        let seen = terminal.shows("the progress", is_under_way).await;
        assert_eq!(seen.matches("documents done").count(), 1, "{seen}");
        assert_eq!(seen.contains(&format!("  {} on", server.url())), columns == 200, "{seen}");
        // Later the terminal itself wraps lines that were written when it was wider.
        no_path_is_wrapped(&terminal);
        let at = |text: &str| text.lines().filter(|row| row.contains("documents done")).count();
        for columns in [next, columns, next] {
            terminal.resize(columns, 30);
            let calls = server.stats().chat_calls;
            server.wait_for(|stats| stats.chat_calls >= (calls + 3).min(CHUNKS)).await;
            let seen =
                terminal.shows("one live area", |text| at(text) == 1 || text.contains("result  ")).await;
            assert!(at(&seen) <= 1, "{seen}");
        }
        terminal.ends_with(1).await;
        let text = terminal.text();
        assert_eq!(at(&text), 0, "{text}");
        assert_eq!(text.matches("chunk failed").count(), 3, "{text}");
        assert_eq!(text.matches("result      finished").count(), 1, "{text}");
    }
}

/// Only words that are wider than the terminal may be wrapped, such as paths.
fn no_path_is_wrapped(terminal: &Terminal) {
    let wrapped = terminal.wrapped();
    let has_gap = |row: &String| row.trim_start().contains(' ');
    assert!(!wrapped.iter().any(|row| has_gap(row) && !row.contains("qa-coordinator")), "{wrapped:#?}");
}

#[tokio::test]
async fn colours_and_escape_sequences_follow_the_usual_variables() {
    let (site, server) = (Site::new(&documents()), server(0));
    // The first failures are log lines, which have colours.
    server.respond_with(|call| match call.number {
        1 => Behaviour::Text("I cannot help with that.".to_owned()),
        _ => Behaviour::Answer,
    });
    let run = || site.generate().args(["--restart", "--attempts", "1", "-v"]).servers(&[&server]);
    let has_colours =
        |text: &str| ["\x1b[2m", "\x1b[32m", "\x1b[33m"].iter().any(|colour| text.contains(colour));
    let mut coloured = run().on_terminal(80, 24);
    coloured.ends_with(1).await;
    assert!(has_colours(&coloured.bytes()) && coloured.bytes().contains("\x1b[J"), "{}", coloured.bytes());
    let plain = |line: Line| async move {
        let mut terminal = line.on_terminal(80, 24);
        terminal.shows("the result", |text| text.contains("result      finished")).await;
        terminal.ends_with(0).await;
        terminal.bytes()
    };
    let bytes = plain(run().env("NO_COLOR", "1")).await;
    assert!(!has_colours(&bytes) && bytes.contains("\x1b[J"), "{bytes}");
    let bytes = plain(run().env("TERM", "dumb")).await;
    assert!(!bytes.contains('\x1b'), "{bytes}");
    let forced = run().env("CLICOLOR_FORCE", "1").run(0).await;
    assert!(has_colours(&forced.stderr) && !forced.stderr.contains("\x1b[J"), "{}", forced.stderr);
}

#[tokio::test]
async fn a_watched_status_fits_its_terminal_and_stays_on_it() {
    let (site, server) = (Site::new(&documents()), server(0));
    site.generate().servers(&[&server]).run(0).await;
    for columns in [60, 80, 200] {
        let line = site.coordinator("status").args(["--watch", "--interval", "100ms"]);
        let mut terminal = line.on_terminal(columns, 40);
        let all = |text: &str| text.contains("Q&A files    2 completed") && text.contains("notes");
        terminal.shows("the status", all).await;
        for columns in [columns - 20, columns] {
            terminal.resize(columns, 40);
            let seen = terminal.shows("it once", |text| text.matches("Q&A files").count() == 1).await;
            assert_eq!(seen.matches("directory  ").count(), 1, "{seen}");
        }
        terminal.signal("INT");
        terminal.ends_with(0).await;
        let text = terminal.text();
        assert_eq!(text.matches("Q&A files").count(), 1, "{text}");
        assert!(!terminal.bytes().contains("\x1b[2J"), "the screen of others was cleared");
        no_path_is_wrapped(&terminal);
    }
    let line = site.coordinator("status").args(["--watch", "--interval", "100ms"]);
    let mut dumb = line.env("TERM", "dumb").on_terminal(80, 24);
    dumb.shows("it twice", |text| text.matches("Q&A files").count() >= 2).await;
    dumb.signal("TERM");
    dumb.ends_with(0).await;
    assert!(!dumb.bytes().contains('\x1b'), "{}", dumb.bytes());
}

/// Every line of a stream that is all JSON.
fn objects(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}\nin\n{text}"));
    text.lines().map(parse).collect()
}

fn events(text: &str) -> Vec<String> {
    objects(text).iter().filter_map(|object| object["event"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn with_log_format_json_every_line_on_standard_error_is_an_object() {
    let (site, server) = (Site::new(&documents()), server(0));
    let line = site.generate().args(["--log-format", "json", "--on-finish", "echo one; echo two >&2"]);
    let run = line.servers(&[&server]).run(0).await;
    let found = objects(&run.stderr);
    let events = events(&run.stderr);
    for event in ["settings", "job", "plan", "summary"] {
        assert!(events.iter().any(|found| found == event), "no {event} in {events:?}");
    }
    let summary = found.iter().find(|object| object["event"] == "summary").unwrap();
    assert_eq!(summary["summary"]["chunks"]["completed"], CHUNKS);
    for line in ["one", "two"] {
        assert!(found.iter().any(|object| object["output"] == line), "{}", run.stderr);
    }
    let existing = site.generate().args(["--log-format", "json", "--no-resume"]);
    let refused = existing.servers(&[&server]).run(2).await;
    let error = objects(&refused.stderr).pop().unwrap();
    assert_eq!((&error["level"], &error["exit_code"]), (&"ERROR".into(), &2.into()));
    for wrong in [["--temperature", "99"], ["--no-such-flag", "1"]] {
        let refused = site.generate().args(["--log-format", "json"]).args(wrong).run(2).await;
        assert_eq!(objects(&refused.stderr)[0]["level"], "ERROR", "{}", refused.stderr);
        assert!(refused.stderr.contains(wrong[0]), "{}", refused.stderr);
    }
    let combined = site.coordinator("combine").args(["--log-format", "json"]).run(0).await;
    assert!(!objects(&combined.stderr).is_empty());
}

#[tokio::test]
async fn a_workers_lines_are_json_too_and_a_terminal_changes_nothing_about_that() {
    let nats = TestNats::start().await;
    let server = server(0);
    let worker = Line::worker(&nats, &[&server]).args(["--log-format", "json"]);
    let mut terminal = worker.on_terminal(200, 24);
    terminal.shows("that it is connected", |text| text.contains("connected")).await;
    terminal.signal("TERM");
    terminal.ends_with(0).await;
    let bytes = terminal.bytes().replace("\r\n", "\n");
    assert!(events(&bytes).contains(&"settings".to_owned()), "{bytes}");
    let refused = Line::bare_worker().args(["--log-format=json", "--no-such-flag"]).run(2).await;
    assert_eq!(objects(&refused.stderr)[0]["exit_code"], 2);
}

#[tokio::test]
async fn a_sample_counts_its_own_chunks_and_says_what_is_being_written() {
    let (site, server) = (Site::new(&documents()), server(0));
    server.respond_with(|_| Behaviour::HangMidStream);
    for columns in [60, 80, 200] {
        let line = site.generate().args(["--restart", "--sample", "6"]).servers(&[&server]);
        let terminal = line.on_terminal(columns, 24);
        let seen = terminal.shows("what is written", |text| text.contains("writing, ")).await;
        let row = seen.lines().find(|row| row.contains("writing, ")).unwrap();
        assert!(row.contains("0/6 chunks (0 %)") && row.contains(" tokens"), "{row}");
        assert!(!seen.contains("tokens/s") || columns == 200, "{seen}");
    }
    server.respond_with(|_| Behaviour::Answer);
    let mut terminal =
        site.generate().args(["--restart", "--sample", "6"]).servers(&[&server]).on_terminal(80, 24);
    terminal.ends_with(0).await;
    assert!(terminal.text().contains("sample      6 of 6 chunks"), "{}", terminal.text());
}
