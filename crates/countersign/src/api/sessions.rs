//! `GET /users/sessions` and `DELETE /users/sessions/{id}`

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::IntoResponse;
use countersign_core::audit::Caller;
use countersign_core::error::AuthError;
use countersign_core::session::{Session, SessionId};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::grant::cleared_cookies;
use crate::error::{ApiError, Problem};
use crate::extract::Authenticated;
use crate::state::AppState;

/// One login on one device, as its user sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionBody {
    /// The session's name; not a secret.
    #[schema(example = "0199c0de-7b1c-7000-8000-0123456789ab")]
    id: String,
    /// When the user signed in, RFC 3339.
    #[schema(value_type = String, format = DateTime, example = "2026-11-23T10:00:00Z")]
    created_at: jiff::Timestamp,
    /// When the session was last refreshed, RFC 3339.
    #[schema(value_type = String, format = DateTime, example = "2026-11-24T08:15:00Z")]
    last_seen_at: jiff::Timestamp,
    /// Where the sign-in came from, if that is known.
    #[schema(example = "192.0.2.7")]
    ip: Option<String>,
    /// What the browser called itself at sign-in, if anything.
    #[schema(example = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0")]
    user_agent: Option<String>,
    /// Whether it is the session that asks.
    #[schema(example = true)]
    current: bool,
}

impl SessionBody {
    fn of(session: Session, current: SessionId) -> Self {
        Self {
            id: session.id.to_string(),
            created_at: session.opened_at,
            last_seen_at: session.rotated_at,
            ip: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent,
            current: session.id == current,
        }
    }
}

/// The answer that holds sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionsAnswer {
    /// The sessions, the one used last first.
    sessions: Vec<SessionBody>,
}

/// List the user's sessions
///
/// Every device on which the user is signed in.
#[utoipa::path(
    get, path = "/users/sessions", operation_id = "listSessions", tag = "Sessions",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "The sessions that have not ended.", body = SessionsAnswer),
        (status = 401, description = "`credentials_missing`, `token_malformed`, `token_invalid`, `token_expired`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens from this address were refused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_sessions(
    State(state): State<Arc<AppState>>,
    Authenticated(current): Authenticated,
) -> Result<Json<SessionsAnswer>, ApiError> {
    let sessions = state.auth.list_sessions(&current).await?;
    let body = |session| SessionBody::of(session, current.session());
    Ok(Json(SessionsAnswer {
        sessions: sessions.into_iter().map(body).collect(),
    }))
}

/// End one of the user's sessions
///
/// Its tokens are refused from the next request on. Ending the session that asks is a logout, and clears
/// both cookies.
#[utoipa::path(
    delete, path = "/users/sessions/{id}", operation_id = "endSession", tag = "Sessions",
    security(("accessToken" = [], "csrfToken" = [])),
    params(("id" = String, Path, description = "The session's `id`, as listed.")),
    responses(
        (status = 204, description = "It has ended, now or before."),
        (status = 401, description = "`credentials_missing`, `token_malformed`, `token_invalid`, `token_expired`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: the user has no such session", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens from this address were refused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn end_session(
    State(state): State<Arc<AppState>>,
    Authenticated(current): Authenticated,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    // What is not even text is no session either.
    let id = id.ok().and_then(|Path(id)| id.parse::<SessionId>().ok());
    let id = id.ok_or(AuthError::NoSuchSession)?;
    let cookies = &state.settings.cookies;
    let refresh_token = cookies.presented_refresh(&headers)?;
    let ended = state
        .auth
        .end_own_session(&current, id, refresh_token, &caller)
        .await?;
    let cleared = cleared_cookies(cookies, ended.cookie_is_dead);
    Ok((StatusCode::NO_CONTENT, cleared))
}
