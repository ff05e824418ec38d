//! No access token is accepted that the signer did not make.
//!
//! An input is, by its first byte:
//! - `r`: the token itself;
//! - `m`: the number of an algorithm, then edits of a genuine token (see `edited`);
//! - `s`: the number of an algorithm, then a header, a line feed and a payload, rightly signed.
//!
//! One change is known to pass and is not made here: ECDSA gives a second signature to whoever has
//! one, (r, n - s). It says the same about the same bytes.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use countersign_fuzz::{NOW, edited};
use countersign_token::{
    ACCESS_TOKEN_TYPE, AccessClaims, Algorithm, UnixSeconds, VerifiedToken, Verifier, VerifyError,
    VerifyingKey, base64url, json, jws,
};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Map, Value};

const ISSUER: &str = "https://auth.test";
const API: &str = "https://api.test";
const KID: &str = "key-1";
const LEEWAY: u32 = 10;
const AT: UnixSeconds = UnixSeconds::new(NOW as u64);

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

struct Issuer {
    algorithm: Algorithm,
    sign: Sign,
    /// What everybody knows of the key; nothing of a shared secret.
    public: Option<Vec<u8>>,
    forgetful: Verifier,
    mindful: Verifier,
    genuine: [String; 2],
}

static ISSUERS: LazyLock<[Issuer; 3]> = LazyLock::new(|| {
    let secret = [7; 32];
    let shared = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let hs256 = VerifyingKey::hs256(KID, &secret).expect("a long secret");

    let edwards = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed is good");
    let edwards_public = edwards.public_key().as_ref().to_vec();
    let eddsa = VerifyingKey::ed25519(KID, &edwards_public).expect("a public key");

    let nist = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let nist_public = nist.public_key().as_ref().to_vec();
    let es256 = VerifyingKey::es256(KID, &nist_public).expect("a public key");
    let random = SystemRandom::new();
    [
        Issuer::new(
            &hs256,
            None,
            Box::new(move |input| hmac::sign(&shared, input).as_ref().to_vec()),
        ),
        Issuer::new(
            &eddsa,
            Some(edwards_public),
            Box::new(move |input| edwards.sign(input).as_ref().to_vec()),
        ),
        Issuer::new(
            &es256,
            Some(nist_public),
            Box::new(move |input| {
                let signature = nist.sign(&random, input).expect("a good key signs");
                signature.as_ref().to_vec()
            }),
        ),
    ]
});

impl Issuer {
    fn new(key: &VerifyingKey, public: Option<Vec<u8>>, sign: Sign) -> Self {
        let verifier = |remembered| {
            Verifier::builder(ISSUER)
                .audience(API)
                .leeway(Duration::from_secs(LEEWAY.into()))
                .key(key.clone())
                .cache_capacity(remembered)
                .build()
        };
        let mut issuer = Self {
            algorithm: key.algorithm(),
            sign,
            public,
            forgetful: verifier(0),
            mindful: verifier(64),
            genuine: [const { String::new() }; 2],
        };
        issuer.genuine = ["7", "8"].map(|user| {
            let token = issuer.sign(&issuer.usual_header(), &payload(&claims(user)));
            assert!(issuer.verify(&token).is_ok(), "the signer's own: {token}");
            token
        });
        issuer
    }

    fn usual_header(&self) -> String {
        jws::header_json(self.algorithm.name(), KID, ACCESS_TOKEN_TYPE)
    }

    fn sign(&self, header: &str, payload: &[u8]) -> String {
        let sign = |input: &[u8]| Ok::<_, Infallible>((self.sign)(input));
        let Ok(token) = jws::sign_with(header, payload, sign);
        token
    }

    /// The answer, which memory must not change.
    fn verify(&self, token: &str) -> Result<VerifiedToken, VerifyError> {
        let answer = self.forgetful.verify_at(token, AT);
        for _ in 0..2 {
            assert_eq!(self.mindful.verify_at(token, AT), answer, "{token}");
        }
        answer
    }

    fn refuses(&self, token: &str) {
        assert!(self.verify(token).is_err(), "accepted: {token}");
    }
}

fn claims(user: &str) -> AccessClaims {
    AccessClaims {
        iss: ISSUER.into(),
        sub: user.into(),
        user_id: user.parse().expect("a number"),
        aud: vec![API.into()],
        iat: AT,
        exp: AT.saturating_add(Duration::from_mins(5)),
        jti: "j".into(),
        sid: "0199c0de-7b1c-7000-8000-0123456789ab".into(),
        csrf: "O6P19DuSYCaDwZruYqIDQrCE3Vlx3dM4CNgaMoh5pUc".into(),
        extra: Map::new(),
    }
}

