//! Authentication: an access token becomes the user it speaks for, as of now.

use std::borrow::Borrow;
use std::sync::Arc;

use countersign_token::{AccessClaims, Invalid, VerifiedToken, VerifyError};

use super::Auth;
use crate::audit::{Caller, Event};
use crate::error::AuthError;
use crate::known::{KnownSession, Standing};
use crate::refresh_token::unix_seconds;
use crate::session::{EndReason, Session, SessionId};
use crate::user::{User, UserId};

/// Who calls, after proof. Only [`Auth::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    user: Arc<User>,
    session: SessionId,
    token: VerifiedToken,
}

impl CurrentUser {
    /// The user as of now.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The session that the token belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The token's claims.
    pub fn claims(&self) -> &AccessClaims {
        &self.token
    }
}

impl Auth {
    /// Who an access token speaks for, as of now: the token is verified, its session has not ended
    /// and its user may sign in.
    ///
    /// Reads no store while the change feed is heard and the user is known; asks it otherwise.
    ///
    /// # Errors
    /// [`AuthError::AccessToken`], [`AuthError::SessionEnded`], or the store's.
    pub async fn authenticate(
        &self,
        access_token: &str,
        caller: &Caller,
    ) -> Result<CurrentUser, AuthError> {
        let token = self.verify_as_of_now(access_token, caller).await?;
        let session = session_of(&token)?;
        let user = match self.known_session(session) {
            KnownSession::Ended(reason) => return Err(AuthError::SessionEnded(reason)),
            KnownSession::NotEnded => self.known_user(UserId(token.user_id)).await?,
            KnownSession::Unknown => {
                let found = self.store.find_session(session).await?;
                let (session, user) = found.ok_or(AuthError::SessionEnded(EndReason::Expired))?;
                live_user(&session, user).map(Arc::new)?
            }
        };
        Ok(CurrentUser {
            user,
            session,
            token,
        })
    }

    /// Verifies a token with the keys as they stand. What is refused whatever they are needs no store.
    pub(super) async fn verify_as_of_now(
        &self,
        access_token: &str,
        caller: &Caller,
    ) -> Result<VerifiedToken, AuthError> {
        if self.known.standing(self.clock.now()) != Standing::Current {
            let other_key = VerifyError::Invalid(Invalid::UnknownKid);
            let refused = self.verify(access_token).err();
            if refused.is_none_or(|error| error == other_key) {
                self.catch_up().await?;
            }
        }
        self.verify(access_token)
            .inspect_err(|error| {
                let reason = error.reason();
                self.gather(&Event::AccessTokenRefused { reason }, caller.address);
            })
            .map_err(AuthError::AccessToken)
    }

    /// What is known of a session, as far as that says who a token of it speaks for.
    fn known_session(&self, session: SessionId) -> KnownSession {
        // Whoever shares a secret with us can sign a token that names any user: only the session says
        // who it is.
        if self.settings.tokens.algorithm.is_shared_secret() {
            return KnownSession::Unknown;
        }
        self.known.of_session(session, self.clock.now())
    }

    /// Verifies a token that this service has signed, with the keys as they are known.
    fn verify(&self, access_token: &str) -> Result<VerifiedToken, VerifyError> {
        let now = unix_seconds(self.clock.now());
        let tokens = &self.settings.tokens;
        self.verifier
            .verify_at(access_token, now)
            .and_then(|token| {
                // A life that was shortened is that short for the tokens from before, too: the ends
                // of their sessions are remembered for no longer.
                let longest = tokens.access_lifetime + tokens.leeway;
                if token.iat.saturating_add(longest) <= now {
                    Err(VerifyError::Expired)
                } else {
                    Ok(token)
                }
            })
    }

    /// The user of a session that has not ended.
    async fn known_user(&self, id: UserId) -> Result<Arc<User>, AuthError> {
        if let Some(user) = self.known.users.get(id) {
            return active(Some(user));
        }
        let stamp = self.known.users.stamp(id);
        let user = self.store.find_user(id).await?.map(Arc::new);
        if let Some(user) = &user {
            self.known.users.put(stamp, user);
        }
        active(user)
    }
}

/// The session that a token of ours names.
pub(super) fn session_of(token: &AccessClaims) -> Result<SessionId, AuthError> {
    // We sign no other: a name that is none belongs to a session that is no more.
    token
        .sid
        .parse()
        .map_err(|_| AuthError::SessionEnded(EndReason::Expired))
}

/// The user of a session, if both are alive.
pub(super) fn live_user(session: &Session, user: Option<User>) -> Result<User, AuthError> {
    match session.end {
        Some(end) => Err(AuthError::SessionEnded(end.reason)),
        None => active(user),
    }
}

fn active<U: Borrow<User>>(user: Option<U>) -> Result<U, AuthError> {
    match user {
        None => Err(AuthError::SessionEnded(EndReason::UserDeleted)),
        Some(user) if !user.borrow().is_active => {
            Err(AuthError::SessionEnded(EndReason::UserDeactivated))
        }
        Some(user) => Ok(user),
    }
}
