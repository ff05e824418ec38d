//! The audit log, which transitions write in their own statements.

use countersign_core::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
use countersign_core::error::StoreError;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, audit_columns};
use super::writer::Done;
use crate::words;

/// A trail as the parameter that [`left!`] reads.
pub(super) fn write_trail(trail: &Trail) -> String {
    let entries: Vec<_> = trail.entries.iter().map(write_entry).collect();
    let caller = &trail.caller;
    json!({
        "entries": entries,
        "caller": {
            "address": caller.address,
            "user_agent": caller.user_agent,
            "request_id": caller.request_id,
        },
    })
    .to_string()
}

fn write_entry(entry: &AuditEntry) -> Value {
    json!({
        "at": entry.at.as_millisecond(),
        "event": entry.event,
        "user_id": entry.user,
        "session": entry.session,
        "actor": entry.by.map(words::write_ended_by),
        "address": entry.caller.address,
        "user_agent": entry.caller.user_agent,
        "request_id": entry.caller.request_id,
        "details": words::write_details(&entry.details),
        "count": entry.count,
    })
}

/// What keeps the entries of the trail in a parameter, for a statement's WITH: if the transition is made, for
/// which a query gives one row, with the number of the user whom it made, if it makes one.
macro_rules! left {
    ($trail:literal, $($made:tt)*) => {
        concat!(
            "left_entries AS (
                 INSERT INTO countersign_audit (at, event, user_id, session, actor, address,
                     user_agent, request_id, details, count)
                 SELECT entry.at, entry.event, coalesce(entry.user_id, made.user_id), entry.session,
                     entry.actor, entry.address, entry.user_agent, entry.request_id, entry.details,
                     entry.count
                 FROM (", $($made)*, ") AS made (user_id),
                     jsonb_to_recordset(", $trail, "::jsonb -> 'entries') AS entry (
                         at bigint, event text, user_id bigint, session uuid, actor text, address text,
                         user_agent text, request_id text, details text, count bigint))"
        )
    };
}
pub(super) use left;

/// The same for the sessions in `ended`, an entry of each: as [`Trail::of_end`] makes it.
macro_rules! left_of_ends {
    ($trail:literal) => {
        concat!(
            "left_of_ends AS (
                 INSERT INTO countersign_audit (at, event, user_id, session, actor, address,
                     user_agent, request_id, details, count)
                 SELECT ended.ended_at, 'session_ended', ended.user_id, ended.id, ended.ended_by,
                     caller.address, caller.user_agent, caller.request_id,
                     '{\"reason\":\"' || ended.end_reason || '\"}', 1
                 FROM ended, jsonb_to_record(",
            $trail,
            "::jsonb -> 'caller') AS caller (
                     address text, user_agent text, request_id text))"
        )
    };
}
pub(super) use left_of_ends;

pub(super) async fn record(link: &Link, entries: &[AuditEntry]) -> Result<Done<()>, Failure> {
    let trail = Trail {
        entries: entries.to_vec(),
        ..Trail::default()
    };
    leave(link, &trail).await?;
    Ok(Done::quietly(()))
}

/// Keeps the entries of a trail by a statement of its own, in a transaction that was begun.
pub(super) async fn leave(link: &Link, trail: &Trail) -> Result<(), Failure> {
    let sql = concat!("WITH ", left!("$1", "VALUES (NULL::bigint)"), " SELECT 1");
    link.query(sql, &[(&write_trail(trail), Type::TEXT)])
        .await?;
    Ok(())
}

pub(super) async fn list(
    readers: &Readers,
    query: &AuditQuery,
) -> Result<Vec<RecordedEntry>, StoreError> {
    // Conditions that do not apply are left out, or no index would be used.
    let conditions = [
        (query.user.is_some(), "user_id = $1"),
        (query.session.is_some(), "session = $2"),
        (query.event.is_some(), "event = $3"),
        (query.since.is_some(), "at >= $4"),
        (query.until.is_some(), "at < $5"),
        (query.after.is_some(), "(at, number) < ($6, $7)"),
    ];
    let conditions = words::all_of(conditions);
    let sql = format!(
        "SELECT {} FROM countersign_audit WHERE {conditions}
         ORDER BY at DESC, number DESC LIMIT $8",
        audit_columns!()
    );
    let (after_at, after_number) = query.after.unzip();
    // No text in PostgreSQL has a NUL, so no event is called so.
    let event = query.event.as_ref().map(|event| event.replace('\0', " "));
    readers
        .read(
            &sql,
            &[
                (&query.user.map(|user| user.0), Type::INT8),
                (&query.session.map(|id| id.0), Type::UUID),
                (&event, Type::TEXT),
                (&query.since.map(Timestamp::as_millisecond), Type::INT8),
                (&query.until.map(Timestamp::as_millisecond), Type::INT8),
                (&after_at.map(Timestamp::as_millisecond), Type::INT8),
                (&after_number, Type::INT8),
                (&i64::from(query.limit), Type::INT8),
            ],
            rows::audit_entry,
        )
        .await
}

/// The transaction before the oldest one that is still open.
pub(super) async fn end(readers: &Readers) -> Result<AuditPosition, StoreError> {
    let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1";
    let last = readers
        .read_one(sql, &[], |row| Ok(row.try_get(0)?))
        .await?
        .ok_or_else(|| StoreError::Corrupt("a snapshot without transactions".to_owned()))?;
    Ok(AuditPosition {
        transaction: last,
        number: i64::MAX,
    })
}

pub(super) async fn follow(
    readers: &Readers,
    from: AuditPosition,
    most: u32,
) -> Result<Vec<(AuditPosition, RecordedEntry)>, StoreError> {
    let sql = concat!(
        "SELECT ",
        audit_columns!(),
        ", transaction FROM countersign_audit
         WHERE (transaction, number) > ($1, $2)
             AND transaction < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
         ORDER BY transaction, number LIMIT $3"
    );
    readers
        .read(
            sql,
            &[
                (&from.transaction, Type::INT8),
                (&from.number, Type::INT8),
                (&i64::from(most), Type::INT8),
            ],
            |row| {
                let recorded = rows::audit_entry(row)?;
                let position = AuditPosition {
                    transaction: row.try_get(rows::AUDIT_COLUMNS)?,
                    number: recorded.number,
                };
                Ok((position, recorded))
            },
        )
        .await
}

pub(super) async fn sweep(link: &Link, before: Timestamp, most: u32) -> Result<Done<u32>, Failure> {
    let sql = "WITH removed AS (
             DELETE FROM countersign_audit WHERE number IN (
                 SELECT number FROM countersign_audit WHERE at < $1 ORDER BY at LIMIT $2)
             RETURNING 1)
         SELECT count(*) FROM removed";
    let removed = link
        .query(
            sql,
            &[
                (&before.as_millisecond(), Type::INT8),
                (&i64::from(most), Type::INT8),
            ],
        )
        .await?;
    let removed: i64 = match removed.first() {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    Ok(Done::quietly(u32::try_from(removed).unwrap_or(most)))
}