fn payload(claims: &AccessClaims) -> Vec<u8> {
    serde_json::to_vec(claims).expect("claims are JSON")
}

fuzz_target!(|input: &[u8]| -> Corpus {
    match input {
        [b'r', token @ ..] => std::str::from_utf8(token).map_or(Corpus::Reject, raw),
        [b'm', which @ b'0'..=b'2', edits @ ..] => mutated(issuer(*which), edits),
        [b's', which @ b'0'..=b'2', parts @ ..] => signed(issuer(*which), parts),
        _ => Corpus::Reject,
    }
});

fn issuer(digit: u8) -> &'static Issuer {
    &ISSUERS[usize::from(digit - b'0')]
}

fn raw(token: &str) -> Corpus {
    if let Ok(compact) = jws::parse(token) {
        let signature = base64url::encode(compact.signature.as_ref());
        assert_eq!(format!("{}.{signature}", compact.signing_input), token);
    }
    for issuer in ISSUERS.iter() {
        if !issuer.genuine.iter().any(|genuine| genuine == token) {
            issuer.refuses(token);
        }
    }
    Corpus::Keep
}

fn mutated(issuer: &Issuer, edits: &[u8]) -> Corpus {
    let [genuine, other] = &issuer.genuine;
    match edited(genuine, other, edits) {
        Some(token) if token != *other => {
            issuer.refuses(&token);
            Corpus::Keep
        }
        _ => Corpus::Reject,
    }
}

fn signed(issuer: &Issuer, parts: &[u8]) -> Corpus {
    let Some(end) = parts.iter().position(|byte| *byte == b'\n') else {
        return Corpus::Reject;
    };
    let (Ok(header), payload) = (std::str::from_utf8(&parts[..end]), &parts[end + 1..]) else {
        return Corpus::Reject;
    };
    let token = issuer.sign(header, payload);
    if let Ok(verified) = issuer.verify(&token) {
        check_accepted(issuer, header, payload, &token, &verified);
    }
    // The oldest trick: the public key taken for a shared secret.
    if let Some(public) = &issuer.public {
        let key = hmac::Key::new(hmac::HMAC_SHA256, public);
        let sign = |input: &[u8]| Ok::<_, Infallible>(hmac::sign(&key, input));
        let Ok(token) = jws::sign_with(header, payload, sign);
        issuer.refuses(&token);
    }
    Corpus::Keep
}

/// What must be true of an accepted token, by a reader that knows nothing of ours.
fn check_accepted(
    issuer: &Issuer,
    header: &str,
    payload: &[u8],
    token: &str,
    verified: &AccessClaims,
) {
    assert!(token.len() <= jws::MAX_TOKEN_BYTES);
    let header: Map<String, Value> = serde_json::from_str(header).expect("a header is an object");
    let algorithm = header["alg"].as_str().and_then(Algorithm::from_name);
    assert_eq!(algorithm, Some(issuer.algorithm));
    assert_eq!(header["kid"], KID);
    let typ = header["typ"].as_str().map(str::to_ascii_lowercase);
    assert!(matches!(
        typ.as_deref(),
        Some("at+jwt" | "application/at+jwt")
    ));
    assert!(!header.contains_key("crit") && !header.contains_key("b64"));

    let said = json::value_from_slice(payload).expect("no name is repeated");
    assert_eq!(said["iss"], ISSUER);
    assert!(
        said["aud"] == API
            || said["aud"]
                .as_array()
                .is_some_and(|all| all.contains(&API.into()))
    );
    let time = |name: &str| said[name].as_u64();
    let (now, leeway) = (u64::from(NOW), u64::from(LEEWAY));
    let latest = now + leeway;
    assert!(time("iat").is_some_and(|iat| iat <= latest), "{said}");
    assert!(
        said.get("nbf").is_none() || time("nbf").is_some_and(|nbf| nbf <= latest),
        "{said}"
    );
    assert!(time("exp").is_some_and(|exp| exp + leeway > now), "{said}");

    // What was read, written and read again, is the same.
    let again = issuer.sign(&issuer.usual_header(), &self::payload(verified));
    if again.len() <= jws::MAX_TOKEN_BYTES {
        let again = issuer.verify(&again).expect("our own spelling of it");
        assert_eq!(&*again, verified);
    }
    let over = verified
        .exp
        .saturating_add(Duration::from_secs(LEEWAY.into()));
    for verifier in [&issuer.mindful, &issuer.forgetful] {
        assert!(verifier.verify_at(token, over).is_err(), "outlives its exp");
    }
}
