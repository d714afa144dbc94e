//! The helpers of the end-to-end tests: sites with documents, and real programs that work on them.
#![allow(dead_code, reason = "no benchmark needs all that the tests need")]

#[path = "../../tests/e2e/checker.rs"]
pub(crate) mod checker;
#[path = "../../tests/e2e/command_line.rs"]
pub(crate) mod command_line;
#[path = "../../tests/e2e/documents.rs"]
pub(crate) mod documents;
#[path = "../../tests/e2e/processes.rs"]
pub(crate) mod processes;
#[path = "../../tests/e2e/programs.rs"]
pub(crate) mod programs;
#[path = "../../tests/e2e/site.rs"]
pub(crate) mod site;
