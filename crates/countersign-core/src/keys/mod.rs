//! The key ring: access tokens are signed with its current key, and verified with every key that is
//! published.
//!
//! A key is first published (`next`), so that every resource server knows it, then signs (`current`),
//! then stays published (`retired`) until its last token has ended. [`KeySchedule`] says when; the private
//! part never leaves the process in the clear.

mod schedule;
mod seal;

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use countersign_token::{
    ACCESS_TOKEN_TYPE, AccessClaims, Algorithm, JsonWebKey, JsonWebKeySet, VerifyingKey, base64url,
    jws,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

pub use self::schedule::KeySchedule;
use self::seal::{PrivateKey, Seals};
use crate::clock::Randomness;
use crate::error::StoreError;
use crate::secrets::{RootSecret, RootSecrets, WeakRootSecret};
use crate::store::{KeyState, SealedSigningKey};

/// How long resource servers may keep the published keys before they ask again: what
/// `Cache-Control: max-age` says.
pub const PUBLIC_KEYS_MAX_AGE: Duration = Duration::from_mins(10);

/// What signs access tokens.
#[derive(Debug, Clone, Default)]
pub enum SigningAlgorithm {
    /// ES256: the default, since every JWT library and gateway verifies it.
    #[default]
    Es256,
    /// Ed25519, written `EdDSA` in headers: faster, and known to most libraries by that name.
    EdDsa,
    /// Ed25519, written `Ed25519` in headers as RFC 9864 asks; few libraries know the name yet.
    Ed25519,
    /// HS256 with a secret shared with every resource server, each of which can then forge tokens.
    Hs256(SharedSecret),
}

impl SigningAlgorithm {
    /// The name written into headers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
            Self::Hs256(_) => "HS256",
        }
    }

    /// Whether tokens are signed with a secret from the settings rather than with keys in the store.
    pub const fn is_shared_secret(&self) -> bool {
        matches!(self, Self::Hs256(_))
    }

    /// The algorithm of the keys in the store; `None` for a secret that is not kept there.
    const fn of_stored_keys(&self) -> Option<Algorithm> {
        match self {
            Self::Es256 => Some(Algorithm::Es256),
            Self::EdDsa | Self::Ed25519 => Some(Algorithm::Ed25519),
            Self::Hs256(_) => None,
        }
    }

    /// The name written into headers of tokens that a key of `algorithm` signs.
    pub(crate) const fn name_for(&self, algorithm: Algorithm) -> &'static str {
        match (self, algorithm) {
            (Self::Ed25519, Algorithm::Ed25519) => "Ed25519",
            _ => algorithm.name(),
        }
    }
}

/// A secret shared with resource servers: its bytes are the characters as given, which is what JWT
/// libraries take for the key. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<String>);

impl SharedSecret {
    /// Takes what an operator gave.
    ///
    /// # Errors
    /// [`WeakRootSecret`] if it is shorter than 32 bytes of key material or evidently guessable.
    pub fn parse(text: &str) -> Result<Self, WeakRootSecret> {
        RootSecret::parse(text).map(|_| Self(Zeroizing::new(text.trim().to_owned())))
    }

    /// The bytes that sign.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is the root secret, however either is written: then every resource server could
    /// derive what is ours alone.
    pub fn is_root(&self, root: &RootSecret) -> bool {
        RootSecret::parse(&self.0).is_ok_and(|shared| shared.is_same(root))
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SharedSecret(redacted)")
    }
}

/// The public keys as resource servers fetch them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys {
    /// The JSON Web Key Set.
    pub json: String,
    /// Its entity tag, in quotes.
    pub etag: String,
}

/// Whether every key that is trusted opens under these root secrets: to be asked before keys are carried
/// to where nobody could open them.
pub fn all_open(roots: &RootSecrets, stored: &[SealedSigningKey]) -> bool {
    Seals::new(roots).check(stored).is_ok()
}

