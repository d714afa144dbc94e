//! A real nats-server for a test: on a random port, with a store of its own, to be killed and started again.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::nats_server::{ServerConfig, find_nats_server, wait_until_listening};
use crate::queue::{ConnectOptions, Queue, RESULTS, TASKS, Timing, ensure};
use crate::secret::Secret;

const START_LIMIT: Duration = Duration::from_secs(30);

/// How a test's server differs from a plain one.
#[derive(Debug, Clone)]
pub struct TestNatsOptions {
    /// The JetStream domain.
    pub domain: Option<String>,
    /// What clients must present.
    pub token: Option<String>,
    /// Whether it has JetStream.
    pub jetstream: bool,
    /// The largest message, in bytes.
    pub max_payload: u64,
    /// Whether each message is on the disk before it is acknowledged.
    pub sync_always: bool,
    /// More lines of its configuration.
    pub more: String,
}

/// The users of the configuration in `deploy/nats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shipped {
    /// What coordinators are.
    Coordinator,
    /// What workers are.
    Worker,
    /// Who may do anything.
    Operator,
}

impl Shipped {
    /// The user's name.
    pub fn user(self) -> &'static str {
        match self {
            Self::Coordinator => "qa-coordinator",
            Self::Worker => "qa-worker",
            Self::Operator => "operator",
        }
    }

    /// The user's password on a test's server.
    pub fn password(self) -> &'static str {
        match self {
            Self::Coordinator => "of-the-coordinator",
            Self::Worker => "of-the-worker",
            Self::Operator => "of-the-operator",
        }
    }
}

impl Default for TestNatsOptions {
    fn default() -> Self {
        Self {
            domain: None,
            token: None,
            jetstream: true,
            max_payload: 1024 * 1024,
            sync_always: false,
            more: String::new(),
        }
    }
}

/// The configuration file that a server is started with.
#[derive(Debug, Clone)]
enum File {
    /// Written for it, in this domain, with more lines.
    Own(Option<String>, String),
    /// The one in `deploy/nats`; only the port and places of files are its own.
    Shipped,
}

/// A real nats-server. Dropping it kills it and removes its files.
#[derive(Debug)]
pub struct TestNats {
    program: PathBuf,
    directory: TempDir,
    config: ServerConfig,
    file: File,
    child: Child,
    port: u16,
}

impl TestNats {
    /// Starts a server with JetStream.
    ///
    /// # Panics
    ///
    /// When there is no usable nats-server; the message says how to get one.
    pub async fn start() -> Self {
        Self::start_with(TestNatsOptions::default()).await
    }

    /// Where everything that it stores lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a server.
    ///
    /// # Panics
    ///
    /// When there is no usable nats-server; the message says how to get one.
    pub async fn start_with(options: TestNatsOptions) -> Self {
        let program = program().await;
        let directory = crate::testing::temporary_folder();
        let mut config = ServerConfig::private(directory.path());
        config.token = options.token.map(Secret::new);
        config.max_payload = options.max_payload;
        config.sync_always = options.sync_always;
        if !options.jetstream {
            config.store = None;
        }
        let file = File::Own(options.domain, options.more);
        let (child, port) = spawn(&program, directory.path(), &config, &file).await;
        config.listen.port = Some(port);
        Self { program, directory, config, file, child, port }
    }

