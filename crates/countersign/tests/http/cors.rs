//! Cross-origin resource sharing: which pages may read our answers. Listed ones, to the byte.

use crate::harness::{Call, FOREIGN, LISTED, PASSWORD, Setup, service_with_ana};
use http::StatusCode;
use serde_json::json;

/// The page that these tests list in production.
const SPA: &str = "https://app.example.org";

/// Origins that resemble it.
const LOOK_ALIKES: [&str; 22] = [
    "https://app.example.org.evil.test",
    "https://app.example.orgevil.test",
    "https://evil-app.example.org",
    "https://evilapp.example.org",
    "https://evil.app.example.org",
    "https://example.org",
    "https://app.example.org:444",
    "https://app.example.org:443",
    "https://app.example.org:",
    "https://app.example.org/",
    "https://app.example.org.",
    "https://app.example.org?x",
    "https://app.example.org#x",
    "https://app.example.org\\@evil.test",
    "https://app.example.org@evil.test",
    "https://app.example.org`.evil.test",
    "https://app_example.org",
    "https://appxexample.org",
    "http://app.example.org",
    "HTTPS://APP.EXAMPLE.ORG",
    "https://app.example.org https://evil.test",
    "null",
];

fn tells_nothing(answer: &crate::harness::Answer) {
    for (name, _) in &answer.headers {
        assert!(!name.as_str().starts_with("access-control-"), "{name}");
    }
}

#[tokio::test]
async fn a_listed_page_may_read_with_credentials() {
    let (_service, _, ana) = service_with_ana().await;
    let call = ana.get("/users/user").with_token().on_page(LISTED);
    let answer = call.send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(
        answer.header("access-control-expose-headers"),
        "retry-after, www-authenticate, x-request-id"
    );
    assert_eq!(answer.header("vary"), "origin");
}

#[tokio::test]
async fn a_listed_page_may_read_refusals_too() {
    let (_service, visitor, _) = service_with_ana().await;
    for (call, status) in [
        (visitor.get("/users/user"), 401),
        (visitor.get("/unknown"), 404),
        (visitor.post("/users/csrf"), 405),
        (visitor.post("/users/login"), 415),
        (visitor.get("/users/user").header("host", "evil.test"), 421),
    ] {
        let answer = call.on_page(LISTED).send().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), LISTED);
        assert_eq!(answer.header("vary"), "origin");
    }
}

#[tokio::test]
async fn a_foreign_page_reads_nothing_and_changes_nothing() {
    let (_service, visitor, ana) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD});
    let login = visitor.post("/users/login").json(&body);
    let refresh = ana.post("/users/refresh_token").with_cookies().with_csrf();
    let change = ana.patch("/users/user").with_token().with_csrf();
    for call in [login, refresh, change.json(&json!({"first_name": "x"}))] {
        let answer = call.on_page(FOREIGN).send().await;
        tells_nothing(&answer);
        answer.refused(403, "origin_denied");
    }
    for path in ["/users/user", "/users/csrf", "/.well-known/jwks.json"] {
        let call = ana.get(path).with_token().with_cookies();
        let answer = call.on_page(FOREIGN).send().await;
        let answer = answer.expect(StatusCode::OK);
        tells_nothing(&answer);
        assert_eq!(answer.header("vary"), "origin");
    }
}

#[tokio::test]
async fn what_resembles_a_listed_origin_is_foreign() {
    let mut setup = Setup::production();
    setup.http.allowed_origins = vec![SPA.parse().unwrap()];
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let refresh = || ana.post("/users/refresh_token").with_cookies().with_csrf();
    let read = || ana.get("/users/user").with_token();
    for origin in LOOK_ALIKES {
        let answer = read().on_page(origin).send().await;
        tells_nothing(&answer.expect(StatusCode::OK));
        let answer = refresh().on_page(origin).send().await;
        tells_nothing(&answer.refused(403, "origin_denied"));
        let answer = preflight(ana.options("/users/user"), origin).send().await;
        tells_nothing(&answer.refused(403, "origin_denied"));
    }
    // The one itself, beside all these.
    let answer = read().on_page(SPA).send().await;
    assert_eq!(answer.header("access-control-allow-origin"), SPA);
    refresh().on_page(SPA).send().await.expect(StatusCode::OK);
}

fn preflight<'c>(call: Call<'c>, origin: &str) -> Call<'c> {
    call.on_page(origin)
        .header("access-control-request-method", "PATCH")
        .header(
            "access-control-request-headers",
            "authorization,content-type,x-csrftoken",
        )
}

