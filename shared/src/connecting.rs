//! From settings to a connection.

use crate::queue::ConnectOptions;
use crate::settings::{NatsAuth, NatsSettings};

/// How to connect as these settings say; `name` is how the server lists the connection.
pub fn connect_options(settings: &NatsSettings, name: &str) -> ConnectOptions {
    let mut options = ConnectOptions {
        url: settings.url.expose().to_owned(),
        name: name.to_owned(),
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
