//! What letters with links have in common: how they are asked for, written, and shown again.

use std::net::IpAddr;

use super::Auth;
use super::attempt::Attempt;
use crate::audit::{Caller, Event, Trail};
use crate::error::{AuthError, StoreError};
use crate::mail::{Mail, MailAnswer, MailId, Message};
use crate::mailed_token::{
    MailedLink, MailedPurpose, MailedToken, MailedTokenId, PresentedToken, StoredToken,
};
use crate::session::saturating_add;
use crate::user::{Credentials, Email};

/// How many users with one address are written to. More than a few have it by mistake.
const MOST_USERS: u32 = 5;

/// What a claimed mail turns out to be.
pub(super) enum Prepared {
    /// A letter, and the link that it carries.
    Letter(Mail, Option<MailedLink>),
    /// A wish for these letters.
    Answers(Vec<MailAnswer>),
    /// A letter whose link is worth nothing any more.
    Dead,
}

impl Auth {
    /// Queues the wish of somebody who says to have this address, so that it takes the same whether anybody
    /// has it or not.
    ///
    /// # Errors
    /// [`AuthError::Throttled`] by where it comes from. Where so many letters have been sent already that
    /// one more would only be a nuisance, nobody is told, and none is sent.
    pub(super) async fn ask_for_letters(
        &self,
        email: &Email,
        message: Message,
        event: &Event<'_>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let address = caller.address;
        self.count(Attempt::AskForLetters(address)).await?;
        let trail = Trail::of(caller).with(event, self.clock.now(), None);
        let mail = self.mail_to_address(email, message);
        match self.unless_flooded(email, mail, address).await? {
            Some(mail) => self.store.queue_mail(&mail, &trail).await?,
            None => self.store.record_audit(&trail.entries).await?,
        }
        event.tell();
        Ok(())
    }

    /// A letter to an address, if mail is sent at all. It greets nobody by name: who reads it is not known.
    pub(super) fn mail_to_address(&self, email: &Email, message: Message) -> Option<Mail> {
        if !self.settings.queue_mail {
            tracing::warn!(event = "mail_not_sent", kind = message.kind());
            return None;
        }
        let now = self.clock.now();
        Some(Mail {
            id: MailId::new(now, &*self.randomness),
            recipient: email.as_str().to_owned(),
            username: String::new(),
            message,
            queued_at: now,
        })
    }

    /// A token for a user as of now.
    pub(super) fn new_token(
        &self,
        purpose: MailedPurpose,
        user: &Credentials,
        email: String,
    ) -> MailedToken {
        let now = self.clock.now();
        let settings = &self.settings.mailed_tokens;
        let lifetime = match purpose {
            MailedPurpose::ResetPassword => settings.reset_lifetime,
            MailedPurpose::VerifyEmail | MailedPurpose::ChangeEmail => settings.verify_lifetime,
        };
        MailedToken {
            id: MailedTokenId::new(now, &*self.randomness),
            purpose,
            user: user.user.id,
            email,
            binding: self.mailed_tokens.binding(purpose, user),
            created_at: now,
            expires_at: saturating_add(now, lifetime),
        }
    }

    /// What a claimed mail turns out to be, as things stand now.
    pub(super) async fn prepare(&self, mail: &Mail) -> Result<Prepared, StoreError> {
        match &mail.message {
            Message::PasswordChanged { .. }
            | Message::PasswordReset
            | Message::EmailChanged { .. }
            | Message::AddressTaken
            | Message::NewDevice { .. }
            | Message::LoginAfterFailures { .. } => Ok(Prepared::Letter(mail.clone(), None)),
            Message::ResetAsked => self.reset_letters(mail).await,
            Message::VerificationAsked => self.verification_letters(mail).await,
            Message::ResetPassword { token }
            | Message::VerifyEmail { token }
            | Message::ChangeEmail { token } => self.with_link(mail, *token).await,
            Message::Register { registration } => self.with_link(mail, *registration).await,
        }
    }

    async fn reset_letters(&self, wish: &Mail) -> Result<Prepared, StoreError> {
        let users = self.users_with(&wish.recipient).await?;
        // As Django: whose password is unusable signs in some other way, and is to stay so.
        let users = users
            .into_iter()
            .filter(|found| found.user.is_active && !found.password.is_unusable());
        Ok(self.answers(users, MailedPurpose::ResetPassword))
    }

    async fn verification_letters(&self, wish: &Mail) -> Result<Prepared, StoreError> {
        let Ok(email) = Email::parse_known(&wish.recipient) else {
            return Ok(Prepared::Dead);
        };
        let users = self.users_with(&wish.recipient).await?;
        let is_proven = users.iter().any(|found| found.user.email_verified);
        let users = users
            .into_iter()
            .filter(|found| found.user.is_active && !is_proven);
        let mut answers = match self.answers(users, MailedPurpose::VerifyEmail) {
            Prepared::Answers(answers) => answers,
            Prepared::Letter(..) | Prepared::Dead => Vec::new(),
        };
        let now = self.clock.now();
        let waiting = self
            .store
            .find_registrations(&email, now, MOST_USERS)
            .await?;
        answers.extend(waiting.into_iter().map(|waiting| MailAnswer {
            token: None,
            mail: Mail {
                id: MailId::new(now, &*self.randomness),
                recipient: waiting.email,
                username: String::new(),
                message: Message::Register {
                    registration: waiting.id,
                },
                queued_at: now,
            },
        }));
        Ok(Prepared::Answers(answers))
    }

