//! Who appears in these tests: issuers that sign, and the verifier that trusts them.

use std::convert::Infallible;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use aws_lc_rs::{hmac, signature};
use countersign_token::{
    ACCESS_TOKEN_TYPE, AccessClaims, Algorithm, Invalid, UnixSeconds, VerifiedToken, Verifier,
    VerifierBuilder, VerifyError, VerifyingKey, jws,
};
use serde_json::{Map, Value, json};

pub(crate) const ISSUER: &str = "https://auth.test";
pub(crate) const API: &str = "https://api.test";
pub(crate) const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
pub(crate) const LIFETIME: Duration = Duration::from_mins(5);
pub(crate) const LEEWAY: Duration = Duration::from_secs(10);

enum SigningKey {
    Es256(Box<EcdsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Hs256(Box<hmac::Key>),
}

/// Someone with a signing key.
pub(crate) struct Issuer {
    signing: SigningKey,
    public_bytes: Vec<u8>,
    pub(crate) key: VerifyingKey,
}

impl Issuer {
    pub(crate) fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public_bytes = pair.public_key().as_ref().to_vec();
        let key = VerifyingKey::es256(kid, &public_bytes).unwrap();
        Self {
            signing: SigningKey::Es256(Box::new(pair)),
            public_bytes,
            key,
        }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public_bytes = pair.public_key().as_ref().to_vec();
        let key = VerifyingKey::ed25519(kid, &public_bytes).unwrap();
        Self {
            signing: SigningKey::Ed25519(pair),
            public_bytes,
            key,
        }
    }

    pub(crate) fn hs256(kid: &str) -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        Self::hs256_with(kid, &secret)
    }

    pub(crate) fn hs256_with(kid: &str, secret: &[u8]) -> Self {
        let key = VerifyingKey::hs256(kid, secret).unwrap();
        let signing = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            signing: SigningKey::Hs256(Box::new(signing)),
            public_bytes: Vec::new(),
            key,
        }
    }

    /// One of each algorithm.
    pub(crate) fn of_every_algorithm() -> [Self; 3] {
        [
            Self::es256("key-1"),
            Self::ed25519("key-1"),
            Self::hs256("key-1"),
        ]
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// The public key: the uncompressed point, or the 32 bytes of Ed25519.
    pub(crate) fn public_bytes(&self) -> &[u8] {
        &self.public_bytes
    }

    /// The header of this issuer's access tokens.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm().name(), "kid": self.key.kid(), "typ": ACCESS_TOKEN_TYPE})
    }

    /// The header with one member set to `value`; `Value::Null` takes it away.
    pub(crate) fn header_with(&self, name: &str, value: Value) -> String {
        with_member(self.header(), name, value)
    }

    pub(crate) fn signature(&self, input: &[u8]) -> Vec<u8> {
        match &self.signing {
            SigningKey::Es256(pair) => pair
                .sign(&SystemRandom::new(), input)
                .unwrap()
                .as_ref()
                .to_vec(),
            SigningKey::Ed25519(pair) => pair.sign(input).as_ref().to_vec(),
            SigningKey::Hs256(key) => hmac::sign(key, input).as_ref().to_vec(),
        }
    }

    /// A token with any header and any payload, rightly signed.
    pub(crate) fn sign(&self, header: &str, payload: &[u8]) -> String {
        let sign = |input: &[u8]| Ok::<_, Infallible>(self.signature(input));
        let Ok(token) = jws::sign_with(header, payload, sign);
        token
    }

    /// A token with any payload under the right header, rightly signed.
    pub(crate) fn sign_payload(&self, payload: &str) -> String {
        self.sign(&self.usual_header(), payload.as_bytes())
    }

    pub(crate) fn usual_header(&self) -> String {
        jws::header_json(self.algorithm().name(), self.key.kid(), ACCESS_TOKEN_TYPE)
    }

    /// An access token as our own signer makes it.
    pub(crate) fn token(&self, claims: &AccessClaims) -> String {
        self.sign_payload(&serde_json::to_string(claims).unwrap())
    }

    /// A token with one claim set to `value`; `Value::Null` takes it away.
    pub(crate) fn token_with(&self, name: &str, value: Value) -> String {
        let claims = serde_json::to_value(claims()).unwrap();
        self.sign_payload(&with_member(claims, name, value))
    }

    pub(crate) fn verifier(&self) -> Verifier {
        api().key(self.key.clone()).build()
    }
}

fn with_member(mut object: Value, name: &str, value: Value) -> String {
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    object.to_string()
}

/// The resource server that these tests play.
pub(crate) fn api() -> VerifierBuilder {
    Verifier::builder(ISSUER).audience(API).leeway(LEEWAY)
}

/// What an honest token says.
pub(crate) fn claims() -> AccessClaims {
    AccessClaims {
        iss: ISSUER.into(),
        sub: "7".into(),
        user_id: 7,
        aud: vec![API.into()],
        iat: NOW,
        exp: NOW.saturating_add(LIFETIME),
        jti: "0198b3f2-6a3e-7d5c-9d0e-2f1a5b7c8d9e".into(),
        sid: "0198b3f2-6a3e-7d5c-9d0e-000000000001".into(),
        csrf: "O6P19DuSYCaDwZruYqIDQrCE3Vlx3dM4CNgaMoh5pUc".into(),
        extra: Map::from_iter([("username".into(), "ana".into())]),
    }
}

/// The refusal's word for the log; "accepted" if there was none.
pub(crate) fn outcome(verified: &Result<VerifiedToken, VerifyError>) -> &'static str {
    match verified {
        Ok(_) => "accepted",
        Err(refused) => refused.reason(),
    }
}

#[track_caller]
pub(crate) fn assert_invalid(verifier: &Verifier, token: &str, why: Invalid) {
    let refused = verifier.verify_at(token, NOW);
    assert_eq!(refused, Err(VerifyError::Invalid(why)), "{token:.600}");
}

#[track_caller]
pub(crate) fn assert_malformed(verifier: &Verifier, token: &str) {
    let refused = verifier.verify_at(token, NOW);
    assert!(
        matches!(refused, Err(VerifyError::Malformed(_))),
        "{refused:?}: {token:.600}"
    );
}

/// A signature of ES256 in DER, which JWS does not use.
pub(crate) fn der_signature(point: &[u8], seed: &[u8], input: &[u8]) -> Vec<u8> {
    EcdsaKeyPair::from_private_key_and_public_key(
        &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        seed,
        point,
    )
    .unwrap()
    .sign(&SystemRandom::new(), input)
    .unwrap()
    .as_ref()
    .to_vec()
}
