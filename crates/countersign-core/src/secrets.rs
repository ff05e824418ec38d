//! The root secret, and the keys derived from it: one per purpose.
//!
//! Everything the service must keep to itself hangs from one secret of at least 32 bytes. No key is
//! used twice: each purpose has its own, derived by HKDF-SHA256 (RFC 5869) under its own label, so
//! that a token made for one purpose never passes for another.

use std::fmt;

use aws_lc_rs::{aead, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::clock::Randomness;

/// The fewest bytes a root secret may have: 256 bits, the strength of the keys derived from it.
pub const ROOT_SECRET_BYTES: usize = 32;

/// What a derived key is for. The label is part of the derivation and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signing refresh tokens (HS256).
    RefreshToken,
    /// Deriving a session's CSRF token.
    CsrfToken,
    /// Sealing the signing keys in the store (AES-256-GCM).
    SigningKeySeal,
    /// Naming the counters of throttling.
    ThrottleKey,
    /// Signing what tells a device that its user has signed in from before.
    DeviceToken,
    /// Deriving the tokens that letters carry.
    MailedToken,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::RefreshToken => b"countersign/v1/refresh-token",
            Self::CsrfToken => b"countersign/v1/csrf-token",
            Self::SigningKeySeal => b"countersign/v1/signing-key-seal",
            Self::ThrottleKey => b"countersign/v1/throttle-key",
            Self::DeviceToken => b"countersign/v1/device-token",
            Self::MailedToken => b"countersign/v1/mailed-token",
        }
    }
}

/// Why a root secret was refused. Says the way out, never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WeakRootSecret {
    /// Fewer bytes than [`ROOT_SECRET_BYTES`].
    #[error(
        "the root secret has {0} bytes of key material and needs at least 32: make one with \
         `openssl rand -base64 32`"
    )]
    TooShort(usize),
    /// Long enough, but made by hand or by repetition.
    #[error(
        "the root secret looks made by hand (few different characters, or a known word): make one \
         with `openssl rand -base64 32`"
    )]
    Guessable,
}

/// The secret from which all others are derived. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct RootSecret(Zeroizing<Vec<u8>>);

impl RootSecret {
    /// Makes a new one from 32 random bytes.
    pub fn generate(randomness: &dyn Randomness) -> Self {
        let mut bytes = Zeroizing::new(vec![0; ROOT_SECRET_BYTES]);
        randomness.fill(&mut bytes);
        Self(bytes)
    }

    /// Reads what an operator gave: base64, hex, or the raw characters of a long random string.
    ///
    /// # Errors
    /// [`WeakRootSecret`] if it is shorter than 32 bytes or evidently guessable.
    pub fn parse(text: &str) -> Result<Self, WeakRootSecret> {
        let text = text.trim();
        let bytes = Zeroizing::new(decode(text));
        if bytes.len() < ROOT_SECRET_BYTES {
            return Err(WeakRootSecret::TooShort(bytes.len()));
        }
        if looks_guessable(text, &bytes) {
            return Err(WeakRootSecret::Guessable);
        }
        Ok(Self(bytes))
    }

    /// The form in which a generated secret is written to its file: base64url without padding.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(&*self.0))
    }

    /// Whether the other is the same secret. Constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }

    /// An HMAC-SHA256 key for one purpose.
    pub fn mac_key(&self, purpose: Purpose) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*self.derive(purpose))
    }

    /// An AES-256-GCM key for one purpose.
    pub fn seal_key(&self, purpose: Purpose) -> aead::LessSafeKey {
        let unbound = aead::UnboundKey::new(&aead::AES_256_GCM, &*self.derive(purpose))
            .expect("a derived key has AES-256's 32 bytes");
        aead::LessSafeKey::new(unbound)
    }

    fn derive(&self, purpose: Purpose) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Salt::none(hkdf::HKDF_SHA256)
            .extract(&self.0)
            .expand(&[purpose.label()], hkdf::HKDF_SHA256)
            .and_then(|material| material.fill(&mut *key))
            .expect("32 bytes are within HKDF-SHA256's reach");
        key
    }
}

/// The root secret in force, and those before it whose tokens and seals are still honoured.
#[derive(Debug, Clone)]
pub struct RootSecrets {
    /// What everything new is made with.
    pub current: RootSecret,
    /// What is still accepted: refresh tokens, CSRF tokens, and seals of signing keys.
    pub previous: Vec<RootSecret>,
}

impl From<&RootSecret> for RootSecrets {
    fn from(current: &RootSecret) -> Self {
        Self {
            current: current.clone(),
            previous: Vec::new(),
        }
    }
}

impl From<&Self> for RootSecrets {
    fn from(roots: &Self) -> Self {
        roots.clone()
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RootSecret(redacted)")
    }
}

fn decode(text: &str) -> Vec<u8> {
    if let Some(bytes) = decode_hex(text) {
        return bytes;
    }
    URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD.decode(text))
        .ok()
        .filter(|bytes| bytes.len() >= ROOT_SECRET_BYTES)
        .unwrap_or_else(|| text.as_bytes().to_vec())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && rest.is_empty() && pairs.len() >= ROOT_SECRET_BYTES)
        .then(|| pairs.iter().map(byte).collect())?
}

/// Random bytes have many different values: 32 of them show fewer than 20 about once in 10^9.
/// What people type is printable, repeats itself and contains words.
fn looks_guessable(text: &str, bytes: &[u8]) -> bool {
    const WORDS: [&str; 8] = [
        "secret",
        "changeme",
        "password",
        "insecure",
        "example",
        "default",
        "countersign",
        "qwerty",
    ];
    let mut seen = [false; 256];
    for byte in bytes {
        seen[usize::from(*byte)] = true;
    }
    let different = seen.iter().filter(|seen| **seen).count();
    let printable = bytes.iter().all(u8::is_ascii_graphic);
    let needed = if printable { 12 } else { 20 };
    let lowered = text.to_lowercase();
    let ascending = bytes
        .windows(2)
        .filter(|pair| pair[1] == pair[0].wrapping_add(1))
        .count();
    different < needed
        || ascending > bytes.len() / 2
        || WORDS.iter().any(|word| lowered.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;

    #[test]
    fn purposes_have_different_keys() {
        let secret = RootSecret::generate(&SystemRandomness);
        let mut keys: Vec<_> = [
            Purpose::RefreshToken,
            Purpose::CsrfToken,
            Purpose::SigningKeySeal,
            Purpose::ThrottleKey,
            Purpose::DeviceToken,
            Purpose::MailedToken,
        ]
        .map(|purpose| secret.derive(purpose).to_vec())
        .into();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 6);
    }

    #[test]
    fn a_generated_secret_is_read_back_the_same() {
        for _ in 0..200 {
            let secret = RootSecret::generate(&SystemRandomness);
            let again = RootSecret::parse(&secret.to_text()).unwrap();
            assert_eq!(secret.0, again.0);
        }
    }

    #[test]
    fn weak_secrets_are_refused() {
        for weak in [
            "",
            "secret",
            "changeme",
            "django-insecure-0123456789abcdefghijklmnop",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "my-very-long-secret-that-is-typed-by-hand",
            "0123456789abcdefghijklmnopqrstuvwxyz0123",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert!(RootSecret::parse(weak).is_err(), "{weak:?} was accepted");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = RootSecret::generate(&SystemRandomness);
        assert_eq!(format!("{secret:?}"), "RootSecret(redacted)");
    }
}
