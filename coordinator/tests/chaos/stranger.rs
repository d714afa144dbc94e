//! What operators and strangers do to a queue while a job goes on. Each says whether it hit something: a queue server
//! that is away cannot be interfered with.

use std::time::Duration;

use qa_shared::model::PoolName;
use qa_shared::testing::NatsOperator;

use crate::queue_server::QueueServer;
use crate::schedule::{Fault, Part};
use crate::site::Site;

/// How long one of them tries.
const LIMIT: Duration = Duration::from_secs(3);
/// Messages that a stranger withholds at most.
const WITHHELD: usize = 5;
/// Messages of each kind that are noise.
const NOISE: u32 = 20;

pub(crate) async fn interferes(queue: &QueueServer, site: &Site, fault: Fault) -> bool {
    let acting = async {
        let Some(operator) = NatsOperator::connect(&queue.nats).await else { return false };
        match fault {
            Fault::LosePart(part) if part.is_consumers() => {
                operator.delete_consumers(part.stream()).await > 0
            }
            Fault::LosePart(part) => operator.loses_stream(part.stream()).await,
            Fault::Pause(part) => operator.pause_consumers(part.stream()).await > 0,
            Fault::Withhold(part) => operator.withholds(part.stream(), WITHHELD).await > 0,
            Fault::Noise => noise(&operator, site).await,
            _ => false,
        }
    };
    tokio::time::timeout(LIMIT, acting).await.unwrap_or(false)
}

/// Messages under the subjects of the job, of another job, and of none.
async fn noise(operator: &NatsOperator, site: &Site) -> bool {
    if !site.job_folder().join("job.json").exists() {
        return false;
    }
    let (job, pool) = (site.job(), PoolName::new("ollama/qwen3:8b").token());
    let mut stored = 0;
    for number in 0..NOISE {
        for (part, subject) in [
            (Part::Tasks, format!("qa.task.v1.{pool}.noise.{number}")),
            (Part::Results, format!("qa.result.v1.{job}.noise.{number}.1")),
            (Part::Presence, format!("$KV.QA_PRESENCE.worker.noise-{number}")),
            (Part::Jobs, format!("$KV.QA_JOBS.{number:012x}")),
        ] {
            stored += u32::from(operator.stores(part.stream(), subject, b"{\"v\":1,\"body\":7}").await);
        }
    }
    stored > 0
}
