//! The worker: pulls tasks, generates pairs with an LLM, publishes results. Stateless; any number may run.
//!
//! [`driver`] runs it. `attend` takes one delivery from begin to end, [`process`] turns one task into pairs;
//! [`prompt`], [`answer`], [`disposition`], [`pools`], [`concurrency`] and [`context`] are pure. HTTP is spoken in [`llm`] only.

pub mod answer;
pub mod assigner;
mod attend;
mod blame;
pub mod breaker;
pub mod check;
pub mod cli;
pub mod commands;
pub mod concurrency;
pub mod config;
mod config_servers;
pub mod context;
pub mod disposition;
pub mod driver;
pub mod exit;
mod heartbeat;
mod json_salvage;
pub mod llm;
mod metrics;
mod outside_reasoning;
mod pair_check;
pub mod pools;
mod presence_size;
pub mod process;
pub mod progress;
pub mod prompt;
mod reasoning;
mod running;
mod second_round;
pub mod server;
pub mod setup;
pub mod slots;
mod trace;
mod written;
