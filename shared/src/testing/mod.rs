//! What tests of both programs start: a real nats-server, a fake Ollama server, builders.
