//! The core itself: every transition of a run.

use std::collections::BTreeMap;

use super::budget::{Budget, BudgetSettings};
use super::document::{Chunk, ChunkState, Document, DocumentPlan, FileStatus};
use super::event::{Applied, Effect, Event, Finish, ReceiptId, ResultFact, StopCause, TaskRef};
use super::failure_gate::{FailureGate, FailureLimits};
use super::publishing::PublishOrder;
use super::tally::{Tally, Totals};
use super::twins::Twins;

/// What the core needs to know beside the plan.
#[derive(Debug, Clone, Default)]
pub struct CoreSettings {
    /// When failures stop the run; `None` never.
    pub failure_limits: Option<FailureLimits>,
    /// What the job may cost.
    pub budget: BudgetSettings,
    /// The share of a run's chunks that may get a second round beside a stuck one, in percent, but one chunk at
    /// least; 0 for none. Usually [`super::SPECULATION_PERCENT`].
    pub speculation_percent: u64,
}

/// The place of a result that changes no chunk.
pub(super) const NO_CHUNK: (u32, u32) = (u32::MAX, u32::MAX);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Loading,
    Running,
    /// Publishing has ended; waiting for what is out.
    Stopping(Finish),
    /// Nothing will come any more; files are brought up to date.
    Settling(Finish),
    Finished,
}

/// The state machine of one run.
#[derive(Debug, Clone)]
pub struct Core {
    pub(super) documents: Vec<Document>,
    pub(super) phase: Phase,
    window: u32,
    most_bytes: u64,
    pub(super) published: u32,
    /// What the tasks of the current rounds that are out take in the queue, about.
    pub(super) published_bytes: u64,
    order: PublishOrder,
    pub(super) gate: FailureGate,
    pub(super) budget: Budget,
    pub(super) totals: Totals,
    pub(super) tally: Tally,
    pub(super) twins: Twins,
    /// Whether only some of the waiting chunks are asked for.
    pub(super) is_sample: bool,
    speculation_percent: u64,
    /// Messages whose results are being made durable.
    pub(super) undurable: BTreeMap<ReceiptId, (u32, u32)>,
    /// Documents whose snapshot may have become due by the event at hand.
    touched: Vec<u32>,
    /// Documents whose files are being replaced.
    pub(super) writing: usize,
}

impl Core {
    /// Takes a plan whose documents are in the order in which they shall be done.
    pub fn new(plan: Vec<DocumentPlan>, settings: &CoreSettings) -> Self {
        let documents: Vec<Document> = plan.into_iter().map(Document::new).collect();
        let mut core = Self {
            documents,
            phase: Phase::Loading,
            window: 0,
            most_bytes: u64::MAX,
            published: 0,
            published_bytes: 0,
            order: PublishOrder::default(),
            gate: FailureGate::new(settings.failure_limits),
            budget: Budget::new(settings.budget),
            totals: Totals::default(),
            tally: Tally::default(),
            twins: Twins::default(),
            is_sample: false,
            speculation_percent: settings.speculation_percent,
            undurable: BTreeMap::new(),
            touched: Vec::new(),
            writing: 0,
        };
        core.totals = core.count_totals();
        core
    }

