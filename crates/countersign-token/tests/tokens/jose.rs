//! The JOSE vectors of Project Wycheproof: signed tokens, sets of keys and encrypted tokens.
//!
//! Keys come here by the two ways there are: public ones from a published set, and the secrets of
//! HS256 from whoever runs the service. The payloads are prose and no claims, so a vector counts as
//! accepted when nothing is wrong with it before its claims are looked at.
//!
//! The numbers of vectors are exact: when the files change, somebody shall look at what is new.

use std::collections::BTreeSet;
use std::slice;

use countersign_token::{
    Algorithm, Invalid, JsonWebKey, JsonWebKeySet, JwksError, Malformed, VerifyError, VerifyingKey,
    base64url, jws,
};
use serde_json::{Value, json};
use wycheproof_ng_kdf_jose::json_web::{TestGroup, TestName, TestSet};

use crate::actors::{Issuer, NOW, api, assert_malformed};
use crate::wycheproof::Tally;

/// Vectors of `json_web_signature` of which we say something else than the file: whether we accept
/// them, and why. All were made from [`VALID_MAC`].
///
/// The question marks are for readers that pass over what is not base64url. RFC 7515 forbids that:
/// base64url is "without the inclusion of any line breaks, whitespace, or other additional
/// characters" (section 2), and whoever decodes header and payload has to see to it (section 5.2,
/// steps 2 and 7).
const EXCEPTIONS: [(usize, bool, &str); 4] = [
    (
        367,
        true,
        "meant to have padding in it, but has none: it is the valid token, byte for byte",
    ),
    (
        370,
        true,
        "meant to have padding in its payload: the valid token, byte for byte, once more",
    ),
    (
        372,
        false,
        "a question mark in the header, which is therefore not base64url",
    ),
    (
        373,
        false,
        "a question mark in the payload; and the tag is that of the text without it",
    ),
];

/// "ValidMac".
const VALID_MAC: usize = 357;

fn groups(file: TestName) -> Vec<TestGroup> {
    TestSet::load(file).unwrap().test_groups
}

/// The token as it would stand in a request. Those in the JSON serialisation are objects in one of
/// the files.
fn text(token: &Value) -> String {
    token
        .as_str()
        .map_or_else(|| token.to_string(), str::to_owned)
}

/// The keys of a set, or the one key that is no set.
fn keys_in(key_or_set: &Value) -> &[Value] {
    match key_or_set.get("keys") {
        Some(keys) => keys.as_array().unwrap(),
        None => slice::from_ref(key_or_set),
    }
}

/// What `group` is verified with: public keys, or secrets.
fn verifying_half(group: &TestGroup) -> &Value {
    group
        .public_key
        .as_ref()
        .or(group.private_key.as_ref())
        .unwrap()
}

fn has_a_set(group: &TestGroup) -> bool {
    verifying_half(group).get("keys").is_some()
}

fn is_symmetric(key: &Value) -> bool {
    key["kty"] == "oct"
}

/// Whether tokens can be signed with a key like this and be verified by us: whatever else is wrong
/// with it.
fn is_of_our_kind(key: &Value) -> bool {
    match key["kty"].as_str() {
        Some("oct") => key["alg"] == "HS256",
        Some("EC") => key["crv"] == "P-256",
        Some("OKP") => key["crv"] == "Ed25519",
        _ => false,
    }
}

fn publish(keys: &[Value]) -> Result<JsonWebKeySet, JwksError> {
    JsonWebKeySet::parse(json!({"keys": keys}).to_string().as_bytes())
}

/// The key, by the way that such a key comes to us; if it can.
fn import(key: &Value) -> Option<VerifyingKey> {
    if is_symmetric(key) {
        if key["alg"] != "HS256" {
            return None;
        }
        let secret = base64url::decode(key["k"].as_str()?).ok()?;
        return VerifyingKey::hs256(key["kid"].as_str()?, &secret).ok();
    }
    publish(slice::from_ref(key)).ok()?.verifying_keys().pop()
}

