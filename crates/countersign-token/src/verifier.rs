//! The verifier: from a text that claims to be an access token to the proof that it is one.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;

use crate::claims::{ACCESS_TOKEN_TYPE, AccessClaims, ClaimsSet};
use crate::jws::{self, Header, Malformed, Segments};
use crate::revocation::RevocationList;
use crate::revoked::Revoked;
use crate::{Algorithm, UnixSeconds, VerifyingKey, base64url};

/// How far clocks may differ when nothing else is set: enough for hosts that keep time at all.
const DEFAULT_LEEWAY: Duration = Duration::from_secs(10);

/// How many verified tokens are remembered when nothing else is set: a few megabytes.
const DEFAULT_CACHE_CAPACITY: usize = 4096;

/// Longer tokens are verified anew each time, so that the memory of the cache is bounded by its
/// capacity and not by how much somebody writes into tokens.
const MAX_CACHED_TOKEN_BYTES: usize = 2 * 1024;

/// A token is not accepted. The display is a sentence for the person who sent it and tells no more
/// than the variant does; [`reason`](Self::reason) is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// This is not a token that can be read.
    #[error("The access token is malformed.")]
    Malformed(Malformed),
    /// A token, but not one for here.
    #[error("The access token is not valid.")]
    Invalid(Invalid),
    /// The token was valid until its `exp`.
    #[error("The access token has expired.")]
    Expired,
    /// The session of the token, or all earlier sessions of its user, ended before its `exp`.
    #[error("The session of the access token has ended.")]
    SessionEnded,
}

impl VerifyError {
    /// The stable word for programs: `token_malformed`, `token_invalid`, `token_expired` or
    /// `session_ended`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "token_malformed",
            Self::Invalid(_) => "token_invalid",
            Self::Expired => "token_expired",
            Self::SessionEnded => "session_ended",
        }
    }

    /// The stable word for logs, such as `signature` or `unknown_kid`. Not for whoever sent the
    /// token: it would tell a forger how far the forgery got.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed(malformed) => malformed.reason(),
            Self::Invalid(invalid) => invalid.reason(),
            Self::Expired => "expired",
            Self::SessionEnded => "session_ended",
        }
    }
}

impl From<Malformed> for VerifyError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Invalid> for VerifyError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Why a token that could be read is not accepted, in the order in which it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// The header names no key.
    NoKid,
    /// The header names a key that we do not have.
    UnknownKid,
    /// The header names a key that the issuer has revoked.
    RevokedKey,
    /// The header's algorithm is not that of the key.
    Algorithm,
    /// Not an access token.
    Type,
    /// The signature does not match.
    Signature,
    /// The claims are not those of an access token, or one has the wrong type.
    Claims,
    /// Issued by somebody else.
    Issuer,
    /// Issued for somebody else.
    Audience,
    /// Issued in the future, beyond the leeway.
    IssuedInFuture,
    /// Has a `nbf` in the future, beyond the leeway.
    NotYetValid,
}

impl Invalid {
    /// The stable word for logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoKid => "no_kid",
            Self::UnknownKid => "unknown_kid",
            Self::RevokedKey => "revoked_key",
            Self::Algorithm => "alg",
            Self::Type => "typ",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::IssuedInFuture => "issued_in_future",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}

/// The claims of a token that a [`Verifier`] has accepted. Only a verifier makes one: having it is
/// the proof.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedToken(Arc<AccessClaims>);

impl Deref for VerifiedToken {
    type Target = AccessClaims;

    fn deref(&self) -> &AccessClaims {
        &self.0
    }
}

/// Accepts or refuses access tokens. Built once, shared by all threads.
///
/// A token that was accepted is remembered, whole, and accepted again without its signature being
/// computed, until it expires, its session ends or the keys are replaced.
pub struct Verifier {
    issuer: String,
    audiences: Vec<String>,
    leeway: Duration,
    keys: RwLock<Arc<KeySet>>,
    /// The generation of `keys`; what was verified with another is not a hit.
    generation: AtomicU64,
    cache: Option<Cache<Box<str>, Verified>>,
    revoked: RwLock<Arc<Revoked>>,
    /// Whether `revoked` is worth a look.
    any_revoked: AtomicBool,
    /// Held by whoever makes the next `revoked`, so that readers need not wait meanwhile.
    revoking: Mutex<()>,
}