#[tokio::test]
async fn a_preflight_lists_what_is_allowed_and_no_more() {
    let (_service, visitor, _) = service_with_ana().await;
    // Also for paths that do not exist: the page shall be able to read the 404.
    for path in ["/users/login", "/users/user", "/users/logout", "/unknown"] {
        let call = preflight(visitor.options(path), LISTED);
        let answer = call.send().await.expect(StatusCode::NO_CONTENT);
        assert!(answer.bytes.is_empty());
        assert_eq!(answer.header("access-control-allow-origin"), LISTED);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(
            answer.header("access-control-allow-methods"),
            "GET, POST, PATCH, DELETE"
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "authorization, content-type, x-csrftoken"
        );
        let age: u32 = answer.header("access-control-max-age").parse().unwrap();
        assert!((1..=7_200).contains(&age));
        assert_eq!(
            varies_by(&answer),
            [
                "access-control-request-headers",
                "access-control-request-method",
                "origin"
            ]
        );
    }
}

fn varies_by(answer: &crate::harness::Answer) -> Vec<String> {
    let values = answer.headers.get_all("vary").iter();
    let mut names: Vec<_> = values
        .flat_map(|value| value.to_str().unwrap().split(", "))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_preflight_asks_for_what_it_likes_and_is_told_the_same() {
    let (_service, visitor, _) = service_with_ana().await;
    for (method, headers) in [
        ("DELETE", "x-evil"),
        ("TRACE", "cookie, host"),
        ("PUT", "x-csrftoken\tx"),
    ] {
        let call = visitor.options("/users/user").on_page(LISTED);
        let call = call.header("access-control-request-method", method);
        let call = call.header("access-control-request-headers", headers);
        let answer = call.send().await.expect(StatusCode::NO_CONTENT);
        assert_eq!(
            answer.header("access-control-allow-methods"),
            "GET, POST, PATCH, DELETE"
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "authorization, content-type, x-csrftoken"
        );
    }
}

#[tokio::test]
async fn a_preflight_without_an_origin_or_with_two_is_refused() {
    let (_service, visitor, _) = service_with_ana().await;
    let call = visitor.options("/users/user");
    let answer = call.header("access-control-request-method", "POST");
    let answer = answer.send().await;
    tells_nothing(&answer.refused(403, "origin_denied"));
    for second in [FOREIGN, LISTED] {
        let call = preflight(visitor.options("/users/user"), LISTED);
        let answer = call.add_header("origin", second.as_bytes()).send().await;
        tells_nothing(&answer.refused(403, "origin_denied"));
    }
}

#[tokio::test]
async fn a_preflight_changes_nothing_and_needs_no_credentials() {
    let (service, _, ana) = service_with_ana().await;
    let before = service.session_of(&ana).await;
    let call = preflight(ana.options("/users/logout"), LISTED);
    let call = call.with_cookies().with_csrf().with_token();
    let answer = call.send().await.expect(StatusCode::NO_CONTENT);
    assert!(answer.set_cookies().is_empty());
    assert_eq!(service.session_of(&ana).await, before);
}

#[tokio::test]
async fn options_that_are_no_preflight_are_answered_by_the_route() {
    let (_service, visitor, _) = service_with_ana().await;
    let call = visitor.options("/users/user").on_page(LISTED);
    let answer = call.send().await.refused(405, "method_not_allowed");
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
}

#[tokio::test]
async fn two_pages_behind_one_cache_are_never_given_each_others_answer() {
    let mut setup = Setup::development();
    let other = "http://localhost:4000";
    setup.http.allowed_origins.push(other.parse().unwrap());
    let service = setup.start().await;
    let visitor = service.visitor();
    for origin in [LISTED, other, FOREIGN, ""] {
        let call = visitor.get("/.well-known/jwks.json").on_page(origin);
        let answer = call.send().await.expect(StatusCode::OK);
        let allowed = answer.header("access-control-allow-origin");
        let own = [LISTED, other].contains(&origin);
        assert_eq!(allowed, if own { origin } else { "" });
        assert_eq!(answer.header("vary"), "origin");
    }
}

#[tokio::test]
async fn nobody_is_listed_unless_the_operator_does() {
    let mut setup = Setup::production();
    setup.http.allowed_origins.clear();
    let service = setup.start().await;
    let visitor = service.visitor();
    for origin in [LISTED, FOREIGN, "null", "https://auth.example.org"] {
        let call = visitor.get("/users/csrf").on_page(origin);
        tells_nothing(&call.send().await.expect(StatusCode::OK));
    }
}
