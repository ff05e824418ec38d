//! Answers that no honest issuer gives: none of them changes what is known, and each counts as
//! silence.

use std::time::Duration;

use countersign_token::remote::FetchError;
use countersign_token::revocation::MAX_FEED_BYTES;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::actors::{ANAS_SESSION, Issuer, Manner, SOON, ended, eventually, json_head, outcome};

/// A word for what went wrong.
fn kind(why: &FetchError) -> &'static str {
    match why {
        FetchError::Unreachable(_) => "unreachable",
        FetchError::TimedOut => "timed out",
        FetchError::Protocol(_) => "protocol",
        FetchError::Redirected => "redirected",
        FetchError::Status(_) => "status",
        FetchError::NotJson => "not json",
        FetchError::Compressed => "compressed",
        FetchError::TooLong(_) => "too long",
        FetchError::Keys(_) => "keys",
        FetchError::Revocations(_) => "revocations",
        other => panic!("{other:?}"),
    }
}

fn raw(answer: impl Into<String>) -> Manner {
    Manner::Raw(answer.into().into_bytes())
}

/// An answer in JSON with `body`.
fn says(body: &str) -> Manner {
    raw(format!("{}\r\n{body}", json_head(body.len())))
}

/// As [`assert_harmless`], each by an issuer of its own and all at once: most of it is waiting.
async fn assert_all_harmless(manners: impl IntoIterator<Item = (Manner, &'static str)>) {
    let mut cases: JoinSet<()> = manners
        .into_iter()
        .map(|(manner, expected)| assert_harmless(manner, expected))
        .collect();
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

/// Follows an issuer that has ended Ana's session and then answers for its feed in `manner`.
async fn assert_harmless(manner: Manner, expected: &'static str) {
    let issuer = Issuer::new().await;
    issuer.feed.lists(&ended(ANAS_SESSION));
    let api = issuer
        .api()
        .unreachable_after(SOON)
        .timeout(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let [ana, bob] = [ANAS_SESSION, "bobs"].map(|sid| issuer.signer.token_of(sid));
    // Bob's would end if the list were believed.
    issuer.feed.becomes(manner);
    eventually(|| {
        let failing = api.health().revocations.failing;
        failing.is_some_and(|failing| kind(&failing.why) == expected)
    })
    .await;
    assert_eq!(outcome(&api, &ana), "session_ended", "{expected}");
    assert_eq!(outcome(&api, &bob), "accepted", "{expected}");
    eventually(|| api.health().is_feed_lost).await;

    // And none of them is for ever.
    issuer.feed.lists(&ended("bobs"));
    issuer.feed.becomes(Manner::Obedient);
    eventually(|| outcome(&api, &bob) == "session_ended").await;
    eventually(|| !api.health().is_feed_lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_refused_change_nothing() {
    let good = serde_json::to_string(&ended("bobs")).unwrap();
    let twice = good.replace(r#""sid""#, r#""sid":"x","sid""#);
    let cut = &good[..good.len() - 1];
    let half = good.replace(r#"}],"users""#, r#"},{"sid":1}],"users""#);
    let lists = [&twice, cut, &half, "", "[]", "{}", "<html></html>"];
    assert_all_harmless(lists.map(|list| (says(list), "revocations"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_list_change_nothing() {
    let good = serde_json::to_string(&ended("bobs")).unwrap();
    let head = json_head(good.len());
    let answers = [
        (
            head.replace("application/json", "text/html") + "\r\n" + &good,
            "not json",
        ),
        (
            head.replace("Content-Type: application/json\r\n", "") + "\r\n" + &good,
            "not json",
        ),
        (
            format!("{head}Content-Encoding: gzip\r\n\r\n{good}"),
            "compressed",
        ),
        (
            format!("{}\r\n\r\n", head.replace("200 OK", "503 Later")),
            "status",
        ),
        (
            format!("{head}\r\n").replace("200 OK", "206 Some") + &good,
            "status",
        ),
        (
            format!("{}\r\n{good}", json_head(good.len() + 1)),
            "unreachable",
        ),
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "protocol"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(),
            "protocol",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)),
            "protocol",
        ),
    ];
    assert_all_harmless(answers.map(|(answer, expected)| (raw(answer), expected))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_too_long_is_not_read_to_its_end() {
    let good = serde_json::to_string(&ended("bobs")).unwrap();
    let long = format!("{good}{}", " ".repeat(MAX_FEED_BYTES));
    // One that says how long it is, and one that does not.
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{";
    let manners = [says(&long), Manner::Endless(endless)];
    assert_all_harmless(manners.map(|manner| (manner, "too long"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_answers_a_byte_at_a_time_is_given_up() {
    assert_harmless(
        Manner::Dribbling("HTTP/1.1 200 OK\r\nX: y\r\n"),
        "timed out",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let elsewhere = Issuer::new().await;
    let redirects = [301, 302, 303, 307, 308].map(|status| {
        raw(format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: {}/.well-known/revocations\r\n\
             Content-Length: 0\r\n\r\n",
            elsewhere.url
        ))
    });
    assert_all_harmless(redirects.map(|redirect| (redirect, "redirected"))).await;
    assert_eq!(elsewhere.feed.times_asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_that_nobody_asked_for_is_no_news() {
    let issuer = Issuer::new().await;
    issuer
        .feed
        .becomes(raw("HTTP/1.1 304 Not Modified\r\n\r\n"));
    let api = issuer.strict_api().start().await.unwrap();
    let ana = issuer.signer.token_of(ANAS_SESSION);
    assert_eq!(outcome(&api, &ana), "revocations_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_accepts_and_says_nothing_does_not_hold_up_the_start() {
    let issuer = Issuer::new().await;
    issuer.feed.becomes(Manner::Dribbling("H"));
    let start = Instant::now();
    let api = issuer
        .api()
        .timeout(Duration::from_secs(1))
        .start()
        .await
        .unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    let failing = api.health().revocations.failing.unwrap();
    assert!(["timed out", "protocol"].contains(&kind(&failing.why)));
}
