//! What holds for every input.

use std::sync::LazyLock;

use countersign_token::{
    AccessClaims, JsonWebKeySet, UnixSeconds, Verifier, base64url, csrf, json, jws,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::actors::{Issuer, LIFETIME, NOW, claims};

static ISSUERS: LazyLock<[Issuer; 3]> = LazyLock::new(Issuer::of_every_algorithm);
static VERIFIERS: LazyLock<[Verifier; 3]> =
    LazyLock::new(|| ISSUERS.each_ref().map(Issuer::verifier));

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..4)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

prop_compose! {
    fn any_claims()(
        sub in ".*",
        user_id: i64,
        jti in ".*",
        sid in ".*",
        csrf in ".*",
        more in prop::collection::btree_map("x_.{0,8}", any_json(), 0..4),
    ) -> AccessClaims {
        AccessClaims { sub, user_id, jti, sid, csrf, extra: Map::from_iter(more), ..claims() }
    }
}

proptest! {
    #[test]
    fn nothing_that_arrives_makes_a_reader_panic(text in ".*", bytes: Vec<u8>) {
        let _ = jws::parse(&text);
        let _ = VERIFIERS[0].verify_at(&text, NOW);
        let _ = base64url::decode(&text);
        let _ = json::value_from_slice(&bytes);
        let _ = JsonWebKeySet::parse(&bytes);
        let _ = csrf::unmask(&text);
    }

    #[test]
    fn nothing_of_three_parts_makes_a_reader_panic(header: Vec<u8>, payload: Vec<u8>, signature: Vec<u8>) {
        let token = [header, payload, signature].map(|part| base64url::encode(&part)).join(".");
        let _ = jws::parse(&token);
        prop_assert!(VERIFIERS[0].verify_at(&token, NOW).is_err());
    }

    #[test]
    fn any_header_is_read_or_refused_without_panic(header in any_json()) {
        let token = ISSUERS[2].sign(&header.to_string(), b"{}");
        let _ = jws::parse(&token);
        prop_assert!(VERIFIERS[2].verify_at(&token, NOW).is_err());
    }

    #[test]
    fn any_payload_that_is_rightly_signed_is_read_or_refused_without_panic(payload: Vec<u8>) {
        let token = ISSUERS[2].sign(&ISSUERS[2].usual_header(), &payload);
        prop_assert!(VERIFIERS[2].verify_at(&token, NOW).is_err());
    }

    #[test]
    fn what_is_signed_is_what_is_verified(claims in any_claims(), which in 0..3_usize) {
        let token = ISSUERS[which].token(&claims);
        if token.len() <= jws::MAX_TOKEN_BYTES {
            let verified = VERIFIERS[which].verify_at(&token, NOW).unwrap();
            prop_assert_eq!(&*verified, &claims);
        }
    }

    #[test]
    fn a_token_with_any_one_byte_changed_is_refused(
        which in 0..3_usize,
        place: prop::sample::Index,
        character in any::<char>(),
    ) {
        let token = ISSUERS[which].token(&claims());
        let place = place.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(place..=place, character.encode_utf8(&mut [0; 4]));
        prop_assume!(changed != token);
        prop_assert!(VERIFIERS[which].verify_at(&changed, NOW).is_err());
    }

    #[test]
    fn a_token_cut_short_anywhere_is_refused(which in 0..3_usize, place: prop::sample::Index) {
        let token = ISSUERS[which].token(&claims());
        let cut = &token[..place.index(token.len())];
        prop_assert!(VERIFIERS[which].verify_at(cut, NOW).is_err());
    }

    #[test]
    fn the_memory_never_changes_an_answer(now in 1_799_999_900_u64..1_800_000_500) {
        let now = UnixSeconds::new(now);
        let token = ISSUERS[2].token(&claims());
        let fresh = ISSUERS[2].verifier().verify_at(&token, now);
        prop_assert_eq!(VERIFIERS[2].verify_at(&token, now), fresh.clone());
        prop_assert_eq!(VERIFIERS[2].verify_at(&token, now), fresh);
    }

    #[test]
    fn strict_json_agrees_with_serde_json_where_no_name_is_repeated(value in any_json()) {
        let text = value.to_string();
        prop_assert_eq!(json::value_from_slice(text.as_bytes()).unwrap(), value);
    }

    #[test]
    fn base64url_has_one_spelling_for_each_value(text in "[A-Za-z0-9_-]{0,40}") {
        if let Ok(bytes) = base64url::decode(&text) {
            prop_assert_eq!(base64url::encode(&bytes), text);
        }
    }

    #[test]
    fn masking_as_django_does_is_undone(token in "[A-Za-z0-9]{32}", mask in "[A-Za-z0-9]{32}") {
        const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let shift = |(token, mask): (char, char)| {
            let place = ALPHABET.find(token).unwrap() + ALPHABET.find(mask).unwrap();
            char::from(ALPHABET.as_bytes()[place % 62])
        };
        let cipher: String = token.chars().zip(mask.chars()).map(shift).collect();
        let masked = format!("{mask}{cipher}");
        prop_assert!(csrf::matches(&masked, &token));
        prop_assert!(csrf::matches_claim(&masked, &csrf::claim(&token)));
    }
}

#[test]
fn every_character_of_a_valid_token_matters() {
    for (issuer, verifier) in ISSUERS.iter().zip(VERIFIERS.iter()) {
        let token = issuer.token(&AccessClaims {
            exp: NOW.saturating_add(LIFETIME),
            ..claims()
        });
        assert!(verifier.verify_at(&token, NOW).is_ok());
        for place in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                verifier.verify_at(&changed, NOW).is_err(),
                "place {place} of {token}"
            );
        }
    }
}
