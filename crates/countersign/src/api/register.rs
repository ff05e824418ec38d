//! `POST /users/register`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use countersign_core::audit::Caller;
use countersign_core::auth::{NewRegistration, Registered};
use countersign_core::user::{PersonName, Username};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::user::{UserAnswer, UserBody};
use crate::error::{ApiError, Problem};
use crate::extract::Fields;
use crate::state::AppState;

/// What somebody gives who makes an account. Whatever else is sent is ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct RegisterBody {
    /// The name to sign in with: at most 150 letters, digits and `. + - _`, no e-mail address. Left out only
    /// where the table of users has no names but addresses.
    #[schema(example = "ana")]
    username: Option<String>,
    /// The e-mail address.
    #[schema(example = "ana@example.org")]
    email: String,
    /// The password: at least 8 characters, at most 4,096 bytes.
    #[schema(example = "correct horse battery staple", format = Password)]
    password: String,
    /// The given name; at most 150 characters.
    #[schema(example = "Ana")]
    first_name: Option<String>,
    /// The family name; at most 150 characters.
    #[schema(example = "Lima")]
    last_name: Option<String>,
}

/// What is answered when the address must be proven first; the same, whoever has the address already.
#[derive(Serialize, ToSchema)]
pub(crate) struct PendingAnswer {
    /// `mailed`: a letter is on its way, and the account is made when its link is followed.
    #[schema(example = "mailed")]
    verification: &'static str,
    /// The name that is reserved meanwhile.
    #[schema(example = "ana")]
    username: String,
    /// Where the letter goes.
    #[schema(example = "ana@example.org")]
    email: String,
}

/// What a registration answers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the answer, which is one of the two")]
pub(crate) enum RegisterAnswer {
    /// The address must be proven first.
    Pending(PendingAnswer),
    /// The account is made.
    Made(UserAnswer),
}

/// Make an account
///
/// Where the service lets people do so (`registration.enabled`). By default the address must be proven
/// first: a letter with a link goes there, and the account is made when its token is shown to
/// `/users/email/verify`; the name is reserved meanwhile. Whether somebody has the address already is told
/// by the letter only. Who has a name is told: names are public. An account that is made this way has no
/// special powers.
#[utoipa::path(
    post, path = "/users/register", operation_id = "register", tag = "By mail",
    request_body = RegisterBody,
    responses(
        (status = 201, description = "The name is reserved and a letter on its way; or, where no address must be proven, the account is made.", body = RegisterAnswer),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`registration_closed`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`username_taken`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many registrations from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn register(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut fields = Fields::from_json(request).await?;
    let new = registration(&mut fields);
    let new = fields.finish(new)?;
    let answer = match state.auth.register(new, &caller).await? {
        Registered::Pending { username, email } => Json(PendingAnswer {
            verification: "mailed",
            username: username.as_str().to_owned(),
            email: email.as_str().to_owned(),
        })
        .into_response(),
        Registered::Made(user) => Json(UserAnswer {
            user: UserBody::from(&user),
        })
        .into_response(),
    };
    Ok((StatusCode::CREATED, answer).into_response())
}

fn registration(fields: &mut Fields) -> Option<NewRegistration> {
    let name = |field: &'static str, fields: &mut Fields| {
        let text = fields.optional_text(field).unwrap_or_default();
        fields.checked(PersonName::parse(field, &text))
    };
    let username = fields.optional_text("username");
    let username = username.map(|text| fields.checked(Username::parse(&text)));
    let email = fields.email("email");
    let password = fields.password("password");
    let first_name = name("first_name", fields);
    let last_name = name("last_name", fields);
    Some(NewRegistration {
        username: username.flatten(),
        email: email?,
        password: password?,
        first_name: first_name?,
        last_name: last_name?,
    })
}
