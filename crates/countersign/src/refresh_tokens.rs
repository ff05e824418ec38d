//! The refresh tokens that a request presents in cookies: ours, and where a Django site is taken over, the
//! site's.

use axum::response::{AppendHeaders, IntoResponseParts};
use countersign_core::auth::{LegacyCarrier, LegacyCredential};
use http::HeaderMap;
use http::header::SET_COOKIE;

use crate::cookies;
use crate::error::ApiError;
use crate::settings::HttpSettings;
use crate::state::AppState;

/// The refresh tokens of a request.
#[derive(Clone, Copy, Default)]
pub(crate) struct PresentedTokens<'h> {
    /// Ours, or what lies where ours would.
    pub(crate) own: Option<&'h str>,
    /// The site's. It counts only beside none of ours, or one that is not.
    pub(crate) legacy: Option<LegacyCredential<'h>>,
}

impl<'h> PresentedTokens<'h> {
    /// Those of a request's cookies.
    ///
    /// # Errors
    /// [`ApiError::Malformed`] if there are two of a kind: one of them was planted.
    pub(crate) fn of(state: &AppState, headers: &'h HeaderMap) -> Result<Self, ApiError> {
        let settings = &state.settings;
        let own = settings.cookies.presented_refresh(headers)?;
        let Some(transport) = &settings.legacy else {
            return Ok(Self { own, legacy: None });
        };
        let legacy = cookies::presented_refresh(headers, &transport.cookie)?;
        let Some(token) = legacy else {
            return Ok(Self { own, legacy: None });
        };
        // Both may have one name, and either may lie under it.
        let is_own = own.is_some_and(|own| state.auth.is_own_refresh_token(own));
        if is_own && own == legacy {
            return Ok(Self { own, legacy: None });
        }
        let csrf_cookie = settings.cookies.presented_csrf(headers);
        Ok(Self {
            own: own.filter(|_| is_own),
            legacy: Some(LegacyCredential {
                token,
                carrier: LegacyCarrier::Cookie { csrf_cookie },
            }),
        })
    }

    /// The legacy token, where ours does not go before it.
    pub(crate) fn legacy_alone(self) -> Option<LegacyCredential<'h>> {
        self.legacy.filter(|_| self.own.is_none())
    }

    /// Takes the site's cookie away, if the request had one and it lies under another name than ours, which
    /// is set or taken away in any case.
    pub(crate) fn cleared_legacy(self, settings: &HttpSettings) -> impl IntoResponseParts + use<> {
        let name = settings.legacy.as_ref().map(|legacy| &legacy.cookie);
        let cookie = self
            .legacy
            .and(name)
            .filter(|name| **name != settings.cookies.refresh_name)
            .map(|name| settings.cookies.cleared_legacy(name));
        AppendHeaders(cookie.map(|cookie| (SET_COOKIE, cookie)))
    }
}
