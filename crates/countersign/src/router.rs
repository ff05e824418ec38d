//! Every route on one page. What surrounds them is in [`layers`](crate::layers).

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};

use crate::api::{
    csrf, email, health, login, logout, metrics, password, refresh, register, reset_password,
    revocations, sessions, user, well_known,
};
use crate::state::AppState;
use crate::{account_pages, api_page, error, layers, openapi};

/// What clients and people reach.
pub(crate) fn public(state: Arc<AppState>) -> Router {
    Router::new()
        .route("/users/login", post(login::login))
        .route("/users/refresh_token", post(refresh::refresh))
        .route("/users/logout", post(logout::logout))
        .route("/users/csrf", get(csrf::csrf))
        .route("/users/user", get(user::get_user).patch(user::update_user))
        .route("/users/password", post(password::change_password))
        .route(
            "/users/password/reset",
            post(reset_password::ask_password_reset),
        )
        .route(
            "/users/password/reset/confirm",
            post(reset_password::reset_password),
        )
        .route("/users/register", post(register::register))
        .route("/users/email", post(email::change_email))
        .route("/users/email/verify", post(email::verify_email))
        .route("/users/email/verify/resend", post(email::ask_verification))
        .route("/users/sessions", get(sessions::list_sessions))
        .route("/users/sessions/{id}", delete(sessions::end_session))
        .route("/.well-known/jwks.json", get(well_known::json_web_key_set))
        .route(
            "/.well-known/oauth-authorization-server",
            get(well_known::authorization_server_metadata),
        )
        .route("/.well-known/revocations", get(revocations::revocations))
        .route("/openapi.json", get(openapi::openapi_json))
        .route("/", get(api_page::home))
        .route("/docs", get(api_page::page))
        .route("/docs/page.css", get(api_page::style))
        .route("/docs/page.js", get(api_page::script))
        .route(
            account_pages::RESET_PASSWORD_PAGE,
            get(account_pages::reset_password),
        )
        .route(
            account_pages::VERIFY_EMAIL_PAGE,
            get(account_pages::verify_email),
        )
        .route("/account/page.css", get(account_pages::style))
        .route("/account/page.js", get(account_pages::script))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&state), layers::onion))
        .with_state(state)
}

/// What only the operator reaches.
pub(crate) fn operations(state: Arc<AppState>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(from_fn(layers::operations_onion))
        .with_state(state)
}
