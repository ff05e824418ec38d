//! Which settings are in force and where each came from, with secrets left out.

use std::fmt::Write as _;

use countersign::HttpSettings;
use countersign_core::auth::AuthSettings;
use serde_json::{Map, Value, json};

use super::database::DatabaseSettings;
use super::layers::{Layers, Source};
use super::server::ServerSettings;
use super::{RawSettings, keys, urls};

/// One setting in force.
#[derive(Debug, Clone, PartialEq)]
struct InForce {
    path: String,
    /// None if it is not set and has no default.
    value: Option<Value>,
    source: Source,
}

/// Every setting in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report(Vec<InForce>);

impl Report {
    pub(super) fn new(
        raw: &RawSettings,
        layers: &Layers,
        auth: &AuthSettings,
        http: &HttpSettings,
        server: &ServerSettings,
        database: &DatabaseSettings,
    ) -> Self {
        // Secrets serialise as "(set)".
        let document = serde_json::to_value(raw).unwrap_or_default();
        let origins: Vec<_> = http
            .allowed_origins
            .iter()
            .map(countersign::Origin::as_str)
            .collect();
        // Defaults that depend on other settings or on the machine.
        let derived = json!({
            "server.public_url": http.public_url.as_str(),
            "tokens.issuer": auth.tokens.issuer,
            "cors.origins": origins,
            "cookies.refresh_name": http.cookies.refresh_name,
            "database.pool_size": database.pool_size(),
            "mail.transport": raw.mail.transport(server),
            "password.hashing_threads": auth.hashing.threads,
            "password.hashing_queue": auth.hashing.queue,
        });
        let in_force = keys::all().into_iter().map(|key| {
            let pointer = format!("/{}", key.path.replace('.', "/"));
            let value = derived
                .get(&key.path)
                .or_else(|| document.pointer(&pointer));
            let value = value.filter(|value| !value.is_null()).cloned();
            let source = layers.source(&key.path);
            let shown = if urls::URLS.contains(&key.path.as_str()) {
                value.map(|url| urls::without_password(url.as_str().unwrap_or_default()).into())
            } else {
                value
            };
            InForce {
                path: key.path,
                value: shown,
                source,
            }
        });
        Self(in_force.collect())
    }

    /// Whether someone set this, rather than leaving it at its default.
    pub(crate) fn is_set(&self, path: &str) -> bool {
        self.0
            .iter()
            .any(|entry| entry.path == path && entry.source != Source::Default)
    }

    /// Whether someone set anything.
    pub(crate) fn is_any_set(&self) -> bool {
        self.0.iter().any(|entry| entry.source != Source::Default)
    }

    /// The names of those that someone set, rather than leaving them at their defaults.
    pub(crate) fn names_set(&self) -> Vec<&str> {
        let set = self
            .0
            .iter()
            .filter(|entry| entry.source != Source::Default);
        set.map(|entry| &*entry.path).collect()
    }

    /// The SHA-256 of everything that is in force, in hexadecimal digits. No secret is part of it: whoever
    /// reads the digest could try short ones.
    pub(crate) fn digest(&self) -> String {
        let mut text = String::new();
        for InForce { path, value, .. } in &self.0 {
            let value = value.clone().unwrap_or_default();
            let _infallible = writeln!(text, "{path} = {value}");
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    }

    /// Whether an environment variable sets this.
    pub(crate) fn is_in_environment(&self, path: &str) -> bool {
        let from = |entry: &InForce| matches!(entry.source, Source::Environment(_));
        self.0.iter().any(|entry| entry.path == path && from(entry))
    }

    /// As a settings file with comments, for people.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for InForce {
            path,
            value,
            source,
        } in &self.0
        {
            let (inside, name) = path.split_once('.').unwrap_or(("", path));
            if inside != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _infallible = writeln!(text, "{gap}[{inside}]");
                section = inside;
            }
            let line = match value {
                // JSON's texts, numbers and lists of those read the same in TOML.
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} is not set"),
            };
            let _infallible = writeln!(text, "{line:<56} # {source}");
        }
        text
    }

    /// For programs: a list of `{key, value, source}`.
    pub(crate) fn to_json(&self) -> Value {
        let entry = |InForce {
                         path,
                         value,
                         source,
                     }: &InForce| {
            let mut entry = Map::new();
            entry.insert("key".to_owned(), path.as_str().into());
            entry.insert("value".to_owned(), value.clone().unwrap_or_default());
            entry.insert("source".to_owned(), source.to_string().into());
            Value::Object(entry)
        };
        self.0.iter().map(entry).collect()
    }
}
