//! Refresh: a refresh token becomes its successor and a new access token.

use super::{Auth, Grant, live_user};
use crate::audit::Event;
use crate::error::{AuthError, StoreError};
use crate::refresh_token::{PresentedRefreshToken, RefreshTokenError};
use crate::rotation::{Decision, decide};
use crate::session::{EndReason, EndedBy, Session, SessionEnd};
use crate::store::Rotation;

/// How often a lost race is decided again. Each loss means that someone else's rotation of this very
/// session was committed, after which the next decision is a replay; a second loss is rare, a fourth
/// means that the store contradicts itself.
const ATTEMPTS: usize = 4;

impl Auth {
    /// Rotates a session's refresh token, or replays the last rotation within the grace.
    ///
    /// # Errors
    /// [`AuthError::RefreshInvalid`] and [`AuthError::RefreshExpired`] before any look-up;
    /// [`AuthError::CsrfMissing`], [`AuthError::CsrfInvalid`]; [`AuthError::SessionEnded`];
    /// [`AuthError::RefreshReused`], after which the session has ended; or the store's.
    pub async fn refresh(
        &self,
        refresh_token: &str,
        csrf_shown: Option<&str>,
    ) -> Result<Grant, AuthError> {
        let presented = self.read_refresh_token(refresh_token)?;
        self.check_csrf(presented.session(), csrf_shown)?;
        for _ in 0..ATTEMPTS {
            if let Some(grant) = self.advance(&presented).await? {
                return Ok(grant);
            }
        }
        let cause = format!("rotation of {} did not settle", presented.session());
        Err(AuthError::Store(StoreError::Unavailable(cause)))
    }

    pub(super) fn read_refresh_token(
        &self,
        refresh_token: &str,
    ) -> Result<PresentedRefreshToken, AuthError> {
        let refuse = |reason, error| {
            Event::RefreshRefused {
                reason,
                session: None,
            }
            .tell();
            error
        };
        self.refresh_tokens
            .read(refresh_token, self.clock.now())
            .map_err(|error| match error {
                RefreshTokenError::Invalid => refuse("invalid", AuthError::RefreshInvalid),
                RefreshTokenError::Expired => refuse("expired", AuthError::RefreshExpired),
            })
    }

    /// Reads the session, decides, and does it. `None`: another rotation came between; decide again.
    async fn advance(&self, presented: &PresentedRefreshToken) -> Result<Option<Grant>, AuthError> {
        let id = presented.session();
        let found = self.store.find_session(id).await?;
        let Some((session, user)) = found.filter(|(s, _)| s.user_id == presented.user()) else {
            Event::RefreshRefused {
                reason: "unknown_session",
                session: Some(id),
            }
            .tell();
            return Err(AuthError::RefreshInvalid);
        };
        let now = self.clock.now();
        let limits = &self.settings.sessions;
        let decision = decide(&session, presented.generation(), now, limits);
        if let Decision::Ended(reason) = decision {
            return Err(over(&session, reason));
        }
        if decision == Decision::Reuse {
            let by = EndedBy::Service;
            let end = SessionEnd {
                reason: EndReason::ReuseDetected,
                at: now,
                by,
            };
            self.store.end_session(id, end).await?;
            Event::RefreshReused {
                user: session.user_id,
                session: id,
            }
            .tell();
            return Err(AuthError::RefreshReused);
        }
        let user = live_user(&session, user).inspect_err(|_| {
            Event::RefreshRefused {
                reason: "user_gone",
                session: Some(id),
            }
            .tell();
        })?;
        if decision == Decision::Replay {
            Event::RefreshReplayed {
                user: user.id,
                session: id,
            }
            .tell();
            return Ok(Some(self.grant(&session, user, now)));
        }
        let rotation = Rotation {
            session: id,
            from: session.generation,
            at: now,
        };
        if !self.store.rotate(&rotation).await? {
            return Ok(None);
        }
        Event::SessionRefreshed {
            user: user.id,
            session: id,
        }
        .tell();
        let rotated = Session {
            generation: session.generation.next(),
            rotated_at: now,
            ..session
        };
        Ok(Some(self.grant(&rotated, user, now)))
    }
}

fn over(session: &Session, reason: EndReason) -> AuthError {
    Event::RefreshRefused {
        reason: reason.code(),
        session: Some(session.id),
    }
    .tell();
    AuthError::SessionEnded(reason)
}
