//! `keys`, and replacing the root secret: the running service follows, and nobody is signed out who
//! need not be.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::harness::{Place, Service, SignedIn, eventually, try_get};

/// A service, and Ana, who is signed in.
fn service_with_ana() -> (Place, Service, SignedIn) {
    let place = Place::new();
    place.add_user("ana");
    let service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    (place, service, ana)
}

/// The names of the published keys.
fn published(place: &Place) -> Vec<String> {
    let set = try_get(place.port, "/.well-known/jwks.json").unwrap();
    let keys = set.json()["keys"].clone();
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    keys.as_array().unwrap().iter().map(kid).collect()
}

/// The keys as the command line lists them: name and state, newest first.
fn listed(place: &Place) -> Vec<(String, String)> {
    let text = place.done(&["keys", "list", "--json"]);
    let keys: Vec<Value> = serde_json::from_str(&text).unwrap();
    let text = |key: &Value, name| key[name].as_str().unwrap().to_owned();
    keys.iter()
        .map(|key| (text(key, "kid"), text(key, "state")))
        .collect()
}

/// The key that signed an access token.
fn signer(access_token: &str) -> String {
    let header = access_token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn refreshed(place: &Place, who: &SignedIn) -> SignedIn {
    SignedIn::from_reply(&who.refresh(place.port))
}

#[test]
fn a_new_key_is_published_before_it_signs() {
    let (place, _service, ana) = service_with_ana();
    let first = signer(&ana.access);
    assert_eq!(published(&place), [first.as_str()]);
    assert_eq!(listed(&place), [(first.clone(), "current".to_owned())]);

    let said = place.done(&["keys", "rotate"]);
    let (next, state) = listed(&place)[0].clone();
    assert_eq!(state, "next");
    assert!(
        said.starts_with(&format!("{next} is published; it signs from 20")),
        "{said}"
    );
    eventually("the new key is published", || {
        let keys = published(&place);
        keys.len() == 2 && keys.contains(&first) && keys.contains(&next)
    });
    let ana = refreshed(&place, &ana);
    assert_eq!(signer(&ana.access), first, "it does not sign yet");

    let said = place.done(&["keys", "rotate"]);
    assert!(said.contains("had been published already"), "{said}");
    assert_eq!(listed(&place).len(), 2);
    let text = place.done(&["keys", "list"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with(&next) && lines[0].contains("signs from"),
        "{text}"
    );
    assert!(
        lines[1].starts_with(&first) && lines[1].contains("current"),
        "{text}"
    );
}

#[test]
fn a_key_that_shall_sign_at_once_does_and_the_tokens_of_the_one_before_stay_good() {
    let (place, _service, ana) = service_with_ana();
    let first = signer(&ana.access);
    let said = place.done(&["keys", "rotate", "--now"]);
    let keys = listed(&place);
    let second = keys[0].0.clone();
    assert_eq!(said, format!("{second} signs now.\n"));
    assert_eq!(
        keys,
        [
            (second.clone(), "current".to_owned()),
            (first.clone(), "retired".to_owned())
        ]
    );
    let mut now = ana.clone();
    eventually("the new key signs", || {
        now = refreshed(&place, &now);
        signer(&now.access) == second
    });
    assert_eq!(published(&place).len(), 2);
    assert_eq!(ana.user(place.port).status, 200);
    assert_eq!(now.user(place.port).status, 200);
}

#[test]
fn the_tokens_of_a_revoked_key_are_refused_and_the_session_goes_on() {
    let (place, service, ana) = service_with_ana();
    let first = signer(&ana.access);
    let said = place.done(&["keys", "revoke", &first]);
    assert_eq!(
        said,
        format!("{first} is revoked: a running service refuses its tokens within 250 ms.\n")
    );
    eventually("the token is refused", || {
        ana.user(place.port).status == 401
    });
    ana.user(place.port).refused(401, "token_invalid");
    eventually("the key is not published any more", || {
        let keys = published(&place);
        keys.len() == 1 && keys[0] != first
    });
    let renewed = refreshed(&place, &ana);
    assert_eq!(renewed.session, ana.session);
    assert_eq!(renewed.user(place.port).status, 200);
    let feed = try_get(place.port, "/.well-known/revocations").unwrap();
    assert_eq!(feed.json()["keys"][0]["kid"], first.as_str());

    for kid in [first.as_str(), "nonsense", ""] {
        let said = place.run(&["keys", "revoke", kid]);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.stderr.contains("countersign keys list"), "{said:?}");
    }
    // A restart gives it no trust back.
    service.kill();
    let _service = place.serve();
    ana.user(place.port).refused(401, "token_invalid");
    assert_eq!(renewed.user(place.port).status, 200);
}

#[test]
fn a_replaced_root_secret_signs_nobody_out() {
    let (place, service, ana) = service_with_ana();
    service.stop();
    let old = place.read("countersign.secret");
    fs::rename(place.path("countersign.secret"), place.path("old.secret")).unwrap();

    // Without a word of it the start is refused, whether the new one exists or is yet to be made.
    let said = place.run(&["serve"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(!place.path("countersign.secret").exists());

    place.settings("secrets.previous = [\"file:old.secret\"]");
    let service = place.serve();
    let new = place.read("countersign.secret");
    assert_ne!(new, old);
    assert_eq!(ana.user(place.port).status, 200);
    let renewed = refreshed(&place, &ana);
    assert_eq!(renewed.session, ana.session);
    assert_eq!(
        refreshed(&place, &ana).cookie,
        renewed.cookie,
        "the grace is what it was"
    );
    assert_eq!(renewed.user(place.port).status, 200);
    let (_, log) = service.stop();
    assert!(
        !log.contains(old.trim()) && !log.contains(new.trim()),
        "{log}"
    );

    // When every session has been refreshed, the old one has done its duty.
    place.settings("");
    let _service = place.serve();
    assert_eq!(refreshed(&place, &renewed).session, ana.session);
    ana.refresh(place.port).refused(401, "refresh_invalid");
}

#[test]
fn another_root_secret_without_a_word_of_the_old_one_is_refused_with_the_way_out() {
    let (place, service, ana) = service_with_ana();
    service.stop();
    let old = place.read("countersign.secret");
    let another = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJAJm4FwQ2";
    let said = place.run_with(&[("COUNTERSIGN_SECRET", another)], &["serve"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("secrets.previous"), "{said:?}");
    for secret in [old.trim(), another] {
        assert!(!said.stderr.contains(secret), "{said:?}");
    }
    // Nothing was changed: with the old one it goes on.
    let _service = place.serve();
    assert_eq!(ana.user(place.port).status, 200);
    assert_eq!(ana.refresh(place.port).status, 200);
}
