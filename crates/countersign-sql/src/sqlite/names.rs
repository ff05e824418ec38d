//! What the names of users look like.
//!
//! The users table is right; `countersign_name` follows it. Whoever asks whether a name is free first notes
//! those of users who came from elsewhere, and corrects what it finds to be outdated.

use countersign_core::store::{MOST_NEW_NAMES, NAMES_OVERLAP, NotedNames};
use countersign_core::user::{Likeness, UserId};
use rusqlite::{Connection, Row, params};

use super::failure::Failure;
use super::rows;
use super::statements::Statements;

/// Whether a name can be given to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody has one that is alike.
    Free,
    /// Somebody has.
    Taken,
    /// There are too many users who have not been looked at yet.
    Unknown,
}

/// Looks for a user whose name is alike, in the transaction that the connection is in.
pub(super) fn standing(
    connection: &Connection,
    sql: &Statements,
    likeness: &Likeness,
) -> Result<Standing, Failure> {
    let newest = names(
        connection,
        sql,
        noted_to(connection)?.saturating_sub(NAMES_OVERLAP),
        MOST_NEW_NAMES,
    )?;
    if newest.len() >= MOST_NEW_NAMES as usize {
        return Ok(Standing::Unknown);
    }
    keep_unknown(connection, &newest)?;
    let Likeness { small, capital } = likeness;
    let mut outdated = connection.prepare_cached(&sql.forget_outdated_names)?;
    let outdated = rows::all(outdated.query(params![small, capital])?, |row| {
        Ok(row.get::<_, i64>(0)?)
    })?;
    for user in outdated {
        let mut renamed = connection.prepare_cached(&sql.name_of)?;
        if let Some((user, username)) = rows::one(renamed.query([user])?, named)? {
            keep(connection, user, &username)?;
        }
    }
    let mut alike = connection.prepare_cached(
        "SELECT 1 FROM countersign_name WHERE small IN (?1, ?2) OR capital IN (?1, ?2)",
    )?;
    if alike.exists(params![small, capital])? {
        return Ok(Standing::Taken);
    }
    Ok(Standing::Free)
}

/// Notes the name of a user who has just been made, after it was found free: so that of all others is known.
pub(super) fn keep_new(
    connection: &Connection,
    user: UserId,
    username: &str,
) -> Result<(), Failure> {
    keep(connection, user, username)?;
    pass(connection, user)
}

/// See [`Store::note_names`](countersign_core::store::Store::note_names).
pub(super) fn note(
    connection: &Connection,
    sql: &Statements,
    after: Option<UserId>,
    limit: u32,
) -> Result<NotedNames, Failure> {
    let noted_to = noted_to(connection)?;
    let after = after.map_or(noted_to, |after| after.0);
    let found = names(connection, sql, after, limit)?;
    let noted = keep_unknown(connection, &found)?;
    let last = found.last().map(|found| found.user);
    let next = last.filter(|_| found.len() >= limit as usize);
    connection
        .prepare_cached(&sql.forget_names)?
        .execute(params![after, next.map(|next| next.0)])?;
    if let Some(last) = last.filter(|_| after <= noted_to) {
        pass(connection, last)?;
    }
    Ok(NotedNames { next, noted })
}

/// Forgets the name of a user who is no more.
pub(super) fn forget(connection: &Connection, user: UserId) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM countersign_name WHERE user_id = ?1")?
        .execute([user.0])?;
    Ok(())
}

fn noted_to(connection: &Connection) -> Result<i64, Failure> {
    let mut statement = connection.prepare_cached("SELECT names_noted_to FROM countersign_meta")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// A user's name as it is.
struct Found {
    user: UserId,
    username: String,
    /// Whether it has been noted so.
    is_known: bool,
}

/// The names of so many users with higher numbers than this, in the order of the numbers.
fn names(
    connection: &Connection,
    sql: &Statements,
    after: i64,
    limit: u32,
) -> Result<Vec<Found>, Failure> {
    let mut statement = connection.prepare_cached(&sql.names)?;
    rows::all(statement.query(params![after, limit])?, |row| {
        let (user, username) = named(row)?;
        Ok(Found {
            user,
            username,
            is_known: row.get(2)?,
        })
    })
}

/// Notes those that are not known. Gives how many.
fn keep_unknown(connection: &Connection, found: &[Found]) -> Result<u32, Failure> {
    let mut noted = 0;
    for found in found.iter().filter(|found| !found.is_known) {
        keep(connection, found.user, &found.username)?;
        noted += 1;
    }
    Ok(noted)
}

fn keep(connection: &Connection, user: UserId, username: &str) -> Result<(), Failure> {
    let Likeness { small, capital } = Likeness::of(username);
    connection
        .prepare_cached(
            "INSERT INTO countersign_name (user_id, username, small, capital)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user_id) DO UPDATE SET
                 username = excluded.username, small = excluded.small, capital = excluded.capital",
        )?
        .execute(params![user.0, username, small, capital])?;
    Ok(())
}

/// All users up to this one have been looked at.
fn pass(connection: &Connection, user: UserId) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE countersign_meta SET names_noted_to = max(names_noted_to, ?1)")?
        .execute([user.0])?;
    Ok(())
}

/// A user's number and name. A name that is no text has a look all the same, and keeps nobody from signing
/// up.
fn named(row: &Row<'_>) -> Result<(UserId, String), Failure> {
    let name = row
        .get_ref(1)?
        .as_bytes_or_null()
        .map_err(rusqlite::Error::from)?;
    let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
    Ok((UserId(row.get(0)?), name))
}
