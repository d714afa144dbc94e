//! What is the same for all chunks stands before the chunk, byte for byte, in what each service is sent: only so
//! does it find what it has computed for an earlier chunk.

use qa_shared::model::Task;
use qa_shared::testing::fake_provider::{Behaviour, FakeProvider};
use serde_json::Value;

use crate::support::{client, completed, every_service, task, work};

#[tokio::test]
async fn requests_about_two_chunks_differ_first_where_the_chunk_begins() {
    for config in every_service() {
        let (service, model) = (config.service, config.models[0].name.clone());
        let fake = FakeProvider::start(config);
        let server = client(&fake, service);
        let chunks = ["Alpha is the first letter.", "Omega comes last, and is longer than others."];
        // Something is learned about a model by its first answer.
        completed(work(&server, &task(&model, None)).await);
        let before = fake.stats().bodies.len();
        fake.fault_next(Behaviour::Fewer(1));
        for chunk in chunks {
            let about = Task { text: chunk.to_owned(), ..task(&model, None) };
            completed(work(&server, &about).await);
        }
        let bodies = &fake.stats().bodies[before..];
        let [alpha, again, omega] = bodies else { panic!("{service:?}: {} calls", bodies.len()) };
        let before_chunk = |text: &str, chunk: &str| text[..text.find(chunk).unwrap()].to_owned();
        let beginning = before_chunk(&alpha.to_string(), chunks[0]);
        assert!(beginning.len() > 1000, "{service:?}: the rules come first");
        assert_eq!(before_chunk(&omega.to_string(), chunks[1]), beginning, "{service:?}");
        // What is asked again has another schema, for fewer pairs; the conversation begins in the same way.
        let turns = |body: &Value| body.get("messages").or(body.get("contents")).unwrap().to_string();
        let opening = before_chunk(&turns(alpha), chunks[0]);
        assert_eq!(before_chunk(&turns(again), chunks[0]), opening, "{service:?}");
    }
}
