//! The settings of the connection to NATS: address, who we are, certificates.
//!
//! It must not connect; [`crate::queue`] does.

use std::path::PathBuf;

use super::address::Address;
use super::args::NatsArgs;
use super::errors::Mistake;
use super::reader::Reader;
use super::setting::Setting;
use super::source::Found;
use super::{values, variables};
use crate::secret::Secret;

static NATS_URL: Setting = Setting::new("--nats-url", &[&variables::QA_NATS_URL]);
static TOKEN: Setting = Setting::new("--nats-token", &[&variables::QA_NATS_TOKEN]);
static TOKEN_FILE: Setting = Setting::variable(&[&variables::QA_NATS_TOKEN_FILE]);
static USER: Setting = Setting::variable(&[&variables::QA_NATS_USER]);
static PASSWORD: Setting = Setting::variable(&[&variables::QA_NATS_PASSWORD]);
static PASSWORD_FILE: Setting = Setting::variable(&[&variables::QA_NATS_PASSWORD_FILE]);
static CREDS: Setting = Setting::variable(&[&variables::QA_NATS_CREDS]);
static NKEY_SEED_FILE: Setting = Setting::variable(&[&variables::QA_NATS_NKEY_SEED_FILE]);
static CA: Setting = Setting::variable(&[&variables::QA_NATS_CA]);
static CERT: Setting = Setting::variable(&[&variables::QA_NATS_CERT]);
static REPLICAS: Setting = Setting::variable(&[&variables::QA_NATS_REPLICAS]);
static MAX_BYTES: Setting = Setting::variable(&[&variables::QA_NATS_MAX_BYTES]);
static DOMAIN: Setting = Setting::variable(&[&variables::QA_NATS_DOMAIN]);
static KEY: Setting = Setting::variable(&[&variables::QA_NATS_KEY]);

/// A stream that holds less than this takes no large message, in bytes.
const LEAST_MAX_BYTES: u64 = 1 << 20;
/// The largest size that a server understands.
const MOST_MAX_BYTES: u64 = i64::MAX as u64;

/// How the queue is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// One or several servers of one cluster, separated by commas, each with its scheme.
    pub url: Address,
    /// Who we are.
    pub auth: NatsAuth,
    /// Certificates.
    pub tls: NatsTls,
    /// How many servers hold each stream, where that is set.
    pub replicas: Option<usize>,
    /// How many bytes each stream may hold, where that is set.
    pub max_bytes: Option<u64>,
    /// The JetStream domain of the streams, where it is not the server's own.
    pub domain: Option<String>,
}

/// Who we are to the NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsAuth {
    /// Nobody in particular, or what the address says.
    None,
    /// Whoever knows this token.
    Token(Secret),
    /// A user with a password.
    User {
        /// The name.
        name: String,
        /// The password.
        password: Secret,
    },
    /// A credentials file.
    Credentials(PathBuf),
    /// An NKey seed, read from its file.
    NkeySeed(Secret),
}

/// Certificates in PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// What the server's certificate is checked against, instead of the usual ones.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl NatsSettings {
    /// The setting that holds the address, for rules that concern it.
    pub fn url_setting() -> &'static Setting {
        &NATS_URL
    }

    /// Reads them; `None` without an address, in which case nothing else is looked at.
    pub fn read(reader: &mut Reader<'_>, args: &NatsArgs) -> Option<Self> {
        let found = reader.word(&NATS_URL, args.nats_url.as_deref())?;
        let url = normalised(&found).unwrap_or_else(|| {
            let expected =
                "an address such as nats://host:4222 (also tls://, ws:// and wss://; all of one kind)";
            reader.mistake(Mistake::value(&NATS_URL, &found, expected));
            Address::new("")
        });
        Some(Self::of(url, reader, args))
    }

    /// Reads them for a coordinator of a fleet: it is the one that makes streams.
    pub fn read_with_replicas(reader: &mut Reader<'_>, args: &NatsArgs) -> Option<Self> {
        let expected = "a whole number from 1 to 5";
        let replicas = reader.parsed(&REPLICAS, None, expected, values::within(1..=5));
        let expected = "a size of at least 1M, such as 500M or 2G";
        let max_bytes = reader.parsed(&MAX_BYTES, None, expected, |text| {
            values::bytes(text).filter(|bytes| (LEAST_MAX_BYTES..=MOST_MAX_BYTES).contains(bytes))
        });
        Some(Self { replicas, max_bytes, ..Self::read(reader, args)? })
    }

    /// Reads them with a worker's default address.
    pub fn read_or_local(reader: &mut Reader<'_>, args: &NatsArgs) -> Self {
        Self::read(reader, args)
            .unwrap_or_else(|| Self::of(Address::new("nats://127.0.0.1:4222"), reader, args))
    }

    fn of(url: Address, reader: &mut Reader<'_>, args: &NatsArgs) -> Self {
        let (auth, tls) = (read_auth(reader, args), read_tls(reader));
        let expected = "the name of a JetStream domain, without dots, blanks and wildcards";
        let domain = reader.parsed(&DOMAIN, None, expected, |text| {
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '.' | '*' | '>');
            (!text.is_empty() && text.chars().all(is_plain)).then(|| text.to_owned())
        });
        Self { url, auth, tls, replicas: None, max_bytes: None, domain }
    }
}

