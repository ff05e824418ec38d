//! Take-over: a refresh token that a Django site issued becomes a session of ours, once.

use countersign_token::csrf;
use subtle::ConstantTimeEq as _;

use super::{Auth, DECISIONS, Grant, tell_ended};
use crate::audit::{Caller, Event, Trail};
use crate::csrf::CsrfToken;
use crate::error::{AuthError, StoreError};
use crate::refresh_token::{LegacyTokens, PresentedLegacyToken, RefreshTokenError};
use crate::session::{EndReason, EndedBy, Session};
use crate::store::{TakeOver, TakeOverOutcome};

/// A refresh token of the Django site's, as a request presents it.
#[derive(Clone, Copy)]
pub struct LegacyCredential<'a> {
    /// The token.
    pub token: &'a str,
    /// How it came, which says what must come with it.
    pub carrier: LegacyCarrier<'a>,
}

/// How a legacy token came.
#[derive(Clone, Copy)]
pub enum LegacyCarrier<'a> {
    /// In a cookie, which a browser sends whoever asks it to: the CSRF token must come along, that of the
    /// session to be or, as the site's own pages show it, that of the site's cookie.
    Cookie {
        /// The one CSRF cookie of the request.
        csrf_cookie: Option<&'a str>,
    },
    /// In the body, where only a page that holds the token can have put it.
    Body,
}

impl Auth {
    /// Exchanges a legacy token for a session and its tokens. Shown again within the grace it is answered
    /// with the same refresh token, and after that it ends the session, as any superseded one does.
    ///
    /// # Errors
    /// As [`Auth::refresh`]; [`AuthError::RefreshInvalid`] also if legacy tokens are not accepted, the site
    /// has revoked this one, or all of its user's sessions have been ended since it was issued.
    pub async fn take_over(
        &self,
        legacy: LegacyCredential<'_>,
        csrf_shown: Option<&str>,
        caller: &Caller,
    ) -> Result<Grant, AuthError> {
        let presented = self.read_legacy_token(legacy.token, caller)?;
        self.check_legacy_csrf(&presented, legacy.carrier, csrf_shown, caller)?;
        // The new access token is signed with the keys as they stand.
        self.catch_up().await?;
        let as_refresh_token = presented.as_refresh_token();
        for _ in 0..DECISIONS {
            if let Some(grant) = self.open_taken_over(&presented, caller).await? {
                return Ok(grant);
            }
            if let Some(grant) = self.advance(&as_refresh_token, caller).await? {
                return Ok(grant);
            }
        }
        let cause = format!("take-over of {} did not settle", presented.session());
        Err(AuthError::Store(StoreError::Unavailable(cause)))
    }

    /// Opens the session of a legacy token. `None`: there is one.
    async fn open_taken_over(
        &self,
        presented: &PresentedLegacyToken,
        caller: &Caller,
    ) -> Result<Option<Grant>, AuthError> {
        if self
            .store
            .find_session(presented.session())
            .await?
            .is_some()
        {
            return Ok(None);
        }
        let powers = self.power_claims(presented.user()).await?;
        let now = self.clock.now();
        let taken_over = Event::SessionTakenOver {
            user: presented.user(),
            session: presented.session(),
        };
        let by = EndedBy::User(presented.user());
        let takeover = TakeOver {
            session: Session {
                id: presented.session(),
                user_id: presented.user(),
                generation: presented.next_generation(),
                // Its absolute limit counts from when the user signed in.
                opened_at: presented.issued_at(),
                rotated_at: now,
                remember: true,
                address: caller.address,
                user_agent: caller.user_agent.clone(),
                end: None,
            },
            token_id: presented.token_id().map(str::to_owned),
            most: self.settings.max_sessions_per_user,
            trail: Trail::of(caller).with(&taken_over, now, Some(by)),
        };
        let outcome = self.store.take_over(&takeover).await?;
        let session = takeover.session;
        let refused = |reason, error| {
            self.refuse_refresh(reason, Some(session.id), caller);
            Err(error)
        };
        match outcome {
            TakeOverOutcome::TakenOver { user, ended } => {
                taken_over.tell();
                tell_ended(&ended);
                Ok(Some(self.grant(&session, user, powers, now)))
            }
            TakeOverOutcome::Used => Ok(None),
            TakeOverOutcome::Revoked => refused("revoked_by_the_site", AuthError::RefreshInvalid),
            TakeOverOutcome::CutOff => refused("cut_off", AuthError::RefreshInvalid),
            TakeOverOutcome::Inactive => {
                let reason = EndReason::UserDeactivated;
                refused("user_gone", AuthError::SessionEnded(reason))
            }
            TakeOverOutcome::NoSuchUser => {
                let reason = EndReason::UserDeleted;
                refused("user_gone", AuthError::SessionEnded(reason))
            }
        }
    }

