//! A new password for somebody who has lost the old one, by a letter to the address of the account.

use std::net::IpAddr;

use super::{Auth, DECISIONS, tell_ended};
use crate::audit::{Caller, Event, Trail};
use crate::error::AuthError;
use crate::mail::Message;
use crate::mailed_token::{MailedPurpose, MailedToken, StoredToken};
use crate::password::{Password, PasswordOwner};
use crate::session::EndedBy;
use crate::store::{EndedAt, PasswordReset, ResetOutcome};
use crate::throttle::LocalAction;
use crate::user::{Credentials, Email};

impl Auth {
    /// Asks for a letter with a link, to whoever has this address. Whether anybody has it is not looked at
    /// here: the worker finds out, so that neither the answer nor its time tells.
    ///
    /// # Errors
    /// [`AuthError::Throttled`], or the store's.
    pub async fn ask_password_reset(
        &self,
        email: &Email,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let event = Event::PasswordResetAsked;
        self.ask_for_letters(email, Message::ResetAsked, &event, caller)
            .await
    }

    /// Sets a new password in exchange for a mailed token; every session of its user ends in the same
    /// transaction. Whoever shows the token reads the account's mail, so that its address is proven. What
    /// was attempted at the account counts no more, also from here and on this `device`.
    ///
    /// # Errors
    /// [`AuthError::MailedTokenInvalid`], [`AuthError::MailedTokenExpired`], [`AuthError::Validation`] on
    /// `new_password` if the policy refuses it, [`AuthError::Throttled`], [`AuthError::Overloaded`], or the
    /// store's.
    pub async fn reset_password(
        &self,
        token: &str,
        new: Password,
        device: Option<&str>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        self.admit(LocalAction::MailedToken, caller.address)?;
        let mut hashed = None;
        for _ in 0..DECISIONS {
            let (stored, account) = self.shown_reset_token(token, caller.address).await?;
            let encoded = if let Some(encoded) = hashed.take() {
                encoded
            } else {
                let owner = PasswordOwner::of(&account.user);
                self.new_password(new.clone(), owner)
                    .await
                    .map_err(|error| error.about("new_password"))?
            };
            let user = &account.user;
            let (now, by) = (self.clock.now(), EndedBy::User(user.id));
            let event = Event::PasswordReset { user: user.id };
            let verified = Event::EmailVerified { user: user.id };
            let reset = PasswordReset {
                token: stored.id,
                user: user.id,
                before: account.password,
                email: user.email.clone(),
                new: encoded,
                ending: EndedAt { at: now, by },
                mail: self.mail_to(user, Message::PasswordReset),
                trail: Trail::of(caller).with(&event, now, Some(by)),
                proof: Trail::of(caller).with(&verified, now, Some(by)),
            };
            match self.store.reset_password(&reset).await? {
                ResetOutcome::Reset { ended, proven } => {
                    event.tell();
                    if proven {
                        verified.tell();
                    }
                    tell_ended(&ended);
                    let mut user = account.user;
                    user.email_verified |= proven;
                    let device = self.known_device(device, Some(user.id));
                    self.forget_attempts_at(&user, device, caller).await;
                    return Ok(());
                }
                // Somebody was faster; or only a login, which has re-hashed the very same password.
                ResetOutcome::Dead => hashed = Some(reset.new),
            }
        }
        Err(AuthError::MailedTokenInvalid)
    }

    async fn shown_reset_token(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<(MailedToken, Credentials), AuthError> {
        match self.shown_token(token, address).await? {
            StoredToken::OfUser(token, user) if token.purpose == MailedPurpose::ResetPassword => {
                Ok((token, user))
            }
            StoredToken::OfUser(..) | StoredToken::OfRegistration(_) => {
                Err(AuthError::MailedTokenInvalid)
            }
        }
    }
}
