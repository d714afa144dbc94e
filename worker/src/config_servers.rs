//! Which LLM servers are worked for: Ollama and other servers of one's own by their addresses, providers'
//! services by their keys.
//!
//! It must not connect to anything.

use std::collections::HashMap;
use std::fmt;

use qa_shared::base_url::{BaseUrlError, normalise_api_url, normalise_base_url, server_identity};
use qa_shared::model::Provider;
use qa_shared::model_table::Service;
use qa_shared::secret::Secret;
use qa_shared::settings::{Address, Mistake, Origin, Reader, Setting, values, variables};

use crate::cli::ServingArgs;
use crate::llm::http::check_root_certificates;
use crate::llm::rate_limit::PerMinute;

pub(crate) static OLLAMA_BASE_URL: Setting =
    Setting::new("--ollama-base-url", &[&variables::OLLAMA_BASE_URL]);
pub(crate) static OPENAI_BASE_URL: Setting =
    Setting::new("--openai-base-url", &[&variables::OPENAI_BASE_URL]);
pub(crate) static CONCURRENCY: Setting = Setting::new("--concurrency", &[&variables::QA_CONCURRENCY]);
pub(crate) static ACCOUNT_CONCURRENCY: Setting =
    Setting::new("--account-concurrency", &[&variables::QA_ACCOUNT_CONCURRENCY]);
pub(crate) static REQUESTS_PER_MINUTE: Setting =
    Setting::new("--requests-per-minute", &[&variables::QA_REQUESTS_PER_MINUTE]);
pub(crate) static TOKENS_PER_MINUTE: Setting =
    Setting::new("--tokens-per-minute", &[&variables::QA_TOKENS_PER_MINUTE]);
static ANTHROPIC_BASE_URL: Setting = Setting::variable(&[&variables::ANTHROPIC_BASE_URL]);
static GEMINI_BASE_URL: Setting = Setting::variable(&[&variables::GEMINI_BASE_URL]);
static LLM_CA: Setting = Setting::variable(&[&variables::QA_LLM_CA]);
static PROVIDERS: Setting = Setting::new("--providers", &[&variables::QA_PROVIDERS]);
static OLLAMA_KEY: Setting = Setting::variable(&[&variables::OLLAMA_API_KEY]);
static OLLAMA_KEY_FILE: Setting = Setting::variable(&[&variables::OLLAMA_API_KEY_FILE]);
static OPENAI_KEY: Setting = Setting::variable(&[&variables::OPENAI_API_KEY]);
static OPENAI_KEY_FILE: Setting = Setting::variable(&[&variables::OPENAI_API_KEY_FILE]);
static CLAUDE_KEY: Setting = Setting::variable(&[&variables::ANTHROPIC_API_KEY, &variables::CLAUDE_API_KEY]);
static CLAUDE_KEY_FILE: Setting = Setting::variable(&[&variables::ANTHROPIC_API_KEY_FILE]);
static GEMINI_KEY: Setting = Setting::variable(&[&variables::GEMINI_API_KEY, &variables::GOOGLE_API_KEY]);
static GEMINI_KEY_FILE: Setting = Setting::variable(&[&variables::GEMINI_API_KEY_FILE]);

/// OpenAI's own address.
const OPENAI: &str = "https://api.openai.com/v1";
/// Slots that one server or account may have at most.
const MOST_SLOTS: u32 = 256;

/// One LLM server, or one provider's account.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// Whose API it speaks.
    pub service: Service,
    /// Its address in the form of [`normalise_base_url`] or [`normalise_api_url`].
    pub url: Address,
    /// The account's key, or that of a gateway.
    pub key: Option<Secret>,
    /// Requests in flight.
    pub slots: Slots,
    /// Certificates of authorities (PEM) to trust besides the system's.
    pub root_ca: Option<String>,
    /// The account's limits as the user set them.
    pub limits: PerMinute,
}

/// How many requests are kept in flight at one server or account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// As many as turn out to be best.
    Auto,
    /// Always so many, 1 to 256.
    Fixed(u32),
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(number) => write!(f, "{number}"),
        }
    }
}

impl Slots {
    fn parse(text: &str) -> Option<Self> {
        if text.trim().eq_ignore_ascii_case("auto") {
            return Some(Self::Auto);
        }
        values::within(1..=MOST_SLOTS)(text).map(Self::Fixed)
    }
}

/// Which of the servers that are set are meant.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Each provider whose key or address is set, and Ollama on this machine if there is none; `--providers`
    /// says otherwise.
    Configured,
    /// Those of one provider, perhaps with a key from the command line.
    Only(Provider, Option<Secret>),
}

