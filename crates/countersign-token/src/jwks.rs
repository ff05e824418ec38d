//! Public keys as JSON Web Keys ([RFC 7517]), written and read.
//!
//! Only public keys of ES256 and Ed25519 have this form here. A secret cannot be put into it, and a
//! set that contains one is refused: somebody has published what must not be known.
//!
//! [RFC 7517]: https://www.rfc-editor.org/rfc/rfc7517

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::base64url;
use crate::json::{self, JsonError};
use crate::key::{Material, P256_COORDINATE_BYTES};
use crate::{Algorithm, KeyError, VerifyingKey};

/// Larger sets are refused before they are read. A set of ours has two or three keys of about 200
/// bytes.
pub const MAX_SET_BYTES: usize = 256 * 1024;

/// The members of a private key (RFC 7518, section 6; RFC 8037, section 2; RFC 9964 for `priv`),
/// and of a symmetric one (`k`).
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// A public key that verifies signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JsonWebKey {
    kty: &'static str,
    crv: &'static str,
    x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    kid: String,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
    #[serde(skip)]
    key: Same<VerifyingKey>,
}

/// A value that follows from the other fields and takes no part in comparisons.
#[derive(Debug, Clone)]
struct Same<T>(T);

impl<T> PartialEq for Same<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Same<T> {}

impl JsonWebKey {
    /// The key of ES256 with this uncompressed point (65 bytes, or x and y of together 64), named
    /// by its [`thumbprint`](Self::thumbprint).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotOnCurve`], as [`VerifyingKey::es256`].
    pub fn es256(point: &[u8]) -> Result<Self, KeyError> {
        Self::named_by_thumbprint(|kid| VerifyingKey::es256(kid, point))
    }

    /// The key of Ed25519 with these 32 bytes, named by its [`thumbprint`](Self::thumbprint).
    ///
    /// # Errors
    ///
    /// [`KeyError::NotEd25519`], as [`VerifyingKey::ed25519`].
    pub fn ed25519(public_key: &[u8]) -> Result<Self, KeyError> {
        Self::named_by_thumbprint(|kid| VerifyingKey::ed25519(kid, public_key))
    }

    fn named_by_thumbprint(
        key: impl Fn(&str) -> Result<VerifyingKey, KeyError>,
    ) -> Result<Self, KeyError> {
        let unnamed = key("unnamed")?;
        let thumbprint = Self::public(&unnamed)
            .ok_or(KeyError::NotOnCurve)?
            .thumbprint();
        let named = key(&thumbprint)?;
        Self::public(&named).ok_or(KeyError::NotOnCurve)
    }

    /// The public form of `key`; `None` for HS256, whose key is a secret.
    #[must_use]
    pub fn public(key: &VerifyingKey) -> Option<Self> {
        let (kty, crv, x, y) = match key.material() {
            Material::Es256(public) => {
                // Uncompressed, as `VerifyingKey::es256` makes sure: 0x04, x, y.
                let (x, y) = public
                    .as_ref()
                    .get(1..)?
                    .split_at_checked(P256_COORDINATE_BYTES)?;
                ("EC", "P-256", x, Some(y))
            }
            Material::Ed25519(public) => ("OKP", "Ed25519", public.as_ref(), None),
            Material::Hs256(_) => return None,
        };
        Some(Self {
            kty,
            crv,
            x: base64url::encode(x),
            y: y.map(base64url::encode),
            kid: key.kid().to_owned(),
            purpose: "sig",
            alg: key.algorithm().name(),
            key: Same(key.clone()),
        })
    }

    /// The key's name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key, ready to verify.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.0.clone()
    }

    /// The SHA-256 thumbprint in base64url ([RFC 7638, section 3]; for Ed25519
    /// [RFC 8037, appendix A.3]). It depends on the key alone, not on its name.
    ///
    /// [RFC 7638, section 3]: https://www.rfc-editor.org/rfc/rfc7638#section-3
    /// [RFC 8037, appendix A.3]: https://www.rfc-editor.org/rfc/rfc8037#appendix-A.3
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // The required members in lexicographic order, without whitespace. base64url needs no
        // escapes.
        let Self { kty, crv, x, .. } = self;
        let members = match &self.y {
            Some(y) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            None => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
        };
        base64url::encode(digest(&SHA256, members.as_bytes()).as_ref())
    }
}

