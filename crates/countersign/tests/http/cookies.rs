//! The two cookies: what they are given, how they are read, and what passes for one.

use crate::harness::{Answer, Client, PASSWORD, Service, Setup, service_with_ana};
use http::StatusCode;
use serde_json::json;

const NAME: &str = "__Host-Http-refreshtoken";

async fn production_with_ana() -> (Service, Client) {
    let service = Setup::production().start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    (service, ana)
}

/// Refreshes with a Cookie header of the test's making, and the right CSRF token.
async fn refresh_with(ana: &Client, cookies: &[&[u8]]) -> Answer {
    let mut call = ana.post("/users/refresh_token").with_csrf();
    for cookie in cookies {
        call = call.add_header("cookie", cookie);
    }
    call.send().await
}

fn attributes(cookie: &str) -> Vec<&str> {
    let mut attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    attributes.sort_unstable();
    attributes
}

#[tokio::test]
async fn every_cookie_of_production_is_as_narrow_as_it_can_be() {
    let (_service, mut ana) = production_with_ana().await;
    let login = ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
    let refresh = ana.refresh().await.expect(StatusCode::OK);
    let [_, _, device] = login.set_cookies()[..] else {
        panic!("not three cookies")
    };
    assert!(device.starts_with("__Host-Http-knowndevice=") && device.len() < 1_024);
    assert_eq!(
        attributes(device),
        [
            "HttpOnly",
            "Max-Age=15552000",
            "Path=/",
            "SameSite=Strict",
            "Secure"
        ]
    );
    assert_eq!(refresh.set_cookies().len(), 2);
    for answer in [login, refresh] {
        let [refresh, csrf] = answer.set_cookies()[..2] else {
            panic!("not two cookies")
        };
        assert!(refresh.starts_with("__Host-Http-refreshtoken=ey"));
        let narrow = ["Max-Age=604800", "Path=/", "SameSite=Strict", "Secure"];
        assert_eq!(attributes(csrf), narrow);
        assert_eq!(attributes(refresh), [&["HttpOnly"], &narrow[..]].concat());
        for cookie in [refresh, csrf] {
            assert!(cookie.len() < 1_024);
        }
    }
}

#[tokio::test]
async fn pages_of_another_site_are_given_partitioned_cookies_only_if_the_operator_says_so() {
    let mut setup = Setup::production();
    setup.http.cookies.cross_site = true;
    let service = setup.start().await;
    service.make_user("ana").await;
    let answer = service.visitor().login("ana", PASSWORD).await;
    for cookie in answer.expect(StatusCode::OK).set_cookies() {
        let given = attributes(cookie);
        for attribute in ["SameSite=None", "Secure", "Partitioned"] {
            assert!(given.contains(&attribute), "{cookie}");
        }
    }
}

