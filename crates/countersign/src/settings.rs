//! What the HTTP face needs to know of its surroundings.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use subtle::ConstantTimeEq as _;

use crate::cookies::CookieSettings;
use crate::origin::Origin;

/// What the HTTP face needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The origin under which clients reach the service.
    pub public_url: Origin,
    /// The pages, other than our own, that may call the API with credentials.
    pub allowed_origins: Vec<Origin>,
    /// Names and scope of the cookies.
    pub cookies: CookieSettings,
    /// Whether unsafe requests with an access token must also show the CSRF token.
    pub csrf_for_bearer: bool,
    /// The schemes accepted in `Authorization`, without regard to case.
    pub header_schemes: Vec<String>,
    /// The proxies whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether TLS ends in this process, so that every request has come over it.
    pub tls_ends_here: bool,
    /// What the revocation feed is given for only; `None`: it is for everybody, like the public keys.
    pub revocations_token: Option<FeedToken>,
    /// How refresh tokens of a Django site come, where the use cases exchange them
    /// ([`AuthSettings::legacy_tokens`](countersign_core::auth::AuthSettings::legacy_tokens)); `None`:
    /// they are not looked for.
    pub legacy: Option<LegacyTransport>,
    /// What the bodies of all requests that are on their way or being answered may take in memory together,
    /// in bytes, their heads counted in: beyond that whoever comes with a body is answered 503.
    pub body_memory: usize,
}

/// Some sixteen thousand sign-ins at a time, or eight hundred of the longest bodies: more than one process
/// answers, and little enough for the smallest machines.
const BODY_MEMORY: usize = 64 * 1024 * 1024;

/// How refresh tokens of a Django site come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyTransport {
    /// The cookie that holds one.
    pub cookie: String,
    /// Whether one may also come as `refresh` in the body of a refresh, as simplejwt's clients send it.
    pub in_body: bool,
}

/// What resource servers show for the revocation feed. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct FeedToken(String);

impl FeedToken {
    /// Takes what an operator gave.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether this is the one. Constant time.
    pub(crate) fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl fmt::Debug for FeedToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FeedToken(redacted)")
    }
}

impl HttpSettings {
    /// What fits a service at this URL, with everything else by default.
    pub fn new(public_url: Origin) -> Self {
        Self {
            cookies: CookieSettings::for_https(public_url.is_https()),
            public_url,
            allowed_origins: Vec::new(),
            csrf_for_bearer: true,
            header_schemes: vec!["Bearer".to_owned()],
            trusted_proxies: Vec::new(),
            tls_ends_here: false,
            revocations_token: None,
            legacy: None,
            body_memory: BODY_MEMORY,
        }
    }

    /// Development is recognised, never declared: plain http on a loopback address.
    pub fn is_development(&self) -> bool {
        !self.public_url.is_https() && self.public_url.is_loopback()
    }

    /// Whether pages of this origin may call with credentials. Compared byte for byte.
    pub(crate) fn lists(&self, origin: &[u8]) -> bool {
        self.allowed_origins
            .iter()
            .any(|allowed| allowed.as_str().as_bytes() == origin)
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&peer))
    }
}
