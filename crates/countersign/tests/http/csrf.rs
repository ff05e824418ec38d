//! `GET /users/csrf`

use crate::harness::{FOREIGN, LISTED, Setup, service_with_ana};
use http::StatusCode;

#[tokio::test]
async fn a_page_learns_the_csrf_token_of_its_session_again() {
    let (_service, _, ana) = service_with_ana().await;
    // Its browser has lost the readable cookie, as a page on another site has never had it.
    let mut ana = ana;
    ana.cookies.retain(|(name, _)| name != "csrftoken");
    let answer = ana.get("/users/csrf").with_cookies().send().await;
    let answer = answer.expect(StatusCode::OK);
    insta::assert_json_snapshot!(answer.shape());
    assert_eq!(
        answer.json["csrf_token"].as_str(),
        ana.csrf_token.as_deref()
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let token = ana.csrf_token.as_deref().unwrap();
    let [cookie] = answer.set_cookies()[..] else {
        panic!("not one cookie")
    };
    assert!(cookie.starts_with(&format!("csrftoken={token}; SameSite=Lax; Path=/")));
}

#[tokio::test]
async fn a_session_keeps_its_csrf_token_through_refreshes() {
    let (service, _, mut ana) = service_with_ana().await;
    let first = ana.csrf_token.clone();
    for _ in 0..3 {
        service.later(100);
        ana.refresh().await.expect(StatusCode::OK);
        assert_eq!(ana.csrf_token, first);
    }
}

#[tokio::test]
async fn a_visitor_is_given_a_token_that_proves_nothing() {
    let (_service, visitor, mut ana) = service_with_ana().await;
    let ask = async || {
        let answer = visitor.get("/users/csrf").send().await;
        let answer = answer.expect(StatusCode::OK);
        answer.json["csrf_token"].as_str().unwrap().to_owned()
    };
    let (one, other) = (ask().await, ask().await);
    assert_ne!(one, other);
    for token in [one, other] {
        assert_eq!(token.len(), 32);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        ana.csrf_token = Some(token);
        ana.clone().refresh().await.refused(403, "csrf_invalid");
    }
}

#[tokio::test]
async fn a_cookie_that_is_no_refresh_token_makes_its_bearer_a_visitor() {
    let (service, visitor, ana) = service_with_ana().await;
    let junk = visitor
        .get("/users/csrf")
        .header("cookie", "refreshtoken=junk");
    let answer = junk.send().await.expect(StatusCode::OK);
    assert_ne!(
        answer.json["csrf_token"].as_str(),
        ana.csrf_token.as_deref()
    );
    let access_token = format!("refreshtoken={}", ana.token());
    let call = ana.get("/users/csrf").header("cookie", &access_token);
    let answer = call.send().await.expect(StatusCode::OK);
    assert_ne!(
        answer.json["csrf_token"].as_str(),
        ana.csrf_token.as_deref()
    );
    service.later(7 * 24 * 3_600);
    let call = ana.get("/users/csrf").with_cookies();
    let answer = call.send().await.expect(StatusCode::OK);
    assert_ne!(
        answer.json["csrf_token"].as_str(),
        ana.csrf_token.as_deref()
    );
}

#[tokio::test]
async fn asking_changes_nothing() {
    let (service, _, ana) = service_with_ana().await;
    let before = service.session_of(&ana).await;
    service.later(100);
    let answer = ana.get("/users/csrf").with_cookies().send().await;
    let cookies = answer.set_cookies().join(" ");
    assert!(!cookies.contains("refreshtoken"), "{cookies}");
    assert_eq!(service.session_of(&ana).await, before);
}

#[tokio::test]
async fn asking_shortens_no_cookies_life() {
    let (_service, _, ana) = service_with_ana().await;
    let answer = ana.get("/users/csrf").with_cookies().send().await;
    // Either it is left alone, or it lives as long as the refresh cookie beside it.
    for cookie in answer.expect(StatusCode::OK).set_cookies() {
        assert!(cookie.contains("; Max-Age=604800"), "{cookie}");
    }
}

#[tokio::test]
async fn only_listed_pages_may_read_it() {
    let (_service, _, ana) = service_with_ana().await;
    let ask = async |page| {
        let call = ana.get("/users/csrf").with_cookies().on_page(page);
        call.send().await.expect(StatusCode::OK)
    };
    let listed = ask(LISTED).await;
    assert_eq!(listed.header("access-control-allow-origin"), LISTED);
    assert_eq!(listed.header("access-control-allow-credentials"), "true");
    let foreign = ask(FOREIGN).await;
    assert_eq!(foreign.header("access-control-allow-origin"), "");
    assert_eq!(foreign.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn two_refresh_cookies_are_refused() {
    let (_service, _, ana) = service_with_ana().await;
    let token = ana.refresh_token().unwrap();
    let both = format!("refreshtoken={token}; refreshtoken={token}");
    let call = ana.get("/users/csrf").header("cookie", &both);
    call.send().await.refused(400, "malformed_request");
}

#[tokio::test]
async fn production_gives_the_cookie_a_domain_if_one_is_set() {
    let mut setup = Setup::production();
    setup.http.cookies.domain = Some("example.org".to_owned());
    let service = setup.start().await;
    let answer = service.visitor().get("/users/csrf").send().await;
    let [cookie] = answer.set_cookies()[..] else {
        panic!("not one cookie")
    };
    for attribute in ["SameSite=Strict", "Secure", "Path=/", "Domain=example.org"] {
        assert!(cookie.split("; ").any(|part| part == attribute), "{cookie}");
    }
    assert!(!cookie.contains("HttpOnly"));
}
