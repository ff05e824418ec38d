//! Transitions and reads of users.

use countersign_core::audit::{AuditEntry, Trail};
use countersign_core::password::EncodedPassword;
use countersign_core::store::{Change, CreateUserError, UserQuery};
use countersign_core::user::{
    Credentials, Email, NewUser, PersonName, ProfileChange, User, UserId,
};
use rusqlite::{Connection, params};

use super::audit;
use super::datetime;
use super::failure::Failure;
use super::names::{self, Standing};
use super::rows;
use super::statements::Statements;
use super::writer::Transition;
use crate::words;

pub(super) fn find(
    connection: &Connection,
    sql: &Statements,
    id: UserId,
) -> Result<Option<User>, Failure> {
    let mut statement = connection.prepare_cached(&sql.find)?;
    rows::one(statement.query([id.0])?, |row| rows::user(row, 0))
}

pub(super) fn credentials(
    connection: &Connection,
    sql: &Statements,
    username: &str,
) -> Result<Option<Credentials>, Failure> {
    let mut statement = connection.prepare_cached(&sql.credentials)?;
    rows::one(statement.query([username])?, rows::credentials)
}

pub(super) fn credentials_by_id(
    connection: &Connection,
    sql: &Statements,
    id: UserId,
) -> Result<Option<Credentials>, Failure> {
    let mut statement = connection.prepare_cached(&sql.credentials_by_id)?;
    rows::one(statement.query([id.0])?, rows::credentials)
}

pub(super) fn list(
    connection: &Connection,
    sql: &Statements,
    query: &UserQuery,
) -> Result<Vec<User>, Failure> {
    let pattern = match query.search.as_deref().map(words::containing) {
        Some(None) => return Ok(Vec::new()),
        Some(Some(pattern)) => Some(pattern),
        None => None,
    };
    let mut statement = connection.prepare_cached(&sql.list)?;
    let after = query.after.map_or(i64::MIN, |id| id.0);
    let users = statement.query(params![after, pattern, query.limit])?;
    rows::all(users, |row| rows::user(row, 0))
}

pub(super) fn sample_passwords(
    connection: &Connection,
    sql: &Statements,
    ends: u32,
) -> Result<Vec<EncodedPassword>, Failure> {
    let mut statement = connection.prepare_cached(&sql.sample_passwords)?;
    rows::all(statement.query([ends])?, rows::password)
}

pub(super) fn any(connection: &Connection, sql: &Statements) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached(&sql.any)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Makes a user whose name is like nobody's.
pub(super) fn create(
    transition: &mut Transition<'_>,
    sql: &Statements,
    new: &NewUser,
    trail: &Trail,
) -> Result<Result<User, CreateUserError>, Failure> {
    sql.users
        .refuse_roles(new.is_staff, new.is_superuser)
        .map_err(Failure::unavailable)?;
    match names::standing(transition.connection, sql, &new.username.likeness())? {
        Standing::Free => {}
        Standing::Taken => return Ok(Err(CreateUserError::UsernameTaken)),
        Standing::Unknown => return Ok(Err(CreateUserError::NamesUnknown)),
    }
    let mut statement = transition.connection.prepare_cached(&sql.create)?;
    let created = statement.query(params![
        new.is_superuser,
        new.email.as_str(),
        new.is_staff,
        datetime::write(new.date_joined),
        new.first_name.as_str(),
        new.last_name.as_str(),
        new.username.as_str(),
        new.password.as_str(),
    ])?;
    let created = changed(transition, rows::one(created, |row| rows::user(row, 0))?)?;
    let Some(user) = created else {
        return Ok(Err(CreateUserError::UsernameTaken));
    };
    let entries: Vec<_> = trail
        .entries
        .iter()
        .map(|entry| AuditEntry {
            user: entry.user.or(Some(user.id)),
            ..entry.clone()
        })
        .collect();
    audit::record(transition.connection, &entries)?;
    names::keep_new(transition.connection, user.id, &user.username)?;
    Ok(Ok(user))
}

pub(super) fn update_profile(
    transition: &mut Transition<'_>,
    sql: &Statements,
    id: UserId,
    change: &ProfileChange,
    trail: &Trail,
) -> Result<Option<User>, Failure> {
    let mut statement = transition.connection.prepare_cached(&sql.update_profile)?;
    let updated = statement.query(params![
        change.first_name.as_ref().map(PersonName::as_str),
        change.last_name.as_ref().map(PersonName::as_str),
        id.0,
    ])?;
    let updated = rows::one(updated, |row| rows::user(row, 0))?;
    if updated.is_some() {
        audit::record(transition.connection, &trail.entries)?;
    }
    changed(transition, updated)
}

/// Tells that a user was changed, if there was one to change.
fn changed(transition: &mut Transition<'_>, user: Option<User>) -> Result<Option<User>, Failure> {
    if let Some(user) = &user {
        transition.tell(Change::UserChanged(user.id))?;
    }
    Ok(user)
}

/// Who has proven an address, and still has it.
pub(super) fn verified(
    connection: &Connection,
    sql: &Statements,
    folded: &str,
) -> Result<Option<Credentials>, Failure> {
    let mut statement = connection.prepare_cached(&sql.verified)?;
    rows::one(statement.query([folded])?, rows::credentials)
}

pub(super) fn by_email(
    connection: &Connection,
    sql: &Statements,
    address: &Email,
    most: u32,
) -> Result<Vec<Credentials>, Failure> {
    let mut statement = connection.prepare_cached(&sql.by_email)?;
    let unicode = address.folded_in_unicode();
    let found = statement.query(params![address.folded(), address.as_str(), most, unicode])?;
    rows::all(found, rows::credentials)
}

/// Whether the table lets nobody have an address, because somebody has it.
pub(super) fn refuses_email(
    connection: &Connection,
    sql: &Statements,
    email: &str,
) -> Result<bool, Failure> {
    if !sql.users.email_is_unique {
        return Ok(false);
    }
    Ok(connection
        .prepare_cached(&sql.email_used)?
        .exists([email])?)
}

/// Gives a user another address. False: the table lets nobody have it, because somebody has it.
pub(super) fn write_email(
    connection: &Connection,
    sql: &Statements,
    user: UserId,
    email: &str,
) -> Result<bool, Failure> {
    sql.users.refuse_email().map_err(Failure::unavailable)?;
    if refuses_email(connection, sql, email)? {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(&sql.write_email)?;
    statement.execute(params![user.0, email])?;
    Ok(true)
}

/// Replaces the stored password.
pub(super) fn write_password(
    connection: &Connection,
    sql: &Statements,
    user: UserId,
    password: &EncodedPassword,
) -> Result<(), Failure> {
    connection
        .prepare_cached(&sql.write_password)?
        .execute(params![user.0, password.as_str()])?;
    Ok(())
}
