//! E-mail addresses: proven by a letter, and changed by one.

use super::attempt::Attempt;
use super::{Auth, CurrentUser, DECISIONS};
use crate::audit::{Caller, Event, Trail};
use crate::error::AuthError;
use crate::mail::{Message, masked};
use crate::mailed_token::{MailedPurpose, MailedToken, StoredToken};
use crate::password::Password;
use crate::session::EndedBy;
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
    pub async fn ask_verification(&self, email: &Email, caller: &Caller) -> Result<(), AuthError> {
        let event = Event::EmailVerificationAsked;
        self.ask_for_letters(email, Message::VerificationAsked, &event, caller)
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
        caller: &Caller,
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
        self.count(Attempt::ChangeEmail(user.id, caller.address))
            .await?;
        let proven = self
            .prove_password(current, &change.current_password, caller)
            .await?;
        let account = Credentials {
            user: user.clone(),
            password: proven,
        };
        let address = email.as_str().to_owned();
        let token = self.new_token(MailedPurpose::ChangeEmail, &account, address);
        let message = Message::ChangeEmail { token: token.id };
        let mail = self.mail_to_address(email, message);
        let event = Event::EmailChangeAsked { user: user.id };
        let by = Some(EndedBy::User(user.id));
        let issue = IssueToken {
            token,
            session: current.session(),
            mail: self.unless_flooded(email, mail, caller.address).await?,
            trail: Trail::of(caller).with(&event, self.clock.now(), by),
        };
        if !self.store.issue_token(&issue).await? {
            return Err(self.ended_meanwhile(current.session()).await?);
        }
        event.tell();
        Ok(())
    }

    /// Takes what a letter's link proves: that somebody who registers has the address, and so a user is
    /// made; that a user has the address of the account, or the one that takes its place.
    ///
    /// Whoever reads the letter of a registration may be another than who registered: the account is made
    /// only for somebody who also has the password that was chosen, so that nobody gets an account whose
    /// password a stranger knows.
    ///
    /// # Errors
    /// [`AuthError::Validation`] on `password` if the token is of a registration and there is none,
    /// [`AuthError::WrongRegistrationPassword`], [`AuthError::Overloaded`],
    /// [`AuthError::MailedTokenInvalid`], [`AuthError::MailedTokenExpired`],
    /// [`AuthError::UsernameTaken`], [`AuthError::EmailTaken`], [`AuthError::Throttled`], or the store's.
    pub async fn verify_email(
        &self,
        token: &str,
        password: Option<&Password>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        self.admit(LocalAction::MailedToken, caller.address)?;
        for _ in 0..DECISIONS {
            let (token, account) = match self.shown_token(token, caller.address).await? {
                StoredToken::OfRegistration(registration) => {
                    self.prove_registrant(&registration, password, caller)
                        .await?;
                    return self.complete_registration(&registration, caller).await;
                }
                StoredToken::OfUser(token, account) => (token, account),
            };
            if token.purpose == MailedPurpose::ResetPassword {
                break;
            }
            let events = proven_by(&token);
            let proof = self.proof(&token, &account, &events, caller);
            match self.store.verify_email(&proof).await? {
                EmailOutcome::Proven => {
                    for event in &events {
                        event.tell();
                    }
                    return Ok(());
                }
                EmailOutcome::Taken => return Err(AuthError::EmailTaken),
                // Somebody was faster; or only a login, which has re-hashed the password.
                EmailOutcome::Dead => {}
            }
        }
        Err(AuthError::MailedTokenInvalid)
    }

    fn proof(
        &self,
        token: &MailedToken,
        account: &Credentials,
        events: &[Event<'_>],
        caller: &Caller,
    ) -> EmailProof {
        let user = &account.user;
        let mail = (token.purpose == MailedPurpose::ChangeEmail)
            .then(|| {
                let to = masked(&token.email);
                self.mail_to(user, Message::EmailChanged { to })
            })
            .flatten();
        let (now, by) = (self.clock.now(), Some(EndedBy::User(user.id)));
        let trail = Trail::of(caller);
        EmailProof {
            token: token.id,
            user: user.id,
            before: account.password.clone(),
            from: user.email.clone(),
            to: token.email.clone(),
            at: now,
            mail,
            trail: events
                .iter()
                .fold(trail, |trail, event| trail.with(event, now, by)),
        }
    }
}

/// What happens when a token is taken that proves an address.
fn proven_by(token: &MailedToken) -> Vec<Event<'static>> {
    let user = token.user;
    let verified = Event::EmailVerified { user };
    if token.purpose == MailedPurpose::ChangeEmail {
        vec![Event::EmailChanged { user }, verified]
    } else {
        vec![verified]
    }
}
