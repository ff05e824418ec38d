//! The pages that the links of letters lead to, where an app has none of its own.
//!
//! The token is behind the `#`, which browsers send to nobody: these pages are the same for everybody, and
//! their script shows the token to the API.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api_page::{POLICY, asset};

/// Where a new password is set, behind the public URL.
pub const RESET_PASSWORD_PAGE: &str = "/account/reset-password";

/// Where an address is proven, behind the public URL.
pub const VERIFY_EMAIL_PAGE: &str = "/account/verify-email";

/// Kept by nobody, though there is nothing of anybody in it: whoever goes back finds no page that knows a
/// token.
fn page(text: &'static str) -> Response {
    let media_type = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    let cache = (header::CACHE_CONTROL, "no-store");
    ([media_type, POLICY, cache], text).into_response()
}

pub(crate) async fn reset_password() -> Response {
    page(include_str!("account_pages/reset-password.html"))
}

pub(crate) async fn verify_email() -> Response {
    page(include_str!("account_pages/verify-email.html"))
}

pub(crate) async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        include_str!("account_pages/page.css"),
    )
}

pub(crate) async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("account_pages/page.js"),
    )
}
