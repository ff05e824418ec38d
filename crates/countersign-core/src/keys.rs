//! The key ring: signing keys in the store, sealed; access tokens signed with the current one.
//!
//! The private part of a key never leaves the process in the clear: in the store it is sealed with
//! AES-256-GCM under a key derived from the root secret, bound to the key's name and algorithm.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use aws_lc_rs::{aead, hmac};
use countersign_token::{
    ACCESS_TOKEN_TYPE, AccessClaims, Algorithm, JsonWebKey, JsonWebKeySet, VerifyingKey, base64url,
    jws,
};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::audit::Event;
use crate::clock::Randomness;
use crate::error::StoreError;
use crate::secrets::{Purpose, RootSecret, WeakRootSecret};
use crate::store::{KeyState, SealedSigningKey, Store};

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

/// The keys of the store, opened.
pub struct KeyRing {
    current: SigningKey,
    header: String,
    verifying: Vec<VerifyingKey>,
    public: PublicKeys,
}

impl KeyRing {
    /// Opens the stored keys; makes a current one if there is none of the wanted algorithm.
    ///
    /// # Errors
    /// The store's, or [`StoreError::Corrupt`] if a key does not open under this root secret.
    pub async fn open(
        store: &dyn Store,
        root: &RootSecret,
        algorithm: &SigningAlgorithm,
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> Result<Self, StoreError> {
        let seal = Seal(root.seal_key(Purpose::SigningKeySeal));
        let wanted = match algorithm {
            SigningAlgorithm::Hs256(secret) => {
                return Ok(Self::of_shared_secret(secret));
            }
            SigningAlgorithm::Es256 => Algorithm::Es256,
            SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => Algorithm::Ed25519,
        };
        let mut stored = store.signing_keys().await?;
        let current = stored.iter().find(|key| key.state == KeyState::Current);
        if current.is_none_or(|key| key.algorithm != wanted) {
            let instead_of = current.map(|key| key.kid.clone());
            let new = seal.close(&PrivateKey::generate(wanted), now, randomness);
            let kid = new.kid.clone();
            stored = store
                .install_signing_key(&new, instead_of.as_deref())
                .await?;
            if stored.iter().any(|key| key.kid == kid) {
                Event::SigningKeyInstalled.tell();
            }
        }
        let mut current = None;
        let mut public = Vec::with_capacity(stored.len());
        for key in &stored {
            let private = seal.open(key)?;
            public.push(private.public());
            if key.state == KeyState::Current {
                current = Some((private, key.kid.clone()));
            }
        }
        let (private, kid) = current
            .ok_or_else(|| StoreError::Corrupt("the key ring has no current key".to_owned()))?;
        let verifying = public.iter().map(JsonWebKey::verifying_key).collect();
        let public = PublicKeys::of(&public.into_iter().collect());
        let header = jws::header_json(algorithm.name(), &kid, ACCESS_TOKEN_TYPE);
        Ok(Self {
            current: SigningKey::Private(private),
            header,
            verifying,
            public,
        })
    }

    /// A ring of one key, which is not stored and never published.
    fn of_shared_secret(SharedSecret(secret): &SharedSecret) -> Self {
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
        }
    }

    /// The keys that verify: current and retired.
    pub fn verifying_keys(&self) -> Vec<VerifyingKey> {
        self.verifying.clone()
    }

    /// The public keys as served.
    pub fn public(&self) -> &PublicKeys {
        &self.public
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

enum PrivateKey {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    fn generate(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Ed25519 => {
                Self::Ed25519(Ed25519KeyPair::generate().expect("the library makes a key"))
            }
            Algorithm::Es256 | Algorithm::Hs256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
                Self::Es256(pair.expect("the library makes a key"))
            }
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    fn public(&self) -> JsonWebKey {
        match self {
            Self::Es256(pair) => JsonWebKey::es256(pair.public_key().as_ref()),
            Self::Ed25519(pair) => JsonWebKey::ed25519(pair.public_key().as_ref()),
        }
        .expect("the public half of a private key is a key")
    }

    fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let document = match self {
            Self::Es256(pair) => pair.to_pkcs8v1(),
            Self::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        Zeroizing::new(
            document
                .expect("a key that was made has a PKCS#8 form")
                .as_ref()
                .to_vec(),
        )
    }

    fn from_pkcs8(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes)
                .ok()
                .map(Self::Es256),
            Algorithm::Ed25519 => Ed25519KeyPair::from_pkcs8(bytes).ok().map(Self::Ed25519),
            Algorithm::Hs256 => None,
        }
    }
}

/// Closes and opens the private part of keys.
struct Seal(aead::LessSafeKey);

