//! From configuration to what a worker works with.

use std::sync::Arc;

use qa_shared::host;
use qa_shared::model::{InstanceId, PoolName};
use qa_shared::model_table::{ModelTable, Service};
use qa_shared::secret::Secret;

use crate::config::{ModelChoice, ServerSettings, Serving};
use crate::disposition::Limits;
use crate::driver::WorkerSetup;
use crate::llm::LlmErrorKind;
use crate::llm::client::Client;
use crate::llm::http::{HttpError, Timeouts};
use crate::llm::ollama::OllamaServer;
use crate::llm::remote::{RemoteServer, RemoteSettings};
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
    let table = Arc::new(serving.table.clone());
    let servers = serving
        .servers
        .iter()
        .map(|server| {
            let client = client(server, &table, timeouts)?;
            Ok(Arc::new(Server::new(client, server.slots)))
        })
        .collect::<Result<_, HttpError>>()?;
    let host = host::name();
    Ok(WorkerSetup {
        instance: InstanceId::new(&host, std::process::id(), rand::random()),
        host,
        servers,
        restrictions: Restrictions {
            pools: pools.to_vec(),
            models: models.iter().map(|model| (model.name.clone(), model.served.clone())).collect(),
        },
        pull: serving.pull,
        limits: Limits { attempts: serving.attempts, ..Limits::default() },
        task_timeout: serving.task_timeout,
        drain_timeout: serving.drain_timeout,
        tells_progress: true,
    })
}

/// Makes the client of one server; nothing is asked of it yet.
pub fn client(
    server: &ServerSettings,
    table: &Arc<ModelTable>,
    timeouts: Timeouts,
) -> Result<Client, HttpError> {
    let root_ca = server.root_ca.as_deref().map(str::as_bytes);
    if server.service == Service::Ollama {
        return Ok(Client::Ollama(
            OllamaServer::new(server.url.expose(), timeouts, root_ca)?.with_key(server.key.clone()),
        ));
    }
    let settings = RemoteSettings {
        service: server.service,
        url: Secret::new(server.url.expose()),
        key: server.key.clone(),
        limits: server.limits,
    };
    Ok(Client::Remote(RemoteServer::new(settings, Arc::clone(table), timeouts, root_ca)?))
}

/// Why no server of these can do anything for a job.
#[derive(Debug, thiserror::Error)]
pub enum UselessError {
    /// No client can be made.
    #[error(transparent)]
    Client(#[from] HttpError),
    /// Each of them refuses the key, or does not have the model.
    #[error("{0}")]
    Refused(String),
}

/// Asks services, and servers with OpenAI's API, whether they take the key and have the model: it costs nothing
/// and shows a mistake before anything is done. One that does not answer is not refused, since it may come.
pub async fn refuse_useless(serving: &Serving, model: &str) -> Result<(), UselessError> {
    let table = Arc::new(serving.table.clone());
    let mut refusals = Vec::new();
    for server in serving.servers.iter().filter(|server| server.service != Service::Ollama) {
        let client = client(server, &table, Timeouts::default())?;
        let answer = match client.inspect().await {
            Ok(_) => client.show(model).await.map(drop),
            Err(error) => Err(error),
        };
        match answer {
            Err(error) if matches!(error.kind, LlmErrorKind::KeyRefused | LlmErrorKind::ModelNotFound) => {
                refusals.push(error.message);
            }
            Ok(()) | Err(_) => return Ok(()),
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(UselessError::Refused(refusals.join("\n"))) }
}
