//! Transitions and reads of sessions.

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::session::{EndReason, EndedBy, EndedSession, Session, SessionEnd, SessionId};
use countersign_core::store::{Change, Rotation, SessionQuery, SessionSweep, Swept};
use countersign_core::user::{User, UserId};
use jiff::Timestamp;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::audit::{left, left_of_ends, write_trail};
use super::changes::{said_ended, told};
use super::cut_off;
use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, ended_columns, session_columns};
use super::statements::Statements;
use super::writer::Done;
use crate::words;

/// Sessions that meet a condition on `$1`, in pages.
macro_rules! list_sql {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            session_columns!(),
            " FROM countersign_session WHERE ",
            $condition,
            " AND id > $2 ORDER BY id LIMIT $3"
        )
    };
}

pub(super) async fn find(
    readers: &Readers,
    sql: &Statements,
    id: SessionId,
) -> Result<Option<(Session, Option<User>)>, StoreError> {
    readers
        .read_one(
            &sql.find_session,
            &[(&id.0, Type::UUID)],
            rows::session_and_user,
        )
        .await
}

pub(super) async fn rotate(
    link: &Link,
    sql: &Statements,
    rotation: &Rotation,
) -> Result<Done<bool>, Failure> {
    let rotated = link
        .query(
            &sql.rotate,
            &[
                (&rotation.session.0, Type::UUID),
                (&i64::from(rotation.from.0), Type::INT8),
                (&i64::from(rotation.from.next().0), Type::INT8),
                (&rotation.at.as_millisecond(), Type::INT8),
            ],
        )
        .await?;
    Ok(Done::quietly(!rotated.is_empty()))
}

/// Ends a session, if it is alive.
pub(super) async fn end(
    link: &Link,
    id: SessionId,
    end: SessionEnd,
    trail: &Trail,
) -> Result<Done<bool>, Failure> {
    let sql = concat!(
        "WITH ended AS (
             UPDATE countersign_session
             SET ended_at = greatest($3, rotated_at), end_reason = $4, ended_by = $5
             WHERE id = $2 AND ended_at IS NULL
             RETURNING ",
        ended_columns!(),
        "), ",
        told!(said_ended!()),
        ", ",
        left!("$6", "SELECT NULL::bigint FROM ended"),
        ", ",
        left_of_ends!("$6"),
        " SELECT * FROM ended"
    );
    let ended = link
        .query(
            sql,
            &[
                (&link.origin, Type::INT8),
                (&id.0, Type::UUID),
                (&end.at.as_millisecond(), Type::INT8),
                (&end.reason.code(), Type::TEXT),
                (&rows::ended_by(end.by), Type::TEXT),
                (&write_trail(trail), Type::TEXT),
            ],
        )
        .await?;
    let done = all_ended(rows::all_ended(&ended)?);
    Ok(Done {
        outcome: !done.outcome.is_empty(),
        changes: done.changes,
    })
}

/// Ends every live session of a user but `spared`, each locked in the same order by everyone, and refuses
/// the site's tokens issued until then; in a transaction that has locked the account.
pub(super) async fn end_all(
    link: &Link,
    user: UserId,
    spared: Option<SessionId>,
    end: SessionEnd,
    trail: &Trail,
) -> Result<Done<Vec<EndedSession>>, Failure> {
    cut_off::note(link, user, end.at).await?;
    let sql = concat!(
        "WITH live AS (
             SELECT id FROM countersign_session
             WHERE user_id = $2 AND ended_at IS NULL AND id IS DISTINCT FROM $6
             ORDER BY id FOR NO KEY UPDATE),
         ended AS (
             UPDATE countersign_session
             SET ended_at = greatest($3, rotated_at), end_reason = $4, ended_by = $5
             FROM live WHERE countersign_session.id = live.id
             RETURNING ",
        ended_columns!(),
        "), ",
        told!(said_ended!()),
        ", ",
        left!("$7", "SELECT NULL::bigint"),
        ", ",
        left_of_ends!("$7"),
        " SELECT * FROM ended"
    );
    let ended = link
        .query(
            sql,
            &[
                (&link.origin, Type::INT8),
                (&user.0, Type::INT8),
                (&end.at.as_millisecond(), Type::INT8),
                (&end.reason.code(), Type::TEXT),
                (&rows::ended_by(end.by), Type::TEXT),
                (&spared.map(|id| id.0), Type::UUID),
                (&write_trail(trail), Type::TEXT),
            ],
        )
        .await?;
    Ok(all_ended(rows::all_ended(&ended)?))
}