/// Why a set of keys was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Longer than [`MAX_SET_BYTES`].
    #[error("the key set is longer than {MAX_SET_BYTES} bytes")]
    TooLong,
    /// Not the JSON of a key set.
    #[error("the key set cannot be read: {0}")]
    Json(#[from] JsonError),
    /// A member of a key has the wrong type.
    #[error("the member `{member}` of a key is not {expected}")]
    Member {
        /// The member's name.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A key is private or symmetric. Whoever published the set must replace that key.
    #[error(
        "the key set contains a private or symmetric key: it must be replaced, for it is known"
    )]
    SecretPublished,
    /// Two keys have the same name.
    #[error("two keys of the set have the kid {0:?}")]
    DuplicateKid(String),
    /// A key that is meant for us is broken.
    #[error("the key {kid:?} is broken: {reason}")]
    BrokenKey {
        /// The key's name.
        kid: String,
        /// What is wrong with it.
        reason: KeyError,
    },
}

/// A set of public keys: what an issuer publishes at its `jwks_uri`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JsonWebKeySet {
    keys: Vec<JsonWebKey>,
}

impl JsonWebKeySet {
    /// Reads a set that an issuer published.
    ///
    /// Keys that are of no use here are skipped, as [RFC 7517, section 5] wants it: of another type
    /// or algorithm, not for verifying signatures (`use`, `key_ops`), or without a `kid`. The set
    /// may turn out empty.
    ///
    /// ```
    /// use countersign_token::{JsonWebKeySet, Verifier};
    ///
    /// let set = JsonWebKeySet::parse(
    ///     br#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "2026-11", "use": "sig",
    ///         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    /// )?;
    /// let verifier = Verifier::builder("https://auth.example.com").keys(set.verifying_keys()).build();
    /// # Ok::<(), countersign_token::JwksError>(())
    /// ```
    ///
    /// [RFC 7517, section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    ///
    /// # Errors
    ///
    /// [`JwksError`] for a set that something is badly wrong with: too long, not strict JSON, a
    /// member of the wrong type, a private or symmetric key, a kid twice, or a key for us that is
    /// not on its curve.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        #[derive(serde::Deserialize)]
        struct Published {
            keys: Vec<Map<String, Value>>,
        }

        if bytes.len() > MAX_SET_BYTES {
            return Err(JwksError::TooLong);
        }
        let published: Published = json::from_slice(bytes)?;

        let mut kids = BTreeSet::new();
        let mut keys = Vec::new();
        for members in &published.keys {
            let members = Members(members);
            if members.are_secret()? {
                return Err(JwksError::SecretPublished);
            }
            let Some(kid) = members.text("kid")? else {
                continue;
            };
            if !kids.insert(kid) {
                return Err(JwksError::DuplicateKid(kid.to_owned()));
            }
            keys.extend(members.usable_key(kid)?);
        }
        Ok(Self { keys })
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[JsonWebKey] {
        &self.keys
    }

    /// The keys, ready to verify.
    #[must_use]
    pub fn verifying_keys(&self) -> Vec<VerifyingKey> {
        self.keys.iter().map(JsonWebKey::verifying_key).collect()
    }
}

impl FromIterator<JsonWebKey> for JsonWebKeySet {
    fn from_iter<I: IntoIterator<Item = JsonWebKey>>(keys: I) -> Self {
        Self {
            keys: keys.into_iter().collect(),
        }
    }
}