    /// The documents, in order.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Where the job stands.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What this run did.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether [`Effect::Finish`] was emitted.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Whether a stop is under way.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_) | Phase::Settling(_))
    }

    /// Whether tasks are published.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Tasks that are out: those of the current rounds in order, then older ones beside them.
    pub fn published_tasks(&self) -> impl Iterator<Item = TaskRef> + '_ {
        let current = self.tasks().filter(|(_, state)| *state == ChunkState::Published).map(|(task, _)| task);
        current.filter(|task| !self.twins.is_beginning(*task)).chain(self.twins.older())
    }

    /// The current task of each waiting chunk that can be asked about, in order.
    pub fn waiting_tasks(&self) -> impl Iterator<Item = TaskRef> + '_ {
        let waiting = self.tasks().filter(|(_, state)| *state == ChunkState::Waiting).map(|(task, _)| task);
        waiting.filter(|task| self.documents[task.document as usize].error.is_none())
    }

    /// Waiting chunks of more estimated tokens than this are published when no other is waiting any more.
    pub fn do_apart(&mut self, above: u32) {
        self.order.set_apart(above, &self.documents);
    }

    /// Whether a chunk is left that a wider window would publish: an unselected one never is.
    pub fn has_more_to_publish(&self) -> bool {
        self.order.clone().next(&self.documents).is_some()
    }

    /// Where the chunk of a task stands and which round is current, if there is such a chunk.
    pub fn chunk(&self, document: u32, chunk: u32) -> Option<(ChunkState, u32)> {
        let chunk = self.documents.get(document as usize)?.chunks.get(chunk as usize)?;
        Some((chunk.state, chunk.round))
    }

    /// Takes a journalled result while the plan is loaded: the same transition as a live one.
    pub fn replay(&mut self, fact: &ResultFact) -> Applied {
        let applied = self.accept(fact);
        if applied == Applied::Accepted
            && let Some(document) = self.documents.get_mut(fact.task.document as usize)
        {
            document.unsaved += 1;
        }
        applied
    }

    /// Takes an event, tells what is to be done.
    #[must_use]
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start => self.on_start(),
            Event::Result { fact, receipt } => self.on_result(&fact, receipt, &mut effects),
            Event::Durable { results } => self.on_durable(results, &mut effects),
            Event::SnapshotWritten { document, status } => self.on_snapshot_written(document, status),
            Event::DocumentBroken { document, error } => self.on_document_broken(document, error),
            Event::Window(window) => self.window = window,
            Event::MostBytes(bytes) => self.most_bytes = bytes,
            Event::TakenBack(tasks) => self.on_taken_back(&tasks, &mut effects),
            Event::AlreadyQueued(tasks) => self.on_already_queued(&tasks),
            Event::Lost(tasks) => self.on_lost(&tasks, &mut effects),
            Event::Withheld(tasks) => self.on_withheld(&tasks, &mut effects),
            Event::Speculate(tasks) => self.on_speculate(&tasks, &mut effects),
            Event::Begun(tasks) => self.on_begun(&tasks, &mut effects),
            Event::Stop(cause) => self.on_stop(Finish::Stopped(cause), &mut effects),
            Event::Drained { taken_back } => self.on_drained(&taken_back, &mut effects),
        }
        self.settle_sample();
        self.emit_snapshots(&mut effects);
        self.emit_publishing(&mut effects);
        self.emit_finish(&mut effects);
        effects
    }

    fn on_start(&mut self) {
        if self.phase == Phase::Loading {
            self.phase = Phase::Running;
            let asked = self.totals.published + self.wanted_tokens().count() as u64;
            self.twins.allow(asked, self.speculation_percent);
            self.touch_all();
        }
    }

    fn on_durable(&mut self, results: Vec<(ReceiptId, u32)>, effects: &mut Vec<Effect>) {
        for (receipt, index) in results {
            if self.undurable.remove(&receipt).is_none() {
                continue;
            }
            if let Some(document) = self.documents.get_mut(index as usize) {
                document.unflushed -= 1;
                document.unsaved += 1;
            }
            self.touched.push(index);
            effects.push(Effect::Ack(receipt));
        }
    }

    fn on_snapshot_written(&mut self, index: u32, status: FileStatus) {
        if let Some(document) = self.documents.get_mut(index as usize)
            && let Some(results) = document.writing.take()
        {
            self.writing -= 1;
            document.needs_rewrite = false;
            document.file_status = Some(status);
            document.unsaved -= results;
            document.saved += results;
            self.touched.push(index);
        }
    }

    fn on_document_broken(&mut self, index: u32, error: String) {
        let Some(document) = self.documents.get_mut(index as usize) else { return };
        self.writing -= usize::from(document.writing.take().is_some());
        if document.error.is_some() {
            return;
        }
        if document.outstanding() == 0 {
            self.totals.documents_settled -= 1;
        }
        self.totals.documents_broken += 1;
        document.error = Some(error);
        // Its file can no longer be written truthfully: a resume, which compares every chunk's text with
        // its record, takes the journalled results over.
        document.needs_rewrite = false;
        document.unsaved = 0;
        let mut out = Vec::new();
        for (chunk, position) in document.chunks.iter_mut().zip(0..) {
            if chunk.state == ChunkState::Published {
                chunk.state = ChunkState::Waiting;
                self.published -= 1;
                self.published_bytes -= chunk.queued_bytes();
                self.totals.published -= 1;
                out.push((TaskRef { document: index, chunk: position, round: chunk.round }, chunk.tokens));
            }
        }
        for (task, tokens) in out {
            self.budget.orphan(task, tokens);
        }
        self.orphan_twins(index);
    }

    fn on_already_queued(&mut self, tasks: &[TaskRef]) {
        for task in tasks {
            let Some(chunk) = self.chunk_mut(*task) else { continue };
            if chunk.state == ChunkState::Waiting && chunk.round == task.round {
                chunk.state = ChunkState::Published;
                let chunk = *chunk;
                self.went_out(chunk);
            }
        }
    }

    pub(super) fn on_lost(&mut self, tasks: &[TaskRef], effects: &mut Vec<Effect>) {
        let before = self.published;
        self.put_back(tasks);
        self.tally.republished += u64::from(before - self.published);
        for task in tasks {
            self.older_ended(*task, effects);
        }
    }

    fn on_taken_back(&mut self, tasks: &[TaskRef], effects: &mut Vec<Effect>) {
        self.put_back(tasks);
        for task in tasks {
            self.older_ended(*task, effects);
        }
    }

    pub(super) fn on_stop(&mut self, finish: Finish, effects: &mut Vec<Effect>) {
        if let (Phase::Loading | Phase::Running, Finish::Stopped(cause)) = (&self.phase, &finish) {
            effects.push(Effect::TakeBack(cause.clone()));
            self.phase = Phase::Stopping(finish);
            self.hold_no_more(effects);
        }
    }

    fn on_drained(&mut self, taken_back: &[TaskRef], effects: &mut Vec<Effect>) {
        self.on_taken_back(taken_back, effects);
        if let Phase::Stopping(finish) = &self.phase {
            self.phase = Phase::Settling(finish.clone());
            self.touch_all();
        }
    }

    fn put_back(&mut self, tasks: &[TaskRef]) {
        for task in tasks {
            let Some(chunk) = self.chunk_mut(*task) else { continue };
            if chunk.state == ChunkState::Published && chunk.round == task.round {
                chunk.state = ChunkState::Waiting;
                let (tokens, bytes) = (chunk.tokens, chunk.queued_bytes());
                self.published -= 1;
                self.published_bytes -= bytes;
                self.totals.published -= 1;
                self.budget.release(tokens);
                self.order.put_back(task.document, task.chunk);
            }
        }
    }

    /// A sample is over when nothing that was selected is waiting or out.
    fn settle_sample(&mut self) {
        if self.phase == Phase::Running
            && self.published == 0
            && self.totals.outstanding() > 0
            && !self.has_more_to_publish()
            && self.documents.iter().any(|document| !document.is_settled())
        {
            self.phase = Phase::Settling(Finish::Sampled);
            self.touch_all();
        }
    }

    fn emit_snapshots(&mut self, effects: &mut Vec<Effect>) {
        let stopping = match self.phase {
            Phase::Loading | Phase::Finished => return self.touched.clear(),
            Phase::Running | Phase::Stopping(_) => false,
            Phase::Settling(_) => true,
        };
        for index in std::mem::take(&mut self.touched) {
            let Some(document) = self.documents.get_mut(index as usize) else { continue };
            if document.is_snapshot_due(stopping) {
                document.writing = Some(document.unsaved);
                self.writing += 1;
                let status = document.deserved_status(stopping);
                effects.push(Effect::Snapshot { document: index, status });
            }
        }
    }

    fn emit_publishing(&mut self, effects: &mut Vec<Effect>) {
        while self.phase == Phase::Running && self.published < self.window {
            let Some((document, chunk)) = self.order.next(&self.documents) else { break };
            let Some(entry) = self.chunk_mut(TaskRef { document, chunk, round: 0 }) else { break };
            let (round, tokens, bytes) = (entry.round, entry.tokens, entry.queued_bytes());
            if self.published > 0 && self.published_bytes + bytes > self.most_bytes {
                self.order.put_back(document, chunk);
                break;
            }
            if let Some(why) = self.budget.refusal(tokens) {
                self.order.put_back(document, chunk);
                // What is out frees what it does not use.
                if self.published == 0 {
                    self.on_stop(Finish::Stopped(StopCause::Budget(why)), effects);
                }
                break;
            }
            if let Some(entry) = self.chunk_mut(TaskRef { document, chunk, round }) {
                entry.state = ChunkState::Published;
                let entry = *entry;
                self.went_out(entry);
            }
            effects.push(Effect::Publish(TaskRef { document, chunk, round }));
        }
    }

    pub(super) fn went_out(&mut self, chunk: Chunk) {
        self.published += 1;
        self.published_bytes += chunk.queued_bytes();
        self.totals.published += 1;
        self.budget.commit(chunk.tokens);
    }

    /// What the tasks that are out take in the queue, about.
    pub fn published_bytes(&self) -> u64 {
        self.published_bytes
    }

    /// What a task takes in the queue, about.
    pub fn queued_bytes(&self, task: TaskRef) -> u64 {
        let document = self.documents.get(task.document as usize);
        document.and_then(|document| document.chunks.get(task.chunk as usize)).map_or(0, Chunk::queued_bytes)
    }

    fn emit_finish(&mut self, effects: &mut Vec<Effect>) {
        let all_settled =
            self.totals.documents_settled + self.totals.documents_broken == self.totals.documents;
        let finish = match &self.phase {
            Phase::Running | Phase::Settling(_) if all_settled => Finish::Complete,
            Phase::Settling(finish) => finish.clone(),
            Phase::Loading | Phase::Running | Phase::Stopping(_) | Phase::Finished => return,
        };
        let stopping = matches!(self.phase, Phase::Settling(_));
        // At the end very many files may be under way, and each that is done would ask every document.
        let busy = !self.undurable.is_empty()
            || self.writing > 0
            || self.documents.iter().any(|document| document.is_snapshot_due(stopping));
        if !busy {
            self.phase = Phase::Finished;
            effects.push(Effect::Finish(finish));
        }
    }

    pub(super) fn chunk_mut(&mut self, task: TaskRef) -> Option<&mut Chunk> {
        self.documents.get_mut(task.document as usize)?.chunks.get_mut(task.chunk as usize)
    }

    fn touch_all(&mut self) {
        self.touched = (0..u32::try_from(self.documents.len()).unwrap_or(u32::MAX)).collect();
    }

    fn tasks(&self) -> impl Iterator<Item = (TaskRef, ChunkState)> + '_ {
        self.documents.iter().zip(0..).flat_map(|(document, index)| {
            document.chunks.iter().zip(0..).map(move |(chunk, position)| {
                (TaskRef { document: index, chunk: position, round: chunk.round }, chunk.state)
            })
        })
    }
}
