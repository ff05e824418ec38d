//! Logout: sessions end because their user says so.

use super::authenticate::session_of;
use super::{Auth, LegacyCredential, tell_ended};
use crate::audit::{Caller, Trail};
use crate::error::AuthError;
use crate::refresh_token::PresentedLegacyToken;
use crate::session::{EndReason, EndedBy, SessionId};
use crate::user::UserId;

/// What a logout presents: either credential, or both, or none.
#[derive(Clone, Copy, Default)]
pub struct Logout<'a> {
    /// Which sessions shall end.
    pub scope: LogoutScope,
    /// The refresh token from the cookie.
    pub refresh_token: Option<&'a str>,
    /// The legacy token, which a logout of the session uses up.
    pub legacy: Option<LegacyCredential<'a>>,
    /// The access token from the header.
    pub access_token: Option<&'a str>,
    /// The CSRF token shown.
    pub csrf_shown: Option<&'a str>,
}

/// Which of a user's sessions a logout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogoutScope {
    /// The session of the credential.
    #[default]
    Local,
    /// Every other one.
    Others,
    /// Every one.
    Global,
}

impl LogoutScope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Local, Self::Others, Self::Global];

    /// The word for it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Others => "others",
            Self::Global => "global",
        }
    }

    /// The scope that a word names.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.code() == code)
    }
}

/// What a logout leaves of the browser's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedOut {
    /// Whether the refresh cookie is worth nothing any more, and is to be cleared.
    pub cookie_is_dead: bool,
}

/// A session named by a genuine credential, and whose it is.
type Named = (SessionId, UserId);

impl Auth {
    /// Ends sessions.
    ///
    /// Of [`LogoutScope::Local`] saying it twice is as good as once, and whoever has no credential, or
    /// only a dead refresh token, is signed out already. The other scopes reach beyond the session of
    /// the credential, so that must be alive: whoever finds an old refresh token cannot sign a person
    /// out everywhere.
    ///
    /// # Errors
    /// [`AuthError::CsrfMissing`] or [`AuthError::CsrfInvalid`] for a live credential;
    /// [`AuthError::AccessToken`] if a bad access token is all there is; with a scope beyond the
    /// session also [`AuthError::CredentialsMissing`] and what [`Auth::authenticate`] or
    /// [`Auth::refresh`] say of the credential; or the store's.
    pub async fn logout(
        &self,
        logout: Logout<'_>,
        caller: &Caller,
    ) -> Result<LoggedOut, AuthError> {
        match logout.scope {
            LogoutScope::Local => {
                self.logout_here(logout, caller).await?;
                Ok(LoggedOut {
                    cookie_is_dead: true,
                })
            }
            LogoutScope::Others => {
                let (session, user) = self.live_session(logout, caller).await?;
                self.end_others(session, user, caller).await?;
                Ok(LoggedOut {
                    cookie_is_dead: false,
                })
            }
            LogoutScope::Global => {
                let (session, user) = self.live_session(logout, caller).await?;
                // The others first: whoever is interrupted in between can say it again.
                self.end_others(session, user, caller).await?;
                let end = self.end_now(EndReason::Logout, EndedBy::User(user));
                self.end_session(session, user, end, Trail::of(caller))
                    .await?;
                Ok(LoggedOut {
                    cookie_is_dead: self.is_nobody_elses(logout.refresh_token, user),
                })
            }
        }
    }

    /// Ends the session of every credential presented.
    async fn logout_here(&self, logout: Logout<'_>, caller: &Caller) -> Result<(), AuthError> {
        let from_cookie = logout
            .refresh_token
            .and_then(|token| self.read_refresh_token(token, caller).ok())
            .map(|presented| (presented.session(), presented.user()));
        let from_header = match logout.access_token {
            None => None,
            Some(token) => match self.verify_as_of_now(token, caller).await {
                Ok(token) => Some((session_of(&token)?, UserId(token.user_id))),
                Err(AuthError::AccessToken(_)) if from_cookie.is_some() => None,
                Err(error) => return Err(error),
            },
        };
        let from_header = from_header.filter(|named| Some(*named) != from_cookie);
        let sessions: Vec<Named> = [from_cookie, from_header].into_iter().flatten().collect();
        let mut shown = Vec::with_capacity(sessions.len());
        for named in sessions {
            match self.check_csrf(named.0, logout.csrf_shown, caller) {
                Ok(()) => shown.push(named),
                // A cookie that is dead is no reason to refuse the token that is alive.
                Err(_) if from_header.is_some() && self.has_ended(named.0).await? => {}
                Err(refused) => return Err(refused),
            }
        }
        let legacy = match logout.legacy {
            Some(legacy) => self.shown_legacy_token(legacy, logout.csrf_shown, caller)?,
            None => None,
        };
        for (session, user) in shown {
            let end = self.end_now(EndReason::Logout, EndedBy::User(user));
            self.end_session(session, user, end, Trail::of(caller))
                .await?;
        }
        if let Some(legacy) = legacy {
            self.use_up_legacy_token(&legacy, EndReason::Logout, caller)
                .await?;
        }
        Ok(())
    }

    /// A legacy token that is worth something, with the CSRF token that must come along.
    fn shown_legacy_token(
        &self,
        legacy: LegacyCredential<'_>,
        csrf_shown: Option<&str>,
        caller: &Caller,
    ) -> Result<Option<PresentedLegacyToken>, AuthError> {
        let Some(presented) = self.genuine_legacy_token(legacy.token) else {
            return Ok(None);
        };
        self.check_legacy_csrf(&presented, legacy.carrier, csrf_shown, caller)?;
        Ok(Some(presented))
    }

    async fn has_ended(&self, session: SessionId) -> Result<bool, AuthError> {
        let found = self.store.find_session(session).await?;
        Ok(found.is_none_or(|(session, _)| session.end.is_some()))
    }

    /// Whether a cookie names no session of another user, and nobody is signed out by losing it.
    fn is_nobody_elses(&self, refresh_token: Option<&str>, user: UserId) -> bool {
        refresh_token
            .and_then(|token| self.genuine_refresh_token(token))
            .is_none_or(|presented| presented.user() == user)
    }

    /// The live session of the credential presented: the access token's, or else the cookie's.
    async fn live_session(&self, logout: Logout<'_>, caller: &Caller) -> Result<Named, AuthError> {
        let from_header = match logout.access_token {
            None => None,
            Some(token) => match self.authenticate(token, caller).await {
                Ok(current) => Some((current.session(), current.user().id)),
                Err(AuthError::AccessToken(_)) if logout.refresh_token.is_some() => None,
                Err(error) => return Err(error),
            },
        };
        if let Some(named) = from_header {
            self.check_csrf(named.0, logout.csrf_shown, caller)?;
            return Ok(named);
        }
        let token = logout.refresh_token.ok_or(AuthError::CredentialsMissing)?;
        let presented = self.read_refresh_token(token, caller)?;
        self.check_csrf(presented.session(), logout.csrf_shown, caller)?;
        let (session, user) = self
            .usable_session(&presented, caller)
            .await?
            .session_and_user();
        Ok((session.id, user.id))
    }

    /// Ends every session of a user but this one.
    async fn end_others(
        &self,
        spared: SessionId,
        user: UserId,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let end = self.end_now(EndReason::RevokedByUser, EndedBy::User(user));
        let ended = self
            .store
            .end_sessions(user, Some(spared), end, &Trail::of(caller))
            .await?;
        tell_ended(&ended);
        Ok(())
    }
}
