//! Cross-origin resource sharing (the Fetch standard): which pages may read our answers.
//!
//! Listed origins, byte for byte, with credentials. Others are told nothing at all.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::error::ApiError;
use crate::settings::HttpSettings;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, x-csrftoken");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("retry-after, www-authenticate, x-request-id");
/// Ten minutes: long enough to spare most preflights, short enough that a changed list is felt.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The one origin of a request, if it is listed.
pub(crate) fn listed_origin(settings: &HttpSettings, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins
        .next()
        .filter(|origin| settings.lists(origin.as_bytes()))?;
    origins.next().is_none().then(|| origin.clone())
}

/// Answers a preflight; `None` if the request is none.
pub(crate) fn preflight(
    method: &Method,
    headers: &HeaderMap,
    origin: Option<&HeaderValue>,
) -> Option<Response> {
    if *method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = if origin.is_some() {
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        ];
        (StatusCode::NO_CONTENT, allowed).into_response()
    } else {
        ApiError::OriginDenied.into_response()
    };
    let vary = "access-control-request-method, access-control-request-headers";
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static(vary));
    Some(response)
}

/// Says who may read an answer. `Vary` says that this depends on who asks, whoever asks.
pub(crate) fn mark(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
