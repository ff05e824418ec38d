//! Sessions: a user's own, listed and ended; anybody's, from the command line and the admin site.

use super::{Auth, CurrentUser, LoggedOut, tell_ended};
use crate::audit::{Actor, Caller, Trail};
use crate::error::AuthError;
use crate::session::{EndReason, EndedBy, EndedSession, Session, SessionEnd, SessionId};
use crate::store::SessionQuery;
use crate::user::UserId;

/// Sessions read at a time.
const PAGE: u32 = 1_000;

/// The most sessions that are shown.
const SHOWN: usize = 1_000;

/// The most pages that are read for one list: whoever has more sessions has them from a program.
const PAGES: u32 = 10;

impl Auth {
    /// The user's sessions that are alive, the one used last first; of very many, the first thousand.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_sessions(&self, current: &CurrentUser) -> Result<Vec<Session>, AuthError> {
        let mut query = SessionQuery {
            user: Some(current.user().id),
            live: true,
            after: None,
            limit: PAGE,
        };
        let mut sessions = Vec::new();
        for _ in 0..PAGES {
            let page = self.store.list_sessions(&query).await?;
            query.after = page.last().map(|session| session.id);
            let is_last = page.len() < PAGE as usize;
            sessions.extend(page);
            if is_last {
                break;
            }
        }
        if !sessions
            .iter()
            .any(|session| session.id == current.session())
        {
            let own = self.store.find_session(current.session()).await?;
            sessions.extend(own.map(|(session, _)| session));
        }
        let (now, limits) = (self.clock.now(), &self.settings.sessions);
        // Those whose limit has passed end when upkeep comes by.
        sessions.retain(|session| session.ended(now, limits).is_none());
        sessions.sort_by_key(|session| {
            let is_current = session.id == current.session();
            std::cmp::Reverse((session.rotated_at, is_current, session.id))
        });
        sessions.truncate(SHOWN);
        Ok(sessions)
    }

    /// Ends one of the user's own sessions, and says whether the refresh cookie that came along is worth
    /// nothing any more. One that had ended before is none the worse for it.
    ///
    /// # Errors
    /// [`AuthError::NoSuchSession`] for one that is not the user's, or the store's.
    pub async fn end_own_session(
        &self,
        current: &CurrentUser,
        id: SessionId,
        refresh_token: Option<&str>,
        caller: &Caller,
    ) -> Result<LoggedOut, AuthError> {
        let user = current.user().id;
        let found = self.store.find_session(id).await?;
        if found.is_none_or(|(session, _)| session.user_id != user) {
            return Err(AuthError::NoSuchSession);
        }
        let reason = if id == current.session() {
            EndReason::Logout
        } else {
            EndReason::RevokedByUser
        };
        let end = self.end_now(reason, EndedBy::User(user));
        self.end_session(id, user, end, Trail::of(caller)).await?;
        let of_cookie = refresh_token
            .and_then(|token| self.genuine_refresh_token(token))
            .map_or(id, |presented| presented.session());
        Ok(LoggedOut {
            cookie_is_dead: id == current.session() && id == of_cookie,
        })
    }

    /// Sessions of anybody, in the order in which they were opened.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_sessions(&self, query: &SessionQuery) -> Result<Vec<Session>, AuthError> {
        Ok(self.store.list_sessions(query).await?)
    }

    /// Ends anybody's session. False: it had ended before.
    ///
    /// # Errors
    /// [`AuthError::NoSuchSession`], or the store's.
    pub async fn revoke_session(
        &self,
        id: SessionId,
        by: impl Into<Actor>,
    ) -> Result<bool, AuthError> {
        let Actor { by, caller } = by.into();
        let found = self.store.find_session(id).await?;
        let (session, _) = found.ok_or(AuthError::NoSuchSession)?;
        let end = self.end_now(EndReason::RevokedByAdmin, by);
        self.end_session(id, session.user_id, end, Trail::of(&caller))
            .await
    }

    /// Ends every session of a user; gives those that it ended.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoke_sessions_of(
        &self,
        user: UserId,
        by: impl Into<Actor>,
    ) -> Result<Vec<EndedSession>, AuthError> {
        let Actor { by, caller } = by.into();
        let end = self.end_now(EndReason::RevokedByAdmin, by);
        let ended = self
            .store
            .end_sessions(user, None, end, &Trail::of(&caller))
            .await?;
        tell_ended(&ended);
        Ok(ended)
    }

    /// Ends a session, and tells of it if it was alive.
    pub(super) async fn end_session(
        &self,
        id: SessionId,
        user: UserId,
        end: SessionEnd,
        trail: Trail,
    ) -> Result<bool, AuthError> {
        let has_ended = self.store.end_session(id, end, &trail).await?;
        if has_ended {
            tell_ended(&[EndedSession { id, user, end }]);
        } else if let Some((session, _)) = self.store.find_session(id).await? {
            self.learn_end(&session);
        }
        Ok(has_ended)
    }

    /// The refusal for a session that was alive when it was read and is not any more.
    pub(super) async fn ended_meanwhile(&self, id: SessionId) -> Result<AuthError, AuthError> {
        let found = self.store.find_session(id).await?;
        let end = found.and_then(|(session, _)| {
            self.learn_end(&session);
            session.end
        });
        let reason = end.map_or(EndReason::Expired, |end| end.reason);
        Ok(AuthError::SessionEnded(reason))
    }

    /// An end as of now.
    pub(super) fn end_now(&self, reason: EndReason, by: EndedBy) -> SessionEnd {
        SessionEnd {
            reason,
            at: self.clock.now(),
            by,
        }
    }
}
