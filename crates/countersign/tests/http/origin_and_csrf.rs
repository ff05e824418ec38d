//! Requests that another site makes a browser send: refused by where they come from, and again by
//! what they cannot know.

use crate::harness::{Client, FOREIGN, LISTED, PASSWORD, Service, Setup, service_with_ana};
use http::{Method, StatusCode};
use serde_json::json;

const OWN: &str = "https://auth.example.org";
const SPA: &str = "https://app.example.org";

const YES: StatusCode = StatusCode::OK;
const NO: StatusCode = StatusCode::FORBIDDEN;

async fn production_with_ana() -> (Service, Client) {
    let mut setup = Setup::production();
    setup.http.allowed_origins = vec![SPA.parse().unwrap()];
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    (service, ana)
}

/// Refreshes with everything right but for where the request says it comes from.
async fn refresh_from(ana: &mut Client, origin: &[&str], site: &[&str]) -> StatusCode {
    let mut call = ana.post("/users/refresh_token").with_cookies().with_csrf();
    for value in origin {
        call = call.add_header("origin", value.as_bytes());
    }
    for value in site {
        call = call.add_header("sec-fetch-site", value.as_bytes());
    }
    let answer = call.send().await;
    ana.keep(&answer);
    if answer.status == StatusCode::OK {
        return answer.status;
    }
    answer.refused(403, "origin_denied").status
}

#[tokio::test]
async fn unsafe_requests_come_from_our_own_pages_listed_ones_or_no_browser() {
    let (_service, mut ana) = production_with_ana().await;
    let rows: [(&[&str], &[&str], StatusCode); 34] = [
        // No browser: the CSRF token alone decides.
        (&[], &[], YES),
        // Our own pages, and what a person typed or bookmarked.
        (&[OWN], &[], YES),
        (&[OWN], &["same-origin"], YES),
        (&[], &["same-origin"], YES),
        (&[], &["none"], YES),
        // A listed page, on our site or another.
        (&[SPA], &[], YES),
        (&[SPA], &["same-site"], YES),
        (&[SPA], &["cross-site"], YES),
        // A browser that keeps the page's origin to itself, or a page that hides it.
        (&[], &["same-site"], NO),
        (&[], &["cross-site"], NO),
        (&[], &["Same-Origin"], NO),
        (&[], &[""], NO),
        (&[], &["unheard-of"], NO),
        (&[], &["same-origin", "cross-site"], NO),
        (&["null"], &[], NO),
        (&["null"], &["same-origin"], NO),
        (&[""], &[], NO),
        // Contradictions that no browser makes.
        (&[OWN], &["cross-site"], NO),
        (&[OWN], &["same-origin", "cross-site"], NO),
        // Pages of others, however their origin is written.
        (&[FOREIGN], &[], NO),
        (&[FOREIGN], &["same-origin"], NO),
        (&["https://auth.example.org.evil.test"], &[], NO),
        (&["https://evil.test/auth.example.org"], &[], NO),
        (&["https://auth.example.org@evil.test"], &[], NO),
        (&["http://auth.example.org"], &[], NO),
        (&["https://auth.example.org:443"], &[], NO),
        (&["https://auth.example.org:8443"], &[], NO),
        (&["https://auth.example.org/"], &[], NO),
        (&["https://auth.example.org."], &[], NO),
        (&["HTTPS://AUTH.EXAMPLE.ORG"], &[], NO),
        (&["https://ｅvil.test"], &[], NO),
        (&["https://["], &[], NO),
        // Two origins, in one header or in two.
        (&["https://auth.example.org https://evil.test"], &[], NO),
        (&[OWN, FOREIGN], &[], NO),
    ];
    for (origin, site, expected) in rows {
        let status = refresh_from(&mut ana, origin, site).await;
        assert_eq!(
            status, expected,
            "Origin {origin:?}, Sec-Fetch-Site {site:?}"
        );
    }
    for twice in [[OWN, OWN], [SPA, SPA]] {
        assert_eq!(refresh_from(&mut ana, &twice, &[]).await, NO);
    }
}