impl Seal {
    fn close(
        &self,
        key: &PrivateKey,
        created_at: Timestamp,
        randomness: &dyn Randomness,
    ) -> SealedSigningKey {
        let kid = key.public().thumbprint();
        let algorithm = key.algorithm();
        let mut nonce = [0; aead::NONCE_LEN];
        randomness.fill(&mut nonce);
        let mut sealed = key.to_pkcs8().to_vec();
        self.0
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(associated_data(&kid, algorithm)),
                &mut sealed,
            )
            .expect("AES-GCM seals a few hundred bytes");
        sealed.splice(0..0, nonce);
        SealedSigningKey {
            kid,
            algorithm,
            state: KeyState::Current,
            sealed,
            created_at,
        }
    }

    fn open(&self, key: &SealedSigningKey) -> Result<PrivateKey, StoreError> {
        let unopened = || {
            StoreError::Corrupt(format!(
                "signing key {} does not open: the root secret is not the one it was sealed with",
                key.kid
            ))
        };
        let (nonce, ciphertext) = key
            .sealed
            .split_at_checked(aead::NONCE_LEN)
            .ok_or_else(unopened)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| unopened())?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let associated = aead::Aad::from(associated_data(&key.kid, key.algorithm));
        let pkcs8 = self
            .0
            .open_in_place(nonce, associated, &mut opened)
            .map_err(|_| unopened())?;
        PrivateKey::from_pkcs8(key.algorithm, pkcs8).ok_or_else(unopened)
    }
}

fn associated_data(kid: &str, algorithm: Algorithm) -> Vec<u8> {
    format!("{}.{kid}", algorithm.name()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;
    use crate::store::MemoryStore;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    async fn open(
        store: &MemoryStore,
        root: &RootSecret,
        algorithm: SigningAlgorithm,
    ) -> Result<KeyRing, StoreError> {
        KeyRing::open(store, root, &algorithm, now(), &SystemRandomness).await
    }

    fn root() -> RootSecret {
        RootSecret::generate(&SystemRandomness)
    }

    #[tokio::test]
    async fn the_first_key_is_made_once_and_opened_again() {
        let (store, root) = (MemoryStore::default(), root());
        let first = open(&store, &root, SigningAlgorithm::Es256).await.unwrap();
        let second = open(&store, &root, SigningAlgorithm::Es256).await.unwrap();
        assert_eq!(first.header, second.header);
        assert_eq!(first.public(), second.public());
        assert_eq!(store.signing_keys().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nothing_private_is_published_or_stored_in_the_clear() {
        let (store, root) = (MemoryStore::default(), root());
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
            let ring = open(&store, &root, algorithm).await.unwrap();
            assert!(
                !ring.public().json.contains("\"d\""),
                "{}",
                ring.public().json
            );
            let SigningKey::Private(private) = &ring.current else {
                panic!("a shared key")
            };
            let pkcs8 = private.to_pkcs8();
            for stored in store.signing_keys().await.unwrap() {
                let clear = stored
                    .sealed
                    .windows(16)
                    .any(|part| part == &pkcs8[pkcs8.len() - 16..]);
                assert!(!clear, "the end of the PKCS#8 form stands in the store");
            }
        }
    }

    #[tokio::test]
    async fn another_root_secret_opens_nothing() {
        let store = MemoryStore::default();
        open(&store, &root(), SigningAlgorithm::Es256)
            .await
            .unwrap();
        let refused = open(&store, &root(), SigningAlgorithm::Es256)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("root secret"), "{refused}");
    }

    #[tokio::test]
    async fn a_sealed_key_is_bound_to_its_name() {
        let seal = Seal(root().seal_key(Purpose::SigningKeySeal));
        let sealed = seal.close(
            &PrivateKey::generate(Algorithm::Es256),
            now(),
            &SystemRandomness,
        );
        assert!(seal.open(&sealed).is_ok());
        let renamed = SealedSigningKey {
            kid: "another".to_owned(),
            ..sealed.clone()
        };
        assert!(seal.open(&renamed).is_err());
        let relabelled = SealedSigningKey {
            algorithm: Algorithm::Ed25519,
            ..sealed.clone()
        };
        assert!(seal.open(&relabelled).is_err());
        let cut = SealedSigningKey {
            sealed: sealed.sealed[..8].to_vec(),
            ..sealed
        };
        assert!(seal.open(&cut).is_err());
    }

    #[tokio::test]
    async fn a_change_of_algorithm_keeps_the_old_key_for_its_tokens() {
        let (store, root) = (MemoryStore::default(), root());
        open(&store, &root, SigningAlgorithm::Es256).await.unwrap();
        let ring = open(&store, &root, SigningAlgorithm::Ed25519)
            .await
            .unwrap();
        assert!(
            ring.header.contains("\"alg\":\"Ed25519\""),
            "{}",
            ring.header
        );
        assert_eq!(ring.verifying_keys().len(), 2);
        let states: Vec<_> = store
            .signing_keys()
            .await
            .unwrap()
            .iter()
            .map(|key| key.state)
            .collect();
        assert_eq!(states, [KeyState::Current, KeyState::Retired]);
    }

    #[test]
    fn a_shared_secret_that_is_the_root_secret_is_known_however_it_is_written() {
        let root = root();
        let same = SharedSecret::parse(&root.to_text()).unwrap();
        let padded = SharedSecret::parse(&format!(" {}\n", *root.to_text())).unwrap();
        let other = SharedSecret::parse(&self::root().to_text()).unwrap();
        assert!(same.is_root(&root) && padded.is_root(&root) && !other.is_root(&root));
    }

    #[tokio::test]
    async fn a_shared_secret_is_neither_stored_nor_published() {
        let (store, root) = (MemoryStore::default(), root());
        let secret = SharedSecret::parse(&self::root().to_text()).unwrap();
        let ring = open(&store, &root, SigningAlgorithm::Hs256(secret))
            .await
            .unwrap();
        assert_eq!(ring.public().json, r#"{"keys":[]}"#);
        assert_eq!(store.signing_keys().await.unwrap(), []);
    }
}
