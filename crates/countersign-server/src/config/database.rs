//! `[database]`: where users and sessions are kept.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations;
use super::problems::Problems;

/// Where users and sessions are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseSection {
    /// The database: `sqlite://` and the path of its file, relative to the working directory or,
    /// with a third slash, absolute. Made at the first start. Default: `sqlite://countersign.db`.
    url: String,
    /// How long to wait for a database that is busy, from `100ms` to `60s`. Default: `5s`.
    timeout: String,
}

impl Default for DatabaseSection {
    fn default() -> Self {
        Self {
            url: "sqlite://countersign.db".to_owned(),
            timeout: "5s".to_owned(),
        }
    }
}

/// Where users and sessions are kept, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseSettings {
    pub(crate) file: PathBuf,
    pub(crate) timeout: Duration,
}

impl DatabaseSection {
    pub(crate) fn check(&self, problems: &mut Problems) -> DatabaseSettings {
        let file = problems.keep("database.url", parse_url(&self.url), PathBuf::new());
        let limits = (Duration::from_millis(100), Duration::from_mins(1));
        let timeout = durations::between(&self.timeout, limits.0, limits.1);
        let timeout = problems.keep("database.timeout", timeout, limits.1);
        DatabaseSettings { file, timeout }
    }
}

/// The messages do not quote the URL: that of another database may hold a password.
fn parse_url(url: &str) -> Result<PathBuf, String> {
    let Some(path) = url.strip_prefix("sqlite://") else {
        let known = ["postgres://", "postgresql://", "mysql://"];
        return Err(if known.iter().any(|scheme| url.starts_with(scheme)) {
            "this release keeps its data in SQLite only: write sqlite://countersign.db".to_owned()
        } else {
            "write sqlite:// and the path of a file, like sqlite://countersign.db".to_owned()
        });
    };
    if path.is_empty() || path.ends_with('/') {
        return Err("name the file, like sqlite://countersign.db".to_owned());
    }
    if path.contains(":memory:") {
        let message = "a database in memory would forget every user: name a file, like \
                       sqlite://countersign.db";
        return Err(message.to_owned());
    }
    if path.contains(['?', '#', '\0']) {
        return Err("write the path alone, without ? or #".to_owned());
    }
    Ok(PathBuf::from(path))
}
