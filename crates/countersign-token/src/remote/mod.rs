//! Follow an issuer: its keys and its revocations, without a network call per request.
//!
//! A [`RemoteVerifier`] fetches the issuer's JWKS and its [revocation feed](crate::revocation) when
//! it starts, and two tasks keep following both. [`verify`](RemoteVerifier::verify) then asks only
//! memory. A session that ends at the issuer is refused here within a second.
//!
//! ```no_run
//! use countersign_token::remote::RemoteVerifier;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = RemoteVerifier::builder("https://auth.example.com")
//!     .audience("https://api.example.com")
//!     .start()
//!     .await?;
//!
//! # let bearer = "";
//! // For each request; clones of `verifier` share what they know.
//! match verifier.verify(bearer) {
//!     Ok(token) => println!("This is user {}.", token.user_id),
//!     Err(refused) => println!("{} {}: {refused}", refused.status(), refused.code()),
//! }
//!
//! // For the service's own health endpoint.
//! let health = verifier.health();
//! if health.is_refusing {
//!     println!("The issuer is silent: {:?}", health.revocations.failing);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # When the issuer is silent
//!
//! Keys once fetched are used until the issuer publishes others, so tokens can be verified while the
//! issuer is down. What cannot be known then is which sessions have ended. When the feed has not
//! been heard for [`unreachable_after`](RemoteVerifierBuilder::unreachable_after) it counts as lost,
//! and [`WhenUnreachable`] says what happens:
//!
//! | | a token that verifies | an ended session is accepted |
//! |---|---|---|
//! | [`Refuse`](WhenUnreachable::Refuse) (default) | 503 `revocations_unknown` until the feed is back | for at most `unreachable_after` |
//! | [`KeepUntilExpiry`](WhenUnreachable::KeepUntilExpiry) | accepted | until its access token expires, minutes at most |
//!
//! What was heard to have ended before stays refused in both.
//!
//! # What is asked of the issuer
//!
//! * `{issuer}/.well-known/revocations`: one request at a time that waits up to 25 s for a change
//!   (`?wait=25`), with `If-None-Match`. An issuer that does not wait is asked twice a second.
//! * `{issuer}/.well-known/jwks.json`: every five minutes, or as `max-age` says if that is less, and
//!   when a token names an unknown key, but in no case twice within a minute (the fetch at the start
//!   aside). A set that [`JsonWebKeySet::parse`] refuses is refused whole and the old keys stay.
//!
//! Answers are bounded in time and size. Redirects are not followed, nothing is decompressed, and
//! `http://` is for loopback only. Proxies are not used. TLS trusts the system's certificates, or
//! those given by [`root_certificates_pem`](RemoteVerifierBuilder::root_certificates_pem).
//!
//! # What the feature adds
//!
//! `tokio` (the runtime that the tasks run on), `hyper`, `hyper-util` and `http-body-util` (HTTP/1.1,
//! client only), `tokio-rustls` on aws-lc-rs (TLS), `rustls-native-certs` (the system's trust).
//!
//! [`JsonWebKeySet::parse`]: crate::JsonWebKeySet::parse

mod address;
mod client;
mod follow;
mod line;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

pub use self::address::AddressError;
pub use self::client::FetchError;
pub use self::line::{Failing, LineHealth};

use self::address::Address;
use self::client::{AbortWhenDropped, Client};
use self::follow::{FeedFollower, Followed, KeysFollower};
use self::line::Line;
use crate::{Invalid, VerifiedToken, Verifier, VerifierBuilder, VerifyError};

/// How long the feed may be silent when nothing else is set.
const DEFAULT_UNREACHABLE_AFTER: Duration = Duration::from_secs(30);

/// The feed cannot be lost sooner: a question that waits needs time to be answered.
const MIN_UNREACHABLE_AFTER: Duration = Duration::from_secs(2);

/// The longest that an issuer waits for a change before it answers.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// How long the issuer may take when nothing else is set.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens to tokens that verify while the feed is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenUnreachable {
    /// They are refused with [`RemoteVerifyError::RevocationsUnknown`]. No session that ended is
    /// accepted for longer than `unreachable_after`; the service depends on the issuer.
    #[default]
    Refuse,
    /// They are accepted until they expire. The service goes on without the issuer; a session that
    /// ends meanwhile is accepted until its access token expires.
    KeepUntilExpiry,
}

/// A token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteVerifyError {
    /// Because of the token itself: the caller's affair, 401.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The token verifies, but its session may have ended: the feed is lost. The caller may try
    /// again, 503.
    #[error("Whether the session has ended cannot be told at the moment. Try again shortly.")]
    RevocationsUnknown,
}

