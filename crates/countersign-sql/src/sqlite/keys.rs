//! Transitions and reads of signing keys.

use countersign_core::audit::Trail;
use countersign_core::store::{Change, SealedSigningKey};
use rusqlite::{Connection, params};

use super::audit;
use super::failure::Failure;
use super::rows::{self, signing_key_columns};
use super::writer::Transition;

pub(super) fn all(connection: &Connection) -> Result<Vec<SealedSigningKey>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        signing_key_columns!(),
        " FROM countersign_signing_key ORDER BY number DESC"
    ))?;
    rows::all(statement.query([])?, rows::signing_key)
}

/// Replaces the whole ring: it is a handful of rows, a few times a year.
pub(super) fn swap(
    transition: &mut Transition<'_>,
    seen: &[SealedSigningKey],
    new: &[SealedSigningKey],
    trail: &Trail,
) -> Result<Vec<SealedSigningKey>, Failure> {
    let connection = transition.connection;
    let standing = all(connection)?;
    if standing != seen || seen == new {
        return Ok(standing);
    }
    connection
        .prepare_cached("DELETE FROM countersign_signing_key")?
        .execute([])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO countersign_signing_key
             (kid, algorithm, state, sealed, created_at, state_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    // The newest comes first in the ring, and has the greatest number in the table.
    for key in new.iter().rev() {
        insert.execute(params![
            key.kid,
            key.algorithm.name(),
            key.state.code(),
            key.sealed,
            key.created_at.as_millisecond(),
            key.state_since.as_millisecond(),
        ])?;
    }
    audit::record(connection, &trail.entries)?;
    transition.tell(Change::KeysChanged)?;
    all(connection)
}
