//! What is known of a request before it is looked into: its id, and who calls.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use countersign_core::audit::Caller;
use countersign_core::clock::{Randomness as _, SystemRandomness};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tracing::Span;

use crate::notice::Notice;
use crate::settings::HttpSettings;

/// The most of a user agent that is kept.
const MAX_USER_AGENT_CHARACTERS: usize = 512;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// What is known of a request before it is looked into.
pub(crate) struct Surroundings {
    request_id: RequestId,
    /// Whether the request came through a proxy whose forwarded headers are believed.
    pub(crate) via_trusted_proxy: bool,
    /// Whether it came over TLS, which ended here or in such a proxy.
    pub(crate) by_https: bool,
    /// Who calls.
    pub(crate) caller: Caller,
}

impl Surroundings {
    pub(crate) fn of(settings: &HttpSettings, request: &Request) -> Self {
        let peer = peer(request);
        let via_trusted_proxy = peer.is_some_and(|peer| settings.trusts(peer));
        let headers = request.headers();
        let (address, told) = if via_trusted_proxy {
            (
                client_address(settings, headers).or(peer),
                headers.get(X_REQUEST_ID),
            )
        } else {
            (peer, None)
        };
        let request_id = told
            .and_then(RequestId::read)
            .unwrap_or_else(RequestId::generate);
        let user_agent = user_agent(headers);
        Self {
            via_trusted_proxy,
            by_https: settings.tls_ends_here || (via_trusted_proxy && forwarded_by_https(headers)),
            caller: Caller {
                address,
                user_agent,
                request_id: Some(request_id.as_str().to_owned()),
            },
            request_id,
        }
    }

    /// What ties the lines of the log to the request.
    pub(crate) fn span(&self) -> Span {
        let address = self.caller.address.map(tracing::field::display);
        tracing::info_span!("request", id = %self.request_id.as_str(), address)
    }

    /// Shows the request's id in its answer.
    pub(crate) fn mark(self, response: &mut Response) {
        let id = self.request_id.into_header();
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
}

/// Says loudly, and now and then, that somebody forwards requests who is not trusted. It is a proxy that was
/// not named, and then everybody behind it is one client to us; or somebody who tries to be another.
#[derive(Debug, Default)]
pub(crate) struct UntrustedForwards(Notice);

impl UntrustedForwards {
    /// Looks at a request that did not come through a trusted proxy.
    pub(crate) fn notice(&self, request: &Request) {
        let headers = request.headers();
        let Some(name) = [X_FORWARDED_FOR, FORWARDED, X_FORWARDED_PROTO]
            .into_iter()
            .find(|name| headers.contains_key(name))
        else {
            return;
        };
        if self.0.is_due() {
            let peer = peer(request).map(tracing::field::display);
            tracing::warn!(
                event = "forwarded_headers_ignored",
                peer,
                header = %name,
                "forwarded headers come from somebody who is not trusted, and are ignored; if that is \
                 your proxy, name it in server.trusted_proxies: until then everybody behind it is \
                 throttled as one client"
            );
        }
    }
}

/// Who has connected to us.
fn peer(request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map(|ConnectInfo(peer)| peer.ip().to_canonical())
}

/// Whether the trusted proxies say that the client used https. Several lines: one of them may be the
/// client's own, so none may say anything else.
fn forwarded_by_https(headers: &HeaderMap) -> bool {
    let mut protos = headers.get_all(X_FORWARDED_PROTO).iter().peekable();
    protos.peek().is_some() && protos.all(|proto| proto == "https")
}

/// The client's address as the trusted proxies tell it: from the right, the first that is not one of
/// them. `None` if what they say cannot be read.
fn client_address(settings: &HttpSettings, headers: &HeaderMap) -> Option<IpAddr> {
    let told = headers.get_all(X_FORWARDED_FOR).iter().rev();
    for header in told {
        for item in header.to_str().ok()?.rsplit(',') {
            let address = read_address(item.trim())?.to_canonical();
            if !settings.trusts(address) {
                return Some(address);
            }
        }
    }
    None
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:443`.
fn read_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.and_then(|bare| bare.parse().ok()).or_else(|| {
        text.parse::<SocketAddr>()
            .ok()
            .map(|with_port| with_port.ip())
    })
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(MAX_USER_AGENT_CHARACTERS).collect())
}

/// What ties an answer to the lines of the log: 32 hexadecimal digits, or what a trusted proxy gave.
#[derive(Debug, Clone)]
enum RequestId {
    Made([u8; 32]),
    Told(String),
}

impl RequestId {
    fn generate() -> Self {
        let mut random = [0_u8; 16];
        SystemRandomness.fill(&mut random);
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(random) {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        Self::Made(digits)
    }

    fn read(told: &HeaderValue) -> Option<Self> {
        let text = told.to_str().ok()?;
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        fits.then(|| Self::Told(text.to_owned()))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Made(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            Self::Told(text) => text,
        }
    }

    fn into_header(self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).expect("letters, digits, `-`, `_` and `.` only")
    }
}
