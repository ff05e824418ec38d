//! Keys that verify.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};

/// An HS256 secret must have at least as many bytes as the hash ([RFC 7518, section 3.2]): a
/// shorter one can be guessed offline from a single token.
///
/// [RFC 7518, section 3.2]: https://www.rfc-editor.org/rfc/rfc7518#section-3.2
pub const MIN_SECRET_BYTES: usize = 32;

/// An uncompressed P-256 point: 0x04, x, y (SEC 1, section 2.3.3).
pub(crate) const P256_POINT_BYTES: usize = 65;
pub(crate) const P256_COORDINATE_BYTES: usize = 32;
const UNCOMPRESSED: u8 = 0x04;

/// The algorithms that exist here. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256 ([RFC 7518, section 3.4](https://www.rfc-editor.org/rfc/rfc7518#section-3.4)).
    Es256,
    /// Ed25519 ([RFC 8037, section 3.1](https://www.rfc-editor.org/rfc/rfc8037#section-3.1)).
    Ed25519,
    /// HMAC with SHA-256 ([RFC 7518, section 3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2)).
    Hs256,
}

impl Algorithm {
    /// The name to write: `ES256`, `EdDSA` or `HS256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Ed25519 => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm of that name, byte for byte. Ed25519 has two: `EdDSA`, which most libraries
    /// know, and `Ed25519`, which
    /// [RFC 9864, section 2.2](https://www.rfc-editor.org/rfc/rfc9864#section-2.2) puts in its
    /// place.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::Ed25519),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key's name is empty.
    #[error("the key has no name: give it a kid, such as its RFC 7638 thumbprint")]
    NoKid,
    /// Not an uncompressed point of P-256.
    #[error("an ES256 key is an uncompressed point on P-256: 0x04, then x and y of 32 bytes each")]
    NotOnCurve,
    /// Not an Ed25519 public key.
    #[error("an Ed25519 public key is 32 bytes")]
    NotEd25519,
    /// The secret is shorter than [`MIN_SECRET_BYTES`].
    #[error("an HS256 secret must be at least {MIN_SECRET_BYTES} random bytes")]
    SecretTooShort,
}

/// The signature does not belong to the text and the key. There is nothing more to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

/// A key that verifies, prepared once; its clones share the preparation.
///
/// A key has one name and one algorithm. Debug shows both and nothing of the key.
#[derive(Clone)]
pub struct VerifyingKey(Arc<NamedKey>);

struct NamedKey {
    kid: String,
    material: Material,
}

pub(crate) enum Material {
    Es256(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
    Hs256(Box<hmac::Key>),
}

impl VerifyingKey {
    /// An ES256 key from `point`, the uncompressed point of 65 bytes, or its x and y of together
    /// 64 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotOnCurve`] if `point` has another form or is not on P-256;
    /// [`KeyError::NoKid`] if `kid` is empty.
    pub fn es256(kid: impl Into<String>, point: &[u8]) -> Result<Self, KeyError> {
        let mut uncompressed = [UNCOMPRESSED; P256_POINT_BYTES];
        match point.len() {
            P256_POINT_BYTES => uncompressed.copy_from_slice(point),
            // x || y.
            length if length == 2 * P256_COORDINATE_BYTES => {
                uncompressed[1..].copy_from_slice(point);
            }
            _ => return Err(KeyError::NotOnCurve),
        }
        // The library would take other encodings too, such as the hybrid one.
        if uncompressed[0] != UNCOMPRESSED {
            return Err(KeyError::NotOnCurve);
        }
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, uncompressed)
            .map_err(|_| KeyError::NotOnCurve)?;
        Self::named(kid.into(), Material::Es256(key))
    }

    /// An Ed25519 key from its 32 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotEd25519`] if there are not 32 bytes; [`KeyError::NoKid`] if `kid` is empty.
    pub fn ed25519(kid: impl Into<String>, public_key: &[u8]) -> Result<Self, KeyError> {
        // The library would take DER of other lengths too.
        if public_key.len() != aws_lc_rs::signature::ED25519_PUBLIC_KEY_LEN {
            return Err(KeyError::NotEd25519);
        }
        let key = ParsedPublicKey::new(&ED25519, public_key).map_err(|_| KeyError::NotEd25519)?;
        Self::named(kid.into(), Material::Ed25519(key))
    }

