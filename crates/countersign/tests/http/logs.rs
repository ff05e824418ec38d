//! What is written to the log at its most talkative: what happened, and no secret.

use std::io;
use std::sync::{Arc, Mutex};

use crate::harness::{Client, FOREIGN, PASSWORD, Setup, service_with_ana};
use crate::troubled_store::{Trouble, TroubledStore};
use http::StatusCode;
use serde_json::json;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that this thread's log has been told, from TRACE up and from every crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines_of(&self, event: &str) -> Vec<String> {
        let named = format!("event=\"{event}\"");
        let text = self.text();
        let lines = text.lines().filter(|line| line.contains(&named));
        lines.map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Everything that a client holds and nobody else may.
fn secrets_of(client: &Client) -> Vec<String> {
    let cookies = client.cookies.iter().map(|(_, value)| value.clone());
    let tokens = [&client.access_token, &client.csrf_token];
    cookies
        .chain(tokens.into_iter().flatten().cloned())
        .collect()
}

fn assert_silent_about(log: &Log, secrets: &[String]) {
    let text = log.text();
    for secret in secrets {
        assert!(secret.len() >= 8);
        assert!(!text.contains(secret), "{secret} is in the log:\n{text}");
        // Nor the part that proves it.
        let last = secret.rsplit('.').next().unwrap();
        assert!(!text.contains(last), "{last} is in the log:\n{text}");
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let (log, _listening) = Log::listen();
    let (service, mut visitor, mut ana) = service_with_ana().await;
    let mut secrets = vec![PASSWORD.to_owned(), PASSWORD.replace(' ', "+")];
    secrets.extend(secrets_of(&ana));

    // The journey of an honest client.
    ana.refresh().await.expect(StatusCode::OK);
    secrets.extend(secrets_of(&ana));
    ana.user().await.expect(StatusCode::OK);
    let form = "username=ana&password=correct+horse+battery+staple";
    let call = visitor.post("/users/login");
    let answer = call.body("application/x-www-form-urlencoded", form);
    visitor.keep(&answer.send().await.expect(StatusCode::OK));
    secrets.extend(secrets_of(&visitor));
    let multipart = format!(
        "--X\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nana\r\n\
         --X\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{PASSWORD}\r\n--X--\r\n"
    );
    let call = visitor.post("/users/login");
    let answer = call.body("multipart/form-data; boundary=X", multipart);
    answer.send().await.expect(StatusCode::OK);

    // Refusals of every kind.
    secrets.push("CANARY-wrong-password".to_owned());
    let answer = visitor.login("ana", "CANARY-wrong-password").await;
    answer.refused(401, "invalid_credentials");
    for forged in [
        "CANARY-token",
        "eyJhbGciOiJub25lIn0.Q0FOQVJZ.Q0FOQVJZLXNpZw",
    ] {
        secrets.push(forged.to_owned());
        let answer = ana.get("/users/user").bearer(forged).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let call = ana.post("/users/refresh_token").with_csrf();
        let answer = call.header("cookie", &format!("refreshtoken={forged}"));
        answer.send().await.refused(401, "refresh_invalid");
        let call = ana.post("/users/refresh_token").with_cookies();
        let answer = call.header("x-csrftoken", forged).send().await;
        answer.refused(403, "csrf_invalid");
    }
    let call = ana.get("/users/user?access_token=CANARY-in-query");
    call.send().await.refused(401, "credentials_missing");
    secrets.push("CANARY-in-query".to_owned());
    let broken = r#"{"username":"ana","password":"CANARY-in-json""#;
    let call = visitor
        .post("/users/login")
        .body("application/json", broken);
    call.send().await.refused(400, "malformed_request");
    secrets.push("CANARY-in-json".to_owned());
    let answer = ana.user().await.status;
    assert_eq!(answer, StatusCode::OK);

    // Theft, and the end.
    let mut thief = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    secrets.extend(secrets_of(&ana));
    service.later(31);
    thief.refresh().await.refused(401, "refresh_reused");
    visitor.logout().await.expect(StatusCode::NO_CONTENT);

    secrets.push(service.secret.to_text().to_string());
    let stored = service
        .store
        .find_credentials("ana")
        .await
        .unwrap()
        .unwrap();
    secrets.push(stored.password.as_str().to_owned());
    assert!(log.text().contains("login_succeeded"), "the log is empty");
    assert_silent_about(&log, &secrets);
}

#[tokio::test]
async fn a_password_typed_as_a_username_is_not_logged() {
    let (log, _listening) = Log::listen();
    let (_service, mut visitor, _) = service_with_ana().await;
    let answer = visitor.login("CANARY-typed-too-early", "x").await;
    answer.refused(401, "invalid_credentials");
    let answer = visitor.login("CANARY-typed\nwith-a-line-break", "x").await;
    answer.refused(400, "validation_failed");
    let body = json!({"username": ["CANARY-in-a-list"], "CANARY-as-a-name": "x"});
    let answer = visitor.post("/users/login").json(&body).send().await;
    answer.refused(400, "validation_failed");
    assert_eq!(log.lines_of("login_refused").len(), 1);
    assert!(!log.text().contains("CANARY"), "{}", log.text());
}

#[tokio::test]
async fn a_panic_and_a_failing_store_are_logged_without_what_they_carry() {
    let (log, _listening) = Log::listen();
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut ana = service.signed_in("ana").await;
    store.have(Trouble::Panics);
    let mut visitor = service.visitor();
    let answer = visitor.login("CANARY-name", "CANARY-password").await;
    answer.refused(500, "internal_error");
    ana.refresh().await.refused(500, "internal_error");
    assert_eq!(log.lines_of("handler_panicked").len(), 2);
    store.have(Trouble::Unavailable);
    let answer = visitor.login("CANARY-name", "CANARY-password").await;
    answer.refused(503, "storage_unavailable");
    // The cause is for the operator, who needs it.
    assert_eq!(log.lines_of("storage_failed").len(), 1);
    let mut secrets = secrets_of(&ana);
    secrets.extend(["CANARY-name", "CANARY-password"].map(str::to_owned));
    assert_silent_about(&log, &secrets);
}

#[tokio::test]
async fn each_outcome_is_told_once_with_the_id_of_its_request() {
    let (log, _listening) = Log::listen();
    let (service, mut visitor, mut ana) = service_with_ana().await;
    let expect_one = |event: &str, request_id: &str| {
        let lines = log.lines_of(event);
        let of_request = lines.iter().filter(|line| line.contains(request_id));
        assert_eq!(of_request.count(), 1, "{event}:\n{}", log.text());
    };
    let answer = visitor.login("ana", PASSWORD).await;
    expect_one("login_succeeded", answer.header("x-request-id"));
    let answer = visitor.login("ana", "wrong password").await;
    expect_one("login_refused", answer.header("x-request-id"));
    let mut thief = ana.clone();
    let answer = ana.refresh().await;
    expect_one("session_refreshed", answer.header("x-request-id"));
    let answer = ana.get("/users/user").bearer("junk").send().await;
    expect_one("access_token_refused", answer.header("x-request-id"));
    let call = ana.post("/users/refresh_token").with_cookies();
    let answer = call.send().await;
    expect_one("csrf_refused", answer.header("x-request-id"));
    let call = ana.post("/users/login").on_page(FOREIGN);
    let answer = call.send().await;
    expect_one("origin_refused", answer.header("x-request-id"));
    service.later(31);
    let answer = thief.refresh().await;
    expect_one("refresh_reused", answer.header("x-request-id"));
    let answer = visitor.logout().await;
    expect_one("session_ended", answer.header("x-request-id"));
}

#[tokio::test]
async fn nothing_that_a_client_sends_begins_a_line_of_the_log() {
    let (log, _listening) = Log::listen();
    let (_service, visitor, ana) = service_with_ana().await;
    let forged = "x\n2026-11-23T10:00:00Z  INFO event=\"login_succeeded\" user=1";
    let body = json!({"username": forged, "password": forged});
    let answer = visitor.post("/users/login").json(&body).send().await;
    answer.refused(400, "validation_failed");
    let change = json!({"first_name": forged});
    let call = ana.patch("/users/user").with_token().with_csrf();
    call.json(&change)
        .send()
        .await
        .refused(400, "validation_failed");
    let call = visitor.get("/users/csrf?x=%0a2026-11-23T10:00:00Z%20INFO");
    call.send().await.expect(StatusCode::OK);
    for line in log.text().lines() {
        assert!(!line.starts_with("2026-11-23T10:00:00Z"), "{line}");
    }
    assert_eq!(log.lines_of("login_succeeded").len(), 1);
}

#[tokio::test]
async fn a_proxy_that_was_not_named_is_told_of_loudly_and_once() {
    let (log, _listening) = Log::listen();
    let (_service, visitor, _) = service_with_ana().await;
    let warnings = || log.lines_of("forwarded_headers_ignored");
    visitor.get("/users/csrf").send().await;
    assert_eq!(warnings(), [""; 0]);
    for name in ["x-forwarded-for", "forwarded", "x-forwarded-proto"] {
        for _ in 0..10 {
            let call = visitor.get("/users/csrf").header(name, "9.9.9.9");
            call.send().await.expect(StatusCode::OK);
        }
    }
    let warnings = warnings();
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    for said in ["WARN", "192.0.2.7", "server.trusted_proxies"] {
        assert!(warning.contains(said), "{warning}");
    }
    // What somebody writes there may be anything.
    assert!(!warning.contains("9.9.9.9"));

    // From a trusted one they are what they should be.
    let (log, _listening) = Log::listen();
    let service = Setup::behind_a_proxy().start().await;
    let mut visitor = service.visitor();
    visitor.peer = "10.0.0.1:40000".parse().unwrap();
    let call = visitor
        .get("/users/csrf")
        .header("x-forwarded-proto", "https");
    call.send().await.expect(StatusCode::OK);
    assert_eq!(log.lines_of("forwarded_headers_ignored"), [""; 0]);
}

#[tokio::test]
async fn what_is_throttled_is_told_without_what_was_typed() {
    let (log, _listening) = Log::listen();
    let (_service, visitor, _) = service_with_ana().await;
    for name in ["ana", "CANARY-typed-name"] {
        for _ in 0..6 {
            visitor.clone().login(name, "CANARY-typed-password").await;
        }
    }
    let lines = log.lines_of("throttled");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("limit=\"login_account_from_address\""));
    assert!(lines[0].contains("user=1"), "{lines:?}");
    assert!(!lines[1].contains("user="), "{lines:?}");
    assert!(!log.text().contains("CANARY"));
}

#[tokio::test]
async fn what_is_throttled_is_told_by_the_name_of_the_limit() {
    let (log, _listening) = Log::listen();
    let (_service, visitor, _) = service_with_ana().await;
    for number in 1..=4 {
        for _ in 0..5 {
            let mut stranger = visitor.elsewhere(number);
            stranger.login("ana", "not the password").await;
        }
    }
    let mut stranger = visitor.elsewhere(5);
    stranger.login("ana", "not the password").await;
    for _ in 0..=300 {
        visitor.get("/users/user").bearer("junk").send().await;
    }
    let lines = log.lines_of("throttled");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("limit=\"login_account\""), "{lines:?}");
    assert!(lines[1].contains("limit=\"refused_tokens\""), "{lines:?}");
}
