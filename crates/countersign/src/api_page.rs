//! The API page at `/docs`: every call, to be tried by hand in the browser. Works offline.

use axum::extract::Request;
use axum::http::{HeaderName, Method, header};
use axum::response::{IntoResponse, Redirect, Response};

/// The operations that people who open a path in a browser are led to; a path that ends in a slash
/// stands for those below it.
const OPERATIONS: [(&str, &str); 14] = [
    ("/users/login", "login"),
    ("/users/refresh_token", "refresh"),
    ("/users/logout", "logout"),
    ("/users/csrf", "csrf"),
    ("/users/user", "getUser"),
    ("/users/password", "changePassword"),
    ("/users/password/reset", "askPasswordReset"),
    ("/users/password/reset/confirm", "resetPassword"),
    ("/users/register", "register"),
    ("/users/email", "changeEmail"),
    ("/users/email/verify", "verifyEmail"),
    ("/users/email/verify/resend", "askVerification"),
    ("/users/sessions", "listSessions"),
    ("/users/sessions/", "endSession"),
];

/// Scripts and styles of our own, answers of our own, nothing else.
pub(crate) const POLICY: (HeaderName, &str) = (
    header::CONTENT_SECURITY_POLICY,
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'",
);

pub(crate) fn asset(media_type: &'static str, text: &'static str) -> Response {
    let cache = (header::CACHE_CONTROL, "no-cache");
    ([(header::CONTENT_TYPE, media_type), POLICY, cache], text).into_response()
}

pub(crate) async fn home() -> Redirect {
    Redirect::to("/docs")
}

pub(crate) async fn page() -> Response {
    asset(
        "text/html; charset=utf-8",
        include_str!("api_page/page.html"),
    )
}

pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("api_page/page.css"))
}

pub(crate) async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("api_page/page.js"),
    )
}

/// Leads a person who opened an API path in a browser to that operation on the API page.
pub(crate) fn lead(request: &Request) -> Option<Response> {
    if *request.method() != Method::GET {
        return None;
    }
    let accept = request.headers().get(header::ACCEPT)?.to_str().ok()?;
    if !accept
        .split(',')
        .any(|part| part.trim().split(';').next() == Some("text/html"))
    {
        return None;
    }
    let path = request.uri().path();
    let is_of = |known: &str| path == known || (known.ends_with('/') && path.starts_with(known));
    let (_, operation) = OPERATIONS.iter().find(|(known, _)| is_of(known))?;
    let mut response = Redirect::to(&format!("/docs?from=browser#{operation}")).into_response();
    response
        .headers_mut()
        .append(header::VARY, header::HeaderValue::from_static("accept"));
    Some(response)
}
