//! The recipe that this service grew out of, as people wrote it by hand, had holes. Each is shut.

use std::time::{Duration, Instant};

use crate::harness::{Client, PASSWORD, Setup, service_with_ana};
use countersign::core::auth::AuthSettings;
use countersign::core::session::EndedBy;
use http::{Method, StatusCode};
use serde_json::json;

#[tokio::test]
async fn a_refresh_token_does_not_open_what_an_access_token_opens() {
    let (_service, _, ana) = service_with_ana().await;
    let refresh_token = ana.refresh_token().unwrap();
    for method in [Method::GET, Method::PATCH] {
        let call = ana.call(method, "/users/user").with_csrf();
        let answer = call.bearer(refresh_token).json(&json!({})).send().await;
        answer.refused(401, "token_invalid");
    }
}

#[tokio::test]
async fn an_access_token_does_not_refresh() {
    let (_service, _, ana) = service_with_ana().await;
    let call = ana.post("/users/refresh_token").with_csrf();
    let cookie = format!("refreshtoken={}", ana.token());
    let answer = call.header("cookie", &cookie).send().await;
    answer.refused(401, "refresh_invalid");
}

#[tokio::test]
async fn a_malformed_token_is_a_refusal_and_no_accident() {
    let (_service, _, ana) = service_with_ana().await;
    for token in [
        "",
        "x",
        "a.b",
        "a.b.c",
        "e30.e30.e30",
        "....",
        "é",
        "\u{1F512}.x.y",
        "%00",
        "{}",
    ] {
        let value = format!("Bearer {token}");
        let call = ana.get("/users/user");
        let answer = call.add_header("authorization", value.as_bytes());
        let answer = answer.send().await;
        assert!(
            answer.status.is_client_error(),
            "{token}: {}",
            answer.status
        );
        let call = ana.post("/users/refresh_token").with_csrf();
        let cookie = format!("refreshtoken={token}");
        let answer = call.add_header("cookie", cookie.as_bytes()).send().await;
        answer.refused(401, "refresh_invalid");
    }
}

#[tokio::test]
async fn a_json_array_is_a_refusal_and_no_accident() {
    let (_service, visitor, ana) = service_with_ana().await;
    for body in [
        json!([]),
        json!(["ana", PASSWORD]),
        json!([{"username": "ana"}]),
    ] {
        let answer = visitor.post("/users/login").json(&body).send().await;
        answer.refused(400, "malformed_request");
        let call = ana.patch("/users/user").with_token().with_csrf();
        call.json(&body)
            .send()
            .await
            .refused(400, "malformed_request");
    }
}

#[tokio::test]
async fn no_error_is_a_page_of_html_whatever_the_client_accepts() {
    let (_service, visitor, ana) = service_with_ana().await;
    let accept = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
    let calls = [
        visitor.get("/unknown"),
        visitor.get("/users/unknown"),
        visitor.post("/users/unknown"),
        visitor.post("/users/login"),
        visitor.post("/users/login").json(&json!({})),
        visitor.post("/users/login").body("application/json", "{"),
        visitor.post("/users/login").on_page("null"),
        visitor.post("/users/csrf"),
        visitor.post("/users/refresh_token"),
        visitor.patch("/users/user"),
        visitor.call(Method::DELETE, "/users/user"),
        visitor.call(Method::TRACE, "/users/user"),
        visitor.get("/").header("host", "evil.test"),
        ana.post("/users/refresh_token").with_cookies(),
        ana.post("/users/logout").with_cookies(),
    ];
    for call in calls {
        let answer = call.header("accept", accept).send().await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(!body.contains('<'), "{body}");
    }
}

