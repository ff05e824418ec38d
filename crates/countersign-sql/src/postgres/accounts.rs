//! Transitions of accounts, which are of users and of their sessions at once.
//!
//! Each begins by locking the user's row, and so sees all that happened to the account before and
//! nothing that happens to it meanwhile: a login that raced a change of password is either refused or
//! ended by it.

use countersign_core::audit::Trail;
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, EndedSession, SessionEnd, SessionId};
use countersign_core::store::{
    AccountChange, AccountChangeKind, AccountChanged, Change, EndedAt, OpenOutcome, OpenSession,
    PasswordChange, PasswordOutcome,
};
use countersign_core::user::{Credentials, UserId};
use tokio_postgres::types::Type;

use super::audit::write_trail;
use super::changes::told;
use super::cut_off;
use super::failure::Failure;
use super::instant::Instant;
use super::link::Link;
use super::mail;
use super::mailed_tokens;
use super::names;
use super::rows;
use super::sessions;
use super::statements::Statements;
use super::users;
use super::writer::Done;
use crate::user_table::Users;
use crate::words;

/// Begins a transaction, with the account locked and as it stands.
pub(super) async fn begin(
    link: &Link,
    sql: &Statements,
    user: UserId,
) -> Result<Option<Credentials>, Failure> {
    let found = link.begin_with(&sql.lock, &[(&user.0, Type::INT8)]).await?;
    found.first().map(rows::credentials).transpose()
}

/// Opens a session, if the account still is as it was when the password was checked.
pub(super) async fn open(
    link: &Link,
    sql: &Statements,
    opening: &OpenSession,
) -> Result<Done<OpenOutcome>, Failure> {
    let session = &opening.session;
    let found = begin(link, sql, session.user_id).await?;
    let Some(mut user) = found
        .filter(|credentials| credentials.password == opening.verified)
        .map(|credentials| credentials.user)
    else {
        link.roll_back().await?;
        return Ok(Done::quietly(OpenOutcome::Changed));
    };
    if !user.is_active {
        link.roll_back().await?;
        return Ok(Done::quietly(OpenOutcome::Inactive));
    }
    if sql.users.noted_login().is_some() {
        user.last_login = Some(session.opened_at);
    }
    let ended = link
        .commit_with(
            &sql.open_session,
            &[
                (&link.origin, Type::INT8),
                (&user.id.0, Type::INT8),
                (&Instant(session.opened_at), Type::TIMESTAMPTZ),
                (
                    &opening.upgraded.as_ref().map(EncodedPassword::as_str),
                    Type::TEXT,
                ),
                (&session.id.0, Type::UUID),
                (&session.opened_at.as_millisecond(), Type::INT8),
                (&i64::from(session.generation.0), Type::INT8),
                (&session.rotated_at.as_millisecond(), Type::INT8),
                (&session.remember, Type::BOOL),
                (
                    &session.address.map(|address| address.to_string()),
                    Type::TEXT,
                ),
                (&session.user_agent, Type::TEXT),
                (&opening.replaced.map(|id| id.0), Type::UUID),
                (&opening.most.map(|most| i64::from(most.get())), Type::INT8),
                (&EndReason::ReplacedByLogin.code(), Type::TEXT),
                (&EndReason::TooManySessions.code(), Type::TEXT),
                (&rows::ended_by(EndedBy::User(user.id)), Type::TEXT),
                (&write_trail(&opening.trail), Type::TEXT),
            ],
        )
        .await?;
    if ended.is_empty() {
        let why = format!("session {} had been opened before", session.id);
        return Err(Failure::corrupt(why));
    }
    let Done {
        outcome: ended,
        mut changes,
    } = sessions::all_ended(rows::all_ended(&ended)?);
    // The time of the login is shown.
    changes.push(Change::UserChanged(user.id));
    Ok(Done {
        outcome: OpenOutcome::Opened { user, ended },
        changes,
    })
}