impl RemoteVerifyError {
    /// The stable word for programs: `revocations_unknown`, or as [`VerifyError::code`].
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Token(refused) => refused.code(),
            Self::RevocationsUnknown => "revocations_unknown",
        }
    }

    /// The stable word for logs, as [`VerifyError::reason`].
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Token(refused) => refused.reason(),
            Self::RevocationsUnknown => "revocations_unknown",
        }
    }

    /// The status of an answer that says so: 401 or 503.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Token(_) => 401,
            Self::RevocationsUnknown => 503,
        }
    }
}

/// Why a verifier cannot start. The display says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address is not taken.
    #[error("The address `{url}` {why}.")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: AddressError,
    },
    /// The feed token cannot be sent.
    #[error("The feed token has characters in it that no HTTP header can carry.")]
    FeedToken,
    /// No certificate to trust.
    #[error(
        "There are no root certificates to trust the issuer by: {0}. Install those of the system \
         (often the package `ca-certificates`) or name one with `root_certificates_pem`."
    )]
    RootCertificates(String),
    /// The keys cannot be had, and without them no token can be verified.
    #[error(
        "The keys cannot be fetched from {url}. {why} See that the issuer runs and that this is \
         its address, then start again."
    )]
    Keys {
        /// Where they should be.
        url: String,
        /// Why they cannot be had.
        why: FetchError,
    },
    /// The issuer publishes keys, but none that verifies tokens.
    #[error(
        "{url} names no key of ES256 or Ed25519 with a kid. An issuer that signs with a shared \
         secret (HS256) publishes none: give that to a `Verifier` instead."
    )]
    NoKeys {
        /// Where the set is.
        url: String,
    },
}

/// How well the issuer is heard: see [`RemoteVerifier::health`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// How the keys were last heard of. They stay in use however long that is ago.
    pub keys: LineHealth,
    /// How the revocation feed was last heard of.
    pub revocations: LineHealth,
    /// Whether the feed is lost: it has not been heard for `unreachable_after`, or never.
    pub is_feed_lost: bool,
    /// Whether tokens that verify are refused for that, as [`WhenUnreachable::Refuse`] wants it.
    pub is_refusing: bool,
}

/// Verifies tokens of an issuer that it follows. Clones share everything; when the last one is
/// dropped, the following ends.
///
/// It follows on the runtime that it was started on. If that ends before, the feed is lost, and what
/// [`WhenUnreachable`] says happens.
#[derive(Clone)]
pub struct RemoteVerifier(Arc<Following>);

struct Following {
    followed: Arc<Followed>,
    when_unreachable: WhenUnreachable,
    unreachable_after: Duration,
    timeout: Duration,
    _followers: [AbortWhenDropped; 2],
}

impl RemoteVerifier {
    /// Starts to build a verifier of the tokens of `issuer`: its URL, compared byte for byte with
    /// `iss`. What it publishes is looked for under this URL, or where
    /// [`base_url`](RemoteVerifierBuilder::base_url) says.
    pub fn builder(issuer: impl Into<String>) -> RemoteVerifierBuilder {
        let issuer = issuer.into();
        RemoteVerifierBuilder {
            base_url: issuer.clone(),
            verifier: Verifier::builder(issuer),
            jwks_uri: None,
            revocations_uri: None,
            feed_token: None,
            when_unreachable: WhenUnreachable::default(),
            unreachable_after: DEFAULT_UNREACHABLE_AFTER,
            timeout: DEFAULT_TIMEOUT,
            root_certificates_pem: None,
            allow_http: false,
        }
    }

