//! `/docs`: the page where every call can be tried by hand, and how browsers are led there.

use crate::harness::{Setup, service_with_ana};
use http::{Method, StatusCode};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

#[tokio::test]
async fn a_browser_that_opens_an_api_path_is_led_to_its_operation() {
    let (_service, visitor, _) = service_with_ana().await;
    for (path, operation) in [
        ("/users/login", "login"),
        ("/users/refresh_token", "refresh"),
        ("/users/logout", "logout"),
        ("/users/csrf", "csrf"),
        ("/users/user", "getUser"),
    ] {
        let call = visitor.get(path).header("accept", BROWSER);
        let answer = call.send().await.expect(StatusCode::SEE_OTHER);
        let location = answer.header("location").to_owned();
        assert_eq!(location, format!("/docs?from=browser#{operation}"));
        assert!(answer.set_cookies().is_empty());
        let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
        assert!(vary.iter().any(|value| *value == "accept"), "{vary:?}");
        let page = location.split('#').next().unwrap();
        visitor.get(page).send().await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn the_operations_that_browsers_are_led_to_are_in_the_description() {
    let (_service, visitor, _) = service_with_ana().await;
    let description = visitor.get("/openapi.json").send().await.json;
    for (path, operations) in description["paths"].as_object().unwrap() {
        if !path.starts_with("/users/") {
            continue;
        }
        let call = visitor.get(path).header("accept", BROWSER);
        let answer = call.send().await.expect(StatusCode::SEE_OTHER);
        let (_, led_to) = answer.header("location").split_once('#').unwrap();
        let mut known = operations.as_object().unwrap().values();
        assert!(
            known.any(|operation| operation["operationId"] == led_to),
            "{path} leads to {led_to}"
        );
    }
}

#[tokio::test]
async fn programs_are_led_nowhere() {
    let (_service, visitor, ana) = service_with_ana().await;
    for accept in [
        "",
        "*/*",
        "application/json",
        "application/json, text/plain, */*",
        "text/html-not",
        "text/*",
    ] {
        let call = ana.get("/users/user").with_token();
        let answer = call.header("accept", accept).send().await;
        answer.expect(StatusCode::OK);
        let call = visitor.get("/users/login").header("accept", accept);
        call.send().await.refused(405, "method_not_allowed");
    }
    for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
        let call = visitor.call(method, "/users/unknown");
        let answer = call.header("accept", BROWSER).send().await;
        answer.refused(404, "not_found");
    }
}

#[tokio::test]
async fn nothing_that_a_browser_sends_appears_where_it_is_led() {
    let (_service, visitor, _) = service_with_ana().await;
    for path in [
        "/users/login?next=//evil.test",
        "/users/login?next=%0d%0aSet-Cookie:%20x=1",
        "/users/login?from=javascript:alert(1)",
    ] {
        let call = visitor.get(path).header("accept", BROWSER);
        let answer = call.send().await.expect(StatusCode::SEE_OTHER);
        assert_eq!(answer.header("location"), "/docs?from=browser#login");
        assert!(answer.set_cookies().is_empty());
    }
}

#[tokio::test]
async fn the_front_door_leads_to_the_page() {
    let (_service, visitor, _) = service_with_ana().await;
    let answer = visitor.get("/").send().await.expect(StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/docs");
}

#[tokio::test]
async fn the_page_and_what_it_needs_are_served_with_their_types() {
    let (_service, visitor, _) = service_with_ana().await;
    for (path, media_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = visitor.get(path).send().await.expect(StatusCode::OK);
        assert_eq!(answer.header("content-type"), media_type);
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert!(answer.bytes.len() > 500, "{path}");
        assert!(answer.set_cookies().is_empty());
    }
}

#[tokio::test]
async fn the_pages_policy_allows_its_own_scripts_and_nothing_else() {
    let (_service, visitor, _) = service_with_ana().await;
    let answer = visitor.get("/docs").send().await.expect(StatusCode::OK);
    let policy = answer.header("content-security-policy");
    let mut directives: Vec<_> = policy.split("; ").collect();
    directives.sort_unstable();
    assert_eq!(
        directives,
        [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src 'self' data:",
            "require-trusted-types-for 'script'",
            "script-src 'self'",
            "style-src 'self'",
        ]
    );
}

#[tokio::test]
async fn the_page_keeps_to_its_own_policy() {
    let (_service, visitor, _) = service_with_ana().await;
    let text = async |path| {
        let answer = visitor.get(path).send().await.expect(StatusCode::OK);
        String::from_utf8(answer.bytes).unwrap()
    };
    let page = text("/docs").await;
    // No script or style in the page itself, no handler in an attribute.
    for opening in ["<script", "<style"] {
        for (at, _) in page.match_indices(opening) {
            let tag = &page[at..page[at..].find('>').unwrap() + at];
            assert!(tag.contains(" src="), "{tag}");
        }
    }
    for inline in [
        " style=",
        " onclick=",
        " onload=",
        " onerror=",
        "javascript:",
    ] {
        assert!(!page.contains(inline), "{inline}");
    }
    // Everything that it loads is ours, and there.
    let mut loaded = 0;
    for attribute in [" src=\"", " href=\""] {
        for part in page.split(attribute).skip(1) {
            let url = part.split('"').next().unwrap();
            if url.starts_with('#') || url.starts_with("data:image/") {
                continue;
            }
            assert!(!url.contains("//"), "{url} is elsewhere");
            let path = format!("/{}", url.trim_start_matches('/'));
            visitor.get(&path).send().await.expect(StatusCode::OK);
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "{loaded}");
    let script = text("/docs/page.js").await;
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "localStorage",
        "sessionStorage",
        "indexedDB",
        "document.cookie =",
    ] {
        assert!(!script.contains(sink), "{sink}");
    }
}

#[tokio::test]
async fn the_page_is_the_same_in_production() {
    let (_service, in_development, _) = service_with_ana().await;
    let production = Setup::production().start().await;
    let one = in_development.get("/docs").send().await;
    let other = production.visitor().get("/docs").send().await;
    assert_eq!(one.bytes, other.bytes);
    let policy = "content-security-policy";
    assert_eq!(one.header(policy), other.header(policy));
}
