//! Transitions and reads of users.

use countersign_core::error::StoreError;
use countersign_core::store::{Change, UserQuery};
use countersign_core::user::{Credentials, NewUser, PersonName, ProfileChange, User, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::changes::{said_user_changed, told};
use super::failure::Failure;
use super::instant::Instant;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, user_columns};
use super::writer::Done;
use crate::words;

pub(super) async fn find(readers: &Readers, id: UserId) -> Result<Option<User>, StoreError> {
    let sql = concat!("SELECT ", user_columns!(), " FROM auth_user WHERE id = $1");
    readers
        .read_one(sql, &[(&id.0, Type::INT8)], |row| rows::user(row, 0))
        .await
}

pub(super) async fn credentials(
    readers: &Readers,
    username: &str,
) -> Result<Option<Credentials>, StoreError> {
    // No text in PostgreSQL has one.
    if username.contains('\0') {
        return Ok(None);
    }
    let sql = concat!(
        "SELECT ",
        user_columns!(),
        ", password FROM auth_user WHERE username = $1"
    );
    readers
        .read_one(sql, &[(&username, Type::TEXT)], rows::credentials)
        .await
}

pub(super) async fn list(readers: &Readers, query: &UserQuery) -> Result<Vec<User>, StoreError> {
    let pattern = match query.search.as_deref().map(words::containing) {
        Some(None) => return Ok(Vec::new()),
        Some(Some(pattern)) => Some(pattern),
        None => None,
    };
    let sql = concat!(
        "SELECT ",
        user_columns!(),
        r" FROM auth_user
           WHERE id > $1
               AND ($2 IS NULL OR username ILIKE $2 ESCAPE E'\\' OR email ILIKE $2 ESCAPE E'\\')
           ORDER BY id LIMIT $3"
    );
    readers
        .read(
            sql,
            &[
                (&query.after.map_or(i64::MIN, |id| id.0), Type::INT8),
                (&pattern, Type::TEXT),
                (&i64::from(query.limit), Type::INT8),
            ],
            |row| rows::user(row, 0),
        )
        .await
}

pub(super) async fn any(readers: &Readers) -> Result<bool, StoreError> {
    let any = readers
        .query("SELECT 1 FROM auth_user LIMIT 1", &[])
        .await?;
    Ok(!any.is_empty())
}

/// `None`: another user has the name.
pub(super) async fn create(link: &Link, new: &NewUser) -> Result<Done<Option<User>>, Failure> {
    let sql = concat!(
        "WITH auth_user AS (
             INSERT INTO auth_user (password, last_login, is_superuser, username, last_name, email,
                 is_staff, is_active, date_joined, first_name)
             VALUES ($2, NULL, $3, $4, '', $5, $6, true, $7, '')
             ON CONFLICT (username) DO NOTHING
             RETURNING *), ",
        told!(said_user_changed!("auth_user")),
        " SELECT ",
        user_columns!(),
        " FROM auth_user"
    );
    let created = link
        .query(
            sql,
            &[
                (&link.origin, Type::INT8),
                (&new.password.as_str(), Type::TEXT),
                (&new.is_superuser, Type::BOOL),
                (&new.username.as_str(), Type::TEXT),
                (&new.email.as_str(), Type::TEXT),
                (&new.is_staff, Type::BOOL),
                (&Instant(new.date_joined), Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    changed(created.first())
}

pub(super) async fn update_profile(
    link: &Link,
    id: UserId,
    change: &ProfileChange,
) -> Result<Done<Option<User>>, Failure> {
    let sql = concat!(
        "WITH auth_user AS (
             UPDATE auth_user
             SET first_name = coalesce($3, first_name), last_name = coalesce($4, last_name)
             WHERE id = $2
             RETURNING *), ",
        told!(said_user_changed!("auth_user")),
        " SELECT ",
        user_columns!(),
        " FROM auth_user"
    );
    let updated = link
        .query(
            sql,
            &[
                (&link.origin, Type::INT8),
                (&id.0, Type::INT8),
                (
                    &change.first_name.as_ref().map(PersonName::as_str),
                    Type::TEXT,
                ),
                (
                    &change.last_name.as_ref().map(PersonName::as_str),
                    Type::TEXT,
                ),
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
