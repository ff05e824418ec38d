//! `migrate`: brings the database to the version that this program needs.

use countersign_sql::SqliteStore;

use crate::cli::Migrate;
use crate::config::Settings;
use crate::failure::Failure;
use crate::{opening, output};

pub(super) fn run(settings: &Settings, options: &Migrate) -> Result<(), Failure> {
    let database = settings.database.file.display();
    let opening = opening::options(settings);
    if options.check {
        let versions = SqliteStore::schema_versions(&opening)?;
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
    let versions = SqliteStore::migrate(&opening)?;
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