    /// Uses a legacy token up: ends the session that it was exchanged for, or else records one that has
    /// ended, so that it is exchanged for none.
    pub(super) async fn use_up_legacy_token(
        &self,
        presented: &PresentedLegacyToken,
        reason: EndReason,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let (id, user) = (presented.session(), presented.user());
        let end = self.end_now(reason, EndedBy::User(user));
        let used_up = Event::SessionEnded {
            user,
            session: id,
            reason,
        };
        let takeover = TakeOver {
            session: Session {
                id,
                user_id: user,
                generation: presented.next_generation(),
                opened_at: presented.issued_at(),
                rotated_at: presented.issued_at(),
                remember: true,
                address: None,
                user_agent: None,
                end: Some(end),
            },
            token_id: None,
            most: None,
            trail: Trail::of(caller).with(&used_up, end.at, Some(end.by)),
        };
        match self.store.take_over(&takeover).await? {
            TakeOverOutcome::TakenOver { .. } => used_up.tell(),
            TakeOverOutcome::Used => {
                self.end_session(id, user, end, Trail::of(caller)).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A genuine legacy token that has not expired. Of one that is not nothing is told.
    pub(super) fn genuine_legacy_token(&self, token: &str) -> Option<PresentedLegacyToken> {
        let legacy = self.legacy_tokens.as_ref()?;
        legacy.read(token, self.clock.now()).ok()
    }

    fn read_legacy_token(
        &self,
        token: &str,
        caller: &Caller,
    ) -> Result<PresentedLegacyToken, AuthError> {
        let now = self.clock.now();
        let read = self.legacy_tokens.as_ref().map_or_else(
            || Err(RefreshTokenError::Invalid),
            |legacy| legacy.read(token, now),
        );
        read.map_err(|error| {
            let are_over = |legacy: &LegacyTokens| legacy.are_over(now);
            let (reason, error) = match error {
                _ if self.legacy_tokens.as_ref().is_some_and(are_over) => {
                    ("legacy_tokens_over", AuthError::RefreshInvalid)
                }
                RefreshTokenError::Invalid => ("legacy_invalid", AuthError::RefreshInvalid),
                RefreshTokenError::Expired => ("legacy_expired", AuthError::RefreshExpired),
            };
            self.refuse_refresh(reason, None, caller);
            error
        })
    }

    /// Checks what a request shows against the session to be or, since the site's own pages know of none
    /// yet, against the site's cookie. A foreign page can neither read that nor send the header: the
    /// origin of the request has been checked before.
    pub(super) fn check_legacy_csrf(
        &self,
        presented: &PresentedLegacyToken,
        carrier: LegacyCarrier<'_>,
        shown: Option<&str>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        match carrier {
            LegacyCarrier::Body => Ok(()),
            LegacyCarrier::Cookie {
                csrf_cookie: Some(cookie),
            } if shown.is_some_and(|shown| is_double_submit(shown, cookie)) => Ok(()),
            LegacyCarrier::Cookie { .. } => self.check_csrf(presented.session(), shown, caller),
        }
    }

    /// The CSRF token of the session that a legacy token is exchanged for.
    pub(super) fn legacy_csrf_token(&self, token: &str) -> Option<CsrfToken> {
        let presented = self.genuine_legacy_token(token)?;
        Some(self.csrf.token(presented.session()))
    }
}

/// Whether a header shows what the cookie holds, each plain or in Django's masked form.
fn is_double_submit(shown: &str, cookie: &str) -> bool {
    match (csrf::unmask(shown), csrf::unmask(cookie)) {
        (Some(shown), Some(cookie)) => shown.ct_eq(&cookie).into(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_double_submit;

    const SECRET: &str = "jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV";
    const MASKED: &str = "wdMp6u4reXBIcaMtu7pM1vc7A1eNsM6FFCfkuq0iPu54bL3v7i4eTMRzdcDuUFxq";

    #[test]
    fn the_header_shows_what_the_cookie_holds_in_either_form() {
        for shown in [SECRET, MASKED] {
            for cookie in [SECRET, MASKED] {
                assert!(is_double_submit(shown, cookie));
            }
            assert!(!is_double_submit(shown, &SECRET.to_lowercase()));
            assert!(!is_double_submit(shown, ""));
            assert!(!is_double_submit("", shown));
        }
        assert!(!is_double_submit("", ""), "nothing is no token");
    }
}
