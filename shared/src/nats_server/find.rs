//! Which nats-server to run: the one that is set, or the first on the search path that is new enough.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::queue::ServerVersion;
use crate::queue::topology::MIN_SERVER_VERSION;

/// How long a program may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A nats-server that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: ServerVersion,
}

/// Why there is no nats-server to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// None was set, and none is on the search path.
    #[error(
        "no nats-server found on PATH or beside this program: install version {MIN_SERVER_VERSION} or newer, \
         or set QA_NATS_SERVER to its path, or use a server that runs already (--nats-url)"
    )]
    NotFound,
    /// Those that were found are too old or do not run.
    #[error(
        "no usable nats-server: {}; install version {MIN_SERVER_VERSION} or newer, \
         or set QA_NATS_SERVER to its path", .0.join("; ")
    )]
    Unusable(Vec<String>),
}

/// Finds nats-server: `setting` if it is given (then nothing else), otherwise the directories of `search_path`
/// (the value of `PATH`) in their order.
pub async fn find_nats_server(
    setting: Option<&Path>,
    search_path: Option<&OsStr>,
) -> Result<FoundServer, FindError> {
    let candidates: Vec<PathBuf> = match setting {
        Some(path) => vec![path.to_owned()],
        None => std::env::split_paths(search_path.unwrap_or_default())
            .map(|directory| directory.join("nats-server"))
            .filter(|path| path.is_file())
            .collect(),
    };
    if candidates.is_empty() {
        return Err(FindError::NotFound);
    }
    let mut unusable = Vec::new();
    for path in candidates {
        match version(&path).await {
            Ok(version) if version >= MIN_SERVER_VERSION => return Ok(FoundServer { path, version }),
            Ok(version) => unusable.push(format!("{} has version {version}", path.display())),
            Err(reason) => unusable.push(format!("{} {reason}", path.display())),
        }
    }
    Err(FindError::Unusable(unusable))
}

async fn version(path: &Path) -> Result<ServerVersion, String> {
    let running = Command::new(path).arg("--version").kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_LIMIT, running)
        .await
        .map_err(|_| "does not tell its version in time".to_owned())?
        .map_err(|error| format!("does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .find_map(ServerVersion::parse)
        .ok_or_else(|| format!("tells no version but `{}`", text.trim().chars().take(80).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another process writes it: this one could have it open for writing in the child that another test is just
    /// starting, and nobody can run a program that is being written.
    fn program(directory: &Path, says: &str) {
        let write = r#"printf '#!/bin/sh\necho "%s"\n' "$1" > "$0" && chmod 755 "$0""#;
        let path = directory.join("nats-server");
        let written = std::process::Command::new("sh").arg("-c").arg(write).arg(path).arg(says).status();
        assert!(written.unwrap().success());
    }

    #[tokio::test]
    async fn the_first_program_that_is_new_enough_is_taken() {
        let (old, new) = (crate::testing::temporary_folder(), crate::testing::temporary_folder());
        program(old.path(), "nats-server: v2.9.10");
        program(new.path(), "nats-server: v2.15.1");
        let search_path = std::env::join_paths([old.path(), new.path()]).unwrap();
        let found = find_nats_server(None, Some(&search_path)).await.unwrap();
        assert_eq!(found.path, new.path().join("nats-server"));
        assert_eq!(found.version, ServerVersion::new(2, 15, 1));
    }

    #[tokio::test]
    async fn an_old_one_is_named_with_its_version() {
        let old = crate::testing::temporary_folder();
        program(old.path(), "nats-server: v2.9.10");
        let error = find_nats_server(None, Some(old.path().as_os_str())).await.unwrap_err().to_string();
        assert!(error.contains("2.9.10") && error.contains("2.12.0"), "{error}");
    }

    #[tokio::test]
    async fn a_setting_that_does_not_run_is_an_error_and_not_skipped() {
        let new = crate::testing::temporary_folder();
        program(new.path(), "nats-server: v2.15.1");
        let set = new.path().join("missing");
        let error = find_nats_server(Some(&set), Some(new.path().as_os_str())).await.unwrap_err();
        assert!(error.to_string().contains("missing does not run"), "{error}");
        assert!(matches!(find_nats_server(None, None).await, Err(FindError::NotFound)));
    }
}
