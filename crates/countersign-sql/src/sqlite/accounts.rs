//! Transitions of accounts, which are of users and of their sessions at once.

use countersign_core::audit::Trail;
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, EndedSession};
use countersign_core::store::{
    AccountChange, AccountChangeKind, AccountChanged, Change, EndedAt, OpenOutcome, OpenSession,
    PasswordChange, PasswordOutcome,
};
use countersign_core::user::UserId;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::statements::Statements;
use super::writer::Transition;
use super::{audit, datetime, mail, mailed_tokens, names, rows, sessions, users};
use crate::words;

/// Opens a session, if the account still is as it was when the password was checked.
pub(super) fn open(
    transition: &mut Transition<'_>,
    sql: &Statements,
    opening: &OpenSession,
) -> Result<OpenOutcome, Failure> {
    let session = &opening.session;
    let found = users::credentials_by_id(transition.connection, sql, session.user_id)?;
    let Some(mut user) = found
        .filter(|credentials| credentials.password == opening.verified)
        .map(|credentials| credentials.user)
    else {
        return Ok(OpenOutcome::Changed);
    };
    if !user.is_active {
        return Ok(OpenOutcome::Inactive);
    }
    let mut note_login = transition.connection.prepare_cached(&sql.note_login)?;
    let upgraded = opening.upgraded.as_ref().map(EncodedPassword::as_str);
    note_login.execute(params![
        user.id.0,
        datetime::write(session.opened_at),
        upgraded
    ])?;
    if sql.users.noted_login().is_some() {
        user.last_login = Some(session.opened_at);
    }

    let ending = EndedAt {
        at: session.opened_at,
        by: EndedBy::User(session.user_id),
    };
    let mut ended = Vec::new();
    if let Some(replaced) = opening.replaced {
        let end = ending.because(EndReason::ReplacedByLogin);
        ended.extend(sessions::end(transition, replaced, end, &opening.trail)?);
    }
    if let Some(most) = opening.most {
        let end = ending.because(EndReason::TooManySessions);
        let trail = &opening.trail;
        ended.extend(sessions::make_room(transition, session, most, end, trail)?);
    }
    if sessions::insert(transition.connection, session)? {
        audit::record(transition.connection, &opening.trail.entries)?;
    }
    // The time of the login is shown.
    transition.tell(Change::UserChanged(user.id))?;
    Ok(OpenOutcome::Opened { user, ended })
}

pub(super) fn change_account(
    transition: &mut Transition<'_>,
    sql: &Statements,
    change: &AccountChange,
) -> Result<Option<AccountChanged>, Failure> {
    let Some(mut user) = users::find(transition.connection, sql, change.user)? else {
        return Ok(None);
    };
    let reason = change.kind.ends_sessions(&user);
    match &change.kind {
        AccountChangeKind::Password(new) => {
            users::write_password(transition.connection, sql, user.id, new)?;
        }
        AccountChangeKind::Active(active) => {
            transition
                .connection
                .prepare_cached(&sql.write_active)?
                .execute(params![user.id.0, active])?;
            user.is_active = *active;
        }
        AccountChangeKind::Roles {
            is_staff,
            is_superuser,
        } => {
            sql.users
                .refuse_roles(*is_staff, *is_superuser)
                .map_err(Failure::unavailable)?;
            transition
                .connection
                .prepare_cached(&sql.write_roles)?
                .execute(params![is_staff, is_superuser, user.id.0])?;
            (user.is_staff, user.is_superuser) = (*is_staff, *is_superuser);
        }
        AccountChangeKind::Email(email) => {
            let is_another = user.email != email.as_str();
            if is_another
                && !users::write_email(transition.connection, sql, user.id, email.as_str())?
            {
                return Err(Failure::unavailable(words::EMAIL_USED));
            }
            user.email_verified &= !is_another;
            email.as_str().clone_into(&mut user.email);
        }
    }
    audit::record(transition.connection, &change.trail.entries)?;
    let ended = match reason {
        Some(reason) => {
            let end = change.ending.because(reason);
            sessions::end_all(transition, user.id, None, end, &change.trail)?
        }
        None => Vec::new(),
    };
    mail::queue(transition.connection, change.mail.as_ref())?;
    transition.tell(Change::UserChanged(user.id))?;
    Ok(Some(AccountChanged { user, ended }))
}

pub(super) fn change_password(
    transition: &mut Transition<'_>,
    sql: &Statements,
    change: &PasswordChange,
) -> Result<PasswordOutcome, Failure> {
    if !sessions::is_live(transition.connection, change.session, change.user)? {
        return Ok(PasswordOutcome::SessionOver);
    }
    let found = users::credentials_by_id(transition.connection, sql, change.user)?;
    if found.is_none_or(|found| found.password != change.verified) {
        return Ok(PasswordOutcome::Outdated);
    }
    users::write_password(transition.connection, sql, change.user, &change.new)?;
    let end = change.ending.because(EndReason::PasswordChanged);
    audit::record(transition.connection, &change.trail.entries)?;
    let spared = Some(change.session);
    let ended = sessions::end_all(transition, change.user, spared, end, &change.trail)?;
    mail::queue(transition.connection, change.mail.as_ref())?;
    transition.tell(Change::UserChanged(change.user))?;
    Ok(PasswordOutcome::Changed(ended))
}

pub(super) fn delete(
    transition: &mut Transition<'_>,
    sql: &Statements,
    id: UserId,
    ending: EndedAt,
    trail: &Trail,
) -> Result<Option<Vec<EndedSession>>, Failure> {
    forget_in_django(transition.connection, &sql.users.name, id)?;
    let mut statement = transition.connection.prepare_cached(&sql.delete)?;
    if statement.execute([id.0])? == 0 {
        return Ok(None);
    }
    mailed_tokens::forget(transition.connection, id)?;
    names::forget(transition.connection, id)?;
    let end = ending.because(EndReason::UserDeleted);
    audit::record(transition.connection, &trail.entries)?;
    let ended = sessions::end_all(transition, id, None, end, trail)?;
    transition.tell(Change::UserChanged(id))?;
    Ok(Some(ended))
}

/// Deletes what Django's own tables say of a user, as Django does it: in SQLite its foreign keys
/// cascade nowhere, and hold only when the transaction commits, which would be the end of
/// everybody's in the group.
///
/// What other applications' tables say is not for us to delete: a user they refer to is kept.
fn forget_in_django(connection: &Connection, users: &str, id: UserId) -> Result<(), Failure> {
    let djangos = words::djangos_tables(users);
    let mut statement = connection.prepare_cached(
        r#"SELECT tables.name, keys."from"
           FROM sqlite_schema AS tables, pragma_foreign_key_list(tables.name) AS keys
           WHERE tables.type = 'table' AND keys."table" = ?1 COLLATE NOCASE"#,
    )?;
    let references = rows::all(statement.query([users])?, |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    for (table, column) in references {
        let (quoted_table, quoted_column) = (quoted(&table), quoted(&column));
        if djangos.contains(&table) {
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
