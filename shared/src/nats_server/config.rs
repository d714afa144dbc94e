//! The configuration file of a nats-server that a process of ours runs.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::secret::Secret;

/// Large enough for a chunk of any sensible size; the server warns above this.
const MAX_PAYLOAD_BYTES: u64 = 8 * 1024 * 1024;
/// More than the workers of any run with a private queue have; idle connections of strangers cost memory.
const MAX_CONNECTIONS: u32 = 1024;
/// How long a connection may be open without the token, in seconds.
const UNAUTHENTICATED_SECONDS: u32 = 2;
/// Where a log file ends and the next one begins: strangers can have lines written.
const LOG_LIMIT: &str = "logfile_size_limit: 64MB\nlogfile_max_num: 2";

/// A setting that cannot be written into the configuration.
#[derive(Debug, thiserror::Error)]
pub enum UnusableConfig {
    /// The path has bytes that the configuration cannot express.
    #[error("path `{0}` is not UTF-8 and cannot be used for nats-server")]
    Path(PathBuf),
    /// The address cannot be read.
    #[error("listen address `{0}` is not readable: expected ADDRESS or ADDRESS:PORT, such as 0.0.0.0:4222")]
    Listen(String),
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The interface; an unspecified address means all of them.
    pub address: IpAddr,
    /// The port; `None` lets the system choose one.
    pub port: Option<u16>,
}

impl Listen {
    /// This machine only, on a port that the system chooses.
    pub const LOOPBACK: Self = Self { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port: None };
}

impl FromStr for Listen {
    type Err = UnusableConfig;

    fn from_str(text: &str) -> Result<Self, UnusableConfig> {
        if let Ok(address) = text.parse() {
            return Ok(Self { address, port: None });
        }
        let both: std::net::SocketAddr = text.parse().map_err(|_| UnusableConfig::Listen(text.to_owned()))?;
        Ok(Self { address: both.ip(), port: (both.port() != 0).then_some(both.port()) })
    }
}

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: Listen,
    /// What clients must present.
    pub token: Option<Secret>,
    /// Where JetStream keeps its files; without it there is no JetStream.
    pub store: Option<PathBuf>,
    /// Whether each message is on disk before it is acknowledged. Survives power loss, costs throughput.
    pub sync_always: bool,
    /// The directory in which the server writes the ports that it listens on.
    pub ports: PathBuf,
    /// The file to which the server logs; without it to its standard error.
    pub log: Option<PathBuf>,
    /// The largest message, in bytes.
    pub max_payload: u64,
}

impl ServerConfig {
    /// A private server: loopback, any port, everything under `directory`.
    pub fn private(directory: &Path) -> Self {
        Self {
            listen: Listen::LOOPBACK,
            token: None,
            store: Some(directory.join("store")),
            sync_always: false,
            ports: directory.join("ports"),
            log: Some(directory.join("nats-server.log")),
            max_payload: MAX_PAYLOAD_BYTES,
        }
    }

    /// The configuration in nats-server's notation. It holds the token.
    pub fn text(&self) -> Result<String, UnusableConfig> {
        let mut lines = vec![
            format!("host: {}", quoted(&self.listen.address.to_string())),
            format!("port: {}", self.listen.port.map_or(-1, i32::from)),
            format!("ports_file_dir: {}", quoted_path(&self.ports)?),
            format!("max_payload: {}", self.max_payload),
            format!("max_connections: {MAX_CONNECTIONS}"),
        ];
        if let Some(path) = &self.log {
            lines.push(format!("log_file: {}\n{LOG_LIMIT}", quoted_path(path)?));
        }
        if let Some(token) = &self.token {
            let token = quoted(token.expose());
            lines.push(format!("authorization {{ token: {token}, timeout: {UNAUTHENTICATED_SECONDS} }}"));
        }
        if let Some(store) = &self.store {
            let sync = if self.sync_always { ", sync_interval: always" } else { "" };
            // Without a number it takes what is free at its start for its limit, for ever: nothing, if the disk
            // is full at that moment.
            let limit = "max_file_store: 1TB";
            lines.push(format!("jetstream {{ store_dir: {}, {limit}{sync} }}", quoted_path(store)?));
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }

    /// Writes the configuration to a file that only this user can read.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = self.text().map_err(io::Error::other)?;
        // A file that is there already may be one that others can read, or a link.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    }
}

fn quoted_path(path: &Path) -> Result<String, UnusableConfig> {
    path.to_str().map(quoted).ok_or_else(|| UnusableConfig::Path(path.to_owned()))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_and_tokens_are_quoted() {
        let mut config = ServerConfig::private(Path::new("/tmp/a \"b\" $c\\d"));
        config.token = Some(Secret::new("t\"k"));
        config.sync_always = true;
        let text = config.text().unwrap();
        assert!(
            text.contains(
                r#"store_dir: "/tmp/a \"b\" $c\\d/store", max_file_store: 1TB, sync_interval: always"#
            ),
            "{text}"
        );
        assert!(text.contains(r#"token: "t\"k""#), "{text}");
        assert!(text.contains("port: -1"), "{text}");
        assert!(text.contains("max_connections: 1024") && text.contains("timeout: 2"), "{text}");
    }

    #[test]
    fn listen_addresses_are_read_with_and_without_a_port() {
        let listen =
            |text: &str| text.parse::<Listen>().map(|listen| (listen.address.to_string(), listen.port));
        assert_eq!(listen("0.0.0.0:4222").unwrap(), ("0.0.0.0".to_owned(), Some(4222)));
        assert_eq!(listen("10.0.0.1").unwrap(), ("10.0.0.1".to_owned(), None));
        assert_eq!(listen("[::1]:0").unwrap(), ("::1".to_owned(), None));
        assert!(listen("here:there").unwrap_err().to_string().contains("here:there"));
    }

    #[test]
    fn the_file_with_the_token_is_this_users_alone_whatever_was_there_before() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = crate::testing::temporary_folder();
        let (path, other) = (folder.path().join("nats-server.conf"), folder.path().join("other"));
        let config = ServerConfig::private(folder.path());
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        config.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&other, "kept").unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        config.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "kept");
    }
}
