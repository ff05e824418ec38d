//! Transitions and reads of sessions.

use std::num::NonZeroU32;

use countersign_core::audit::Trail;
use countersign_core::session::{EndReason, EndedBy, EndedSession, Session, SessionEnd, SessionId};
use countersign_core::store::{Change, Rotation, SessionQuery, SessionSweep, Swept};
use countersign_core::user::{User, UserId};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::failure::Failure;
use super::rows::{self, ended_columns, session_columns};
use super::statements::Statements;
use super::writer::Transition;
use super::{audit, cut_off};
use crate::words;

/// Ends the live sessions that meet a condition on `?4` and what follows, with the end in `?1` to `?3`, and
/// gives those that it ended.
macro_rules! end_sql {
    ($condition:literal) => {
        concat!(
            "UPDATE countersign_session
             SET ended_at = max(?1, rotated_at), end_reason = ?2, ended_by = ?3
             WHERE ended_at IS NULL AND ",
            $condition,
            " RETURNING ",
            ended_columns!()
        )
    };
}

/// Sessions that meet a condition on `?1`, in pages.
macro_rules! list_sql {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            session_columns!(),
            " FROM countersign_session WHERE ",
            $condition,
            " AND id > ?2 ORDER BY id LIMIT ?3"
        )
    };
}

pub(super) fn find(
    connection: &Connection,
    sql: &Statements,
    id: SessionId,
) -> Result<Option<(Session, Option<User>)>, Failure> {
    let mut statement = connection.prepare_cached(&sql.find_session)?;
    rows::one(statement.query([bytes(&id)])?, |row| {
        let session = rows::session(row, 0)?;
        let is_deleted = row.get_ref(rows::SESSION_COLUMNS)? == rusqlite::types::ValueRef::Null;
        let user = if is_deleted {
            None
        } else {
            Some(rows::user(row, rows::SESSION_COLUMNS)?)
        };
        Ok((session, user))
    })
}

/// Ends the sessions used least recently, so that with the new one the user has no more than `most`.
pub(super) fn make_room(
    transition: &mut Transition<'_>,
    new: &Session,
    most: NonZeroU32,
    end: SessionEnd,
    trail: &Trail,
) -> Result<Vec<EndedSession>, Failure> {
    let mut statement = transition.connection.prepare_cached(end_sql!(
        "id IN (
             SELECT id FROM countersign_session
             WHERE user_id = ?4 AND ended_at IS NULL AND id != ?5
             ORDER BY rotated_at DESC, id DESC LIMIT -1 OFFSET ?6)"
    ))?;
    let ended = statement.query(params![
        end.at.as_millisecond(),
        end.reason.code(),
        words::write_ended_by(end.by),
        new.user_id.0,
        bytes(&new.id),
        most.get() - 1,
    ])?;
    tell_ended(transition, rows::all(ended, rows::ended)?, trail)
}

/// Records a session. False: it was there already, and is this one, since a transition that cannot know
/// whether it was committed may be tried again.
pub(super) fn insert(connection: &Connection, session: &Session) -> Result<bool, Failure> {
    let is_there = connection
        .prepare_cached("SELECT 1 FROM countersign_session WHERE id = ?1")?
        .exists([bytes(&session.id)])?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO countersign_session (id, user_id, generation, opened_at, rotated_at, remember,
             address, user_agent, ended_at, end_reason, ended_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO UPDATE SET user_id = user_id
             WHERE user_id = excluded.user_id AND opened_at = excluded.opened_at
                 AND ended_at IS NULL",
    )?;
    let inserted = statement.execute(params![
        bytes(&session.id),
        session.user_id.0,
        session.generation.0,
        session.opened_at.as_millisecond(),
        session.rotated_at.as_millisecond(),
        session.remember,
        session.address.map(|address| address.to_string()),
        session.user_agent,
        session.end.map(|end| end.at.as_millisecond()),
        session.end.map(|end| end.reason.code()),
        session.end.map(|end| words::write_ended_by(end.by)),
    ])?;
    if inserted == 0 {
        return Err(Failure::corrupt(format!(
            "session {} had been opened before",
            session.id
        )));
    }
    Ok(!is_there)
}

pub(super) fn rotate(
    connection: &Connection,
    sql: &Statements,
    rotation: Rotation,
) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached(&sql.rotate)?;
    let rotated = statement.execute(params![
        bytes(&rotation.session),
        rotation.from.0,
        rotation.from.next().0,
        rotation.at.as_millisecond(),
    ])?;
    Ok(rotated == 1)
}

/// Ends a session, if it is alive.
pub(super) fn end(
    transition: &mut Transition<'_>,
    id: SessionId,
    end: SessionEnd,
    trail: &Trail,
) -> Result<Option<EndedSession>, Failure> {
    let mut statement = transition.connection.prepare_cached(end_sql!("id = ?4"))?;
    let ended = statement.query(params![
        end.at.as_millisecond(),
        end.reason.code(),
        words::write_ended_by(end.by),
        bytes(&id),
    ])?;
    Ok(tell_ended(transition, rows::all(ended, rows::ended)?, trail)?.pop())
}

