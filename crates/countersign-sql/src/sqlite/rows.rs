//! Rows read by type. One that cannot be is refused here, and nowhere later.

use std::net::IpAddr;

use countersign_core::audit::{AuditEntry, Caller, RecordedEntry};
use countersign_core::mail::{ClaimedMail, Mail, MailId, MailWaiting};
use countersign_core::mailed_token::{
    Binding, MailedPurpose, MailedToken, MailedTokenId, Registration,
};
use countersign_core::password::EncodedPassword;
use countersign_core::session::{
    EndReason, EndedSession, Generation, Session, SessionEnd, SessionId,
};
use countersign_core::store::{Change, KeyState, SealedSigningKey};
use countersign_core::throttle::Counter;
use countersign_core::user::{Credentials, User, UserId};
use countersign_token::Algorithm;
use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::datetime;
use super::failure::Failure;
use crate::words;

/// How many columns [`user`] reads: those that [`Statements`](super::statements::Statements) names.
const USER_COLUMNS: usize = 11;

/// A user, from the columns at `from` on.
pub(super) fn user(row: &Row<'_>, from: usize) -> Result<User, Failure> {
    let mut fields = Fields::new(row, "auth_user", from);
    Ok(User {
        id: UserId(fields.integer("id")?),
        username: fields.text("username")?.to_owned(),
        email: fields.text("email")?.to_owned(),
        email_verified: fields.boolean("email_verified")?,
        first_name: fields.text("first_name")?.to_owned(),
        last_name: fields.text("last_name")?.to_owned(),
        is_active: fields.boolean("is_active")?,
        is_staff: fields.boolean("is_staff")?,
        is_superuser: fields.boolean("is_superuser")?,
        last_login: fields.optional("last_login", Fields::datetime)?,
        date_joined: fields.datetime("date_joined")?,
    })
}

/// A user and, in the column after, the stored password.
pub(super) fn credentials(row: &Row<'_>) -> Result<Credentials, Failure> {
    let user = user(row, 0)?;
    let password = Fields::new(row, "auth_user", USER_COLUMNS).text("password")?;
    Ok(Credentials {
        user,
        password: EncodedPassword::new(password),
    })
}

/// A stored password alone.
pub(super) fn password(row: &Row<'_>) -> Result<EncodedPassword, Failure> {
    Ok(EncodedPassword::new(
        Fields::new(row, "auth_user", 0).text("password")?,
    ))
}

/// The columns that [`session`] reads, from a table or alias named `countersign_session`.
macro_rules! session_columns {
    () => {
        "countersign_session.id, countersign_session.user_id, countersign_session.generation, \
         countersign_session.opened_at, countersign_session.rotated_at, \
         countersign_session.remember, countersign_session.address, \
         countersign_session.user_agent, countersign_session.ended_at, \
         countersign_session.end_reason, countersign_session.ended_by"
    };
}
pub(super) use session_columns;

/// How many columns [`session`] reads.
pub(super) const SESSION_COLUMNS: usize = 11;

/// A session, from the columns at `from` on.
pub(super) fn session(row: &Row<'_>, from: usize) -> Result<Session, Failure> {
    let mut fields = Fields::new(row, "countersign_session", from);
    Ok(Session {
        id: fields.session_id("id")?,
        user_id: UserId(fields.integer("user_id")?),
        generation: fields.parsed("generation", Fields::integer, |number| {
            u32::try_from(number).ok().map(Generation)
        })?,
        opened_at: fields.milliseconds("opened_at")?,
        rotated_at: fields.milliseconds("rotated_at")?,
        remember: fields.boolean("remember")?,
        address: fields.optional("address", |fields, name| {
            fields.parsed(name, Fields::text, |text| text.parse::<IpAddr>().ok())
        })?,
        user_agent: fields
            .optional("user_agent", Fields::text)?
            .map(str::to_owned),
        end: session_end(&mut fields)?,
    })
}