#[tokio::test]
async fn every_unsafe_route_asks_where_a_request_comes_from() {
    let (_service, ana) = production_with_ana().await;
    let methods = [
        "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "post",
    ];
    for path in [
        "/users/login",
        "/users/refresh_token",
        "/users/logout",
        "/users/user",
        "/users/csrf",
        "/docs",
        "/unknown",
    ] {
        for method in methods {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let call = ana.call(method, path).with_cookies().with_csrf();
            let call = call.with_token().on_page(FOREIGN);
            call.send().await.refused(403, "origin_denied");
        }
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn safe_methods_are_free_to_all_and_change_nothing() {
    let (service, ana) = production_with_ana().await;
    service.later(60);
    let before = service.session_of(&ana).await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for path in [
            "/users/login",
            "/users/refresh_token",
            "/users/logout",
            "/users/user?first_name=Mallory",
            "/users/csrf",
        ] {
            let call = ana.call(method.clone(), path).with_cookies().with_csrf();
            let call = call.with_token().on_page(FOREIGN);
            let answer = call.header("sec-fetch-site", "cross-site").send().await;
            assert_ne!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
            let cookies = answer.set_cookies().join(" ");
            assert!(!cookies.contains("refreshtoken"), "{cookies}");
        }
    }
    assert_eq!(service.session_of(&ana).await, before);
    let answer = ana.user().await.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["first_name"], "");
}

