//! An issuer that goes away, and comes back.

use std::thread;
use std::time::Duration;

use countersign_token::VerifyError;
use countersign_token::remote::{FetchError, RemoteVerifyError};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use crate::actors::{
    ANAS_SESSION, Issuer, LATER, Manner, SOON, at_most, ended, eventually, outcome,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_api_refuses_after_a_while_and_accepts_again_when_the_feed_is_back() {
    let issuer = Issuer::new().await;
    let api = issuer.strict_api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    let bob = issuer.signer.token_of("bobs");
    assert_eq!(outcome(&api, &ana), "accepted");
    assert!(!api.health().is_feed_lost);

    let gone_at = Instant::now();
    issuer.becomes(&Manner::Absent);
    eventually(|| api.health().revocations.failing.is_some()).await;
    eventually(|| outcome(&api, &ana) != "accepted").await;
    // A whole wait may have passed since it was heard.
    assert!(gone_at.elapsed() > LATER / 12, "{:?}", gone_at.elapsed());

    let refused = api.verify(&ana).unwrap_err();
    assert_eq!(refused, RemoteVerifyError::RevocationsUnknown);
    assert_eq!(
        (refused.code(), refused.status()),
        ("revocations_unknown", 503)
    );
    let health = api.health();
    assert!(health.is_feed_lost && health.is_refusing);
    assert!(health.revocations.heard_ago.unwrap() > LATER);
    let failing = health.revocations.failing.unwrap();
    assert!(matches!(failing.why, FetchError::Unreachable(_)));
    assert!(failing.lasting > Duration::ZERO);

    // What is wrong with a token itself is said all the same.
    let malformed = api.verify("not.a.token").unwrap_err();
    assert!(matches!(
        malformed,
        RemoteVerifyError::Token(VerifyError::Malformed(_))
    ));

    // The session that ended meanwhile is known when the others are accepted again.
    issuer.feed.lists(&ended(ANAS_SESSION));
    issuer.becomes(&Manner::Obedient);
    let back_at = Instant::now();
    eventually(|| outcome(&api, &bob) == "accepted").await;
    assert!(back_at.elapsed() < Duration::from_secs(10));
    assert_eq!(outcome(&api, &ana), "session_ended");
    let health = api.health();
    assert!(!health.is_feed_lost && !health.is_refusing);
    assert_eq!(health.revocations.failing, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lenient_api_goes_on_with_what_it_knows() {
    let issuer = Issuer::new().await;
    issuer.feed.lists(&ended(ANAS_SESSION));
    let api = issuer.api().unreachable_after(SOON).start().await.unwrap();
    issuer.becomes(&Manner::Absent);
    eventually(|| api.health().is_feed_lost).await;

    assert!(!api.health().is_refusing);
    let bob = issuer.signer.token_of("bobs");
    assert_eq!(outcome(&api, &bob), "accepted");
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_was_never_heard_counts_as_lost_from_the_start() {
    let issuer = Issuer::new().await;
    let forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    issuer.feed.becomes(Manner::Raw(forbidden.to_vec()));
    let ana = issuer.signer.token_of(ANAS_SESSION);

    let strict = issuer.strict_api().start().await.unwrap();
    assert_eq!(outcome(&strict, &ana), "revocations_unknown");
    let health = strict.health();
    assert_eq!(health.revocations.heard_ago, None);
    let failing = health.revocations.failing.unwrap();
    assert_eq!(failing.why, FetchError::Status(403));

    let lenient = issuer.api().start().await.unwrap();
    assert_eq!(outcome(&lenient, &ana), "accepted");
    assert!(lenient.health().is_feed_lost);

    issuer.feed.becomes(Manner::Obedient);
    eventually(|| outcome(&strict, &ana) == "accepted").await;
    eventually(|| !lenient.health().is_feed_lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_back_with_nothing_new_is_heard_at_once() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    issuer.feed.becomes(Manner::Absent);
    eventually(|| api.health().revocations.failing.is_some()).await;
    issuer.feed.becomes(Manner::Obedient);
    // Not after the 25 seconds that it may wait for a change.
    let back_at = Instant::now();
    eventually(|| api.health().revocations.failing.is_none()).await;
    assert!(back_at.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_is_not_asked_without_pause() {
    let issuer = Issuer::new().await;
    let start = Instant::now();
    let _api = issuer.api().start().await.unwrap();
    issuer.feed.becomes(Manner::Absent);
    sleep(Duration::from_secs(3)).await;
    // More often at first, and then less and less.
    let asked = issuer.feed.times_asked();
    let most = at_most(start.elapsed(), Duration::from_millis(300));
    assert!(asked as u128 <= most, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_gone_leaves_its_keys() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    issuer.becomes(&Manner::Absent);
    let fresh = issuer.signer.token_of("fresh");
    eventually(|| api.health().revocations.failing.is_some()).await;
    assert_eq!(outcome(&api, &ana), "accepted");
    assert_eq!(outcome(&api, &fresh), "accepted");
}

#[test]
fn a_strict_api_refuses_when_the_runtime_of_its_followers_is_gone() {
    let runtime = Runtime::new().unwrap();
    let (_issuer, api, ana) = runtime.block_on(async {
        let issuer = Issuer::new().await;
        let api = issuer.strict_api().start().await.unwrap();
        let ana = issuer.signer.token_of(ANAS_SESSION);
        (issuer, api, ana)
    });
    assert_eq!(outcome(&api, &ana), "accepted");
    drop(runtime);
    thread::sleep(LATER + Duration::from_millis(100));
    assert_eq!(outcome(&api, &ana), "revocations_unknown");
}
