//! `POST /users/logout`

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{AppendHeaders, IntoResponse};
use countersign_core::auth::Logout;
use http::StatusCode;
use http::header::SET_COOKIE;
use utoipa::ToSchema;

use crate::error::{ApiError, Problem};
use crate::extract::{Fields, bearer, csrf_shown};
use crate::state::AppState;

/// Which sessions to end.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct LogoutBody {
    /// `local`: this session. Left out: `local`.
    #[schema(example = "local", default = "local")]
    scope: Option<String>,
}

/// Sign out
///
/// Ends the session and clears both cookies; the access token is refused from the next request on.
/// Saying it twice is as good as once.
#[utoipa::path(
    post, path = "/users/logout", operation_id = "logout", tag = "Sign in and out",
    security(("refreshCookie" = [], "csrfToken" = []), ("accessToken" = [], "csrfToken" = [])),
    request_body = Option<LogoutBody>,
    responses(
        (status = 204, description = "Signed out; both cookies are cleared."),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "A bad access token is all that was shown: `token_malformed`, `token_invalid`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`: you are still signed in", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn logout(
    State(state): State<Arc<AppState>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let headers = request.headers().clone();
    let cookies = &state.settings.cookies;
    let refresh_token = cookies.presented_refresh(&headers)?;
    let access_token = bearer(&state.settings, &headers)?;
    let mut fields = Fields::from_optional_json(request).await?;
    if fields
        .optional_text("scope")
        .is_some_and(|scope| scope != "local")
    {
        fields.refuse("scope", "invalid", "Send local, or leave it out.");
    }
    fields.finish(Some(()))?;
    let csrf_shown = csrf_shown(&headers);
    state
        .auth
        .logout(Logout {
            refresh_token,
            access_token,
            csrf_shown,
        })
        .await?;
    let cleared = cookies.cleared().map(|cookie| (SET_COOKIE, cookie));
    Ok((StatusCode::NO_CONTENT, AppendHeaders(cleared)))
}
