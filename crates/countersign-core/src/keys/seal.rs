//! Private keys: made, sealed for the store, and opened again.
//!
//! In the store a key is sealed with AES-256-GCM under a key derived from the root secret, bound to the
//! key's name and algorithm.

use aws_lc_rs::aead;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use countersign_token::{Algorithm, JsonWebKey};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::clock::Randomness;
use crate::error::StoreError;
use crate::secrets::{Purpose, RootSecret, RootSecrets};
use crate::store::{KeyState, SealedSigningKey};

/// A private key, opened.
pub(super) enum PrivateKey {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    pub(super) fn generate(algorithm: Algorithm) -> Self {
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

    pub(super) fn public(&self) -> JsonWebKey {
        match self {
            Self::Es256(pair) => JsonWebKey::es256(pair.public_key().as_ref()),
            Self::Ed25519(pair) => JsonWebKey::ed25519(pair.public_key().as_ref()),
        }
        .expect("the public half of a private key is a key")
    }

    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
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

/// Closes the private part of keys under the current root secret, and opens what the current or a
/// previous one has closed.
pub(super) struct Seals {
    current: Seal,
    previous: Vec<Seal>,
}

impl Seals {
    pub(super) fn new(roots: &RootSecrets) -> Self {
        Self {
            current: Seal::new(&roots.current),
            previous: roots.previous.iter().map(Seal::new).collect(),
        }
    }

    /// Seals a key that was made just now.
    pub(super) fn close(
        &self,
        key: &PrivateKey,
        state: KeyState,
        now: Timestamp,
        randomness: &dyn Randomness,
    ) -> SealedSigningKey {
        let kid = key.public().thumbprint();
        let algorithm = key.algorithm();
        let sealed = self.current.close(key, &kid, randomness);
        SealedSigningKey {
            kid,
            algorithm,
            state,
            sealed,
            created_at: now,
            state_since: now,
        }
    }

    /// Opens a key.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it does not open under any of the root secrets.
    pub(super) fn open(&self, key: &SealedSigningKey) -> Result<PrivateKey, StoreError> {
        self.current
            .open(key)
            .or_else(|| self.previous.iter().find_map(|seal| seal.open(key)))
            .ok_or_else(|| {
                StoreError::Corrupt(format!(
                    "signing key {} does not open: the root secret is not the one it was sealed \
                     with; if the secret was replaced, name the old one in secrets.previous",
                    key.kid
                ))
            })
    }

    /// Opens every key that is trusted.
    ///
    /// # Errors
    /// As for [`open`](Self::open), of the first that does not.
    pub(super) fn check(&self, stored: &[SealedSigningKey]) -> Result<(), StoreError> {
        let mut trusted = stored.iter().filter(|key| key.state != KeyState::Revoked);
        trusted.try_for_each(|key| self.open(key).map(drop))
    }

    /// The same key sealed under the current root secret, if it is sealed under a previous one.
    pub(super) fn renew(
        &self,
        key: &SealedSigningKey,
        randomness: &dyn Randomness,
    ) -> Option<SealedSigningKey> {
        if self.current.open(key).is_some() {
            return None;
        }
        let opened = self.previous.iter().find_map(|seal| seal.open(key))?;
        Some(SealedSigningKey {
            sealed: self.current.close(&opened, &key.kid, randomness),
            ..key.clone()
        })
    }
}

struct Seal(aead::LessSafeKey);

impl Seal {
    fn new(root: &RootSecret) -> Self {
        Self(root.seal_key(Purpose::SigningKeySeal))
    }

    fn close(&self, key: &PrivateKey, kid: &str, randomness: &dyn Randomness) -> Vec<u8> {
        let mut nonce = [0; aead::NONCE_LEN];
        randomness.fill(&mut nonce);
        let mut sealed = key.to_pkcs8().to_vec();
        self.0
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(associated_data(kid, key.algorithm())),
                &mut sealed,
            )
            .expect("AES-GCM seals a few hundred bytes");
        sealed.splice(0..0, nonce);
        sealed
    }

    fn open(&self, key: &SealedSigningKey) -> Option<PrivateKey> {
        let (nonce, ciphertext) = key.sealed.split_at_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let associated = aead::Aad::from(associated_data(&key.kid, key.algorithm));
        let pkcs8 = self.0.open_in_place(nonce, associated, &mut opened).ok()?;
        PrivateKey::from_pkcs8(key.algorithm, pkcs8)
    }
}

fn associated_data(kid: &str, algorithm: Algorithm) -> Vec<u8> {
    format!("{}.{kid}", algorithm.name()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;

    fn root() -> RootSecret {
        RootSecret::generate(&SystemRandomness)
    }

    fn made(seals: &Seals) -> SealedSigningKey {
        seals.close(
            &PrivateKey::generate(Algorithm::Es256),
            KeyState::Current,
            Timestamp::UNIX_EPOCH,
            &SystemRandomness,
        )
    }

    #[test]
    fn a_sealed_key_is_bound_to_its_name() {
        let seals = Seals::new(&RootSecrets::from(&root()));
        let sealed = made(&seals);
        assert!(seals.open(&sealed).is_ok());
        let renamed = SealedSigningKey {
            kid: "another".to_owned(),
            ..sealed.clone()
        };
        assert!(seals.open(&renamed).is_err());
        let relabelled = SealedSigningKey {
            algorithm: Algorithm::Ed25519,
            ..sealed.clone()
        };
        assert!(seals.open(&relabelled).is_err());
        let cut = SealedSigningKey {
            sealed: sealed.sealed[..8].to_vec(),
            ..sealed
        };
        assert!(seals.open(&cut).is_err());
    }

    #[test]
    fn nothing_private_is_sealed_in_the_clear() {
        let seals = Seals::new(&RootSecrets::from(&root()));
        for algorithm in [Algorithm::Es256, Algorithm::Ed25519] {
            let key = PrivateKey::generate(algorithm);
            let sealed = seals.close(
                &key,
                KeyState::Next,
                Timestamp::UNIX_EPOCH,
                &SystemRandomness,
            );
            let pkcs8 = key.to_pkcs8();
            let end = &pkcs8[pkcs8.len() - 16..];
            assert!(!sealed.sealed.windows(16).any(|part| part == end));
        }
    }

    #[test]
    fn what_a_previous_root_secret_sealed_opens_and_is_sealed_anew() {
        let (old, new) = (root(), root());
        let sealed = made(&Seals::new(&RootSecrets::from(&old)));
        let alone = Seals::new(&RootSecrets::from(&new));
        assert!(alone.open(&sealed).is_err());
        assert_eq!(alone.renew(&sealed, &SystemRandomness), None);

        let both = Seals::new(&RootSecrets {
            current: new.clone(),
            previous: vec![root(), old],
        });
        assert!(both.open(&sealed).is_ok());
        let renewed = both.renew(&sealed, &SystemRandomness).expect("it was old");
        assert_eq!(renewed.kid, sealed.kid);
        assert!(alone.open(&renewed).is_ok());
        assert_eq!(both.renew(&renewed, &SystemRandomness), None);
    }
}