#[tokio::test]
async fn a_get_is_no_way_to_refresh_or_sign_out() {
    let (_service, ana) = production_with_ana().await;
    for path in ["/users/logout", "/users/refresh_token", "/users/login"] {
        let call = ana.get(path).with_cookies().with_csrf().with_token();
        let answer = call.send().await.refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST");
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_method_in_a_header_a_query_or_a_body_is_no_method() {
    let (_service, ana) = production_with_ana().await;
    let call = ana.get("/users/user?_method=PATCH&first_name=Mallory");
    let call = call.with_token().with_csrf();
    let call = call.header("x-http-method-override", "PATCH");
    let call = call.header("x-http-method", "DELETE");
    let answer = call.header("x-method-override", "PATCH").send().await;
    let answer = answer.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["first_name"], "");
    let call = ana.post("/users/user").with_token().with_csrf();
    let call = call.header("x-http-method-override", "PATCH");
    let call = call.json(&json!({"_method": "PATCH", "first_name": "Mallory"}));
    call.send().await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn an_attackers_own_pair_of_csrf_cookie_and_header_proves_nothing() {
    let (service, ana) = production_with_ana().await;
    let mallory = service.signed_in("ana").await;
    let visitor = service.visitor().get("/users/csrf").send().await;
    let pairs = [
        mallory.csrf_token.clone().unwrap(),
        visitor.json["csrf_token"].as_str().unwrap().to_owned(),
        "b".repeat(32),
        "b".repeat(64),
    ];
    for pair in pairs {
        let mut victim = ana.clone();
        victim.cookies.retain(|(name, _)| name != "csrftoken");
        victim.cookies.push(("csrftoken".to_owned(), pair.clone()));
        for path in ["/users/refresh_token", "/users/logout"] {
            let call = victim.post(path).with_cookies();
            let answer = call.header("x-csrftoken", &pair).send().await;
            answer.refused(403, "csrf_invalid");
        }
        let call = victim.patch("/users/user").with_token().with_cookies();
        let call = call.json(&json!({"first_name": "Mallory"}));
        let answer = call.header("x-csrftoken", &pair).send().await;
        answer.refused(403, "csrf_invalid");
    }
    // The right header needs no cookie of its name beside it.
    let mut victim = ana;
    victim.cookies.retain(|(name, _)| name != "csrftoken");
    victim.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn csrf_tokens_of_other_times_are_worthless() {
    let (service, mut visitor, mut ana) = service_with_ana().await;
    let anonymous = visitor.get("/users/csrf").send().await;
    let of_last_session = ana.csrf_token.clone();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    let before_login = anonymous.json["csrf_token"].as_str().map(str::to_owned);
    for token in [before_login, of_last_session] {
        let mut visitor = visitor.clone();
        visitor.csrf_token = token;
        visitor.refresh().await.refused(403, "csrf_invalid");
        visitor.logout().await.refused(403, "csrf_invalid");
    }
    // Nor is another installation's, for the same session number.
    let mut elsewhere = service.setup_beside();
    let randomness = countersign::core::clock::SystemRandomness;
    elsewhere.secret = countersign::core::secrets::RootSecret::generate(&randomness);
    elsewhere.store = Setup::development().store;
    let elsewhere = elsewhere.start().await;
    elsewhere.make_user("ana").await;
    let stranger = elsewhere.signed_in("ana").await;
    visitor.csrf_token = stranger.csrf_token;
    visitor.refresh().await.refused(403, "csrf_invalid");
}

#[tokio::test]
async fn a_csrf_token_is_the_whole_token_in_one_header() {
    let (_service, _, ana) = service_with_ana().await;
    let token = ana.csrf_token.clone().unwrap();
    let swapped: String = token
        .chars()
        .map(|c| {
            if c.is_lowercase() {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect();
    for wrong in [
        &token[..31],
        &format!("{token}A"),
        &format!("\"{token}\""),
        &format!("{token},{token}"),
        &format!("{token}{token}"),
        &swapped,
        "undefined",
        "********************************",
        "é",
    ] {
        let call = ana.post("/users/refresh_token").with_cookies();
        let call = call.add_header("x-csrftoken", wrong.as_bytes());
        let answer = call.send().await;
        assert_eq!(answer.status, 403, "{wrong}");
        assert!(answer.json["code"].as_str().unwrap().starts_with("csrf_"));
    }
    let call = ana.post("/users/refresh_token").with_cookies().with_csrf();
    let answer = call.add_header("x-csrftoken", token.as_bytes()).send();
    answer.await.refused(403, "csrf_missing");
    // Nor may it come by another way.
    let call = ana.post(&format!("/users/refresh_token?csrf_token={token}"));
    let call = call.with_cookies().header("x-csrf-token", &token);
    let body = format!("csrfmiddlewaretoken={token}");
    let call = call.body("application/x-www-form-urlencoded", body);
    call.send().await.refused(403, "csrf_missing");
}

#[tokio::test]
async fn djangos_masked_form_is_taken_too() {
    let (service, _, mut ana) = service_with_ana().await;
    let secret = ana.csrf_token.clone().unwrap();
    let masked_with = |mask: &str| {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let place = |byte: u8| ALPHABET.iter().position(|c| *c == byte).unwrap();
        let cipher = secret.bytes().zip(mask.bytes()).map(|(secret, mask)| {
            char::from(ALPHABET[(place(secret) + place(mask)) % ALPHABET.len()])
        });
        format!("{mask}{}", cipher.collect::<String>())
    };
    for mask in [
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "qZ7Lx0bTnE4vRsKdW9yMcUgJ2hFpA5oi",
    ] {
        ana.csrf_token = Some(masked_with(mask));
        let call = ana.post("/users/refresh_token").with_cookies().with_csrf();
        let answer = call.send().await.expect(StatusCode::OK);
        ana.keep(&answer);
    }
    // Masked, another session's token stays another's.
    let other = service.signed_in("ana").await;
    let call = other.post("/users/refresh_token").with_cookies();
    let call = call.header(
        "x-csrftoken",
        &masked_with("qZ7Lx0bTnE4vRsKdW9yMcUgJ2hFpA5oi"),
    );
    call.send().await.refused(403, "csrf_invalid");
}

#[tokio::test]
async fn a_form_that_says_it_is_something_else_is_not_read() {
    let (_service, visitor, ana) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD}).to_string();
    for media_type in [
        "text/plain",
        "text/plain; x=application/json",
        "text/plain;application/json",
        "application/json-patch+json",
        "application/jsonx",
        "application/problem+json",
        "application/vnd.api+json",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; x=y",
        "application /json",
        "application/x-www-form-urlencoded;application/json",
        "application/octet-stream",
        "*/*",
        "",
    ] {
        let call = visitor.post("/users/login").body("x/y", body.clone());
        let answer = call.header("content-type", media_type).send().await;
        assert_eq!(answer.status, 415, "{media_type}");
        answer.refused(415, "unsupported_media_type");
        let call = ana.patch("/users/user").with_token().with_csrf();
        let call = call.body("x/y", r#"{"first_name":"Mallory"}"#);
        let answer = call.header("content-type", media_type).send().await;
        answer.refused(415, "unsupported_media_type");
    }
    let call = visitor
        .post("/users/login")
        .body("text/plain", body.clone());
    let answer = call.add_header("content-type", b"application/json").send();
    answer.await.refused(415, "unsupported_media_type");
    // With a boundary of that name it is a form all the same, and no JSON.
    let call = visitor.post("/users/login");
    let call = call.body("multipart/form-data; boundary=application/json", body);
    let answer = call.send().await;
    assert_eq!(answer.status.as_u16() / 100, 4);
    assert!(answer.json.get("access_token").is_none());
}

#[tokio::test]
async fn nobody_is_signed_in_as_the_attacker() {
    let (service, _, ana) = service_with_ana().await;
    service.make_user("mallory").await;
    let forms = [
        (
            "application/x-www-form-urlencoded",
            "username=mallory&password=correct+horse+battery+staple",
        ),
        (
            "text/plain",
            r#"{"username":"mallory","password":"correct horse battery staple","x":"="}"#,
        ),
        (
            "application/json",
            r#"{"username":"mallory","password":"correct horse battery staple"}"#,
        ),
    ];
    for (media_type, body) in forms {
        for (name, value) in [
            ("origin", FOREIGN),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let call = ana.post("/users/login").with_cookies();
            let call = call.body(media_type, body).header(name, value);
            let answer = call.send().await.refused(403, "origin_denied");
            assert!(answer.set_cookies().is_empty());
        }
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn another_spelling_of_a_path_is_another_path() {
    let (service, ana) = production_with_ana().await;
    let before = service.session_of(&ana).await;
    for path in [
        "//users/refresh_token",
        "/users//refresh_token",
        "/users/refresh_token/",
        "/users/./refresh_token",
        "/users/x/../refresh_token",
        "/USERS/refresh_token",
        "/users/Refresh_Token",
        "/users/refresh_token;x",
        "/users/refresh_token%00",
        "/users%2frefresh_token",
        "/users/refresh%5Ftoken",
        "/users/%72efresh_token",
        "/users/refresh_token.json",
        "/users/refresh_token%20",
    ] {
        let call = ana.post(path).with_cookies();
        let answer = call.on_page(FOREIGN).send().await;
        answer.refused(403, "origin_denied");
        let call = ana.post(path).with_cookies();
        let answer = call.send().await;
        // Whatever the router makes of it, no check is left out.
        let code = answer.json["code"].as_str().unwrap();
        assert!(
            ["not_found", "csrf_missing"].contains(&code),
            "{path}: {code}"
        );
    }
    assert_eq!(service.session_of(&ana).await, before);
}

#[tokio::test]
async fn in_development_our_own_pages_are_those_of_any_name_of_this_machine() {
    let (_service, _, ana) = service_with_ana().await;
    let refresh = async |host: &str, origin: &str| {
        let call = ana.post("/users/refresh_token").with_cookies().with_csrf();
        let call = call.header("host", host).on_page(origin);
        call.send().await.json["code"]
            .as_str()
            .unwrap_or("ok")
            .to_owned()
    };
    for host in [
        "127.0.0.1:8000",
        "localhost:8000",
        "[::1]:8000",
        "localhost:5000",
    ] {
        assert_eq!(refresh(host, &format!("http://{host}")).await, "ok");
    }
    // A page of another port of this machine is another page.
    assert_eq!(
        refresh("127.0.0.1:8000", "http://127.0.0.1:9999").await,
        "origin_denied"
    );
    assert_eq!(
        refresh("127.0.0.1:8000", "http://localhost:8000").await,
        "origin_denied"
    );
    assert_eq!(refresh("127.0.0.1:8000", LISTED).await, "ok");
    // A name that somebody pointed at this machine is not one of its names.
    let rebound = refresh("evil.test:8000", "http://evil.test:8000").await;
    assert_eq!(rebound, "misdirected_request");
}