fn read_auth(reader: &mut Reader<'_>, args: &NatsArgs) -> NatsAuth {
    let token = reader.secret(&TOKEN, args.nats_token.as_deref());
    let token_file = reader.secret_file(&TOKEN_FILE);
    let user = reader.word(&USER, None);
    let password = reader.secret(&PASSWORD, None);
    let password_file = reader.secret_file(&PASSWORD_FILE);
    let credentials = reader.existing_file(&CREDS, None);
    let seed = reader.secret_file(&NKEY_SEED_FILE);

    if token.is_some() && token_file.is_some() {
        reader.mistake(Mistake::new(&TOKEN_FILE, "QA_NATS_TOKEN is set too").remedy("keep one of them"));
    }
    if password.is_some() && password_file.is_some() {
        reader
            .mistake(Mistake::new(&PASSWORD_FILE, "QA_NATS_PASSWORD is set too").remedy("keep one of them"));
    }
    let token = token.or(token_file);
    let password = password.or(password_file);
    if user.is_some() != password.is_some() {
        let (found, missing) = if user.is_some() { (&USER, &PASSWORD) } else { (&PASSWORD, &USER) };
        let problem = format!("{} is not set", missing.name());
        reader.mistake(Mistake::new(found, problem).remedy("set both or none"));
    }

    let ways = [
        (token.is_some(), "a token"),
        (user.is_some(), "a user"),
        (credentials.is_some(), "QA_NATS_CREDS"),
        (seed.is_some(), "QA_NATS_NKEY_SEED_FILE"),
    ];
    let set: Vec<_> = ways.iter().filter(|(is_set, _)| *is_set).map(|(_, way)| *way).collect();
    if set.len() > 1 {
        let problem = format!("there is more than one way to log in: {}", set.join(", "));
        reader.mistake(Mistake::new(&NATS_URL, problem).remedy("keep one of them"));
    }
    if let Some(token) = token {
        NatsAuth::Token(token)
    } else if let (Some(user), Some(password)) = (user, password) {
        NatsAuth::User { name: user.value, password }
    } else if let Some(path) = credentials {
        NatsAuth::Credentials(path)
    } else if let Some(seed) = seed {
        NatsAuth::NkeySeed(seed)
    } else {
        NatsAuth::None
    }
}

fn read_tls(reader: &mut Reader<'_>) -> NatsTls {
    let (cert_is_set, key_is_set) = (reader.is_set(&CERT).is_some(), reader.is_set(&KEY).is_some());
    if cert_is_set != key_is_set {
        let (found, missing) = if cert_is_set { (&CERT, &KEY) } else { (&KEY, &CERT) };
        let problem = format!("{} is not set", missing.name());
        reader.mistake(Mistake::new(found, problem).remedy("set both or none"));
    }
    let ca = reader.existing_file(&CA, None);
    let client = reader.existing_file(&CERT, None).zip(reader.existing_file(&KEY, None));
    NatsTls { ca, client }
}

/// Each address with its scheme; `None` if one is no address of a NATS server.
fn normalised(found: &Found) -> Option<Address> {
    let mut over_web = Vec::new();
    let addresses: Option<Vec<String>> = values::comma_list(&found.value)
        .into_iter()
        .map(|address| {
            let (scheme, rest) = address.split_once("://").unwrap_or(("nats", address));
            let scheme = scheme.to_ascii_lowercase();
            let host_and_port = rest.rsplit('@').next().unwrap_or(rest).trim_end_matches('/');
            let port_is_valid = match host_and_port.rsplit_once(':') {
                Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
                _ => true,
            };
            let host_is_valid = !host_and_port.is_empty()
                && !host_and_port.starts_with(':')
                && !host_and_port.contains(|c: char| c.is_whitespace() || c == '/');
            let scheme_is_valid = ["nats", "tls", "ws", "wss"].contains(&scheme.as_str());
            over_web.push(scheme.starts_with("ws"));
            (scheme_is_valid && host_is_valid && port_is_valid)
                .then(|| format!("{scheme}://{}", rest.trim_end_matches('/')))
        })
        .collect();
    // The client connects to servers of one kind.
    let is_mixed = over_web.iter().any(|web| *web != over_web[0]);
    addresses
        .filter(|addresses| !addresses.is_empty() && !is_mixed)
        .map(|addresses| Address::new(addresses.join(",")))
}