    /// Starts a server with the configuration that is shipped in `deploy/nats`.
    ///
    /// # Panics
    ///
    /// When there is no usable nats-server; the message says how to get one.
    pub async fn shipped() -> Self {
        let program = program().await;
        let directory = crate::testing::temporary_folder();
        let mut config = ServerConfig::private(directory.path());
        let (child, port) = spawn(&program, directory.path(), &config, &File::Shipped).await;
        config.listen.port = Some(port);
        Self { program, directory, config, file: File::Shipped, child, port }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address at which it takes leaf nodes, which it tells in its log only.
    ///
    /// # Panics
    ///
    /// When it takes none.
    pub fn leaf_url(&self) -> String {
        let path = self.directory().join("nats-server.log");
        let log = std::fs::read_to_string(path).expect("the server writes a log");
        let told = log.split_once("Listening for leafnode connections on ").map(|(_, rest)| rest);
        let address = told.and_then(|rest| rest.lines().next()).expect("the server takes leaf nodes");
        format!("nats://{}", address.trim())
    }

    /// The address of another port of it, such as `websocket` or `monitoring`.
    ///
    /// # Panics
    ///
    /// When the server has none.
    pub fn other_url(&self, kind: &str) -> String {
        let files = std::fs::read_dir(self.ports()).expect("the server tells its ports");
        let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
        let ports = texts.filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let mut urls = ports.filter_map(|ports| Some(ports[kind][0].as_str()?.to_owned()));
        urls.next().unwrap_or_else(|| panic!("the server has no port for {kind}"))
    }

    /// The directory in which it tells its ports.
    fn ports(&self) -> &Path {
        &self.config.ports
    }

    /// The lines of its configuration that are its own.
    pub(super) fn configuration(&self) -> &str {
        match &self.file {
            File::Own(_, more) => more,
            File::Shipped => "",
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it: no file is closed, nobody is told.
    pub fn kill(&mut self) {
        // An error means that it is dead already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Kills it if it runs, and starts it again on the same port and store.
    pub async fn restart(&mut self) {
        self.kill();
        let (child, port) = spawn(&self.program, self.directory.path(), &self.config, &self.file).await;
        assert_eq!(port, self.port, "nats-server came back on another port");
        self.child = child;
    }

    /// Has clients present this token after the next restart.
    pub fn set_token(&mut self, token: &str) {
        self.config.token = Some(Secret::new(token.to_owned()));
    }

    /// Whether it has JetStream after the next restart, with what it had stored.
    pub fn set_jetstream(&mut self, jetstream: bool) {
        let store = ServerConfig::private(self.directory.path()).store;
        self.config.store = store.filter(|_| jetstream);
    }

    /// Kills it, removes everything it stored, and starts it again on the same port.
    pub async fn wipe_and_restart(&mut self) {
        self.kill();
        if let Some(store) = &self.config.store {
            std::fs::remove_dir_all(store).expect("the store of a dead server can be removed");
        }
        self.restart().await;
    }

    /// Copies everything it stored, as it lies on the disk.
    ///
    /// # Panics
    ///
    /// When that cannot be copied.
    pub fn copy_store(&self) {
        let (Some(store), copy) = (&self.config.store, self.copy()) else { return };
        drop(std::fs::remove_dir_all(&copy));
        copy_directory(store, &copy).expect("the store can be copied");
    }

    /// Kills it, and puts the copy of the store, if there is one, where the store was.
    ///
    /// # Panics
    ///
    /// When the directories cannot be changed.
    pub fn set_store_back(&mut self) {
        self.kill();
        if let (Some(store), copy) = (&self.config.store, self.copy())
            && copy.exists()
        {
            drop(std::fs::remove_dir_all(store));
            std::fs::rename(copy, store).expect("the copy can be renamed");
        }
    }

    /// Kills it, and puts the messages of the streams back to those of the copy, but not what consumers have
    /// acknowledged since: what a power cut may leave that took the last writes of some files.
    ///
    /// # Panics
    ///
    /// When the directories cannot be changed.
    pub fn set_messages_back(&mut self) {
        self.kill();
        let Some(store) = &self.config.store else { return };
        let streams = Path::new("jetstream").join("$G").join("streams");
        for stream in [TASKS, RESULTS] {
            let [from, to] = [&self.copy(), store].map(|root| root.join(&streams).join(stream).join("msgs"));
            std::fs::remove_dir_all(&to).expect("a dead server's messages can be removed");
            std::fs::rename(from, to).expect("the copy can be renamed");
        }
    }

    fn copy(&self) -> PathBuf {
        self.directory.path().join("copy")
    }

    /// Connects to it, with these durations.
    pub async fn connect(&self, timing: Timing) -> Queue {
        let token = self.config.token.clone();
        let options =
            ConnectOptions { url: self.url(), name: "test".to_owned(), token, ..Default::default() };
        Queue::connect(&options, timing).await.expect("the test's nats-server takes connections")
    }

    /// Stores a message as anybody may who has the permission.
    ///
    /// # Panics
    ///
    /// When no stream takes it.
    pub async fn store(&self, subject: String, payload: Vec<u8>) {
        let client = async_nats::connect(self.url()).await.expect("the test's nats-server takes connections");
        let context = async_nats::jetstream::new(client);
        let stored = context.publish(subject, payload.into()).await;
        stored.expect("the message can be sent").await.expect("a stream takes the message");
    }

    /// Connects to it and makes streams and buckets.
    pub async fn queue(&self, timing: Timing) -> Queue {
        let queue = self.connect(timing).await;
        ensure(&queue, None).await.expect("streams can be made on an empty server");
        queue
    }
}

impl Drop for TestNats {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a test has no settings object")]
async fn program() -> PathBuf {
    let setting = std::env::var_os("QA_NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH");
    match find_nats_server(setting.as_deref(), path.as_deref()).await {
        Ok(found) => found.path,
        Err(error) => panic!("this test needs a real nats-server, deploy/test.sh gets one: {error}"),
    }
}

async fn spawn(program: &Path, directory: &Path, config: &ServerConfig, file: &File) -> (Child, u16) {
    // A killed server leaves its ports file behind.
    if config.ports.exists() {
        std::fs::remove_dir_all(&config.ports).expect("the directory of ports files can be removed");
    }
    std::fs::create_dir_all(&config.ports).expect("the directory of ports files can be made");
    let mut command = Command::new(program);
    match file {
        File::Own(domain, more) => {
            let file = directory.join("nats-server.conf");
            config.write(&file).expect("the configuration can be written");
            let own = std::fs::read_to_string(&file).expect("it was just written");
            let domain = domain.as_ref().map_or_else(String::new, |domain| format!("domain: {domain},"));
            let own = own.replace("jetstream {", &format!("jetstream {{ {domain}"));
            std::fs::write(&file, own + more).expect("the configuration can be written");
            command.arg("--config").arg(&file);
        }
        File::Shipped => {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nats/nats-server.conf");
            let port = config.listen.port.map_or(-1, i32::from).to_string();
            command.args(["--config", file, "--addr", "127.0.0.1", "--port", &port, "--ports_file_dir"]);
            command.arg(&config.ports).envs(config.store.iter().map(|store| ("QA_NATS_STORE_DIR", store)));
            command.arg("--log").arg(directory.join("nats-server.log"));
            for (variable, user) in [
                ("QA_NATS_COORDINATOR_PASSWORD", Shipped::Coordinator),
                ("QA_NATS_WORKER_PASSWORD", Shipped::Worker),
                ("QA_NATS_OPERATOR_PASSWORD", Shipped::Operator),
            ] {
                command.env(variable, user.password());
            }
        }
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts");
    let Some(port) = wait_until_listening(&config.ports, START_LIMIT).await else {
        let log = std::fs::read_to_string(directory.join("nats-server.log")).unwrap_or_default();
        panic!("nats-server does not listen after {START_LIMIT:?}:\n{log}");
    };
    (child, port)
}
