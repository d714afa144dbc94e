//! `documents.json`: which documents a job has, also where a chunk file is gone and nothing of the document is in a Q&A
//! file yet.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::JobId;
use serde::{Deserialize, Serialize};

use super::atomic::write_file;
use super::job_folder::read_json;
use super::pretty::pretty;
use super::{JobFolder, JobFolderError};

/// The documents of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownDocuments {
    /// Names with the number of chunks.
    pub chunks: BTreeMap<String, u32>,
    /// Those without a chunk file of which the user wants no more than what their Q&A files have.
    pub given_up: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    job: JobId,
    #[serde(flatten)]
    documents: KnownDocuments,
}

impl JobFolder {
    /// The documents that the job is known to have; none where the list is another job's or was never kept.
    pub fn load_documents(&self, job: &JobId) -> Result<KnownDocuments, JobFolderError> {
        let kept: Option<Kept> = read_json(&self.documents_path())?;
        Ok(kept.filter(|kept| kept.job == *job).map(|kept| kept.documents).unwrap_or_default())
    }

    /// Keeps the list, durably.
    pub fn save_documents(&self, job: &JobId, documents: KnownDocuments) -> Result<(), JobFolderError> {
        let text = pretty(&Kept { job: job.clone(), documents }, 0).expect("a list has text keys");
        Ok(write_file(&self.documents_path(), &text)?)
    }
}
