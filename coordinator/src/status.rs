//! The `status` command: run, documents, queue, workers, from the outside. It writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use qa_shared::clock;
use qa_shared::connecting::connect_options;
use qa_shared::console::{Console, LAST_LINES, Printed, Size, fold};
use qa_shared::model::{JobEntry, JobId, NanoUsd, PoolName};
use qa_shared::plain;
use qa_shared::queue::{Jobs, LeaseHolder, PoolDepth, Presence, Queue, QueueError, Remains, Tasks, remains};
use qa_shared::settings::variables::Program;
use qa_shared::shutdown::Shutdown;
use serde::Serialize;

use crate::config::StatusConfig;
use crate::exit::ExitCode;
use crate::files::{
    JobFolder, QaFile, existing_output_directory, find_qa_files, input_directory, local_time, read_events,
};
use crate::format::{count, counted, duration, line, token_rate};
use crate::ground::unusable_directory;
use crate::output;
use crate::report::terminal::{figures_line, fleet_line, rate_and_eta};
use crate::report_story;
use crate::run_error::RunError;
use crate::shell_word::shell_word;
use crate::story::{LastSign, Story};
use crate::view::{self, ServerView, View};
use crate::waiting;

/// Documents listed one by one at most; the rest is counted.
const MOST_DOCUMENTS: usize = 1000;

/// Everything that is known at one moment.
#[derive(Debug, Default, Serialize)]
struct Status {
    /// Empty where there is none.
    directory: String,
    job: Option<String>,
    /// Whether a coordinator works in the directory now.
    running: bool,
    /// The run's own figures, the last ones if it has ended.
    run: Option<View>,
    /// What happened in this run and those before, as far as the event log goes.
    history: Story,
    /// The command that goes on, if there is anything left to do.
    go_on_with: Option<String>,
    /// The documents as their files stand.
    documents: Vec<DocumentStatus>,
    documents_unlisted: usize,
    queue: Option<QueueStatus>,
}

#[derive(Debug, Serialize)]
struct DocumentStatus {
    name: String,
    status: String,
    completed: usize,
    failed: usize,
    pairs: usize,
}

#[derive(Debug, Default, Serialize)]
struct QueueStatus {
    servers: String,
    /// Why it cannot be looked at.
    problem: Option<String>,
    jobs: Vec<JobEntry>,
    /// What each job has on the server.
    contents: Vec<Contents>,
    pools: BTreeMap<String, Depth>,
    workers: Vec<ServerView>,
}

#[derive(Debug, Serialize)]
struct Contents {
    job: String,
    tasks: u64,
    /// Results that no coordinator has acknowledged.
    results: u64,
    /// What both take, about.
    bytes: u64,
    /// The coordinator that works for the job.
    coordinator: Option<Coordinator>,
    /// The command that removes all this where there is none.
    remove_with: Option<String>,
}

#[derive(Debug, Serialize)]
struct Coordinator {
    host: String,
    pid: u32,
    directory: String,
}

#[derive(Debug, Serialize)]
struct Depth {
    queued: u64,
    running: u64,
    free_slots: u64,
}

