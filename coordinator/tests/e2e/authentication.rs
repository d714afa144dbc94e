//! Each way of identifying oneself to the NATS server, with what is right and what is wrong: both programs say
//! what to do about it, end with their code for it, and show no secret.

use std::fs;
use std::path::{Path, PathBuf};

use qa_shared::testing::certificates::Authority;
use qa_shared::testing::fake_ollama::{Behaviour, FakeConfig, FakeOllama};
use qa_shared::testing::nats_jwt::{Operator, nkey_user};
use qa_shared::testing::{TestNats, TestNatsOptions};
use tempfile::TempDir;

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

type Environment = Vec<(&'static str, String)>;

/// One way, and a server that wants it.
struct Way {
    folder: TempDir,
    nats: TestNats,
    ollama: FakeOllama,
    secrets: Vec<String>,
}

impl Way {
    async fn new(more: String, folder: TempDir) -> Self {
        let nats = TestNats::start_with(TestNatsOptions { more, ..TestNatsOptions::default() }).await;
        Self { folder, nats, ollama: FakeOllama::start(FakeConfig::default()), secrets: Vec::new() }
    }

    fn hides(mut self, secrets: &[&str]) -> Self {
        self.secrets.extend(secrets.iter().map(|secret| (*secret).to_owned()));
        self
    }

    fn file(&self, name: &str, text: &str) -> String {
        write(self.folder.path(), name, text)
    }

    async fn is_right(&self, environment: Environment) {
        let mut worker = with(Line::worker(&self.nats, &[&self.ollama]), &environment).start();
        worker.says("connected").await;
        worker.signal("TERM");
        let ended = worker.ends_with(0).await;
        self.shows_no_secret(&(ended.stdout + &ended.stderr));
        let cancel = Line::coordinator("cancel", self.folder.path()).args(["--job", "0123456789ab"]);
        // It gets as far as looking for a job that nobody has begun.
        let ended = with(cancel.fleet(&self.nats), &environment).run(2).await;
        assert!(ended.stderr.contains("is not in the queue"), "{}", ended.stderr);
        self.shows_no_secret(&(ended.stdout + &ended.stderr));
    }

    /// Both end with their code for the queue, and with `says` in the message.
    async fn is_wrong(&self, environment: Environment, says: &str) {
        let worker = with(Line::worker(&self.nats, &[&self.ollama]), &environment).run(5).await;
        let cancel = Line::coordinator("cancel", self.folder.path()).args(["--job", "0123456789ab"]);
        let coordinator = with(cancel.fleet(&self.nats), &environment).run(5).await;
        for ended in [worker, coordinator] {
            let error = ended.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
            assert!(error.contains(says), "`{says}` is not in: {}", ended.stderr);
            self.shows_no_secret(&(ended.stdout + &ended.stderr));
        }
    }

    fn shows_no_secret(&self, output: &str) {
        for secret in &self.secrets {
            assert!(!output.contains(secret), "{secret} is shown: {output}");
        }
    }
}

fn with(line: Line, environment: &Environment) -> Line {
    environment.iter().fold(line, |line, (name, value)| line.env(name, value))
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    shown(path)
}

fn shown(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

fn folder() -> TempDir {
    qa_shared::testing::temporary_folder()
}

const REFUSED: &str = "refused authentication";

#[tokio::test]
async fn by_user_and_password() {
    let config = "authorization { user: me, password: \"the-right-one\" }\n".to_owned();
    let way = Way::new(config, folder()).await.hides(&["the-right-one", "the-wrong-one"]);
    let user =
        |password: &str| vec![("QA_NATS_USER", "me".to_owned()), ("QA_NATS_PASSWORD", password.to_owned())];
    way.is_right(user("the-right-one")).await;
    let file = way.file("password", "the-right-one\n");
    way.is_right(vec![("QA_NATS_USER", "me".to_owned()), ("QA_NATS_PASSWORD_FILE", file)]).await;
    way.is_wrong(user("the-wrong-one"), REFUSED).await;
    way.is_wrong(Vec::new(), REFUSED).await;
}

#[tokio::test]
async fn by_token() {
    let config = "authorization { token: \"the-right-one\" }\n".to_owned();
    let way = Way::new(config, folder()).await.hides(&["the-right-one", "the-wrong-one"]);
    let file = way.file("token", "the-right-one\n");
    way.is_right(vec![("QA_NATS_TOKEN_FILE", file)]).await;
    way.is_wrong(vec![("QA_NATS_TOKEN", "the-wrong-one".to_owned())], REFUSED).await;
}

#[tokio::test]
async fn by_nkey() {
    let ((public, seed), (_, other)) = (nkey_user(), nkey_user());
    let config = format!("authorization {{ users = [ {{ nkey: {public} }} ] }}\n");
    let way = Way::new(config, folder()).await.hides(&[&seed, &other, "SUNOSEED"]);
    way.is_right(vec![("QA_NATS_NKEY_SEED_FILE", way.file("seed", &seed))]).await;
    way.is_wrong(vec![("QA_NATS_NKEY_SEED_FILE", way.file("other", &other))], REFUSED).await;
    let noise = way.file("noise", "SUNOSEED");
    way.is_wrong(vec![("QA_NATS_NKEY_SEED_FILE", noise)], "NKey seed").await;
    let changed = way.file("changed", &format!("{}AAAA", &seed[..54]));
    way.is_wrong(vec![("QA_NATS_NKEY_SEED_FILE", changed)], REFUSED).await;
}

#[tokio::test]
async fn by_credentials_file() {
    let (operator, stranger) = (Operator::new(), Operator::new());
    let way = Way::new(operator.config(), folder()).await;
    let (right, seed) = operator.credentials(None);
    let (expired, expired_seed) = operator.credentials(Some(1_700_000_100));
    let (strange, strange_seed) = stranger.credentials(None);
    let way = way.hides(&[&seed, &expired_seed, &strange_seed]);
    let creds = |name: &str, text: &str| vec![("QA_NATS_CREDS", way.file(name, text))];
    way.is_right(creds("right", &right)).await;
    way.is_wrong(creds("expired", &expired), REFUSED).await;
    way.is_wrong(creds("stranger", &strange), REFUSED).await;
    way.is_wrong(creds("noise", "no credentials"), "credentials file").await;
    let mixed = right.split("-----BEGIN USER").next().unwrap().to_owned()
        + "-----BEGIN USER"
        + strange.split("-----BEGIN USER").nth(1).unwrap();
    way.is_wrong(creds("mixed", &mixed), REFUSED).await;
}

fn tls(authority: &Authority, folder: &Path, hosts: &[&str], more: &str) -> String {
    let server = authority.issue(folder, "server", hosts);
    let (certificate, key) = (shown(server.certificate), shown(server.key));
    format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} {more} }}\n")
}