/// What it takes to open keys and to make new ones.
pub(crate) struct KeyKeeper {
    seals: Seals,
    algorithm: SigningAlgorithm,
    schedule: KeySchedule,
}

impl KeyKeeper {
    pub(crate) fn new(
        roots: &RootSecrets,
        algorithm: SigningAlgorithm,
        schedule: KeySchedule,
    ) -> Self {
        Self {
            seals: Seals::new(roots),
            algorithm,
            schedule,
        }
    }

    /// Opens the stored keys.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a key does not open under these root secrets, or none is current.
    pub(crate) fn open(&self, stored: Vec<SealedSigningKey>) -> Result<KeyRing, StoreError> {
        if let SigningAlgorithm::Hs256(secret) = &self.algorithm {
            return Ok(KeyRing::of_shared_secret(secret, stored));
        }
        let mut current = None;
        let mut public = Vec::with_capacity(stored.len());
        for key in stored.iter().filter(|key| key.state != KeyState::Revoked) {
            let private = self.seals.open(key)?;
            public.push(private.public());
            if key.state == KeyState::Current {
                current = Some((private, key));
            }
        }
        let (private, key) = current
            .ok_or_else(|| StoreError::Corrupt("the key ring has no current key".to_owned()))?;
        let name = self.algorithm.name_for(key.algorithm);
        let header = jws::header_json(name, &key.kid, ACCESS_TOKEN_TYPE);
        let verifying = public.iter().map(JsonWebKey::verifying_key).collect();
        Ok(KeyRing {
            current: SigningKey::Private(private),
            header,
            verifying,
            public: PublicKeys::of(&public.into_iter().collect()),
            stored,
        })
    }

    /// Whether the keys open under these root secrets.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if one does not.
    pub(crate) fn check_seals(&self, stored: &[SealedSigningKey]) -> Result<(), StoreError> {
        self.seals.check(stored)
    }

