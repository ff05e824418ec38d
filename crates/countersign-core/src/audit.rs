//! What happened: one event per outcome, told once, where it is decided.
//!
//! An event is a line of the log, and most are entries of the audit log, too, which the store keeps in the
//! very transaction that they tell of ([`Trail`]).
//!
//! An event never holds a password, a token, a cookie or what someone typed as a username: people
//! type their password there.

mod counts;
mod entry;
mod tally;

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::mail::MailId;
use crate::session::{EndReason, EndedBy, SessionId};
use crate::user::UserId;

pub(crate) use self::counts::lose;
pub use self::counts::{event_counts, lost_entries};
pub use self::entry::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
pub(crate) use self::tally::Tally;

/// Who calls, as far as that can be seen: for sessions and events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The client's address, as far as it can be trusted.
    pub address: Option<IpAddr>,
    /// What the client calls itself; cut to 512 characters.
    pub user_agent: Option<String>,
    /// What ties the answer to the lines of the log.
    pub request_id: Option<String>,
}

/// Who does something, after proof, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub by: EndedBy,
    /// From where; nowhere if it is no request.
    pub caller: Caller,
}

impl Actor {
    /// A user who is signed in.
    pub fn user(id: UserId, caller: &Caller) -> Self {
        Self {
            by: EndedBy::User(id),
            caller: caller.clone(),
        }
    }
}

/// The command line and the service do what they do at no request.
impl From<EndedBy> for Actor {
    fn from(by: EndedBy) -> Self {
        Self {
            by,
            caller: Caller::default(),
        }
    }
}

/// Why a login was refused. Told to the log, never to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginRefusal {
    /// No such user.
    UnknownUser,
    /// Wrong password.
    WrongPassword,
    /// Right password, deactivated user.
    Inactive,
    /// The password was changed while it was being checked.
    ChangedMeanwhile,
    /// Too many attempts by all of the user's names together: the password was not looked at.
    TooManyAttempts,
}

impl LoginRefusal {
    const fn code(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::Inactive => "user_inactive",
            Self::ChangedMeanwhile => "changed_meanwhile",
            Self::TooManyAttempts => "too_many_attempts",
        }
    }
}