/// Reads the servers; none for a provider that has neither key nor address.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    args: &ServingArgs,
    providers: &[String],
    wanted: &Wanted,
) -> Vec<ServerSettings> {
    let (providers, key_flag) = match wanted {
        Wanted::Only(provider, key) => (Some(vec![*provider]), key.clone()),
        Wanted::Configured => (read_providers(reader, providers), None),
    };
    let wants = |provider| providers.as_ref().is_none_or(|wanted| wanted.contains(&provider));
    let mut own: Vec<ServerSettings> = Vec::new();
    let mut hosted = Vec::new();
    if wants(Provider::OpenAi) {
        let key = key_flag.clone().or_else(|| read_key(reader, &OPENAI_KEY, &OPENAI_KEY_FILE));
        let urls = read_urls(reader, &OPENAI_BASE_URL, &args.openai_base_url, |text| {
            normalise_api_url(text, "/v1", true)
        });
        let (theirs, mine): (Vec<_>, Vec<_>) = urls.iter().partition(|url| is_openai(url.expose()));
        if !theirs.is_empty() && !mine.is_empty() && key.is_some() {
            let problem = "OpenAI's own address stands beside others, which would get its key";
            let remedy = "name either OpenAI's or those of your own; another worker can serve the rest";
            reader.mistake(Mistake::new(&OPENAI_BASE_URL, problem).remedy(remedy));
        }
        for url in urls {
            if is_openai(url.expose()) {
                hosted.extend(key.clone().map(|key| server(Service::OpenAi, url, Some(key))));
            } else {
                own.push(server(Service::Compatible, url, key.clone()));
            }
        }
        let has_urls = !args.openai_base_url.is_empty() || reader.is_set(&OPENAI_BASE_URL).is_some();
        if let (Some(key), false) = (key, has_urls) {
            hosted.push(server(Service::OpenAi, Address::new(OPENAI), Some(key)));
        }
    }
    let services = [
        (Provider::Claude, Service::Claude, &CLAUDE_KEY, &CLAUDE_KEY_FILE, &ANTHROPIC_BASE_URL, "/v1"),
        (Provider::Gemini, Service::Gemini, &GEMINI_KEY, &GEMINI_KEY_FILE, &GEMINI_BASE_URL, "/v1beta"),
    ];
    for (provider, service, key, key_file, url, version) in services {
        if !wants(provider) {
            continue;
        }
        let key = key_flag.clone().or_else(|| read_key(reader, key, key_file));
        let urls = read_urls(reader, url, &[], |text| normalise_api_url(text, version, false));
        if let (Some(key), Some(url)) = (key, urls.into_iter().next()) {
            hosted.push(server(service, url, Some(key)));
        }
    }
    if wants(Provider::Local) {
        let is_named = providers.is_some()
            || !args.ollama_base_url.is_empty()
            || reader.is_set(&OLLAMA_BASE_URL).is_some();
        if is_named || (own.is_empty() && hosted.is_empty()) {
            let key = read_key(reader, &OLLAMA_KEY, &OLLAMA_KEY_FILE);
            let urls = ollama_urls(reader, &args.ollama_base_url);
            note_both_apis(reader, &urls, &own);
            own.splice(0..0, urls.into_iter().map(|url| server(Service::Ollama, url, key.clone())));
        } else {
            reader.note(
                "Ollama is not served, since other providers are set and it is not: name it with \
                 --ollama-base-url or --providers if it should be",
            );
        }
    }
    set_slots(reader, args, &mut own, &mut hosted);
    let mut servers = own;
    servers.append(&mut hosted);
    set_limits(reader, args, &mut servers);
    let root_ca = read_root_ca(reader);
    for server in &mut servers {
        server.root_ca.clone_from(&root_ca);
    }
    servers
}

/// A server that is named for both APIs has tasks of two pools, and slots for each.
fn note_both_apis(reader: &mut Reader<'_>, ollama: &[Address], others: &[ServerSettings]) {
    for url in ollama {
        let identity = server_identity(url.expose());
        if others.iter().any(|other| server_identity(other.url.expose()) == identity) {
            reader.note(format!(
                "{url} is named as an Ollama server and as one with OpenAI's API: its slots count twice; name it once"
            ));
        }
    }
}

/// Whether an address is one of OpenAI's own, of which some are regional.
fn is_openai(url: &str) -> bool {
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| host == "api.openai.com" || host.ends_with(".api.openai.com"))
}

fn read_root_ca(reader: &mut Reader<'_>) -> Option<String> {
    let (path, pem) = reader.file_text(&LLM_CA, None)?;
    if let Err(error) = check_root_certificates(pem.as_bytes()) {
        let mistake = Mistake::new(&LLM_CA, format!("the file `{}`: {error}", path.display()));
        reader.mistake(
            mistake.remedy("name the certificate of the authority, not the server's key or its own"),
        );
        return None;
    }
    Some(pem)
}

