//! The journal's results, taken through the same transitions as live ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use qa_shared::model::{FailureReason, Price, TextHash};

use crate::core::{Applied, ChunkState, Core, DocumentPlan, ResultFact, Spent, TaskRef, Verdict};
use crate::files::{ChunkFile, ChunkRecord, ChunkSource, Entry, EntryLocation, RecordStatus};
use crate::snapshots::Desk;

/// What a replay needs of a journal entry: there may be a great many.
pub(crate) enum Light {
    /// The document's position in the job is not known yet: the fact has 0.
    Result {
        document: String,
        fact: ResultFact,
    },
    Rounds {
        document: String,
        chunks: Vec<u32>,
        round: u32,
    },
}

impl Light {
    pub(crate) fn of(entry: Entry) -> Self {
        match entry {
            Entry::Result { document, record, .. } => {
                Self::Result { document: document.to_string(), fact: fact_of(&record) }
            }
            Entry::Rounds { document, chunks, round } => {
                Self::Rounds { document: document.to_string(), chunks, round }
            }
        }
    }
}

/// Rounds that were begun: a failure of an earlier round is no longer the chunk's last word.
pub(crate) fn apply_rounds(plans: &mut [DocumentPlan], journalled: &[(EntryLocation, Light)]) {
    let index: BTreeMap<String, usize> =
        plans.iter().enumerate().map(|(index, plan)| (plan.name.to_string(), index)).collect();
    for (_, entry) in journalled {
        let Light::Rounds { document, chunks, round } = entry else { continue };
        let Some(plan) = index.get(document).and_then(|index| plans.get_mut(*index)) else { continue };
        for chunk in chunks {
            let Some(chunk) = plan.chunks.get_mut(*chunk as usize) else { continue };
            if chunk.round < *round && !matches!(chunk.state, ChunkState::Completed { .. }) {
                chunk.round = *round;
                chunk.state = ChunkState::Waiting;
            }
        }
    }
}

/// What a replay came to.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Results that changed a chunk's state.
    pub(crate) accepted: usize,
    /// What these have cost.
    pub(crate) spent: Spent,
    /// Entries that nothing needs any more.
    pub(crate) released: Vec<EntryLocation>,
}

/// Replays the journal.
pub(crate) fn replay(
    core: &mut Core,
    desks: &mut [Option<Box<Desk>>],
    files: &[Option<Arc<ChunkFile>>],
    journalled: Vec<(EntryLocation, Light)>,
    price: Option<Price>,
) -> Replayed {
    let index: BTreeMap<String, u32> =
        (0..).zip(core.documents()).map(|(index, document)| (document.name().to_string(), index)).collect();
    let mut replayed = Replayed::default();
    for (location, entry) in journalled {
        let (document, mut fact) = match entry {
            Light::Rounds { document, .. } => {
                match index.get(&document).and_then(|index| desks.get_mut(*index as usize)) {
                    Some(Some(desk)) => desk.rounds.push(location),
                    Some(None) | None => replayed.released.push(location),
                }
                continue;
            }
            Light::Result { document, fact } => (document, fact),
        };
        // A document that is gone or unreadable today may be back tomorrow: its results stay.
        let Some(&document) = index.get(&document) else { continue };
        let Some(Some(desk)) = desks.get_mut(document as usize) else { continue };
        fact.task.document = document;
        let mut applied = core.replay(&fact);
        if applied == Applied::OtherText || applied == Applied::Unknown {
            let file = files.get(document as usize).and_then(Option::as_ref);
            let text = fact.text_hash;
            if let Some(chunk) = file.zip(text).and_then(|(file, text)| moved_to(core, document, file, text))
            {
                fact.task.chunk = chunk;
                applied = core.replay(&fact);
            }
        }
        if applied == Applied::Accepted {
            replayed.accepted += 1;
            replayed.spent.add(u64::from(fact.attempts), fact.usage, price);
            if let ChunkSource::Journal(earlier) = desk.place(fact.task.chunk, ChunkSource::Journal(location))
            {
                replayed.released.push(earlier);
            }
        } else {
            replayed.released.push(location);
        }
    }
    for (document, desk) in core.documents().iter().zip(desks) {
        // Its file holds everything: none will be written that would release the rounds.
        if let Some(desk) = desk
            && document.is_settled()
            && !desk.sources.iter().any(|source| matches!(source, ChunkSource::Journal(_)))
        {
            replayed.released.append(&mut desk.rounds);
        }
    }
    replayed
}

/// Where a text stands now that was asked about elsewhere and has no pairs yet.
fn moved_to(core: &Core, document: u32, file: &ChunkFile, text: TextHash) -> Option<u32> {
    (0..).zip(&file.chunks).filter(|(_, entry)| entry.text == text).map(|(position, _)| position).find(
        |position| {
            core.chunk(document, *position)
                .is_some_and(|(state, _)| !matches!(state, ChunkState::Completed { .. }))
        },
    )
}

fn fact_of(record: &ChunkRecord) -> ResultFact {
    let verdict = match record.status {
        RecordStatus::Completed => Verdict::Completed { got: record.got },
        RecordStatus::Failed => Verdict::Failed {
            reason: record.error.as_ref().map_or(FailureReason::Other, |failure| failure.reason),
        },
    };
    ResultFact {
        task: TaskRef { document: 0, chunk: record.chunk, round: record.round },
        text_hash: Some(record.text_hash),
        verdict,
        asked: record.asked,
        attempts: record.attempts,
        usage: record.usage(),
        is_of_this_run: false,
    }
}
