//! A database whose users and sessions have moved away: nobody writes to it any more.
//!
//! Processes that have it open, and other programs, do not ask; triggers stop them. Whoever opens it
//! is told where everything went. There is nothing of this in a database that has not moved.

use rusqlite::{Connection, OptionalExtension as _};

use super::failure::Failure;
use crate::moving::TABLES;

/// Marks the database, within the transaction that the connection is in.
pub(super) fn mark(connection: &Connection, target: &str) -> Result<(), Failure> {
    connection.execute_batch(
        "CREATE TABLE countersign_moved (
             singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
             target TEXT NOT NULL, -- without a password
             at INTEGER NOT NULL   -- milliseconds since 1970
         )",
    )?;
    connection.execute(
        "INSERT INTO countersign_moved (singleton, target, at)
         VALUES (1, ?1, unixepoch('subsec') * 1000)",
        [target],
    )?;
    let why = refusal(target).replace('\'', "''");
    for (name, table, event) in triggers() {
        connection.execute_batch(&format!(
            "CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, '{why}'); END"
        ))?;
    }
    Ok(())
}

/// Takes the mark away. Gives where everything had gone; `None` if there was no mark.
pub(super) fn unmark(connection: &Connection) -> Result<Option<String>, Failure> {
    let Some(target) = target(connection)? else {
        return Ok(None);
    };
    for (name, ..) in triggers() {
        connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {name}"))?;
    }
    connection.execute_batch("DROP TABLE countersign_moved")?;
    Ok(Some(target))
}

/// Refuses a database that is marked.
pub(super) fn refuse(connection: &Connection) -> Result<(), Failure> {
    match target(connection)? {
        Some(target) => Err(Failure::unavailable(refusal(&target))),
        None => Ok(()),
    }
}

fn target(connection: &Connection) -> Result<Option<String>, Failure> {
    let is_there =
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'countersign_moved'";
    if !connection.prepare_cached(is_there)?.exists([])? {
        return Ok(None);
    }
    let target = "SELECT target FROM countersign_moved";
    Ok(connection
        .query_row(target, [], |row| row.get(0))
        .optional()?)
}

fn refusal(target: &str) -> String {
    format!(
        "it is closed, because its users and sessions have moved to {target}: name that one in database.url. To go back to \
         this one as it was then, without what has changed there since: `countersign migrate --reopen`"
    )
}

/// Their names, the tables they guard, and against what.
fn triggers() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    TABLES.iter().flat_map(|table| {
        ["INSERT", "UPDATE", "DELETE"].map(|event| {
            let name = format!("countersign_moved_{}_{}", table.name, event.to_lowercase());
            (name, table.name, event)
        })
    })
}