/// What changes of an account, and the sessions that end with it.
#[derive(Default)]
pub(super) struct Changing<'change> {
    pub(super) password: Option<&'change EncodedPassword>,
    pub(super) is_active: Option<bool>,
    pub(super) is_staff: Option<bool>,
    pub(super) is_superuser: Option<bool>,
    /// Why sessions end, if they do.
    pub(super) reason: Option<EndReason>,
    /// All but the one that this user has asked from.
    pub(super) spared: Option<SessionId>,
}

impl Changing<'_> {
    /// Ends the transaction with this.
    pub(super) async fn commit(
        &self,
        link: &Link,
        sql: &Statements,
        user: UserId,
        ending: EndedAt,
        trail: &Trail,
    ) -> Result<Done<Vec<EndedSession>>, Failure> {
        if self.reason.is_some() {
            cut_off::note(link, user, ending.at).await?;
        }
        let ended = link
            .commit_with(
                &sql.change_account,
                &[
                    (&link.origin, Type::INT8),
                    (&user.0, Type::INT8),
                    (&self.password.map(EncodedPassword::as_str), Type::TEXT),
                    (&self.is_active, Type::BOOL),
                    (&self.is_staff, Type::BOOL),
                    (&self.is_superuser, Type::BOOL),
                    (&self.reason.map(EndReason::code), Type::TEXT),
                    (&ending.at.as_millisecond(), Type::INT8),
                    (&rows::ended_by(ending.by), Type::TEXT),
                    (&self.spared.map(|id| id.0), Type::UUID),
                    (&write_trail(trail), Type::TEXT),
                ],
            )
            .await?;
        let mut done = sessions::all_ended(rows::all_ended(&ended)?);
        done.changes.push(Change::UserChanged(user));
        Ok(done)
    }
}

pub(super) async fn change_account(
    link: &Link,
    sql: &Statements,
    change: &AccountChange,
) -> Result<Done<Option<AccountChanged>>, Failure> {
    let Some(Credentials { mut user, .. }) = begin(link, sql, change.user).await? else {
        link.roll_back().await?;
        return Ok(Done::quietly(None));
    };
    let mut changing = Changing {
        reason: change.kind.ends_sessions(&user),
        ..Changing::default()
    };
    match &change.kind {
        AccountChangeKind::Password(new) => changing.password = Some(new),
        AccountChangeKind::Active(active) => {
            changing.is_active = Some(*active);
            user.is_active = *active;
        }
        AccountChangeKind::Roles {
            is_staff,
            is_superuser,
        } => {
            if let Err(why) = sql.users.refuse_roles(*is_staff, *is_superuser) {
                link.roll_back().await?;
                return Err(Failure::unavailable(why));
            }
            changing.is_staff = Some(*is_staff);
            changing.is_superuser = Some(*is_superuser);
            (user.is_staff, user.is_superuser) = (*is_staff, *is_superuser);
        }
        AccountChangeKind::Email(email) => {
            let is_another = user.email != email.as_str();
            if is_another && !users::write_email(link, sql, user.id, email.as_str()).await? {
                link.roll_back().await?;
                return Err(Failure::unavailable(words::EMAIL_USED));
            }
            user.email_verified &= !is_another;
            email.as_str().clone_into(&mut user.email);
        }
    }
    mail::queue(link, change.mail.as_ref()).await?;
    let Done { outcome, changes } = changing
        .commit(link, sql, user.id, change.ending, &change.trail)
        .await?;
    Ok(Done {
        outcome: Some(AccountChanged {
            user,
            ended: outcome,
        }),
        changes,
    })
}

pub(super) async fn change_password(
    link: &Link,
    sql: &Statements,
    change: &PasswordChange,
) -> Result<Done<PasswordOutcome>, Failure> {
    let found = begin(link, sql, change.user).await?;
    let lock = "SELECT 1 FROM countersign_session
         WHERE id = $1 AND user_id = $2 AND ended_at IS NULL FOR NO KEY UPDATE";
    let asking = link
        .query(
            lock,
            &[
                (&change.session.0, Type::UUID),
                (&change.user.0, Type::INT8),
            ],
        )
        .await?;
    if asking.is_empty() {
        link.roll_back().await?;
        return Ok(Done::quietly(PasswordOutcome::SessionOver));
    }
    if found.is_none_or(|found| found.password != change.verified) {
        link.roll_back().await?;
        return Ok(Done::quietly(PasswordOutcome::Outdated));
    }
    let changing = Changing {
        password: Some(&change.new),
        reason: Some(EndReason::PasswordChanged),
        spared: Some(change.session),
        ..Changing::default()
    };
    mail::queue(link, change.mail.as_ref()).await?;
    let Done { outcome, changes } = changing
        .commit(link, sql, change.user, change.ending, &change.trail)
        .await?;
    Ok(Done {
        outcome: PasswordOutcome::Changed(outcome),
        changes,
    })
}

