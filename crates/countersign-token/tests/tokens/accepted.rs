//! What is accepted, and at what times.

use std::time::{Duration, SystemTime};

use countersign_token::{AccessClaims, Invalid, UnixSeconds, Verifier, VerifyError};
use serde_json::json;

use crate::actors::{
    API, ISSUER, Issuer, LEEWAY, LIFETIME, NOW, api, assert_invalid, assert_malformed, claims,
    outcome,
};

#[test]
fn an_honest_token_of_every_algorithm_is_accepted() {
    for issuer in Issuer::of_every_algorithm() {
        let verified = issuer
            .verifier()
            .verify_at(&issuer.token(&claims()), NOW)
            .unwrap();
        assert_eq!(*verified, claims());
    }
}

#[test]
fn a_header_in_another_order_and_with_other_members_is_accepted() {
    for issuer in Issuer::of_every_algorithm() {
        let payload = serde_json::to_vec(&claims()).unwrap();
        let (alg, kid) = (issuer.algorithm(), issuer.key.kid());
        for header in [
            format!(r#"{{"typ":"at+jwt","kid":"{kid}","alg":"{alg}"}}"#),
            format!(r#" {{ "alg" : "{alg}", "kid":"{kid}","typ":"application/AT+JWT" }} "#),
            format!(r#"{{"\u0061lg":"{alg}","kid":"{kid}","typ":"at\u002bjwt"}}"#),
            format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"at+jwt","jwk":{{}},"cty":"x"}}"#),
        ] {
            let verified = issuer
                .verifier()
                .verify_at(&issuer.sign(&header, &payload), NOW);
            assert_eq!(outcome(&verified), "accepted", "{header}");
        }
    }
}

#[test]
fn a_header_that_goes_on_after_the_usual_one_is_read_as_well() {
    // In base64url a longer header begins like the shorter one where that has 3n bytes.
    for kid in ["k", "ke", "key"] {
        let issuer = Issuer::hs256(kid);
        for more in [" ", "\n", "   "] {
            let header = issuer.usual_header() + more;
            let token = issuer.sign(&header, &serde_json::to_vec(&claims()).unwrap());
            assert!(
                issuer.verifier().verify_at(&token, NOW).is_ok(),
                "{header:?}"
            );
        }
        let broken = issuer.sign(&(issuer.usual_header() + "{}{"), b"{}");
        assert_malformed(&issuer.verifier(), &broken);
    }
}

#[test]
fn ed25519_is_accepted_under_both_of_its_names() {
    let issuer = Issuer::ed25519("key-1");
    let payload = serde_json::to_vec(&claims()).unwrap();
    for name in ["EdDSA", "Ed25519"] {
        let token = issuer.sign(&issuer.header_with("alg", json!(name)), &payload);
        assert!(issuer.verifier().verify_at(&token, NOW).is_ok(), "{name}");
    }
}

#[test]
fn each_token_is_verified_with_the_key_that_its_kid_names() {
    let issuers = [Issuer::es256("a"), Issuer::es256("b"), Issuer::ed25519("c")];
    let verifier = api()
        .keys(issuers.iter().map(|issuer| issuer.key.clone()))
        .build();
    for issuer in &issuers {
        assert!(verifier.verify_at(&issuer.token(&claims()), NOW).is_ok());
    }
    // Signed by a, in the name of b.
    let token = issuers[0].sign(
        &issuers[0].header_with("kid", json!("b")),
        &serde_json::to_vec(&claims()).unwrap(),
    );
    assert_invalid(&verifier, &token, Invalid::Signature);
}

#[test]
fn of_two_keys_with_one_name_only_the_first_counts() {
    let (first, second) = (Issuer::es256("k"), Issuer::hs256("k"));
    let verifier = api().key(first.key.clone()).key(second.key.clone()).build();
    assert!(verifier.verify_at(&first.token(&claims()), NOW).is_ok());
    assert_invalid(&verifier, &second.token(&claims()), Invalid::Algorithm);
}

#[test]
fn a_verifier_without_keys_refuses_everything() {
    let issuer = Issuer::es256("key-1");
    assert_invalid(
        &api().build(),
        &issuer.token(&claims()),
        Invalid::UnknownKid,
    );
}

#[test]
fn a_token_lives_from_iat_to_exp_with_the_leeway_on_both_sides() {
    let issuer = Issuer::ed25519("key-1");
    let token = issuer.token(&claims());
    let end = NOW.saturating_add(LIFETIME).saturating_add(LEEWAY);
    let second = Duration::from_secs(1);

    // With a memory and without one, and asked twice, the times are the same.
    for verifier in [
        issuer.verifier(),
        api().key(issuer.key.clone()).cache_capacity(0).build(),
    ] {
        for (now, expected) in [
            (
                NOW.saturating_sub(LEEWAY).saturating_sub(second),
                "issued_in_future",
            ),
            (NOW.saturating_sub(LEEWAY), "accepted"),
            (NOW, "accepted"),
            (end.saturating_sub(second), "accepted"),
            (end, "expired"),
            (end.saturating_add(second), "expired"),
            (
                NOW.saturating_sub(LEEWAY).saturating_sub(second),
                "issued_in_future",
            ),
            (UnixSeconds::new(0), "issued_in_future"),
            (UnixSeconds::new(u64::MAX), "expired"),
        ] {
            for _ in 0..2 {
                assert_eq!(
                    outcome(&verifier.verify_at(&token, now)),
                    expected,
                    "at {now}"
                );
            }
        }
    }
}

#[test]
fn without_leeway_a_token_ends_at_exp_to_the_second() {
    let issuer = Issuer::ed25519("key-1");
    let verifier = api().leeway(Duration::ZERO).key(issuer.key.clone()).build();
    let token = issuer.token(&claims());
    let end = NOW.saturating_add(LIFETIME);
    assert!(
        verifier
            .verify_at(&token, end.saturating_sub(Duration::from_secs(1)))
            .is_ok()
    );
    assert_eq!(verifier.verify_at(&token, end), Err(VerifyError::Expired));
}

#[test]
fn the_system_clock_is_asked_when_no_time_is_given() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is about the system's clock"
    )]
    let now = UnixSeconds::from(SystemTime::now());
    let issuer = Issuer::ed25519("key-1");
    let live = AccessClaims {
        iat: now,
        exp: now.saturating_add(LIFETIME),
        ..claims()
    };
    assert!(issuer.verifier().verify(&issuer.token(&live)).is_ok());
    let dead = AccessClaims {
        iat: now.saturating_sub(LIFETIME),
        exp: now.saturating_sub(LEEWAY),
        ..claims()
    };
    assert_eq!(
        issuer.verifier().verify(&issuer.token(&dead)),
        Err(VerifyError::Expired)
    );
}

