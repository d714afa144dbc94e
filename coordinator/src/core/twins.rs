//! Two rounds of a chunk at work: a task that seems stuck gets a second one beside it, and the first success
//! wins.
//!
//! The newer round is the chunk's own: it is journalled before it is published, and after a crash it alone is
//! asked for. That there is an older one beside it is known to this run only. Its success counts, as that of
//! any round does; its failure is one of an old round. The newer one's failure waits until the older one has
//! an end too: the chunk fails when both have failed. Which tasks get a second round is decided in
//! `speculation`.

use std::collections::{BTreeMap, BTreeSet};

use super::job::Core;
use super::{Applied, ChunkState, Effect, ReceiptId, ResultFact, TaskRef, Verdict};

/// A run may ask for this share of its chunks a second time, in percent.
pub const SPECULATION_PERCENT: u64 = 3;

/// The chunks with two rounds, and what bounds them.
#[derive(Debug, Clone, Default)]
pub(super) struct Twins {
    limit: usize,
    /// Chunks that had a second round in this run: none gets another.
    had: BTreeSet<(u32, u32)>,
    /// Newer rounds whose beginning is on its way to the disk.
    beginning: BTreeSet<TaskRef>,
    /// Those of them that replace a withheld task: no older one is beside them.
    replacing: BTreeSet<TaskRef>,
    alive: BTreeMap<(u32, u32), Twin>,
}

#[derive(Debug, Clone)]
struct Twin {
    older: u32,
    /// How the newer round failed: its message waits for the end of the older one.
    failure: Option<(ReceiptId, ResultFact)>,
}

impl Twins {
    /// A run over so many chunks begins, of which this share may have two rounds.
    pub(super) fn allow(&mut self, chunks: u64, percent: u64) {
        let share = (chunks.saturating_mul(percent) / 100).max(u64::from(percent > 0));
        self.limit = usize::try_from(share).unwrap_or(usize::MAX);
    }

    /// Whether a task is not published yet though its chunk is.
    pub(super) fn is_beginning(&self, task: TaskRef) -> bool {
        self.beginning.contains(&task)
    }

    /// The older rounds that are out.
    pub(super) fn older(&self) -> impl Iterator<Item = TaskRef> + '_ {
        self.alive.iter().map(|(&(document, chunk), twin)| TaskRef { document, chunk, round: twin.older })
    }

    /// Those with a second task that counts in the budget beside their chunk's.
    pub(super) fn costing(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.alive.iter().filter(|(_, twin)| twin.failure.is_none()).map(|(place, _)| *place)
    }
}

impl Core {
    /// How many chunks may yet get a second round.
    pub fn speculation_room(&self) -> usize {
        if self.is_running() { self.twins.limit.saturating_sub(self.twins.had.len()) } else { 0 }
    }

    /// Whether a task may get a second round beside it.
    pub fn may_speculate_on(&self, task: TaskRef) -> bool {
        self.speculation_room() > 0
            && self.chunk(task.document, task.chunk) == Some((ChunkState::Published, task.round))
            && !self.twins.had.contains(&(task.document, task.chunk))
    }

    pub(super) fn on_speculate(&mut self, tasks: &[TaskRef], effects: &mut Vec<Effect>) {
        for &task in tasks {
            if !self.may_speculate_on(task) {
                continue;
            }
            let Some(chunk) = self.chunk_mut(task) else { continue };
            let (Some(round), tokens) = (chunk.round.checked_add(1), chunk.tokens) else { continue };
            if self.budget.refusal(tokens).is_some() {
                continue;
            }
            if let Some(chunk) = self.chunk_mut(task) {
                chunk.round = round;
            }
            self.budget.commit(tokens);
            let place = (task.document, task.chunk);
            let newer = TaskRef { round, ..task };
            self.twins.had.insert(place);
            self.twins.beginning.insert(newer);
            self.twins.alive.insert(place, Twin { older: task.round, failure: None });
            effects.push(Effect::Begin(newer));
        }
    }