/// One outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the ids of what the variant's line names"
)]
pub enum Event<'a> {
    /// A user signed in and a session opened.
    LoginSucceeded { user: UserId, session: SessionId },
    /// A login was refused; the user is named if there is one.
    LoginRefused {
        user: Option<UserId>,
        reason: LoginRefusal,
    },
    /// A user signed in after many sign-ins had been refused, so many since the last.
    LoginAfterFailures {
        user: UserId,
        session: SessionId,
        failures: u32,
    },
    /// A stored password was re-hashed to today's cost.
    PasswordUpgraded { user: UserId },
    /// A refresh token of the Django site was exchanged for a session.
    SessionTakenOver { user: UserId, session: SessionId },
    /// A refresh token was rotated.
    SessionRefreshed { user: UserId, session: SessionId },
    /// The previous refresh token came back within the grace and was answered with the same successor.
    RefreshReplayed { user: UserId, session: SessionId },
    /// A superseded refresh token came back: theft is assumed.
    RefreshReused { user: UserId, session: SessionId },
    /// A refresh token was refused before any look-up, or named a session that is over.
    RefreshRefused {
        reason: &'static str,
        session: Option<SessionId>,
    },
    /// A session ended.
    SessionEnded {
        user: UserId,
        session: SessionId,
        reason: EndReason,
    },
    /// An access token was refused.
    AccessTokenRefused { reason: &'static str },
    /// A CSRF token was missing or was not that of the credential.
    CsrfRefused { session: SessionId },
    /// A user was made.
    UserCreated { user: UserId },
    /// A user's names changed.
    ProfileChanged { user: UserId },
    /// A user's password was set.
    PasswordSet { user: UserId },
    /// Somebody asked for a letter to reset a password. Whether anybody has the address is not known then.
    PasswordResetAsked,
    /// A user's password was reset through a letter.
    PasswordReset { user: UserId },
    /// A mailed token was refused.
    MailedTokenRefused { reason: &'static str },
    /// Somebody registered, and has yet to prove the address.
    RegistrationAsked,
    /// Somebody asked for the letter that proves an address once more. Whether anybody has it is not known
    /// then.
    EmailVerificationAsked,
    /// A user asked for another address, which is yet to be proven.
    EmailChangeAsked { user: UserId },
    /// A user proved the address of the account.
    EmailVerified { user: UserId },
    /// A user's address became another.
    EmailChanged { user: UserId },
    /// A user's change of their own password was refused: the one in force was not the one typed.
    PasswordChangeRefused { user: UserId },
    /// A user was activated or deactivated.
    ActiveSet { user: UserId, active: bool },
    /// A user's powers were set.
    RolesSet {
        user: UserId,
        is_staff: bool,
        is_superuser: bool,
    },
    /// A user was deleted.
    UserDeleted { user: UserId },
    /// A request came from a page that may not ask.
    OriginRefused,
    /// The service started with these settings: the SHA-256 of those in force, and the names of those that
    /// somebody has set.
    SettingsInForce { digest: &'a str, set: &'a [&'a str] },
    /// Something was attempted too often, and was not looked at: which limit of the section `throttle` says
    /// so, and the user if there is one.
    Throttled {
        limit: &'static str,
        user: Option<UserId>,
    },
    /// An access token says nothing of what its user may do, because there is too much of it.
    PowersLeftOut { user: UserId, claim: &'static str },
    /// A signing key was made or came to another state of its life, or was removed.
    SigningKeyMoved { kid: &'a str, state: &'static str },
    /// Upkeep ended sessions whose limit had passed, and removed some that had ended long ago.
    SessionsSwept { expired: u32, removed: u32 },
    /// A mail was delivered.
    MailDelivered { id: MailId, kind: &'static str },
    /// A mail was not delivered, and will be tried again.
    MailPostponed {
        id: MailId,
        kind: &'static str,
        reason: &'a str,
    },
    /// A mail was not sent: what it is about is over.
    MailDropped { id: MailId, kind: &'static str },
    /// A wish for letters led to so many.
    MailAnswered {
        id: MailId,
        kind: &'static str,
        letters: usize,
    },
    /// A mail was not delivered, and will not be.
    MailGivenUp {
        id: MailId,
        kind: &'static str,
        reason: &'a str,
    },
}

/// What is kept of an event in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// An entry each.
    Each,
    /// One entry for many alike: such an event costs a stranger nothing.
    Gathered,
    /// Nothing: it happens all the time, and changes nothing that anybody asks for later.
    Nothing,
}

/// One line of the reference of events: variant, stable name, and what is kept of it.
macro_rules! events {
    ($($variant:ident $name:literal $kept:ident;)*) => {
        impl Event<'_> {
            /// Every event's name, and what is kept of it.
            pub const NAMES: &'static [(&'static str, Kept)] = &[$(($name, Kept::$kept)),*];

            /// The event's stable name.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name),* }
            }

            /// What is kept of it.
            pub const fn kept(&self) -> Kept {
                match self { $(Self::$variant { .. } => Kept::$kept),* }
            }
        }
    };
}

events! {
    LoginSucceeded "login_succeeded" Each;
    LoginRefused "login_refused" Each;
    LoginAfterFailures "login_after_failures" Each;
    PasswordUpgraded "password_upgraded" Each;
    SessionTakenOver "session_taken_over" Each;
    SessionRefreshed "session_refreshed" Nothing;
    RefreshReplayed "refresh_replayed" Nothing;
    RefreshReused "refresh_reused" Each;
    RefreshRefused "refresh_refused" Gathered;
    SessionEnded "session_ended" Each;
    AccessTokenRefused "access_token_refused" Gathered;
    CsrfRefused "csrf_refused" Gathered;
    OriginRefused "origin_refused" Gathered;
    Throttled "throttled" Gathered;
    UserCreated "user_created" Each;
    ProfileChanged "profile_changed" Each;
    PasswordSet "password_set" Each;
    PasswordChangeRefused "password_change_refused" Each;
    PasswordResetAsked "password_reset_asked" Each;
    PasswordReset "password_reset" Each;
    MailedTokenRefused "mailed_token_refused" Gathered;
    RegistrationAsked "registration_asked" Each;
    EmailVerificationAsked "email_verification_asked" Each;
    EmailChangeAsked "email_change_asked" Each;
    EmailVerified "email_verified" Each;
    EmailChanged "email_changed" Each;
    ActiveSet "active_set" Each;
    RolesSet "roles_set" Each;
    UserDeleted "user_deleted" Each;
    SigningKeyMoved "signing_key_moved" Each;
    SettingsInForce "settings_in_force" Each;
    PowersLeftOut "powers_left_out" Nothing;
    SessionsSwept "sessions_swept" Nothing;
    MailDelivered "mail_delivered" Nothing;
    MailPostponed "mail_postponed" Nothing;
    MailDropped "mail_dropped" Nothing;
    MailAnswered "mail_answered" Nothing;
    MailGivenUp "mail_given_up" Nothing;
}

impl Event<'_> {
    /// The name of [`Event::SessionEnded`].
    pub const SESSION_ENDED: &'static str = "session_ended";
    /// The name of [`Event::LoginSucceeded`].
    pub const LOGIN_SUCCEEDED: &'static str = "login_succeeded";
    /// The name of [`Event::LoginRefused`].
    pub const LOGIN_REFUSED: &'static str = "login_refused";
    /// The name of [`Event::SessionTakenOver`].
    pub const SESSION_TAKEN_OVER: &'static str = "session_taken_over";

    /// Its entry, if one is kept of each.
    pub(crate) fn entry(
        &self,
        at: Timestamp,
        by: Option<EndedBy>,
        caller: &Caller,
    ) -> Option<AuditEntry> {
        if self.kept() != Kept::Each {
            return None;
        }
        Some(AuditEntry {
            at,
            event: self.name().to_owned(),
            user: self.user(),
            session: self.session(),
            by,
            caller: caller.clone(),
            details: self.details(),
            count: 1,
        })
    }

    /// Whom it concerns.
    const fn user(&self) -> Option<UserId> {
        match *self {
            Self::LoginSucceeded { user, .. }
            | Self::LoginAfterFailures { user, .. }
            | Self::PasswordUpgraded { user }
            | Self::SessionTakenOver { user, .. }
            | Self::SessionRefreshed { user, .. }
            | Self::RefreshReplayed { user, .. }
            | Self::RefreshReused { user, .. }
            | Self::SessionEnded { user, .. }
            | Self::UserCreated { user }
            | Self::ProfileChanged { user }
            | Self::PasswordSet { user }
            | Self::PasswordChangeRefused { user }
            | Self::PasswordReset { user }
            | Self::EmailChangeAsked { user }
            | Self::EmailVerified { user }
            | Self::EmailChanged { user }
            | Self::ActiveSet { user, .. }
            | Self::RolesSet { user, .. }
            | Self::UserDeleted { user }
            | Self::PowersLeftOut { user, .. } => Some(user),
            Self::LoginRefused { user, .. } | Self::Throttled { user, .. } => user,
            Self::RefreshRefused { .. }
            | Self::AccessTokenRefused { .. }
            | Self::CsrfRefused { .. }
            | Self::OriginRefused
            | Self::SettingsInForce { .. }
            | Self::SigningKeyMoved { .. }
            | Self::SessionsSwept { .. }
            | Self::MailDelivered { .. }
            | Self::MailPostponed { .. }
            | Self::MailDropped { .. }
            | Self::MailAnswered { .. }
            | Self::MailGivenUp { .. }
            | Self::PasswordResetAsked
            | Self::RegistrationAsked
            | Self::EmailVerificationAsked
            | Self::MailedTokenRefused { .. } => None,
        }
    }

    /// Which session it is about.
    const fn session(&self) -> Option<SessionId> {
        match *self {
            Self::LoginSucceeded { session, .. }
            | Self::LoginAfterFailures { session, .. }
            | Self::SessionTakenOver { session, .. }
            | Self::SessionRefreshed { session, .. }
            | Self::RefreshReplayed { session, .. }
            | Self::RefreshReused { session, .. }
            | Self::SessionEnded { session, .. }
            | Self::CsrfRefused { session } => Some(session),
            Self::RefreshRefused { session, .. } => session,
            _ => None,
        }
    }

    /// What else there is to say of it.
    fn details(&self) -> Map<String, Value> {
        let details = match *self {
            Self::LoginRefused { reason, .. } => json!({"reason": reason.code()}),
            Self::RefreshRefused { reason, .. }
            | Self::AccessTokenRefused { reason }
            | Self::MailedTokenRefused { reason } => {
                json!({"reason": reason})
            }
            Self::SessionEnded { reason, .. } => json!({"reason": reason.code()}),
            Self::ActiveSet { active, .. } => json!({"active": active}),
            Self::RolesSet {
                is_staff,
                is_superuser,
                ..
            } => json!({"is_staff": is_staff, "is_superuser": is_superuser}),
            Self::Throttled { limit, .. } => json!({"limit": limit}),
            Self::LoginAfterFailures { failures, .. } => json!({"failures": failures}),
            Self::SigningKeyMoved { kid, state } => json!({"kid": kid, "state": state}),
            Self::SettingsInForce { digest, set } => json!({"digest": digest, "set": set}),
            _ => Value::Null,
        };
        match details {
            Value::Object(details) => details,
            _ => Map::new(),
        }
    }

    /// What tells its kinds apart, for who counts them: a reason, a limit, a state, or nothing. Always one of
    /// a few words of this program's own.
    const fn kind(&self) -> &'static str {
        match *self {
            Self::LoginRefused { reason, .. } => reason.code(),
            Self::SessionEnded { reason, .. } => reason.code(),
            Self::RefreshRefused { reason, .. }
            | Self::AccessTokenRefused { reason }
            | Self::MailedTokenRefused { reason } => reason,
            Self::Throttled { limit, .. } => limit,
            Self::SigningKeyMoved { state, .. } => state,
            Self::PowersLeftOut { claim, .. } => claim,
            Self::MailDelivered { kind, .. }
            | Self::MailPostponed { kind, .. }
            | Self::MailDropped { kind, .. }
            | Self::MailAnswered { kind, .. }
            | Self::MailGivenUp { kind, .. } => kind,
            _ => "",
        }
    }

    /// Tells the event, as one line of the log, and counts it.
    pub fn tell(&self) {
        use tracing::{debug, info, warn};
        let event = self.name();
        counts::add(event, self.kind(), 1);
        match *self {
            Self::LoginSucceeded { user, session } | Self::SessionTakenOver { user, session } => {
                info!(event, %user, %session);
            }
            Self::LoginRefused { user, reason } => {
                info!(event, user = user.map(display), reason = reason.code());
            }
            Self::SessionRefreshed { user, session } | Self::RefreshReplayed { user, session } => {
                debug!(event, %user, %session);
            }
            Self::LoginAfterFailures {
                user,
                session,
                failures,
            } => warn!(event, %user, %session, failures),
            Self::RefreshReused { user, session } => warn!(event, %user, %session),
            Self::RefreshRefused { reason, session } => {
                info!(event, session = session.map(display), reason);
            }
            Self::SessionEnded {
                user,
                session,
                reason,
            } => info!(event, %user, %session, %reason),
            Self::AccessTokenRefused { reason } => info!(event, reason),
            Self::OriginRefused => warn!(event),
            Self::SettingsInForce { digest, set } => info!(event, digest, set = set.join(" ")),
            Self::CsrfRefused { session } => warn!(event, %session),
            Self::PasswordUpgraded { user }
            | Self::UserCreated { user }
            | Self::ProfileChanged { user }
            | Self::PasswordSet { user }
            | Self::PasswordReset { user }
            | Self::EmailChangeAsked { user }
            | Self::EmailVerified { user }
            | Self::EmailChanged { user }
            | Self::UserDeleted { user } => info!(event, %user),
            Self::ActiveSet { user, active } => info!(event, %user, active),
            Self::RolesSet {
                user,
                is_staff,
                is_superuser,
            } => {
                info!(event, %user, is_staff, is_superuser);
            }
            Self::PasswordChangeRefused { user } => warn!(event, %user),
            Self::PasswordResetAsked | Self::RegistrationAsked | Self::EmailVerificationAsked => {
                info!(event);
            }
            Self::MailedTokenRefused { reason } => info!(event, reason),
            Self::Throttled { limit, user } => info!(event, limit, user = user.map(display)),
            Self::PowersLeftOut { user, claim } => warn!(event, %user, claim),
            Self::SigningKeyMoved { kid, state } => info!(event, kid, state),
            Self::SessionsSwept { expired, removed } => {
                let reason = EndReason::Expired.code();
                counts::add(Self::SESSION_ENDED, reason, expired.into());
                info!(event, expired, removed);
            }
            Self::MailDelivered { id, kind } => info!(event, mail = %id, kind),
            Self::MailPostponed { id, kind, reason } => info!(event, mail = %id, kind, reason),
            Self::MailDropped { id, kind } => info!(event, mail = %id, kind),
            Self::MailAnswered { id, kind, letters } => info!(event, mail = %id, kind, letters),
            Self::MailGivenUp { id, kind, reason } => warn!(event, mail = %id, kind, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names and the first words of the rows of a table.
    fn rows(text: &str) -> Vec<(&str, &str)> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| row.split_once("` | "))
            .map(|(name, rest)| (name, rest.split(" |").next().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn the_reference_has_every_event_that_is_kept_and_how() {
        let kept = Event::NAMES.iter().filter_map(|(name, kept)| match kept {
            Kept::Each => Some((*name, "each")),
            Kept::Gathered => Some((*name, "gathered")),
            Kept::Nothing => None,
        });
        let mut kept: Vec<_> = kept.collect();
        let mut documented = rows(include_str!("../../../docs/audit.md"));
        documented.retain(|(_, how)| ["each", "gathered"].contains(how));
        kept.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, kept);
    }

    #[test]
    fn the_operators_manual_has_every_event() {
        let manual = include_str!("../../../docs/operations.md");
        let (_, logs) = manual.split_once("\n## Logs\n").unwrap();
        let logs = logs.split("\n## ").next().unwrap();
        for (name, _) in Event::NAMES {
            assert!(logs.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn the_name_of_an_end_is_the_events() {
        let names: Vec<_> = Event::NAMES.iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&Event::SESSION_ENDED));
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
    }
}
