//! `migrate`: brings the database to the version that this program needs.

use countersign_sql::{PostgresStore, SchemaVersions, SqliteStore};

use super::moving;
use crate::cli::Migrate;
use crate::config::{DatabaseSettings, Settings};
use crate::failure::Failure;
use crate::output;

pub(super) async fn run(settings: &Settings, options: &Migrate) -> Result<(), Failure> {
    let database = &settings.database;
    if options.from.is_some() || options.to.is_some() {
        return moving::run(settings, options).await;
    }
    if options.reopen {
        return moving::reopen(database);
    }
    if options.json {
        return Err(Failure::WrongUse(
            "--json tells what has moved: name a database with --from or --to".to_owned(),
        ));
    }
    if options.check {
        let versions = look(database).await?;
        if versions.is_pending() {
            return Err(Failure::Failed(format!(
                "{database} has schema version {} and version {} is needed: run `countersign \
                 migrate`",
                versions.current, versions.wanted
            )));
        }
        output::line(format_args!(
            "{database} has schema version {}.",
            versions.current
        ));
        return Ok(());
    }
    let versions = migrate(database).await?;
    if versions.is_pending() {
        let (before, now) = (versions.current, versions.wanted);
        output::line(format_args!(
            "{database} went from schema version {before} to {now}."
        ));
    } else {
        output::line(format_args!(
            "{database} has schema version {}: nothing to do.",
            versions.current
        ));
    }
    Ok(())
}

async fn look(database: &DatabaseSettings) -> Result<SchemaVersions, Failure> {
    Ok(match database {
        DatabaseSettings::Sqlite(options) => SqliteStore::schema_versions(options)?,
        DatabaseSettings::Postgres(options) => PostgresStore::schema_versions(options).await?,
        DatabaseSettings::Refused => unreachable!("refused settings open nothing"),
    })
}

/// Does it. Gives the versions the database had and has.
pub(super) async fn migrate(database: &DatabaseSettings) -> Result<SchemaVersions, Failure> {
    Ok(match database {
        DatabaseSettings::Sqlite(options) => SqliteStore::migrate(options)?,
        DatabaseSettings::Postgres(options) => PostgresStore::migrate(options).await?,
        DatabaseSettings::Refused => unreachable!("refused settings open nothing"),
    })
}
