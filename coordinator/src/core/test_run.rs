//! A core with a make-believe queue, journal and files around it, for tests: performs effects and fails on
//! any that are not allowed at that moment.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::{DocumentName, FailureReason, NanoUsd, Price, TextHash, Usage};

use super::{
    Amount, BudgetSettings, ChunkPlan, ChunkState, Core, CoreSettings, DocumentPlan, Effect, Event,
    FailureLimits, FileStatus, Finish, ReceiptId, ResultFact, TaskBound, TaskRef, Verdict,
};

/// The world around a core.
pub(super) struct TestRun {
    pub(super) core: Core,
    pub(super) queue: BTreeSet<TaskRef>,
    pub(super) journal: Vec<ResultFact>,
    /// Rounds whose beginning is journalled.
    pub(super) rounds: Vec<TaskRef>,
    begun: Vec<TaskRef>,
    /// Tasks that nobody waits for any more; somebody may have them.
    pub(super) withdrawn: BTreeSet<TaskRef>,
    pub(super) acked: BTreeSet<ReceiptId>,
    pub(super) files: BTreeMap<u32, FileStatus>,
    pub(super) finished: Vec<Finish>,
    pub(super) take_back_asked: bool,
    received: BTreeMap<ReceiptId, ResultFact>,
    unflushed: Vec<(ReceiptId, u32)>,
    pub(super) snapshots: Vec<(u32, FileStatus)>,
    next_receipt: u64,
    /// How much of its worst case each result uses, in percent; 0: what the fact says.
    pub(super) share: u64,
    /// Tokens of results that were for nothing: work beside what was published.
    pub(super) unplanned: u64,
}

pub(super) fn hash(document: u32, chunk: u32) -> TextHash {
    TextHash::of(&format!("text {document} {chunk}"))
}

pub(super) fn plan(sizes: &[u32]) -> Vec<DocumentPlan> {
    sizes
        .iter()
        .zip(0..)
        .map(|(size, document)| DocumentPlan {
            name: DocumentName::new(format!("document {document}")),
            chunks: (0..*size)
                .map(|chunk| ChunkPlan {
                    text_hash: hash(document, chunk),
                    state: ChunkState::Waiting,
                    round: 1,
                    tokens: 10 * (chunk + 1),
                    bytes: 100 * (chunk + 1),
                })
                .collect(),
            file_status: None,
            is_complete: false,
            needs_rewrite: false,
            error: None,
        })
        .collect()
}

/// A task takes 100 tokens, and one for each estimated token of its chunk, at most; each costs a billionth.
pub(super) fn budget(max_tokens: Option<u64>, max_cost: Option<u64>) -> CoreSettings {
    let amount = |tokens| Amount { tokens, cost: NanoUsd(tokens) };
    CoreSettings {
        failure_limits: None,
        speculation_percent: 40,
        budget: BudgetSettings {
            max_cost: max_cost.map(NanoUsd),
            max_tokens,
            price: Some(Price { input: 0.001, output: 0.001, cached: None, cache_write: None }),
            bound: TaskBound { fixed: amount(100), per_chunk_token: amount(1) },
        },
    }
}

pub(super) fn success(task: TaskRef) -> ResultFact {
    fact(task, Verdict::Completed { got: 3 })
}

pub(super) fn failure(task: TaskRef) -> ResultFact {
    fact(task, Verdict::Failed { reason: FailureReason::NoUsableAnswer })
}

pub(super) fn fact(task: TaskRef, verdict: Verdict) -> ResultFact {
    ResultFact {
        task,
        text_hash: Some(hash(task.document, task.chunk)),
        verdict,
        asked: 3,
        attempts: 1,
        usage: Usage::default(),
        is_of_this_run: true,
    }
}

impl TestRun {
    pub(super) fn new(plan: Vec<DocumentPlan>) -> Self {
        Self::with_limits(plan, None)
    }

    pub(super) fn with_limits(plan: Vec<DocumentPlan>, failure_limits: Option<FailureLimits>) -> Self {
        Self::with_settings(
            plan,
            &CoreSettings { failure_limits, speculation_percent: 40, ..CoreSettings::default() },
        )
    }

    pub(super) fn with_settings(plan: Vec<DocumentPlan>, settings: &CoreSettings) -> Self {
        Self {
            core: Core::new(plan, settings),
            queue: BTreeSet::new(),
            journal: Vec::new(),
            rounds: Vec::new(),
            begun: Vec::new(),
            withdrawn: BTreeSet::new(),
            acked: BTreeSet::new(),
            files: BTreeMap::new(),
            finished: Vec::new(),
            take_back_asked: false,
            received: BTreeMap::new(),
            unflushed: Vec::new(),
            snapshots: Vec::new(),
            next_receipt: 0,
            share: 0,
            unplanned: 0,
        }
    }

