//! Transitions and reads of users.

use countersign_core::password::EncodedPassword;
use countersign_core::store::{Change, UserQuery};
use countersign_core::user::{Credentials, NewUser, PersonName, ProfileChange, User, UserId};
use rusqlite::{Connection, params};

use super::datetime;
use super::failure::Failure;
use super::rows::{self, user_columns};
use super::writer::Transition;
use crate::words;

pub(super) fn find(connection: &Connection, id: UserId) -> Result<Option<User>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        user_columns!(),
        " FROM auth_user WHERE id = ?1"
    ))?;
    rows::one(statement.query([id.0])?, |row| rows::user(row, 0))
}

pub(super) fn credentials(
    connection: &Connection,
    username: &str,
) -> Result<Option<Credentials>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        user_columns!(),
        ", password FROM auth_user WHERE username = ?1"
    ))?;
    rows::one(statement.query([username])?, rows::credentials)
}

pub(super) fn credentials_by_id(
    connection: &Connection,
    id: UserId,
) -> Result<Option<Credentials>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        user_columns!(),
        ", password FROM auth_user WHERE id = ?1"
    ))?;
    rows::one(statement.query([id.0])?, rows::credentials)
}

pub(super) fn list(connection: &Connection, query: &UserQuery) -> Result<Vec<User>, Failure> {
    let pattern = match query.search.as_deref().map(words::containing) {
        Some(None) => return Ok(Vec::new()),
        Some(Some(pattern)) => Some(pattern),
        None => None,
    };
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        user_columns!(),
        r" FROM auth_user
           WHERE id > ?1
               AND (?2 IS NULL OR username LIKE ?2 ESCAPE '\' OR email LIKE ?2 ESCAPE '\')
           ORDER BY id LIMIT ?3"
    ))?;
    let after = query.after.map_or(i64::MIN, |id| id.0);
    let users = statement.query(params![after, pattern, query.limit])?;
    rows::all(users, |row| rows::user(row, 0))
}

pub(super) fn any(connection: &Connection) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM auth_user)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// `None`: another user has the name.
pub(super) fn create(
    transition: &mut Transition<'_>,
    new: &NewUser,
) -> Result<Option<User>, Failure> {
    let mut statement = transition.connection.prepare_cached(concat!(
        "INSERT INTO auth_user (password, last_login, is_superuser, username, last_name, email,
             is_staff, is_active, date_joined, first_name)
         VALUES (?1, NULL, ?2, ?3, '', ?4, ?5, 1, ?6, '')
         ON CONFLICT (username) DO NOTHING
         RETURNING ",
        user_columns!()
    ))?;
    let created = statement.query(params![
        new.password.as_str(),
        new.is_superuser,
        new.username.as_str(),
        new.email.as_str(),
        new.is_staff,
        datetime::write(new.date_joined),
    ])?;
    changed(transition, rows::one(created, |row| rows::user(row, 0))?)
}

pub(super) fn update_profile(
    transition: &mut Transition<'_>,
    id: UserId,
    change: &ProfileChange,
) -> Result<Option<User>, Failure> {
    let mut statement = transition.connection.prepare_cached(concat!(
        "UPDATE auth_user
         SET first_name = coalesce(?2, first_name), last_name = coalesce(?3, last_name)
         WHERE id = ?1
         RETURNING ",
        user_columns!()
    ))?;
    let updated = statement.query(params![
        id.0,
        change.first_name.as_ref().map(PersonName::as_str),
        change.last_name.as_ref().map(PersonName::as_str),
    ])?;
    changed(transition, rows::one(updated, |row| rows::user(row, 0))?)
}

/// Tells that a user was changed, if there was one to change.
fn changed(transition: &mut Transition<'_>, user: Option<User>) -> Result<Option<User>, Failure> {
    if let Some(user) = &user {
        transition.tell(Change::UserChanged(user.id))?;
    }
    Ok(user)
}

/// Replaces the stored password.
pub(super) fn write_password(
    connection: &Connection,
    user: UserId,
    password: &EncodedPassword,
) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE auth_user SET password = ?2 WHERE id = ?1")?
        .execute(params![user.0, password.as_str()])?;
    Ok(())
}
