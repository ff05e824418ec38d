//! The issuer's keys: had at the start or not at all, and fetched again when they change.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use countersign_token::JwksError;
use countersign_token::remote::{AddressError, FetchError, StartError};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::actors::{ANAS_SESSION, Issuer, Manner, Signer, eventually, json_head, outcome, set};

fn with_member(signer: &Signer, name: &str, value: &str) -> String {
    let mut key: Value = serde_json::to_value(&signer.key).unwrap();
    key[name] = value.into();
    json!({"keys": [key]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_start_without_keys() {
    let other = Signer::new();
    let twice = set(&[&other.key, &other.key]);
    let secret = with_member(&other, "d", "AAAA");
    let padded = format!("{}{}", set(&[&other.key]), " ".repeat(256 * 1024));
    let duplicate = JwksError::DuplicateKid(other.key.kid().into());
    for (body, expected) in [
        (twice.as_str(), Some(FetchError::Keys(duplicate))),
        (&secret, Some(FetchError::Keys(JwksError::SecretPublished))),
        (&padded, Some(FetchError::TooLong(256 * 1024))),
        (r#"{"keys":[]}"#, None),
    ] {
        let issuer = Issuer::new().await;
        issuer.keys.says(body);
        let refused = issuer.api().start().await.unwrap_err();
        let url = format!("{}/.well-known/jwks.json", issuer.url);
        assert!(refused.to_string().contains(&url), "{refused}");
        let expected = match expected {
            Some(why) => StartError::Keys { url, why },
            None => StartError::NoKeys { url },
        };
        assert_eq!(refused, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_start_with_an_issuer_that_is_away_or_sends_elsewhere() {
    let elsewhere = Issuer::new().await;
    let redirect = format!(
        "HTTP/1.1 307 Elsewhere\r\nLocation: {}/.well-known/jwks.json\r\nContent-Length: 0\r\n\r\n",
        elsewhere.url
    );
    let html = json_head(2).replace("application/json", "text/html") + "\r\n{}";
    for (manner, expected) in [
        (Manner::Absent, "cannot be reached"),
        (Manner::Raw(redirect.into_bytes()), "redirect"),
        (Manner::Raw(html.into_bytes()), "JSON"),
        (Manner::Dribbling("HTTP/1.1 200 OK\r\n"), "too long"),
    ] {
        let issuer = Issuer::new().await;
        issuer.keys.becomes(manner);
        let starting = issuer.api().timeout(Duration::from_secs(1)).start();
        let refused = starting.await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(refused.contains("start again"), "{refused}");
    }
    assert_eq!(elsewhere.keys.times_asked(), 0);

    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let url = format!("http://{}", nobody.unwrap());
    let issuer = Issuer::new().await;
    let refused = issuer.api().base_url(url).start().await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_another_machine_has_to_be_asked_for() {
    let issuer = Issuer::new().await;
    let away = issuer.api().jwks_uri("http://auth.example.com/keys");
    let refused = away.start().await.unwrap_err();
    assert!(matches!(
        refused,
        StartError::Address {
            why: AddressError::NotSecure,
            ..
        }
    ));
    assert!(refused.to_string().contains("dangerous_allow_http"));
    assert_eq!(issuer.keys.times_asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let old = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &old), "accepted");

    let successor = Signer::new();
    issuer.keys.says(set(&[&successor.key, &issuer.signer.key]));
    let new = successor.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &new), "unknown_kid");
    eventually(|| outcome(&api, &new) == "accepted").await;
    assert_eq!(outcome(&api, &old), "accepted");
    assert_eq!(issuer.keys.times_asked(), 2);
    let asked = issuer.keys.asked.lock().unwrap();
    assert_eq!(asked[1].if_none_match.as_deref(), Some("\"1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_wait_is_accepted_with_the_new_key_at_once() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let successor = Signer::new();
    issuer.keys.says(set(&[&successor.key]));
    let new = successor.token_of(ANAS_SESSION);

    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (api, new) = (api.clone(), new.clone());
            tokio::spawn(async move { api.verify_awaiting_keys(&new).await })
        })
        .collect();
    for verified in waiting {
        assert!(verified.await.unwrap().is_ok());
    }
    assert_eq!(issuer.keys.times_asked(), 2, "for all of them together");

    // The next one that nobody knows is refused without a wait.
    let start = Instant::now();
    let stranger = Signer::new().token_of(ANAS_SESSION);
    let refused = api.verify_awaiting_keys(&stranger).await.unwrap_err();
    assert_eq!(refused.reason(), "unknown_kid");
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(issuer.keys.times_asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_unknown_keys_costs_the_issuer_one_request() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    let unknown: Vec<String> = (0..100).map(|_| Signer::new().token_of("x")).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for token in unknown.iter().cycle().take(10_000) {
                    assert_eq!(outcome(&api, token), "unknown_kid");
                }
            });
        }
    });
    eventually(|| issuer.keys.times_asked() == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(outcome(&api, &unknown[0]), "unknown_kid");
    assert_eq!(issuer.keys.times_asked(), 2);
    assert_eq!(outcome(&api, &ana), "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_refused_leaves_the_old_keys() {
    let stranger = Signer::new();
    let twice = set(&[&stranger.key, &stranger.key]);
    let secret = with_member(&stranger, "d", "AAAA");
    for wrong in [&twice, &secret, "{}", "", "[]"] {
        let issuer = Issuer::new().await;
        let api = issuer.api().start().await.unwrap();
        issuer.keys.says(wrong);
        let theirs = stranger.token_of(ANAS_SESSION);
        assert_eq!(outcome(&api, &theirs), "unknown_kid");
        eventually(|| api.health().keys.failing.is_some()).await;
        let failing = api.health().keys.failing.unwrap();
        assert!(matches!(failing.why, FetchError::Keys(_)), "{failing:?}");

        assert_eq!(outcome(&api, &theirs), "unknown_kid");
        let ana = issuer.signer.token_of(ANAS_SESSION);
        assert_eq!(outcome(&api, &ana), "accepted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_keys_again_do_not_make_the_verifier_forget() {
    let issuer = Issuer::new().await;
    let api = issuer.api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    let before = api.verify(&ana).unwrap();
    // Another ETag, the same set.
    issuer.keys.says(set(&[&issuer.signer.key]));
    let stranger = Signer::new().token_of("x");
    assert!(api.verify_awaiting_keys(&stranger).await.is_err());
    assert_eq!(issuer.keys.times_asked(), 2);
    let after = api.verify(&ana).unwrap();
    assert!(std::ptr::eq(&raw const *before, &raw const *after));
}
