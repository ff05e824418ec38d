//! `POST /users/logout`

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::IntoResponse;
use countersign_core::audit::Caller;
use countersign_core::auth::{Logout, LogoutScope};
use http::StatusCode;
use utoipa::ToSchema;

use crate::api::grant::cleared_cookies;
use crate::error::{ApiError, Problem};
use crate::extract::{Fields, bearer, csrf_shown};
use crate::refresh_tokens::PresentedTokens;
use crate::state::AppState;

/// Which sessions to end.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct LogoutBody {
    /// `local`: this session. `others`: every other session of the user. `global`: every one. Left
    /// out: `local`.
    #[schema(inline, example = "local", default = "local")]
    scope: Option<ScopeWord>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the words of `LogoutScope`")]
enum ScopeWord {
    Local,
    Others,
    Global,
}

/// Sign out
///
/// Ends the session and clears both cookies; the access token is refused from the next request on.
/// Saying it twice is as good as once. `others` and `global` reach beyond this session, and need one that
/// is alive; `others` leaves the cookies as they are.
#[utoipa::path(
    post, path = "/users/logout", operation_id = "logout", tag = "Sign in and out",
    security(("refreshCookie" = [], "csrfToken" = []), ("accessToken" = [], "csrfToken" = [])),
    request_body = Option<LogoutBody>,
    responses(
        (status = 204, description = "Signed out; both cookies are cleared."),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A bad access token is all that was shown: `token_malformed`, `token_invalid`, `token_expired`; for other sessions than this one also `credentials_missing`, `refresh_invalid`, `refresh_expired`, `refresh_reused`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens from this address were refused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`: you are still signed in", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn logout(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let headers = request.headers().clone();
    let cookies = &state.settings.cookies;
    let tokens = PresentedTokens::of(&state, &headers)?;
    let access_token = bearer(&state.settings, &headers)?;
    let mut fields = Fields::from_optional_json(request).await?;
    let scope = match fields.optional_text("scope") {
        None => Some(LogoutScope::Local),
        Some(word) => LogoutScope::from_code(&word),
    };
    if scope.is_none() {
        fields.refuse("scope", "invalid", "Send local, others or global.");
    }
    let scope = fields.finish(scope)?;
    let csrf_shown = csrf_shown(&headers);
    let logged_out = state
        .auth
        .logout(
            Logout {
                scope,
                refresh_token: tokens.own,
                legacy: tokens.legacy,
                access_token,
                csrf_shown,
            },
            &caller,
        )
        .await
        .map_err(|refusal| state.auth.count_refused(refusal, caller.address))?;
    let cleared = cleared_cookies(cookies, logged_out.cookie_is_dead);
    let used_up = match scope {
        LogoutScope::Local => tokens,
        LogoutScope::Others | LogoutScope::Global => PresentedTokens::default(),
    };
    let legacy_cleared = used_up.cleared_legacy(&state.settings);
    Ok((StatusCode::NO_CONTENT, legacy_cleared, cleared))
}
