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
}

impl Default for SecretsSection {
    fn default() -> Self {
        Self {
            root: None,
            root_file: PathBuf::from("countersign.secret"),
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
