//! What a document's results have used, added up record by record.
//!
//! It does not know where the records stand.

use qa_shared::model::{NanoUsd, Price, Provider, Usage};
use qa_shared::model_table::ModelTable;
use serde::Serialize;

use super::ChunkRecord;
use super::record::is_zero;
use crate::core::Spent;

/// A sum in the making.
pub(super) struct DocumentUsage<'a> {
    models: &'a ModelTable,
    spent: Spent,
    /// Whose records came last, and what they cost: records of one model follow each other.
    last: Option<(String, String, Option<Price>)>,
}

/// `usage` in a Q&A file's `summary`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct UsageSum {
    calls: u64,
    input_tokens: u64,
    cached_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    estimated_input_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    estimated_output_tokens: u64,
    /// In US dollars; absent unless the price of everything is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

impl<'a> DocumentUsage<'a> {
    pub(super) fn new(models: &'a ModelTable) -> Self {
        Self { models, spent: Spent::default(), last: None }
    }

    pub(super) fn add(&mut self, record: &ChunkRecord) {
        let calls = u64::from(record.attempts);
        // A record that tells its cost was priced when it was made.
        if let Some(cost) = record.cost_usd.and_then(NanoUsd::from_dollars) {
            self.spent.add(calls, record.usage(), Some(Price::FREE));
            self.spent.cost = self.spent.cost.plus(cost);
        } else {
            let price = self.price(record);
            self.spent.add(calls, record.usage(), price);
        }
    }

    fn price(&mut self, record: &ChunkRecord) -> Option<Price> {
        let (provider, model) = (record.provider.as_deref()?, record.model.as_deref()?);
        match &self.last {
            Some((last_provider, last_model, price)) if last_provider == provider && last_model == model => {
                *price
            }
            _ => {
                let known: Option<Provider> = provider.parse().ok();
                let price = known.and_then(|known| self.models.price(known, model));
                self.last = Some((provider.to_owned(), model.to_owned(), price));
                price
            }
        }
    }

    /// Nothing where no call is known of, as in files of the Python program.
    pub(super) fn into_figures(self) -> Option<UsageSum> {
        let Spent { calls, usage, cost, unpriced } = self.spent;
        (calls > 0).then(|| UsageSum {
            calls,
            input_tokens: usage.input_tokens,
            cached_tokens: usage.cached_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            estimated_input_tokens: usage.estimated_input_tokens,
            estimated_output_tokens: usage.estimated_output_tokens,
            cost_usd: (unpriced == Usage::default()).then(|| cost.dollars()),
        })
    }
}

#[cfg(test)]
mod tests {
    use qa_shared::model::TextHash;
    use serde_json::json;

    use super::super::fixtures::{completed_result, failed_result, settings};
    use super::*;

    #[test]
    fn completed_and_failed_records_add_up_each_at_the_price_of_its_model() {
        let rows = r#"[{"service": "ollama", "model": "qwen3:14b", "price": {"input": 1, "output": 10}}]"#;
        let models = ModelTable::with_rows(rows).unwrap();
        let record = |result| ChunkRecord::from_result(&result, TextHash::of("t"), &settings(), "now".into());
        let mut sum = DocumentUsage::new(&models);
        sum.add(&record(completed_result("a", 0, 1, "t", 3)));
        sum.add(&record(failed_result("a", 1, 1, "t")));
        let foreign =
            ChunkRecord { model: Some("free".into()), ..record(completed_result("a", 2, 1, "t", 3)) };
        sum.add(&foreign);
        let figures = serde_json::to_value(sum.into_figures()).unwrap();
        let expected = json!({
            "calls": 3, "input_tokens": 1500, "cached_tokens": 0, "output_tokens": 360,
            "reasoning_tokens": 0, "cost_usd": 0.0034,
        });
        assert_eq!(figures, expected);
    }

    #[test]
    fn estimated_tokens_are_told_apart() {
        let models = ModelTable::default();
        let mut result = completed_result("a", 0, 1, "t", 3);
        (result.usage.estimated_input_tokens, result.usage.estimated_output_tokens) = (500, 120);
        let mut sum = DocumentUsage::new(&models);
        for _ in 0..2 {
            sum.add(&ChunkRecord::from_result(&result, TextHash::of("t"), &settings(), "now".into()));
        }
        let figures = serde_json::to_value(sum.into_figures()).unwrap();
        assert_eq!(figures["estimated_input_tokens"], json!(1000));
        assert_eq!(figures["estimated_output_tokens"], json!(240));
    }

    #[test]
    fn a_cost_that_is_not_known_is_not_invented() {
        let models = ModelTable::default();
        let mut sum = DocumentUsage::new(&models);
        let record = ChunkRecord::from_result(
            &completed_result("a", 0, 1, "t", 3),
            TextHash::of("t"),
            &settings(),
            "now".into(),
        );
        sum.add(&ChunkRecord {
            provider: Some("openai".into()),
            model: Some("nobody-knows".into()),
            ..record
        });
        assert_eq!(sum.into_figures().unwrap().cost_usd, None);
        assert_eq!(DocumentUsage::new(&models).into_figures(), None);
    }
}
