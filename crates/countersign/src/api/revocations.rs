//! `GET /.well-known/revocations`

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use countersign_core::audit::Caller;
use countersign_core::error::AuthError;
use countersign_core::throttle::LocalAction;
use http::{HeaderMap, StatusCode, header};

use crate::api::well_known::knows;
use crate::error::{ApiError, Problem};
use crate::extract::bearer;
use crate::state::AppState;

/// The longest that an answer is held back: well within the time that a request may take.
const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// Get what has been revoked
///
/// The sessions, users and signing keys whose tokens are refused before their time, each for as long as
/// one may live. A resource server refuses a token whose `sid` is listed, whose `sub` is listed and `iat`
/// is earlier than `not_before`, or whose `kid` is listed. With `wait` and `If-None-Match` the answer
/// comes as soon as there is something new.
#[utoipa::path(
    get, path = "/.well-known/revocations", operation_id = "revocations", tag = "Discovery",
    security((), ("feedToken" = [])),
    params(
        ("wait" = Option<u64>, Query, description = "Seconds to wait for something new, at most 25."),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the list that you have."),
    ),
    responses(
        (status = 200, description = "The list. Carries an ETag.", body = serde_json::Value, example = json!({
            "issued_at": "2026-11-24T10:00:00Z",
            "sessions": [{"sid": "0199c0de-7b1c-7000-8000-0123456789ab", "until": "2026-11-24T10:08:00Z"}],
            "users": [{"sub": "7", "not_before": "2026-11-24T10:00:00Z", "until": "2026-11-24T10:08:00Z"}],
            "keys": [],
        })),
        (status = 304, description = "You have it already."),
        (status = 400, description = "`malformed_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`credentials_missing`: the feed is not for everybody here", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many questions from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`: nobody knows what has been revoked", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revocations(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(token) = &state.settings.revocations_token {
        // Whoever shows it is known, and asks as often as there is something new.
        let shown = bearer(&state.settings, &headers)?;
        if !shown.is_some_and(|shown| token.is(shown)) {
            count(&state, &caller)?;
            return Err(ApiError::FeedTokenMissing);
        }
    } else {
        count(&state, &caller)?;
    }
    let wait = wait(query.as_deref().unwrap_or_default())?;
    // Whoever finds the room full is answered at once, and asks again.
    let place = state.waiting.try_acquire();
    let wait = if place.is_ok() { wait } else { Duration::ZERO };
    let is_known = |etag: &str| knows(&headers, etag);
    let feed = state
        .auth
        .revocations_after(|feed| is_known(&feed.etag), wait)
        .await?;
    let caching = [
        (header::ETAG, feed.etag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if is_known(&feed.etag) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((caching, json, feed.json.clone()).into_response())
}

fn count(state: &AppState, caller: &Caller) -> Result<(), AuthError> {
    state.auth.admit(LocalAction::Revocations, caller.address)
}

/// How long the client asks to wait.
fn wait(query: &str) -> Result<Duration, ApiError> {
    let mut waits = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "wait");
    let Some((_, wait)) = waits.next() else {
        return Ok(Duration::ZERO);
    };
    let seconds = wait
        .parse()
        .ok()
        .filter(|_| waits.next().is_none())
        .ok_or_else(|| ApiError::malformed("Send wait once, as a number of seconds."))?;
    Ok(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
