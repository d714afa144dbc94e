//! An operator of NATS for a test: accounts and users as JWTs, as `nsc` would make them, and credentials files.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with a system account and one account for the queue.
pub struct Operator {
    own: KeyPair,
    system: KeyPair,
    account: KeyPair,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operator")
    }
}

impl Default for Operator {
    fn default() -> Self {
        Self::new()
    }
}

impl Operator {
    /// Makes one.
    pub fn new() -> Self {
        Self { own: KeyPair::new_operator(), system: KeyPair::new_account(), account: KeyPair::new_account() }
    }

    /// The lines of a server's configuration by which it trusts this operator.
    pub fn config(&self) -> String {
        let operator = signed(&self.own, &self.own, &json!({ "type": "operator", "version": 2 }), None);
        let limits = |jetstream: i64| {
            json!({
                "limits": {
                    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                    "conn": -1, "leaf": -1, "mem_storage": jetstream, "disk_storage": jetstream,
                    "streams": jetstream, "consumer": jetstream,
                },
                "default_permissions": { "pub": {}, "sub": {} },
                "type": "account", "version": 2,
            })
        };
        let account = signed(&self.own, &self.account, &limits(-1), None);
        let system = signed(&self.own, &self.system, &limits(0), None);
        let (id, system_id) = (self.account.public_key(), self.system.public_key());
        format!(
            "operator: \"{operator}\"\nsystem_account: {system_id}\nresolver: MEMORY\n\
             resolver_preload {{ {id}: \"{account}\", {system_id}: \"{system}\" }}\n"
        )
    }

    /// A credentials file of a new user, who expires at this time (in seconds since 1970) if one is given; and
    /// the seed in it.
    ///
    /// # Panics
    ///
    /// When a key that was just made has no seed.
    pub fn credentials(&self, expires: Option<u64>) -> (String, String) {
        let user = KeyPair::new_user();
        let claims = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
        let jwt = signed(&self.account, &user, &claims, expires);
        let seed = user.seed().expect("a new key has its seed");
        let file = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        (file, seed)
    }
}

/// A user's public key and the seed that belongs to it.
///
/// # Panics
///
/// When a key that was just made has no seed.
pub fn nkey_user() -> (String, String) {
    let user = KeyPair::new_user();
    (user.public_key(), user.seed().expect("a new key has its seed"))
}

fn signed(issuer: &KeyPair, subject: &KeyPair, nats: &Value, expires: Option<u64>) -> String {
    let id = subject.public_key();
    let mut claims = json!({
        "jti": id, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test", "sub": id, "nats": nats,
    });
    if let Some(expires) = expires {
        claims["exp"] = expires.into();
    }
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encoded = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let body = format!("{}.{}", encoded(&header), encoded(&claims));
    let signature = issuer.sign(body.as_bytes()).expect("a key with its seed signs");
    format!("{body}.{}", BASE64URL_NOPAD.encode(&signature))
}
