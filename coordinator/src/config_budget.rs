//! What a job may cost: prices, limits, and whether it is only to be estimated.

use std::sync::Arc;

use qa_shared::model::{GenerationSettings, NanoUsd, Price, Provider};
use qa_shared::model_table::ModelTable;
use qa_shared::settings::{Mistake, Reader, values};

use crate::cli_generate::BudgetArgs;
use crate::config_place::Place;
use crate::config_settings::{DETACH, MAX_COST, MAX_TOKENS_TOTAL};

/// Model calls per task at most, where workers elsewhere have to be told.
const CALLS_PER_TASK: u32 = 3;

/// What a job may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetConfig {
    /// Whether nothing is done, and only said what there is to do and what it may cost.
    pub dry_run: bool,
    /// What the job may cost with all its runs.
    pub max_cost: Option<NanoUsd>,
    /// Tokens that the job may use with all its runs, input and output together.
    pub max_tokens: Option<u64>,
    /// Model calls per task at most.
    pub calls_per_task: u32,
    /// What the model's tokens cost; absent where nobody said.
    pub price: Option<Price>,
    /// The table that the price is from.
    pub models: Arc<ModelTable>,
}

impl BudgetConfig {
    /// Whether there is anything that stops the job.
    pub fn is_limited(&self) -> bool {
        self.max_cost.is_some() || self.max_tokens.is_some()
    }

    /// The price, if tokens cost anything.
    pub fn real_price(&self) -> Option<Price> {
        self.price.filter(|price| !price.is_free())
    }
}

pub(crate) fn read(
    reader: &mut Reader<'_>,
    args: &BudgetArgs,
    settings: &GenerationSettings,
    place: &Place,
    models: ModelTable,
) -> BudgetConfig {
    let price = models.price(settings.provider, &settings.model);
    let expected = "an amount of US dollars above 0, such as 2.50";
    let max_cost = reader.parsed(&MAX_COST, args.max_cost.as_deref(), expected, dollars);
    let expected = "a whole number of at least 1";
    let max_tokens = reader.parsed(
        &MAX_TOKENS_TOTAL,
        args.max_tokens_total.as_deref(),
        expected,
        values::within(1..=u64::MAX),
    );
    let config = BudgetConfig {
        dry_run: args.dry_run,
        max_cost,
        max_tokens,
        calls_per_task: match place {
            Place::Local(place) => place.serving.attempts.max(1),
            Place::Fleet(_) => CALLS_PER_TASK,
        },
        price,
        models: Arc::new(models),
    };
    check(reader, &config, settings, place);
    config
}

fn check(reader: &mut Reader<'_>, config: &BudgetConfig, settings: &GenerationSettings, place: &Place) {
    // Whoever has not named a model yet has another mistake to correct first.
    if config.max_cost.is_some() && !settings.model.is_empty() {
        match config.price {
            None => reader.mistake(no_price(settings)),
            Some(price) if price.is_free() => {
                let model = &settings.model;
                reader
                    .note(format!("--max-cost stops nothing: by the table of models {model} costs nothing"));
            }
            Some(_) => {}
        }
    }
    if config.is_limited() && matches!(place, Place::Fleet(place) if place.detach) {
        let limit = if config.max_cost.is_some() { &MAX_COST } else { &MAX_TOKENS_TOTAL };
        let problem = format!("with {} somebody has to watch what is spent", limit.name());
        reader.mistake(Mistake::new(&DETACH, problem).remedy("leave out one of them"));
    }
}

fn no_price(settings: &GenerationSettings) -> Mistake {
    let service = match settings.provider {
        Provider::OpenAi => "openai",
        Provider::Claude => "claude",
        Provider::Gemini => "gemini",
        Provider::Local => "ollama",
    };
    let problem = format!("the price of {} model {} is not known", settings.provider, settings.model);
    Mistake::new(&MAX_COST, problem).remedy(format!(
        "give it in US dollars per million tokens: name a file with --model-table (QA_MODEL_TABLE) that holds \
         [{{\"service\": \"{service}\", \"model\": \"{}\", \"price\": {{\"input\": 1.25, \"output\": 10}}}}]",
        settings.model
    ))
}

fn dollars(text: &str) -> Option<NanoUsd> {
    let number: f64 = text.strip_prefix('$').unwrap_or(text).trim().parse().ok()?;
    NanoUsd::from_dollars(number).filter(|amount| *amount > NanoUsd(0))
}