#[test]
fn not_before_is_honoured_though_we_never_write_it() {
    let issuer = Issuer::es256("key-1");
    let verifier = issuer.verifier();
    let later = NOW.saturating_add(LEEWAY).get();
    let token = issuer.token_with("nbf", json!(later));
    assert_eq!(verifier.verify_at(&token, NOW).unwrap().extra["nbf"], later);

    let too_early = issuer.token_with("nbf", json!(later + 1));
    assert_invalid(&verifier, &too_early, Invalid::NotYetValid);
    assert!(
        verifier
            .verify_at(&too_early, NOW.saturating_add(LEEWAY))
            .is_ok()
    );
    // Remembered by now, and still not valid before its time.
    assert_invalid(&verifier, &too_early, Invalid::NotYetValid);
}

#[test]
fn any_one_of_several_audiences_suffices_on_both_sides() {
    let issuer = Issuer::es256("key-1");
    let verifier = api()
        .audience("https://other.test")
        .key(issuer.key.clone())
        .build();
    for aud in [
        json!(API),
        json!([API]),
        json!(["x", API]),
        json!(["https://other.test"]),
    ] {
        let token = issuer.token_with("aud", aud.clone());
        assert!(verifier.verify_at(&token, NOW).is_ok(), "{aud}");
    }
}

#[test]
fn who_goes_by_no_name_accepts_only_tokens_for_nobody_in_particular() {
    let issuer = Issuer::es256("key-1");
    let verifier = Verifier::builder(ISSUER).key(issuer.key.clone()).build();
    assert!(
        verifier
            .verify_at(&issuer.token_with("aud", json!(null)), NOW)
            .is_ok()
    );
    assert_invalid(&verifier, &issuer.token(&claims()), Invalid::Audience);
}

#[test]
fn refusals_tell_people_no_more_than_their_code() {
    for (error, code, sentence) in [
        (
            VerifyError::Expired,
            "token_expired",
            "The access token has expired.",
        ),
        (
            Invalid::Signature.into(),
            "token_invalid",
            "The access token is not valid.",
        ),
        (
            Invalid::UnknownKid.into(),
            "token_invalid",
            "The access token is not valid.",
        ),
        (
            countersign_token::Malformed::Parts.into(),
            "token_malformed",
            "The access token is malformed.",
        ),
    ] {
        assert_eq!((error.code(), error.to_string().as_str()), (code, sentence));
    }
}

#[test]
fn debug_of_a_verifier_shows_no_token() {
    let issuer = Issuer::hs256("key-1");
    let verifier = issuer.verifier();
    let token = issuer.token(&claims());
    verifier.verify_at(&token, NOW).unwrap();
    let shown = format!("{verifier:?}");
    assert!(shown.contains(ISSUER) && !shown.contains("ey"), "{shown}");
}