fn session_end(fields: &mut Fields<'_>) -> Result<Option<SessionEnd>, Failure> {
    let at = fields.optional("ended_at", Fields::milliseconds)?;
    let reason = fields.optional("end_reason", |fields, name| {
        fields.parsed(name, Fields::text, EndReason::from_code)
    })?;
    let by = fields.optional("ended_by", |fields, name| {
        fields.parsed(name, Fields::text, words::read_ended_by)
    })?;
    match (at, reason, by) {
        (Some(at), Some(reason), Some(by)) => Ok(Some(SessionEnd { reason, at, by })),
        (None, None, None) => Ok(None),
        _ => Err(Failure::corrupt(
            "countersign_session: a session that is half ended",
        )),
    }
}

/// The columns that [`signing_key`] reads.
macro_rules! signing_key_columns {
    () => {
        "kid, algorithm, state, sealed, created_at, state_since"
    };
}
pub(super) use signing_key_columns;

/// A signing key.
pub(super) fn signing_key(row: &Row<'_>) -> Result<SealedSigningKey, Failure> {
    let mut fields = Fields::new(row, "countersign_signing_key", 0);
    Ok(SealedSigningKey {
        kid: fields.text("kid")?.to_owned(),
        algorithm: fields.parsed("algorithm", Fields::text, Algorithm::from_name)?,
        state: fields.parsed("state", Fields::text, KeyState::from_code)?,
        sealed: fields.blob("sealed")?.to_owned(),
        created_at: fields.milliseconds("created_at")?,
        state_since: fields.milliseconds("state_since")?,
    })
}

/// A counter of throttling.
pub(super) fn counter(row: &Row<'_>) -> Result<Counter, Failure> {
    let mut fields = Fields::new(row, "countersign_throttle", 0);
    Ok(Counter {
        drained_at: fields.milliseconds("drained_at")?,
        last_at: fields.milliseconds("last_at")?,
    })
}

/// How many mails wait, and how many of them were tried.
pub(super) fn mail_waiting(row: &Row<'_>) -> Result<MailWaiting, Failure> {
    let count = |index| -> Result<u64, Failure> {
        let count: i64 = row.get(index)?;
        Ok(u64::try_from(count).unwrap_or_default())
    };
    Ok(MailWaiting {
        waiting: count(0)?,
        tried: count(1)?,
    })
}

/// The columns that [`claimed_mail`] reads, from a table named `countersign_outbox`.
macro_rules! claimed_mail_columns {
    () => {
        "countersign_outbox.id, countersign_outbox.recipient, countersign_outbox.username, \
         countersign_outbox.message, countersign_outbox.queued_at, countersign_outbox.attempts, \
         countersign_outbox.due_at"
    };
}
pub(super) use claimed_mail_columns;

/// A mail, as it is claimed.
pub(super) fn claimed_mail(row: &Row<'_>) -> Result<ClaimedMail, Failure> {
    let mut fields = Fields::new(row, "countersign_outbox", 0);
    Ok(ClaimedMail {
        mail: Mail {
            id: MailId(fields.session_id("id")?.0),
            recipient: fields.text("recipient")?.to_owned(),
            username: fields.text("username")?.to_owned(),
            message: fields.parsed("message", Fields::text, words::read_message)?,
            queued_at: fields.milliseconds("queued_at")?,
        },
        attempts: fields.parsed("attempts", Fields::integer, |number| {
            u32::try_from(number).ok()
        })?,
        until: fields.milliseconds("due_at")?,
    })
}

/// The columns that [`mailed_token`] reads.
macro_rules! mailed_token_columns {
    () => {
        "id, purpose, user_id, email, binding, created_at, expires_at"
    };
}
pub(super) use mailed_token_columns;