fn server(service: Service, url: Address, key: Option<Secret>) -> ServerSettings {
    ServerSettings { service, url, key, slots: Slots::Auto, root_ca: None, limits: PerMinute::default() }
}

/// The addresses of the Ollama servers.
pub(crate) fn ollama_urls(reader: &mut Reader<'_>, flags: &[String]) -> Vec<Address> {
    read_urls(reader, &OLLAMA_BASE_URL, flags, normalise_base_url)
}

/// A provider that is named and has neither key nor address is a mistake.
pub(crate) fn refuse_unserved(reader: &mut Reader<'_>, flags: &[String], servers: &[ServerSettings]) {
    let named = read_providers(&mut Reader::new(reader.environment()), flags).unwrap_or_default();
    for provider in named {
        let Some(ways) = ways_to_set_key(provider) else { continue };
        if !is_key_set(reader, provider) && !servers.iter().any(|server| is_of(server.service, provider)) {
            let problem = format!("provider {provider} is named, but its key is not set");
            reader.mistake(Mistake::new(&PROVIDERS, problem).remedy(format!("set {ways}, or leave it out")));
        }
    }
}

/// Whether a provider's key, its file or its address is set somewhere, rightly or wrongly.
pub fn is_key_set(reader: &Reader<'_>, provider: Provider) -> bool {
    let settings: &[&Setting] = match provider {
        Provider::OpenAi => &[&OPENAI_KEY, &OPENAI_KEY_FILE, &OPENAI_BASE_URL],
        Provider::Claude => &[&CLAUDE_KEY, &CLAUDE_KEY_FILE],
        Provider::Gemini => &[&GEMINI_KEY, &GEMINI_KEY_FILE],
        Provider::Local => &[],
    };
    settings.iter().any(|setting| reader.is_set(setting).is_some())
}

fn read_providers(reader: &mut Reader<'_>, flags: &[String]) -> Option<Vec<Provider>> {
    let expected = "some of local, openai, claude, gemini, separated by commas";
    reader.parsed(&PROVIDERS, joined(flags).as_deref(), expected, |text| {
        let names: Option<Vec<Provider>> =
            values::comma_list(text).into_iter().map(|name| name.parse().ok()).collect();
        names.filter(|names| !names.is_empty())
    })
}

pub(crate) fn joined(flags: &[String]) -> Option<String> {
    (!flags.is_empty()).then(|| flags.join(","))
}

/// A key, from its variable or from the file that another one names.
fn read_key(reader: &mut Reader<'_>, key: &'static Setting, file: &'static Setting) -> Option<Secret> {
    let given = reader.secret(key, None);
    let from_file = reader.secret_file(file);
    if given.is_some() && from_file.is_some() {
        let problem = format!("{} is set too", key.name());
        reader.mistake(Mistake::new(file, problem).remedy("keep one of them"));
    }
    let setting = if given.is_some() { key } else { file };
    let found = given.or(from_file)?;
    let is_odd = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '`');
    if found.expose().contains(is_odd) {
        let problem = "the key holds a blank, a quote or another character that no key has";
        reader.mistake(Mistake::new(setting, problem).remedy("copy it again: the key alone, on one line"));
    }
    Some(found)
}

fn read_urls(
    reader: &mut Reader<'_>,
    setting: &'static Setting,
    flags: &[String],
    normalise: impl Fn(&str) -> Result<String, BaseUrlError>,
) -> Vec<Address> {
    let Some(found) = reader.word(setting, joined(flags).as_deref()) else { return Vec::new() };
    let mut seen: HashMap<String, Address> = HashMap::new();
    let mut urls = Vec::new();
    let written = values::comma_list(&found.value);
    if written.is_empty() {
        reader.mistake(Mistake::value(setting, &found, "an address such as http://gpu1:11434"));
    }
    for text in written {
        match normalise(text) {
            Ok(url) => {
                let identity = server_identity(&url);
                let url = Address::new(url);
                if let Some(first) = seen.get(&identity) {
                    reader.note(format!(
                        "{}: {first} is named twice {}, here as {}: it counts once",
                        setting.name(),
                        found.origin,
                        Address::new(text)
                    ));
                } else {
                    seen.insert(identity, url.clone());
                    urls.push(url);
                }
            }
            Err(error) => {
                let problem = format!("{error} (found {})", found.origin);
                reader.mistake(Mistake::new(setting, problem));
            }
        }
    }
    urls
}

