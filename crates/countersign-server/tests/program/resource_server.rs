//! A resource server in another process, which follows the service with `countersign-token` and asks
//! nobody per request.

use std::thread;
use std::time::{Duration, Instant};

use countersign_token::remote::{RemoteVerifier, RemoteVerifierBuilder, WhenUnreachable};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::{LOGOUT, Place, Service, SignedIn, eventually, send};

/// The silence after which a feed counts as lost: longer than a busy machine keeps by itself.
const LATER: Duration = Duration::from_secs(6);

/// How long anything here may take on a machine that has other things to do as well.
const AT_LAST: Duration = Duration::from_secs(20);

/// An API that accepts tokens.
struct ResourceServer {
    verifier: RemoteVerifier,
    /// On which it follows the service.
    runtime: Runtime,
}

impl ResourceServer {
    fn start(place: &Place) -> Self {
        Self::start_with(place, |builder| builder)
    }

    fn start_with(
        place: &Place,
        set: impl FnOnce(RemoteVerifierBuilder) -> RemoteVerifierBuilder,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let issuer = format!("http://127.0.0.1:{}", place.port);
        let builder = set(RemoteVerifier::builder(issuer));
        let verifier = runtime.block_on(builder.start()).unwrap();
        Self { verifier, runtime }
    }