/// A mailed token.
pub(super) fn mailed_token(row: &Row<'_>) -> Result<MailedToken, Failure> {
    let mut fields = Fields::new(row, "countersign_mailed_token", 0);
    Ok(MailedToken {
        id: MailedTokenId(fields.session_id("id")?.0),
        purpose: fields.parsed("purpose", Fields::text, MailedPurpose::from_code)?,
        user: UserId(fields.integer("user_id")?),
        email: fields.text("email")?.to_owned(),
        binding: fields.parsed("binding", Fields::blob, |bytes| {
            bytes.try_into().ok().map(Binding)
        })?,
        created_at: fields.milliseconds("created_at")?,
        expires_at: fields.milliseconds("expires_at")?,
    })
}

/// The columns that [`registration`] reads.
macro_rules! registration_columns {
    () => {
        "id, username, email, password, first_name, last_name, created_at, expires_at"
    };
}
pub(super) use registration_columns;

/// A registration.
pub(super) fn registration(row: &Row<'_>) -> Result<Registration, Failure> {
    let mut fields = Fields::new(row, "countersign_registration", 0);
    Ok(Registration {
        id: MailedTokenId(fields.session_id("id")?.0),
        username: fields.text("username")?.to_owned(),
        email: fields.text("email")?.to_owned(),
        password: EncodedPassword::new(fields.text("password")?),
        first_name: fields.text("first_name")?.to_owned(),
        last_name: fields.text("last_name")?.to_owned(),
        created_at: fields.milliseconds("created_at")?,
        expires_at: fields.milliseconds("expires_at")?,
    })
}

/// The columns that [`audit_entry`] reads.
macro_rules! audit_columns {
    () => {
        "number, at, event, user_id, session, actor, address, user_agent, request_id, details, count"
    };
}
pub(super) use audit_columns;

/// An entry of the audit log.
pub(super) fn audit_entry(row: &Row<'_>) -> Result<RecordedEntry, Failure> {
    let mut fields = Fields::new(row, "countersign_audit", 0);
    Ok(RecordedEntry {
        number: fields.integer("number")?,
        entry: AuditEntry {
            at: fields.milliseconds("at")?,
            event: fields.text("event")?.to_owned(),
            user: fields.optional("user_id", Fields::integer)?.map(UserId),
            session: fields.optional("session", Fields::session_id)?,
            by: fields.optional("actor", |fields, name| {
                fields.parsed(name, Fields::text, words::read_ended_by)
            })?,
            caller: Caller {
                address: fields.optional("address", |fields, name| {
                    fields.parsed(name, Fields::text, |text| text.parse::<IpAddr>().ok())
                })?,
                user_agent: fields
                    .optional("user_agent", Fields::text)?
                    .map(str::to_owned),
                request_id: fields
                    .optional("request_id", Fields::text)?
                    .map(str::to_owned),
            },
            details: fields.parsed("details", Fields::text, words::read_details)?,
            count: fields.parsed("count", Fields::integer, |number| {
                u32::try_from(number).ok()
            })?,
        },
    })
}

/// The stored words for a change.
pub(super) const fn change_kind(change: Change) -> &'static str {
    match change {
        Change::SessionEnded(_) => "session_ended",
        Change::UserChanged(_) => "user_changed",
        Change::UsersChanged => "users_changed",
        Change::KeysChanged => "keys_changed",
        Change::Everything | Change::Unheard | Change::HeardAgain | Change::Listening(_) => {
            "everything"
        }
    }
}

/// The columns that [`change`] reads, from `countersign_change` joined with the session it is about.
macro_rules! change_columns {
    () => {
        "countersign_change.kind, countersign_change.subject, countersign_session.user_id, \
         countersign_session.ended_at, countersign_session.end_reason, countersign_session.ended_by"
    };
}
pub(super) use change_columns;

