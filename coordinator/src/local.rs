//! One machine: a private nats-server as a child and an in-process worker; the same code path as a fleet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use qa_shared::nats_server::{
    FindError, FoundServer, Listen, PrivateServer, ServerConfig, StartError, SuperviseError,
    find_nats_server, supervise,
};
use qa_shared::queue::ConnectOptions;
use qa_shared::secret::Secret;
use qa_shared::settings::{HIDDEN_ARGUMENTS, variables};
use tokio::process::Command;

/// Why local mode has no queue.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no nats-server to run.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// This program's own path is not known.
    #[error("this program's own path is not known: {0}")]
    OwnPath(std::io::Error),
}

/// A private queue.
pub(crate) struct PrivateQueue {
    pub(crate) server: PrivateServer,
    pub(crate) options: ConnectOptions,
    /// The line with which other machines' workers join, if it listens for them.
    pub(crate) invitation: Option<String>,
}

/// The nats-server to run: the one that is set, else the first on the search path or beside this program.
pub(crate) async fn find(
    setting: Option<&Path>,
    search_path: Option<&std::ffi::OsStr>,
) -> Result<FoundServer, LocalError> {
    let own_path = std::env::current_exe().map_err(LocalError::OwnPath)?;
    let directories = std::env::split_paths(search_path.unwrap_or_default());
    let places = directories.chain(own_path.parent().map(Path::to_owned));
    // A directory whose name cannot be part of a search path is not one.
    let places = std::env::join_paths(places).unwrap_or_else(|_| search_path.unwrap_or_default().to_owned());
    Ok(find_nats_server(setting, Some(&places)).await?)
}

/// Starts the private server in the job folder.
pub(crate) async fn start(
    directory: &Path,
    found: &FoundServer,
    listen: Option<SocketAddr>,
    host: &str,
) -> Result<PrivateQueue, LocalError> {
    let token = Secret::new(format!("{:032x}", rand::random::<u128>()));
    let mut config = ServerConfig::private(directory);
    config.token = Some(token.clone());
    if let Some(address) = listen {
        config.listen =
            Listen { address: address.ip(), port: Some(address.port()).filter(|port| *port != 0) };
    }
    let own_path = std::env::current_exe().map_err(LocalError::OwnPath)?;
    let mut supervisor = Command::new(own_path);
    // A path may begin with a hyphen.
    supervisor.args(["nats-supervisor", "--"]).arg(&found.path);
    // The queue has no use for keys, and its processes live longer than it takes to look at them.
    for secret in variables::ALL.iter().filter(|variable| variable.is_secret()) {
        supervisor.env_remove(secret.name());
    }
    supervisor.env_remove(HIDDEN_ARGUMENTS);
    let server = PrivateServer::start(directory, config, supervisor).await?;
    tracing::debug!(version = %found.version, path = %found.path.display(), port = server.port(), "private nats-server");
    let invitation = listen.map(|address| {
        let shown = if address.ip().is_unspecified() { host.to_owned() } else { address.ip().to_string() };
        format!("QA_NATS_TOKEN={} qa-worker --nats-url nats://{shown}:{}", token.expose(), server.port())
    });
    let options = ConnectOptions {
        url: server.url(),
        name: "qa-coordinator".to_owned(),
        token: Some(token),
        ..ConnectOptions::default()
    };
    Ok(PrivateQueue { server, options, invitation })
}

/// The supervising process: runs a nats-server until its parent is gone.
pub async fn supervise_nats(program: PathBuf, config: PathBuf, lock: PathBuf) -> Result<(), SuperviseError> {
    supervise(&program, &config, &lock).await
}
