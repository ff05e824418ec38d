//! Transitions and reads of sessions.

use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, Session, SessionEnd, SessionId};
use countersign_core::store::{Change, EndedAt, OpenOutcome, OpenSession, Rotation};
use countersign_core::user::{User, UserId};
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::rows::{self, session_columns, user_columns};
use super::writer::Transition;
use super::{datetime, users};

pub(super) fn find(
    connection: &Connection,
    id: SessionId,
) -> Result<Option<(Session, Option<User>)>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        session_columns!(),
        ", ",
        user_columns!(),
        " FROM countersign_session LEFT JOIN auth_user
             ON auth_user.id = countersign_session.user_id
           WHERE countersign_session.id = ?1"
    ))?;
    rows::one(statement.query([id.0.as_bytes().as_slice()])?, |row| {
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

pub(super) fn open(
    transition: &mut Transition<'_>,
    opening: &OpenSession,
) -> Result<OpenOutcome, Failure> {
    let session = &opening.session;
    let found = users::credentials_by_id(transition.connection, session.user_id)?;
    let Some(mut user) = found
        .filter(|credentials| credentials.password == opening.verified)
        .map(|credentials| credentials.user)
    else {
        return Ok(OpenOutcome::Changed);
    };
    if !user.is_active {
        return Ok(OpenOutcome::Inactive);
    }
    let mut note_login = transition.connection.prepare_cached(
        "UPDATE auth_user SET last_login = ?2, password = coalesce(?3, password) WHERE id = ?1",
    )?;
    let upgraded = opening.upgraded.as_ref().map(EncodedPassword::as_str);
    note_login.execute(params![
        user.id.0,
        datetime::write(session.opened_at),
        upgraded
    ])?;
    user.last_login = Some(session.opened_at);

    if let Some(replaced) = opening.replaced {
        let ended = EndedAt {
            at: session.opened_at,
            by: EndedBy::User(session.user_id),
        };
        end(
            transition,
            replaced,
            ended.because(EndReason::ReplacedByLogin),
        )?;
    }
    insert(transition.connection, session)?;
    Ok(OpenOutcome::Opened(user))
}

fn insert(connection: &Connection, session: &Session) -> Result<(), Failure> {
    // A transition that cannot know whether it was committed may be tried again: then the session
    // is there already, and is this one.
    let mut statement = connection.prepare_cached(
        "INSERT INTO countersign_session (id, user_id, generation, opened_at, rotated_at, remember,
             address, user_agent, ended_at, end_reason, ended_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id) DO UPDATE SET user_id = user_id
             WHERE user_id = excluded.user_id AND opened_at = excluded.opened_at
                 AND ended_at IS NULL",
    )?;
    let inserted = statement.execute(params![
        session.id.0.as_bytes().as_slice(),
        session.user_id.0,
        session.generation.0,
        session.opened_at.as_millisecond(),
        session.rotated_at.as_millisecond(),
        session.remember,
        session.address.map(|address| address.to_string()),
        session.user_agent,
        session.end.map(|end| end.at.as_millisecond()),
        session.end.map(|end| end.reason.code()),
        session.end.map(|end| rows::write_ended_by(end.by)),
    ])?;
    if inserted == 0 {
        return Err(Failure::corrupt(format!(
            "session {} had been opened before",
            session.id
        )));
    }
    Ok(())
}

pub(super) fn rotate(connection: &Connection, rotation: Rotation) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached(
        "UPDATE countersign_session SET generation = ?3, rotated_at = ?4
         WHERE id = ?1 AND generation = ?2 AND ended_at IS NULL
             AND EXISTS (SELECT 1 FROM auth_user WHERE auth_user.id = user_id AND is_active)",
    )?;
    let rotated = statement.execute(params![
        rotation.session.0.as_bytes().as_slice(),
        rotation.from.0,
        rotation.from.next().0,
        rotation.at.as_millisecond(),
    ])?;
    Ok(rotated == 1)
}

pub(super) fn end(
    transition: &mut Transition<'_>,
    id: SessionId,
    end: SessionEnd,
) -> Result<bool, Failure> {
    let mut statement = transition.connection.prepare_cached(
        "UPDATE countersign_session SET ended_at = ?2, end_reason = ?3, ended_by = ?4
         WHERE id = ?1 AND ended_at IS NULL",
    )?;
    let ended = statement.execute(params![
        id.0.as_bytes().as_slice(),
        end.at.as_millisecond(),
        end.reason.code(),
        rows::write_ended_by(end.by),
    ])?;
    if ended == 0 {
        return Ok(false);
    }
    transition.tell(Change::SessionEnded(id))?;
    Ok(true)
}

/// Ends every live session of a user.
pub(super) fn end_all(
    transition: &mut Transition<'_>,
    user: UserId,
    end: SessionEnd,
) -> Result<(), Failure> {
    let mut statement = transition.connection.prepare_cached(
        "UPDATE countersign_session SET ended_at = ?2, end_reason = ?3, ended_by = ?4
         WHERE user_id = ?1 AND ended_at IS NULL
         RETURNING id",
    )?;
    let ended = statement.query(params![
        user.0,
        end.at.as_millisecond(),
        end.reason.code(),
        rows::write_ended_by(end.by),
    ])?;
    for id in rows::all(ended, rows::session_id)? {
        transition.tell(Change::SessionEnded(id))?;
    }
    Ok(())
}
