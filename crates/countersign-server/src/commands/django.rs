//! `django`: looks at the users of a Django site, and takes them over where they stand.

use countersign_core::survey::{Finding, Severity, Survey, Surveyed};
use countersign_sql::{PostgresStore, SqliteStore, TableFacts, UserColumn};
use serde_json::{Value, json};

use super::migrate;
use crate::cli::Django;
use crate::config::{DatabaseSettings, Settings};
use crate::failure::Failure;
use crate::opening;
use crate::output;

pub(super) async fn run(settings: &Settings, command: &Django) -> Result<(), Failure> {
    match command {
        Django::Check { json } => check(&settings.database, *json).await,
        Django::Adopt { way_back: true } => show_way_back(&settings.database).await,
        Django::Adopt { way_back: false } => adopt(&settings.database).await,
    }
}

/// Prints the way back. It needs none of the other settings, so that it works when they no longer do.
pub(super) async fn show_way_back(database: &DatabaseSettings) -> Result<(), Failure> {
    let site = look(database).await?;
    output::text(way_back(database, &site.table));
    Ok(())
}

/// What was found of a site.
struct Site {
    users: Surveyed,
    table: TableFacts,
}

impl Site {
    /// Everything that was found, of the table and of its rows, worst first.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = of_table(&self.table);
        findings.extend(self.users.findings.iter().cloned());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    fn has_problems(&self) -> bool {
        self.findings()
            .iter()
            .any(|finding| finding.severity == Severity::Problem)
    }
}

async fn look(database: &DatabaseSettings) -> Result<Site, Failure> {
    let mut survey = Survey::default();
    let table = match database {
        DatabaseSettings::Sqlite(options) => {
            opening::refuse_missing(&options.path)?;
            SqliteStore::survey(options, &mut survey)?
        }
        DatabaseSettings::Postgres(options) => PostgresStore::survey(options, &mut survey).await?,
        DatabaseSettings::Refused => unreachable!("refused settings open nothing"),
    };
    Ok(Site {
        users: survey.finish(),
        table,
    })
}

async fn check(database: &DatabaseSettings, as_json: bool) -> Result<(), Failure> {
    let site = look(database).await?;
    if as_json {
        output::json(&to_json(&site));
    } else {
        tell(database, &site);
    }
    if site.has_problems() {
        let message = "not everything will work: see the problems above. They are about these users \
                       alone: `countersign django adopt` may go on in spite of them";
        return Err(Failure::Failed(message.to_owned()));
    }
    Ok(())
}

async fn adopt(database: &DatabaseSettings) -> Result<(), Failure> {
    let site = look(database).await?;
    tell(database, &site);
    output::line("");
    let versions = migrate::migrate(database).await?;
    output::line(match (versions.is_pending(), database) {
        (false, _) => "Countersign's own tables stand beside the users: nothing to do.",
        (true, DatabaseSettings::Sqlite(_)) => {
            "Countersign's own tables were made beside the users, and the database was switched to its \
             write-ahead log, which Django reads and writes as well; nothing else was changed."
        }
        (true, DatabaseSettings::Postgres(_) | DatabaseSettings::Refused) => {
            "Countersign's own tables were made beside the users; nothing else was changed."
        }
    });
    output::line("");
    let site = look(database).await?;
    output::text(way_back(database, &site.table));
    Ok(())
}

/// What the table itself lacks.
fn of_table(table: &TableFacts) -> Vec<Finding> {
    let finding = |code, severity, message: String| Finding {
        code,
        severity,
        message,
        users: 0,
        examples: Vec::new(),
    };
    let mut findings = Vec::new();
    if !table.missing.is_empty() {
        let names: Vec<_> = table.missing.iter().map(|column| column.name()).collect();
        let message = format!(
            "the table has no column {}: every user has the same there, none or no; if it has other \
             names, set them in django.columns",
            names.join(", ")
        );
        findings.push(finding("columns_missing", Severity::Note, message));
    }
    let has_email = !table.missing.contains(&UserColumn::Email);
    if has_email && !table.email_is_unique {
        let message = "two users may have the same e-mail address: so it is in Django, unless a site \
                       makes it unique";
        findings.push(finding(
            "email_not_unique",
            Severity::Note,
            message.to_owned(),
        ));
    }
    if has_email && !table.email_is_indexed {
        let message = "there is no index on the e-mail address: whoever is looked for by it is found \
                       by reading all users; with many of them, make one";
        findings.push(finding(
            "email_not_indexed",
            Severity::Note,
            message.to_owned(),
        ));
    }
    findings
}

fn tell(database: &DatabaseSettings, site: &Site) {
    let table = database.user_table();
    let users = site.users.users;
    let noun = if users == 1 { "user" } else { "users" };
    output::line(format_args!("{database}, table {table}: {users} {noun}."));
    output::line("\nPasswords");
    for (label, count) in &site.users.passwords {
        let verdict = if count.verified == count.users {
            "verified".to_owned()
        } else if label == "unusable" {
            "no password: nobody signs in with one".to_owned()
        } else {
            format!("{} of them NOT verified", count.users - count.verified)
        };
        output::line(format_args!("  {label:<14} {:>9}  {verdict}", count.users));
    }
    let findings = site.findings();
    if !findings.is_empty() {
        output::line("\nFindings");
    }
    for finding in &findings {
        let (severity, code) = (finding.severity.name(), finding.code);
        let message = match finding.users {
            0 => finding.message.clone(),
            // Of several users is how the message speaks.
            1 => format!(
                "1 {}",
                finding.message.replacen("users have", "user has", 1)
            ),
            users => format!("{users} {}", finding.message),
        };
        output::line(format_args!("  {severity:<8} {code}: {message}"));
        if !finding.examples.is_empty() {
            let ids: Vec<_> = finding.examples.iter().map(ToString::to_string).collect();
            let more = if finding.users > finding.examples.len() as u64 {
                " and more"
            } else {
                ""
            };
            output::line(format_args!("           user {}{more}", ids.join(", ")));
        }
    }
}

/// The SQL that leaves the users as they are and nothing of ours beside them.
fn way_back(database: &DatabaseSettings, table: &TableFacts) -> String {
    if table.our_tables.is_empty() {
        return "-- There is nothing of Countersign's in this database.\n".to_owned();
    }
    let mut lines = vec![
        "-- The way back: stop Countersign, then run this. Users and their passwords stay as they are."
            .to_owned(),
    ];
    match database {
        DatabaseSettings::Postgres(_) => {
            lines.push(format!("DROP TABLE {};", table.our_tables.join(", ")));
        }
        DatabaseSettings::Sqlite(_) | DatabaseSettings::Refused => {
            let drops = table.our_tables.iter();
            lines.extend(drops.map(|table| format!("DROP TABLE {table};")));
            // As Django makes its databases.
            lines.push("PRAGMA journal_mode = DELETE;".to_owned());
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn to_json(site: &Site) -> Value {
    let passwords: serde_json::Map<_, _> = site
        .users
        .passwords
        .iter()
        .map(|(label, count)| {
            let count = json!({ "users": count.users, "verified": count.verified });
            (label.clone(), count)
        })
        .collect();
    let findings: Vec<_> = site
        .findings()
        .into_iter()
        .map(|finding| {
            json!({
                "code": finding.code,
                "severity": finding.severity.name(),
                "message": finding.message,
                "users": finding.users,
                "examples": finding.examples,
            })
        })
        .collect();
    json!({
        "ok": !site.has_problems(),
        "users": site.users.users,
        "passwords": passwords,
        "findings": findings,
        "adopted": !site.table.our_tables.is_empty(),
    })
}
