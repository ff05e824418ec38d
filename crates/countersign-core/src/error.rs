//! What can go wrong in a use case: the answer for the caller and, kept apart, the cause for the log.

use std::time::Duration;

use thiserror::Error;

use crate::session::EndReason;
use crate::validation::ValidationError;

/// The store could not do what was asked. Nothing was changed, or nothing is known to have been.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// It cannot be reached, is locked, read-only or full. Trying again later is sensible.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// A row that cannot be. Trying again will not help.
    #[error("storage holds what cannot be: {0}")]
    Corrupt(String),
}

/// Why a use case refused. Each variant is one code of the protocol.
#[derive(Debug, Clone, Error)]
pub enum AuthError {
    /// Input that cannot be accepted.
    #[error("validation failed: {0}")]
    Validation(#[from] ValidationError),
    /// Unknown user or wrong password; nobody is told which.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The password is not the one that was chosen at the registration.
    #[error("wrong password of a registration")]
    WrongRegistrationPassword,
    /// The password in force is not the one that was typed to change it.
    #[error("wrong current password")]
    WrongCurrentPassword,
    /// No credential where one is needed.
    #[error("credentials missing")]
    CredentialsMissing,
    /// The password was right, the account is switched off.
    #[error("user inactive")]
    UserInactive,
    /// The access token was refused.
    #[error("access token refused: {}", .0.reason())]
    AccessToken(#[from] countersign_token::VerifyError),
    /// The refresh token is malformed, forged, or of another kind.
    #[error("refresh token invalid")]
    RefreshInvalid,
    /// The refresh token is past its `exp`.
    #[error("refresh token expired")]
    RefreshExpired,
    /// The refresh token had been superseded; its session has been ended.
    #[error("refresh token reused")]
    RefreshReused,
    /// The session is over.
    #[error("session ended: {0}")]
    SessionEnded(EndReason),
    /// The CSRF token was not shown.
    #[error("CSRF token missing")]
    CsrfMissing,
    /// The CSRF token is not the one of the presented credential.
    #[error("CSRF token invalid")]
    CsrfInvalid,
    /// Another user has the name.
    #[error("username taken")]
    UsernameTaken,
    /// Somebody else has proven to read what is mailed to this address.
    #[error("e-mail address taken")]
    EmailTaken,
    /// Nobody makes an account for themselves here.
    #[error("registration closed")]
    RegistrationClosed,
    /// The mailed token is none, has been used, or was made for what is not so any more.
    #[error("mailed token invalid")]
    MailedTokenInvalid,
    /// The mailed token was genuine, and it is too late for it.
    #[error("mailed token expired")]
    MailedTokenExpired,
    /// No such user.
    #[error("no such user")]
    NoSuchUser,
    /// No such session, or not one of the user's.
    #[error("no such session")]
    NoSuchSession,
    /// No such signing key.
    #[error("no such signing key")]
    NoSuchKey,
    /// This has been attempted too often; whether it would have succeeded is not looked at.
    #[error("throttled")]
    Throttled {
        /// When to come again.
        retry_after: Duration,
    },
    /// Too much is being hashed already.
    #[error("overloaded")]
    Overloaded {
        /// When to come again.
        retry_after: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuthError {
    /// The same about a field that the caller sent under another name, if it is about one.
    #[must_use]
    pub(crate) fn about(self, field: &'static str) -> Self {
        match self {
            Self::Validation(refusal) => refusal.about(field).into(),
            other => other,
        }
    }

    /// Whether what was attempted has not been looked at, or not to its end: such a guess is none.
    pub(crate) const fn is_no_guess(&self) -> bool {
        matches!(self, Self::Overloaded { .. } | Self::Store(_))
    }
}
