//! A session: one login on one device, from login to its end.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::clock::Randomness;
use crate::user::UserId;

/// A session's name. Not a secret: it appears in tokens and in lists.
///
/// A UUID of version 7 (RFC 9562), so that new rows land beside each other on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A new name, from the time and 74 random bits.
    pub fn new(now: Timestamp, randomness: &dyn Randomness) -> Self {
        let mut random = [0; 10];
        randomness.fill(&mut random);
        Self::from_parts(now, &random)
    }

    /// The name that begins with a time and goes on with 74 of these bits.
    pub(crate) fn from_parts(time: Timestamp, bits: &[u8; 10]) -> Self {
        let milliseconds = u64::try_from(time.as_millisecond()).unwrap_or_default();
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, bits).into_uuid())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

/// A text that names no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a session id")]
pub struct NotASessionId;

impl FromStr for SessionId {
    type Err = NotASessionId;

    /// Reads the one form we write: lower case with hyphens.
    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        let id = Self(Uuid::try_parse(text).map_err(|_| NotASessionId)?);
        if text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Ok(id)
        } else {
            Err(NotASessionId)
        }
    }
}

/// How often a session's refresh token has been rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// What a session opens with.
    pub const FIRST: Self = Self(0);

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One line of the reference of end reasons: name, stored word, when it happens, what its user is told,
/// and what a client does about it.
macro_rules! end_reasons {
    ($($name:ident $code:literal $meaning:literal $sentence:literal $remedy:literal;)*) => {
        /// Why a session ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EndReason { $(#[doc = $meaning] $name),* }

        impl EndReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable word, as stored and as told to clients.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// When it happens.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),* }
            }

            /// The sentence for the session's user.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),* }
            }

            /// What a client does about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

end_reasons! {
    Logout "logout" "The user signed out."
        "You have signed out. Sign in again."
        "Show the sign-in page, without alarm.";
    Expired "expired" "The idle or the absolute limit passed."
        "The session has reached its end. Sign in again."
        "Sign in again, and come back to the same page.";
    ReuseDetected "reuse_detected" "A superseded refresh token came back: theft is assumed."
        "This sign-in was used from two places, so it was ended for safety. Sign in again."
        "Sign in again, and tell the person that someone else may have held a copy.";
    ReplacedByLogin "replaced_by_login" "The same browser signed in anew."
        "Someone signed in anew in this browser. Sign in again."
        "Take the new sign-in of this browser: refresh once; if that fails, sign in again.";
    RevokedByUser "revoked_by_user" "The user ended it from another device."
        "You signed this device out from another one. Sign in again."
        "Sign in again, and say that it was done from another device.";
    RevokedByAdmin "revoked_by_admin" "Someone who runs the service ended it."
        "Whoever runs this service has signed you out. Sign in again."
        "Sign in again.";
    TooManySessions "too_many_sessions" "The user signed in elsewhere, and so many sessions at once are not allowed."
        "You signed in on another device, and only so many may be signed in at once."
        "Sign in again; that ends the session used least recently.";
    PasswordChanged "password_changed" "The password was changed."
        "The password was changed. Sign in with the new one."
        "Sign in with the new password.";
    UserDeactivated "user_deactivated" "The user was deactivated."
        "This account is switched off."
        "Stop: tell the person to ask whoever runs the site.";
    UserDeleted "user_deleted" "The user was deleted."
        "This account does not exist any more."
        "Stop, and forget what is kept of the user.";
    RolesChanged "roles_changed" "The user's powers were changed."
        "Your rights were changed. Sign in again."
        "Sign in again; the new tokens carry the new powers.";
}

impl EndReason {
    /// The reason that a stored word names.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == code)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

/// Who ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The user, or someone with the user's credentials.
    User(UserId),
    /// Someone at the command line.
    CommandLine,
    /// The service itself.
    Service,
}

/// The end of a session: why, when and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnd {
    /// Why.
    pub reason: EndReason,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: EndedBy,
}

/// A session that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSession {
    /// Its name.
    pub id: SessionId,
    /// Whose it was.
    pub user: UserId,
    /// Why, when and by whom it ended.
    pub end: SessionEnd,
}

/// One login on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// How often the refresh token has been rotated.
    pub generation: Generation,
    /// When the user signed in.
    pub opened_at: Timestamp,
    /// When the refresh token was last rotated; at first, when the session opened.
    pub rotated_at: Timestamp,
    /// Whether the cookies outlive the browser.
    pub remember: bool,
    /// Where the login came from.
    pub address: Option<IpAddr>,
    /// What the client called itself at login.
    pub user_agent: Option<String>,
    /// Set once it has ended; never unset.
    pub end: Option<SessionEnd>,
}

impl Session {
    /// When the refresh token stops working unless it is rotated: the idle limit after the last
    /// rotation, and never after the absolute limit.
    pub fn refresh_expires_at(&self, limits: &SessionLimits) -> Timestamp {
        let idle = saturating_add(self.rotated_at, limits.idle);
        idle.min(self.absolute_limit(limits))
    }

    /// When the session ends however much it is used.
    pub fn absolute_limit(&self, limits: &SessionLimits) -> Timestamp {
        saturating_add(self.opened_at, limits.absolute)
    }

    /// An end of this session: never before it was last rotated, or the end would be forgotten before
    /// the last token of a session that was used while the clock was ahead.
    pub fn end_at(&self, end: SessionEnd) -> SessionEnd {
        SessionEnd {
            at: end.at.max(self.rotated_at),
            ..end
        }
    }

    /// Why the session can no longer be used, if it cannot.
    pub fn ended(&self, now: Timestamp, limits: &SessionLimits) -> Option<EndReason> {
        match self.end {
            Some(end) => Some(end.reason),
            None if now >= self.refresh_expires_at(limits) => Some(EndReason::Expired),
            None => None,
        }
    }
}

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// How long a session lasts without a refresh.
    pub idle: Duration,
    /// How long a session lasts however much it is used.
    pub absolute: Duration,
    /// How long the previous generation is answered with the same successor.
    pub grace: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_hours(7 * 24),
            absolute: Duration::from_hours(30 * 24),
            grace: Duration::from_secs(30),
        }
    }
}

/// Adds, stopping at the end of the calendar.
pub(crate) fn saturating_add(instant: Timestamp, duration: Duration) -> Timestamp {
    instant.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_reason_is_read_back_from_its_code() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(EndReason::from_code("bored"), None);
    }

    #[test]
    fn only_the_written_form_names_a_session() {
        let written = "0199c0de-7b1c-7000-8000-0123456789ab";
        assert_eq!(written.parse::<SessionId>().unwrap().to_string(), written);
        for other in [
            &*written.to_uppercase(),
            &written.replace('-', ""),
            "' OR 1=1--",
            "",
        ] {
            assert_eq!(other.parse::<SessionId>(), Err(NotASessionId), "{other:?}");
        }
    }
}
