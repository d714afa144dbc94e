//! LLM servers behind TLS with a certificate of one's own authority.

use std::path::Path;

use qa_shared::testing::TlsProxy;
use qa_shared::testing::certificates::Authority;
use qa_shared::testing::fake_ollama::{FakeConfig, FakeOllama};
use qa_shared::testing::fake_provider::{FAKE_KEY, FakeProvider, FakeProviderConfig};

use crate::command_line::Line;
use crate::documents::Document;
use crate::site::Site;

fn check(directory: &Path, url: &str) -> Line {
    Line::plain_worker("check", directory).args(["--ollama-base-url", url])
}

#[tokio::test]
async fn a_servers_certificate_is_checked_against_the_authority_that_is_named() {
    let site = Site::new(&[Document::new("private", 6)]);
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let ca = authority.write(site.root(), "ca.pem");
    let other = stranger.write(site.root(), "other.pem");
    let ollama = FakeOllama::start(FakeConfig::default());
    let certificate = authority.issue(site.root(), "server", &["127.0.0.1"]);
    let proxy = TlsProxy::start(&ollama.url(), &certificate).await;
    check(site.root(), &proxy.url()).env("QA_LLM_CA", &ca).run(0).await;
    for wrong in [check(site.root(), &proxy.url()), check(site.root(), &proxy.url()).env("QA_LLM_CA", &other)]
    {
        let ended = wrong.run(1).await;
        assert!(
            ended.stdout.contains("UnknownIssuer") && ended.stdout.contains("QA_LLM_CA"),
            "{}",
            ended.stdout
        );
    }
    let generate = site.generate().args(["--local", "--ollama-base-url", &proxy.url()]);
    generate.env("QA_LLM_CA", &ca).run(0).await;
    site.check();

    let elsewhere = authority.issue(site.root(), "elsewhere", &["elsewhere.example"]);
    let misnamed = TlsProxy::start(&ollama.url(), &elsewhere).await;
    let ended = check(site.root(), &misnamed.url()).env("QA_LLM_CA", &ca).run(1).await;
    assert!(ended.stdout.contains("elsewhere.example"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_server_with_openais_api_is_reached_by_the_same_setting() {
    let site = Site::new(&[Document::new("hosted", 3)]);
    let authority = Authority::new("ours");
    let ca = authority.write(site.root(), "ca.pem");
    let service = FakeProvider::start(FakeProviderConfig::llama_cpp());
    let proxy =
        TlsProxy::start(&service.url(), &authority.issue(site.root(), "server", &["127.0.0.1"])).await;
    let worker = Line::plain_worker("check", site.root())
        .args(["--providers", "openai"])
        .env("OPENAI_BASE_URL", proxy.url())
        .env("OPENAI_API_KEY", FAKE_KEY)
        .env("QA_LLM_CA", ca);
    let ended = worker.run(0).await;
    assert!(!(ended.stdout + &ended.stderr).contains(FAKE_KEY));
}

#[tokio::test]
async fn a_file_without_a_certificate_is_a_mistake_before_anything_is_done() {
    let site = Site::new(&[Document::new("unread", 1)]);
    let server = FakeOllama::start(FakeConfig::default());
    let key = Authority::new("ours").issue(site.root(), "server", &["127.0.0.1"]).key;
    let noise = site.root().join("noise.pem");
    std::fs::write(&noise, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for file in [key, noise, site.root().join("missing.pem"), site.root().to_owned()] {
        let lines = [site.generate().arg("--local").servers(&[&server]), check(site.root(), &server.url())];
        for line in lines {
            let ended = line.env("QA_LLM_CA", &file).run(2).await;
            assert!(ended.stderr.contains("QA_LLM_CA: "), "{}", ended.stderr);
            assert!(ended.stderr.contains(file.to_str().unwrap()), "{}", ended.stderr);
            assert!(!ended.stderr.contains("PRIVATE KEY"), "{}", ended.stderr);
        }
    }
    assert!(!site.qa_dir().exists());
}
