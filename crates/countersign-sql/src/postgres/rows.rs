//! Rows read by type. One that cannot be is refused here, and nowhere later.

use std::net::IpAddr;

use countersign_core::audit::{AuditEntry, Caller, RecordedEntry};
use countersign_core::mail::{ClaimedMail, Mail, MailId, MailWaiting};
use countersign_core::mailed_token::{
    Binding, MailedPurpose, MailedToken, MailedTokenId, Registration,
};
use countersign_core::password::EncodedPassword;
use countersign_core::session::{
    EndReason, EndedBy, EndedSession, Generation, Session, SessionEnd, SessionId,
};
use countersign_core::store::{Change, KeyState, SealedSigningKey};
use countersign_core::throttle::{Counter, ThrottleKey};
use countersign_core::user::{Credentials, User, UserId};
use countersign_token::Algorithm;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::failure::Failure;
use super::instant::Instant;
use crate::words;

/// How many columns [`user`] reads: those that [`Statements`](super::statements::Statements) names.
const USER_COLUMNS: usize = 11;

/// A user, from the columns at `from` on.
pub(super) fn user(row: &Row, from: usize) -> Result<User, Failure> {
    let mut fields = Fields::new(row, "auth_user", from);
    Ok(User {
        id: UserId(fields.get("id")?),
        username: fields.get("username")?,
        email: fields.get("email")?,
        email_verified: fields.get("email_verified")?,
        first_name: fields.get("first_name")?,
        last_name: fields.get("last_name")?,
        is_active: fields.get("is_active")?,
        is_staff: fields.get("is_staff")?,
        is_superuser: fields.get("is_superuser")?,
        last_login: fields
            .get::<Option<Instant>>("last_login")?
            .map(|instant| instant.0),
        date_joined: fields.get::<Instant>("date_joined")?.0,
    })
}

/// A user and, in the column after, the stored password.
pub(super) fn credentials(row: &Row) -> Result<Credentials, Failure> {
    let user = user(row, 0)?;
    let password: String = Fields::new(row, "auth_user", USER_COLUMNS).get("password")?;
    Ok(Credentials {
        user,
        password: EncodedPassword::new(password),
    })
}

