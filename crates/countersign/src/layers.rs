//! The onion on one page: what happens around every handler, from the outside in.
//!
//! 1. a request id, and who calls;
//! 2. the body is received, whole and bounded;
//! 3. host, https, origin: is the request for us, did it come the way it must, may this page ask;
//! 4. CORS preflights, and people who open an API path in a browser, are answered;
//! 5. panics become 500, and what takes too long 503;
//! 6. the handler;
//! 7. CORS and security headers, and the request id, on whatever came out, which is counted.
//!
//! One layer of our own does all this: seven general ones cost a third of the requests per second.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, header};
use tracing::Instrument as _;

use crate::error::ApiError;
use crate::state::AppState;
use crate::surroundings::Surroundings;
use crate::{admission, api_page, body, cors};

/// How long a request may take from its head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything around the public routes.
pub(crate) async fn onion(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let settings = &state.settings;
    let surroundings = Surroundings::of(settings, &request);
    if !surroundings.via_trusted_proxy {
        state.untrusted_forwards.notice(&request);
    }
    let listed = cors::listed_origin(settings, request.headers());
    let span = surroundings.span();
    let mut response = inside(&state, &surroundings, listed.as_ref(), request, next)
        .instrument(span)
        .await;
    cors::mark(&mut response, listed);
    secure(&mut response, surroundings.by_https);
    surroundings.mark(&mut response);
    let route = route.as_ref().map(MatchedPath::as_str);
    let took = began.elapsed();
    state.requests.note(route, &method, response.status(), took);
    response
}

/// What may answer, from the outside in.
async fn inside(
    state: &AppState,
    surroundings: &Surroundings,
    listed_origin: Option<&HeaderValue>,
    request: Request,
    next: Next,
) -> Response {
    let received = body::receive(request, &state.body_memory).await;
    let (mut request, _held) = match received {
        Ok(received) => received,
        Err(refused) => return refused,
    };
    let settings = &state.settings;
    if let Err(refused) = admission::admit(settings, surroundings, &request) {
        if matches!(refused, ApiError::OriginDenied) {
            state.auth.note_refused_origin(&surroundings.caller);
        }
        return refused.into_response();
    }
    let preflight = cors::preflight(request.method(), request.headers(), listed_origin);
    if let Some(elsewhere) = preflight.or_else(|| api_page::lead(&request)) {
        return elsewhere;
    }
    request.extensions_mut().insert(surroundings.caller.clone());
    answer(next.run(request)).await
}

/// Everything around the operator's routes.
pub(crate) async fn operations_onion(request: Request, next: Next) -> Response {
    let mut response = answer(next.run(request)).await;
    secure(&mut response, false);
    response
}

/// Runs the handler; a panic is a 500, not an outage.
async fn answer(handler: impl Future<Output = Response>) -> Response {
    let handler = AssertUnwindSafe(handler).catch_unwind();
    match tokio::time::timeout(REQUEST_TIMEOUT, handler).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panicked(&*panic),
        Err(_elapsed) => ApiError::TookTooLong.into_response(),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    // The message may quote anything; where it happened is logged by the process's panic hook.
    let kind = if panic.is::<String>() {
        "formatted"
    } else {
        "plain"
    };
    tracing::error!(event = "handler_panicked", kind);
    ApiError::Internal.into_response()
}

/// Headers that keep an answer from being cached, framed, sniffed or embedded.
fn secure(response: &mut Response, by_https: bool) {
    const ALWAYS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    const UNLESS_SET: [(HeaderName, &str); 2] = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in UNLESS_SET {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if by_https {
        let two_years = HeaderValue::from_static("max-age=63072000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, two_years);
    }
}