#[tokio::test]
async fn a_name_that_resembles_ours_is_not_ours() {
    let (_service, ana) = production_with_ana().await;
    let token = ana.refresh_token().unwrap();
    for name in [
        "\u{2000}__Host-Http-refreshtoken",
        "\u{a0}__Host-Http-refreshtoken",
        "__host-http-refreshtoken",
        "__HOST-HTTP-REFRESHTOKEN",
        "=__Host-Http-refreshtoken",
        "__Host-Http-refreshtoken ",
        "__Host-Http-refreshtoken\t",
        "__Host-refreshtoken",
        "__Http-refreshtoken",
        "__Secure-refreshtoken",
        "__Host-Http-refreshtokens",
        "x__Host-Http-refreshtoken",
        "%5F_Host-Http-refreshtoken",
        "refreshtoken",
    ] {
        let cookie = format!("{name}={token}");
        let answer = refresh_with(&ana, &[cookie.as_bytes()]).await;
        answer.refused(401, "refresh_missing");
    }
    // A line of the old standard's kind is cut at the semicolon like any other.
    let versioned = format!("$Version=1, {NAME}={token}");
    let answer = refresh_with(&ana, &[versioned.as_bytes()]).await;
    answer.refused(401, "refresh_missing");
    let own = format!("{NAME}={token}");
    let answer = refresh_with(&ana, &[own.as_bytes()]).await;
    answer.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_name_of_development_is_nothing_in_production_nor_the_other_way_round() {
    let (_service, _, ana) = service_with_ana().await;
    let prefixed = format!("{NAME}={}", ana.refresh_token().unwrap());
    let answer = refresh_with(&ana, &[prefixed.as_bytes()]).await;
    answer.refused(401, "refresh_missing");
}

#[tokio::test]
async fn a_value_is_taken_as_it_is_quotes_and_all() {
    let (_service, ana) = production_with_ana().await;
    let token = ana.refresh_token().unwrap();
    for value in [
        format!("\"{token}\""),
        "\"a; csrftoken=b\"".to_owned(),
        format!("\"{token}; x=\""),
        format!("{token},{token}"),
        format!("{token}%20"),
        token.replace('.', "%2E"),
        String::new(),
    ] {
        let cookie = format!("{NAME}={value}");
        let answer = refresh_with(&ana, &[cookie.as_bytes()]).await;
        let answer = answer.refused(401, "refresh_invalid");
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(!body.contains("csrftoken"), "nothing is told back: {body}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_no_token() {
    let (_service, ana) = production_with_ana().await;
    let token = ana.refresh_token().unwrap().as_bytes();
    for tail in [&b"\xff"[..], b"\xc0\xae", b"\xe2\x80"] {
        let cookie = [NAME.as_bytes(), b"=", token, tail].concat();
        let answer = refresh_with(&ana, &[&cookie]).await;
        answer.refused(401, "refresh_invalid");
    }
    // In a neighbour's cookie they do no harm.
    let cookie = [b"x=\xff; ", NAME.as_bytes(), b"=", token].concat();
    refresh_with(&ana, &[&cookie]).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn two_refresh_cookies_are_refused_and_nothing_is_rotated() {
    let (service, mut ana) = production_with_ana().await;
    let mallory = service.signed_in("ana").await;
    let own = format!("{NAME}={}", ana.refresh_token().unwrap());
    let planted = format!("{NAME}={}", mallory.refresh_token().unwrap());
    let (own, planted) = (own.as_bytes(), planted.as_bytes());
    let in_one = [own, b"; ", planted].concat();
    let empty = [own, b"; ", NAME.as_bytes(), b"="].concat();
    for cookies in [
        &[own, planted][..],
        &[planted, own],
        &[&in_one],
        &[&empty],
        &[own, own],
    ] {
        let answer = refresh_with(&ana, cookies).await;
        answer.refused(400, "malformed_request");
    }
    for call in [
        ana.post("/users/logout").with_csrf(),
        ana.get("/users/csrf"),
        ana.post("/users/login")
            .json(&json!({"username": "ana", "password": PASSWORD})),
    ] {
        let answer = call.add_header("cookie", own);
        let answer = answer.add_header("cookie", planted).send().await;
        answer.refused(400, "malformed_request");
    }
    assert_eq!(service.session_of(&ana).await.generation.0, 0);
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn our_cookie_is_found_in_a_crowd() {
    let (_service, ana) = production_with_ana().await;
    let crowd = (0..200).map(|n| format!("junk{n}={}; ", "x".repeat(20)));
    let own = format!("{NAME}={}", ana.refresh_token().unwrap());
    let header = format!("{}{own};;; = ;x", crowd.collect::<String>());
    let answer = refresh_with(&ana, &[header.as_bytes()]).await;
    answer.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_refresh_cookie_refreshes_and_authenticates_nothing_else() {
    let (_service, ana) = production_with_ana().await;
    let call = ana.get("/users/user").with_cookies().with_csrf();
    call.send().await.refused(401, "credentials_missing");
    let call = ana.patch("/users/user").with_cookies().with_csrf();
    let answer = call.json(&json!({"first_name": "Eve"})).send().await;
    answer.refused(401, "credentials_missing");
}

#[tokio::test]
async fn nothing_that_somebody_sends_ends_in_a_cookie() {
    let (_service, visitor, ana) = service_with_ana().await;
    let injected = "x\r\nSet-Cookie: stolen=1; Path=/";
    let body = json!({"username": injected, "password": injected, "next": injected});
    let answer = visitor.post("/users/login").json(&body).send().await;
    answer.refused(400, "validation_failed");
    let body = json!({"username": "ana", "password": PASSWORD, "remember": injected});
    let answer = visitor.post("/users/login").json(&body).send().await;
    answer.refused(400, "validation_failed");
    let body =
        json!({"username": "ana", "password": PASSWORD, "domain": "evil.test", "next": injected});
    let call = visitor.post("/users/login?domain=evil.test&path=/x");
    let call = call.header("cookie", "csrftoken=planted; Domain=evil.test");
    let answer = call.json(&body).send().await.expect(StatusCode::OK);
    assert_eq!(answer.set_cookies().len(), 3);
    for cookie in answer.set_cookies() {
        assert!(!cookie.contains("evil") && !cookie.contains("planted"));
        assert!(!cookie.contains("stolen") && !cookie.contains("Domain"));
    }
    // A name of the user's own choosing stays in the body.
    let change = json!({"first_name": "x; stolen=1", "last_name": "\u{2028}Set-Cookie: y=1"});
    let call = ana.patch("/users/user").with_token().with_csrf();
    let answer = call.json(&change).send().await.expect(StatusCode::OK);
    assert!(answer.set_cookies().is_empty());
}

#[tokio::test]
async fn a_planted_cookie_is_never_upgraded_by_a_login() {
    let (service, ana) = production_with_ana().await;
    service.make_user("mallory").await;
    let mallory = service.signed_in("mallory").await;
    let mut victim = service.visitor();
    victim.cookies.clone_from(&mallory.cookies);
    victim.login("ana", PASSWORD).await.expect(StatusCode::OK);
    assert_ne!(victim.refresh_token(), mallory.refresh_token());
    assert_ne!(victim.session_id(), mallory.session_id());
    assert_eq!(victim.claims()["sub"], ana.claims()["sub"]);
    mallory
        .clone()
        .refresh()
        .await
        .refused(401, "session_ended");
    victim.refresh().await.expect(StatusCode::OK);
}