/// A change, from the columns at `from` on. One of a kind that only a later version of this program
/// tells of may be about anything.
pub(super) fn change(row: &Row<'_>, from: usize) -> Result<Change, Failure> {
    let mut fields = Fields::new(row, "countersign_change", from);
    Ok(match fields.text("kind")? {
        "session_ended" => match ended_session(&mut fields, "subject")? {
            Some(ended) => Change::SessionEnded(ended),
            // Its row has been removed, which happens long after any token of it has ended.
            None => Change::UsersChanged,
        },
        "user_changed" => Change::UserChanged(UserId(fields.integer("subject")?)),
        "users_changed" => Change::UsersChanged,
        "keys_changed" => Change::KeysChanged,
        _ => Change::Everything,
    })
}

/// The columns that [`ended`] reads, from a table named `countersign_session`.
macro_rules! ended_columns {
    () => {
        "id, user_id, ended_at, end_reason, ended_by"
    };
}
pub(super) use ended_columns;

/// A session that has ended.
pub(super) fn ended(row: &Row<'_>) -> Result<EndedSession, Failure> {
    let mut fields = Fields::new(row, "countersign_session", 0);
    ended_session(&mut fields, "id")?
        .ok_or_else(|| Failure::corrupt("countersign_session: a session that has not ended"))
}

fn ended_session(fields: &mut Fields<'_>, id: &str) -> Result<Option<EndedSession>, Failure> {
    let id = fields.session_id(id)?;
    let user = fields.optional("user_id", Fields::integer)?;
    let end = session_end(fields)?;
    Ok(user.zip(end).map(|(user, end)| EndedSession {
        id,
        user: UserId(user),
        end,
    }))
}

/// The columns of a row, one after the other.
struct Fields<'row> {
    row: &'row Row<'row>,
    table: &'static str,
    next: usize,
}

impl<'row> Fields<'row> {
    fn new(row: &'row Row<'row>, table: &'static str, from: usize) -> Self {
        Self {
            row,
            table,
            next: from,
        }
    }

    fn wrong(&self, name: &str) -> Failure {
        Failure::corrupt(format!("{}.{name} holds what cannot be", self.table))
    }

    fn value(&mut self) -> Result<ValueRef<'row>, Failure> {
        let value = self.row.get_ref(self.next)?;
        self.next += 1;
        Ok(value)
    }

    fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        if self.row.get_ref(self.next)? == ValueRef::Null {
            self.next += 1;
            return Ok(None);
        }
        read(self, name).map(Some)
    }

    fn parsed<Raw, T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<Raw, Failure>,
        parse: impl FnOnce(Raw) -> Option<T>,
    ) -> Result<T, Failure> {
        let raw = read(self, name)?;
        parse(raw).ok_or_else(|| self.wrong(name))
    }

    fn text(&mut self, name: &str) -> Result<&'row str, Failure> {
        self.value()?.as_str().map_err(|_| self.wrong(name))
    }

    fn blob(&mut self, name: &str) -> Result<&'row [u8], Failure> {
        self.value()?.as_blob().map_err(|_| self.wrong(name))
    }

    fn integer(&mut self, name: &str) -> Result<i64, Failure> {
        self.value()?.as_i64().map_err(|_| self.wrong(name))
    }

    fn boolean(&mut self, name: &str) -> Result<bool, Failure> {
        match self.integer(name)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong(name)),
        }
    }

    fn milliseconds(&mut self, name: &str) -> Result<Timestamp, Failure> {
        self.parsed(name, Self::integer, |number| {
            Timestamp::from_millisecond(number).ok()
        })
    }

    fn datetime(&mut self, name: &str) -> Result<Timestamp, Failure> {
        self.parsed(name, Self::text, datetime::read)
    }

    fn session_id(&mut self, name: &str) -> Result<SessionId, Failure> {
        self.parsed(name, Self::blob, |bytes| {
            Uuid::from_slice(bytes).ok().map(SessionId)
        })
    }
}

/// Reads the one row that a statement may give.
pub(super) fn one<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl FnOnce(&Row<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    rows.next()?.map(read).transpose()
}

/// Reads every row that a statement gives.
pub(super) fn all<T>(
    mut rows: rusqlite::Rows<'_>,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}
