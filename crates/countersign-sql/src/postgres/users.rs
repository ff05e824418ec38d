//! Transitions and reads of users.

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::password::EncodedPassword;
use countersign_core::store::{Change, CreateUserError, UserQuery};
use countersign_core::user::{
    Credentials, Email, NewUser, PersonName, ProfileChange, User, UserId,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::audit::write_trail;
use super::failure::Failure;
use super::instant::Instant;
use super::link::Link;
use super::names::{self, Standing};
use super::readers::Readers;
use super::rows;
use super::statements::Statements;
use super::writer::Done;
use crate::words;

pub(super) async fn find(
    readers: &Readers,
    sql: &Statements,
    id: UserId,
) -> Result<Option<User>, StoreError> {
    readers
        .read_one(&sql.find, &[(&id.0, Type::INT8)], |row| rows::user(row, 0))
        .await
}

pub(super) async fn credentials(
    readers: &Readers,
    sql: &Statements,
    username: &str,
) -> Result<Option<Credentials>, StoreError> {
    // No text in PostgreSQL has one.
    if username.contains('\0') {
        return Ok(None);
    }
    readers
        .read_one(
            &sql.credentials,
            &[(&username, Type::TEXT)],
            rows::credentials,
        )
        .await
}

pub(super) async fn credentials_by_id(
    readers: &Readers,
    sql: &Statements,
    id: UserId,
) -> Result<Option<Credentials>, StoreError> {
    readers
        .read_one(
            &sql.credentials_by_id,
            &[(&id.0, Type::INT8)],
            rows::credentials,
        )
        .await
}

/// Who has proven an address, and still has it.
pub(super) async fn verified(
    readers: &Readers,
    sql: &Statements,
    address: &Email,
) -> Result<Option<Credentials>, StoreError> {
    readers
        .read_one(
            &sql.verified,
            &[(&address.folded(), Type::TEXT)],
            rows::credentials,
        )
        .await
}

pub(super) async fn by_email(
    readers: &Readers,
    sql: &Statements,
    address: &Email,
    most: u32,
) -> Result<Vec<Credentials>, StoreError> {
    readers
        .read(
            &sql.by_email,
            &[
                (&address.folded(), Type::TEXT),
                (&address.as_str(), Type::TEXT),
                (&i64::from(most), Type::INT8),
                (&address.folded_in_unicode(), Type::TEXT),
            ],
            rows::credentials,
        )
        .await
}

/// Whether the table lets nobody have an address, because somebody has it.
pub(super) async fn refuses_email(
    link: &Link,
    sql: &Statements,
    email: &str,
) -> Result<bool, Failure> {
    if !sql.users.email_is_unique {
        return Ok(false);
    }
    let used = link.query(&sql.email_used, &[(&email, Type::TEXT)]).await?;
    Ok(!used.is_empty())
}

/// Gives a user another address, in the transaction that was begun. False: the table lets nobody have it,
/// because somebody has it.
pub(super) async fn write_email(
    link: &Link,
    sql: &Statements,
    user: UserId,
    email: &str,
) -> Result<bool, Failure> {
    sql.users.refuse_email().map_err(Failure::unavailable)?;
    if refuses_email(link, sql, email).await? {
        return Ok(false);
    }
    link.query(
        &sql.write_email,
        &[(&user.0, Type::INT8), (&email, Type::TEXT)],
    )
    .await?;
    Ok(true)
}

pub(super) async fn list(
    readers: &Readers,
    sql: &Statements,
    query: &UserQuery,
) -> Result<Vec<User>, StoreError> {
    let pattern = match query.search.as_deref().map(words::containing) {
        Some(None) => return Ok(Vec::new()),
        Some(Some(pattern)) => Some(pattern),
        None => None,
    };
    readers
        .read(
            &sql.list,
            &[
                (&query.after.map_or(i64::MIN, |id| id.0), Type::INT8),
                (&pattern, Type::TEXT),
                (&i64::from(query.limit), Type::INT8),
            ],
            |row| rows::user(row, 0),
        )
        .await
}

pub(super) async fn sample_passwords(
    readers: &Readers,
    sql: &Statements,
    ends: u32,
) -> Result<Vec<EncodedPassword>, StoreError> {
    let ends = i64::from(ends);
    readers
        .read(
            &sql.sample_passwords,
            &[(&ends, Type::INT8)],
            rows::password,
        )
        .await
}

pub(super) async fn any(readers: &Readers, sql: &Statements) -> Result<bool, StoreError> {
    Ok(!readers.query(&sql.any, &[]).await?.is_empty())
}

/// Makes a user whose name is like nobody's.
pub(super) async fn create(
    link: &Link,
    sql: &Statements,
    new: &NewUser,
    trail: &Trail,
) -> Result<Done<Result<User, CreateUserError>>, Failure> {
    sql.users
        .refuse_roles(new.is_staff, new.is_superuser)
        .map_err(Failure::unavailable)?;
    link.begin_with(names::LOCK, &[]).await?;
    let made = create_in(link, sql, new, trail).await?;
    // Also without a user: what has been noted on the way holds.
    link.commit().await?;
    Ok(made)
}

/// The same in a transaction that has taken the [`names::LOCK`].
pub(super) async fn create_in(
    link: &Link,
    sql: &Statements,
    new: &NewUser,
    trail: &Trail,
) -> Result<Done<Result<User, CreateUserError>>, Failure> {
    match names::standing(link, sql, &new.username.likeness()).await? {
        Standing::Free => {}
        Standing::Taken => return Ok(Done::quietly(Err(CreateUserError::UsernameTaken))),
        Standing::Unknown => return Ok(Done::quietly(Err(CreateUserError::NamesUnknown))),
    }
    let created = link
        .query(
            &sql.create,
            &[
                (&link.origin, Type::INT8),
                (&new.password.as_str(), Type::TEXT),
                (&new.is_superuser, Type::BOOL),
                (&new.username.as_str(), Type::TEXT),
                (&new.email.as_str(), Type::TEXT),
                (&new.is_staff, Type::BOOL),
                (&Instant(new.date_joined), Type::TIMESTAMPTZ),
                (&new.first_name.as_str(), Type::TEXT),
                (&new.last_name.as_str(), Type::TEXT),
                (&write_trail(trail), Type::TEXT),
            ],
        )
        .await?;
    let Done { outcome, changes } = changed(created.first())?;
    let Some(user) = outcome else {
        return Ok(Done::quietly(Err(CreateUserError::UsernameTaken)));
    };
    names::keep_new(link, user.id, &user.username).await?;
    Ok(Done {
        outcome: Ok(user),
        changes,
    })
}

pub(super) async fn update_profile(
    link: &Link,
    sql: &Statements,
    id: UserId,
    change: &ProfileChange,
    trail: &Trail,
) -> Result<Done<Option<User>>, Failure> {
    let first_name = change.first_name.as_ref().map(PersonName::as_str);
    let last_name = change.last_name.as_ref().map(PersonName::as_str);
    let updated = link
        .query(
            &sql.update_profile,
            &[
                (&link.origin, Type::INT8),
                (&id.0, Type::INT8),
                (&first_name, Type::TEXT),
                (&last_name, Type::TEXT),
                (&write_trail(trail), Type::TEXT),
            ],
        )
        .await?;
    changed(updated.first())
}

/// A user that was changed, if there was one to change.
fn changed(row: Option<&Row>) -> Result<Done<Option<User>>, Failure> {
    let user = row.map(|row| rows::user(row, 0)).transpose()?;
    Ok(Done {
        changes: user
            .iter()
            .map(|user| Change::UserChanged(user.id))
            .collect(),
        outcome: user,
    })
}