/// Whether nothing is wrong with `token` before its claims are looked at.
fn accepts(keys: &[VerifyingKey], token: &str) -> bool {
    let accepted = jws::parse(token).is_ok_and(|compact| {
        let named = |key: &&VerifyingKey| compact.header.kid.as_deref() == Some(key.kid());
        keys.iter().find(named).is_some_and(|key| {
            Algorithm::from_name(&compact.header.algorithm) == Some(key.algorithm())
                && key
                    .verify(compact.signing_input.as_bytes(), compact.signature.as_ref())
                    .is_ok()
                && compact.payload_bytes().is_ok()
        })
    });

    // A verifier stops at `typ`, which access tokens have and these do not; if not before.
    let verified = api()
        .keys(keys.to_vec())
        .build()
        .verify_at(token, NOW)
        .map(|_| ());
    if accepted {
        assert_eq!(verified, Err(Invalid::Type.into()), "{token}");
    } else {
        assert!(verified.is_err(), "{token}");
    }
    accepted
}

#[test]
fn signatures_of_our_algorithms_are_judged_as_the_files_say() {
    let mut tally = Tally::default();
    let mut exceptions = 0;
    for file in [TestName::JsonWebSignature, TestName::JsonWebCrypto] {
        for group in groups(file) {
            let jwk = verifying_half(&group);
            if has_a_set(&group) || !is_of_our_kind(jwk) {
                continue;
            }
            let keys: Vec<VerifyingKey> = import(jwk).into_iter().collect();
            for test in &group.tests {
                let Some(token) = &test.jws else { continue };
                let vector = format!("{file:?} {}: {}", test.tc_id, test.comment);
                let mut valid = !test.result.must_fail();
                let exception = EXCEPTIONS
                    .iter()
                    .find(|(tc_id, ..)| file == TestName::JsonWebSignature && *tc_id == test.tc_id);
                if let Some((_, ours, why)) = exception {
                    assert_ne!(
                        valid, *ours,
                        "{vector}: the file agrees by now, though {why}"
                    );
                    valid = *ours;
                    exceptions += 1;
                }
                tally.count(valid, accepts(&keys, &text(token)), &vector);
            }
        }
    }
    assert_eq!(exceptions, EXCEPTIONS.len());
    assert_eq!(
        tally,
        Tally {
            valid: 14,
            invalid: 99
        }
    );
}

#[test]
fn the_exceptions_are_what_their_reasons_say() {
    let tests: Vec<_> = groups(TestName::JsonWebSignature)
        .into_iter()
        .flat_map(|group| group.tests)
        .collect();
    let token = |tc_id| {
        let test = tests.iter().find(|test| test.tc_id == tc_id).unwrap();
        text(test.jws.as_ref().unwrap())
    };
    let valid = token(VALID_MAC);
    for (tc_id, accepted, why) in EXCEPTIONS {
        let token = token(tc_id);
        assert_eq!(token.contains('?'), !accepted, "{tc_id}: {why}");
        assert_eq!(token.replace('?', ""), valid, "{tc_id}: {why}");
    }
}

