//! Which hosts the demo's own pages answer to: a name of somebody else's that leads to this machine
//! (DNS rebinding) must not make them that somebody's.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};

/// The host that a request names, if it is one and text.
pub(super) fn of(request: &Request) -> Option<&str> {
    request.headers().get(header::HOST)?.to_str().ok()
}

/// What somebody else's name is answered.
pub(super) fn misdirected() -> Response {
    let words = "This page has another address.\n";
    (StatusCode::MISDIRECTED_REQUEST, words).into_response()
}

/// Leads to where the page is.
pub(super) fn lead(origin: &str) -> Response {
    Redirect::temporary(&format!("{origin}/")).into_response()
}

/// Whether this is `localhost` or its addresses, on this port.
pub(super) fn is_this_machine(host: &str, port: u16) -> bool {
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|name| host == format!("{name}:{port}"))
}
