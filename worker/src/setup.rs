//! From configuration to what a worker works with.

use std::sync::Arc;

use qa_shared::host;
use qa_shared::model::{InstanceId, PoolName, Provider, normalised_model};

use crate::config::{ModelChoice, Serving};
use crate::disposition::Limits;
use crate::driver::WorkerSetup;
use crate::llm::http::{HttpError, Timeouts};
use crate::llm::ollama::OllamaServer;
use crate::pools::Restrictions;
use crate::server::Server;

/// Makes a worker's set-up; nothing is asked of any server yet.
pub fn worker_setup(
    serving: &Serving,
    models: &[ModelChoice],
    pools: &[PoolName],
) -> Result<WorkerSetup, HttpError> {
    let timeouts =
        Timeouts { request: serving.request_timeout, idle: serving.idle_timeout, ..Timeouts::default() };
    let servers = serving
        .servers
        .iter()
        .map(|server| {
            let client = OllamaServer::new(server.url.expose(), timeouts, None)?;
            Ok(Arc::new(Server::new(client, server.slots)))
        })
        .collect::<Result<_, HttpError>>()?;
    let normal = |name: &str| normalised_model(Provider::Local, name);
    let host = host::name();
    Ok(WorkerSetup {
        instance: InstanceId::new(&host, std::process::id(), rand::random()),
        host,
        servers,
        restrictions: Restrictions {
            pools: pools.to_vec(),
            models: models.iter().map(|model| (normal(&model.name), normal(&model.served))).collect(),
        },
        pull: serving.pull,
        limits: Limits { attempts: serving.attempts, ..Limits::default() },
        task_timeout: serving.task_timeout,
        drain_timeout: serving.drain_timeout,
        tells_progress: true,
    })
}
