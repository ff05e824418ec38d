//! `/.well-known/jwks.json` and `/.well-known/oauth-authorization-server`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use countersign_core::keys::{PUBLIC_KEYS_MAX_AGE, PublicKeys};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::AppState;

/// How long a resource server may go without learning of a new key.
const CACHE: (HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=600");
const _: () = assert!(
    PUBLIC_KEYS_MAX_AGE.as_secs() == 600,
    "keys are published that early"
);

/// Get the public keys
///
/// The JSON Web Key Set (RFC 7517) that access tokens are verified with. Carries an ETag.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "jwks", tag = "Discovery",
    responses(
        (status = 200, description = "The key set.", body = serde_json::Value, example = json!({"keys": []})),
        (status = 304, description = "You have it already."),
    ),
)]
pub(crate) async fn json_web_key_set(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
) -> Response {
    let PublicKeys { json: keys, etag } = state.auth.public_keys().await;
    if knows(&headers, &etag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)], [CACHE]).into_response();
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    ([(header::ETAG, etag)], [CACHE], json, keys).into_response()
}

/// Whether the client has the version of this tag: its list may name several, and a proxy that
/// compresses makes them weak (RFC 9110, section 13.1.2).
pub(crate) fn knows(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// What the service is, for clients that configure themselves (RFC 8414).
#[derive(Serialize, ToSchema)]
pub(crate) struct Metadata {
    /// The `iss` of its tokens.
    #[schema(example = "http://127.0.0.1:8000")]
    issuer: String,
    /// Where its public keys are.
    #[schema(example = "http://127.0.0.1:8000/.well-known/jwks.json")]
    jwks_uri: String,
    /// Where the list of what has been revoked is.
    #[schema(example = "http://127.0.0.1:8000/.well-known/revocations")]
    revocations_uri: String,
    /// The grant types it has: none of OAuth's.
    grant_types_supported: [&'static str; 0],
    /// The response types it has: none of OAuth's.
    response_types_supported: [&'static str; 0],
    /// The algorithms that access tokens are signed with: one, or two while one follows the other.
    access_token_signing_alg_values_supported: Vec<&'static str>,
    /// Where people read how to use it.
    #[schema(example = "http://127.0.0.1:8000/docs")]
    service_documentation: String,
}

/// Get the service's metadata
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", operation_id = "metadata",
    tag = "Discovery",
    responses((status = 200, description = "The metadata (RFC 8414).", body = Metadata)),
)]
pub(crate) async fn authorization_server_metadata(
    State(state): State<Arc<AppState>>,
) -> impl IntoResponse {
    let tokens = &state.auth.settings().tokens;
    let url = state.settings.public_url.as_str();
    let metadata = Metadata {
        issuer: tokens.issuer.clone(),
        jwks_uri: format!("{url}/.well-known/jwks.json"),
        revocations_uri: format!("{url}/.well-known/revocations"),
        grant_types_supported: [],
        response_types_supported: [],
        access_token_signing_alg_values_supported: state.auth.signing_algorithms(),
        service_documentation: format!("{url}/docs"),
    };
    ([CACHE], Json(metadata))
}
