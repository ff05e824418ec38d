//! `migrate --from … --to …`: users, sessions and signing keys move to another database.

use std::path::Path;

use countersign_core::keys;
use countersign_core::secrets::RootSecrets;
use countersign_sql::{LeftBehind, MoveError, Moved};
use serde_json::{Value, json};

use crate::cli::Migrate;
use crate::config::secrets::RootSource;
use crate::config::{DatabaseSettings, Problems, Settings};
use crate::failure::Failure;
use crate::output::{self, Safe};

pub(super) async fn run(settings: &Settings, options: &Migrate) -> Result<(), Failure> {
    let from = named("--from", options.from.as_deref(), &settings.database)?;
    let to = named("--to", options.to.as_deref(), &settings.database)?;
    if from == to {
        return Err(Failure::WrongUse(format!(
            "--from and --to are one and the same, {from}: what is not named is the database of the \
             settings"
        )));
    }
    let (DatabaseSettings::Sqlite(source), DatabaseSettings::Postgres(target)) = (&from, &to)
    else {
        return Err(Failure::WrongUse(format!(
            "users move from sqlite:// to postgres://, and not from {from} to {to}"
        )));
    };
    refuse_missing(&source.path)?;
    let roots = roots(settings)?;
    let keys_open = |keys: &[_]| keys::all_open(&roots, keys);
    let moved = countersign_sql::move_to_postgres(source, target, keys_open).await?;
    if options.json {
        output::json(&to_json(&from, &to, &moved));
    } else {
        tell(&from, &to, &moved);
    }
    Ok(())
}

/// Lets the database of the settings be used again.
pub(super) fn reopen(settings: &DatabaseSettings) -> Result<(), Failure> {
    let DatabaseSettings::Sqlite(options) = settings else {
        return Err(Failure::WrongUse(format!(
            "{settings} was never closed: name the SQLite file that users had moved away from with \
             --database"
        )));
    };
    refuse_missing(&options.path)?;
    match countersign_sql::reopen(options)? {
        Some(target) => output::line(format_args!(
            "{settings} can be used again, as it was when its users moved to {}. See to it that nobody \
             uses that one any more.",
            Safe(target)
        )),
        None => output::line(format_args!(
            "{settings} can be used: its users have not moved."
        )),
    }
    Ok(())
}

/// The root secrets that go along. None is made: the keys are sealed under one already.
fn roots(settings: &Settings) -> Result<RootSecrets, Failure> {
    match &settings.root {
        RootSource::Given(root) => Ok(RootSecrets {
            current: root.clone(),
            previous: settings.previous_roots.clone(),
        }),
        RootSource::ToBeMade(file) => {
            let mut problems = Problems::default();
            problems.add(
                "secrets.root_file",
                format!(
                    "{} does not exist, so nothing was moved: sessions and signing keys are bound to \
                     the root secret of the service that users move away from. Name its file here, or \
                     give the secret in COUNTERSIGN_SECRET; a new one would sign everybody out",
                    file.display()
                ),
            );
            Err(problems.into())
        }
        RootSource::Refused => unreachable!("refused settings move nobody"),
    }
}

/// Refuses a file that does not exist, and makes none.
fn refuse_missing(file: &Path) -> Result<(), Failure> {
    match file.try_exists() {
        Ok(false) => Err(Failure::Failed(format!(
            "there is no database at {}",
            file.display()
        ))),
        Ok(true) | Err(_) => Ok(()),
    }
}

/// The database that an option names, or else that of the settings.
fn named(
    option: &str,
    url: Option<&str>,
    settings: &DatabaseSettings,
) -> Result<DatabaseSettings, Failure> {
    let Some(url) = url else {
        return Ok(settings.clone());
    };
    settings
        .another(url)
        .map_err(|refusal| Failure::WrongUse(format!("{option}: {refusal}")))
}

fn tell(from: &DatabaseSettings, to: &DatabaseSettings, moved: &Moved) {
    output::line(format_args!(
        "Moved from {from} to {to}; what was read back there is the same:"
    ));
    for table in &moved.tables {
        output::line(format_args!("  {:<12} {:>12}", table.called, table.rows));
    }
    if !moved.left_behind.is_empty() {
        output::line("Not carried over, because it is not Countersign's:");
        for left in &moved.left_behind {
            output::line(format_args!("  {}", describe(left)));
        }
    }
    output::line(format_args!(
        "{from} is closed. Name the new one in database.url, keep the root secret, and start the \
         service. A service that still runs on the old one answers 503 to what it would have to write: \
         stop it."
    ));
}

fn describe(left: &LeftBehind) -> String {
    let what = Safe(&left.what);
    match left.rows {
        Some(1) => format!("{what} (1 row)"),
        Some(rows) => format!("{what} ({rows} rows)"),
        None => what.to_string(),
    }
}

fn to_json(from: &DatabaseSettings, to: &DatabaseSettings, moved: &Moved) -> Value {
    let tables: Vec<_> = moved
        .tables
        .iter()
        .map(|table| json!({ "table": table.name, "rows": table.rows, "sha256": table.sha256 }))
        .collect();
    let left_behind: Vec<_> = moved
        .left_behind
        .iter()
        .map(|left| json!({ "what": left.what, "rows": left.rows }))
        .collect();
    json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "tables": tables,
        "left_behind": left_behind,
    })
}

impl From<MoveError> for Failure {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::Store(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}
