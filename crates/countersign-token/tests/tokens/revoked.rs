//! What ended before its time: refused from then on, remembered or not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_token::revocation::{RevokedKey, RevokedSession, RevokedUser};
use countersign_token::{
    AccessClaims, Invalid, RevocationList, UnixSeconds, Verifier, VerifyError,
};

use crate::actors::{Issuer, LEEWAY, LIFETIME, NOW, api, assert_invalid, claims};

const UNTIL: UnixSeconds = NOW.saturating_add(LIFETIME);
const SECOND: Duration = Duration::from_secs(1);

fn nothing() -> RevocationList {
    RevocationList::empty(NOW)
}

fn session(sid: &str, until: UnixSeconds) -> RevocationList {
    let sid = sid.into();
    RevocationList {
        sessions: vec![RevokedSession { sid, until }],
        ..nothing()
    }
}

fn user(sub: &str, not_before: UnixSeconds, until: UnixSeconds) -> RevocationList {
    let sub = sub.into();
    let user = RevokedUser {
        sub,
        not_before,
        until,
    };
    RevocationList {
        users: vec![user],
        ..nothing()
    }
}

fn key(kid: &str, until: UnixSeconds) -> RevocationList {
    let kid = kid.into();
    RevocationList {
        keys: vec![RevokedKey { kid, until }],
        ..nothing()
    }
}

