//! Logout: a session ends because its user says so.

use super::{Auth, session_of};
use crate::audit::Event;
use crate::error::AuthError;
use crate::session::{EndReason, EndedBy, SessionEnd, SessionId};
use crate::user::UserId;

/// What a logout presents: either credential, or both, or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logout<'a> {
    /// The refresh token from the cookie.
    pub refresh_token: Option<&'a str>,
    /// The access token from the header.
    pub access_token: Option<&'a str>,
    /// The CSRF token shown.
    pub csrf_shown: Option<&'a str>,
}

impl Auth {
    /// Ends the session of every credential presented. Saying it twice is as good as once.
    ///
    /// Whoever has no credential, or only a dead refresh token, is signed out already.
    ///
    /// # Errors
    /// [`AuthError::CsrfMissing`] or [`AuthError::CsrfInvalid`] for a live credential;
    /// [`AuthError::AccessToken`] if a bad access token is all there is; or the store's.
    pub async fn logout(&self, logout: Logout<'_>) -> Result<(), AuthError> {
        let from_cookie = logout
            .refresh_token
            .and_then(|token| self.read_refresh_token(token).ok())
            .map(|presented| (presented.session(), presented.user()));
        let from_header = match logout.access_token.map(|token| self.verify(token)) {
            None => None,
            Some(Ok(token)) => Some((session_of(&token)?, UserId(token.user_id))),
            Some(Err(_)) if from_cookie.is_some() => None,
            Some(Err(error)) => return Err(error),
        };
        let from_header = from_header.filter(|named| Some(*named) != from_cookie);
        let sessions: Vec<(SessionId, UserId)> =
            [from_cookie, from_header].into_iter().flatten().collect();
        for (session, _) in &sessions {
            self.check_csrf(*session, logout.csrf_shown)?;
        }
        for (session, user) in sessions {
            let by = EndedBy::User(user);
            let end = SessionEnd {
                reason: EndReason::Logout,
                at: self.clock.now(),
                by,
            };
            if self.store.end_session(session, end).await? {
                Event::SessionEnded {
                    user,
                    session,
                    reason: EndReason::Logout,
                }
                .tell();
            }
        }
        Ok(())
    }
}
