//! The worker: pulls tasks, generates pairs with an LLM, publishes results. Stateless; any number may run.
//!
//! [`process`] turns one task into pairs;
//! [`prompt`], [`answer`] and [`disposition`] are pure. HTTP is spoken in [`llm`] only.

pub mod answer;
pub mod disposition;
mod json_salvage;
pub mod llm;
mod pair_check;
pub mod process;
pub mod prompt;
