//! `POST /users/password/reset` and `POST /users/password/reset/confirm`

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use countersign_core::audit::Caller;
use countersign_core::user::Email;
use http::StatusCode;
use utoipa::ToSchema;

use crate::error::{ApiError, Problem};
use crate::extract::Fields;
use crate::state::AppState;

/// An address that a letter is to be sent to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct AddressBody {
    /// The e-mail address.
    #[schema(example = "ana@example.org")]
    email: String,
}

/// A mailed token, and the password that takes the place of the one in force.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct ResetBody {
    /// The token from the link, behind `#token=`.
    #[schema(example = "AZnA3nscfwCAAAEjRWeJq…")]
    token: String,
    /// The new password: at least 8 characters, 15 for staff; at most 4,096 bytes.
    #[schema(example = "a quiet river under old stars", format = Password)]
    new_password: String,
}

/// The address that a letter is asked for.
pub(crate) async fn asked_for(request: Request) -> Result<Email, ApiError> {
    let mut fields = Fields::from_json(request).await?;
    let email = fields.known_email("email");
    Ok(fields.finish(email)?)
}

/// Ask to reset a password
///
/// A letter with a link goes to whoever has this address. The answer is the same, and comes as soon,
/// whether anybody has. The link leads to the app's own page (`password.reset_page`) or to one of ours; it
/// works for an hour, once, and only as long as password and address stay as they are.
#[utoipa::path(
    post, path = "/users/password/reset", operation_id = "askPasswordReset", tag = "By mail",
    request_body = AddressBody,
    responses(
        (status = 202, description = "If anybody has the address, a letter is on its way."),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many wishes from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn ask_password_reset(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let email = asked_for(request).await?;
    state.auth.ask_password_reset(&email, &caller).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Reset a password
///
/// Sets a new password in exchange for a mailed token. Every session of the user ends, and the user is told
/// by mail. The token is used up, and the address counts as proven.
#[utoipa::path(
    post, path = "/users/password/reset/confirm", operation_id = "resetPassword", tag = "By mail",
    request_body = ResetBody,
    responses(
        (status = 204, description = "The password is the new one; every session has ended."),
        (status = 400, description = "`mailed_token_invalid`, `mailed_token_expired`, `malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens shown from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reset_password(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let headers = request.headers().clone();
    let device = state.settings.cookies.presented_device(&headers);
    let mut fields = Fields::from_json(request).await?;
    let token = fields.text("token");
    let new = fields.password("new_password");
    let (token, new) = fields.finish(token.zip(new))?;
    let auth = &state.auth;
    auth.reset_password(&token, new, device, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
