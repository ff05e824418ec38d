//! `GET` and `PATCH /users/user`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use countersign_core::audit::Caller;
use countersign_core::user::{PersonName, ProfileChange, User};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, Problem};
use crate::extract::{Authenticated, AuthenticatedFields, Fields};
use crate::state::AppState;

/// A user, as clients see one.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserBody {
    /// The number; never given to a second user.
    #[schema(example = 1)]
    id: i64,
    /// The name to sign in with.
    #[schema(example = "ana")]
    username: String,
    /// The e-mail address; may be empty.
    #[schema(example = "ana@example.org")]
    email: String,
    /// Whether the user has proven to read what is mailed there.
    #[schema(example = true)]
    email_verified: bool,
    /// The given name; may be empty.
    #[schema(example = "Ana")]
    first_name: String,
    /// The family name; may be empty.
    #[schema(example = "Lima")]
    last_name: String,
    /// Whether the user may sign in.
    #[schema(example = true)]
    is_active: bool,
    /// Whether the user may enter the admin site.
    #[schema(example = false)]
    is_staff: bool,
    /// The last sign-in, RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-23T10:00:00Z")]
    last_login: Option<jiff::Timestamp>,
    /// When the user was made, RFC 3339.
    #[schema(value_type = String, format = DateTime, example = "2026-11-01T09:00:00Z")]
    date_joined: jiff::Timestamp,
}

impl From<&User> for UserBody {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.0,
            username: user.username.clone(),
            email: user.email.clone(),
            email_verified: user.email_verified,
            first_name: user.first_name.clone(),
            last_name: user.last_name.clone(),
            is_active: user.is_active,
            is_staff: user.is_staff,
            last_login: user.last_login,
            date_joined: user.date_joined,
        }
    }
}

/// The answer that holds a user.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserAnswer {
    /// The user.
    pub(super) user: UserBody,
}

/// What a user may change of themselves. What is left out stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct UserChangeBody {
    /// The given name; at most 150 characters.
    #[schema(example = "Ana")]
    first_name: Option<String>,
    /// The family name; at most 150 characters.
    #[schema(example = "Lima")]
    last_name: Option<String>,
}

/// Get the user
///
/// Who the access token speaks for, as of now.
#[utoipa::path(
    get, path = "/users/user", operation_id = "getUser", tag = "User",
    security(("accessToken" = [])),
    responses(
        (status = 200, description = "The user.", body = UserAnswer),
        (status = 401, description = "`credentials_missing`, `token_malformed`, `token_invalid`, `token_expired`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens from this address were refused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_user(Authenticated(current): Authenticated) -> Json<UserAnswer> {
    Json(UserAnswer {
        user: current.user().into(),
    })
}

/// Change the user's names
#[utoipa::path(
    patch, path = "/users/user", operation_id = "updateUser", tag = "User",
    security(("accessToken" = [], "csrfToken" = [])),
    request_body = UserChangeBody,
    responses(
        (status = 200, description = "The user as changed.", body = UserAnswer),
        (status = 400, description = "`malformed_request`, `validation_failed`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`credentials_missing`, `token_malformed`, `token_invalid`, `token_expired`, `session_ended`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`csrf_missing`, `csrf_invalid`, `origin_denied`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`throttled`: too many tokens from this address were refused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`storage_unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn update_user(
    State(state): State<Arc<AppState>>,
    Extension(caller): Extension<Caller>,
    AuthenticatedFields(current, mut fields): AuthenticatedFields,
) -> Result<Json<UserAnswer>, ApiError> {
    let name = |field: &'static str, fields: &mut Fields| {
        let text = fields.optional_text(field)?;
        fields.checked(PersonName::parse(field, &text))
    };
    let change = ProfileChange {
        first_name: name("first_name", &mut fields),
        last_name: name("last_name", &mut fields),
    };
    let change = fields.finish(Some(change))?;
    let user = state
        .auth
        .update_profile(&current, &change, &caller)
        .await?;
    Ok(Json(UserAnswer {
        user: (&user).into(),
    }))
}
