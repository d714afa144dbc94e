//! Documents of any size, written as streams: chunk files as the chunker makes them, and what a model says to them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use qa_shared::model::{Pair, Task, TaskResult, Usage};
use qa_shared::testing::samples;

/// How a number of chunks is spread over documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Ten chunks each.
    ManySmall,
    /// Ten documents.
    FewLarge,
    /// One document.
    Single,
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::ManySmall, Self::FewLarge, Self::Single];

    /// Documents, and chunks of each.
    pub(crate) fn of(self, chunks: u32) -> (u32, u32) {
        match self {
            Self::ManySmall => (chunks / 10, 10),
            Self::FewLarge => (10, chunks / 10),
            Self::Single => (1, chunks),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ManySmall => "documents of 10 chunks",
            Self::FewLarge => "10 documents",
            Self::Single => "one document",
        }
    }
}

/// Writes the chunk files.
pub(crate) fn write(directory: &Path, shape: Shape, chunks: u32) {
    std::fs::create_dir_all(directory).unwrap();
    let (documents, each) = shape.of(chunks);
    for document in 0..documents {
        write_document(directory, document, each);
    }
}

fn write_document(directory: &Path, document: u32, chunks: u32) {
    let file = File::create(directory.join(format!("part-{document:06}_chunks.json"))).unwrap();
    let mut file = BufWriter::new(file);
    let source = format!("/data/incoming/part-{document:06}.md");
    write!(
        file,
        r#"{{"status":"completed","metadata":{{"file_name":"part-{document:06}.md","source_file":"{source}","file_type":".md","file_size":22252}},"processing_info":{{"splitting_strategy":"recursive","chunk_size":1000,"chunk_overlap":200,"total_chunks":{chunks}}},"chunks":["#
    )
    .unwrap();
    for chunk in 0..chunks {
        let comma = if chunk == 0 { "" } else { "," };
        let (text, start) = (text(document, chunk), u64::from(chunk) * 800);
        let end = start + text.len() as u64;
        write!(
            file,
            r#"{comma}{{"text":"{text}","start_char":{start},"end_char":{end},"chunk_id":"0_{chunk}","chunk_index":{chunk},"document_index":0,"metadata":{{}}}}"#
        )
        .unwrap();
    }
    file.write_all(b"]}").unwrap();
    file.flush().unwrap();
}

/// About 900 characters; no two chunks have the same.
fn text(document: u32, chunk: u32) -> String {
    let mut text = format!("Section {chunk} of part {document}.");
    let mut sentence = 0;
    while text.len() < 850 {
        let number = (chunk + 7 * document + 13 * sentence) % 9973;
        text.push_str(" The stream keeps message ");
        text.push_str(&number.to_string());
        text.push_str(" until its consumer has acknowledged it or a limit is reached.");
        sentence += 1;
    }
    text
}

/// Three pairs of a usual length.
pub(crate) fn answer(task: &Task) -> TaskResult {
    let topics = ["retention", "storage", "size"];
    let pair = |topic: &str| Pair {
        question: format!("What does section {} say about the {topic} of a stream?", task.key.chunk),
        answer: format!(
            "It says that the {topic} of a stream is set when the stream is made, that it can be changed later \
             as long as no consumer depends on it, and that the server tells what it is."
        ),
    };
    let mut result = samples::result(task.key.clone(), topics.map(pair).to_vec());
    result.text_hash = Some(task.text_hash);
    result.server = Some("http://127.0.0.1:11434".to_owned());
    result.provider = Some(task.settings.provider);
    result.model = Some(task.settings.model.clone());
    result.usage = Usage { input_tokens: 350, output_tokens: 180, ..Usage::default() };
    result
}

/// Bytes of the files in a directory whose names end like this.
pub(crate) fn bytes_of(directory: &Path, ending: &str) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    files
        .filter(|file| file.file_name().to_string_lossy().ends_with(ending))
        .map(|file| file.metadata().unwrap().len())
        .sum()
}
