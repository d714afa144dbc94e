//! The coordinator: decides which chunk is asked for when, and owns the files. It never calls a model.
//!
//! [`core`] decides (pure), `driver` turns what happens into its events, `perform` does what it asks for.
//! [`files`] is the only code that touches files. `run` is the main job from begin to end.

mod aftermath;
mod cancel;
pub mod changes;
pub mod cli;
pub mod cli_generate;
mod combine;
pub mod commands;
mod conclude;
pub mod config;
mod config_budget;
mod config_error;
mod config_generation;
mod config_place;
mod config_run;
mod config_settings;
pub mod core;
mod crew;
mod done;
mod driver;
mod dry_run;
mod estimate;
mod event_watch;
pub mod exit;
pub mod files;
mod fleet_watch;
mod format;
mod ground;
mod guard;
pub mod happening;
mod intake;
mod lease;
pub mod local;
mod perform;
pub mod plan;
mod plan_documents;
mod plan_error;
mod plan_input;
mod progress;
mod publisher;
mod reconcile;
mod recorder;
mod replay;
mod report;
mod report_forecast;
mod run;
mod run_error;
mod sample;
mod snapshots;
mod speed;
mod status;
mod summary;
mod unconfirmed;
mod view;