    /// Verifies `token` at the time of the system's clock, as [`Verifier::verify`]. Never waits, not
    /// even for a key that is not known: that is fetched soon, and until then the token is refused.
    ///
    /// # Errors
    ///
    /// [`RemoteVerifyError::Token`], and for tokens that verify
    /// [`RemoteVerifyError::RevocationsUnknown`] while the feed is lost.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, RemoteVerifyError> {
        let following = &*self.0;
        let verified = following.followed.verifier.verify(token);
        if verified == Err(Invalid::UnknownKid.into()) {
            following.followed.keys_wanted.notify_one();
        }
        let token = verified?;
        if following.when_unreachable == WhenUnreachable::Refuse && following.is_feed_lost() {
            return Err(RemoteVerifyError::RevocationsUnknown);
        }
        Ok(token)
    }

    /// As [`verify`](Self::verify), but waits for the issuer if `token` names a key that is not
    /// known and the keys may be fetched now: at most once a minute, for all callers together.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub async fn verify_awaiting_keys(
        &self,
        token: &str,
    ) -> Result<VerifiedToken, RemoteVerifyError> {
        let mut fetches = self.0.followed.keys_next.subscribe();
        let may_fetch = *fetches.borrow() <= Instant::now();
        let verified = self.verify(token);
        let is_unknown = verified == Err(VerifyError::from(Invalid::UnknownKid).into());
        if !is_unknown || !may_fetch {
            return verified;
        }
        // To connect and to answer may each take so long. More only if the follower is gone.
        let _ = timeout(self.0.timeout.saturating_mul(2), fetches.changed()).await;
        self.verify(token)
    }

    /// How well the issuer is heard.
    pub fn health(&self) -> Health {
        let following = &*self.0;
        let is_feed_lost = following.is_feed_lost();
        Health {
            keys: following.followed.keys.health(),
            revocations: following.followed.feed.health(),
            is_feed_lost,
            is_refusing: is_feed_lost && following.when_unreachable == WhenUnreachable::Refuse,
        }
    }
}

impl Following {
    fn is_feed_lost(&self) -> bool {
        self.followed
            .feed
            .heard_ago()
            .is_none_or(|silence| silence > self.unreachable_after)
    }
}

impl fmt::Debug for RemoteVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RemoteVerifier")
            .field("verifier", &self.0.followed.verifier)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// What a [`RemoteVerifier`] is built from; see [`RemoteVerifier::builder`].
#[derive(Clone)]
#[must_use = "nothing is followed until `start` is called"]
pub struct RemoteVerifierBuilder {
    verifier: VerifierBuilder,
    base_url: String,
    jwks_uri: Option<String>,
    revocations_uri: Option<String>,
    feed_token: Option<String>,
    when_unreachable: WhenUnreachable,
    unreachable_after: Duration,
    timeout: Duration,
    root_certificates_pem: Option<Vec<u8>>,
    allow_http: bool,
}

