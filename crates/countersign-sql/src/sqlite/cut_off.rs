//! Up to when the refresh tokens that a Django site issued to a user are refused.

use countersign_core::session::Session;
use countersign_core::user::UserId;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::failure::Failure;

/// Refuses what was issued until `at`, in the transaction that the connection is in.
pub(super) fn note(connection: &Connection, user: UserId, at: Timestamp) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO countersign_cut_off (user_id, at) VALUES (?1, ?2)
             ON CONFLICT (user_id) DO UPDATE SET at = max(at, excluded.at)",
        )?
        .execute(params![user.0, at.as_millisecond()])?;
    Ok(())
}

/// Whether a token came before the cut-off. It was issued when the session to be says that it opened.
pub(super) fn refuses(connection: &Connection, session: &Session) -> Result<bool, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM countersign_cut_off WHERE user_id = ?1 AND at >= ?2")?;
    Ok(statement.exists(params![
        session.user_id.0,
        session.opened_at.as_millisecond()
    ])?)
}
