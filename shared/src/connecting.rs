//! From settings to a connection.

use crate::queue::ConnectOptions;
use crate::settings::variables::Program;
use crate::settings::{NatsAuth, NatsSettings};

/// How this program connects as these settings say; `name` is how the server lists the connection.
pub fn connect_options(settings: &NatsSettings, program: Program, name: &str) -> ConnectOptions {
    // The server's configuration in deploy/nats lets each program listen to its own answers only.
    let inbox_prefix = match program {
        Program::Coordinator => "_INBOX.qa-coordinator",
        Program::Worker => "_INBOX.qa-worker",
    };
    let mut options = ConnectOptions {
        url: settings.url.expose().to_owned(),
        name: name.to_owned(),
        inbox_prefix: Some(inbox_prefix.to_owned()),
        replicas: settings.replicas,
        max_bytes: settings.max_bytes,
        domain: settings.domain.clone(),
        tls_ca: settings.tls.ca.clone(),
        ..ConnectOptions::default()
    };
    if let Some((certificate, key)) = &settings.tls.client {
        options.tls_cert = Some(certificate.clone());
        options.tls_key = Some(key.clone());
    }
    match &settings.auth {
        NatsAuth::None => {}
        NatsAuth::Token(token) => options.token = Some(token.clone()),
        NatsAuth::User { name, password } => {
            options.user = Some(name.clone());
            options.password = Some(password.clone());
        }
        NatsAuth::Credentials(path) => options.credentials_file = Some(path.clone()),
        NatsAuth::NkeySeed(seed) => options.nkey_seed = Some(seed.clone()),
    }
    options
}