/// A stored password alone.
pub(super) fn password(row: &Row) -> Result<EncodedPassword, Failure> {
    let password: String = Fields::new(row, "auth_user", 0).get("password")?;
    Ok(EncodedPassword::new(password))
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
const SESSION_COLUMNS: usize = 11;

/// A session.
pub(super) fn session(row: &Row) -> Result<Session, Failure> {
    let mut fields = Fields::new(row, "countersign_session", 0);
    Ok(Session {
        id: SessionId(fields.get("id")?),
        user_id: UserId(fields.get("user_id")?),
        generation: fields.parsed("generation", |number: i64| {
            u32::try_from(number).ok().map(Generation)
        })?,
        opened_at: fields.parsed("opened_at", instant)?,
        rotated_at: fields.parsed("rotated_at", instant)?,
        remember: fields.get("remember")?,
        address: fields.parsed_if_any("address", |text: &str| text.parse::<IpAddr>().ok())?,
        user_agent: fields.get("user_agent")?,
        end: session_end(&mut fields)?,
    })
}

/// A session and its user, unless deleted.
pub(super) fn session_and_user(row: &Row) -> Result<(Session, Option<User>), Failure> {
    let session = session(row)?;
    let id: Option<i64> = Fields::new(row, "auth_user", SESSION_COLUMNS).get("id")?;
    let user = id.map(|_| user(row, SESSION_COLUMNS)).transpose()?;
    Ok((session, user))
}

fn session_end(fields: &mut Fields<'_>) -> Result<Option<SessionEnd>, Failure> {
    let at = fields.parsed_if_any("ended_at", instant)?;
    let reason = fields.parsed_if_any("end_reason", EndReason::from_code)?;
    let by = fields.parsed_if_any("ended_by", words::read_ended_by)?;
    match (at, reason, by) {
        (Some(at), Some(reason), Some(by)) => Ok(Some(SessionEnd { reason, at, by })),
        (None, None, None) => Ok(None),
        _ => Err(Failure::corrupt(
            "countersign_session: a session that is half ended",
        )),
    }
}

/// The columns that [`ended`] reads, from a table or alias named `countersign_session`.
macro_rules! ended_columns {
    () => {
        "countersign_session.id, countersign_session.user_id, countersign_session.ended_at, \
         countersign_session.end_reason, countersign_session.ended_by"
    };
}
pub(super) use ended_columns;

/// A session that has ended.
pub(super) fn ended(row: &Row) -> Result<EndedSession, Failure> {
    let mut fields = Fields::new(row, "countersign_session", 0);
    let (id, user) = (fields.get("id")?, fields.get("user_id")?);
    let end = session_end(&mut fields)?
        .ok_or_else(|| Failure::corrupt("countersign_session: a session that has not ended"))?;
    Ok(EndedSession {
        id: SessionId(id),
        user: UserId(user),
        end,
    })
}

/// Sessions that have ended, from rows of which there is one with nothing in it if none has.
pub(super) fn all_ended(rows: &[Row]) -> Result<Vec<EndedSession>, Failure> {
    rows.iter()
        .filter_map(|row| match row.try_get::<_, Option<Uuid>>(0) {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(ended(row)),
        })
        .collect()
}

/// The columns that [`signing_key`] reads.
macro_rules! signing_key_columns {
    () => {
        "kid, algorithm, state, sealed, created_at, state_since"
    };
}
pub(super) use signing_key_columns;

/// A signing key.
pub(super) fn signing_key(row: &Row) -> Result<SealedSigningKey, Failure> {
    let mut fields = Fields::new(row, "countersign_signing_key", 0);
    Ok(SealedSigningKey {
        kid: fields.get("kid")?,
        algorithm: fields.parsed("algorithm", Algorithm::from_name)?,
        state: fields.parsed("state", KeyState::from_code)?,
        sealed: fields.get("sealed")?,
        created_at: fields.parsed("created_at", instant)?,
        state_since: fields.parsed("state_since", instant)?,
    })
}

/// A counter of throttling, and which.
pub(super) fn counter(row: &Row) -> Result<(ThrottleKey, Counter), Failure> {
    let mut fields = Fields::new(row, "countersign_throttle", 0);
    let key = fields.parsed("key", |bytes: &[u8]| bytes.try_into().ok().map(ThrottleKey))?;
    let counter = Counter {
        drained_at: fields.parsed("drained_at", instant)?,
        last_at: fields.parsed("last_at", instant)?,
    };
    Ok((key, counter))
}

/// How many mails wait, and how many of them were tried.
pub(super) fn mail_waiting(row: &Row) -> Result<MailWaiting, Failure> {
    let count = |index: usize| -> Result<u64, Failure> {
        let count: i64 = row.try_get(index)?;
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
pub(super) fn claimed_mail(row: &Row) -> Result<ClaimedMail, Failure> {
    let mut fields = Fields::new(row, "countersign_outbox", 0);
    Ok(ClaimedMail {
        mail: Mail {
            id: MailId(fields.get("id")?),
            recipient: fields.get("recipient")?,
            username: fields.get("username")?,
            message: fields.parsed("message", words::read_message)?,
            queued_at: fields.parsed("queued_at", instant)?,
        },
        attempts: fields.parsed("attempts", |number: i64| u32::try_from(number).ok())?,
        until: fields.parsed("due_at", instant)?,
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
pub(super) fn mailed_token(row: &Row) -> Result<MailedToken, Failure> {
    let mut fields = Fields::new(row, "countersign_mailed_token", 0);
    Ok(MailedToken {
        id: MailedTokenId(fields.get("id")?),
        purpose: fields.parsed("purpose", MailedPurpose::from_code)?,
        user: UserId(fields.get("user_id")?),
        email: fields.get("email")?,
        binding: fields.parsed("binding", |bytes: &[u8]| bytes.try_into().ok().map(Binding))?,
        created_at: fields.parsed("created_at", instant)?,
        expires_at: fields.parsed("expires_at", instant)?,
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
pub(super) fn registration(row: &Row) -> Result<Registration, Failure> {
    let mut fields = Fields::new(row, "countersign_registration", 0);
    Ok(Registration {
        id: MailedTokenId(fields.get("id")?),
        username: fields.get("username")?,
        email: fields.get("email")?,
        password: EncodedPassword::new(fields.get::<&str>("password")?),
        first_name: fields.get("first_name")?,
        last_name: fields.get("last_name")?,
        created_at: fields.parsed("created_at", instant)?,
        expires_at: fields.parsed("expires_at", instant)?,
    })
}

/// The columns that [`audit_entry`] reads.
macro_rules! audit_columns {
    () => {
        "number, at, event, user_id, session, actor, address, user_agent, request_id, details, count"
    };
}
pub(super) use audit_columns;

/// How many columns [`audit_entry`] reads.
pub(super) const AUDIT_COLUMNS: usize = 11;

/// An entry of the audit log.
pub(super) fn audit_entry(row: &Row) -> Result<RecordedEntry, Failure> {
    let mut fields = Fields::new(row, "countersign_audit", 0);
    Ok(RecordedEntry {
        number: fields.get("number")?,
        entry: AuditEntry {
            at: fields.parsed("at", instant)?,
            event: fields.get("event")?,
            user: fields.get::<Option<i64>>("user_id")?.map(UserId),
            session: fields.get::<Option<Uuid>>("session")?.map(SessionId),
            by: fields.parsed_if_any("actor", words::read_ended_by)?,
            caller: Caller {
                address: fields
                    .parsed_if_any("address", |text: &str| text.parse::<IpAddr>().ok())?,
                user_agent: fields.get("user_agent")?,
                request_id: fields.get("request_id")?,
            },
            details: fields.parsed("details", words::read_details)?,
            count: fields.parsed("count", |number: i64| u32::try_from(number).ok())?,
        },
    })
}

/// What other nodes are told in words, as [`changes`](super::changes) writes them. What only a later
/// version of this program tells of may be about anything.
pub(super) fn change(said: &str) -> Change {
    read_change(said).unwrap_or(Change::Everything)
}

fn read_change(said: &str) -> Option<Change> {
    let words: Vec<_> = said.split(' ').collect();
    match *words.as_slice() {
        ["session_ended", id, user, at, reason, by] => Some(Change::SessionEnded(EndedSession {
            id: id.parse().ok()?,
            user: UserId(user.parse().ok()?),
            end: SessionEnd {
                reason: EndReason::from_code(reason)?,
                at: instant(at.parse().ok()?)?,
                by: words::read_ended_by(by)?,
            },
        })),
        ["user_changed", id] => Some(Change::UserChanged(UserId(id.parse().ok()?))),
        ["keys_changed"] => Some(Change::KeysChanged),
        _ => None,
    }
}

fn instant(milliseconds: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(milliseconds).ok()
}

/// Who ended a session, as it is written.
pub(super) fn ended_by(by: EndedBy) -> String {
    words::write_ended_by(by)
}

/// The columns of a row, one after the other.
struct Fields<'row> {
    row: &'row Row,
    table: &'static str,
    next: usize,
}

impl<'row> Fields<'row> {
    fn new(row: &'row Row, table: &'static str, from: usize) -> Self {
        Self {
            row,
            table,
            next: from,
        }
    }

    fn wrong(&self, name: &str) -> Failure {
        Failure::corrupt(format!("{}.{name} holds what cannot be", self.table))
    }

    fn get<T: FromSql<'row>>(&mut self, name: &str) -> Result<T, Failure> {
        let value = self.row.try_get(self.next);
        self.next += 1;
        value.map_err(|_| self.wrong(name))
    }

    fn parsed<Raw: FromSql<'row>, T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Raw) -> Option<T>,
    ) -> Result<T, Failure> {
        let raw = self.get(name)?;
        parse(raw).ok_or_else(|| self.wrong(name))
    }

    fn parsed_if_any<Raw: FromSql<'row>, T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Raw) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let raw: Option<Raw> = self.get(name)?;
        raw.map(|raw| parse(raw).ok_or_else(|| self.wrong(name)))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_or_taken_for_everything() {
        let id = "0199c0de-7b1c-7000-8000-0123456789ab";
        let ended = Change::SessionEnded(EndedSession {
            id: id.parse().unwrap(),
            user: UserId(7),
            end: SessionEnd {
                reason: EndReason::Logout,
                at: Timestamp::from_millisecond(1_795_341_600_001).unwrap(),
                by: EndedBy::User(UserId(7)),
            },
        });
        let said = format!("session_ended {id} 7 1795341600001 logout user:7");
        assert_eq!(change(&said), ended);
        assert_eq!(change("user_changed 7"), Change::UserChanged(UserId(7)));
        assert_eq!(change("keys_changed"), Change::KeysChanged);
        for unknown in [
            "",
            "user_changed",
            "user_changed x",
            "moon_changed 7",
            "session_ended",
        ] {
            assert_eq!(change(unknown), Change::Everything, "{unknown}");
        }
    }
}