    /// What it says to a token: `accepted`, or the reason of the refusal.
    fn says(&self, who: &SignedIn) -> &'static str {
        match self.verifier.verify(&who.access) {
            Ok(token) => {
                assert_eq!(token.sid, who.session);
                "accepted"
            }
            Err(refused) => refused.reason(),
        }
    }

    /// Waits until it says this, having accepted the token all the time before.
    fn comes_to_say(&self, who: &SignedIn, reason: &'static str) -> Duration {
        let began = Instant::now();
        loop {
            let said = self.says(who);
            let took = began.elapsed();
            if said == reason {
                println!("{reason} after {took:?}");
                return took;
            }
            assert_eq!(said, "accepted");
            assert!(took < AT_LAST, "it never says {reason}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn at_last(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + AT_LAST;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came to pass: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn service_with(names: &[&str]) -> (Place, Service) {
    let place = Place::new();
    for name in names {
        place.add_user(name);
    }
    let service = place.serve();
    (place, service)
}

#[test]
fn it_refuses_what_has_ended_and_nothing_else() {
    let (place, _service) = service_with(&["ana", "bob"]);
    let api = ResourceServer::start(&place);
    let [signed_out, ended, deactivated, bob] =
        ["ana", "ana", "ana", "bob"].map(|name| SignedIn::new(place.port, name));
    for who in [&signed_out, &ended, &deactivated, &bob] {
        assert_eq!(api.says(who), "accepted");
    }
    let verified = api.verifier.verify(&bob.access).unwrap();
    assert_eq!(verified.user_id, 2);

    let reply = send(place.port, LOGOUT, &signed_out.cookies(), "");
    assert_eq!(reply.status, 204, "{reply:?}");
    // Promised is a second; a machine may be busy.
    let took = api.comes_to_say(&signed_out, "session_ended");
    assert!(took < Duration::from_secs(4), "{took:?}");

    place.done(&["session", "end", &ended.session]);
    let took = api.comes_to_say(&ended, "session_ended");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(api.says(&deactivated), "accepted");

    place.done(&["user", "deactivate", "ana"]);
    let took = api.comes_to_say(&deactivated, "session_ended");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(api.says(&bob), "accepted");
    // And whoever starts now knows it from the first request on.
    let another = ResourceServer::start(&place);
    for who in [&signed_out, &ended, &deactivated] {
        assert_eq!(another.says(who), "session_ended");
    }
    assert_eq!(another.says(&bob), "accepted");
}

#[test]
fn it_trusts_a_revoked_key_no_more_and_finds_the_one_that_signs_now() {
    let (place, _service) = service_with(&["ana"]);
    let api = ResourceServer::start(&place);
    let ana = SignedIn::new(place.port, "ana");
    assert_eq!(api.says(&ana), "accepted");
    let keys = place.done(&["keys", "list", "--json"]);
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let kid = keys[0]["kid"].as_str().unwrap();

    place.done(&["keys", "revoke", kid]);
    let took = api.comes_to_say(&ana, "revoked_key");
    assert!(took < Duration::from_secs(4), "{took:?}");

    let mut renewed = ana.clone();
    eventually("the service signs with another key", || {
        renewed = SignedIn::from_reply(&renewed.refresh(place.port));
        renewed.user(place.port).status == 200
    });
    let verify = api.verifier.verify_awaiting_keys(&renewed.access);
    let verified = api.runtime.block_on(verify).unwrap();
    assert_eq!(verified.sid, ana.session);
}

#[test]
fn while_the_service_is_away_it_does_as_it_was_set_and_then_goes_on() {
    let (place, service) = service_with(&["ana"]);
    let strict = ResourceServer::start_with(&place, |builder| builder.unreachable_after(LATER));
    let lenient = ResourceServer::start_with(&place, |builder| {
        builder
            .unreachable_after(LATER)
            .when_unreachable(WhenUnreachable::KeepUntilExpiry)
    });
    let [ended, ends_meanwhile, goes_on] =
        ["ana", "ana", "ana"].map(|name| SignedIn::new(place.port, name));
    place.done(&["session", "end", &ended.session]);
    for api in [&strict, &lenient] {
        api.comes_to_say(&ended, "session_ended");
        assert_eq!(api.says(&goes_on), "accepted");
        let health = api.verifier.health();
        assert!(!health.is_feed_lost && health.revocations.failing.is_none());
    }

    service.kill();
    strict.comes_to_say(&goes_on, "revocations_unknown");
    let refused = strict.verifier.verify(&goes_on.access).unwrap_err();
    assert_eq!(refused.status(), 503);
    let health = strict.verifier.health();
    assert!(health.is_feed_lost && health.is_refusing);
    assert!(health.revocations.failing.is_some());
    at_last("the lenient one notices too", || {
        lenient.verifier.health().is_feed_lost
    });
    assert!(!lenient.verifier.health().is_refusing);
    assert_eq!(lenient.says(&goes_on), "accepted");
    for api in [&strict, &lenient] {
        assert_eq!(api.says(&ended), "session_ended", "it was heard before");
    }

    // Nobody can tell them now.
    place.done(&["session", "end", &ends_meanwhile.session]);
    let _service = place.serve();
    at_last("the strict one accepts again", || {
        strict.says(&goes_on) == "accepted"
    });
    // With the feed came what had ended meanwhile.
    assert_eq!(strict.says(&ends_meanwhile), "session_ended");
    lenient.comes_to_say(&ends_meanwhile, "session_ended");
    for api in [&strict, &lenient] {
        at_last("all is well", || {
            let health = api.verifier.health();
            !health.is_feed_lost && health.revocations.failing.is_none()
        });
        assert_eq!(api.says(&goes_on), "accepted");
        assert_eq!(api.says(&ended), "session_ended");
    }
}

#[test]
fn a_feed_that_is_for_those_who_show_a_token_is_followed_with_it() {
    const TOKEN: &str = "0123456789abcdefghijABCDEFGHIJ0123456789abc";
    let place = Place::new();
    place.add_user("ana");
    let _service = place.serve_with(&[("COUNTERSIGN_REVOCATIONS__TOKEN", TOKEN)]);
    let ana = SignedIn::new(place.port, "ana");
    for wrong in [None, Some("0123456789abcdefghijABCDEFGHIJ0123456789abd")] {
        let api = ResourceServer::start_with(&place, |builder| match wrong {
            Some(token) => builder.feed_token(token),
            None => builder,
        });
        assert_eq!(api.says(&ana), "revocations_unknown");
        assert!(api.verifier.health().revocations.failing.is_some());
    }
    let api = ResourceServer::start_with(&place, |builder| builder.feed_token(TOKEN));
    assert_eq!(api.says(&ana), "accepted");
    place.done(&["session", "end", "--everybody"]);
    api.comes_to_say(&ana, "session_ended");
}
