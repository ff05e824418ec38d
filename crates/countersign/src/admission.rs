//! Which requests come in: for our host, the way they must come, from a page that may ask.

use axum::extract::Request;
use http::uri::{Authority, Uri};
use http::{HeaderMap, HeaderValue, Method, header};

use crate::error::ApiError;
use crate::origin::{host_of, is_host, is_loopback_host};
use crate::settings::HttpSettings;
use crate::surroundings::Surroundings;

/// Whether the request may go on to a handler.
pub(crate) fn admit(
    settings: &HttpSettings,
    surroundings: &Surroundings,
    request: &Request,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let authority = requested_host(request.uri(), headers)?;
    // A trusted proxy has chosen us; the host it names may be internal.
    if !surroundings.via_trusted_proxy && !is_own_host(settings, authority) {
        return Err(ApiError::MisdirectedRequest);
    }
    if settings.public_url.is_https() && !surroundings.by_https {
        return Err(ApiError::HttpsRequired);
    }
    check_origin(settings, request.method(), authority, headers)
}

/// The host a request is for: of its one `Host` header, or of HTTP/2's `:authority`.
///
/// # Errors
/// [`ApiError::Malformed`] if there is none, more than one, or one that cannot be.
fn requested_host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<&'r str, ApiError> {
    let refuse = || ApiError::malformed("Send exactly one valid Host header.");
    let mut hosts = headers.get_all(header::HOST).iter();
    let in_header = hosts
        .next()
        .map(|host| host.to_str().map_err(|_| refuse()))
        .transpose()?;
    if hosts.next().is_some() {
        return Err(refuse());
    }
    let in_target = uri.authority().map(Authority::as_str);
    let authority = match (in_header, in_target) {
        (Some(header), Some(target)) if header != target => return Err(refuse()),
        (Some(authority), _) | (None, Some(authority)) => authority,
        (None, None) => return Err(refuse()),
    };
    let parsed: Authority = authority.parse().map_err(|_| refuse())?;
    if authority.contains('@') || !is_host(parsed.host()) {
        return Err(refuse());
    }
    Ok(authority)
}

/// Whether the service answers to this host: as its public URL names it or, in development, as
/// anything that names this machine.
fn is_own_host(settings: &HttpSettings, authority: &str) -> bool {
    let public = &settings.public_url;
    let own_port = if public.is_https() { ":443" } else { ":80" };
    let shortest = authority.strip_suffix(own_port).unwrap_or(authority);
    shortest.eq_ignore_ascii_case(public.authority())
        || (settings.is_development() && is_loopback_host(host_of(authority)))
}

/// Refuses unsafe requests that a browser sends on behalf of a page that is neither ours nor listed.
///
/// Clients that send neither `Origin` nor `Sec-Fetch-Site` are no browsers and pass on to the check
/// of their credentials and CSRF token.
///
/// # Errors
/// [`ApiError::OriginDenied`].
fn check_origin(
    settings: &HttpSettings,
    method: &Method,
    authority: &str,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    if method.is_safe() && *method != Method::TRACE {
        return Ok(());
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().map(HeaderValue::as_bytes);
    let is_one = origins.next().is_none();
    let mut sites = headers
        .get_all("sec-fetch-site")
        .iter()
        .map(HeaderValue::as_bytes);
    let may_ask = match origin {
        Some(origin) if settings.lists(origin) => is_one,
        Some(origin) => {
            is_one && is_own(settings, authority, origin) && sites.all(|site| site != b"cross-site")
        }
        None => sites.all(|site| matches!(site, b"same-origin" | b"none")),
    };
    if may_ask {
        Ok(())
    } else {
        Err(ApiError::OriginDenied)
    }
}

/// Whether a page of this origin is our own: of the public URL or, in development, of the very host
/// that the request is for (which [`is_own_host`] has found to be this machine).
fn is_own(settings: &HttpSettings, authority: &str, origin: &[u8]) -> bool {
    origin == settings.public_url.as_str().as_bytes()
        || (settings.is_development()
            && origin.strip_prefix(b"http://") == Some(authority.as_bytes()))
}
