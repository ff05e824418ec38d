//! Bodies: received whole before anything else is done with a request, bounded in size and time; and in
//! what all of them together take in memory.
//!
//! A request that is refused before its body has arrived would leave the body's bytes on the
//! connection, which then can only be closed under the client's next request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::error::ApiError;
use crate::notice::Notice;

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request takes while its body arrives, beside its head and the body: roughly what the task that
/// waits for it measures.
const REQUEST_BYTES: usize = 4 * 1024;

/// What a request may take in all even when those that take more have filled their share: a sign-in with
/// the longest password and a long head fits.
const MODEST_BYTES: usize = 16 * 1024;

/// What the bodies of all requests, with their heads, may take in memory at a time.
///
/// A body may be 64 KiB and take ten seconds, and there may be thousands of connections: slow ones on
/// purpose would take any memory. Those that take much may together have three quarters of it, so that
/// they do not keep sign-ins out, which take little.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    most: usize,
    held: AtomicUsize,
    notice: Notice,
}

impl BodyMemory {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            held: AtomicUsize::new(0),
            notice: Notice::default(),
        }
    }

    fn hold(&self) -> Held<'_> {
        Held {
            memory: self,
            bytes: 0,
        }
    }
}

/// What one request holds of it; dropped, it is free again.
#[must_use = "what is not held is not counted"]
#[derive(Debug)]
pub(crate) struct Held<'a> {
    memory: &'a BodyMemory,
    bytes: usize,
}

impl Held<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let most = if self.bytes + bytes > MODEST_BYTES {
            self.memory.most / 4 * 3
        } else {
            self.memory.most
        };
        let grown = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        let held = &self.memory.held;
        match held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(held) => {
                if self.memory.notice.is_due() {
                    tracing::warn!(
                        event = "bodies_refused",
                        held,
                        "bodies that are on their way take as much memory as they may"
                    );
                }
                Err(ApiError::TooManyBodies)
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Receives the body into memory, which is held until the request has been answered.
///
/// # Errors
/// The answer for a body that is too large, too slow, breaks off, or for which there is no memory. It ends
/// the connection, on which the rest of the body would stand in the way.
pub(crate) async fn receive(
    request: Request,
    memory: &BodyMemory,
) -> Result<(Request, Held<'_>), Response> {
    let is_too_large = is_announced_too_large(request.headers());
    let mut held = memory.hold();
    if request.body().is_end_stream() && !is_too_large {
        return Ok((request, held));
    }
    let (parts, body) = request.into_parts();
    let received = if is_too_large {
        Err(ApiError::PayloadTooLarge)
    } else {
        match held.grow(REQUEST_BYTES + bytes_of(&parts.headers)) {
            Ok(()) => collect(body, &mut held).await,
            Err(refused) => Err(refused),
        }
    };
    match received {
        Ok(body) => Ok((Request::from_parts(parts, body), held)),
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

fn bytes_of(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

fn is_announced_too_large(headers: &HeaderMap) -> bool {
    let announced = headers.get(header::CONTENT_LENGTH);
    let bytes: Option<usize> = announced
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse().ok());
    bytes.is_some_and(|bytes| bytes > MAX_BODY_BYTES)
}

async fn collect(body: Body, held: &mut Held<'_>) -> Result<Body, ApiError> {
    match tokio::time::timeout(BODY_TIMEOUT, collect_all(body, held)).await {
        Ok(collected) => collected,
        Err(_elapsed) => Err(ApiError::RequestTimeout),
    }
}

async fn collect_all(mut body: Body, held: &mut Held<'_>) -> Result<Body, ApiError> {
    // Copied: a piece is a part of what the connection has read, and would keep all of that.
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::malformed("The body broke off."))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if collected.len() + piece.len() > MAX_BODY_BYTES {
            return Err(ApiError::PayloadTooLarge);
        }
        held.grow(piece.len())?;
        collected.extend_from_slice(&piece);
    }
    Ok(Body::from(collected.freeze()))
}
