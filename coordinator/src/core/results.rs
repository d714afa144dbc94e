//! What becomes of a result: taken, waiting for another round's, or for nothing.

use super::event::StopCause;
use super::job::{NO_CHUNK, Phase};
use super::{Applied, ChunkState, Core, Effect, Finish, ReceiptId, ResultFact, TaskRef, Verdict};

impl Core {
    pub(super) fn on_result(&mut self, fact: &ResultFact, receipt: ReceiptId, effects: &mut Vec<Effect>) {
        if self.holds(fact, receipt, effects) {
            return;
        }
        if self.is_of_unreadable(fact) {
            // Its document may be readable again tomorrow: what was paid for stays in the queue.
            effects.push(Effect::Leave(receipt));
            return;
        }
        let before = self.chunk(fact.task.document, fact.task.chunk);
        let applied = self.accept(fact);
        if applied != Applied::Accepted {
            self.tally.count_ignored(applied);
            let place = (fact.task.document, fact.task.chunk);
            let is_durable = !self.undurable.values().any(|other| *other == place);
            effects.push(if is_durable { self.dispose(fact, receipt) } else { Effect::Leave(receipt) });
            if applied == Applied::OldRound {
                self.older_ended(fact.task, effects);
            }
            return;
        }
        self.budget.forget_orphan(fact.task);
        self.budget.pay(fact);
        self.record(fact, receipt, effects);
        if let Some(before) = before {
            self.end_others(fact, before, effects);
        }
    }

    /// Whether a result is for a chunk whose text this run does not know, since it could not read the chunk file.
    fn is_of_unreadable(&self, fact: &ResultFact) -> bool {
        let document = self.documents.get(fact.task.document as usize);
        document.filter(|document| document.error.is_some()).is_some_and(|document| {
            let chunk = document.chunks.get(fact.task.chunk as usize);
            chunk.is_none_or(|chunk| Some(chunk.text_hash) != fact.text_hash)
        })
    }

    /// A result that changes its chunk is journalled and counted.
    pub(super) fn record(&mut self, fact: &ResultFact, receipt: ReceiptId, effects: &mut Vec<Effect>) {
        let document = fact.task.document;
        if let Some(document) = self.documents.get_mut(document as usize) {
            document.unflushed += 1;
        }
        self.undurable.insert(receipt, (document, fact.task.chunk));
        effects.push(Effect::Record(receipt));
        self.count_result(fact, effects);
    }

    /// A result that changes no chunk was paid for all the same. Perhaps it is a copy of one that was counted,
    /// perhaps work done twice: rather too much than too little.
    fn dispose(&mut self, fact: &ResultFact, receipt: ReceiptId) -> Effect {
        self.budget.forget_orphan(fact.task);
        self.budget.pay(fact);
        self.account(fact, receipt)
    }

    /// Has the message acked once what it cost is written down.
    pub(super) fn account(&mut self, fact: &ResultFact, receipt: ReceiptId) -> Effect {
        if fact.usage.tokens() == 0 || self.phase == Phase::Finished {
            return Effect::Ack(receipt);
        }
        self.undurable.insert(receipt, NO_CHUNK);
        Effect::Account(receipt)
    }

    fn count_result(&mut self, fact: &ResultFact, effects: &mut Vec<Effect>) {
        self.tally.calls += u64::from(fact.attempts);
        self.tally.usage.add(fact.usage);
        self.tally.asked += u64::from(fact.asked);
        let failed = match fact.verdict {
            Verdict::Completed { got } => {
                self.tally.completed += 1;
                self.tally.pairs += u64::from(got);
                self.tally.short += u64::from(got < fact.asked);
                false
            }
            Verdict::Failed { reason } => {
                self.tally.failed += 1;
                *self.tally.reasons.entry(reason).or_default() += 1;
                true
            }
        };
        // What the input itself causes costs nothing, and says nothing about prompt and model.
        let is_of_input = matches!(fact.verdict, Verdict::Failed { reason } if reason.caused_by_input());
        if fact.is_of_this_run
            && !is_of_input
            && let Some(figures) = self.gate.observe(failed)
            && self.phase == Phase::Running
        {
            self.on_stop(Finish::Stopped(StopCause::FailureRate(figures)), effects);
        }
    }

    /// The one place where a result changes a chunk: success beats failure, a failure counts only for the
    /// current round, whatever is for an accounted chunk is a duplicate.
    pub(super) fn accept(&mut self, fact: &ResultFact) -> Applied {
        let TaskRef { document, chunk, round } = fact.task;
        let Some(document) = self.documents.get_mut(document as usize) else { return Applied::Unknown };
        let was_settled = document.outstanding() == 0;
        let Some(chunk) = document.chunks.get_mut(chunk as usize) else { return Applied::Unknown };
        if fact.text_hash.is_some_and(|hash| hash != chunk.text_hash) {
            return Applied::OtherText;
        }
        let state = match (chunk.state, fact.verdict) {
            (ChunkState::Completed { .. }, _) | (ChunkState::Failed { .. }, Verdict::Failed { .. }) => {
                return Applied::Duplicate;
            }
            (_, Verdict::Completed { got: 0 }) => return Applied::Unknown,
            (
                ChunkState::Waiting | ChunkState::Published | ChunkState::Failed { .. },
                Verdict::Completed { got },
            ) => ChunkState::Completed { got },
            (ChunkState::Waiting | ChunkState::Published, Verdict::Failed { reason }) => {
                if round != chunk.round {
                    return Applied::OldRound;
                }
                ChunkState::Failed { reason }
            }
        };
        match chunk.state {
            ChunkState::Published => {
                self.published -= 1;
                self.published_bytes -= chunk.queued_bytes();
                self.totals.published -= 1;
                self.budget.release(chunk.tokens);
            }
            ChunkState::Failed { .. } => {
                document.failed -= 1;
                self.totals.failed -= 1;
            }
            ChunkState::Waiting | ChunkState::Completed { .. } => {}
        }
        match state {
            ChunkState::Completed { got } => {
                document.completed += 1;
                document.pairs += u64::from(got);
                self.totals.completed += 1;
                self.totals.pairs += u64::from(got);
            }
            ChunkState::Failed { .. } => {
                document.failed += 1;
                self.totals.failed += 1;
            }
            ChunkState::Waiting | ChunkState::Published => {}
        }
        chunk.state = state;
        chunk.round = round;
        if !was_settled && document.outstanding() == 0 && document.error.is_none() {
            self.totals.documents_settled += 1;
        }
        Applied::Accepted
    }
}