#[test]
fn tokens_of_other_algorithms_are_refused_before_any_key_is_used() {
    let mut refused = 0;
    for file in [TestName::JsonWebSignature, TestName::JsonWebCrypto] {
        for group in groups(file) {
            let Some(jwk) = &group.public_key else {
                continue;
            };
            if is_of_our_kind(jwk) {
                continue;
            }
            assert!(import(jwk).is_none(), "{jwk}");

            // What if a key of ours had the same name?
            let kid = jwk["kid"].as_str().unwrap();
            let namesakes = [Issuer::es256(kid), Issuer::ed25519(kid), Issuer::hs256(kid)];
            for token in group.tests.iter().filter_map(|test| test.jws.as_ref()) {
                let token = text(token);
                for namesake in &namesakes {
                    let verified = namesake.verifier().verify_at(&token, NOW);
                    assert!(
                        matches!(
                            verified,
                            Err(VerifyError::Malformed(_)
                                | VerifyError::Invalid(
                                    Invalid::NoKid | Invalid::UnknownKid | Invalid::Algorithm
                                ))
                        ),
                        "{verified:?}: {token}"
                    );
                }
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 320 + 14);
}

#[test]
fn none_of_the_public_keys_of_the_other_files_is_imported() {
    let (mut skipped, mut broken) = (0, Vec::new());
    for file in [TestName::JsonWebKey, TestName::JsonWebEncryption] {
        for group in groups(file) {
            let Some(public) = &group.public_key else {
                continue;
            };
            match publish(keys_in(public)) {
                Ok(set) => {
                    assert!(set.keys().is_empty(), "{set:?}");
                    skipped += 1;
                }
                Err(JwksError::BrokenKey { .. }) => {
                    broken.extend(group.tests.iter().map(|test| (file, test.tc_id)));
                }
                Err(refused) => panic!("{refused:?}: {public}"),
            }
        }
    }
    assert_eq!(skipped, 10 + 11);
    // The point that is not on its curve.
    assert_eq!(broken, [(TestName::JsonWebKey, 22)]);
}

#[test]
fn sets_with_a_private_or_symmetric_key_are_refused_whole() {
    let good = JsonWebKey::public(&Issuer::es256("good").key).unwrap();
    let good = serde_json::to_value(good).unwrap();
    assert_eq!(publish(slice::from_ref(&good)).unwrap().keys().len(), 1);

    let mut refused = Vec::new();
    for file in [
        TestName::JsonWebSignature,
        TestName::JsonWebKey,
        TestName::JsonWebCrypto,
        TestName::JsonWebEncryption,
    ] {
        let mut sets = 0;
        for private in groups(file)
            .iter()
            .filter_map(|group| group.private_key.as_ref())
        {
            let mut keys = keys_in(private).to_vec();
            assert_eq!(publish(&keys), Err(JwksError::SecretPublished), "{private}");
            keys.insert(0, good.clone());
            assert_eq!(publish(&keys), Err(JwksError::SecretPublished), "{private}");
            sets += 1;
        }
        refused.push(sets);
    }
    assert_eq!(refused, [23, 25, 8, 31]);
}

#[test]
fn what_made_the_mixed_set_unusable_is_its_secret() {
    let mixed: Vec<TestGroup> = groups(TestName::JsonWebKey)
        .into_iter()
        .filter(|group| group.group_comment == "jws_mixedSymmetryKeyset")
        .collect();
    assert_eq!(mixed.len(), 1);
    let mut keys = keys_in(verifying_half(&mixed[0])).to_vec();
    assert_eq!(publish(&keys), Err(JwksError::SecretPublished));
    keys.retain(|key| !is_symmetric(key));
    assert_eq!(publish(&keys).unwrap().keys()[0].kid(), "kid-ec-sign");
}

#[test]
fn secrets_that_are_not_published_are_judged_as_the_files_say() {
    let mut tally = Tally::default();
    for file in [TestName::JsonWebKey, TestName::JsonWebCrypto] {
        for group in groups(file).iter().filter(|group| has_a_set(group)) {
            let jwks = keys_in(verifying_half(group));
            let kids: BTreeSet<_> = jwks.iter().filter_map(|key| key["kid"].as_str()).collect();
            // The others are of no use but as a set, and as such they have been refused.
            if !jwks.iter().all(is_symmetric) || kids.len() < jwks.len() {
                continue;
            }
            let keys: Vec<VerifyingKey> = jwks.iter().filter_map(import).collect();
            for test in &group.tests {
                // HS384 and HS512 are not ours, however valid.
                let valid = jwks.iter().all(is_of_our_kind) && !test.result.must_fail();
                let token = text(test.jws.as_ref().unwrap());
                let vector = format!("{file:?} {}: {}", test.tc_id, test.comment);
                tally.count(valid, accepts(&keys, &token), &vector);
            }
        }
    }
    assert_eq!(
        tally,
        Tally {
            valid: 3,
            invalid: 12
        }
    );
}

#[test]
fn encrypted_tokens_are_malformed() {
    let issuers = Issuer::of_every_algorithm();
    let mut refused = Vec::new();
    for file in [TestName::JsonWebEncryption, TestName::JsonWebCrypto] {
        let mut tokens = 0;
        for group in groups(file) {
            for token in group.tests.iter().filter_map(|test| test.jwe.as_ref()) {
                let token = text(token);
                assert_eq!(jws::parse(&token).unwrap_err(), Malformed::Parts, "{token}");
                for issuer in &issuers {
                    assert_malformed(&issuer.verifier(), &token);
                }
                tokens += 1;
            }
        }
        refused.push(tokens);
    }
    assert_eq!(refused, [139, 34]);
}
