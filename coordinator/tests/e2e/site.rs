//! One job's directories, and what the tests read from them.

use std::fs;
use std::path::{Path, PathBuf};

use qa_shared::model::JobId;
use serde_json::Value;
use tempfile::TempDir;

use super::checker::{Check, check};
use super::command_line::Line;
use super::documents::Document;

/// The directories of a job, removed at the end of the test.
pub(crate) struct Site {
    root: TempDir,
}

impl Site {
    pub(crate) fn new(documents: &[Document]) -> Self {
        let root = qa_shared::testing::temporary_folder();
        let site = Self { root };
        fs::create_dir(site.chunks_dir()).unwrap();
        for document in documents {
            site.write(document);
        }
        site
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn chunks_dir(&self) -> PathBuf {
        self.root().join("chunks")
    }

    pub(crate) fn qa_dir(&self) -> PathBuf {
        self.root().join("qa")
    }

    pub(crate) fn combined(&self) -> PathBuf {
        self.qa_dir().join("training_data.json")
    }

    pub(crate) fn job_folder(&self) -> PathBuf {
        self.qa_dir().join(".qa-fleet")
    }

    pub(crate) fn write(&self, document: &Document) -> PathBuf {
        document.write(&self.chunks_dir())
    }

    /// `qa-coordinator COMMAND` in the site's root, with what every command needs.
    pub(crate) fn coordinator(&self, command: &str) -> Line {
        Line::coordinator(command, self.root()).arg("--qa-dir").arg(self.qa_dir())
    }

    /// `qa-coordinator generate` with the default model of the fake servers.
    pub(crate) fn generate(&self) -> Line {
        let line = self.coordinator("generate").arg("--chunks-dir").arg(self.chunks_dir());
        line.args(["--provider", "local", "--model", "qwen3:8b"])
    }

    pub(crate) fn job(&self) -> JobId {
        read_json(&self.job_folder().join("job.json"))["job"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn qa_path(&self, name: &str) -> PathBuf {
        self.qa_dir().join(format!("{name}_qa.json"))
    }

    pub(crate) fn qa(&self, name: &str) -> Value {
        read_json(&self.qa_path(name))
    }

    pub(crate) fn status_of(&self, name: &str) -> String {
        self.qa(name)["status"].as_str().unwrap().to_owned()
    }

    /// Positions in a list of a Q&A file.
    pub(crate) fn positions(&self, name: &str, list: &str) -> Vec<u64> {
        self.qa(name)[list].as_array().unwrap().iter().map(|position| position.as_u64().unwrap()).collect()
    }

    pub(crate) fn summary(&self) -> Value {
        read_json(&self.qa_dir().join("qa_generation_summary.json"))
    }

    /// Checks the files of a run that is over and complete.
    pub(crate) fn check(&self) {
        check(&Check::new(self));
    }
}

pub(crate) fn read_json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