    /// Applies an event and performs everything but the slow effects (flush and snapshot).
    pub(super) fn send(&mut self, event: Event) {
        let effects = self.core.apply(event);
        self.core.check_invariants().unwrap();
        for effect in effects {
            assert!(
                self.finished.is_empty() || matches!(effect, Effect::Ack(_) | Effect::Leave(_)),
                "{effect:?} after the end"
            );
            match effect {
                Effect::Publish(task) => assert!(self.queue.insert(task), "{task:?} published twice"),
                Effect::Begin(task) => {
                    self.rounds.push(task);
                    self.begun.push(task);
                }
                Effect::Withdraw(task) => {
                    self.queue.remove(&task);
                    assert!(self.withdrawn.insert(task), "{task:?} withdrawn twice");
                }
                Effect::Record(receipt) => {
                    let fact = self.received[&receipt];
                    self.journal.push(fact);
                    self.unflushed.push((receipt, fact.task.document));
                }
                Effect::Account(receipt) => self.unflushed.push((receipt, u32::MAX)),
                Effect::Ack(receipt) => assert!(self.acked.insert(receipt), "{receipt:?} acked twice"),
                Effect::Snapshot { document, status } => self.snapshots.push((document, status)),
                Effect::TakeBack(_) => self.take_back_asked = true,
                Effect::Leave(receipt) => assert!(!self.acked.contains(&receipt)),
                Effect::Finish(finish) => self.finished.push(finish),
            }
        }
    }

    pub(super) fn start(&mut self, window: u32) {
        self.send(Event::Start);
        self.send(Event::Window(window));
    }

    /// A result arrives; its task leaves the queue.
    pub(super) fn receive(&mut self, fact: ResultFact) -> ReceiptId {
        let is_planned = self.queue.remove(&fact.task) || self.withdrawn.remove(&fact.task);
        let unplanned = self.unplanned;
        let receipt = self.receive_copy(fact);
        if is_planned {
            self.unplanned = unplanned;
        }
        receipt
    }

    /// Results are answered for by their messages: each has one fate in the end.
    pub(super) fn unacked(&self) -> usize {
        self.received.len() - self.acked.len()
    }

    /// A result arrives whose task stays queued (late, doubled, or invented).
    pub(super) fn receive_copy(&mut self, mut fact: ResultFact) -> ReceiptId {
        let TaskRef { document, chunk, .. } = fact.task;
        if self.share > 0 {
            let tokens = (100 + 10 * (u64::from(chunk) + 1)) * self.share / 100;
            fact.usage = Usage { output_tokens: tokens, ..Usage::default() };
        }
        self.next_receipt += 1;
        let receipt = ReceiptId(self.next_receipt);
        self.received.insert(receipt, fact);
        let is_out = |core: &Core| {
            core.chunk(document, chunk).is_some_and(|(state, _)| state == ChunkState::Published)
        };
        let (was_out, spent) = (is_out(&self.core), self.core.spent().usage.tokens());
        self.send(Event::Result { fact, receipt });
        if !was_out || is_out(&self.core) {
            self.unplanned += self.core.spent().usage.tokens() - spent;
        }
        receipt
    }

    pub(super) fn flush(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() && self.finished.is_empty() {
            self.send(Event::Begun(begun));
        }
        let results = std::mem::take(&mut self.unflushed);
        if !results.is_empty() {
            self.send(Event::Durable { results });
        }
    }

    pub(super) fn write_next_snapshot(&mut self) -> bool {
        if self.snapshots.is_empty() {
            return false;
        }
        let (document, status) = self.snapshots.remove(0);
        self.files.insert(document, status);
        self.send(Event::SnapshotWritten { document, status });
        true
    }

    /// Performs the slow effects until there are none.
    pub(super) fn settle(&mut self) {
        loop {
            self.flush();
            if !self.write_next_snapshot() {
                return;
            }
        }
    }

    /// Answers whatever is queued, with success, until the end.
    pub(super) fn run_to_the_end(&mut self) {
        self.settle();
        while let Some(task) = self.queue.first().copied() {
            self.receive(success(task));
            self.settle();
        }
        self.settle();
    }

    pub(super) fn states(&self) -> Vec<Vec<(ChunkState, u32)>> {
        self.core.documents().iter().map(|document| document.chunk_states().collect()).collect()
    }

    /// The plan of a resume: what the journal says about rounds comes before its results.
    pub(super) fn plan_of_resume(&self, mut plan: Vec<DocumentPlan>) -> Vec<DocumentPlan> {
        for task in &self.rounds {
            let chunk = &mut plan[task.document as usize].chunks[task.chunk as usize];
            chunk.round = chunk.round.max(task.round);
        }
        plan
    }
}
