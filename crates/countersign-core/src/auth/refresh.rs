//! Refresh: a refresh token becomes its successor and a new access token.

use super::authenticate::live_user;
use super::{Auth, DECISIONS, Grant};
use crate::audit::{Caller, Event, Trail};
use crate::error::{AuthError, StoreError};
use crate::refresh_token::{PresentedRefreshToken, RefreshTokenError};
use crate::rotation::{Decision, decide};
use crate::session::{EndReason, EndedBy, Session, SessionId};
use crate::store::Rotation;
use crate::user::User;

/// A session that the presented refresh token may go on with.
pub(super) enum Usable {
    /// The token is the current one.
    Current(Session, User),
    /// The token is the one before, within the grace.
    Previous(Session, User),
}

impl Usable {
    pub(super) fn session_and_user(self) -> (Session, User) {
        match self {
            Self::Current(session, user) | Self::Previous(session, user) => (session, user),
        }
    }
}

impl Auth {
    /// Rotates a session's refresh token, or replays the last rotation within the grace.
    ///
    /// # Errors
    /// [`AuthError::RefreshInvalid`] and [`AuthError::RefreshExpired`] before any look-up;
    /// [`AuthError::CsrfMissing`], [`AuthError::CsrfInvalid`]; [`AuthError::Throttled`] for a page that has
    /// run away; [`AuthError::SessionEnded`];
    /// [`AuthError::RefreshReused`], after which the session has ended; or the store's.
    pub async fn refresh(
        &self,
        refresh_token: &str,
        csrf_shown: Option<&str>,
        caller: &Caller,
    ) -> Result<Grant, AuthError> {
        let presented = self.read_refresh_token(refresh_token, caller)?;
        self.check_csrf(presented.session(), csrf_shown, caller)?;
        self.count_refresh(presented.session(), caller.address)?;
        // The new access token is signed with the keys as they stand.
        self.catch_up().await?;
        for _ in 0..DECISIONS {
            if let Some(grant) = self.advance(&presented, caller).await? {
                return Ok(grant);
            }
        }
        let cause = format!("rotation of {} did not settle", presented.session());
        Err(AuthError::Store(StoreError::Unavailable(cause)))
    }

    /// Whether a token is a refresh token of ours, in force or not, and no other's.
    pub fn is_own_refresh_token(&self, token: &str) -> bool {
        let read = self.refresh_tokens.read(token, self.clock.now());
        !matches!(read, Err(RefreshTokenError::Invalid))
    }

    pub(super) fn read_refresh_token(
        &self,
        refresh_token: &str,
        caller: &Caller,
    ) -> Result<PresentedRefreshToken, AuthError> {
        let refuse = |reason, error| {
            self.refuse_refresh(reason, None, caller);
            error
        };
        self.refresh_tokens
            .read(refresh_token, self.clock.now())
            .map_err(|error| match error {
                RefreshTokenError::Invalid => refuse("invalid", AuthError::RefreshInvalid),
                RefreshTokenError::Expired => refuse("expired", AuthError::RefreshExpired),
            })
    }

    /// What a refresh token says if it is genuine and has not expired, however old its generation. Of one
    /// that is not nothing is told.
    pub(super) fn genuine_refresh_token(&self, token: &str) -> Option<PresentedRefreshToken> {
        self.refresh_tokens.read(token, self.clock.now()).ok()
    }

    /// Reads the session, decides, and does it. `None`: another rotation came between; decide again.
    pub(super) async fn advance(
        &self,
        presented: &PresentedRefreshToken,
        caller: &Caller,
    ) -> Result<Option<Grant>, AuthError> {
        let (session, user) = match self.usable_session(presented, caller).await? {
            Usable::Current(session, user) => (session, user),
            Usable::Previous(session, user) => {
                Event::RefreshReplayed {
                    user: user.id,
                    session: session.id,
                }
                .tell();
                let powers = self.power_claims(user.id).await?;
                return Ok(Some(self.grant(&session, user, powers, self.clock.now())));
            }
        };
        let powers = self.power_claims(user.id).await?;
        let now = self.clock.now();
        let rotation = Rotation {
            session: session.id,
            from: session.generation,
            at: now,
        };
        if !self.store.rotate(&rotation).await? {
            return Ok(None);
        }
        Event::SessionRefreshed {
            user: user.id,
            session: session.id,
        }
        .tell();
        let rotated = Session {
            generation: session.generation.next(),
            rotated_at: now,
            ..session
        };
        Ok(Some(self.grant(&rotated, user, powers, now)))
    }

    /// The session of a refresh token that may still be used. One that was superseded ends the session.
    pub(super) async fn usable_session(
        &self,
        presented: &PresentedRefreshToken,
        caller: &Caller,
    ) -> Result<Usable, AuthError> {
        let id = presented.session();
        let Some((session, user)) = self.store.find_session(id).await? else {
            self.refuse_refresh("unknown_session", Some(id), caller);
            return Err(AuthError::RefreshInvalid);
        };
        let (now, limits) = (self.clock.now(), &self.settings.sessions);
        let decision = decide(&session, presented.generation(), now, limits);
        match decision {
            Decision::Ended(reason) => {
                // One whose limit has passed is not ended here: upkeep does that, which notices when the
                // clock has jumped.
                self.learn_end(&session);
                self.refuse_refresh(reason.code(), Some(id), caller);
                return Err(AuthError::SessionEnded(reason));
            }
            Decision::Reuse => {
                let end = self.end_now(EndReason::ReuseDetected, EndedBy::Service);
                let reused = Event::RefreshReused {
                    user: session.user_id,
                    session: id,
                };
                let trail = Trail::of(caller).with(&reused, end.at, None);
                if !self.end_session(id, session.user_id, end, trail).await? {
                    // Someone else has ended it since it was read: that end stands.
                    return Err(self.ended_meanwhile(id).await?);
                }
                reused.tell();
                return Err(AuthError::RefreshReused);
            }
            Decision::Rotate | Decision::Replay => {}
        }
        let user = live_user(&session, user)
            .inspect_err(|_| self.refuse_refresh("user_gone", Some(id), caller))?;
        Ok(if decision == Decision::Rotate {
            Usable::Current(session, user)
        } else {
            Usable::Previous(session, user)
        })
    }

    /// Tells that a refresh token was refused.
    pub(super) fn refuse_refresh(
        &self,
        reason: &'static str,
        session: Option<SessionId>,
        caller: &Caller,
    ) {
        let event = Event::RefreshRefused { reason, session };
        self.gather(&event, caller.address);
    }
}