/// Sessions that have ended, as what was done and as what is told of it.
pub(super) fn all_ended(ended: Vec<EndedSession>) -> Done<Vec<EndedSession>> {
    Done {
        changes: ended.iter().copied().map(Change::SessionEnded).collect(),
        outcome: ended,
    }
}

pub(super) async fn list(
    readers: &Readers,
    query: SessionQuery,
) -> Result<Vec<Session>, StoreError> {
    // One statement each: with a condition that may not apply, no index would be used.
    let sql = match (query.user, query.live) {
        (None, false) => list_sql!("$1::bigint IS NULL"),
        (None, true) => list_sql!("$1::bigint IS NULL AND ended_at IS NULL"),
        (Some(_), false) => list_sql!("user_id = $1"),
        (Some(_), true) => list_sql!("user_id = $1 AND ended_at IS NULL"),
    };
    readers
        .read(
            sql,
            &[
                (&query.user.map(|id| id.0), Type::INT8),
                (&after(query.after), Type::UUID),
                (&i64::from(query.limit), Type::INT8),
            ],
            rows::session,
        )
        .await
}

pub(super) async fn ended_since(
    readers: &Readers,
    since: Timestamp,
) -> Result<Vec<EndedSession>, StoreError> {
    let sql = concat!(
        "SELECT ",
        ended_columns!(),
        " FROM countersign_session WHERE ended_at > $1"
    );
    readers
        .read(sql, &[(&since.as_millisecond(), Type::INT8)], rows::ended)
        .await
}

/// Nobody need hear of what a sweep ends: an access token lives no longer than the limit.
pub(super) async fn sweep(link: &Link, sweep: &SessionSweep) -> Result<Done<Swept>, Failure> {
    let sql = concat!(
        "WITH looked_at AS MATERIALIZED (
             SELECT id FROM countersign_session WHERE id > $1 ORDER BY id LIMIT $2),
         last AS (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1),
         removed AS (
             DELETE FROM countersign_session
             WHERE id > $1 AND id <= (SELECT id FROM last) AND ended_at < $3
             RETURNING 1),
         ended AS (
             UPDATE countersign_session
             SET ended_at = least(rotated_at + $4, opened_at + $5), end_reason = $6, ended_by = $7
             WHERE id > $1 AND id <= (SELECT id FROM last) AND ended_at IS NULL
                 AND least(rotated_at + $4, opened_at + $5) <= $8
             RETURNING ",
        ended_columns!(),
        "), ",
        left_of_ends!("'{\"caller\":{}}'"),
        " SELECT (SELECT id FROM last), (SELECT count(*) FROM looked_at),
             (SELECT count(*) FROM ended), (SELECT count(*) FROM removed)"
    );
    let swept = link
        .query(
            sql,
            &[
                (&after(sweep.after), Type::UUID),
                (&i64::from(sweep.limit), Type::INT8),
                (&sweep.forget_before.as_millisecond(), Type::INT8),
                (&words::milliseconds(sweep.limits.idle), Type::INT8),
                (&words::milliseconds(sweep.limits.absolute), Type::INT8),
                (&EndReason::Expired.code(), Type::TEXT),
                (&rows::ended_by(EndedBy::Service), Type::TEXT),
                (&sweep.now.as_millisecond(), Type::INT8),
            ],
        )
        .await?;
    let row = swept
        .first()
        .ok_or_else(|| Failure::corrupt("a sweep without an outcome"))?;
    let count = |index| {
        let count: i64 = row.try_get(index)?;
        Ok::<_, Failure>(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let last: Option<Uuid> = row.try_get(0)?;
    Ok(Done::quietly(Swept {
        next: last
            .map(SessionId)
            .filter(|_| count(1).is_ok_and(|count| count == sweep.limit)),
        expired: count(2)?,
        removed: count(3)?,
    }))
}

/// An id, or one before every id there is.
fn after(id: Option<SessionId>) -> Uuid {
    id.map_or(Uuid::nil(), |id| id.0)
}
