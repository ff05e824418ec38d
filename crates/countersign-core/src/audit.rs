//! What happened: one event per outcome, told once, where it is decided.
//!
//! An event is a line of the log, and most are entries of the audit log, too, which the store keeps in the
//! very transaction that they tell of ([`Trail`]).
//!
//! An event never holds a password, a token, a cookie or what someone typed as a username: people
//! type their password there.

mod entry;

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::mail::MailId;
use crate::session::{EndReason, EndedBy, SessionId};
use crate::user::UserId;

pub use self::entry::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};

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
}

impl LoginRefusal {
    const fn code(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::Inactive => "user_inactive",
            Self::ChangedMeanwhile => "changed_meanwhile",
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

impl Event<'_> {
    /// The name of [`Event::SessionEnded`].
    pub const SESSION_ENDED: &'static str = "session_ended";

    /// What is kept of it.
    pub const fn kept(&self) -> Kept {
        match self {
            Self::LoginSucceeded { .. }
            | Self::LoginRefused { .. }
            | Self::PasswordUpgraded { .. }
            | Self::SessionTakenOver { .. }
            | Self::RefreshReused { .. }
            | Self::SessionEnded { .. }
            | Self::UserCreated { .. }
            | Self::ProfileChanged { .. }
            | Self::PasswordSet { .. }
            | Self::PasswordChangeRefused { .. }
            | Self::ActiveSet { .. }
            | Self::RolesSet { .. }
            | Self::UserDeleted { .. }
            | Self::SigningKeyMoved { .. } => Kept::Each,
            Self::RefreshRefused { .. }
            | Self::AccessTokenRefused { .. }
            | Self::CsrfRefused { .. }
            | Self::Throttled { .. } => Kept::Gathered,
            Self::SessionRefreshed { .. }
            | Self::RefreshReplayed { .. }
            | Self::PowersLeftOut { .. }
            | Self::SessionsSwept { .. }
            | Self::MailDelivered { .. }
            | Self::MailPostponed { .. }
            | Self::MailGivenUp { .. } => Kept::Nothing,
        }
    }

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
            | Self::ActiveSet { user, .. }
            | Self::RolesSet { user, .. }
            | Self::UserDeleted { user }
            | Self::PowersLeftOut { user, .. } => Some(user),
            Self::LoginRefused { user, .. } | Self::Throttled { user, .. } => user,
            Self::RefreshRefused { .. }
            | Self::AccessTokenRefused { .. }
            | Self::CsrfRefused { .. }
            | Self::SigningKeyMoved { .. }
            | Self::SessionsSwept { .. }
            | Self::MailDelivered { .. }
            | Self::MailPostponed { .. }
            | Self::MailGivenUp { .. } => None,
        }
    }

    /// Which session it is about.
    const fn session(&self) -> Option<SessionId> {
        match *self {
            Self::LoginSucceeded { session, .. }
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
            Self::RefreshRefused { reason, .. } | Self::AccessTokenRefused { reason } => {
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
            Self::SigningKeyMoved { kid, state } => json!({"kid": kid, "state": state}),
            _ => Value::Null,
        };
        match details {
            Value::Object(details) => details,
            _ => Map::new(),
        }
    }

    /// The event's stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LoginSucceeded { .. } => "login_succeeded",
            Self::LoginRefused { .. } => "login_refused",
            Self::PasswordUpgraded { .. } => "password_upgraded",
            Self::SessionTakenOver { .. } => "session_taken_over",
            Self::SessionRefreshed { .. } => "session_refreshed",
            Self::RefreshReplayed { .. } => "refresh_replayed",
            Self::RefreshReused { .. } => "refresh_reused",
            Self::RefreshRefused { .. } => "refresh_refused",
            Self::SessionEnded { .. } => Self::SESSION_ENDED,
            Self::AccessTokenRefused { .. } => "access_token_refused",
            Self::CsrfRefused { .. } => "csrf_refused",
            Self::UserCreated { .. } => "user_created",
            Self::ProfileChanged { .. } => "profile_changed",
            Self::PasswordSet { .. } => "password_set",
            Self::ActiveSet { .. } => "active_set",
            Self::RolesSet { .. } => "roles_set",
            Self::UserDeleted { .. } => "user_deleted",
            Self::PasswordChangeRefused { .. } => "password_change_refused",
            Self::Throttled { .. } => "throttled",
            Self::PowersLeftOut { .. } => "powers_left_out",
            Self::SigningKeyMoved { .. } => "signing_key_moved",
            Self::SessionsSwept { .. } => "sessions_swept",
            Self::MailDelivered { .. } => "mail_delivered",
            Self::MailPostponed { .. } => "mail_postponed",
            Self::MailGivenUp { .. } => "mail_given_up",
        }
    }

    /// Tells the event, as one line of the log.
    pub fn tell(&self) {
        use tracing::{debug, info, warn};
        let event = self.name();
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
            Self::CsrfRefused { session } => warn!(event, %session),
            Self::PasswordUpgraded { user }
            | Self::UserCreated { user }
            | Self::ProfileChanged { user }
            | Self::PasswordSet { user }
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
            Self::Throttled { limit, user } => info!(event, limit, user = user.map(display)),
            Self::PowersLeftOut { user, claim } => warn!(event, %user, claim),
            Self::SigningKeyMoved { kid, state } => info!(event, kid, state),
            Self::SessionsSwept { expired, removed } => info!(event, expired, removed),
            Self::MailDelivered { id, kind } => info!(event, mail = %id, kind),
            Self::MailPostponed { id, kind, reason } => info!(event, mail = %id, kind, reason),
            Self::MailGivenUp { id, kind, reason } => warn!(event, mail = %id, kind, reason),
        }
    }
}
