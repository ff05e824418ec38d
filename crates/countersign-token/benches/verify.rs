//! What verification costs over the bare primitive, per algorithm.
//!
//! `cargo bench -p countersign-token` prints medians over rounds in which the variants take turns:
//! absolute numbers drift from minute to minute, the ratios of one round hardly do.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm,
};
use countersign_token::revocation::{RevokedSession, RevokedUser};
use countersign_token::{
    ACCESS_TOKEN_TYPE, AccessClaims, Algorithm, RevocationList, UnixSeconds, Verifier,
    VerifyingKey, base64url, jws,
};
use serde_json::Map;

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com";
const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

/// One thing to be measured; the first of a list is what the others are compared with.
type Variant<'a> = (&'static str, Box<dyn Fn() + 'a>);

fn main() {
    // `cargo test --benches` only asks whether this still runs.
    let (rounds, turn) = if std::env::args().any(|argument| argument == "--bench") {
        (21, Duration::from_millis(25))
    } else {
        (1, Duration::from_micros(100))
    };
    println!(
        "{:34} {:>9} {:>7} {:>10}",
        "", "median ns", "ratio", "over by ns"
    );

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public = pair.public_key().as_ref();
    let random = SystemRandom::new();
    let key = VerifyingKey::es256(KID, public).unwrap();
    let tokens = Tokens::new(&key, |input| pair.sign(&random, input).unwrap());
    tokens.compare(
        rounds,
        turn,
        asymmetric(&ECDSA_P256_SHA256_FIXED, public, &tokens.usual),
    );

    let pair = Ed25519KeyPair::generate().unwrap();
    let public = pair.public_key().as_ref();
    let key = VerifyingKey::ed25519(KID, public).unwrap();
    let tokens = Tokens::new(&key, |input| pair.sign(input));
    tokens.compare(rounds, turn, asymmetric(&ED25519, public, &tokens.usual));

    let secret = [7; 32];
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let key = VerifyingKey::hs256(KID, &secret).unwrap();
    let tokens = Tokens::new(&key, |input| hmac::sign(&hmac_key, input));
    let (input, signature) = signed(&tokens.usual);
    let bare = move || hmac::verify(&hmac_key, black_box(input.as_bytes()), &signature).unwrap();
    tokens.compare(rounds, turn, vec![("bare primitive", Box::new(bare))]);
}

/// The bare primitive, with a key that is parsed once and with one that is parsed each time.
fn asymmetric<'a>(
    algorithm: &'static dyn VerificationAlgorithm,
    public: &'a [u8],
    token: &'a str,
) -> Vec<Variant<'a>> {
    let (input, signature) = signed(token);
    let parsed = ParsedPublicKey::new(algorithm, public).unwrap();
    let unparsed = UnparsedPublicKey::new(algorithm, public);
    let unparsed_signature = signature.clone();
    vec![
        (
            "bare primitive",
            Box::new(move || {
                parsed
                    .verify_sig(black_box(input.as_bytes()), &signature)
                    .unwrap();
            }),
        ),
        (
            "bare primitive, unparsed key",
            Box::new(move || {
                unparsed
                    .verify(black_box(input.as_bytes()), &unparsed_signature)
                    .unwrap();
            }),
        ),
    ]
}

/// The text that was signed, and the signature.
fn signed(token: &str) -> (&str, Vec<u8>) {
    let (input, signature) = token.rsplit_once('.').unwrap();
    (input, base64url::decode(signature).unwrap())
}

/// One session's token, as our signer writes it and with the members of its header in another order.
struct Tokens {
    key: VerifyingKey,
    usual: String,
    foreign: String,
}

