//! A user's change of their own password.

use super::attempt::Attempt;
use super::{Auth, CurrentUser, DECISIONS, tell_ended};
use crate::audit::{Caller, Event, Trail};
use crate::error::AuthError;
use crate::mail::Message;
use crate::password::{EncodedPassword, Password, PasswordOwner, Verdict};
use crate::session::EndedBy;
use crate::store::{EndedAt, PasswordChange, PasswordOutcome};
use crate::validation::FieldError;

/// What a change of one's own password presents.
#[derive(Debug)]
pub struct ChangePassword {
    /// The password in force, as typed.
    pub current: Password,
    /// The one that takes its place.
    pub new: Password,
}

impl Auth {
    /// Checks the password in force, and replaces it; every other session of the user ends in the same
    /// transaction, and this one goes on.
    ///
    /// # Errors
    /// [`AuthError::Validation`] on `new_password` if the policy refuses it, [`AuthError::Throttled`],
    /// [`AuthError::WrongCurrentPassword`], [`AuthError::SessionEnded`] if this session ended in the
    /// meantime, [`AuthError::Overloaded`], or the store's.
    pub async fn change_password(
        &self,
        current: &CurrentUser,
        change: ChangePassword,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let user = current.user();
        if change.new.is_same(&change.current) {
            let detail = "Choose another than the current password.";
            return Err(AuthError::Validation(
                FieldError::new("new_password", "unchanged", detail).into(),
            ));
        }
        let owner = PasswordOwner::of(user);
        self.check_new_password(&change.new, owner)
            .await
            .map_err(|error| error.about("new_password"))?;
        let reserved = self
            .attempt(Attempt::ChangePassword(user.id, caller.address))
            .await?;
        let outcome = self.change_verified(current, change, caller).await;
        self.settle(reserved, &outcome).await;
        outcome
    }

    /// Checks the password in force and replaces it, after all that costs nothing has been checked.
    async fn change_verified(
        &self,
        current: &CurrentUser,
        change: ChangePassword,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let user = current.user();
        let by = EndedBy::User(user.id);
        let event = Event::PasswordSet { user: user.id };
        let mut hashed = None;
        for _ in 0..DECISIONS {
            let Some(verified) = self.verified_password(current, &change.current).await? else {
                break;
            };
            let new = match hashed.take() {
                Some(new) => new,
                None => self.passwords.hash(change.new.clone()).await?,
            };
            let now = self.clock.now();
            let changing = PasswordChange {
                user: user.id,
                session: current.session(),
                verified,
                new,
                ending: EndedAt { at: now, by },
                mail: self.mail_to(user, Message::PasswordChanged { by }),
                trail: Trail::of(caller).with(&event, now, Some(by)),
            };
            match self.store.change_password(&changing).await? {
                PasswordOutcome::Changed(ended) => {
                    event.tell();
                    tell_ended(&ended);
                    return Ok(());
                }
                // A login may have re-hashed the very same password.
                PasswordOutcome::Outdated => hashed = Some(changing.new),
                PasswordOutcome::SessionOver => {
                    return Err(self.ended_meanwhile(current.session()).await?);
                }
            }
        }
        let refused = Event::PasswordChangeRefused { user: user.id };
        self.keep(&refused, Some(by), caller).await?;
        Err(AuthError::WrongCurrentPassword)
    }

    /// The stored password of a user who is signed in, after it was found to be the one that was typed: for
    /// what nobody shall do who only holds the session. Attempts are counted with those at changing it.
    ///
    /// # Errors
    /// [`AuthError::Throttled`], [`AuthError::WrongCurrentPassword`], [`AuthError::Overloaded`], or the
    /// store's.
    pub(super) async fn prove_password(
        &self,
        current: &CurrentUser,
        typed: &Password,
        caller: &Caller,
    ) -> Result<EncodedPassword, AuthError> {
        let user = current.user().id;
        let reserved = self
            .attempt(Attempt::ChangePassword(user, caller.address))
            .await?;
        let verified = self.verified_password(current, typed).await;
        let verified = verified.and_then(|it| it.ok_or(AuthError::WrongCurrentPassword));
        self.settle(reserved, &verified).await;
        if let Err(AuthError::WrongCurrentPassword) = verified {
            let refused = Event::PasswordChangeRefused { user };
            let by = Some(EndedBy::User(user));
            self.keep(&refused, by, caller).await?;
        }
        verified
    }

    /// The stored password of a user, if it is the one that was typed.
    async fn verified_password(
        &self,
        current: &CurrentUser,
        typed: &Password,
    ) -> Result<Option<EncodedPassword>, AuthError> {
        let user = current.user();
        let found = self.store.find_credentials(&user.username).await?;
        let stored = found
            .filter(|found| found.user.id == user.id)
            .map(|found| found.password);
        let verdict = self.passwords.verify(typed.clone(), stored.clone()).await?;
        Ok(stored.filter(|_| !matches!(verdict, Verdict::Wrong)))
    }
}