/// Ends every live session of a user but `spared`, and refuses the site's tokens issued until then.
pub(super) fn end_all(
    transition: &mut Transition<'_>,
    user: UserId,
    spared: Option<SessionId>,
    end: SessionEnd,
    trail: &Trail,
) -> Result<Vec<EndedSession>, Failure> {
    cut_off::note(transition.connection, user, end.at)?;
    let mut statement = transition
        .connection
        .prepare_cached(end_sql!("user_id = ?4 AND id IS NOT ?5"))?;
    let ended = statement.query(params![
        end.at.as_millisecond(),
        end.reason.code(),
        words::write_ended_by(end.by),
        user.0,
        spared.as_ref().map(bytes),
    ])?;
    tell_ended(transition, rows::all(ended, rows::ended)?, trail)
}

/// Tells of sessions that ended, and leaves an entry of each.
fn tell_ended(
    transition: &mut Transition<'_>,
    ended: Vec<EndedSession>,
    trail: &Trail,
) -> Result<Vec<EndedSession>, Failure> {
    for session in &ended {
        audit::record(transition.connection, &[trail.of_end(session)])?;
        transition.tell(Change::SessionEnded(*session))?;
    }
    Ok(ended)
}

pub(super) fn is_live(
    connection: &Connection,
    id: SessionId,
    user: UserId,
) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM countersign_session WHERE id = ?1 AND user_id = ?2 AND ended_at IS NULL",
    )?;
    Ok(statement.exists(params![bytes(&id), user.0])?)
}

pub(super) fn list(connection: &Connection, query: SessionQuery) -> Result<Vec<Session>, Failure> {
    // One statement each: with a condition that may not apply, SQLite would not use the index.
    let sql = match (query.user, query.live) {
        (None, false) => list_sql!("?1 IS NULL"),
        (None, true) => list_sql!("?1 IS NULL AND ended_at IS NULL"),
        (Some(_), false) => list_sql!("user_id = ?1"),
        (Some(_), true) => list_sql!("user_id = ?1 AND ended_at IS NULL"),
    };
    let mut statement = connection.prepare_cached(sql)?;
    // Before every id there is.
    let after = query.after.as_ref().map_or([].as_slice(), bytes);
    let sessions = statement.query(params![query.user.map(|id| id.0), after, query.limit])?;
    rows::all(sessions, |row| rows::session(row, 0))
}

pub(super) fn ended_since(
    connection: &Connection,
    since: Timestamp,
) -> Result<Vec<EndedSession>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        ended_columns!(),
        " FROM countersign_session WHERE ended_at > ?1"
    ))?;
    rows::all(statement.query([since.as_millisecond()])?, rows::ended)
}

pub(super) fn sweep(connection: &Connection, sweep: &SessionSweep) -> Result<Swept, Failure> {
    let after = sweep.after.as_ref().map_or([].as_slice(), bytes);
    let mut window = connection.prepare_cached(
        "SELECT max(id), count(*) FROM (
             SELECT id FROM countersign_session WHERE id > ?1 ORDER BY id LIMIT ?2)",
    )?;
    let (last, looked_at) = window.query_row(params![after, sweep.limit], |row| {
        Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, u32>(1)?))
    })?;
    let Some(last) = last else {
        return Ok(Swept {
            next: None,
            expired: 0,
            removed: 0,
        });
    };
    let mut remove = connection.prepare_cached(
        "DELETE FROM countersign_session WHERE id > ?1 AND id <= ?2 AND ended_at < ?3",
    )?;
    let removed = remove.execute(params![after, last, sweep.forget_before.as_millisecond()])?;
    // Nobody need hear of it: an access token lives no longer than the limit.
    let mut expire = connection.prepare_cached(concat!(
        "UPDATE countersign_session
         SET ended_at = min(rotated_at + ?3, opened_at + ?4), end_reason = ?5, ended_by = ?6
         WHERE id > ?1 AND id <= ?2 AND ended_at IS NULL
             AND min(rotated_at + ?3, opened_at + ?4) <= ?7
         RETURNING ",
        ended_columns!()
    ))?;
    let expired = expire.query(params![
        after,
        last,
        words::milliseconds(sweep.limits.idle),
        words::milliseconds(sweep.limits.absolute),
        EndReason::Expired.code(),
        words::write_ended_by(EndedBy::Service),
        sweep.now.as_millisecond(),
    ])?;
    let expired = rows::all(expired, rows::ended)?;
    for session in &expired {
        audit::record(connection, &[Trail::default().of_end(session)])?;
    }
    let next = Uuid::from_slice(&last).ok().map(SessionId);
    Ok(Swept {
        next: next.filter(|_| looked_at == sweep.limit),
        expired: u32::try_from(expired.len()).unwrap_or(u32::MAX),
        removed: u32::try_from(removed).unwrap_or(u32::MAX),
    })
}

fn bytes(id: &SessionId) -> &[u8] {
    id.0.as_bytes()
}
