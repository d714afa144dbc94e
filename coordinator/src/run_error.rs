//! Why a command could not begin or go on, with the exit code that says so.

use std::fmt;

use qa_shared::nats_server::ServerFailure;

use crate::exit::ExitCode;
use crate::files::{CombineError, PlaceError};
use crate::plan::PlanError;

/// An error for the user.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RunError {
    pub(crate) code: ExitCode,
    pub(crate) message: String,
}

impl RunError {
    pub(crate) fn new(code: ExitCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn files(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Files, message)
    }

    pub(crate) fn queue(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Queue, message)
    }
}

impl From<ServerFailure> for RunError {
    fn from(failure: ServerFailure) -> Self {
        match failure {
            ServerFailure::Died(words) => {
                Self::queue(format!("the private nats-server ended: {words}; go on with --resume"))
            }
            ServerFailure::CannotWrite(words) => Self::files(format!(
                "the private nats-server cannot write any more: {words}; see that its disk has room and can be \
                 written, then go on with --resume"
            )),
        }
    }
}

impl From<PlanError> for RunError {
    fn from(error: PlanError) -> Self {
        let code = match &error {
            PlanError::NoChunkFiles { .. }
            | PlanError::NothingFinished { .. }
            | PlanError::OutputExists { .. }
            | PlanError::SameOutput { .. }
            | PlanError::SameToken { .. }
            | PlanError::ReservedName { .. }
            | PlanError::SettingsChanged { .. } => ExitCode::Configuration,
            PlanError::File(_) | PlanError::Folder(_) | PlanError::Journal(_) => ExitCode::Files,
        };
        Self::new(code, error)
    }
}

impl From<PlaceError> for RunError {
    fn from(error: PlaceError) -> Self {
        Self::new(ExitCode::Configuration, error)
    }
}

impl From<CombineError> for RunError {
    fn from(error: CombineError) -> Self {
        let code = match &error {
            CombineError::NotOurs { .. } | CombineError::Place(_) => ExitCode::Configuration,
            CombineError::Nothing { .. } => ExitCode::Failures,
            CombineError::File(_) | CombineError::Changed { .. } => ExitCode::Files,
        };
        Self::new(code, error)
    }
}