#[tokio::test]
async fn who_has_an_account_is_told_by_no_text() {
    use countersign::core::auth::NewAccount;
    use countersign::core::user::{Email, Username};
    let (service, visitor, _) = service_with_ana().await;
    service.make_user("carol").await;
    service.deactivate("carol").await;
    // Dave was made without a password.
    let account = NewAccount {
        username: Username::parse("dave").unwrap(),
        email: Email::parse("dave@example.org").unwrap(),
        password: None,
        is_staff: false,
        is_superuser: false,
    };
    service
        .auth
        .create_user(account, EndedBy::CommandLine)
        .await
        .unwrap();
    let mut answers = Vec::new();
    for (username, password) in [
        ("ana", "wrong password"),
        ("carol", "wrong password"),
        ("dave", "wrong password"),
        ("dave", "!"),
        ("nobody", "wrong password"),
        ("nobody", PASSWORD),
    ] {
        let body = json!({"username": username, "password": password});
        let answer = visitor.post("/users/login").json(&body).send().await;
        let mut answer = answer.refused(401, "invalid_credentials");
        answer.headers.remove("x-request-id");
        // Names, values and order.
        answers.push((answer.bytes, format!("{:?}", answer.headers)));
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn who_has_an_account_is_told_by_no_time() {
    const ROUNDS: usize = 3;
    let mut setup = Setup::development().unthrottled();
    setup.auth.hashing = AuthSettings::default().hashing;
    setup.auth.hashing.threads = 1;
    let service = setup.start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    visitor.clone().login("nobody", "warm up").await;
    // A machine that does other things may spoil a round; a difference of ours spoils every one.
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let comparison = compare_times(&visitor, "ana", "nobody", 60).await;
        if comparison.alike() {
            return;
        }
        seen.push(comparison);
    }
    panic!("in {ROUNDS} rounds the times differed: {seen:?}");
}

#[derive(Debug)]
struct Comparison {
    welchs_t: f64,
    ratio_of_medians: f64,
}

impl Comparison {
    fn alike(&self) -> bool {
        self.welchs_t.abs() < 4.5 && (0.8..1.25).contains(&self.ratio_of_medians)
    }
}

/// Wrong passwords for both names in turn, and in either order, so that whatever else the machine
/// does falls on both.
async fn compare_times(visitor: &Client, one: &str, other: &str, times: usize) -> Comparison {
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..times {
        let mut pair = [(0, one), (1, other)];
        if round % 2 == 1 {
            pair.reverse();
        }
        for (index, name) in pair {
            samples[index].push(time_of_refusal(visitor, name).await.as_secs_f64());
        }
    }
    let [mut one, mut other] = samples;
    let (mean_one, variance_one) = mean_and_variance(&one);
    let (mean_other, variance_other) = mean_and_variance(&other);
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let error = ((variance_one + variance_other) / times as f64).sqrt();
    Comparison {
        welchs_t: (mean_one - mean_other) / error,
        ratio_of_medians: median(&mut one) / median(&mut other),
    }
}

async fn time_of_refusal(visitor: &Client, name: &str) -> Duration {
    let started = Instant::now();
    let answer = visitor.clone().login(name, "wrong password").await;
    let elapsed = started.elapsed();
    answer.refused(401, "invalid_credentials");
    elapsed
}

#[expect(clippy::cast_precision_loss, reason = "a few dozen")]
fn mean_and_variance(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares = samples.iter().map(|sample| (sample - mean).powi(2));
    (mean, squares.sum::<f64>() / (count - 1.0))
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() / 2]
}

#[tokio::test]
async fn an_inactive_user_is_not_let_in() {
    let (service, mut visitor, mut ana) = service_with_ana().await;
    service.deactivate("ana").await;
    let answer = visitor.login("ana", PASSWORD).await;
    answer.refused(403, "user_inactive");
    assert!(visitor.cookies.is_empty());
    let ended = ana.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "user_deactivated");
    ana.refresh().await.refused(401, "session_ended");
    // Made active again, the old sessions stay ended.
    let user = service.auth.find_user("ana").await.unwrap();
    let by = EndedBy::CommandLine;
    service.auth.set_active(user.id, true, by).await.unwrap();
    ana.user().await.refused(401, "session_ended");
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_csrf_pair_that_a_stranger_made_is_worth_nothing() {
    let (service, visitor, ana) = service_with_ana().await;
    let made = visitor.get("/users/csrf").send().await;
    let made = made.json["csrf_token"].as_str().unwrap().to_owned();
    let strangers = service.signed_in("ana").await.csrf_token.unwrap();
    for pair in [made, strangers, "a".repeat(32)] {
        let cookies = format!(
            "refreshtoken={}; csrftoken={pair}",
            ana.refresh_token().unwrap()
        );
        for path in ["/users/refresh_token", "/users/logout"] {
            let call = ana.post(path).header("cookie", &cookies);
            let answer = call.header("x-csrftoken", &pair).send().await;
            answer.refused(403, "csrf_invalid");
        }
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_stolen_refresh_token_can_be_ended() {
    let (_service, _, mut ana) = service_with_ana().await;
    let mut thief = ana.clone();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    thief.refresh().await.refused(401, "session_ended");
    thief.user().await.refused(401, "session_ended");
}
