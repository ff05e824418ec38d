//! What a login and a refresh answer alike: the tokens in the body, and the two cookies.

use axum::response::{AppendHeaders, IntoResponseParts};
use countersign_core::auth::Grant;
use http::header::SET_COOKIE;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cookies::CookieSettings;

/// An access token and what goes with it.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokensBody {
    /// The signed JWT for `Authorization: Bearer`. Keep it in memory.
    access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// How many seconds the access token lives, from now on.
    #[schema(example = 300)]
    expires_in: u64,
    /// For `X-CSRFToken` on every unsafe request.
    #[schema(example = "hVZ0pXq8Tn1cKd4sWb7yRm2gJf6uEa9L")]
    csrf_token: String,
}

impl From<&Grant> for TokensBody {
    fn from(grant: &Grant) -> Self {
        Self {
            access_token: grant.access_token.as_str().to_owned(),
            token_type: "Bearer",
            expires_in: grant.expires_in.as_secs(),
            csrf_token: grant.csrf_token.as_str().to_owned(),
        }
    }
}

/// Takes both cookies away, where they shall go.
pub(crate) fn cleared_cookies(
    cookies: &CookieSettings,
    they_go: bool,
) -> AppendHeaders<Vec<(HeaderName, HeaderValue)>> {
    let cleared = they_go.then(|| cookies.cleared());
    let headers = cleared.into_iter().flatten();
    AppendHeaders(
        headers
            .map(|cookie| (SET_COOKIE, cookie))
            .collect::<Vec<_>>(),
    )
}

/// The two cookies of a grant.
pub(crate) fn grant_cookies(
    cookies: &CookieSettings,
    grant: &Grant,
) -> impl IntoResponseParts + use<> {
    let live = grant.cookies_live;
    AppendHeaders([
        (
            SET_COOKIE,
            cookies.refresh(grant.refresh_token.as_str(), live),
        ),
        (SET_COOKIE, cookies.csrf(grant.csrf_token.as_str(), live)),
    ])
}
