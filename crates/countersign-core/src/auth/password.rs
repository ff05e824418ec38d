//! A user's change of their own password.

use super::{Auth, CurrentUser, tell_ended};
use crate::audit::Event;
use crate::error::AuthError;
use crate::password::{Password, PasswordOwner, Verdict};
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
    /// [`AuthError::Validation`] on `new_password` if the policy refuses it,
    /// [`AuthError::WrongCurrentPassword`], [`AuthError::SessionEnded`] if this session ended in the
    /// meantime, [`AuthError::Overloaded`], or the store's.
    pub async fn change_password(
        &self,
        current: &CurrentUser,
        change: ChangePassword,
    ) -> Result<(), AuthError> {
        let user = current.user();
        if change.new.is_same(&change.current) {
            let detail = "Choose another than the current password.";
            return Err(AuthError::Validation(
                FieldError::new("new_password", "unchanged", detail).into(),
            ));
        }
        let owner = PasswordOwner::of(user);
        self.settings
            .passwords
            .check(&change.new, owner)
            .map_err(|refusal| refusal.about("new_password"))?;
        let found = self.store.find_credentials(&user.username).await?;
        let stored = found
            .filter(|found| found.user.id == user.id)
            .map(|found| found.password);
        let verdict = self
            .passwords
            .verify(change.current, stored.clone())
            .await?;
        let (Some(verified), Verdict::Right | Verdict::RightAndUpgraded(_)) = (stored, verdict)
        else {
            Event::PasswordChangeRefused { user: user.id }.tell();
            return Err(AuthError::WrongCurrentPassword);
        };
        let change = PasswordChange {
            user: user.id,
            session: current.session(),
            verified,
            new: self.passwords.hash(change.new).await?,
            ending: EndedAt {
                at: self.clock.now(),
                by: EndedBy::User(user.id),
            },
        };
        match self.store.change_password(&change).await? {
            PasswordOutcome::Changed(ended) => {
                Event::PasswordSet { user: user.id }.tell();
                tell_ended(&ended);
                Ok(())
            }
            PasswordOutcome::Outdated => {
                Event::PasswordChangeRefused { user: user.id }.tell();
                Err(AuthError::WrongCurrentPassword)
            }
            PasswordOutcome::SessionOver => Err(self.ended_meanwhile(current.session()).await?),
        }
    }
}