/// Asked at `NOW`.
fn has_ended(verifier: &Verifier, token: &str) -> bool {
    match verifier.verify_at(token, NOW) {
        Ok(_) => false,
        Err(VerifyError::SessionEnded) => true,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_ended_is_refused_though_its_token_was_accepted_before() {
    for issuer in Issuer::of_every_algorithm() {
        let verifier = issuer.verifier();
        let ended = issuer.token(&claims());
        let other = issuer.token(&AccessClaims {
            sid: "another".into(),
            ..claims()
        });
        assert!(!has_ended(&verifier, &ended));

        verifier.apply_revocations_at(&session(&claims().sid, UNTIL), NOW);
        for _ in 0..3 {
            assert!(has_ended(&verifier, &ended));
            assert!(!has_ended(&verifier, &other));
        }
        let refused = verifier.verify_at(&ended, NOW).unwrap_err();
        assert_eq!(refused.code(), "session_ended");
    }
}

#[test]
fn a_session_that_ended_is_refused_without_a_memory_too() {
    let issuer = Issuer::es256("key-1");
    let verifier = api().key(issuer.key.clone()).cache_capacity(0).build();
    verifier.apply_revocations_at(&session(&claims().sid, UNTIL), NOW);
    assert!(has_ended(&verifier, &issuer.token(&claims())));
}

#[test]
fn a_users_earlier_tokens_end_and_later_ones_live() {
    let issuer = Issuer::es256("key-1");
    let verifier = issuer.verifier();
    let token = |sub: &str, iat| {
        issuer.token(&AccessClaims {
            sub: sub.into(),
            iat,
            ..claims()
        })
    };
    let earlier = token("7", NOW.saturating_sub(SECOND));
    assert!(!has_ended(&verifier, &earlier));

    verifier.apply_revocations_at(&user("7", NOW, UNTIL), NOW);
    assert!(has_ended(&verifier, &earlier));
    assert!(!has_ended(&verifier, &token("7", NOW)));
    assert!(!has_ended(
        &verifier,
        &token("8", NOW.saturating_sub(SECOND))
    ));
}

#[test]
fn what_a_revoked_key_signed_is_refused_while_the_key_is_still_published() {
    let (stolen, successor) = (Issuer::es256("key-1"), Issuer::ed25519("key-2"));
    let keys = [stolen.key.clone(), successor.key.clone()];
    let verifier = api().keys(keys.clone()).build();
    let token = stolen.token(&claims());
    assert!(verifier.verify_at(&token, NOW).is_ok());

    verifier.apply_revocations_at(&key("key-1", UNTIL), NOW);
    for _ in 0..2 {
        for _ in 0..3 {
            assert_invalid(&verifier, &token, Invalid::RevokedKey);
            assert!(verifier.verify_at(&successor.token(&claims()), NOW).is_ok());
        }
        verifier.replace_keys(keys.clone());
    }
    let refused = verifier.verify_at(&token, NOW).unwrap_err();
    assert_eq!(
        (refused.code(), refused.reason()),
        ("token_invalid", "revoked_key")
    );
}

#[test]
fn a_revoked_key_is_not_forgotten_while_it_is_among_ours() {
    let (stolen, successor) = (Issuer::es256("key-1"), Issuer::ed25519("key-2"));
    let verifier = api()
        .keys([stolen.key.clone(), successor.key.clone()])
        .build();
    verifier.apply_revocations_at(&key("key-1", NOW), NOW);

    let much_later = NOW.saturating_add(Duration::from_hours(1));
    let fresh = stolen.token(&AccessClaims {
        iat: much_later,
        exp: much_later.saturating_add(LIFETIME),
        ..claims()
    });
    verifier.apply_revocations_at(&nothing(), much_later);
    let refused = verifier.verify_at(&fresh, much_later);
    assert_eq!(refused, Err(Invalid::RevokedKey.into()));

    verifier.replace_keys([successor.key.clone()]);
    verifier.apply_revocations_at(&nothing(), much_later);
    let refused = verifier.verify_at(&fresh, much_later);
    assert_eq!(refused, Err(Invalid::UnknownKid.into()));
}

#[test]
fn an_entry_is_kept_until_its_time_and_the_leeway_have_passed() {
    let issuer = Issuer::es256("key-1");
    // A token that lives longer than its entry shows when the entry is forgotten.
    let long = AccessClaims {
        exp: UNTIL.saturating_add(Duration::from_hours(1)),
        ..claims()
    };
    let of_session = issuer.token(&long);
    let of_user = issuer.token(&AccessClaims {
        sub: "8".into(),
        sid: "another".into(),
        ..long
    });
    let verifier = issuer.verifier();
    verifier.apply_revocations_at(&session(&claims().sid, UNTIL), NOW);
    verifier.apply_revocations_at(&user("8", NOW.saturating_add(SECOND), UNTIL), NOW);
    // A list that is behind takes nothing back.
    verifier.apply_revocations_at(&session(&claims().sid, NOW), NOW);
    verifier.apply_revocations_at(&user("8", NOW, NOW), NOW);

    let end = UNTIL.saturating_add(LEEWAY);
    let before = end.saturating_sub(SECOND);
    for token in [&of_session, &of_user] {
        verifier.apply_revocations_at(&nothing(), before);
        let refused = verifier.verify_at(token, before);
        assert_eq!(refused, Err(VerifyError::SessionEnded));
    }
    verifier.apply_revocations_at(&nothing(), end);
    for token in [&of_session, &of_user] {
        assert!(verifier.verify_at(token, end).is_ok(), "not forgotten");
    }
}

#[test]
fn a_token_that_expired_is_told_so_first() {
    let issuer = Issuer::es256("key-1");
    let verifier = issuer.verifier();
    verifier.apply_revocations_at(&session(&claims().sid, UNTIL), NOW);
    let later = UNTIL.saturating_add(LEEWAY);
    let refused = verifier.verify_at(&issuer.token(&claims()), later);
    assert_eq!(refused, Err(VerifyError::Expired));
}

#[test]
fn no_verification_that_races_with_an_end_leaves_a_dead_token_alive() {
    let issuers: Vec<Issuer> = (0..40)
        .map(|n| Issuer::hs256(&format!("key-{n}")))
        .collect();
    let verifier = api()
        .keys(issuers.iter().map(|issuer| issuer.key.clone()))
        .build();
    let tokens: Vec<String> = issuers
        .iter()
        .enumerate()
        .map(|(n, issuer)| {
            let sid = format!("session-{n}");
            issuer.token(&AccessClaims { sid, ..claims() })
        })
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for token in &tokens {
                        let _ = verifier.verify_at(token, NOW);
                    }
                }
            });
        }
        let alive_after_their_end = (0..tokens.len())
            .filter(|n| {
                let list = if n % 2 == 0 {
                    session(&format!("session-{n}"), UNTIL)
                } else {
                    key(&format!("key-{n}"), UNTIL)
                };
                verifier.apply_revocations_at(&list, NOW);
                (0..200).any(|_| verifier.verify_at(&tokens[*n], NOW).is_ok())
            })
            .count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(alive_after_their_end, 0);
    });
}

#[test]
fn lists_that_are_applied_at_once_are_all_applied() {
    let issuer = Issuer::es256("key-1");
    let verifier = issuer.verifier();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let verifier = &verifier;
            scope.spawn(move || {
                for n in 0..50 {
                    verifier.apply_revocations_at(&session(&format!("{thread}-{n}"), UNTIL), NOW);
                }
            });
        }
    });
    for thread in 0..4 {
        for n in 0..50 {
            let sid = format!("{thread}-{n}");
            let token = issuer.token(&AccessClaims { sid, ..claims() });
            assert!(has_ended(&verifier, &token), "{thread}-{n}");
        }
    }
}
