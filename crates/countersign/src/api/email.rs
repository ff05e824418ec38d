//! `POST /users/email`, `POST /users/email/verify` and `POST /users/email/verify/resend`

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use countersign_core::audit::Caller;
use countersign_core::auth::ChangeEmail;
use countersign_core::password::Password;
use http::StatusCode;
use utoipa::ToSchema;

use crate::api::reset_password::{AddressBody, asked_for};
use crate::error::{ApiError, Problem};
use crate::extract::{AuthenticatedFields, Fields};
use crate::state::AppState;

/// A mailed token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct TokenBody {
    /// The token from the link, behind `#token=`.
    #[schema(example = "AZnA3nscfwCAAAEjRWeJq…")]
    token: String,
    /// The password that was chosen at the registration, if the token is of one.
    #[schema(example = "correct horse battery staple", format = Password)]
    password: Option<String>,
}

/// The address that the user wants, and the password in force.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct EmailBody {
    /// The address.
    #[schema(example = "ana@example.com")]
    email: String,
    /// The password in force.
    #[schema(example = "correct horse battery staple", format = Password)]
    current_password: String,
}

/// Prove an e-mail address
///
/// Takes what a letter's link proves: that somebody who registers has the address, whose account is made
/// now; that a user has the address of the account; or that a user has the one that takes its place, of
/// which the old address is told. The token is used up. Whoever registered also shows the `password` that was
/// chosen: an account is made for nobody who only reads the letter, since a stranger may have registered
/// with the address. Without it the answer is 400 with `password`: `required`.
#[utoipa::path(
    post, path = "/users/email/verify", operation_id = "verifyEmail", tag = "By mail",
    request_body = TokenBody,
    responses(
        (status = 204, description = "The address is proven."),
        (status = 400, description = "`mailed_token_invalid`, `mailed_token_expired`, `malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_credentials`: it is not the password of the registration; the token stays good", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`username_taken`, `email_taken`: somebody else has it since the letter was sent", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens shown from this address, or too many wrong passwords", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn verify_email(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let mut fields = Fields::from_json(request).await?;
    let token = fields.text("token");
    // An empty one is none: whether it is required depends on the token.
    let password = fields
        .optional_text("password")
        .filter(|text| !text.is_empty());
    let password = password.and_then(|text| fields.checked(Password::new(text)));
    let token = fields.finish(token)?;
    let auth = &state.auth;
    auth.verify_email(&token, password.as_ref(), &caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask for the verifying letter again
///
/// The link goes once more to whoever has this address and has not proven it: a user, or somebody who
/// registers. The answer is the same, and comes as soon, whether anybody has.
#[utoipa::path(
    post, path = "/users/email/verify/resend", operation_id = "askVerification", tag = "By mail",
    request_body = AddressBody,
    responses(
        (status = 204, description = "If anybody has the address and has yet to prove it, a letter is on its way."),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many wishes from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn ask_verification(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let email = asked_for(request).await?;
    state.auth.ask_verification(&email, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change the e-mail address
///
/// A letter with a link goes to the new address; the address changes when its token is shown, and the old
/// one is told. If somebody else has proven the new address, its letter says so, and the answer does not.
#[utoipa::path(
    post, path = "/users/email", operation_id = "changeEmail", tag = "By mail",
    security(("accessToken" = [], "csrfToken" = [])),
    request_body = EmailBody,
    responses(
        (status = 202, description = "A letter is on its way to the new address."),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_credentials`: the current password is wrong; `credentials_missing`, `token_malformed`, `token_invalid`, `token_expired`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many wrong passwords, too many wishes, or too many refused tokens from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change_email(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    AuthenticatedFields(user, mut fields): AuthenticatedFields,
) -> Result<StatusCode, ApiError> {
    let email = fields.email("email");
    let current = fields.password("current_password");
    let (email, current_password) = fields.finish(email.zip(current))?;
    let change = ChangeEmail {
        email,
        current_password,
    };
    state.auth.change_email(&user, change, &caller).await?;
    Ok(StatusCode::ACCEPTED)
}
