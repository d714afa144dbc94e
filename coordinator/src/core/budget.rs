//! The budget of a job: what was spent, what may yet be spent by the tasks that are out, and the limits.
//!
//! A chunk is published only if what was spent, the worst case of everything that is out, and its own worst
//! case stay within every limit. Amounts are whole numbers. What cannot be known is not in it: the calls of a
//! worker that died or handed its task back, and of a task that the queue lost while it was worked on.

use std::collections::{BTreeMap, BTreeSet};

use qa_shared::model::{DocumentName, NanoUsd, Price, Usage};
use serde::{Deserialize, Serialize};

use super::{ChunkState, Core, ResultFact, TaskRef};

/// Tokens and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Input and output together.
    pub tokens: u64,
    /// Nothing where no price is known.
    pub cost: NanoUsd,
}

impl Amount {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), cost: self.cost.plus(other.cost) }
    }

    /// What is left after `other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), cost: self.cost.minus(other.cost) }
    }

    /// So many times the amount.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { tokens: self.tokens.saturating_mul(times), cost: self.cost.times(times) }
    }
}

/// What the job's results have cost over all its runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Model calls.
    pub calls: u64,
    /// Tokens and time of all of them.
    pub usage: Usage,
    /// What they cost, as far as prices were known.
    pub cost: NanoUsd,
    /// Of `usage`, what no price was known for.
    pub unpriced: Usage,
}

impl Spent {
    /// Adds calls.
    pub fn add(&mut self, calls: u64, usage: Usage, price: Option<Price>) {
        self.calls = self.calls.saturating_add(calls);
        self.usage.add(usage);
        match price {
            Some(price) => self.cost = self.cost.plus(price.of(&usage)),
            None => self.unpriced.add(usage),
        }
    }

    /// Adds what was spent elsewhere.
    pub fn include(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.usage.add(other.usage);
        self.cost = self.cost.plus(other.cost);
        self.unpriced.add(other.unpriced);
    }

    /// The same with a price for what had none.
    #[must_use]
    pub fn priced(self, price: Option<Price>) -> Self {
        match price {
            Some(price) => {
                let cost = self.cost.plus(price.of(&self.unpriced));
                Self { cost, unpriced: Usage::default(), ..self }
            }
            None => self,
        }
    }

    /// What counts against the limits.
    pub fn amount(&self) -> Amount {
        Amount { tokens: self.usage.tokens(), cost: self.cost }
    }
}

/// What one task costs at most, with all its calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskBound {
    /// Whatever its chunk is.
    pub fixed: Amount,
    /// For each estimated token of its chunk.
    pub per_chunk_token: Amount,
}

impl TaskBound {
    /// For a chunk of so many estimated tokens.
    pub fn of(&self, chunk_tokens: u32) -> Amount {
        self.fixed.plus(self.per_chunk_token.times(u64::from(chunk_tokens)))
    }
}

/// What the core needs to know about money.
#[derive(Debug, Clone, Copy, Default)]
pub struct BudgetSettings {
    /// The most that the job may cost.
    pub max_cost: Option<NanoUsd>,
    /// The most tokens that it may use.
    pub max_tokens: Option<u64>,
    /// What the model's tokens cost.
    pub price: Option<Price>,
    /// What a task costs at most.
    pub bound: TaskBound,
}

/// Keeps the account.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    settings: BudgetSettings,
    spent: Spent,
    /// The worst case of everything that is out.
    committed: Amount,
    /// Tasks that may still be worked on for nothing, with their chunks' tokens: of broken documents, and losers
    /// against another round.
    orphans: BTreeMap<TaskRef, u32>,
}

impl Budget {
    pub(super) fn new(settings: BudgetSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// A task goes out.
    pub(super) fn commit(&mut self, chunk_tokens: u32) {
        self.committed = self.committed.plus(self.settings.bound.of(chunk_tokens));
    }

    /// A task is no longer out.
    pub(super) fn release(&mut self, chunk_tokens: u32) {
        self.committed = self.committed.minus(self.settings.bound.of(chunk_tokens));
    }

    /// A task that was committed stays out though nobody waits for it.
    pub(super) fn orphan(&mut self, task: TaskRef, chunk_tokens: u32) {
        if self.orphans.insert(task, chunk_tokens).is_some() {
            self.release(chunk_tokens);
        }
    }

    /// A result came: if it is an orphan's, that one is no longer out.
    pub(super) fn forget_orphan(&mut self, task: TaskRef) {
        if let Some(tokens) = self.orphans.remove(&task) {
            self.release(tokens);
        }
    }

    /// A result was paid for, whatever becomes of it.
    pub(super) fn pay(&mut self, fact: &ResultFact) {
        self.spent.add(u64::from(fact.attempts), fact.usage, self.settings.price);
    }

    /// Why one more task must not go out, if so.
    pub(super) fn refusal(&self, chunk_tokens: u32) -> Option<String> {
        let (next, spent) = (self.settings.bound.of(chunk_tokens), self.spent.amount());
        let total = spent.plus(self.committed).plus(next);
        if let Some(limit) = self.settings.max_cost.filter(|limit| total.cost > *limit) {
            let (spent, next, out) = (spent.cost, next.cost, self.committed.cost);
            let reserved = if out == NanoUsd(0) { String::new() } else { format!(", {out} reserved") };
            return Some(format!(
                "no further chunk fits into the budget: {spent} of {limit} spent{reserved} (--max-cost), the next \
                 one may cost up to {next}"
            ));
        }
        let limit = self.settings.max_tokens.filter(|limit| total.tokens > *limit)?;
        let (spent, next, out) = (spent.tokens, next.tokens, self.committed.tokens);
        let reserved = if out == 0 { String::new() } else { format!(", {out} reserved") };
        Some(format!(
            "no further chunk fits into the budget: {spent} of {limit} tokens used{reserved} (--max-tokens-total), \
             the next one may take up to {next}"
        ))
    }
}

impl Core {
    /// Before the start: what earlier runs of the job have spent.
    pub fn set_spent(&mut self, spent: Spent) {
        self.budget.spent = spent;
    }

