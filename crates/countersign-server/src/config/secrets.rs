//! `[secrets]`: the root secret, from which all others are derived.

use std::io;
use std::path::{Path, PathBuf};

use countersign_core::secrets::RootSecret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file_mode;
use super::problems::Problems;
use super::secret_text::SecretText;

/// The root secret, from which all others are derived.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SecretsSection {
    /// The root secret itself: at least 32 random bytes, as `openssl rand -base64 32` writes them.
    /// Better kept in a file of its own: see `secrets.root_file`. Default: none, the file is read.
    root: Option<SecretText>,
    /// The file that holds the root secret, readable by its owner alone. Made at the first start.
    /// Default: `countersign.secret`.
    root_file: PathBuf,
    /// Root secrets that were in force before: what was made under them is still accepted, so that
    /// replacing the root secret signs nobody out. Each is a secret, or `file:` and the file that holds
    /// it. To be taken out once every session of that time has been refreshed (`sessions.idle`).
    /// Default: none.
    previous: Vec<SecretText>,
}

impl Default for SecretsSection {
    fn default() -> Self {
        Self {
            root: None,
            root_file: PathBuf::from("countersign.secret"),
            previous: Vec::new(),
        }
    }
}

/// The root secret, or where it is to be made.
#[derive(Debug, Clone)]
pub(crate) enum RootSource {
    /// It was given.
    Given(RootSecret),
    /// Its file does not exist yet.
    ToBeMade(PathBuf),
    /// It was refused.
    Refused,
}

impl SecretsSection {
    pub(crate) fn check(&self, problems: &mut Problems) -> RootSource {
        let (key, found) = match &self.root {
            Some(text) => ("secrets.root", parse(text.expose()).map(RootSource::Given)),
            None => ("secrets.root_file", read(&self.root_file)),
        };
        problems.keep(key, found, RootSource::Refused)
    }

    /// The root secrets before the one in force.
    pub(crate) fn check_previous(
        &self,
        root: &RootSource,
        problems: &mut Problems,
    ) -> Vec<RootSecret> {
        let mut previous = Vec::new();
        for (index, text) in self.previous.iter().enumerate() {
            match read_previous(text.expose()) {
                Ok(secret) if is_in_force(&secret, root) => problems.add(
                    "secrets.previous",
                    format!(
                        "number {} is the root secret in force: put a new one in force, or take \
                         this out",
                        index + 1
                    ),
                ),
                Ok(secret) => previous.push(secret),
                Err(refusal) => problems.add(
                    "secrets.previous",
                    format!("number {}: {refusal}", index + 1),
                ),
            }
        }
        previous
    }
}

fn is_in_force(secret: &RootSecret, root: &RootSource) -> bool {
    matches!(root, RootSource::Given(root) if root.is_same(secret))
}

fn read_previous(text: &str) -> Result<RootSecret, String> {
    let Some(file) = text.strip_prefix("file:") else {
        return parse(text);
    };
    match read(Path::new(file))? {
        RootSource::Given(secret) => Ok(secret),
        RootSource::ToBeMade(_) | RootSource::Refused => Err(format!("{file} does not exist")),
    }
}

/// Reads the root secret's file, if there is one.
pub(crate) fn read(file: &Path) -> Result<RootSource, String> {
    let shown = file.display();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(RootSource::ToBeMade(file.to_owned()));
        }
        Err(error) => return Err(format!("{shown} cannot be read: {error}")),
    };
    if file_mode::others_have_access(file) {
        return Err(format!("others can read {shown}: run `chmod 600 {shown}`"));
    }
    parse(&text)
        .map(RootSource::Given)
        .map_err(|refusal| format!("{shown}: {refusal}"))
}

fn parse(text: &str) -> Result<RootSecret, String> {
    RootSecret::parse(text).map_err(|refusal| refusal.to_string())
}