/// Shows the status once, or again and again until a stop.
pub(crate) async fn show(
    config: StatusConfig,
    console: &Console,
    shutdown: Shutdown,
) -> Result<ExitCode, RunError> {
    let directory = find_directory(&config)?;
    let mut queue: Option<Queue> = None;
    let mut printed = 0;
    loop {
        let mut status = directory.as_deref().map_or_else(|| Ok(Status::default()), read_files)?;
        if let Some(nats) = &config.nats {
            let mut found = QueueStatus { servers: nats.url.to_string(), ..QueueStatus::default() };
            if queue.is_none() {
                match Queue::connect(
                    &connect_options(nats, Program::Coordinator, "qa-coordinator status"),
                    config.common.timing.clone(),
                )
                .await
                {
                    Ok(connected) => queue = Some(connected),
                    Err(error) => found.problem = Some(error.to_string()),
                }
            }
            if let Some(queue) = &queue {
                read_queue(queue, &mut found).await;
            }
            status.queue = Some(found);
        }
        let text = text_of(&status, &config)?;
        let Some(interval) = config.watch else {
            if config.json {
                output::write_json(&format!("{text}\n"))?;
            } else {
                output::text(&text)?;
            }
            return Ok(ExitCode::Success);
        };
        if console.has_live() {
            let text = text.clone();
            console.show(move |size| watched_rows(&text, size));
        } else {
            let gap = if config.json || printed == 0 { "" } else { "\n" };
            match output::write_until_stopped(format!("{gap}{text}\n"), &shutdown).await {
                Some(Ok(Printed::Read)) => printed += 1,
                Some(Ok(Printed::ReaderIsGone)) | None => return Ok(ExitCode::Success),
                Some(Err(error)) => return Err(error),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shutdown.stopping() => {
                if console.has_live() {
                    // The last one stays on the screen.
                    console.hide();
                    console.flush(LAST_LINES);
                    output::text(&text)?;
                }
                return Ok(ExitCode::Success);
            }
        }
    }
}

/// The rows of a watched status: as many as the terminal has.
fn watched_rows(text: &str, size: Size) -> Vec<String> {
    let folded = fold(text, size.columns.saturating_sub(1));
    let mut rows: Vec<_> = folded.lines().map(str::to_owned).collect();
    let most = size.rows.saturating_sub(1).max(1);
    if rows.len() > most {
        let hidden = rows.len() - most + 1;
        rows.truncate(most - 1);
        rows.push(format!("and {}; `status` without --watch shows all", counted(hidden as u64, "more line")));
    }
    rows
}

/// The directory of the Q&A files; nothing where there is none and the fleet is all there is to show.
fn find_directory(config: &StatusConfig) -> Result<Option<PathBuf>, RunError> {
    let base = std::env::current_dir().map_err(RunError::files)?;
    let asked = existing_output_directory(&config.qa_dir, &base);
    let flag =
        if config.nats.is_some() { "--qa-dir" } else { "--qa-dir, or see the fleet with --nats-url URL" };
    match input_directory(&asked, &base, "Q&A files", flag) {
        Ok(directory) => Ok(Some(directory.path)),
        Err(_) if config.nats.is_some() && !config.qa_dir_is_flag => Ok(None),
        Err(error) => Err(unusable_directory(error)),
    }
}

fn read_files(directory: &Path) -> Result<Status, RunError> {
    let folder = JobFolder::open(directory);
    let job = folder.as_ref().map(JobFolder::load_job).transpose().map_err(RunError::files)?.flatten();
    let running = folder.as_ref().is_some_and(JobFolder::is_running);
    let run: Option<View> = folder.as_ref().and_then(|folder| folder.load_progress().ok().flatten());
    let history =
        folder.as_ref().map_or_else(Story::default, |folder| read_story(folder, running, run.as_ref()));
    let go_on_with = report_story::go_on(&history);
    let listing = find_qa_files(directory).map_err(RunError::files)?;
    let mut documents = Vec::new();
    for file in listing.files.iter().take(MOST_DOCUMENTS) {
        let name = file.name.to_string();
        documents.push(match QaFile::load(&file.path) {
            Ok(loaded) => DocumentStatus {
                name,
                status: loaded.status.unwrap_or_else(|| "none".to_owned()),
                completed: loaded.completed.len(),
                failed: loaded.failed.len(),
                pairs: loaded.pairs.len(),
            },
            Err(error) => DocumentStatus {
                name,
                status: format!("unreadable: {error}"),
                completed: 0,
                failed: 0,
                pairs: 0,
            },
        });
    }
    Ok(Status {
        directory: directory.display().to_string(),
        job: job.map(|job| job.job.to_string()),
        running,
        run,
        history,
        go_on_with,
        documents_unlisted: listing.files.len() - documents.len(),
        documents,
        queue: None,
    })
}

/// The event log is for telling only: what of it cannot be read is counted and left out.
fn read_story(folder: &JobFolder, running: bool, run: Option<&View>) -> Story {
    let mut story = Story::default();
    match read_events(folder.path(), |line| story.hear(line)) {
        Ok(unreadable) => story.unreadable_lines = unreadable,
        Err(error) => tracing::warn!("{error}"),
    }
    let last_sign = run.map(|run| LastSign {
        unix_ms: run.updated_at_ms,
        at: local_time(run.updated_at_ms),
        figures: run.figures.clone(),
    });
    story.end(running.then(clock::unix_millis), last_sign)
}

async fn read_queue(queue: &Queue, found: &mut QueueStatus) {
    let jobs = match Jobs::new(queue).all().await {
        Ok(jobs) => jobs,
        // No job has used this server yet.
        Err(QueueError::Missing { .. }) => BTreeMap::new(),
        Err(error) => {
            found.problem = Some(error.to_string());
            return;
        }
    };
    let tasks = Tasks::new(queue);
    for entry in jobs.values() {
        if let Ok(Some(PoolDepth { pending, in_flight, waiting_slots, .. })) =
            tasks.pool_depth(&entry.pool).await
        {
            let depth = Depth { queued: pending, running: in_flight, free_slots: waiting_slots };
            found.pools.insert(entry.pool.to_string(), depth);
        }
    }
    if let Ok(workers) = Presence::new(queue).workers().await {
        let serving = jobs.values().next().map_or_else(|| PoolName::new(""), |entry| entry.pool.clone());
        found.workers = view::servers(&workers, &serving);
    }
    match remains(queue).await {
        Ok(jobs) => {
            let url = &found.servers;
            found.contents = jobs.into_iter().map(|(job, remains)| contents(&job, remains, url)).collect();
        }
        Err(error) => tracing::debug!(%error, "what the jobs have on the server is not known"),
    }
    found.jobs = jobs.into_values().collect();
}

fn contents(job: &JobId, remains: Remains, url: &str) -> Contents {
    let Remains { tasks, results, bytes, holder, .. } = remains;
    let coordinator =
        holder.map(|LeaseHolder { host, pid, directory, .. }| Coordinator { host, pid, directory });
    let remove_with = format!("qa-coordinator forget --job {job} --nats-url {}", shell_word(url));
    let remove_with = coordinator.is_none().then_some(remove_with);
    Contents { job: job.to_string(), tasks, results, bytes, coordinator, remove_with }
}

fn text_of(status: &Status, config: &StatusConfig) -> Result<String, RunError> {
    if !config.json {
        return Ok(plain::text(describe(status).trim_end()));
    }
    let one_line = config.watch.is_some();
    let json = if one_line { serde_json::to_string(status) } else { serde_json::to_string_pretty(status) };
    Ok(plain::json(&json.map_err(|error| RunError::new(ExitCode::Internal, error))?))
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    let mut say = |line: String| writeln!(text, "{line}").expect("a String takes every text");
    if status.directory.is_empty() {
        say("directory    none with Q&A files; --qa-dir names one".to_owned());
        if let Some(queue) = &status.queue {
            describe_queue(queue, &mut say);
        }
        return text;
    }
    let job = status.job.as_deref().unwrap_or("none (no run of this program yet)");
    say(format!("directory    {}", status.directory));
    say(format!("job          {job}"));
    say(format!("coordinator  {}", if status.running { "running" } else { "not running" }));
    if let Some(run) = &status.run {
        let age = clock::unix_millis().saturating_sub(run.updated_at_ms) as f64 / 1000.0;
        if status.running {
            say(format!(
                "run          {}, {} for {}",
                figures_line(run),
                run.state,
                duration(run.elapsed_seconds)
            ));
            say(format!("             {}; {}", rate_and_eta(run), fleet_line(run)));
            for server in &run.servers {
                if let Some(problem) = &server.problem {
                    let (url, host) = (line(&server.url, 80), line(&server.host, 60));
                    say(format!("  server     {url} ({host}): {}", waiting::own_words(&server.url, problem)));
                }
            }
            for document in &run.active {
                say(format!(
                    "  in work    {}: {}/{} chunks, {} failed",
                    line(&document.name, 80),
                    count((document.completed + document.failed).into()),
                    count(document.chunks.into()),
                    count(document.failed.into())
                ));
            }
        } else {
            // A coordinator that was killed could not say how its run ended.
            let ended = if run.state == "running" || run.state == "stopping" {
                "ended without a word"
            } else {
                &run.state
            };
            say(format!("last run     {ended}, {} ago: {}", duration(age), figures_line(run)));
        }
        if let Some(cost) = run.all_runs_cost_usd.and_then(NanoUsd::from_dollars) {
            let limit = run.max_cost_usd.and_then(NanoUsd::from_dollars);
            let limit = limit.map_or(String::new(), |limit| format!(" of {limit} (--max-cost)"));
            say(format!("             {cost}{limit} spent by all runs of the job"));
        }
        if let Some(stall) = &run.stall {
            say(format!("             {}", line(&stall.words, 600)));
        }
        for (reason, number) in &run.failures {
            say(format!("             failed: {} x {}", count(*number), line(reason, 60)));
        }
        if run.ignored_results > 0 {
            say(format!(
                "             {} set aside: they came twice or were for nothing",
                counted(run.ignored_results, "result")
            ));
        }
    }
    for told in report_story::story(&status.history).lines() {
        say(told.to_owned());
    }
    let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
    for document in &status.documents {
        *by_status.entry(&document.status).or_default() += 1;
    }
    let totals: Vec<_> = by_status
        .iter()
        .map(|(status, number)| format!("{} {}", count(*number as u64), line(status, 60)))
        .collect();
    say(format!("Q&A files    {}", if totals.is_empty() { "none".to_owned() } else { totals.join(", ") }));
    for document in &status.documents {
        say(format!(
            "  {:<12} {} (chunks: {} completed, {} failed; {} pairs)",
            line(&document.status, 60),
            line(&document.name, 80),
            count(document.completed as u64),
            count(document.failed as u64),
            count(document.pairs as u64)
        ));
    }
    if status.documents_unlisted > 0 {
        say(format!("  and {} more", count(status.documents_unlisted as u64)));
    }
    if let Some(queue) = &status.queue {
        describe_queue(queue, &mut say);
    }
    if let Some(command) = &status.go_on_with {
        say(format!("go on with   {command}"));
    }
    text
}

fn describe_contents(contents: &Contents, say: &mut impl FnMut(String)) {
    let Contents { tasks, results, bytes, coordinator, remove_with, .. } = contents;
    let size = if *bytes > 0 { format!(", about {} kB", count(bytes.div_ceil(1000))) } else { String::new() };
    let who = coordinator.as_ref().map_or("no coordinator".to_owned(), |coordinator| {
        format!("coordinator: process {} on {}", coordinator.pid, line(&coordinator.host, 60))
    });
    let (tasks, results) = (counted(*tasks, "task"), counted(*results, "result"));
    say(format!("      {tasks}, {results} not received yet{size}; {who}"));
    if let Some(command) = remove_with {
        say(format!("      removed with   {command}"));
    }
}

fn describe_queue(queue: &QueueStatus, say: &mut impl FnMut(String)) {
    say(format!("queue        {}", queue.servers));
    if let Some(problem) = &queue.problem {
        say(format!("             {}", line(problem, 300)));
        return;
    }
    for entry in &queue.jobs {
        say(format!(
            "  job {}  {:?}, pool {}, {} on {}",
            entry.job,
            entry.state,
            line(entry.pool.as_str(), 80),
            line(&entry.directory, 120),
            line(&entry.host, 60)
        ));
        let job = entry.job.to_string();
        queue
            .contents
            .iter()
            .filter(|contents| contents.job == job)
            .for_each(|contents| describe_contents(contents, say));
    }
    let has_entry = |contents: &&Contents| queue.jobs.iter().any(|entry| entry.job.as_str() == contents.job);
    for contents in queue.contents.iter().filter(|contents| !has_entry(contents)) {
        say(format!("  job {}  without an entry", contents.job));
        describe_contents(contents, say);
    }
    for (pool, depth) in &queue.pools {
        say(format!(
            "  pool {}  {} queued, {} running, {} waiting for work",
            line(pool, 80),
            count(depth.queued),
            count(depth.running),
            counted(depth.free_slots, "slot")
        ));
    }
    if queue.workers.is_empty() {
        let is_unused = queue.jobs.is_empty() && queue.contents.is_empty();
        say(if is_unused { "  no job, no worker" } else { "  no worker is present" }.to_owned());
    }
    for server in &queue.workers {
        let words = server.problem.as_ref().map(|problem| waiting::own_words(&server.url, problem));
        let problem = words.map(|words| format!(": {words}"));
        say(format!(
            "  worker {} at {}  {}/{} slots{} busy, {}{}",
            line(&server.host, 60),
            line(&server.url, 80),
            server.busy,
            server.slots,
            if server.auto { " (auto)" } else { "" },
            token_rate(server.tokens_per_second),
            problem.unwrap_or_default()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_directory_the_fleet_is_shown() {
        let worker = ServerView {
            host: "gpu1".into(),
            url: "http://gpu1:11434".into(),
            busy: 1,
            slots: 4,
            auto: true,
            tokens_per_second: 1_234.0,
            writing_tokens: 0,
            serving: false,
            problem: Some("refuses the request (401)".into()),
        };
        let queue =
            QueueStatus { servers: "nats://q:4222".into(), workers: vec![worker], ..QueueStatus::default() };
        let text = describe(&Status { queue: Some(queue), ..Status::default() });
        for part in
            ["directory    none", "queue        nats://q:4222", "worker gpu1 at http://gpu1:11434", "refuses"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("Q&A files    "), "{text}");
    }

    #[test]
    fn numbers_of_documents_are_grouped() {
        let document = DocumentStatus {
            name: "a".into(),
            status: "completed".into(),
            completed: 1_500,
            failed: 0,
            pairs: 4_500,
        };
        let status = Status { directory: "qa".into(), documents: vec![document], ..Status::default() };
        let text = describe(&status);
        assert!(text.contains("1 500 completed, 0 failed; 4 500 pairs"), "{text}");
    }
}
