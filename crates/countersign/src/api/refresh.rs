//! `POST /users/refresh_token`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use countersign_core::audit::Caller;
use http::HeaderMap;

use crate::api::grant::{TokensBody, grant_cookies};
use crate::error::{ApiError, Problem};
use crate::extract::csrf_shown;
use crate::state::AppState;

/// Get the next access token
///
/// The refresh token in the cookie is replaced by its successor. Two tabs that race, or a reply that
/// was lost, get the same successor within the grace; after it, a superseded token ends the session.
#[utoipa::path(
    post, path = "/users/refresh_token", operation_id = "refresh", tag = "Sign in and out",
    security(("refreshCookie" = [], "csrfToken" = [])),
    responses(
        (status = 200, description = "A new access token; both cookies are set anew.", body = TokensBody),
        (status = 400, description = "`malformed_request`: two refresh cookies", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`refresh_missing`, `refresh_invalid`, `refresh_expired`, `refresh_reused`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: this session refreshes too often, or too many tokens from this address were refused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn refresh(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let cookies = &state.settings.cookies;
    let token = cookies
        .presented_refresh(&headers)?
        .ok_or(ApiError::RefreshMissing)?;
    let granted = state.auth.refresh(token, csrf_shown(&headers)).await;
    let grant = granted.map_err(|refusal| state.auth.count_refused(refusal, caller.address))?;
    Ok((
        grant_cookies(cookies, &grant),
        Json(TokensBody::from(&grant)),
    ))
}