    /// An HS256 key from a secret. Whoever can verify with it can sign with it.
    ///
    /// # Errors
    ///
    /// [`KeyError::SecretTooShort`] for fewer than [`MIN_SECRET_BYTES`]; [`KeyError::NoKid`] if
    /// `kid` is empty.
    pub fn hs256(kid: impl Into<String>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::SecretTooShort);
        }
        Self::named(
            kid.into(),
            Material::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))),
        )
    }

    fn named(kid: String, material: Material) -> Result<Self, KeyError> {
        if kid.is_empty() {
            return Err(KeyError::NoKid);
        }
        Ok(Self(Arc::new(NamedKey { kid, material })))
    }

    /// The only algorithm that this key is used with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0.material {
            Material::Es256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::Ed25519,
            Material::Hs256(_) => Algorithm::Hs256,
        }
    }

    /// The name by which tokens refer to this key.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// Checks `signature` over `signing_input`. ES256 signatures are r and s of 32 bytes each and
    /// never DER ([RFC 7518, section 3.4]); HMAC tags are compared whole and in constant time.
    ///
    /// [RFC 7518, section 3.4]: https://www.rfc-editor.org/rfc/rfc7518#section-3.4
    ///
    /// # Errors
    ///
    /// [`BadSignature`], without saying why.
    pub fn verify(&self, signing_input: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        match &self.0.material {
            Material::Es256(key) | Material::Ed25519(key) => {
                key.verify_sig(signing_input, signature)
            }
            Material::Hs256(key) => hmac::verify(key, signing_input, signature),
        }
        .map_err(|_| BadSignature)
    }

    pub(crate) fn material(&self) -> &Material {
        &self.0.material
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("VerifyingKey")
            .field("kid", &self.kid())
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 7515, appendix A.3.1: x, then y.
    fn rfc_7515_a3() -> Vec<u8> {
        let x = crate::base64url::decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU").unwrap();
        let y = crate::base64url::decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0").unwrap();
        [x, y].concat()
    }

    #[test]
    fn a_p256_key_is_taken_with_and_without_its_leading_byte() {
        let point = rfc_7515_a3();
        assert!(VerifyingKey::es256("k", &point).is_ok());
        assert!(VerifyingKey::es256("k", &[&[4], point.as_slice()].concat()).is_ok());
    }

    #[test]
    fn a_point_off_the_curve_or_in_another_encoding_is_refused() {
        let point = rfc_7515_a3();
        let mut off_the_curve = point.clone();
        off_the_curve[63] ^= 1;
        let hybrid = [&[6 + (point[63] & 1)], point.as_slice()].concat();
        let compressed = [&[2 + (point[63] & 1)], &point[..32]].concat();
        for wrong in [
            off_the_curve,
            hybrid,
            compressed,
            vec![0; 64],
            vec![0; 65],
            vec![0],
            Vec::new(),
        ] {
            let refused = VerifyingKey::es256("k", &wrong);
            assert_eq!(refused.unwrap_err(), KeyError::NotOnCurve, "{wrong:?}");
        }
    }

    #[test]
    fn an_ed25519_key_has_32_bytes() {
        assert!(VerifyingKey::ed25519("k", &[1; 32]).is_ok());
        for length in [0, 31, 33, 44, 64] {
            let refused = VerifyingKey::ed25519("k", &vec![1; length]);
            assert_eq!(refused.unwrap_err(), KeyError::NotEd25519, "{length}");
        }
        // A SubjectPublicKeyInfo (RFC 8410, section 4), which the library would read.
        let der = [
            b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".as_slice(),
            &[1; 32],
        ];
        let refused = VerifyingKey::ed25519("k", &der.concat());
        assert_eq!(refused.unwrap_err(), KeyError::NotEd25519);
    }

    #[test]
    fn a_secret_has_at_least_32_bytes() {
        assert!(VerifyingKey::hs256("k", &[1; 32]).is_ok());
        for length in [0, 1, 31] {
            let refused = VerifyingKey::hs256("k", &vec![1; length]);
            assert_eq!(refused.unwrap_err(), KeyError::SecretTooShort, "{length}");
        }
    }

    #[test]
    fn a_key_has_a_name() {
        assert_eq!(
            VerifyingKey::hs256("", &[1; 32]).unwrap_err(),
            KeyError::NoKid
        );
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let key = VerifyingKey::hs256("k", b"a secret of at least 32 bytes, really").unwrap();
        assert_eq!(
            format!("{key:?}"),
            r#"VerifyingKey { kid: "k", algorithm: Hs256, .. }"#
        );
    }

    #[test]
    fn algorithms_are_named_byte_for_byte() {
        for algorithm in [Algorithm::Es256, Algorithm::Ed25519, Algorithm::Hs256] {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::Ed25519));
        for unknown in [
            "", "none", "None", "es256", "eddsa", "HS256 ", "RS256", "ES384", "HS512",
        ] {
            assert_eq!(Algorithm::from_name(unknown), None, "{unknown}");
        }
    }
}
