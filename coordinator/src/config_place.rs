//! Where the work is done: on this machine with a private queue, or by a fleet.
//!
//! With a NATS server the workers own servers and keys; whatever concerns them does not count here, and a
//! flag that says otherwise is a mistake.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use qa_shared::model::{GenerationSettings, PoolName, Provider};
use qa_shared::model_table::ModelTable;
use qa_shared::settings::{Mistake, NatsSettings, Reader};
use qa_worker::config::{Serving, Wanted, set_elsewhere};

use crate::cli_generate::GenerateArgs;
use crate::config_job::FLEET;
use crate::config_settings::{API_KEY, DETACH, LISTEN, LOCAL, NATS_SERVER, NATS_TOKEN, POOL};

/// NATS' own port.
const NATS_PORT: u16 = 4222;

/// Where the work is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// On this machine, with a private nats-server and an in-process worker.
    Local(LocalPlace),
    /// By the workers of a fleet.
    Fleet(FleetPlace),
}

/// Work on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalPlace {
    /// The address at which workers on other machines may join.
    pub listen: Option<SocketAddr>,
    /// The nats-server program; found on PATH if absent.
    pub nats_server: Option<PathBuf>,
    /// What the in-process worker serves.
    pub serving: Serving,
}

/// Work by a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPlace {
    /// How the queue is reached.
    pub nats: NatsSettings,
    /// Whether tasks stay queued when this process stops.
    pub detach: bool,
}

pub(crate) fn read(
    reader: &mut Reader<'_>,
    args: &GenerateArgs,
    provider: Provider,
    table: ModelTable,
) -> Place {
    let url_flag = args.nats.nats_url.as_deref().filter(|url| !url.trim().is_empty());
    if args.place.local && url_flag.is_some() {
        let mistake = Mistake::new(&LOCAL, "it contradicts --nats-url");
        reader.mistake(mistake.remedy("keep one of them"));
    }
    let url_from_elsewhere = reader.is_set(NatsSettings::url_setting());
    if args.place.local
        && let Some(origin) = url_from_elsewhere
    {
        reader.note(format!("--local: the NATS server {origin} is not used"));
    }
    let nats = if args.place.local { None } else { NatsSettings::read_with_replicas(reader, &args.nats) };
    if nats.is_none() && !args.place.local && reader.in_job(&FLEET).is_some_and(|found| found.value == "true")
    {
        let problem = "a fleet has worked on the job, and no NATS server is named";
        let ways = NatsSettings::url_setting().ways_to_set();
        let remedy = format!("name it with {ways}, or go on on this machine alone with --local");
        reader.mistake(Mistake::new(NatsSettings::url_setting(), problem).remedy(remedy));
    }
    match nats {
        Some(nats) => Place::Fleet(read_fleet(reader, args, nats)),
        None => Place::Local(read_local(reader, args, provider, table)),
    }
}

fn read_fleet(reader: &mut Reader<'_>, args: &GenerateArgs, nats: NatsSettings) -> FleetPlace {
    if args.place.listen.is_some() {
        let mistake = Mistake::new(&LISTEN, "it opens local mode's own queue, but a NATS server is named");
        reader.mistake(mistake.remedy("add --local, or leave it out: workers join the NATS server"));
    }
    if args.place.nats_server.is_some() {
        let mistake = Mistake::new(&NATS_SERVER, "it is for local mode, but a NATS server is named");
        reader.mistake(mistake.remedy("add --local, or leave it out"));
    }
    Serving::refuse_flags(reader, &args.serving);
    if args.generation.api_key.as_deref().is_some_and(|key| !key.trim().is_empty()) {
        let mistake = Mistake::new(&API_KEY, "with a NATS server the workers talk to the models");
        reader.mistake(mistake.remedy("give the key to qa-worker; secrets do not travel through the queue"));
    }
    let workers_own = set_elsewhere(reader);
    if !workers_own.is_empty() {
        let found = workers_own.join(", ");
        reader.note(format!("ignored because the workers talk to the models: what is set {found}"));
    }
    FleetPlace { nats, detach: args.place.detach }
}

fn read_local(
    reader: &mut Reader<'_>,
    args: &GenerateArgs,
    provider: Provider,
    table: ModelTable,
) -> LocalPlace {
    if args.place.detach {
        let problem = "only a NATS server that outlives this process can keep the tasks";
        reader.mistake(Mistake::new(&DETACH, problem).remedy("name one with --nats-url, or leave it out"));
    }
    if args.nats.nats_token.is_some() {
        let problem = "it is for a NATS server, but local mode has one of its own";
        reader.mistake(Mistake::new(&NATS_TOKEN, problem).remedy("add --nats-url, or leave it out"));
    }
    let key = reader.secret(&API_KEY, args.generation.api_key.as_deref());
    if key.is_some() && provider == Provider::Local {
        reader.note("--api-key is not used: local models need none");
    }
    Serving::refuse_others(reader, &args.serving, provider);
    let expected = "an address to listen on, such as 0.0.0.0:4222 or 4222";
    LocalPlace {
        listen: reader.parsed(&LISTEN, args.place.listen.as_deref(), expected, listen_address),
        nats_server: reader.path(&NATS_SERVER, args.place.nats_server.as_deref()),
        serving: Serving::read(reader, &args.serving, &[], table, &Wanted::Only(provider, key)),
    }
}

/// `IP:PORT`, or one of both; without an IP all interfaces are meant.
fn listen_address(text: &str) -> Option<SocketAddr> {
    let all_interfaces = IpAddr::from([0, 0, 0, 0]);
    let text = text.replace("localhost", "127.0.0.1");
    let port_only = text.strip_prefix(':').unwrap_or(&text).parse().ok();
    let address = match port_only {
        Some(port) => Some(SocketAddr::new(all_interfaces, port)),
        None => text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, NATS_PORT))),
    };
    address.filter(|address| address.port() > 0)
}

pub(crate) fn read_pool(
    reader: &mut Reader<'_>,
    flag: Option<&str>,
    settings: &GenerationSettings,
) -> PoolName {
    let expected = "the name of one pool, without commas";
    let named =
        reader.parsed(&POOL, flag, expected, |text| (!text.contains(',')).then(|| PoolName::new(text)));
    named.unwrap_or_else(|| settings.provider.pool(&settings.model))
}
