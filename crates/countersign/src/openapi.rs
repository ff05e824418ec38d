//! The description of the API, made from the code (OpenAPI 3.1).

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};
use utoipa::{Modify, OpenApi as _};

use crate::api::{
    csrf, email, login, logout, password, refresh, register, reset_password, revocations, sessions,
    user, well_known,
};
use crate::error::{FieldProblem, Problem, end_reason_reference, error_reference};
use crate::settings::HttpSettings;
use crate::state::AppState;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Countersign",
        description = "The account and login service for single-page apps and REST APIs.\n\n\
            A short-lived access token comes in the response body and stays in the page's memory; \
            the refresh token travels only in an HttpOnly cookie; every unsafe request shows the \
            CSRF token in `X-CSRFToken`.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    paths(
        login::login,
        refresh::refresh,
        csrf::csrf,
        logout::logout,
        user::get_user,
        user::update_user,
        password::change_password,
        register::register,
        email::verify_email,
        email::ask_verification,
        email::change_email,
        reset_password::ask_password_reset,
        reset_password::reset_password,
        sessions::list_sessions,
        sessions::end_session,
        well_known::json_web_key_set,
        well_known::authorization_server_metadata,
        revocations::revocations,
    ),
    components(schemas(Problem, FieldProblem)),
    tags(
        (name = "Sign in and out", description = "From password to session, and its end."),
        (name = "User", description = "Who is signed in."),
        (name = "By mail", description = "What needs somebody to read what is mailed to an address."),
        (name = "Sessions", description = "Where the user is signed in."),
        (name = "Discovery", description = "What resource servers and clients need to know."),
    ),
    servers((url = "/", description = "This service")),
)]
struct Description;

/// The description of the API under these settings, which name the cookies.
pub fn openapi(settings: &HttpSettings) -> OpenApi {
    let mut description = Description::openapi();
    CredentialSchemes(settings).modify(&mut description);
    let text = description.info.description.get_or_insert_default();
    text.push_str("\n\n## Errors\n\n");
    text.push_str(&error_reference());
    text.push_str("\n\n## Why sessions end\n\n");
    text.push_str(&end_reason_reference());
    description
}

/// The three things that prove who calls.
struct CredentialSchemes<'s>(&'s HttpSettings);

impl Modify for CredentialSchemes<'_> {
    fn modify(&self, description: &mut OpenApi) {
        let key = |name: &str, description: &str| {
            ApiKeyValue::with_description(&name.to_owned(), &description.to_owned())
        };
        let cookie = key(
            &self.0.cookies.refresh_name,
            "The refresh token, in a cookie that scripts cannot read.",
        );
        let header = key("X-CSRFToken", "The CSRF token of the same session.");
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("The access token, kept in the page's memory."))
            .build();
        let feed = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "What resource servers show, if `revocations.token` is set.",
            ))
            .build();
        let schemes = [
            ("accessToken", SecurityScheme::Http(bearer)),
            ("feedToken", SecurityScheme::Http(feed)),
            (
                "refreshCookie",
                SecurityScheme::ApiKey(ApiKey::Cookie(cookie)),
            ),
            ("csrfToken", SecurityScheme::ApiKey(ApiKey::Header(header))),
        ];
        let components = description.components.get_or_insert_with(Components::new);
        for (name, scheme) in schemes {
            components.add_security_scheme(name, scheme);
        }
    }
}

pub(crate) async fn openapi_json(State(state): State<Arc<AppState>>) -> impl IntoResponse {
    let text = state.openapi.get_or_init(|| {
        let description = openapi(&state.settings);
        serde_json::to_vec(&description)
            .expect("the description serialises")
            .into()
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text.clone())
}
