//! What ends at the issuer ends here, at once and without a question per request.

use std::time::Duration;

use countersign_token::RevocationList;
use tokio::time::{Instant, sleep};

use crate::actors::{
    ANAS_SESSION, Issuer, LATER, Manner, at_most, ended, ended_user, eventually, now, outcome,
    revoked_key, within_a_second,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_is_refused_within_a_second_and_nobody_is_asked_per_request() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    let bob = issuer.signer.token_of("bobs");
    eventually(|| issuer.feed.times_asked() == 2).await;

    for _ in 0..10_000 {
        assert_eq!(outcome(&api, &ana), "accepted");
        assert_eq!(outcome(&api, &bob), "accepted");
    }
    assert_eq!(issuer.keys.times_asked(), 1);
    assert_eq!(issuer.feed.times_asked(), 2, "one at the start, one waits");

    issuer.feed.lists(&ended(ANAS_SESSION));
    within_a_second(|| outcome(&api, &ana) == "session_ended").await;
    assert_eq!(outcome(&api, &bob), "accepted");
    assert_eq!(api.verify(&ana).unwrap_err().code(), "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_ended_before_the_start_is_refused_from_the_first_request_on() {
    let issuer = Issuer::new().await;
    issuer.feed.lists(&ended(ANAS_SESSION));
    let api = issuer.strict_api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_keys_end_as_sessions_do() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "accepted");
    issuer.feed.lists(&ended_user("8"));
    eventually(|| issuer.feed.times_asked() == 3).await;
    assert_eq!(outcome(&api, &ana), "accepted");
    issuer.feed.lists(&ended_user("7"));
    within_a_second(|| outcome(&api, &ana) == "session_ended").await;

    // The published set still has the key.
    issuer.feed.lists(&revoked_key(issuer.signer.key.kid()));
    let fresh = issuer.signer.token_of("fresh");
    within_a_second(|| outcome(&api, &fresh) == "revoked_key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_asked_with_the_state_that_is_known_and_a_wait() {
    let issuer = Issuer::new().await;
    let _api = issuer
        .api()
        .feed_token("feed-secret")
        .start()
        .await
        .unwrap();
    eventually(|| issuer.feed.times_asked() == 2).await;
    issuer.feed.lists(&ended(ANAS_SESSION));
    eventually(|| issuer.feed.times_asked() == 3).await;

    let asked = issuer.feed.asked.lock().unwrap().clone();
    let questions: Vec<_> = asked
        .iter()
        .map(|asked| (asked.target.as_str(), asked.if_none_match.as_deref()))
        .collect();
    assert_eq!(
        questions,
        [
            ("/.well-known/revocations", None),
            ("/.well-known/revocations?wait=25", Some("\"1\"")),
            ("/.well-known/revocations?wait=25", Some("\"2\"")),
        ]
    );
    for asked in asked {
        assert_eq!(asked.authorization.as_deref(), Some("Bearer feed-secret"));
    }
    let keys = issuer.keys.asked.lock().unwrap();
    assert_eq!(keys[0].authorization, None, "it is for the feed alone");
    assert_eq!(issuer.open_connections(), 1, "the feed's is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_passes_without_a_change_is_followed_by_another() {
    let issuer = Issuer::new().await;
    let api = issuer.strict_api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    let start = Instant::now();
    while start.elapsed() < LATER + Duration::from_secs(2) {
        assert_eq!(outcome(&api, &ana), "accepted", "{:?}", api.health());
        sleep(Duration::from_millis(10)).await;
    }
    let asked = issuer.feed.times_asked();
    let most = at_most(start.elapsed(), Duration::from_secs(5));
    assert!(asked as u128 <= most, "{asked}");
    assert_eq!(api.health().revocations.failing, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_does_not_wait_is_not_hammered_and_yet_heard_within_a_second() {
    let issuer = Issuer::new().await;
    issuer.feed.becomes(Manner::Hasty);
    let start = Instant::now();
    let api = issuer.api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "accepted");
    sleep(Duration::from_secs(2)).await;
    let asked = issuer.feed.times_asked();
    let most = at_most(start.elapsed(), Duration::from_millis(500));
    assert!(asked as u128 <= most, "{asked}");

    issuer.feed.lists(&ended(ANAS_SESSION));
    within_a_second(|| outcome(&api, &ana) == "session_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_changes_all_the_time_is_asked_twenty_times_a_second_at_most() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < Duration::from_secs(1) {
        n += 1;
        issuer.feed.lists(&ended(&format!("session-{n}")));
        sleep(Duration::from_millis(2)).await;
    }
    let asked = issuer.feed.times_asked();
    let most = at_most(start.elapsed(), Duration::from_millis(50));
    assert!(asked as u128 <= most, "{asked}");

    let last = issuer.signer.token_of(&format!("session-{n}"));
    within_a_second(|| outcome(&api, &last) == "session_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_stays_ended_when_the_next_list_is_silent_about_it() {
    let issuer = Issuer::new().await;
    issuer.feed.lists(&ended(ANAS_SESSION));
    let api = issuer.api().start().await.unwrap();
    eventually(|| issuer.feed.times_asked() == 2).await;
    issuer.feed.lists(&RevocationList::empty(now()));
    eventually(|| issuer.feed.times_asked() == 3).await;
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_closes_connections_between_questions_is_followed_all_the_same() {
    for manner in [Manner::Brief, Manner::Forgetful] {
        let issuer = Issuer::new().await;
        issuer.feed.becomes(manner);
        let api = issuer.api().start().await.unwrap();
        for n in 0..5 {
            let token = issuer.signer.token_of(&format!("session-{n}"));
            assert_eq!(outcome(&api, &token), "accepted");
            issuer.feed.lists(&ended(&format!("session-{n}")));
            within_a_second(|| {
                // That is no failure.
                assert_eq!(api.health().revocations.failing, None);
                outcome(&api, &token) == "session_ended"
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_following_ends_with_the_last_clone() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let clone = api.clone();
    eventually(|| issuer.feed.times_asked() == 2).await;
    drop(api);
    issuer.feed.lists(&ended(ANAS_SESSION));
    let ana = issuer.signer.token_of(ANAS_SESSION);
    within_a_second(|| outcome(&clone, &ana) == "session_ended").await;
    eventually(|| issuer.feed.times_asked() == 3).await;

    drop(clone);
    eventually(|| issuer.open_connections() == 0).await;
    issuer.feed.lists(&ended("another"));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(issuer.feed.times_asked(), 3);
}
