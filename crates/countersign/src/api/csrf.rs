//! `GET /users/csrf`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{AppendHeaders, IntoResponse};
use countersign_core::audit::Caller;
use countersign_core::throttle::LocalAction;
use http::HeaderMap;
use http::header::SET_COOKIE;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, Problem};
use crate::refresh_tokens::PresentedTokens;
use crate::state::AppState;

/// The CSRF token.
#[derive(Serialize, ToSchema)]
pub(crate) struct CsrfAnswer {
    /// For `X-CSRFToken` on every unsafe request.
    #[schema(example = "hVZ0pXq8Tn1cKd4sWb7yRm2gJf6uEa9L")]
    csrf_token: String,
}

/// Get the CSRF token
///
/// The token of the session whose refresh cookie comes along; without one, a token that belongs to no
/// session. A page on another site asks here after a reload, since it cannot read our cookie.
#[utoipa::path(
    get, path = "/users/csrf", operation_id = "csrf", tag = "Sign in and out",
    security((), ("refreshCookie" = [])),
    responses(
        (status = 200, description = "The token, also in the readable `csrftoken` cookie, which is set unless it is there.", body = CsrfAnswer),
        (status = 400, description = "`malformed_request`: two refresh cookies", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many questions from this address", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn csrf(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    state.auth.admit(LocalAction::Csrf, caller.address)?;
    let cookies = &state.settings.cookies;
    let tokens = PresentedTokens::of(&state, &headers)?;
    let legacy_token = tokens.legacy_alone().map(|legacy| legacy.token);
    let token = state.auth.csrf_token(tokens.own, legacy_token);
    // A browser that holds it already keeps it as it is: an image on a foreign page, which asks here
    // too, must not turn a lasting cookie into one that ends with the browser.
    let set = !cookies.holds_csrf(&headers, &token);
    let cookie = set.then(|| AppendHeaders([(SET_COOKIE, cookies.csrf(token.as_str(), None))]));
    Ok((
        cookie,
        Json(CsrfAnswer {
            csrf_token: token.as_str().to_owned(),
        }),
    ))
}