    /// The ring as it should be by now, if that is another: the first key, the next step of the
    /// schedule, keys sealed anew under a new root secret.
    pub(crate) fn due(
        &self,
        stored: &[SealedSigningKey],
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> Option<Vec<SealedSigningKey>> {
        let wanted = self.algorithm.of_stored_keys()?;
        let make = |state| self.make(wanted, state, now, randomness);
        let mut ring = schedule::step(stored, wanted, now, &self.schedule, make);
        for key in &mut ring {
            if let Some(renewed) = self.seals.renew(key, randomness) {
                *key = renewed;
            }
        }
        (ring != stored).then_some(ring)
    }

    /// The ring with another key on its way: published as the next one, or signing at once. `None`: one
    /// is on its way already, or the keys are not in the store.
    pub(crate) fn rotated(
        &self,
        stored: &[SealedSigningKey],
        at_once: bool,
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> Option<Vec<SealedSigningKey>> {
        let wanted = self.algorithm.of_stored_keys()?;
        let make = |state| self.make(wanted, state, now, randomness);
        if at_once {
            return Some(schedule::promote(stored, wanted, now, make));
        }
        schedule::publish(stored, wanted, make)
    }

    /// The ring without trust in a key: another signs at once, if it was the current one. `None`: there
    /// is no such key, or it has been revoked before.
    pub(crate) fn revoked(
        &self,
        stored: &[SealedSigningKey],
        kid: &str,
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> Option<Vec<SealedSigningKey>> {
        let wanted = self.algorithm.of_stored_keys()?;
        let make = |state| self.make(wanted, state, now, randomness);
        schedule::revoke(stored, kid, wanted, now, make)
    }

    /// When a key of this ring comes to its next state.
    pub(crate) fn changes_at(
        &self,
        key: &SealedSigningKey,
        ring: &[SealedSigningKey],
    ) -> Timestamp {
        self.schedule.changes_at(key, ring)
    }

    /// Until when a key that does not sign any more matters.
    pub(crate) fn matters_until(&self, key: &SealedSigningKey) -> Timestamp {
        self.schedule.matters_until(key)
    }

    fn make(
        &self,
        algorithm: Algorithm,
        state: KeyState,
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> SealedSigningKey {
        let key = PrivateKey::generate(algorithm);
        self.seals.close(&key, state, now, randomness)
    }
}

/// The keys of the store, opened.
pub struct KeyRing {
    current: SigningKey,
    header: String,
    verifying: Vec<VerifyingKey>,
    public: PublicKeys,
    stored: Vec<SealedSigningKey>,
}

impl KeyRing {
    /// A ring of one key, which is not stored and never published.
    fn of_shared_secret(
        SharedSecret(secret): &SharedSecret,
        stored: Vec<SealedSigningKey>,
    ) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        // Not the RFC 7638 thumbprint: its section 7 warns against publishing a plain hash of a
        // secret.
        let name = hmac::sign(&key, b"countersign/v1/kid");
        let kid = base64url::encode(name.as_ref());
        let verifying = VerifyingKey::hs256(kid.as_str(), secret.as_bytes())
            .expect("a shared secret has at least 32 bytes");
        Self {
            current: SigningKey::Shared(Box::new(key)),
            header: jws::header_json("HS256", &kid, ACCESS_TOKEN_TYPE),
            verifying: vec![verifying],
            public: PublicKeys::of(&JsonWebKeySet::from_iter([])),
            stored,
        }
    }

    /// The keys that verify: all but revoked ones.
    pub fn verifying_keys(&self) -> Vec<VerifyingKey> {
        self.verifying.clone()
    }

    /// The public keys as served.
    pub fn public(&self) -> &PublicKeys {
        &self.public
    }

    /// The keys as the store has them.
    pub(crate) fn stored(&self) -> &[SealedSigningKey] {
        &self.stored
    }

    /// Signs claims with the current key.
    pub(crate) fn sign(&self, claims: &AccessClaims) -> AccessToken {
        let payload = serde_json::to_vec(claims).expect("claims are strings, numbers and booleans");
        let signed = match &self.current {
            SigningKey::Private(PrivateKey::Es256(pair)) => {
                let randomness = SystemRandom::new();
                jws::sign_with(&self.header, &payload, |input| {
                    pair.sign(&randomness, input)
                })
            }
            SigningKey::Private(PrivateKey::Ed25519(pair)) => {
                jws::sign_with(&self.header, &payload, |input| pair.try_sign(input))
            }
            SigningKey::Shared(key) => {
                jws::sign_with(&self.header, &payload, |input| Ok(hmac::sign(key, input)))
            }
        };
        AccessToken(signed.expect("a key that was opened signs"))
    }
}

/// A signed access token. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct AccessToken(String);

impl AccessToken {
    /// The compact form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessToken(redacted)")
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyRing")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl PublicKeys {
    fn of(keys: &JsonWebKeySet) -> Self {
        let json = serde_json::to_string(keys).expect("a key set is strings");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, json.as_bytes());
        let etag = format!("\"{}\"", base64url::encode(&digest.as_ref()[..16]));
        Self { json, etag }
    }
}

enum SigningKey {
    Private(PrivateKey),
    Shared(Box<hmac::Key>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    fn root() -> RootSecret {
        RootSecret::generate(&SystemRandomness)
    }

    fn keeper(root: &RootSecret, algorithm: SigningAlgorithm) -> KeyKeeper {
        KeyKeeper::new(&root.into(), algorithm, KeySchedule::default())
    }

    fn first_ring(keeper: &KeyKeeper) -> Vec<SealedSigningKey> {
        keeper
            .due(&[], now(), &SystemRandomness)
            .expect("a first key is due")
    }

    #[test]
    fn the_first_key_is_made_once_and_opened_again() {
        let keeper = keeper(&root(), SigningAlgorithm::Es256);
        let stored = first_ring(&keeper);
        assert_eq!(keeper.due(&stored, now(), &SystemRandomness), None);
        let (one, two) = (
            keeper.open(stored.clone()).unwrap(),
            keeper.open(stored).unwrap(),
        );
        assert_eq!(one.header, two.header);
        assert_eq!(one.public(), two.public());
    }

    #[test]
    fn nothing_private_is_published() {
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
            let keeper = keeper(&root(), algorithm);
            let ring = keeper.open(first_ring(&keeper)).unwrap();
            let published = &ring.public().json;
            assert!(!published.contains("\"d\""), "{published}");
        }
    }

    #[test]
    fn another_root_secret_opens_nothing() {
        let stored = first_ring(&keeper(&root(), SigningAlgorithm::Es256));
        let refused = keeper(&root(), SigningAlgorithm::Es256)
            .open(stored)
            .unwrap_err();
        assert!(refused.to_string().contains("root secret"), "{refused}");
    }

    #[test]
    fn keys_open_under_their_root_secret_or_where_it_is_a_previous_one() {
        let (old, new) = (root(), root());
        let stored = first_ring(&keeper(&old, SigningAlgorithm::Es256));
        assert!(all_open(&(&old).into(), &stored));
        assert!(!all_open(&(&new).into(), &stored));
        let both = RootSecrets {
            current: new,
            previous: vec![old],
        };
        assert!(all_open(&both, &stored));
    }

    #[test]
    fn a_change_of_algorithm_is_published_before_it_signs() {
        let root = root();
        let stored = first_ring(&keeper(&root, SigningAlgorithm::Es256));
        let keeper = keeper(&root, SigningAlgorithm::Ed25519);
        let announced = keeper.due(&stored, now(), &SystemRandomness).unwrap();
        let ring = keeper.open(announced.clone()).unwrap();
        assert!(ring.header.contains("\"alg\":\"ES256\""), "{}", ring.header);
        assert_eq!(ring.verifying_keys().len(), 2);

        let promoted = keeper
            .rotated(&announced, true, now(), &SystemRandomness)
            .unwrap();
        let ring = keeper.open(promoted).unwrap();
        assert!(
            ring.header.contains("\"alg\":\"Ed25519\""),
            "{}",
            ring.header
        );
        assert_eq!(ring.verifying_keys().len(), 2);
    }

    #[test]
    fn a_revoked_key_is_neither_published_nor_verified_with() {
        let keeper = keeper(&root(), SigningAlgorithm::Es256);
        let stored = first_ring(&keeper);
        let kid = stored[0].kid.clone();
        let ring = keeper
            .revoked(&stored, &kid, now(), &SystemRandomness)
            .unwrap();
        let ring = keeper.open(ring).unwrap();
        assert!(!ring.public().json.contains(&kid));
        assert!(!ring.header.contains(&kid));
        assert_eq!(ring.verifying_keys().len(), 1);
    }

    #[test]
    fn a_shared_secret_that_is_the_root_secret_is_known_however_it_is_written() {
        let root = root();
        let same = SharedSecret::parse(&root.to_text()).unwrap();
        let padded = SharedSecret::parse(&format!(" {}\n", *root.to_text())).unwrap();
        let other = SharedSecret::parse(&self::root().to_text()).unwrap();
        assert!(same.is_root(&root) && padded.is_root(&root) && !other.is_root(&root));
    }

    #[test]
    fn a_shared_secret_is_neither_stored_nor_published() {
        let secret = SharedSecret::parse(&root().to_text()).unwrap();
        let keeper = keeper(&root(), SigningAlgorithm::Hs256(secret));
        assert_eq!(keeper.due(&[], now(), &SystemRandomness), None);
        let ring = keeper.open(Vec::new()).unwrap();
        assert_eq!(ring.public().json, r#"{"keys":[]}"#);
    }
}
