//! The worker: pulls tasks, generates pairs with an LLM, publishes results. Stateless; any number may run.
