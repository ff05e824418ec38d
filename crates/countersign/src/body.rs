//! Bodies: received whole before anything else is done with a request, bounded in size and time.
//!
//! A request that is refused before its body has arrived would leave the body's bytes on the
//! connection, which then can only be closed under the client's next request.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Version, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::error::ApiError;

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Receives the body into memory.
///
/// # Errors
/// The answer for a body that is too large, too slow, or breaks off. It ends the connection, on which
/// the rest of the body would stand in the way.
pub(crate) async fn receive(request: Request) -> Result<Request, Response> {
    let is_too_large = is_announced_too_large(request.headers());
    if request.body().is_end_stream() && !is_too_large {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let received = if is_too_large {
        Err(ApiError::PayloadTooLarge)
    } else {
        collect(body).await
    };
    match received {
        Ok(body) => Ok(Request::from_parts(parts, body)),
        Err(error) => {
            let mut response = error.into_response();
            if parts.version < Version::HTTP_2 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Err(response)
        }
    }
}

fn is_announced_too_large(headers: &HeaderMap) -> bool {
    let announced = headers.get(header::CONTENT_LENGTH);
    let bytes: Option<usize> = announced
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok());
    bytes.is_some_and(|bytes| bytes > MAX_BODY_BYTES)
}

async fn collect(body: Body) -> Result<Body, ApiError> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(Body::from(body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::PayloadTooLarge),
        Ok(Err(_)) => Err(ApiError::malformed("The body broke off.")),
        Err(_elapsed) => Err(ApiError::RequestTimeout),
    }
}
