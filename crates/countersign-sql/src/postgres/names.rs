//! What the names of users look like.
//!
//! The users table is right; `countersign_name` follows it. Whoever asks whether a name is free first notes
//! those of users who came from elsewhere, and corrects what it finds to be outdated. All of it happens
//! behind one lock: between the question and the answer's being used nobody makes another user.

use countersign_core::store::{MOST_NEW_NAMES, NAMES_OVERLAP, NotedNames};
use countersign_core::user::{Likeness, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::failure::Failure;
use super::link::Link;
use super::statements::Statements;
use super::writer::Done;

/// Held by whoever makes a user or notes names, until its transaction ends: `csnames` in digits.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(x'63736e616d6573'::bigint)";

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

/// Looks for a user whose name is alike, in a transaction that has taken the [`LOCK`].
pub(super) async fn standing(
    link: &Link,
    sql: &Statements,
    likeness: &Likeness,
) -> Result<Standing, Failure> {
    let after = noted_to(link).await?.saturating_sub(NAMES_OVERLAP);
    let newest = names(link, sql, after, MOST_NEW_NAMES).await?;
    if newest.len() >= MOST_NEW_NAMES as usize {
        return Ok(Standing::Unknown);
    }
    keep_unknown(link, newest).await?;
    let looks = [
        (&likeness.small.as_slice() as _, Type::BYTEA),
        (&likeness.capital.as_slice() as _, Type::BYTEA),
    ];
    // Also the new names of those that have been renamed.
    let renamed = link.query(&sql.forget_outdated_names, &looks).await?;
    keep(link, &all_named(&renamed)?).await?;
    let alike = "SELECT 1 FROM countersign_name
         WHERE small IN ($1, $2) OR capital IN ($1, $2)";
    if link.query(alike, &looks).await?.is_empty() {
        Ok(Standing::Free)
    } else {
        Ok(Standing::Taken)
    }
}

/// Notes the name of a user who has just been made, after it was found free: so that of all others is known.
pub(super) async fn keep_new(link: &Link, user: UserId, username: &str) -> Result<(), Failure> {
    keep(link, &[(user, username.to_owned())]).await?;
    pass(link, user).await
}

/// See [`Store::note_names`](countersign_core::store::Store::note_names).
pub(super) async fn note(
    link: &Link,
    sql: &Statements,
    after: Option<UserId>,
    limit: u32,
) -> Result<Done<NotedNames>, Failure> {
    link.begin_with(LOCK, &[]).await?;
    let noted_to = noted_to(link).await?;
    let after = after.map_or(noted_to, |after| after.0);
    let found = names(link, sql, after, limit).await?;
    let last = found.last().map(|found| found.user);
    let next = last.filter(|_| found.len() >= limit as usize);
    let noted = keep_unknown(link, found).await?;
    let last_looked_at = next.map(|next| next.0);
    link.query(
        &sql.forget_names,
        &[(&after, Type::INT8), (&last_looked_at, Type::INT8)],
    )
    .await?;
    if let Some(last) = last.filter(|_| after <= noted_to) {
        pass(link, last).await?;
    }
    link.commit().await?;
    Ok(Done::quietly(NotedNames { next, noted }))
}

/// Forgets the name of a user who is no more.
pub(super) async fn forget(link: &Link, user: UserId) -> Result<(), Failure> {
    let sql = "DELETE FROM countersign_name WHERE user_id = $1";
    link.query(sql, &[(&user.0, Type::INT8)]).await?;
    Ok(())
}

async fn noted_to(link: &Link) -> Result<i64, Failure> {
    let noted_to = link
        .query("SELECT names_noted_to FROM countersign_meta", &[])
        .await?;
    match noted_to.first() {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(Failure::corrupt("countersign_meta is empty".to_owned())),
    }
}

/// A user's name as it is.
struct Found {
    user: UserId,
    username: String,
    /// Whether it has been noted so.
    is_known: bool,
}

/// The names of so many users with higher numbers than this, in the order of the numbers.
async fn names(
    link: &Link,
    sql: &Statements,
    after: i64,
    limit: u32,
) -> Result<Vec<Found>, Failure> {
    let rows = link
        .query(
            &sql.names,
            &[(&after, Type::INT8), (&i64::from(limit), Type::INT8)],
        )
        .await?;
    let found = rows.iter().map(|row| {
        let (user, username) = named(row)?;
        Ok(Found {
            user,
            username,
            is_known: row.try_get(2)?,
        })
    });
    found.collect()
}

/// Notes those that are not known. Gives how many.
async fn keep_unknown(link: &Link, found: Vec<Found>) -> Result<u32, Failure> {
    let unknown: Vec<_> = found
        .into_iter()
        .filter(|found| !found.is_known)
        .map(|found| (found.user, found.username))
        .collect();
    keep(link, &unknown).await?;
    Ok(u32::try_from(unknown.len()).unwrap_or(u32::MAX))
}

async fn keep(link: &Link, names: &[(UserId, String)]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let looks: Vec<_> = names.iter().map(|(_, name)| Likeness::of(name)).collect();
    let users: Vec<_> = names.iter().map(|(user, _)| user.0).collect();
    let usernames: Vec<_> = names.iter().map(|(_, name)| name.as_str()).collect();
    let small: Vec<_> = looks.iter().map(|look| look.small.as_slice()).collect();
    let capital: Vec<_> = looks.iter().map(|look| look.capital.as_slice()).collect();
    let sql = "INSERT INTO countersign_name (user_id, username, small, capital)
         SELECT * FROM unnest($1, $2, $3, $4)
         ON CONFLICT (user_id) DO UPDATE SET
             username = excluded.username, small = excluded.small, capital = excluded.capital";
    link.query(
        sql,
        &[
            (&users, Type::INT8_ARRAY),
            (&usernames, Type::TEXT_ARRAY),
            (&small, Type::BYTEA_ARRAY),
            (&capital, Type::BYTEA_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

/// All users up to this one have been looked at.
async fn pass(link: &Link, user: UserId) -> Result<(), Failure> {
    let sql = "UPDATE countersign_meta SET names_noted_to = $1 WHERE names_noted_to < $1";
    link.query(sql, &[(&user.0, Type::INT8)]).await?;
    Ok(())
}

fn all_named(rows: &[Row]) -> Result<Vec<(UserId, String)>, Failure> {
    rows.iter().map(named).collect()
}

/// A user's number and name.
fn named(row: &Row) -> Result<(UserId, String), Failure> {
    let name: Option<String> = row.try_get(1)?;
    Ok((UserId(row.try_get(0)?), name.unwrap_or_default()))
}
