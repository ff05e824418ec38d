//! What every answer carries, whatever it says. The harness checks the same of each answer of every
//! other test; here the kinds of answers are gone through one by one.

use crate::harness::{Answer, Client, LISTED, Service, Setup};
use http::{Method, StatusCode};

/// One answer of each kind that the public listener gives.
async fn answers_of_every_kind(service: &Service, ana: &Client) -> Vec<Answer> {
    let visitor = service.visitor();
    let keys = visitor.get("/.well-known/jwks.json").send().await;
    let known = visitor.get("/.well-known/jwks.json");
    let known = known.header("if-none-match", keys.header("etag"));
    let preflight = visitor.options("/users/user").on_page(LISTED);
    let preflight = preflight.header("access-control-request-method", "PATCH");
    let led = visitor.get("/users/login").header("accept", "text/html");
    let elsewhere = visitor.get("/").header("host", "evil.test");
    let mut leaving = service.signed_in("ana").await;
    vec![
        keys,
        known.send().await.expect(StatusCode::NOT_MODIFIED),
        preflight.send().await.expect(StatusCode::NO_CONTENT),
        led.send().await.expect(StatusCode::SEE_OTHER),
        visitor.get("/docs").send().await.expect(StatusCode::OK),
        visitor.get("/docs/page.js").send().await,
        visitor.call(Method::HEAD, "/docs").send().await,
        visitor.get("/openapi.json").send().await,
        ana.user().await.expect(StatusCode::OK),
        ana.get("/users/csrf").with_cookies().send().await,
        ana.clone().refresh().await.expect(StatusCode::OK),
        leaving.logout().await.expect(StatusCode::NO_CONTENT),
        visitor
            .post("/users/login")
            .send()
            .await
            .refused(415, "unsupported_media_type"),
        visitor
            .get("/users/user")
            .send()
            .await
            .refused(401, "credentials_missing"),
        visitor
            .get("/unknown")
            .send()
            .await
            .refused(404, "not_found"),
        visitor
            .post("/users/csrf")
            .send()
            .await
            .refused(405, "method_not_allowed"),
        elsewhere.send().await.refused(421, "misdirected_request"),
    ]
}

async fn with_ana(setup: Setup) -> (Service, Client) {
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    (service, ana)
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_misusing_it() {
    for setup in [Setup::development(), Setup::production()] {
        let (service, ana) = with_ana(setup).await;
        for answer in answers_of_every_kind(&service, &ana).await {
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-resource-policy", "same-origin"),
                ("cross-origin-opener-policy", "same-origin"),
            ] {
                let values: Vec<_> = answer.headers.get_all(name).iter().collect();
                assert_eq!(values, [value], "{name}");
            }
            let policies = answer.headers.get_all("content-security-policy").iter();
            assert_eq!(policies.count(), 1);
            let policy = answer.header("content-security-policy");
            for directive in [
                "default-src 'none'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            ] {
                assert!(policy.contains(directive), "{policy}");
            }
            let is_page = answer.header("content-type").starts_with("text/");
            assert_eq!(policy.contains("sandbox"), !is_page, "{policy}");
        }
    }
}

#[tokio::test]
async fn transport_security_is_demanded_by_https_only() {
    let header = "strict-transport-security";
    let (service, ana) = with_ana(Setup::production()).await;
    for answer in answers_of_every_kind(&service, &ana).await {
        assert_eq!(answer.header(header), "max-age=63072000; includeSubDomains");
    }
    let (service, ana) = with_ana(Setup::development()).await;
    for answer in answers_of_every_kind(&service, &ana).await {
        assert_eq!(answer.header(header), "");
    }
}

#[tokio::test]
async fn no_answer_tells_what_serves_it() {
    let (service, ana) = with_ana(Setup::production()).await;
    for answer in answers_of_every_kind(&service, &ana).await {
        for name in ["server", "x-powered-by", "via", "x-runtime"] {
            assert_eq!(answer.header(name), "");
        }
        for (name, value) in &answer.headers {
            let value = value.to_str().unwrap().to_ascii_lowercase();
            for told in ["axum", "hyper", "rustc", env!("CARGO_PKG_VERSION")] {
                assert!(!value.contains(told), "{name}: {value}");
            }
        }
    }
}

#[tokio::test]
async fn only_what_is_the_same_for_everybody_may_be_kept() {
    let (service, ana) = with_ana(Setup::production()).await;
    let mut kept = 0;
    for answer in answers_of_every_kind(&service, &ana).await {
        match answer.header("cache-control") {
            "no-store" => {}
            "public, max-age=600" | "no-cache" => {
                kept += 1;
                assert!(answer.set_cookies().is_empty());
                let body = String::from_utf8(answer.bytes).unwrap();
                assert!(!body.contains(ana.token()));
            }
            other => panic!("Cache-Control: {other}"),
        }
    }
    assert_eq!(
        kept, 6,
        "the keys twice, the page and its script, the description"
    );
}

#[tokio::test]
async fn every_body_has_a_type_that_says_its_charset() {
    let (service, ana) = with_ana(Setup::production()).await;
    for answer in answers_of_every_kind(&service, &ana).await {
        let media_type = answer.header("content-type");
        if answer.bytes.is_empty() && media_type.is_empty() {
            continue;
        }
        // JSON is UTF-8 by definition (RFC 8259, section 8.1); text says so.
        let json = ["application/json", "application/problem+json"].contains(&media_type);
        let text = media_type.starts_with("text/") && media_type.ends_with("; charset=utf-8");
        assert!(json || text, "{media_type}");
        assert!(std::str::from_utf8(&answer.bytes).is_ok());
    }
}

#[tokio::test]
async fn a_callback_makes_no_script_of_an_answer() {
    let (_service, ana) = with_ana(Setup::development()).await;
    for parameter in ["callback", "jsonp", "cb", "format=jsonp&callback"] {
        let path = format!("/users/user?{parameter}=alert");
        let answer = ana.get(&path).with_token().send().await;
        let answer = answer.expect(StatusCode::OK);
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(answer.bytes.starts_with(b"{"));
        assert_eq!(answer.json["user"]["username"], "ana");
    }
}