#[tokio::test]
async fn over_tls() {
    let folder = folder();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let config = tls(&authority, folder.path(), &["127.0.0.1"], "");
    let way = Way::new(config, folder).await;
    let ca = |path: PathBuf| vec![("QA_NATS_CA", shown(path))];
    way.is_right(ca(authority.write(way.folder.path(), "ca.pem"))).await;
    way.is_wrong(ca(stranger.write(way.folder.path(), "other.pem")), "TLS failed").await;
    way.is_wrong(Vec::new(), "TLS failed").await;
    for noise in ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let file = way.file("noise.pem", noise);
        way.is_wrong(vec![("QA_NATS_CA", file)], "noise.pem").await;
    }
}

#[tokio::test]
async fn over_tls_to_a_server_of_another_name_or_without_tls() {
    let folder = folder();
    let authority = Authority::new("ours");
    let config = tls(&authority, folder.path(), &["elsewhere.example"], "");
    let way = Way::new(config, folder).await;
    let ca = vec![("QA_NATS_CA", shown(authority.write(way.folder.path(), "ca.pem")))];
    way.is_wrong(ca.clone(), "TLS failed").await;
    let plain = Way::new(String::new(), self::folder()).await;
    plain.is_wrong(ca, "TLS").await;
}

#[tokio::test]
async fn over_mutual_tls() {
    let folder = folder();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let ca = shown(authority.write(folder.path(), "ca.pem"));
    let config = tls(&authority, folder.path(), &["127.0.0.1"], &format!(", ca_file: {ca:?}, verify: true"));
    let way = Way::new(config, folder).await;
    let (right, strange) = (
        authority.issue(way.folder.path(), "client", &["client"]),
        stranger.issue(way.folder.path(), "stranger", &["client"]),
    );
    let client = |certificate: &Path, key: &Path| {
        vec![
            ("QA_NATS_CA", ca.clone()),
            ("QA_NATS_CERT", shown(certificate.to_owned())),
            ("QA_NATS_KEY", shown(key.to_owned())),
        ]
    };
    way.is_right(client(&right.certificate, &right.key)).await;
    way.is_wrong(client(&strange.certificate, &strange.key), "TLS failed").await;
    way.is_wrong(vec![("QA_NATS_CA", ca.clone())], "TLS failed").await;
    way.is_wrong(client(&right.certificate, &strange.key), "client.pem").await;
    let noise = PathBuf::from(way.file("noise.pem", "no key"));
    way.is_wrong(client(&right.certificate, &noise), "noise.pem").await;
    way.is_wrong(client(&noise, &right.key), "noise.pem").await;
}

#[tokio::test]
async fn tokens_and_credentials_on_the_command_line_do_not_show_in_the_list_of_processes() {
    let (token, password) = ("the-right-token", "the-right-password");
    let options = TestNatsOptions { token: Some(token.to_owned()), ..TestNatsOptions::default() };
    let nats = TestNats::start_with(options).await;
    let ollama = FakeOllama::start(FakeConfig::default());
    ollama.fault_next(Behaviour::Hang);
    let site = Site::new(&[Document::new("guide", 3)]);
    let with_password = ollama.url().replace("http://", &format!("http://me:{password}@"));
    let line = Line::bare_worker().args(["--nats-url", &nats.url(), "--nats-token", token]);
    let worker = line.args(["--ollama-base-url", &with_password]).start();
    let with_token = nats.url().replace("nats://", &format!("nats://{token}@"));
    let run = site.generate().args(["--nats-url", &with_token]).start();
    // Both have used what they were given.
    ollama.wait_for(|stats| stats.in_flight >= 1).await;
    for (pid, marks) in [(worker.pid(), 2), (run.pid(), 1)] {
        let shown = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains(token) && !shown.contains(password), "{shown}");
        assert_eq!(shown.split('\0').filter(|argument| *argument == "***").count(), marks, "{shown}");
    }
    let (worker, run) = (worker.kill().await, run.kill().await);
    for ended in [worker, run] {
        let said = ended.stdout + &ended.stderr;
        assert!(!said.contains(token) && !said.contains(password), "{said}");
    }
}
