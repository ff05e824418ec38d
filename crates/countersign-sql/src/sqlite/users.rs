//! Transitions and reads of users.

use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedSession};
use countersign_core::store::{
    AccountChange, AccountChangeKind, AccountChanged, Change, EndedAt, PasswordChange,
    PasswordOutcome, UserQuery,
};
use countersign_core::user::{Credentials, NewUser, PersonName, ProfileChange, User, UserId};
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::rows::{self, user_columns};
use super::writer::Transition;
use super::{datetime, sessions};

/// No field that is searched is longer, in bytes: 254 characters of an e-mail address.
const LONGEST_SEARCH: usize = 254 * 4;

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
    let pattern = match query.search.as_deref().map(containing) {
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

/// The LIKE pattern of texts that contain `search`. `None`: there can be none. SQLite reads a
/// pattern up to its first NUL only, and refuses very long ones.
fn containing(search: &str) -> Option<String> {
    if search.len() > LONGEST_SEARCH || search.contains('\0') {
        return None;
    }
    let mut pattern = String::with_capacity(search.len() + 2);
    pattern.push('%');
    for character in search.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    Some(pattern)
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

pub(super) fn change_account(
    transition: &mut Transition<'_>,
    change: &AccountChange,
) -> Result<Option<AccountChanged>, Failure> {
    let Some(mut user) = find(transition.connection, change.user)? else {
        return Ok(None);
    };
    let reason = change.kind.ends_sessions(&user);
    match &change.kind {
        AccountChangeKind::Password(new) => {
            write_password(transition.connection, user.id, new)?;
        }
        AccountChangeKind::Active(active) => {
            transition
                .connection
                .prepare_cached("UPDATE auth_user SET is_active = ?2 WHERE id = ?1")?
                .execute(params![user.id.0, active])?;
            user.is_active = *active;
        }
        AccountChangeKind::Roles {
            is_staff,
            is_superuser,
        } => {
            transition
                .connection
                .prepare_cached(
                    "UPDATE auth_user SET is_staff = ?2, is_superuser = ?3 WHERE id = ?1",
                )?
                .execute(params![user.id.0, is_staff, is_superuser])?;
            (user.is_staff, user.is_superuser) = (*is_staff, *is_superuser);
        }
    }
    let ended = match reason {
        Some(reason) => {
            sessions::end_all(transition, user.id, None, change.ending.because(reason))?
        }
        None => Vec::new(),
    };
    transition.tell(Change::UserChanged(user.id))?;
    Ok(Some(AccountChanged { user, ended }))
}

pub(super) fn change_password(
    transition: &mut Transition<'_>,
    change: &PasswordChange,
) -> Result<PasswordOutcome, Failure> {
    if !sessions::is_live(transition.connection, change.session, change.user)? {
        return Ok(PasswordOutcome::SessionOver);
    }
    let found = credentials_by_id(transition.connection, change.user)?;
    if found.is_none_or(|found| found.password != change.verified) {
        return Ok(PasswordOutcome::Outdated);
    }
    write_password(transition.connection, change.user, &change.new)?;
    let end = change.ending.because(EndReason::PasswordChanged);
    let ended = sessions::end_all(transition, change.user, Some(change.session), end)?;
    transition.tell(Change::UserChanged(change.user))?;
    Ok(PasswordOutcome::Changed(ended))
}

fn write_password(
    connection: &Connection,
    user: UserId,
    password: &EncodedPassword,
) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE auth_user SET password = ?2 WHERE id = ?1")?
        .execute(params![user.0, password.as_str()])?;
    Ok(())
}

pub(super) fn delete(
    transition: &mut Transition<'_>,
    id: UserId,
    ending: EndedAt,
) -> Result<Option<Vec<EndedSession>>, Failure> {
    forget_in_django(transition.connection, id)?;
    let mut statement = transition
        .connection
        .prepare_cached("DELETE FROM auth_user WHERE id = ?1")?;
    if statement.execute([id.0])? == 0 {
        return Ok(None);
    }
    let end = ending.because(EndReason::UserDeleted);
    let ended = sessions::end_all(transition, id, None, end)?;
    transition.tell(Change::UserChanged(id))?;
    Ok(Some(ended))
}

/// Deletes what Django's own tables say of a user, as Django does it: in SQLite its foreign keys
/// cascade nowhere, and hold only when the transaction commits, which would be the end of
/// everybody's in the group.
///
/// What other applications' tables say is not for us to delete: a user they refer to is kept.
fn forget_in_django(connection: &Connection, id: UserId) -> Result<(), Failure> {
    const DJANGOS: [&str; 3] = [
        "auth_user_groups",
        "auth_user_user_permissions",
        "django_admin_log",
    ];
    let mut statement = connection.prepare_cached(
        r#"SELECT tables.name, keys."from"
           FROM sqlite_schema AS tables, pragma_foreign_key_list(tables.name) AS keys
           WHERE tables.type = 'table' AND keys."table" = 'auth_user' COLLATE NOCASE"#,
    )?;
    let references = rows::all(statement.query([])?, |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    for (table, column) in references {
        let (quoted_table, quoted_column) = (quoted(&table), quoted(&column));
        if DJANGOS.contains(&table.as_str()) {
            let delete = format!("DELETE FROM {quoted_table} WHERE {quoted_column} = ?1");
            connection.execute(&delete, [id.0])?;
            continue;
        }
        let refers =
            format!("SELECT EXISTS (SELECT 1 FROM {quoted_table} WHERE {quoted_column} = ?1)");
        if connection.query_row(&refers, [id.0], |row| row.get(0))? {
            return Err(Failure::unavailable(format!(
                "user {id} cannot be deleted: {table}.{column} refers to it; delete the user in \
                 the application that owns that table, or deactivate it"
            )));
        }
    }
    Ok(())
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
