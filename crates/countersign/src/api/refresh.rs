//! `POST /users/refresh_token`

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::IntoResponse;
use countersign_core::audit::Caller;
use countersign_core::auth::{LegacyCarrier, LegacyCredential};
use http::request::Parts;

use crate::api::grant::{TokensBody, grant_cookies};
use crate::error::{ApiError, Problem};
use crate::extract::{Fields, csrf_shown};
use crate::refresh_tokens::PresentedTokens;
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
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let (parts, body) = request.into_parts();
    let tokens = PresentedTokens::of(&state, &parts.headers)?;
    let shown = csrf_shown(&parts.headers);
    let in_body = legacy_in_body(&state, tokens, &parts, body).await?;
    let in_body = in_body.as_deref().map(|token| LegacyCredential {
        token,
        carrier: LegacyCarrier::Body,
    });
    let auth = &state.auth;
    let granted = match (tokens.legacy_alone().or(in_body), tokens.own) {
        (Some(legacy), _) => auth.take_over(legacy, shown, &caller).await,
        (None, Some(token)) => auth.refresh(token, shown, &caller).await,
        (None, None) => return Err(ApiError::RefreshMissing),
    };
    let grant = granted.map_err(|refusal| auth.count_refused(refusal, caller.address))?;
    let used = PresentedTokens {
        own: None,
        legacy: tokens.legacy_alone(),
    };
    Ok((
        grant_cookies(&state.settings.cookies, &grant),
        used.cleared_legacy(&state.settings),
        Json(TokensBody::from(&grant)),
    ))
}

/// The legacy token in the body, if they may come there and no cookie has any token.
async fn legacy_in_body(
    state: &AppState,
    tokens: PresentedTokens<'_>,
    parts: &Parts,
    body: Body,
) -> Result<Option<String>, ApiError> {
    let may_come = state.settings.legacy.as_ref().is_some_and(|l| l.in_body);
    if !may_come || tokens.own.is_some() || tokens.legacy.is_some() {
        return Ok(None);
    }
    let request = Request::from_parts(parts.clone(), body);
    let mut fields = Fields::from_optional_json(request).await?;
    let token = fields.optional_text("refresh");
    Ok(fields.finish(Some(token))?)
}
