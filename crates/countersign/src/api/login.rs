//! `POST /users/login`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::response::{AppendHeaders, IntoResponse};
use countersign_core::audit::Caller;
use countersign_core::auth::Login;
use countersign_core::password::Password;
use http::header::SET_COOKIE;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::grant::{TokensBody, grant_cookies};
use crate::api::user::UserBody;
use crate::error::{ApiError, Problem};
use crate::extract::Fields;
use crate::refresh_tokens::PresentedTokens;
use crate::state::AppState;

/// What a login sends.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct LoginBody {
    /// The username, or an e-mail address that the user has proven.
    #[schema(example = "ana")]
    username: String,
    /// The password, exactly as typed; at most 4,096 bytes.
    #[schema(format = Password, example = "correct horse battery staple")]
    password: String,
    /// Whether the cookies outlive the browser. Left out: they do.
    #[schema(default = true)]
    remember: Option<bool>,
}

/// What a login answers, beside the two cookies.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginAnswer {
    #[serde(flatten)]
    tokens: TokensBody,
    /// Who signed in.
    user: UserBody,
}

/// Sign in
///
/// Opens a session: the access token comes in the body, the refresh token in an HttpOnly cookie. An
/// unknown user and a wrong password get the same answer. A session that the browser already had
/// ends. Wrong passwords are counted, by account and by address, and too many make everybody wait but
/// the owner on a known device.
#[utoipa::path(
    post, path = "/users/login", operation_id = "login", tag = "Sign in and out",
    request_body(content(
        (LoginBody = "application/json"),
        (LoginBody = "application/x-www-form-urlencoded"),
        (LoginBody = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "Signed in; both cookies are set, and one by which the device is known again.", body = LoginAnswer),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_credentials`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`user_inactive`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many wrong passwords for this account or from this address", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`overloaded`, `storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn login(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let headers = request.headers().clone();
    let tokens = PresentedTokens::of(&state, &headers)?;
    let cookies = &state.settings.cookies;
    let device = cookies.presented_device(&headers);
    let mut fields = Fields::from_json_or_form(request).await?;
    let username = fields.text("username");
    if username
        .as_ref()
        .is_some_and(|name| name.chars().any(char::is_control))
    {
        fields.refuse("username", "invalid", "Leave out control characters.");
    }
    let password = fields.text("password");
    let password = password.and_then(|text| fields.checked(Password::new(text)));
    let remember = fields.optional_flag("remember").unwrap_or(true);
    let (username, password) = fields.finish(username.zip(password))?;
    let login = Login {
        username: &username,
        password,
        remember,
        presented: tokens.own,
        legacy_token: tokens.legacy.map(|legacy| legacy.token),
        device,
    };
    let grant = state.auth.login(login, caller).await?;
    let answer = LoginAnswer {
        tokens: TokensBody::from(&grant),
        user: (&grant.user).into(),
    };
    let device = grant.device_token.as_ref();
    let known = device.map(|token| AppendHeaders([(SET_COOKIE, cookies.device(token))]));
    Ok((
        grant_cookies(cookies, &grant),
        tokens.cleared_legacy(&state.settings),
        known,
        Json(answer),
    ))
}