/// The members of one published key, not yet understood.
struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn text(&self, member: &'static str) -> Result<Option<&'a str>, JwksError> {
        match self.0.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwksError::Member {
                member,
                expected: "a string",
            }),
        }
    }

    fn are_secret(&self) -> Result<bool, JwksError> {
        let symmetric = self.text("kty")? == Some("oct");
        Ok(symmetric
            || PRIVATE_MEMBERS
                .iter()
                .any(|member| self.0.contains_key(*member)))
    }

    fn usable_key(&self, kid: &str) -> Result<Option<JsonWebKey>, JwksError> {
        let algorithm = match (self.text("kty")?, self.text("crv")?) {
            (Some("EC"), Some("P-256")) => Algorithm::Es256,
            (Some("OKP"), Some("Ed25519")) => Algorithm::Ed25519,
            _ => return Ok(None),
        };
        if let Some(name) = self.text("alg")?
            && Algorithm::from_name(name) != Some(algorithm)
        {
            return Ok(None);
        }
        if !self.is_for_verifying()? {
            return Ok(None);
        }

        let key = match algorithm {
            Algorithm::Es256 => {
                let coordinates = [self.coordinate("x")?, self.coordinate("y")?];
                // Each by itself: one that is too long must not make up for one that is too short.
                if coordinates
                    .iter()
                    .all(|bytes| bytes.len() == P256_COORDINATE_BYTES)
                {
                    VerifyingKey::es256(kid, &coordinates.concat())
                } else {
                    Err(KeyError::NotOnCurve)
                }
            }
            Algorithm::Ed25519 => VerifyingKey::ed25519(kid, &self.coordinate("x")?),
            Algorithm::Hs256 => return Ok(None),
        };
        match key {
            Ok(key) => Ok(JsonWebKey::public(&key)),
            Err(reason) => Err(JwksError::BrokenKey {
                kid: kid.to_owned(),
                reason,
            }),
        }
    }

    fn is_for_verifying(&self) -> Result<bool, JwksError> {
        let wrong_operations = JwksError::Member {
            member: "key_ops",
            expected: "an array of strings",
        };
        let operations_fit = match self.0.get("key_ops") {
            None => true,
            Some(Value::Array(operations)) if operations.iter().all(Value::is_string) => {
                operations.iter().any(|operation| operation == "verify")
            }
            Some(_) => return Err(wrong_operations),
        };
        let use_fits = self.text("use")?.is_none_or(|purpose| purpose == "sig");
        Ok(operations_fit && use_fits)
    }

    fn coordinate(&self, member: &'static str) -> Result<Vec<u8>, JwksError> {
        let text = self.text(member)?.unwrap_or_default();
        base64url::decode(text).map_err(|_| JwksError::Member {
            member,
            expected: "base64url without padding",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 7515, appendix A.3.1.
    fn p256() -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "kid": "ec",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        })
    }

    /// RFC 8037, appendix A.2.
    fn ed25519() -> Value {
        json!({
            "kty": "OKP", "crv": "Ed25519", "kid": "ed",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        })
    }

    fn with(mut key: Value, members: &[(&str, Value)]) -> Value {
        for (name, value) in members {
            key[*name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<JsonWebKeySet, JwksError> {
        JsonWebKeySet::parse(json!({"keys": keys}).to_string().as_bytes())
    }

    fn kids(keys: &[Value]) -> Vec<String> {
        parse(keys)
            .unwrap()
            .keys()
            .iter()
            .map(|key| key.kid().to_owned())
            .collect()
    }

    #[test]
    fn a_published_set_can_be_imported_again() {
        let set = parse(&[p256(), ed25519()]).unwrap();
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(JsonWebKeySet::parse(json.as_bytes()).unwrap(), set);
        assert_eq!(
            json,
            concat!(
                r#"{"keys":[{"kty":"EC","crv":"P-256","#,
                r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
                r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","#,
                r#""kid":"ec","use":"sig","alg":"ES256"},"#,
                r#"{"kty":"OKP","crv":"Ed25519","#,
                r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","#,
                r#""kid":"ed","use":"sig","alg":"EdDSA"}]}"#,
            )
        );
    }

    #[test]
    fn the_thumbprint_of_ed25519_is_that_of_rfc_8037_a_3() {
        let set = parse(&[ed25519()]).unwrap();
        assert_eq!(
            set.keys()[0].thumbprint(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn the_thumbprint_of_p256_is_that_of_rfc_7638_section_3() {
        let text = concat!(
            r#"{"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
            r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
        );
        let expected = base64url::encode(digest(&SHA256, text.as_bytes()).as_ref());
        let set = parse(&[p256()]).unwrap();
        assert_eq!(set.keys()[0].thumbprint(), expected);
    }

    #[test]
    fn a_key_without_a_name_is_named_by_its_thumbprint() {
        let bytes = base64url::decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = JsonWebKey::ed25519(&bytes).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(key.verifying_key().kid(), key.kid());
        assert_eq!(
            JsonWebKey::es256(&[0; 64]).unwrap_err(),
            KeyError::NotOnCurve
        );
        assert_eq!(
            JsonWebKey::ed25519(&[0; 31]).unwrap_err(),
            KeyError::NotEd25519
        );
    }

    #[test]
    fn a_secret_has_no_public_form() {
        assert_eq!(
            JsonWebKey::public(&VerifyingKey::hs256("k", &[1; 32]).unwrap()),
            None
        );
    }

    #[test]
    fn keys_that_are_of_no_use_here_are_skipped() {
        for other in [
            json!({"kty": "RSA", "kid": "r", "alg": "RS256", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "AKP", "kid": "m", "alg": "ML-DSA-44", "pub": "AA"}),
            json!({"kid": "no type"}),
            with(p256(), &[("kid", json!("c")), ("crv", json!("P-384"))]),
            with(p256(), &[("kid", json!("c")), ("crv", json!("secp256k1"))]),
            with(p256(), &[("kid", json!("t")), ("kty", json!("RSA"))]),
            with(p256(), &[("kid", json!("a")), ("alg", json!("ES521"))]),
            with(p256(), &[("kid", json!("a")), ("alg", json!("EdDSA"))]),
            with(p256(), &[("kid", json!("a")), ("alg", json!("HS256"))]),
            with(p256(), &[("kid", json!("e")), ("use", json!("enc"))]),
            with(
                p256(),
                &[("kid", json!("o")), ("key_ops", json!(["encrypt"]))],
            ),
            with(p256(), &[("kid", json!("o")), ("key_ops", json!([]))]),
            json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": "AA"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        ] {
            assert_eq!(kids(&[other.clone(), ed25519()]), ["ed"], "{other}");
        }
    }

    #[test]
    fn keys_that_say_they_are_for_verifying_are_taken() {
        for (key, members) in [
            (p256(), vec![("alg", json!("ES256")), ("use", json!("sig"))]),
            (
                p256(),
                vec![
                    ("key_ops", json!(["sign", "verify"])),
                    ("x5c", json!(["MII"])),
                ],
            ),
            (ed25519(), vec![("alg", json!("EdDSA"))]),
            (ed25519(), vec![("alg", json!("Ed25519"))]),
        ] {
            assert_eq!(
                parse(&[with(key, &members)])
                    .unwrap()
                    .verifying_keys()
                    .len(),
                1
            );
        }
    }

    #[test]
    fn a_set_with_a_secret_in_it_is_refused() {
        for secret in [
            json!({"kty": "oct", "kid": "s", "k": "AAAA"}),
            json!({"kty": "oct"}),
            json!({"kty": "strange", "k": "AAAA"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AA"}),
            with(p256(), &[("d", json!("AA"))]),
            with(p256(), &[("d", json!(null))]),
            with(p256(), &[("use", json!("enc")), ("d", json!("AA"))]),
        ] {
            let refused = parse(&[ed25519(), secret.clone()]);
            assert_eq!(refused, Err(JwksError::SecretPublished), "{secret}");
        }
    }

    #[test]
    fn a_set_with_a_kid_twice_is_refused_even_when_one_key_would_be_skipped() {
        for second in [
            p256(),
            with(ed25519(), &[("kid", json!("ec"))]),
            json!({"kid": "ec"}),
        ] {
            let refused = parse(&[p256(), second]);
            assert_eq!(refused, Err(JwksError::DuplicateKid("ec".into())));
        }
    }

    #[test]
    fn a_broken_key_is_refused() {
        let x = p256()["x"].as_str().unwrap().to_owned();
        let y = p256()["y"].as_str().unwrap().to_owned();
        let long = base64url::encode(&[0; 33]);
        let short = base64url::encode(&[0; 31]);
        for broken in [
            with(p256(), &[("x", json!(y)), ("y", json!(x))]),
            with(p256(), &[("x", json!(long)), ("y", json!(short))]),
            with(p256(), &[("y", json!(""))]),
            with(ed25519(), &[("x", json!(long))]),
            with(p256(), &[("kid", json!(""))]),
        ] {
            let refused = parse(std::slice::from_ref(&broken));
            assert!(
                matches!(refused, Err(JwksError::BrokenKey { .. })),
                "{broken}: {refused:?}"
            );
        }
    }

    #[test]
    fn members_of_the_wrong_type_or_spelling_are_refused() {
        for wrong in [
            with(p256(), &[("kid", json!(1))]),
            with(p256(), &[("kty", json!(null))]),
            with(p256(), &[("use", json!(["sig"]))]),
            with(p256(), &[("alg", json!(256))]),
            with(p256(), &[("key_ops", json!("verify"))]),
            with(p256(), &[("key_ops", json!(["verify", 1]))]),
            with(
                p256(),
                &[("x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU="))],
            ),
            with(
                p256(),
                &[("x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV"))],
            ),
        ] {
            let refused = parse(std::slice::from_ref(&wrong));
            assert!(
                matches!(refused, Err(JwksError::Member { .. })),
                "{wrong}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"keys":{}}"#,
            r#"{"keys":[1]}"#,
            r#"{"keys":[],"keys":[]}"#,
        ] {
            let refused = JsonWebKeySet::parse(text.as_bytes());
            assert!(matches!(refused, Err(JwksError::Json(_))), "{text}");
        }
        assert!(
            JsonWebKeySet::parse(br#"{"keys":[]}"#)
                .unwrap()
                .keys()
                .is_empty()
        );
    }

    #[test]
    fn a_set_beyond_the_limit_is_refused_unread() {
        let padded = format!(r#"{{"keys":[]{}}}"#, " ".repeat(MAX_SET_BYTES));
        assert_eq!(
            JsonWebKeySet::parse(padded.as_bytes()),
            Err(JwksError::TooLong)
        );
    }
}