    /// A token and a letter for each of these users, to the address as it is stored: one that was typed
    /// resembles it only (CVE-2019-19844).
    fn answers(
        &self,
        users: impl Iterator<Item = Credentials>,
        purpose: MailedPurpose,
    ) -> Prepared {
        let now = self.clock.now();
        let answers = users.map(|found| {
            let token = self.new_token(purpose, &found, found.user.email.clone());
            let message = match purpose {
                MailedPurpose::ResetPassword => Message::ResetPassword { token: token.id },
                MailedPurpose::VerifyEmail => Message::VerifyEmail { token: token.id },
                MailedPurpose::ChangeEmail => Message::ChangeEmail { token: token.id },
            };
            // Whoever gets a link that proves an address may be somebody else than the user.
            let username = match purpose {
                MailedPurpose::ResetPassword => self.greeting(&found.user),
                MailedPurpose::VerifyEmail | MailedPurpose::ChangeEmail => String::new(),
            };
            let mail = Mail {
                id: MailId::new(now, &*self.randomness),
                recipient: found.user.email,
                username,
                message,
                queued_at: now,
            };
            MailAnswer {
                token: Some(token),
                mail,
            }
        });
        Prepared::Answers(answers.collect())
    }

    async fn users_with(&self, address: &str) -> Result<Vec<Credentials>, StoreError> {
        let Ok(email) = Email::parse_known(address) else {
            return Ok(Vec::new());
        };
        let mut found = self.store.find_by_email(&email, MOST_USERS).await?;
        // Who has proven to read it comes first.
        let folded = email.folded();
        found.retain(|found| !folded.is_empty() && Email::fold(&found.user.email) == folded);
        Ok(found)
    }

    /// A letter with its link, if that is worth anything yet.
    async fn with_link(&self, mail: &Mail, id: MailedTokenId) -> Result<Prepared, StoreError> {
        let Some(stored) = self.store.find_mailed_token(id).await? else {
            return Ok(Prepared::Dead);
        };
        if self.refusal(&stored).is_some() {
            return Ok(Prepared::Dead);
        }
        if let Some(owner) = self.owner_of_address(&stored).await? {
            let mail = Mail {
                username: self.greeting(&owner.user),
                recipient: owner.user.email,
                message: Message::AddressTaken,
                ..mail.clone()
            };
            return Ok(Prepared::Letter(mail, None));
        }
        let link = self.mailed_tokens.link(&stored);
        Ok(Prepared::Letter(mail.clone(), Some(link)))
    }

    /// Who has the address already that somebody wants for an account. Whoever registers may not have that
    /// of any user; whoever has an account may have one that nobody else has proven.
    async fn owner_of_address(
        &self,
        stored: &StoredToken,
    ) -> Result<Option<Credentials>, StoreError> {
        match stored {
            StoredToken::OfRegistration(registration) => {
                let users = self.users_with(&registration.email).await?;
                Ok(users.into_iter().next())
            }
            StoredToken::OfUser(token, _) if token.purpose == MailedPurpose::ChangeEmail => {
                let Ok(email) = Email::parse_known(&token.email) else {
                    return Ok(None);
                };
                let owner = self.store.find_verified(&email).await?;
                Ok(owner.filter(|owner| owner.user.id != token.user))
            }
            StoredToken::OfUser(..) => Ok(None),
        }
    }

    /// Why a token that is genuine is worth nothing, if so.
    fn refusal(&self, stored: &StoredToken) -> Option<AuthError> {
        if stored.expires_at() <= self.clock.now() {
            return Some(AuthError::MailedTokenExpired);
        }
        match stored {
            StoredToken::OfUser(token, user) => {
                let is_alive = user.user.is_active && self.mailed_tokens.is_bound(token, user);
                (!is_alive).then_some(AuthError::MailedTokenInvalid)
            }
            StoredToken::OfRegistration(_) => None,
        }
    }

    /// What stands behind a token that somebody shows, if it is genuine and worth something. Of a token
    /// that is not genuine nothing is told.
    ///
    /// # Errors
    /// [`AuthError::MailedTokenInvalid`], [`AuthError::MailedTokenExpired`], or the store's.
    pub(super) async fn shown_token(
        &self,
        text: &str,
        address: Option<IpAddr>,
    ) -> Result<StoredToken, AuthError> {
        let stored = self.genuine_token(text).await;
        if let Err(refusal) = &stored {
            let reason = match refusal {
                AuthError::MailedTokenExpired => "expired",
                AuthError::MailedTokenInvalid => "invalid",
                _ => return stored,
            };
            self.gather(&Event::MailedTokenRefused { reason }, address);
        }
        stored
    }

    async fn genuine_token(&self, text: &str) -> Result<StoredToken, AuthError> {
        let presented = PresentedToken::read(text).ok_or(AuthError::MailedTokenInvalid)?;
        let stored = self.store.find_mailed_token(presented.id).await?;
        let stored = stored.ok_or(AuthError::MailedTokenInvalid)?;
        if !self.mailed_tokens.is_genuine(&presented, &stored) {
            return Err(AuthError::MailedTokenInvalid);
        }
        match self.refusal(&stored) {
            Some(refusal) => Err(refusal),
            None => Ok(stored),
        }
    }
}
