//! Tokens that were accepted before: what the verifier's memory may and may not do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_token::{AccessClaims, Invalid, Verifier, VerifyError};

use crate::actors::{Issuer, LEEWAY, LIFETIME, NOW, api, assert_invalid, claims};

/// Whether the verifier answers from memory: both answers are then the same allocation.
fn is_remembered(verifier: &Verifier, token: &str) -> bool {
    let [first, second] = [(); 2].map(|()| verifier.verify_at(token, NOW).unwrap());
    std::ptr::eq(&raw const *first, &raw const *second)
}

#[test]
fn a_token_is_remembered_unless_there_is_no_memory_or_it_is_long() {
    let issuer = Issuer::hs256("key-1");
    let verifier = issuer.verifier();
    assert!(is_remembered(&verifier, &issuer.token(&claims())));

    let long = issuer.token_with("note", "x".repeat(2000).into());
    assert!(!is_remembered(&verifier, &long));

    let forgetful = api().key(issuer.key.clone()).cache_capacity(0).build();
    assert!(!is_remembered(&forgetful, &issuer.token(&claims())));
}

#[test]
fn tokens_with_a_long_common_beginning_keep_their_own_claims() {
    let issuer = Issuer::hs256("key-1");
    let verifier = issuer.verifier();
    let ana = claims();
    let bob = AccessClaims {
        user_id: 8,
        jti: "other".into(),
        ..claims()
    };
    let tokens = [&ana, &bob].map(|claims| issuer.token(claims));
    assert_eq!(
        tokens[0][..100],
        tokens[1][..100],
        "equal in header, iss and sub"
    );

    for turn in 0..10_000 {
        let expected = if turn % 2 == 0 { &ana } else { &bob };
        assert_eq!(
            *verifier.verify_at(&tokens[turn % 2], NOW).unwrap(),
            *expected
        );
    }
}

#[test]
fn a_remembered_token_with_another_signature_is_verified_anew() {
    let (issuer, forger) = (Issuer::hs256("key-1"), Issuer::hs256("key-1"));
    let verifier = issuer.verifier();
    for _ in 0..3 {
        assert!(verifier.verify_at(&issuer.token(&claims()), NOW).is_ok());
        assert_invalid(&verifier, &forger.token(&claims()), Invalid::Signature);
    }
}

#[test]
fn a_remembered_token_dies_at_its_end() {
    let issuer = Issuer::es256("key-1");
    let verifier = issuer.verifier();
    let token = issuer.token(&claims());
    let end = NOW.saturating_add(LIFETIME).saturating_add(LEEWAY);
    let before = end.saturating_sub(Duration::from_secs(1));
    assert!(is_remembered(&verifier, &token));
    assert!(verifier.verify_at(&token, before).is_ok());
    for _ in 0..3 {
        assert_eq!(verifier.verify_at(&token, end), Err(VerifyError::Expired));
    }
}

#[test]
fn a_remembered_token_dies_with_its_key() {
    let (issuer, successor) = (Issuer::es256("key-1"), Issuer::ed25519("key-2"));
    let verifier = issuer.verifier();
    let token = issuer.token(&claims());
    assert!(is_remembered(&verifier, &token));

    verifier.replace_keys([issuer.key.clone(), successor.key.clone()]);
    assert!(verifier.verify_at(&token, NOW).is_ok());
    assert!(verifier.verify_at(&successor.token(&claims()), NOW).is_ok());

    verifier.replace_keys([successor.key.clone()]);
    assert_invalid(&verifier, &token, Invalid::UnknownKid);
    assert!(verifier.verify_at(&successor.token(&claims()), NOW).is_ok());

    // Another key under the old name does not revive it.
    verifier.replace_keys([Issuer::es256("key-1").key.clone()]);
    assert_invalid(&verifier, &token, Invalid::Signature);
}

#[test]
fn a_refused_token_is_not_remembered_as_refused() {
    let issuer = Issuer::es256("key-1");
    let verifier = api().build();
    let token = issuer.token(&claims());
    assert_invalid(&verifier, &token, Invalid::UnknownKid);
    verifier.replace_keys([issuer.key.clone()]);
    assert!(verifier.verify_at(&token, NOW).is_ok());
}

#[test]
fn more_tokens_than_the_memory_holds_are_all_answered_rightly() {
    let issuer = Issuer::hs256("key-1");
    let verifier = api().key(issuer.key.clone()).cache_capacity(10).build();
    let tokens: Vec<String> = (0..200)
        .map(|user_id| {
            issuer.token(&AccessClaims {
                user_id,
                ..claims()
            })
        })
        .collect();
    for _ in 0..3 {
        for (user_id, token) in (0..).zip(&tokens) {
            assert_eq!(verifier.verify_at(token, NOW).unwrap().user_id, user_id);
        }
    }
}

#[test]
fn no_verification_that_races_with_a_replacement_leaves_a_dead_token_alive() {
    let (old, new) = (Issuer::hs256("key-1"), Issuer::hs256("key-1"));
    let token = old.token(&claims());
    let verifier = old.verifier();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for the threads.
        let _stop = SetWhenDropped(&done);
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = verifier.verify_at(&token, NOW);
                }
            });
        }
        for _ in 0..500 {
            verifier.replace_keys([old.key.clone()]);
            assert!(verifier.verify_at(&token, NOW).is_ok());
            verifier.replace_keys([new.key.clone()]);
            for _ in 0..20 {
                assert_invalid(&verifier, &token, Invalid::Signature);
            }
        }
    });
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