/// Ends every live session of a user but `spared`; also of one who is no more.
pub(super) async fn end_sessions(
    link: &Link,
    sql: &Statements,
    user: UserId,
    spared: Option<SessionId>,
    end: SessionEnd,
    trail: &Trail,
) -> Result<Done<Vec<EndedSession>>, Failure> {
    begin(link, sql, user).await?;
    let done = sessions::end_all(link, user, spared, end, trail).await?;
    link.commit().await?;
    Ok(done)
}

pub(super) async fn delete(
    link: &Link,
    sql: &Statements,
    id: UserId,
    ending: EndedAt,
    trail: &Trail,
) -> Result<Done<Option<Vec<EndedSession>>>, Failure> {
    if begin(link, sql, id).await?.is_none() {
        link.roll_back().await?;
        return Ok(Done::quietly(None));
    }
    forget_in_django(link, &sql.users, id).await?;
    link.query(&sql.delete, &[(&id.0, Type::INT8)]).await?;
    mailed_tokens::forget(link, id).await?;
    names::forget(link, id).await?;
    let end = ending.because(EndReason::UserDeleted);
    let Done {
        outcome,
        mut changes,
    } = sessions::end_all(link, id, None, end, trail).await?;
    let tell = concat!("WITH ", told!("SELECT 'user_changed ' || $2"), " SELECT 1");
    link.commit_with(tell, &[(&link.origin, Type::INT8), (&id.0, Type::INT8)])
        .await?;
    changes.push(Change::UserChanged(id));
    Ok(Done {
        outcome: Some(outcome),
        changes,
    })
}

/// Deletes what Django's own tables say of a user, as Django does it: its foreign keys cascade
/// nowhere.
///
/// What other applications' tables say is not for us to delete: a user they refer to is kept.
async fn forget_in_django(link: &Link, users: &Users, id: UserId) -> Result<(), Failure> {
    let djangos = words::djangos_tables(&users.name);
    // What a foreign key of the database's own deletes or forgets with the user is left to it.
    let references = link
        .query(
            "SELECT relation.relname::text, attribute.attname::text,
                 format('%I.%I', namespace.nspname, relation.relname), quote_ident(attname)
             FROM pg_constraint
             JOIN pg_class AS relation ON relation.oid = conrelid
             JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
             JOIN pg_attribute AS attribute ON attrelid = conrelid AND attnum = conkey[1]
             WHERE contype = 'f' AND confrelid = $1::text::regclass
                 AND confdeltype IN ('a', 'r')",
            &[(&users.table, Type::TEXT)],
        )
        .await?;
    for reference in references {
        let (table, column): (String, String) = (reference.try_get(0)?, reference.try_get(1)?);
        let (quoted_table, quoted_column): (String, String) =
            (reference.try_get(2)?, reference.try_get(3)?);
        if djangos.contains(&table) {
            let delete = format!("DELETE FROM {quoted_table} WHERE {quoted_column} = $1");
            link.query_once(&delete, &[(&id.0, Type::INT8)]).await?;
            continue;
        }
        let refers = format!("SELECT 1 FROM {quoted_table} WHERE {quoted_column} = $1 LIMIT 1");
        let referring = link.query_once(&refers, &[(&id.0, Type::INT8)]).await?;
        if !referring.is_empty() {
            return Err(Failure::unavailable(format!(
                "user {id} cannot be deleted: {table}.{column} refers to it; delete the user in \
                 the application that owns that table, or deactivate it"
            )));
        }
    }
    Ok(())
}
