//! `[database]`: where users and sessions are kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use countersign_sql::{AddressError, PostgresOptions, SqliteOptions, UserTable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations;
use super::problems::Problems;
use super::urls::holds_password;

/// Where users and sessions are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseSection {
    /// The database. `sqlite://` and the path of its file, relative to the working directory or,
    /// with a third slash, absolute; made at the first start. Or `postgres://user:password@host/name`
    /// for more than one node; `sslmode` and `sslrootcert` may follow. A database on another machine
    /// must prove its name (`sslmode=verify-full`). Default: `sqlite://countersign.db`.
    url: String,
    /// How long to wait for a database that is busy, from `100ms` to `60s`. Default: `5s`.
    timeout: String,
    /// How many transactions run at once in PostgreSQL, on a connection each, from 1 to 1000. Each
    /// node has this many connections at most, and three more. Default: four for each core.
    pool_size: Option<u32>,
    /// Whether `url` leads to a pooler that gives each transaction another connection, like PgBouncer
    /// with `pool_mode = transaction`. Then other nodes are looked for every 50 ms rather than listened
    /// to, unless `listen_url` is set. Default: false.
    pooled: bool,
    /// The same PostgreSQL database past the pooler, where other nodes can be listened to on one
    /// connection. Default: none.
    listen_url: Option<String>,
}

impl Default for DatabaseSection {
    fn default() -> Self {
        Self {
            url: "sqlite://countersign.db".to_owned(),
            timeout: "5s".to_owned(),
            pool_size: None,
            pooled: false,
            listen_url: None,
        }
    }
}

/// Where users and sessions are kept, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DatabaseSettings {
    Sqlite(SqliteOptions),
    Postgres(Box<PostgresOptions>),
    /// It was refused.
    Refused,
}

impl DatabaseSettings {
    /// The table that users stand in.
    pub(crate) fn user_table(&self) -> &str {
        match self {
            Self::Sqlite(options) => options.users.name(),
            Self::Postgres(options) => options.users.name(),
            Self::Refused => unreachable!("refused settings open nothing"),
        }
    }

    /// How many connections there are for transactions, if that is chosen.
    pub(crate) fn pool_size(&self) -> Option<usize> {
        match self {
            Self::Postgres(options) => Some(options.pool_size),
            Self::Sqlite(_) | Self::Refused => None,
        }
    }

    /// How many files it may have open in this process, at most.
    pub(crate) fn open_files(&self) -> usize {
        match self {
            // Those for transactions, and the few beside them.
            Self::Postgres(options) => options.pool_size + 8,
            // The file and its log on each connection: one reads on each core, one writes; and what is
            // opened to see whether it still is the same file.
            Self::Sqlite(_) => 16 + 2 * std::thread::available_parallelism().map_or(1, usize::from),
            Self::Refused => 0,
        }
    }

    /// The database at a URL of the command line, waited for as long as this one.
    pub(crate) fn another(&self, url: &str) -> Result<Self, String> {
        if holds_password(url) {
            return Err(
                "others on this machine can read a password on the command line: give this URL in \
                 COUNTERSIGN_DATABASE__URL or in the settings file as database.url, and leave the \
                 option out"
                    .to_owned(),
            );
        }
        let (timeout, users) = match self {
            Self::Sqlite(options) => (options.timeout, &options.users),
            Self::Postgres(options) => (options.timeout, &options.users),
            Self::Refused => unreachable!("refused settings open nothing"),
        };
        if is_postgres(url) {
            let options = PostgresOptions::new(url).map_err(|error| error.to_string())?;
            let options = options.timeout(timeout).users(users.clone());
            return Ok(Self::Postgres(Box::new(options)));
        }
        let options = SqliteOptions::new(parse_file(url)?).timeout(timeout);
        Ok(Self::Sqlite(options.users(users.clone())))
    }
}

/// Without a password.
impl fmt::Display for DatabaseSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => options.path.display().fmt(formatter),
            Self::Postgres(options) => options.fmt(formatter),
            Self::Refused => formatter.write_str("(refused)"),
        }
    }
}

const LARGEST_POOL: u32 = 1_000;

impl DatabaseSection {
    pub(crate) fn check(&self, users: UserTable, problems: &mut Problems) -> DatabaseSettings {
        let limits = (Duration::from_millis(100), Duration::from_mins(1));
        let timeout = durations::between(&self.timeout, limits.0, limits.1);
        let timeout = problems.keep("database.timeout", timeout, limits.1);
        if is_postgres(&self.url) {
            return self.check_postgres(timeout, users, problems);
        }
        let only_postgres = [
            ("database.pool_size", self.pool_size.is_some()),
            ("database.pooled", self.pooled),
            ("database.listen_url", self.listen_url.is_some()),
        ];
        for (key, is_set) in only_postgres {
            if is_set {
                problems.add(key, "is for PostgreSQL alone: leave this out");
            }
        }
        let file = problems.keep("database.url", parse_file(&self.url), PathBuf::new());
        DatabaseSettings::Sqlite(SqliteOptions::new(file).timeout(timeout).users(users))
    }

    /// Of a URL on the command line, which everybody on the machine can read.
    pub(crate) fn refuse_password(&self, problems: &mut Problems) {
        if holds_password(&self.url) {
            problems.add(
                "database.url",
                "others on this machine can read a password on the command line: give the URL in \
                 COUNTERSIGN_DATABASE__URL or in the settings file",
            );
        }
    }

    fn check_postgres(
        &self,
        timeout: Duration,
        users: UserTable,
        problems: &mut Problems,
    ) -> DatabaseSettings {
        let mut options = match PostgresOptions::new(&self.url) {
            Ok(options) => options.timeout(timeout).pooled(self.pooled).users(users),
            Err(error) => {
                problems.add("database.url", error.to_string());
                return DatabaseSettings::Refused;
            }
        };
        if let Some(size) = self.pool_size {
            if !(1..=LARGEST_POOL).contains(&size) {
                let message = format!("write a number from 1 to {LARGEST_POOL}");
                problems.add("database.pool_size", message);
            }
            options = options.pool_size(size as usize);
        }
        match &self.listen_url {
            Some(url) => match check_listen_url(url, self.pooled, options) {
                Ok(options) => DatabaseSettings::Postgres(Box::new(options)),
                Err(message) => {
                    problems.add("database.listen_url", message);
                    DatabaseSettings::Refused
                }
            },
            None => DatabaseSettings::Postgres(Box::new(options)),
        }
    }
}

fn check_listen_url(
    url: &str,
    pooled: bool,
    options: PostgresOptions,
) -> Result<PostgresOptions, String> {
    if !pooled {
        let message = "is for use with a pooler: set database.pooled as well, or leave this out";
        return Err(message.to_owned());
    }
    options
        .listen_url(url)
        .map_err(|error: AddressError| error.to_string())
}

fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}

/// The messages do not quote the URL: that of another database may hold a password.
fn parse_file(url: &str) -> Result<PathBuf, String> {
    let Some(path) = url.strip_prefix("sqlite://") else {
        let message = "write sqlite:// and the path of a file, like sqlite://countersign.db, or \
                       postgres://user:password@host/name";
        return Err(message.to_owned());
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