    pub(super) fn on_begun(&mut self, tasks: &[TaskRef], effects: &mut Vec<Effect>) {
        for &task in tasks {
            let is_replacing = self.twins.replacing.remove(&task);
            let is_wanted = self.twins.beginning.remove(&task)
                && self.is_running()
                && self.chunk(task.document, task.chunk) == Some((ChunkState::Published, task.round));
            if is_wanted {
                self.tally.speculation.started += u64::from(!is_replacing);
                effects.push(Effect::Publish(task));
            }
        }
    }

    /// Whoever had a withheld task may still answer it: in a round that is over, its failure counts no more.
    pub(super) fn on_withheld(&mut self, tasks: &[TaskRef], effects: &mut Vec<Effect>) {
        for &task in tasks {
            let place = (task.document, task.chunk);
            let is_current =
                self.chunk(task.document, task.chunk) == Some((ChunkState::Published, task.round));
            let round = task.round.checked_add(1).filter(|_| is_current && self.is_running());
            let (Some(round), false) = (round, self.twins.alive.contains_key(&place)) else {
                // One of two rounds, or one that a result has ended meanwhile.
                self.on_lost(&[task], effects);
                continue;
            };
            if let Some(chunk) = self.chunk_mut(task) {
                chunk.round = round;
            }
            let newer = TaskRef { round, ..task };
            self.twins.beginning.insert(newer);
            self.twins.replacing.insert(newer);
            self.tally.republished += 1;
            effects.push(Effect::Begin(newer));
        }
    }

    /// Whether a result has to wait for the other round's. Not while the run is being stopped: a resume tries
    /// failed chunks again, and a success that comes yet counts all the same.
    pub(super) fn holds(&mut self, fact: &ResultFact, receipt: ReceiptId, effects: &mut Vec<Effect>) -> bool {
        let place = (fact.task.document, fact.task.chunk);
        let Some(chunk) = self.chunk_mut(fact.task).copied() else { return false };
        let is_due = self.twins.alive.contains_key(&place)
            && self.is_running()
            && matches!(fact.verdict, Verdict::Failed { .. })
            && chunk.round == fact.task.round
            && fact.text_hash.is_none_or(|hash| hash == chunk.text_hash);
        if !is_due {
            return false;
        }
        if chunk.state == ChunkState::Waiting {
            // The queue had lost the task, or so it seemed.
            if let Some(chunk) = self.chunk_mut(fact.task) {
                chunk.state = ChunkState::Published;
            }
            self.went_out(chunk);
        }
        let Some(twin) = self.twins.alive.get_mut(&place) else { return false };
        if let Some((earlier, _)) = twin.failure.replace((receipt, *fact)) {
            // The same message again, after its ack wait.
            effects.push(Effect::Leave(earlier));
        } else {
            self.budget.pay(fact);
            self.budget.release(chunk.tokens);
        }
        true
    }

    /// A result was taken that ends its chunk, which stood like this before: what else is out for the chunk is
    /// not wanted any more.
    pub(super) fn end_others(
        &mut self,
        fact: &ResultFact,
        (state, newer): (ChunkState, u32),
        effects: &mut Vec<Effect>,
    ) {
        let TaskRef { document, chunk, round } = fact.task;
        let task = |round| TaskRef { document, chunk, round };
        let tokens = self.chunk_mut(fact.task).map_or(0, |chunk| chunk.tokens);
        let is_newer_out = state == ChunkState::Published && !self.twins.is_beginning(task(newer));
        let Some(twin) = self.twins.alive.remove(&(document, chunk)) else {
            // An older round that somebody still worked on, though a newer one was asked for.
            if is_newer_out && round != newer && matches!(fact.verdict, Verdict::Completed { .. }) {
                self.budget.commit(tokens);
                self.lose(task(newer), tokens, effects);
            }
            return;
        };
        // The chunk's own task has been released, and one is still committed if both were out.
        if twin.failure.is_none() {
            self.budget.release(tokens);
        }
        if matches!(fact.verdict, Verdict::Failed { .. }) {
            // The run is being stopped, and the older one's success would be welcome.
            self.budget.commit(tokens);
            self.budget.orphan(task(twin.older), tokens);
            return;
        }
        let speculation = &mut self.tally.speculation;
        speculation.won += u64::from(round == newer);
        speculation.lost += u64::from(round != newer && !self.twins.beginning.contains(&task(newer)));
        if round != twin.older {
            self.budget.commit(tokens);
            self.lose(task(twin.older), tokens, effects);
        }
        if round != newer && is_newer_out && twin.failure.is_none() {
            self.budget.commit(tokens);
            self.lose(task(newer), tokens, effects);
        }
        if let Some((receipt, failure)) = twin.failure {
            self.tally.count_ignored(Applied::Duplicate);
            let effect = self.account(&failure, receipt);
            effects.push(effect);
        }
    }

