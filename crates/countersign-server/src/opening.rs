//! Opens what every command needs: the database, the root secret, and the use cases over them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use countersign_core::auth::Auth;
use countersign_core::clock::SystemRandomness;
use countersign_core::secrets::{RootSecret, RootSecrets};
use countersign_core::store::Store as _;
use countersign_sql::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore};

use crate::config::secrets::{self, RootSource};
use crate::config::{DatabaseSettings, Problems, Settings};
use crate::failure::Failure;
use crate::root_file;

/// What to do where there is no database yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Make it.
    Create,
    /// Say so: a new, empty one would not be what was meant.
    Refuse,
}

/// Opens the service's use cases, bringing the database to this program's version.
pub(crate) async fn open(settings: &Settings, if_missing: IfMissing) -> Result<Auth, Failure> {
    match &settings.database {
        DatabaseSettings::Sqlite(options) => open_sqlite(options, settings, if_missing).await,
        DatabaseSettings::Postgres(options) => open_postgres(options, settings, if_missing).await,
        DatabaseSettings::Refused => unreachable!("refused settings open nothing"),
    }
}

async fn open_sqlite(
    options: &SqliteOptions,
    settings: &Settings,
    if_missing: IfMissing,
) -> Result<Auth, Failure> {
    if if_missing == IfMissing::Refuse {
        refuse_missing(&options.path)?;
    }
    let store = SqliteStore::open(options)?;
    let root = match &settings.root {
        RootSource::Given(root) => root.clone(),
        RootSource::ToBeMade(file) => make_root(file, &store, settings).await?,
        RootSource::Refused => unreachable!("refused settings open nothing"),
    };
    let roots = roots(root, settings);
    Ok(Auth::start(Arc::new(store), roots, settings.auth.clone()).await?)
}

async fn open_postgres(
    options: &PostgresOptions,
    settings: &Settings,
    if_missing: IfMissing,
) -> Result<Auth, Failure> {
    if if_missing == IfMissing::Refuse
        && PostgresStore::schema_versions(options).await?.current == 0
    {
        return Err(Failure::Failed(format!(
            "there is nothing of Countersign's in {options}: name your database with --database, or \
             begin with `countersign serve` or `countersign createsuperuser`"
        )));
    }
    let store = PostgresStore::open(options).await?;
    let RootSource::Given(root) = &settings.root else {
        unreachable!("settings without a root secret are refused with PostgreSQL");
    };
    // All nodes decide by one clock, whatever their own show.
    let clock = store.clock();
    let auth = Auth::start_with(
        Arc::new(store),
        roots(root.clone(), settings),
        settings.auth.clone(),
        clock,
        Arc::new(SystemRandomness),
    );
    Ok(auth.await?)
}

fn roots(current: RootSecret, settings: &Settings) -> RootSecrets {
    RootSecrets {
        current,
        previous: settings.previous_roots.clone(),
    }
}

/// Refuses a database that does not exist.
pub(crate) fn refuse_missing(file: &Path) -> Result<(), Failure> {
    match file.try_exists() {
        Ok(false) => Err(Failure::Failed(format!(
            "there is no database at {}: name yours with --database, or make one with `countersign \
             serve` or `countersign createsuperuser`",
            file.display()
        ))),
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Makes the root secret, unless the database was used with one that is missing now.
async fn make_root(
    file: &Path,
    store: &SqliteStore,
    settings: &Settings,
) -> Result<RootSecret, Failure> {
    let shown = file.display();
    // Keys that are sealed under a secret from before are sealed anew.
    if settings.previous_roots.is_empty() && !store.signing_keys().await?.is_empty() {
        // Another process may have made both since the settings were read.
        return read_root(file)?.ok_or_else(|| lost_root(file, &settings.database));
    }
    let fresh = RootSecret::generate(&SystemRandomness);
    match root_file::create(file, &fresh) {
        Ok(()) => {
            tracing::info!(event = "root_secret_made", file = %shown);
            Ok(fresh)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another process was faster: its secret is the one.
            let other = read_root(file)?;
            other.ok_or_else(|| Failure::Failed(format!("{shown} came and went: start again")))
        }
        Err(error) => Err(Failure::Failed(format!(
            "the root secret cannot be kept in {shown} ({error}): let this user write there, or \
             name another file in secrets.root_file"
        ))),
    }
}

fn read_root(file: &Path) -> Result<Option<RootSecret>, Failure> {
    match secrets::read(file).map_err(Problems::from)? {
        RootSource::Given(root) => Ok(Some(root)),
        RootSource::ToBeMade(_) | RootSource::Refused => Ok(None),
    }
}

fn lost_root(file: &Path, database: &DatabaseSettings) -> Failure {
    let mut problems = Problems::default();
    problems.add(
        "secrets.root_file",
        format!(
            "{} does not exist, and {} holds signing keys that are sealed under the secret that was \
             in it: restore that file from its backup, or give the same secret in \
             COUNTERSIGN_SECRET. To replace the secret, name the old one in secrets.previous. If the \
             secret is lost for good, delete the rows of countersign_signing_key; the next start then \
             makes a new secret and new keys, and everybody signs in again",
            file.display(),
            database
        ),
    );
    problems.into()
}