    /// What the job has spent so far, over all its runs.
    pub fn spent(&self) -> Spent {
        self.budget.spent
    }

    /// What the tasks that are out may yet cost.
    pub fn committed(&self) -> Amount {
        self.budget.committed
    }

    /// The estimated tokens of each chunk that this run is to ask about and has not.
    pub fn wanted_tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.wanted_chunks().map(|(_, _, tokens)| tokens)
    }

    /// The same with document and position.
    pub fn wanted_chunks(&self) -> impl Iterator<Item = (&DocumentName, u32, u32)> + '_ {
        let wanted = self.documents.iter().filter(|document| document.error.is_none());
        let chunks = wanted.flat_map(|document| {
            document.chunks.iter().zip(0..).map(move |(chunk, position)| (document, chunk, position))
        });
        let waiting = chunks.filter(|(_, chunk, _)| chunk.selected && chunk.state == ChunkState::Waiting);
        waiting.map(|(document, chunk, position)| (&document.name, position, chunk.tokens))
    }

    /// Those of these waiting tasks that the budget has room for, all together, in this order.
    pub fn affordable(&self, tasks: impl IntoIterator<Item = TaskRef>) -> BTreeSet<TaskRef> {
        let mut budget = self.budget.clone();
        let mut room = BTreeSet::new();
        for task in tasks {
            let document = self.documents.get(task.document as usize);
            let Some(chunk) = document.and_then(|document| document.chunks.get(task.chunk as usize)) else {
                continue;
            };
            if budget.refusal(chunk.tokens).is_none() {
                budget.commit(chunk.tokens);
                room.insert(task);
            }
        }
        room
    }

    /// What is committed, counted from the chunks.
    pub(super) fn count_committed(&self) -> Amount {
        let bound = &self.budget.settings.bound;
        let out = self.documents.iter().flat_map(|document| &document.chunks);
        let out = out.filter(|chunk| chunk.state == ChunkState::Published).map(|chunk| chunk.tokens);
        let tokens = |(document, chunk)| {
            let document: &super::Document = self.documents.get(document as usize)?;
            document.chunks.get(chunk as usize).map(|chunk: &super::document::Chunk| chunk.tokens)
        };
        let beside = self.twins.costing().filter_map(tokens);
        out.chain(beside)
            .chain(self.budget.orphans.values().copied())
            .fold(Amount::default(), |sum, tokens| sum.plus(bound.of(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price { input: 1.0, output: 2.0, cached: None, cache_write: None };

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    fn budget(max_cost: Option<NanoUsd>, max_tokens: Option<u64>) -> Budget {
        let fixed = Amount { tokens: 100, cost: NanoUsd(1000) };
        let per_chunk_token = Amount { tokens: 1, cost: NanoUsd(10) };
        let bound = TaskBound { fixed, per_chunk_token };
        Budget::new(BudgetSettings { max_cost, max_tokens, price: Some(PRICE), bound })
    }

    #[test]
    fn a_task_goes_out_only_if_its_worst_case_fits_beside_the_others() {
        let mut budget = budget(Some(NanoUsd(2500)), None);
        assert_eq!(budget.refusal(10), None);
        budget.commit(10);
        assert_eq!(budget.refusal(40), None);
        assert!(budget.refusal(41).unwrap().contains("--max-cost"));
        budget.release(10);
        assert_eq!(budget.refusal(41), None);
    }

    #[test]
    fn each_limit_counts_for_itself() {
        let both = budget(Some(NanoUsd(1_000_000)), Some(109));
        assert!(both.refusal(10).unwrap().contains("0 of 109 tokens used (--max-tokens-total)"));
        assert_eq!(both.refusal(9), None);
        assert_eq!(budget(None, None).refusal(u32::MAX), None);
    }

    #[test]
    fn what_had_no_price_is_priced_once_one_is_known() {
        let mut spent = Spent::default();
        spent.add(1, usage(10, 5), None);
        assert_eq!(spent.amount(), Amount { tokens: 15, cost: NanoUsd(0) });
        spent.add(2, usage(1, 1), Some(PRICE));
        let spent = spent.priced(Some(PRICE));
        assert_eq!((spent.calls, spent.cost), (3, NanoUsd(20_000 + 3000)));
        assert_eq!(spent.priced(Some(PRICE)), spent);
    }
}
