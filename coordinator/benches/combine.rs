//! Gigabytes of Q&A files into one: how fast beside a plain copy of the same bytes and beside a JSON parser that
//! keeps nothing, and whether memory stays the same.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says so by a panic")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use qa_coordinator::files::{Combine, CombineReport, combine};
use qa_shared::testing::bench::{Bench, Measure, ProcessUsage};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baselines");
/// The first argument of a process that combines one directory; the directory comes after it.
const COMBINE: &str = "combine-only";
const CHUNKS_PER_DOCUMENT: u32 = 500;
const PAIRS_PER_CHUNK: u32 = 3;
const MEGABYTE: f64 = 1e6;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [word, directory] = &arguments[..]
        && word == COMBINE
    {
        combine_only(Path::new(directory));
        return ExitCode::SUCCESS;
    }
    let what = "Q&A files combined into one file";
    let mut bench = match Bench::begin("combine", what, BASELINES) {
        Ok(bench) => bench,
        Err(code) => return code,
    };
    let documents = match (bench.is_short(), bench.is_long()) {
        (true, _) => 4,
        (_, false) => 600,
        (_, true) => 2400,
    };
    let small = measure(&mut bench, documents / 4, None);
    measure(&mut bench, documents, Some(small));
    bench.finish()
}

/// The most memory, in megabytes.
fn measure(bench: &mut Bench, documents: u32, smaller: Option<f64>) -> f64 {
    let directory = qa_shared::testing::temporary_folder();
    let bytes = write_documents(&directory, documents);
    bench.section(&format!("{documents} files with {:.0} MB together", bytes as f64 / MEGABYTE));
    let speed = |seconds: f64| bytes as f64 / MEGABYTE / seconds;
    let (copying, parsing) = (speed(copy(&directory)), speed(parse(&directory)));
    let told = combined(&directory);
    let rate = speed(told.seconds);
    bench.add(Measure::timed("combined", rate, "MB/s").of("a copy, synced", copying));
    bench.add(
        Measure::timed("the same", rate, "MB/s").of("reading the JSON twice, keeping nothing", parsing / 2.0),
    );
    let memory = Measure::timed("most memory", told.peak_megabytes, "MB");
    bench.add(match smaller {
        Some(smaller) => memory.of("with a quarter of it", smaller).at_most(1.2),
        None => memory,
    });
    bench.add(Measure::counted("pairs", told.pairs as f64, "pairs"));
    let output = fs::metadata(directory.path().join("training_data.json")).unwrap().len();
    bench.add(Measure::counted("combined file", output as f64, "bytes"));
    assert_eq!(told.pairs, u64::from(documents * CHUNKS_PER_DOCUMENT * PAIRS_PER_CHUNK));
    told.peak_megabytes
}

/// What a process that combined a directory tells.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    seconds: f64,
    peak_megabytes: f64,
    pairs: u64,
}

/// In a process of its own, so that its memory can be told from the rest.
fn combined(directory: &TempDir) -> Told {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg(COMBINE).arg(directory.path()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "it could not be combined");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[expect(clippy::print_stdout, reason = "what the other process reads")]
fn combine_only(directory: &Path) {
    let begun = Instant::now();
    let order = Combine {
        qa_directory: directory,
        output: &directory.join("training_data.json"),
        unfinished: &BTreeSet::new(),
        overwrite: false,
        generated_at: "2026-01-01T00:00:00",
    };
    let CombineReport { pairs, .. } = combine(order).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let used = ProcessUsage::of(std::process::id()).unwrap_or_default();
    let told = Told { seconds, peak_megabytes: used.peak_bytes as f64 / MEGABYTE, pairs };
    println!("{}", serde_json::to_string(&told).unwrap());
}

/// Seconds.
fn copy(directory: &TempDir) -> f64 {
    let begun = Instant::now();
    let path = directory.path().join("copy");
    let mut copy = File::create(&path).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    for file in qa_files(directory) {
        let mut file = File::open(file).unwrap();
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            copy.write_all(&buffer[..read]).unwrap();
        }
    }
    copy.sync_all().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_file(path).unwrap();
    seconds
}

/// Seconds.
fn parse(directory: &TempDir) -> f64 {
    let begun = Instant::now();
    for file in qa_files(directory) {
        serde_json::from_slice::<IgnoredAny>(&fs::read(file).unwrap()).unwrap();
    }
    begun.elapsed().as_secs_f64()
}

fn qa_files(directory: &TempDir) -> impl Iterator<Item = std::path::PathBuf> {
    let paths = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().ends_with("_qa.json"))
}

/// Completed Q&A files as the coordinator writes them; how many bytes.
fn write_documents(directory: &TempDir, documents: u32) -> u64 {
    (0..documents)
        .map(|document| {
            let path = directory.path().join(format!("part-{document:06}_qa.json"));
            let mut file = BufWriter::new(File::create(&path).unwrap());
            write_document(&mut file, document).unwrap();
            file.flush().unwrap();
            fs::metadata(path).unwrap().len()
        })
        .sum()
}

fn write_document(file: &mut impl Write, document: u32) -> std::io::Result<()> {
    let name = format!("part-{document:06}.md");
    write!(
        file,
        "{{\n  \"metadata\": {{\n    \"file_name\": \"{name}\"\n  }},\n  \"processing_info\": {{\n    \"chunk_size\": 1000\n  }},\n  \
         \"qa_generation_info\": {{\n    \"model\": \"qwen3:8b\"\n  }},\n  \"chunks\": ["
    )?;
    for chunk in 0..CHUNKS_PER_DOCUMENT {
        write!(
            file,
            "{}\n    {{\n      \"chunk\": {chunk},\n      \"text_hash\": \"{chunk:032x}\",\n      \"status\": \"completed\",\n      \
             \"asked\": 3,\n      \"got\": 3,\n      \"round\": 1,\n      \"attempts\": 1,\n      \"input_tokens\": 350,\n      \
             \"output_tokens\": 180\n    }}",
            if chunk == 0 { "" } else { "," }
        )?;
    }
    write!(file, "\n  ],\n  \"training_pairs\": [")?;
    for pair in 0..CHUNKS_PER_DOCUMENT * PAIRS_PER_CHUNK {
        let chunk = pair / PAIRS_PER_CHUNK;
        write!(
            file,
            "{}\n    {{\n      \"question\": \"What does section {chunk} say about the retention of a stream?\",\n      \
             \"answer\": \"It says that the retention of a stream is set when the stream is made, and that it can be \
             changed later as long as no consumer depends on it.\",\n      \"source_file\": \"/data/incoming/{name}\",\n      \
             \"file_name\": \"{name}\",\n      \"file_type\": \".md\",\n      \"chunk_id\": \"0_{chunk}\",\n      \
             \"chunk_index\": {chunk},\n      \"chunk_start\": 0,\n      \"chunk_end\": 900,\n      \"source_text\": \"{}\"\n    }}",
            if pair == 0 { "" } else { "," },
            "The stream keeps a message until its consumer has acknowledged it.\\n".repeat(12),
        )?;
    }
    let completed: Vec<_> = (0..CHUNKS_PER_DOCUMENT).collect();
    write!(
        file,
        "\n  ],\n  \"status\": \"completed\",\n  \"completed_chunks\": {completed:?},\n  \"failed_chunks\": []\n}}"
    )
}
