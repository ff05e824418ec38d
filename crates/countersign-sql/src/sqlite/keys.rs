//! Transitions and reads of signing keys.

use countersign_core::store::{Change, KeyState, SealedSigningKey};
use rusqlite::{Connection, params};

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

pub(super) fn install(
    transition: &mut Transition<'_>,
    key: &SealedSigningKey,
    instead_of: Option<&str>,
) -> Result<Vec<SealedSigningKey>, Failure> {
    let connection = transition.connection;
    let keys = all(connection)?;
    let current = keys.iter().find(|key| key.state == KeyState::Current);
    if current.map(|key| key.kid.as_str()) != instead_of {
        return Ok(keys);
    }
    connection
        .prepare_cached("UPDATE countersign_signing_key SET state = ?1 WHERE state = ?2")?
        .execute([KeyState::Retired.code(), KeyState::Current.code()])?;
    connection
        .prepare_cached(
            "INSERT INTO countersign_signing_key (kid, algorithm, state, sealed, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            key.kid,
            key.algorithm.name(),
            KeyState::Current.code(),
            key.sealed,
            key.created_at.as_millisecond(),
        ])?;
    transition.tell(Change::KeysChanged)?;
    all(connection)
}
