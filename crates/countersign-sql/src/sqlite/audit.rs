//! The audit log.

use countersign_core::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::rows::{self, audit_columns};
use crate::words;

/// Keeps entries, in the transaction that the connection is in.
pub(super) fn record<'entry>(
    connection: &Connection,
    entries: impl IntoIterator<Item = &'entry AuditEntry>,
) -> Result<(), Failure> {
    for entry in entries {
        connection
            .prepare_cached(
                "INSERT INTO countersign_audit (at, event, user_id, session, actor, address,
                     user_agent, request_id, details, count)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                entry.at.as_millisecond(),
                entry.event,
                entry.user.map(|user| user.0),
                entry.session.as_ref().map(|id| id.0.as_bytes()),
                entry.by.map(words::write_ended_by),
                entry.caller.address.map(|address| address.to_string()),
                entry.caller.user_agent,
                entry.caller.request_id,
                words::write_details(&entry.details),
                entry.count,
            ])?;
    }
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    query: &AuditQuery,
) -> Result<Vec<RecordedEntry>, Failure> {
    // Conditions that do not apply are left out, or SQLite would not use the index.
    let conditions = [
        (query.user.is_some(), "user_id = ?1"),
        (query.session.is_some(), "session = ?2"),
        (query.event.is_some(), "event = ?3"),
        (query.since.is_some(), "at >= ?4"),
        (query.until.is_some(), "at < ?5"),
        (query.after.is_some(), "(at, number) < (?6, ?7)"),
    ];
    let conditions = words::all_of(conditions);
    let sql = format!(
        "SELECT {} FROM countersign_audit WHERE {conditions}
         ORDER BY at DESC, number DESC LIMIT ?8",
        audit_columns!()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (after_at, after_number) = query.after.unzip();
    let listed = statement.query(params![
        query.user.map(|user| user.0),
        query.session.as_ref().map(|id| id.0.as_bytes()),
        query.event,
        query.since.map(Timestamp::as_millisecond),
        query.until.map(Timestamp::as_millisecond),
        after_at.map(Timestamp::as_millisecond),
        after_number,
        query.limit,
    ])?;
    rows::all(listed, rows::audit_entry)
}

pub(super) fn end(connection: &Connection) -> Result<AuditPosition, Failure> {
    // Not the greatest number there is: its entry may have been removed.
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'countersign_audit'",
    )?;
    Ok(AuditPosition {
        transaction: 0,
        number: statement.query_row([], |row| row.get(0))?,
    })
}

/// One writer at a time gives the numbers, so that they are in the order of the commits.
pub(super) fn follow(
    connection: &Connection,
    from: AuditPosition,
    most: u32,
) -> Result<Vec<(AuditPosition, RecordedEntry)>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        audit_columns!(),
        " FROM countersign_audit WHERE number > ?1 ORDER BY number LIMIT ?2"
    ))?;
    rows::all(statement.query(params![from.number, most])?, |row| {
        let recorded = rows::audit_entry(row)?;
        let position = AuditPosition {
            number: recorded.number,
            ..from
        };
        Ok((position, recorded))
    })
}

pub(super) fn sweep(connection: &Connection, before: Timestamp, most: u32) -> Result<u32, Failure> {
    let mut remove = connection.prepare_cached(
        "DELETE FROM countersign_audit WHERE number IN (
             SELECT number FROM countersign_audit WHERE at < ?1 ORDER BY at LIMIT ?2)",
    )?;
    let removed = remove.execute(params![before.as_millisecond(), most])?;
    Ok(u32::try_from(removed).unwrap_or(u32::MAX))
}