struct KeySet {
    keys: Vec<KnownKey>,
    generation: u64,
}

/// A key, and the beginnings of the tokens that our own signer makes with it: its header in
/// base64url. A token that begins so needs no reading of its header.
#[derive(Clone)]
struct KnownKey {
    key: VerifyingKey,
    usual_headers: Vec<String>,
}

/// What is remembered of an accepted token.
#[derive(Clone)]
struct Verified {
    token: VerifiedToken,
    not_before: Option<UnixSeconds>,
    generation: u64,
}

impl Verifier {
    /// Starts to build a verifier of the tokens of `issuer`, compared byte for byte with `iss`.
    pub fn builder(issuer: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder {
            issuer: issuer.into(),
            audiences: Vec::new(),
            leeway: DEFAULT_LEEWAY,
            keys: Vec::new(),
            cache_capacity: DEFAULT_CACHE_CAPACITY,
        }
    }

    /// Verifies `token` at the time of the system's clock.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], as [`verify_at`](Self::verify_at).
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        self.verify_at(token, system_time())
    }

    /// Verifies `token` at the time `now`.
    ///
    /// In this order: length; three parts of base64url; a header of the right form; a key of that
    /// `kid`; `alg`, which must be the key's; `typ`; the signature; only then the claims and their
    /// types, `iss`, `aud`, `iat`, `nbf` and `exp`, and whether its session ended.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Malformed`] if `token` is no compact JWS, [`VerifyError::Expired`] if it is
    /// one of ours whose time is over, [`VerifyError::SessionEnded`] if its session ended before,
    /// and [`VerifyError::Invalid`] for all between.
    pub fn verify_at(&self, token: &str, now: UnixSeconds) -> Result<VerifiedToken, VerifyError> {
        if token.len() > jws::MAX_TOKEN_BYTES {
            return Err(Malformed::TooLong.into());
        }
        if let Some(verified) = self.remembered(token) {
            // Time goes on, and sessions end, for the remembered ones too.
            return match self.check_now(&verified, now) {
                Ok(()) => Ok(verified.token),
                Err(refused) => {
                    self.forget(token);
                    Err(refused)
                }
            };
        }
        let verified = self.verify_unknown(token)?;
        self.check_now(&verified, now)?;
        self.remember(token, &verified);
        Ok(verified.token)
    }

    /// Replaces all keys at once, and forgets every token that was accepted with the old ones.
    ///
    /// A verification that runs meanwhile sees the old keys or the new ones, and nothing that was
    /// accepted with the old ones is accepted by a call that begins after this one returns, unless
    /// the new ones accept it too.
    pub fn replace_keys(&self, keys: impl IntoIterator<Item = VerifyingKey>) {
        let keys = known_keys(keys);
        self.begin_generation(|_| keys);
    }

    /// Refuses from now on what `list` says has ended, as of the system's clock.
    ///
    /// As [`apply_revocations_at`](Self::apply_revocations_at).
    pub fn apply_revocations(&self, list: &RevocationList) {
        self.apply_revocations_at(list, system_time());
    }

    /// Refuses from now on what `list` says has ended: tokens of its sessions, earlier tokens of its
    /// users, and whatever is signed with its keys, even while those are still among the
    /// verifier's. Nothing that ended is accepted by a call that begins after this one returns.
    ///
    /// What earlier lists named is remembered until its `until` and the leeway have passed at
    /// `now`, whether or not this list names it too.
    pub fn apply_revocations_at(&self, list: &RevocationList, now: UnixSeconds) {
        let _alone = self.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.current_keys();
        let before = self.current_revoked();
        let mut revoked = Revoked::clone(&before);
        revoked.add(list);
        revoked.forget(
            |until| until.saturating_add(self.leeway) <= now,
            |kid| keys.find(kid).is_some(),
        );
        let more_keys = revoked.revokes_more_keys_than(&before);
        let any = !revoked.is_empty();
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(revoked);
        self.any_revoked.store(any, Ordering::Release);
        if more_keys {
            // Who signed a remembered token is not remembered. Only after the key is known to be
            // revoked, so that what is accepted in the new generation was held against it.
            self.begin_generation(<[KnownKey]>::to_vec);
        }
    }

    /// Makes the keys anew, and forgets every token that was accepted before.
    fn begin_generation(&self, next: impl FnOnce(&[KnownKey]) -> Vec<KnownKey>) {
        {
            let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            let generation = current.generation + 1;
            let keys = next(&current.keys);
            *current = Arc::new(KeySet { keys, generation });
            self.generation.store(generation, Ordering::Release);
        }
        if let Some(cache) = &self.cache {
            cache.clear();
        }
    }

    fn current_keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn current_revoked(&self) -> Arc<Revoked> {
        Arc::clone(&self.revoked.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether `is_revoked` says so of what is known to have ended. Costs one load where that is
    /// nothing.
    fn is_revoked(&self, is_revoked: impl FnOnce(&Revoked) -> bool) -> bool {
        self.any_revoked.load(Ordering::Acquire)
            && is_revoked(&self.revoked.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        // The key of the cache is the whole token and is compared in full.
        let verified = self.cache.as_ref()?.get(token)?;
        (verified.generation == self.generation.load(Ordering::Acquire)).then_some(verified)
    }

    fn remember(&self, token: &str, verified: &Verified) {
        if let Some(cache) = &self.cache
            && token.len() <= MAX_CACHED_TOKEN_BYTES
        {
            cache.insert(token.into(), verified.clone());
        }
    }

    fn forget(&self, token: &str) {
        if let Some(cache) = &self.cache {
            cache.remove(token);
        }
    }

    /// Everything but what may change from one request to the next.
    fn verify_unknown(&self, token: &str) -> Result<Verified, VerifyError> {
        let keys = self.current_keys();
        let (key, segments) = keys.resolve(token)?;
        if self.is_revoked(|revoked| revoked.has_key(key.kid())) {
            return Err(Invalid::RevokedKey.into());
        }

        let signature = segments.signature_bytes()?;
        key.verify(segments.signing_input.as_bytes(), signature.as_ref())
            .map_err(|_| Invalid::Signature)?;

        let ClaimsSet { claims, not_before } =
            base64url::with_decoded(segments.payload, ClaimsSet::from_json)
                .map_err(|_| Malformed::Base64)?
                .ok_or(Invalid::Claims)?;
        if claims.iss != self.issuer {
            return Err(Invalid::Issuer.into());
        }
        if !self.is_for_us(&claims) {
            return Err(Invalid::Audience.into());
        }

        let token = VerifiedToken(Arc::new(claims));
        Ok(Verified {
            token,
            not_before,
            generation: keys.generation,
        })
    }

    /// [RFC 7519, section 4.1.3](https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3): a token for
    /// somebody is not for those who go by no name.
    fn is_for_us(&self, claims: &AccessClaims) -> bool {
        if self.audiences.is_empty() {
            return claims.aud.is_empty();
        }
        claims
            .aud
            .iter()
            .any(|audience| self.audiences.contains(audience))
    }

    /// What may change while a token is remembered.
    fn check_now(&self, verified: &Verified, now: UnixSeconds) -> Result<(), VerifyError> {
        self.check_time(verified, now)?;
        if self.is_revoked(|revoked| revoked.has_ended(&verified.token)) {
            return Err(VerifyError::SessionEnded);
        }
        Ok(())
    }

    fn check_time(&self, verified: &Verified, now: UnixSeconds) -> Result<(), VerifyError> {
        let latest = now.saturating_add(self.leeway);
        if verified.token.iat > latest {
            return Err(Invalid::IssuedInFuture.into());
        }
        if verified.not_before.is_some_and(|time| time > latest) {
            return Err(Invalid::NotYetValid.into());
        }
        if verified.token.exp.saturating_add(self.leeway) <= now {
            return Err(VerifyError::Expired);
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the clock, for those who have none of their own"
)]
fn system_time() -> UnixSeconds {
    SystemTime::now().into()
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Verifier")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// The key that `token` must be signed with, after all that can be checked without it.
    fn resolve<'k, 't>(
        &'k self,
        token: &'t str,
    ) -> Result<(&'k VerifyingKey, Segments<'t>), VerifyError> {
        for known in &self.keys {
            for header in &known.usual_headers {
                if token.starts_with(header) && token.as_bytes().get(header.len()) == Some(&b'.') {
                    return Ok((
                        &known.key,
                        Segments::split_after_header(token, header.len())?,
                    ));
                }
            }
        }
        let segments = Segments::split(token)?;
        let key = base64url::with_decoded(segments.header, |json| self.choose(json))
            .map_err(|_| Malformed::Base64)??;
        Ok((key, segments))
    }

    fn choose(&self, header: &[u8]) -> Result<&VerifyingKey, VerifyError> {
        let header = Header::from_json(header)?;
        let kid = header.kid.as_deref().ok_or(Invalid::NoKid)?;
        let key = self.find(kid).ok_or(Invalid::UnknownKid)?;
        if Algorithm::from_name(&header.algorithm) != Some(key.algorithm()) {
            return Err(Invalid::Algorithm.into());
        }
        if !header.has_type(ACCESS_TOKEN_TYPE) {
            return Err(Invalid::Type.into());
        }
        Ok(key)
    }

    fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys
            .iter()
            .map(|known| &known.key)
            .find(|key| key.kid() == kid)
    }
}

/// Prepares `keys`. Of two with the same kid the first is used: never is it tried which one fits.
fn known_keys(keys: impl IntoIterator<Item = VerifyingKey>) -> Vec<KnownKey> {
    let mut known: Vec<KnownKey> = Vec::new();
    for key in keys {
        if known.iter().any(|earlier| earlier.key.kid() == key.kid()) {
            continue;
        }
        let names: &[&str] = match key.algorithm() {
            Algorithm::Ed25519 => &["EdDSA", "Ed25519"],
            Algorithm::Es256 => &["ES256"],
            Algorithm::Hs256 => &["HS256"],
        };
        let usual_headers = names
            .iter()
            .map(|name| jws::header_json(name, key.kid(), ACCESS_TOKEN_TYPE))
            .map(|json| base64url::encode(json.as_bytes()))
            .collect();
        known.push(KnownKey { key, usual_headers });
    }
    known
}

/// What a [`Verifier`] is built from; see [`Verifier::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is verified until `build` is called"]
pub struct VerifierBuilder {
    issuer: String,
    audiences: Vec<String>,
    leeway: Duration,
    keys: Vec<VerifyingKey>,
    cache_capacity: usize,
}

impl VerifierBuilder {
    /// Accepts tokens whose `aud` contains `audience`, byte for byte. May be called for several.
    ///
    /// Default: none, and then only tokens without `aud` are accepted
    /// ([RFC 7519, section 4.1.3](https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3)).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// How far the issuer's clock and ours may differ, in whole seconds. Default: 10 s.
    pub const fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Adds a key. Of two keys with the same kid the first is used.
    pub fn key(mut self, key: VerifyingKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds keys. Of two keys with the same kid the first is used.
    pub fn keys(mut self, keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// How many accepted tokens are remembered, each in about 1.5 KiB. Default: 4,096; 0 turns the
    /// memory off. Tokens over 2 KiB are never remembered.
    pub const fn cache_capacity(mut self, tokens: usize) -> Self {
        self.cache_capacity = tokens;
        self
    }

    /// Builds the verifier. Without a key it refuses every token, until
    /// [`replace_keys`](Verifier::replace_keys) gives it one.
    #[must_use]
    pub fn build(self) -> Verifier {
        let generation = 0;
        Verifier {
            issuer: self.issuer,
            audiences: self.audiences,
            leeway: self.leeway,
            keys: RwLock::new(Arc::new(KeySet {
                keys: known_keys(self.keys),
                generation,
            })),
            generation: AtomicU64::new(generation),
            // Its hash is seeded at random, and only tokens with a good signature get in.
            cache: (self.cache_capacity > 0).then(|| Cache::new(self.cache_capacity)),
            revoked: RwLock::default(),
            any_revoked: AtomicBool::new(false),
            revoking: Mutex::new(()),
        }
    }
}