impl RemoteVerifierBuilder {
    /// Accepts tokens for `audience`, as [`VerifierBuilder::audience`].
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.verifier = self.verifier.audience(audience);
        self
    }

    /// How far clocks may differ, as [`VerifierBuilder::leeway`]. Default: 10 s.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.verifier = self.verifier.leeway(leeway);
        self
    }

    /// How many accepted tokens are remembered, as [`VerifierBuilder::cache_capacity`]. Default:
    /// 4,096.
    pub fn cache_capacity(mut self, tokens: usize) -> Self {
        self.verifier = self.verifier.cache_capacity(tokens);
        self
    }

    /// The URL under which `/.well-known/jwks.json` and `/.well-known/revocations` are found, where
    /// it is not the issuer's: behind a path (`https://example.com/users`), or in an internal
    /// network. Default: the issuer.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Where the keys are. Default: `/.well-known/jwks.json` under the base URL.
    pub fn jwks_uri(mut self, url: impl Into<String>) -> Self {
        self.jwks_uri = Some(url.into());
        self
    }

    /// Where the revocation feed is. Default: `/.well-known/revocations` under the base URL.
    pub fn revocations_uri(mut self, url: impl Into<String>) -> Self {
        self.revocations_uri = Some(url.into());
        self
    }

    /// The bearer token that the issuer wants to see from those who follow its feed. It is sent with
    /// nothing else. Default: none.
    pub fn feed_token(mut self, token: impl Into<String>) -> Self {
        self.feed_token = Some(token.into());
        self
    }

    /// What happens to tokens that verify while the feed is lost. Default:
    /// [`WhenUnreachable::Refuse`].
    pub const fn when_unreachable(mut self, policy: WhenUnreachable) -> Self {
        self.when_unreachable = policy;
        self
    }

    /// How long the feed may be silent before it counts as lost; at least 2 s. Default: 30 s. With
    /// less, the issuer is asked to wait less before it answers, and so is asked more often.
    pub fn unreachable_after(mut self, silence: Duration) -> Self {
        self.unreachable_after = silence.max(MIN_UNREACHABLE_AFTER);
        self
    }

    /// How long the issuer may take to accept a connection, and how long to answer whole, besides a
    /// wait that it was asked for. Default: 5 s.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Trusts these certificates (PEM, one or more) instead of the system's.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates_pem = Some(pem.into());
        self
    }

    /// Lets `http://` addresses lead to other machines. Whoever is on the way can then replace the
    /// keys, and so sign tokens for any user. For networks where nobody else is.
    pub const fn dangerous_allow_http(mut self) -> Self {
        self.allow_http = true;
        self
    }

    /// Fetches the keys and the revocations, and begins to follow both.
    ///
    /// A feed that cannot be had is no error: [`RemoteVerifier::health`] tells, and
    /// [`when_unreachable`](Self::when_unreachable) applies until it can.
    ///
    /// # Errors
    ///
    /// [`StartError`] for settings that cannot be used, and if the keys cannot be fetched.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without I/O and time.
    pub async fn start(self) -> Result<RemoteVerifier, StartError> {
        let jwks_url = self.url(self.jwks_uri.as_ref(), "jwks.json");
        let revocations_url = self.url(self.revocations_uri.as_ref(), "revocations");
        let jwks_address = self.address(&jwks_url)?;
        let revocations_address = self.address(&revocations_url)?;
        let authorization = self.authorization()?;
        let tls = if jwks_address.is_secure || revocations_address.is_secure {
            Some(self.tls()?)
        } else {
            None
        };
        let client = |address: Address, authorization| {
            let tls = tls.clone().filter(|_| address.is_secure);
            Client::new(address, tls, authorization, self.timeout)
        };
        let mut keys = KeysFollower::new(client(jwks_address, None));
        let mut feed = FeedFollower::new(client(revocations_address, authorization));

        let followed = Arc::new(Followed {
            verifier: self.verifier.build(),
            keys: Line::open(),
            feed: Line::open(),
            keys_wanted: Notify::new(),
            keys_next: watch::Sender::new(Instant::now()),
        });
        let usable_for = match keys.fetch(&followed).await {
            Ok(usable_for) if keys.has_keys() => usable_for,
            Ok(_) => return Err(StartError::NoKeys { url: jwks_url }),
            Err(why) => return Err(StartError::Keys { url: jwks_url, why }),
        };
        // If it fails, the follower goes on trying.
        let _ = feed.fetch(&followed, None).await;

        let wait = wait_seconds(self.unreachable_after);
        let followers = [
            tokio::spawn(keys.follow(Arc::clone(&followed), usable_for)),
            tokio::spawn(feed.follow(Arc::clone(&followed), wait)),
        ];
        Ok(RemoteVerifier(Arc::new(Following {
            followed,
            when_unreachable: self.when_unreachable,
            unreachable_after: self.unreachable_after,
            timeout: self.timeout,
            _followers: followers.map(AbortWhenDropped),
        })))
    }

    fn url(&self, set: Option<&String>, name: &str) -> String {
        set.cloned().unwrap_or_else(|| {
            let base = self.base_url.trim_end_matches('/');
            format!("{base}/.well-known/{name}")
        })
    }

    fn address(&self, url: &str) -> Result<Address, StartError> {
        Address::parse(url, self.allow_http).map_err(|why| StartError::Address {
            url: url.to_owned(),
            why,
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, StartError> {
        let Some(token) = &self.feed_token else {
            return Ok(None);
        };
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| StartError::FeedToken)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn tls(&self) -> Result<TlsConnector, StartError> {
        let unusable = |error: &dyn fmt::Display| StartError::RootCertificates(error.to_string());
        let mut roots = RootCertStore::empty();
        if let Some(pem) = &self.root_certificates_pem {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
        } else {
            // Systems carry a few that nobody can read; the others do.
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            if let Some(error) = system.errors.first().filter(|_| roots.is_empty()) {
                return Err(unusable(error));
            }
        }
        if roots.is_empty() {
            return Err(unusable(&"none was found"));
        }
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl fmt::Debug for RemoteVerifierBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the feed token.
        formatter
            .debug_struct("RemoteVerifierBuilder")
            .field("verifier", &self.verifier)
            .field("base_url", &self.base_url)
            .field("when_unreachable", &self.when_unreachable)
            .field("unreachable_after", &self.unreachable_after)
            .finish_non_exhaustive()
    }
}

/// How long the issuer is asked to wait, so that its answer is here before its silence counts.
fn wait_seconds(unreachable_after: Duration) -> u64 {
    (unreachable_after * 5 / 6).min(MAX_WAIT).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_before_the_feed_counts_as_lost() {
        let seconds = Duration::from_secs;
        assert_eq!(wait_seconds(DEFAULT_UNREACHABLE_AFTER), 25);
        assert_eq!(wait_seconds(seconds(600)), 25);
        assert_eq!(wait_seconds(seconds(6)), 5);
        assert_eq!(wait_seconds(MIN_UNREACHABLE_AFTER), 1);
    }

    #[test]
    fn debug_shows_nothing_of_the_feed_token() {
        let builder = RemoteVerifier::builder("https://auth.test").feed_token("hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
    }
}