    /// A task is out for nothing. It counts in the budget until its result comes: somebody may pay for it.
    fn lose(&mut self, task: TaskRef, tokens: u32, effects: &mut Vec<Effect>) {
        self.budget.orphan(task, tokens);
        effects.push(Effect::Withdraw(task));
    }

    /// An older round has failed, or the queue lost it: the newer one alone decides, if it has not failed
    /// before.
    pub(super) fn older_ended(&mut self, task: TaskRef, effects: &mut Vec<Effect>) {
        let place = (task.document, task.chunk);
        if self.twins.alive.get(&place).is_none_or(|twin| twin.older != task.round) {
            return;
        }
        let tokens = self.chunk_mut(task).map_or(0, |chunk| chunk.tokens);
        match self.twins.alive.remove(&place).and_then(|twin| twin.failure) {
            None => self.budget.release(tokens),
            Some((receipt, failure)) => self.fail_after_all(&failure, receipt, effects),
        }
    }

    /// The run is being stopped: nobody waits any more for the older rounds.
    pub(super) fn hold_no_more(&mut self, effects: &mut Vec<Effect>) {
        let failed: Vec<_> = self.twins.alive.iter().filter(|(_, twin)| twin.failure.is_some()).collect();
        let failed: Vec<_> = failed.into_iter().map(|(place, _)| *place).collect();
        for (document, chunk) in failed {
            let Some(twin) = self.twins.alive.remove(&(document, chunk)) else { continue };
            let Some((receipt, failure)) = twin.failure else { continue };
            self.fail_after_all(&failure, receipt, effects);
            let older = TaskRef { document, chunk, round: twin.older };
            let tokens = self.chunk_mut(older).map_or(0, |chunk| chunk.tokens);
            self.budget.commit(tokens);
            self.budget.orphan(older, tokens);
        }
    }

    fn fail_after_all(&mut self, failure: &ResultFact, receipt: ReceiptId, effects: &mut Vec<Effect>) {
        if self.accept(failure) == Applied::Accepted {
            self.record(failure, receipt, effects);
        }
    }

    /// A document cannot go on: what is out for its chunks stays out.
    pub(super) fn orphan_twins(&mut self, index: u32) {
        let places: Vec<_> = self.twins.alive.range((index, 0)..=(index, u32::MAX)).collect();
        let places: Vec<_> = places.into_iter().map(|(place, _)| *place).collect();
        for (document, chunk) in places {
            let Some(twin) = self.twins.alive.remove(&(document, chunk)) else { continue };
            let older = TaskRef { document, chunk, round: twin.older };
            let tokens = self.chunk_mut(older).map_or(0, |chunk| chunk.tokens);
            if twin.failure.is_none() {
                self.budget.orphan(older, tokens);
            }
        }
    }

    /// What must hold about chunks with two rounds.
    pub(super) fn check_twins(&self) -> Result<(), String> {
        let twins = &self.twins;
        if twins.had.len() > twins.limit {
            return Err(format!("{} second rounds, {} allowed", twins.had.len(), twins.limit));
        }
        for (&(document, chunk), twin) in &twins.alive {
            let found = self.chunk(document, chunk);
            let is_open = matches!(found, Some((ChunkState::Waiting | ChunkState::Published, round)) if round > twin.older);
            if !is_open {
                return Err(format!("chunk {document}/{chunk} has two rounds and is {found:?}"));
            }
        }
        let tally = self.tally().speculation;
        if tally.won + tally.lost > tally.started || tally.started > twins.had.len() as u64 {
            return Err(format!("{tally:?} of {} second rounds", twins.had.len()));
        }
        Ok(())
    }
}