impl Tokens {
    fn new<S: AsRef<[u8]>>(key: &VerifyingKey, sign: impl Fn(&[u8]) -> S) -> Self {
        let claims = AccessClaims {
            iss: ISSUER.into(),
            sub: "1234567".into(),
            user_id: 1_234_567,
            aud: vec![AUDIENCE.into()],
            iat: NOW,
            exp: NOW.saturating_add(Duration::from_mins(5)),
            jti: "0198b3f2-6a3e-7d5c-9d0e-2f1a5b7c8d9e".into(),
            sid: "0198b3f2-6a3e-7d5c-9d0e-000000000001".into(),
            csrf: "O6P19DuSYCaDwZruYqIDQrCE3Vlx3dM4CNgaMoh5pUc".into(),
            extra: Map::from_iter([("username".into(), "ana".into())]),
        };
        let payload = serde_json::to_vec(&claims).unwrap();
        let token = |header: &str| {
            let Ok(token) =
                jws::sign_with(header, &payload, |input| Ok::<_, Infallible>(sign(input)));
            token
        };
        let algorithm: Algorithm = key.algorithm();
        let foreign =
            format!(r#"{{"typ":"{ACCESS_TOKEN_TYPE}","alg":"{algorithm}","kid":"{KID}"}}"#);
        Self {
            key: key.clone(),
            usual: token(&jws::header_json(algorithm.name(), KID, ACCESS_TOKEN_TYPE)),
            foreign: token(&foreign),
        }
    }

    fn verifier(&self, cache_capacity: usize) -> Verifier {
        Verifier::builder(ISSUER)
            .audience(AUDIENCE)
            .key(self.key.clone())
            .cache_capacity(cache_capacity)
            .build()
    }

    fn compare(&self, rounds: usize, turn: Duration, bare: Vec<Variant<'_>>) {
        let forgetful = self.verifier(0);
        let mindful = self.verifier(1024);
        let wary = self.verifier(1024);
        wary.apply_revocations_at(&two_thousand_ends(), NOW);
        let ask = |verifier: &Verifier, token: &str| {
            black_box(verifier.verify_at(black_box(token), NOW).unwrap());
        };
        let mut variants: Vec<Variant<'_>> = bare;
        variants.push(("verify", Box::new(|| ask(&forgetful, &self.usual))));
        variants.push((
            "verify, header in another order",
            Box::new(|| ask(&forgetful, &self.foreign)),
        ));
        variants.push((
            "verify, remembered",
            Box::new(|| ask(&mindful, &self.usual)),
        ));
        variants.push((
            "verify, remembered, 2,000 ends",
            Box::new(|| ask(&wary, &self.usual)),
        ));

        println!(
            "{}, token of {} bytes",
            self.key.algorithm(),
            self.usual.len()
        );
        let samples = alternate(rounds, turn, &variants);
        let bare = &samples[0];
        for ((name, _), sample) in variants.iter().zip(&samples) {
            let of_bare = |combine: fn(f64, f64) -> f64| {
                median(
                    sample
                        .iter()
                        .zip(bare)
                        .map(|(time, bare)| combine(*time, *bare))
                        .collect(),
                )
            };
            println!(
                "  {name:32} {:>9.0} {:>7.3} {:>10.0}",
                median(sample.clone()),
                of_bare(|time, bare| time / bare),
                of_bare(|time, bare| time - bare),
            );
        }
    }
}

/// A thousand sessions and a thousand users, none of them ours.
fn two_thousand_ends() -> RevocationList {
    let until = NOW.saturating_add(Duration::from_mins(5));
    RevocationList {
        sessions: (0..1000)
            .map(|n| RevokedSession {
                sid: format!("0198b3f2-6a3e-7d5c-9d0e-1{n:011}"),
                until,
            })
            .collect(),
        users: (0..1000)
            .map(|n| RevokedUser {
                sub: format!("{n}"),
                not_before: NOW,
                until,
            })
            .collect(),
        ..RevocationList::empty(NOW)
    }
}

/// Nanoseconds per call, for each variant and round. In each round every variant has its turn.
fn alternate(rounds: usize, turn: Duration, variants: &[Variant<'_>]) -> Vec<Vec<f64>> {
    let mut samples = vec![Vec::new(); variants.len()];
    for _ in 0..rounds {
        for ((_, call), sample) in variants.iter().zip(&mut samples) {
            sample.push(nanoseconds_per_call(turn, call));
        }
    }
    samples
}

fn nanoseconds_per_call(turn: Duration, call: &dyn Fn()) -> f64 {
    const BATCH: u32 = 64;
    let start = Instant::now();
    let mut calls = 0;
    loop {
        for _ in 0..BATCH {
            call();
        }
        calls += BATCH;
        let elapsed = start.elapsed();
        if elapsed >= turn {
            return elapsed.as_secs_f64() * 1e9 / f64::from(calls);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
