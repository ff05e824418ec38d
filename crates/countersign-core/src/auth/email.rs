//! E-mail addresses: proven by a letter, and changed by one.

use std::net::IpAddr;

use super::attempt::Attempt;
use super::mailed_tokens::ATTEMPTS;
use super::{Auth, CurrentUser};
use crate::audit::Event;
use crate::error::AuthError;
use crate::mail::{Message, masked};
use crate::mailed_token::{MailedPurpose, MailedToken, StoredToken};
use crate::password::Password;
use crate::store::{EmailOutcome, EmailProof, IssueToken};
use crate::throttle::LocalAction;
use crate::user::{Credentials, Email};
use crate::validation::FieldError;

/// What a change of one's own address presents.
#[derive(Debug)]
pub struct ChangeEmail {
    /// The address that the user wants.
    pub email: Email,
    /// The password in force, as typed.
    pub current_password: Password,
}

impl Auth {
    /// Asks for the link that proves an address once more, for whoever has it: a user, or somebody who
    /// registers. Nothing tells whether anybody has.
    ///
    /// # Errors
    /// [`AuthError::Throttled`], or the store's.
    pub async fn ask_verification(
        &self,
        email: &Email,
        address: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        self.ask_for_letters(email, Message::VerificationAsked, address)
            .await
    }

    /// Asks for another address: a letter goes there, and the address becomes the user's when its token is
    /// shown ([`Auth::verify_email`]). Nothing tells whether somebody else has it.
    ///
    /// # Errors
    /// [`AuthError::Validation`], [`AuthError::Throttled`], [`AuthError::WrongCurrentPassword`],
    /// [`AuthError::SessionEnded`] if this session ended in the meantime, [`AuthError::Overloaded`], or the
    /// store's.
    pub async fn change_email(
        &self,
        current: &CurrentUser,
        change: ChangeEmail,
    ) -> Result<(), AuthError> {
        let (user, email) = (current.user(), &change.email);
        let refuse = |code, detail: &'static str| {
            let error = FieldError::new("email", code, detail);
            Err(AuthError::Validation(error.into()))
        };
        if email.as_str().is_empty() {
            return refuse("required", "Enter an e-mail address.");
        }
        if user.email == email.as_str() {
            return refuse("unchanged", "This is your address already.");
        }
        self.count(Attempt::ChangeEmail(user.id)).await?;
        let proven = self
            .prove_password(current, &change.current_password)
            .await?;
        let account = Credentials {
            user: user.clone(),
            password: proven,
        };
        let address = email.as_str().to_owned();
        let token = self.new_token(MailedPurpose::ChangeEmail, &account, address);
        let message = Message::ChangeEmail { token: token.id };
        let mail = self.mail_to_address(email, &user.username, message);
        let issue = IssueToken {
            token,
            session: current.session(),
            mail: self.unless_flooded(email, mail).await?,
        };
        if !self.store.issue_token(&issue).await? {
            return Err(self.ended_meanwhile(current.session()).await?);
        }
        Event::EmailChangeAsked { user: user.id }.tell();
        Ok(())
    }

    /// Takes what a letter's link proves: that somebody who registers has the address, and so a user is
    /// made; that a user has the address of the account, or the one that takes its place.
    ///
    /// # Errors
    /// [`AuthError::MailedTokenInvalid`], [`AuthError::MailedTokenExpired`],
    /// [`AuthError::UsernameTaken`], [`AuthError::EmailTaken`], [`AuthError::Throttled`], or the store's.
    pub async fn verify_email(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        self.admit(LocalAction::MailedToken, address)?;
        for _ in 0..ATTEMPTS {
            let (token, account) = match self.shown_token(token).await? {
                StoredToken::OfRegistration(registration) => {
                    return self.complete_registration(&registration).await;
                }
                StoredToken::OfUser(token, account) => (token, account),
            };
            if token.purpose == MailedPurpose::ResetPassword {
                break;
            }
            let proof = self.proof(&token, &account);
            match self.store.verify_email(&proof).await? {
                EmailOutcome::Proven => {
                    let user = account.user.id;
                    if token.purpose == MailedPurpose::ChangeEmail {
                        Event::EmailChanged { user }.tell();
                    }
                    Event::EmailVerified { user }.tell();
                    return Ok(());
                }
                EmailOutcome::Taken => return Err(AuthError::EmailTaken),
                // Somebody was faster; or only a login, which has re-hashed the password.
                EmailOutcome::Dead => {}
            }
        }
        Err(AuthError::MailedTokenInvalid)
    }

    fn proof(&self, token: &MailedToken, account: &Credentials) -> EmailProof {
        let user = &account.user;
        let mail = (token.purpose == MailedPurpose::ChangeEmail)
            .then(|| {
                let to = masked(&token.email);
                self.mail_to(user, Message::EmailChanged { to })
            })
            .flatten();
        EmailProof {
            token: token.id,
            user: user.id,
            before: account.password.clone(),
            from: user.email.clone(),
            to: token.email.clone(),
            at: self.clock.now(),
            mail,
        }
    }
}
