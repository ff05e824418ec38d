//! `POST /users/password`

use std::sync::Arc;

use axum::extract::{Extension, State};
use countersign_core::audit::Caller;
use countersign_core::auth::ChangePassword;
use http::StatusCode;
use utoipa::ToSchema;

use crate::error::{ApiError, Problem};
use crate::extract::AuthenticatedFields;
use crate::state::AppState;

/// The password in force and the one that takes its place.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct PasswordBody {
    /// The password in force.
    #[schema(example = "correct horse battery staple", format = Password)]
    current_password: String,
    /// The new one: at least 8 characters, 15 for staff; at most 4,096 bytes.
    #[schema(example = "a quiet river under old stars", format = Password)]
    new_password: String,
}

/// Change the password
///
/// Every other session of the user ends; the one that asks goes on with the tokens it has.
#[utoipa::path(
    post, path = "/users/password", operation_id = "changePassword", tag = "User",
    security(("accessToken" = [], "csrfToken" = [])),
    request_body = PasswordBody,
    responses(
        (status = 204, description = "Changed; every other session has ended."),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_credentials`: the current password is wrong; `credentials_missing`, `token_malformed`, `token_invalid`, `token_expired`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many wrong passwords, or too many refused tokens from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change_password(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    AuthenticatedFields(user, mut fields): AuthenticatedFields,
) -> Result<StatusCode, ApiError> {
    let current = fields.password("current_password");
    let new = fields.password("new_password");
    let (current, new) = fields.finish(current.zip(new))?;
    let change = ChangePassword { current, new };
    state.auth.change_password(&user, change, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
