//! What people are told by mail.
//!
//! A transition that somebody must hear of carries the [`Mail`] and the store keeps it in the same
//! transaction, so that neither happens without the other. Later one process at a time claims it, hands
//! it to a [`MailTransport`], and settles it ([`Auth::deliver_mail`](crate::auth::Auth::deliver_mail)).
//! Whoever dies in between loses the claim when it runs out, and another delivers the mail once more: at
//! least once, with the same [`MailId`], by which mailboxes know it again.
//!
//! Some of what is queued is no letter but a wish for some ([`Message::ResetAsked`]): so whoever asks is
//! answered after the same one write, whether anybody has the address or not. Who has it is found out when
//! the wish is claimed, and the letters take its place.

pub mod schedule;

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

use crate::client::Client;
use crate::clock::Randomness;
use crate::mailed_token::{MailedLink, MailedToken, MailedTokenId};
use crate::session::EndedBy;

/// A mail's name, the same however often it is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId(pub Uuid);

impl MailId {
    /// A new name, from the time and 74 random bits.
    pub fn new(now: Timestamp, randomness: &dyn Randomness) -> Self {
        let mut random = [0; 10];
        randomness.fill(&mut random);
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

/// What a mail says, and what it needs to say it. No token and no password is among it: a queue is read
/// by whoever reads the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The password was changed.
    PasswordChanged {
        /// By whom: the user, or somebody for the user.
        by: EndedBy,
    },
    /// The password was reset through a letter.
    PasswordReset,
    /// The address is another now. Goes to the one before.
    EmailChanged {
        /// The new one, as [`masked`] shows it.
        to: String,
    },
    /// A link to set a new password.
    ResetPassword {
        /// Which token the link carries.
        token: MailedTokenId,
    },
    /// A link that proves the user's address.
    VerifyEmail {
        /// Which token the link carries.
        token: MailedTokenId,
    },
    /// A link that proves the address that the user is to have.
    ChangeEmail {
        /// Which token the link carries.
        token: MailedTokenId,
    },
    /// A link that proves the address of somebody who registers.
    Register {
        /// Which registration.
        registration: MailedTokenId,
    },
    /// Somebody wants the address for an account, and its owner has one already.
    AddressTaken,
    /// No letter yet: whoever has this address wants to set a new password.
    ResetAsked,
    /// No letter yet: whoever has this address wants the link that proves it once more.
    VerificationAsked,
    /// Somebody signed in from a device that the user had not signed in from before.
    NewDevice {
        /// From where.
        address: Option<IpAddr>,
        /// With what.
        client: Client,
    },
    /// Somebody signed in after many who could not.
    LoginAfterFailures {
        /// How many were refused since the sign-in before.
        failures: u32,
        /// Where the one who could came from.
        address: Option<IpAddr>,
        /// With what.
        client: Client,
    },
}

impl Message {
    /// The stable word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PasswordChanged { .. } => "password_changed",
            Self::PasswordReset => "password_reset",
            Self::EmailChanged { .. } => "email_changed",
            Self::ResetPassword { .. } => "reset_password",
            Self::VerifyEmail { .. } => "verify_email",
            Self::ChangeEmail { .. } => "change_email",
            Self::Register { .. } => "register",
            Self::AddressTaken => "address_taken",
            Self::ResetAsked => "reset_asked",
            Self::VerificationAsked => "verification_asked",
            Self::NewDevice { .. } => "new_device",
            Self::LoginAfterFailures { .. } => "login_after_failures",
        }
    }
}

/// An address for those who know it already and nobody else: its first letter and its domain. Without
/// white space, whatever another program has stored.
pub fn masked(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let shown = local.chars().take(1).chain("…@".chars());
    shown
        .chain(domain.chars())
        .filter(|character| !character.is_whitespace())
        .collect()
}

/// A mail to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its name.
    pub id: MailId,
    /// The address that the user had then.
    pub recipient: String,
    /// The user's name, to be greeted by; empty where whoever reads it may be somebody else.
    pub username: String,
    /// What it says.
    pub message: Message,
    /// When what it tells of happened.
    pub queued_at: Timestamp,
}

/// A letter that takes the place of a wish for some, and the token that it carries if it is a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAnswer {
    /// The token.
    pub token: Option<MailedToken>,
    /// The letter.
    pub mail: Mail,
}

/// A mail that is this process's to deliver, until the claim runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedMail {
    /// The mail.
    pub mail: Mail,
    /// How often it has been claimed, this time included.
    pub attempts: u32,
    /// When the claim runs out; also proves, when it is settled, that it had not.
    pub until: Timestamp,
}

/// Which mails to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailClaim {
    /// Those that are due by now.
    pub now: Timestamp,
    /// Until when they are nobody else's.
    pub until: Timestamp,
    /// At most this many, those that have been due longest.
    pub limit: u32,
}

/// What has become of a claimed mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailOutcome {
    /// It was delivered, or nobody will: it is forgotten.
    Done,
    /// It is due again at this time.
    Later(Timestamp),
}

/// How many mails wait, letters and wishes for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailWaiting {
    /// All of them.
    pub waiting: u64,
    /// Those among them that somebody has begun to deliver, and has not: most of them failed.
    pub tried: u64,
}

/// Why a mail was not delivered, in words for the log that quote neither the mail nor a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeliveryFailure {
    /// Trying again may help.
    #[error("{0}")]
    Temporary(String),
    /// Trying again does not help.
    #[error("{0}")]
    Permanent(String),
}

/// A way to people's mailboxes.
#[async_trait]
pub trait MailTransport: Send + Sync {
    /// Delivers a mail, under its [`MailId`], with the link that it is to carry if it carries one.
    async fn deliver(&self, mail: &Mail, link: Option<&MailedLink>) -> Result<(), DeliveryFailure>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_to_those_who_know_it() {
        assert_eq!(masked("ana.lima@example.org"), "a…@example.org");
        assert_eq!(masked("\u{5d0}ב@example.org"), "\u{5d0}…@example.org");
        assert_eq!(masked(" no\naddress"), "…@");
        assert_eq!(masked(""), "…@");
    }
}