/// One number of slots for each server of one's own, and one for all accounts.
fn set_slots(
    reader: &mut Reader<'_>,
    args: &ServingArgs,
    own: &mut [ServerSettings],
    hosted: &mut [ServerSettings],
) {
    let slots = read_slots(reader, args.concurrency.as_deref(), own.len());
    for (server, slots) in own.iter_mut().zip(slots) {
        server.slots = slots;
    }
    let expected = "auto or a whole number from 1 to 256";
    let flag = args.account_concurrency.as_deref();
    let slots = reader.parsed(&ACCOUNT_CONCURRENCY, flag, expected, Slots::parse);
    for server in hosted {
        server.slots = slots.unwrap_or(Slots::Auto);
    }
}

fn read_slots(reader: &mut Reader<'_>, flag: Option<&str>, servers: usize) -> Vec<Slots> {
    let expected = "auto or a whole number from 1 to 256, or one of these per server separated by commas";
    let Some(found) = reader.word(&CONCURRENCY, flag) else { return Vec::new() };
    let parsed: Option<Vec<Slots>> = found.value.split(',').map(Slots::parse).collect();
    match parsed {
        None => reader.mistake(Mistake::value(&CONCURRENCY, &found, expected)),
        Some(slots) if slots.len() == 1 => return vec![slots[0]; servers],
        // Without a valid address their number says nothing.
        Some(slots) if slots.len() == servers || servers == 0 => return slots,
        Some(slots) => {
            let problem = format!(
                "found {} numbers {} for {servers} {}",
                slots.len(),
                found.origin,
                if servers == 1 { "server" } else { "servers" }
            );
            let remedy = "give one number for all servers, or one for each";
            reader.mistake(Mistake::new(&CONCURRENCY, problem).remedy(remedy));
        }
    }
    Vec::new()
}

fn set_limits(reader: &mut Reader<'_>, args: &ServingArgs, servers: &mut [ServerSettings]) {
    let requests = read_per_minute(reader, &REQUESTS_PER_MINUTE, args.requests_per_minute.as_deref());
    let tokens = read_per_minute(reader, &TOKENS_PER_MINUTE, args.tokens_per_minute.as_deref());
    let of = |limits: &[(Option<Provider>, u64)], service| {
        let fits = |(provider, _): &&(Option<Provider>, u64)| {
            provider.is_none_or(|provider| is_of(service, provider))
        };
        limits.iter().find(fits).map(|(_, limit)| *limit)
    };
    // An Ollama of one's own has no account.
    for server in servers.iter_mut().filter(|server| server.service != Service::Ollama) {
        server.limits =
            PerMinute { requests: of(&requests, server.service), tokens: of(&tokens, server.service) };
    }
}

fn is_of(service: Service, provider: Provider) -> bool {
    service == Service::from(provider) || (service == Service::Compatible && provider == Provider::OpenAi)
}

/// `500`, or `openai=500,claude=50`.
fn read_per_minute(
    reader: &mut Reader<'_>,
    setting: &'static Setting,
    flag: Option<&str>,
) -> Vec<(Option<Provider>, u64)> {
    let expected = "a whole number of at least 1, or PROVIDER=N separated by commas";
    let parse = |text: &str| -> Option<Vec<(Option<Provider>, u64)>> {
        values::comma_list(text)
            .into_iter()
            .map(|part| match part.split_once('=') {
                Some((provider, limit)) => {
                    Some((Some(provider.parse().ok()?), values::within(1..=u64::MAX)(limit)?))
                }
                None => Some((None, values::within(1..=u64::MAX)(part)?)),
            })
            .collect()
    };
    reader.parsed(setting, flag, expected, parse).unwrap_or_default()
}

/// Says where a key comes from, for messages about one that is missing.
pub fn ways_to_set_key(provider: Provider) -> Option<String> {
    let (key, file) = match provider {
        Provider::OpenAi => (&OPENAI_KEY, &OPENAI_KEY_FILE),
        Provider::Claude => (&CLAUDE_KEY, &CLAUDE_KEY_FILE),
        Provider::Gemini => (&GEMINI_KEY, &GEMINI_KEY_FILE),
        Provider::Local => return None,
    };
    Some(format!("{} or {}", key.ways_to_set(), file.ways_to_set()))
}

/// What is set that only whoever talks to the models reads, with where it was found.
pub fn set_elsewhere(reader: &Reader<'_>) -> Vec<String> {
    let settings = [
        &OLLAMA_BASE_URL,
        &OLLAMA_KEY,
        &OLLAMA_KEY_FILE,
        &OPENAI_BASE_URL,
        &OPENAI_KEY,
        &OPENAI_KEY_FILE,
        &CLAUDE_KEY,
        &CLAUDE_KEY_FILE,
        &GEMINI_KEY,
        &GEMINI_KEY_FILE,
    ];
    let origins = settings.into_iter().filter_map(|setting| reader.is_set(setting));
    origins.map(|origin: Origin| origin.to_string()).collect()
}
