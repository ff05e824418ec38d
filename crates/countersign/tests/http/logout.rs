//! `POST /users/logout`

use crate::harness::{Answer, Call, Client, FOREIGN, Service, Setup, service_with_ana};
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_logout_ends_the_session_at_once_and_clears_both_cookies() {
    let (service, _, mut ana) = service_with_ana().await;
    let (elsewhere, held) = (service.signed_in("ana").await, ana.clone());
    let answer = ana.logout().await.expect(StatusCode::NO_CONTENT);
    assert!(answer.bytes.is_empty());
    assert_eq!(
        answer.set_cookies(),
        [
            "refreshtoken=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0",
            "csrftoken=; SameSite=Lax; Path=/; Max-Age=0"
        ]
    );
    assert_eq!(ana.session_cookies(), [""; 0]);
    let ended = held.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
    held.clone().refresh().await.refused(401, "session_ended");
    elsewhere.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn cookies_are_cleared_with_the_attributes_they_were_set_with() {
    let mut cross_site = Setup::production();
    cross_site.http.cookies.cross_site = true;
    let mut with_domain = Setup::production();
    with_domain.http.cookies.domain = Some("example.org".to_owned());
    for setup in [
        Setup::development(),
        Setup::production(),
        cross_site,
        with_domain,
    ] {
        let service = setup.start().await;
        service.make_user("ana").await;
        let mut ana = service.visitor();
        let set = ana.login("ana", crate::harness::PASSWORD).await;
        let cleared = ana.logout().await.expect(StatusCode::NO_CONTENT);
        assert_eq!(cleared.set_cookies().len(), 2);
        for (set, cleared) in set.set_cookies().iter().zip(cleared.set_cookies()) {
            let (name, rest) = set.split_once('=').unwrap();
            let (_, attributes) = rest.split_once("; ").unwrap();
            let expected = attributes.replace("Max-Age=604800", "Max-Age=0");
            assert_eq!(cleared, format!("{name}=; {expected}"));
        }
    }
}

#[tokio::test]
async fn an_access_token_signs_out_as_well() {
    let (_service, _, ana) = service_with_ana().await;
    let call = ana.post("/users/logout").with_token().with_csrf();
    call.send().await.expect(StatusCode::NO_CONTENT);
    ana.user().await.refused(401, "session_ended");
}

#[tokio::test]
async fn saying_it_twice_is_as_good_as_once() {
    let (_service, _, mut ana) = service_with_ana().await;
    let held = ana.clone();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    // The browser now has no cookies; a script may still hold everything.
    for client in [&ana, &held] {
        let call = client.post("/users/logout").with_cookies().with_csrf();
        let answer = call.send().await.expect(StatusCode::NO_CONTENT);
        assert_eq!(answer.set_cookies().len(), 2);
    }
    let call = held.post("/users/logout").with_token().with_csrf();
    call.send().await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn who_has_nothing_or_only_a_dead_cookie_is_signed_out_already() {
    let (service, visitor, mut ana) = service_with_ana().await;
    let answer = visitor.post("/users/logout").send().await;
    answer.expect(StatusCode::NO_CONTENT);
    let junk = visitor
        .post("/users/logout")
        .header("cookie", "refreshtoken=junk");
    let answer = junk.send().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(answer.set_cookies().len(), 2, "the junk is cleared");
    service.later(7 * 24 * 3_600);
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(ana.session_cookies(), [""; 0]);
}

#[tokio::test]
async fn a_bad_access_token_alone_is_refused() {
    let (service, visitor, ana) = service_with_ana().await;
    let call = visitor.post("/users/logout").bearer("junk");
    call.send().await.refused(401, "token_malformed");
    service.later(300);
    let call = ana.post("/users/logout").with_token().with_csrf();
    call.send().await.refused(401, "token_expired");
    // With the cookie beside it, the cookie counts.
    let call = ana.post("/users/logout").with_token().with_cookies();
    let answer = call.with_csrf().send().await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn nobody_is_signed_out_without_the_csrf_token_of_the_session() {
    let (service, _, ana) = service_with_ana().await;
    let other = service.signed_in("ana").await;
    let others = other.csrf_token.as_deref().unwrap();
    for (shown, code) in [("", "csrf_missing"), (others, "csrf_invalid")] {
        let by_cookie = ana.post("/users/logout").with_cookies();
        let answer = by_cookie.header("x-csrftoken", shown).send().await;
        answer.refused(403, code);
        let by_token = ana.post("/users/logout").with_token();
        let answer = by_token.header("x-csrftoken", shown).send().await;
        answer.refused(403, code);
    }
    let foreign = ana.post("/users/logout").with_cookies().with_csrf();
    let answer = foreign.on_page(FOREIGN).send().await;
    answer.refused(403, "origin_denied");
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn of_two_credentials_both_sessions_must_be_proven() {
    let (service, _, ana) = service_with_ana().await;
    let other = service.signed_in("ana").await;
    // A cookie of one session and an access token of another: one CSRF token cannot prove both.
    let call = ana.post("/users/logout").with_cookies().with_csrf();
    let answer = call.bearer(other.token()).send().await;
    answer.refused(403, "csrf_invalid");
    ana.user().await.expect(StatusCode::OK);
    other.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_scope_is_one_of_three_words_or_left_out() {
    let (_service, _, ana) = service_with_ana().await;
    for (body, errors) in [
        (json!({"scope": "everything"}), ["scope:invalid"]),
        (json!({"scope": "Global"}), ["scope:invalid"]),
        (json!({"scope": ""}), ["scope:invalid"]),
        (json!({"scope": ["local"]}), ["scope:wrong_type"]),
    ] {
        let call = ana.post("/users/logout").with_cookies().with_csrf();
        let answer = call.json(&body).send().await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), errors);
    }
    ana.user().await.expect(StatusCode::OK);
    let call = ana.post("/users/logout").with_cookies().with_csrf();
    let answer = call.json(&json!({"scope": "local"})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    ana.user().await.refused(401, "session_ended");
}

#[tokio::test]
async fn the_way_back_in_is_a_new_session() {
    let (service, _, mut ana) = service_with_ana().await;
    let before = ana.session_id();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    ana.login("ana", crate::harness::PASSWORD)
        .await
        .expect(StatusCode::OK);
    assert_ne!(ana.session_id(), before);
    service.session_of(&ana).await;
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn nothing_may_be_sent_under_any_name() {
    // What axios does with a post that has no body.
    let (_service, _, mut ana) = service_with_ana().await;
    let call = ana.post("/users/logout").with_cookies().with_csrf();
    let answer = call
        .body("application/x-www-form-urlencoded", "")
        .send()
        .await;
    ana.keep(&answer.expect(StatusCode::NO_CONTENT));
    ana.user().await.refused(401, "session_ended");
}

/// Ana on three devices, and Bob.
async fn three_devices() -> (Service, [Client; 3], Client) {
    let (service, _, ana) = service_with_ana().await;
    let devices = [
        ana,
        service.signed_in("ana").await,
        service.signed_in("ana").await,
    ];
    service.make_user("bob").await;
    let bob = service.signed_in("bob").await;
    (service, devices, bob)
}

async fn reaching(call: Call<'_>, scope: &str) -> Answer {
    call.json(&json!({"scope": scope})).send().await
}

async fn has_ended(client: &Client, reason: &str) {
    for answer in [client.user().await, client.clone().refresh().await] {
        let ended = answer.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], reason);
    }
}

async fn goes_on(client: &Client) {
    client.user().await.expect(StatusCode::OK);
    client.clone().refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_others_end_and_this_session_keeps_its_cookies() {
    for by_cookie in [false, true] {
        let (_service, [ana, phone, tablet], bob) = three_devices().await;
        let call = ana.post("/users/logout").with_csrf();
        let call = if by_cookie {
            call.with_cookies()
        } else {
            call.with_token()
        };
        let answer = reaching(call, "others").await;
        let answer = answer.expect(StatusCode::NO_CONTENT);
        assert!(answer.set_cookies().is_empty());
        for other in [phone, tablet] {
            has_ended(&other, "revoked_by_user").await;
        }
        goes_on(&ana).await;
        goes_on(&bob).await;
    }
}

#[tokio::test]
async fn everywhere_is_here_as_well() {
    for by_cookie in [false, true] {
        let (_service, [ana, phone, tablet], bob) = three_devices().await;
        let call = ana.post("/users/logout").with_csrf();
        let call = if by_cookie {
            call.with_cookies()
        } else {
            call.with_token()
        };
        let answer = reaching(call, "global").await;
        let answer = answer.expect(StatusCode::NO_CONTENT);
        assert_eq!(answer.set_cookies().len(), 2, "both are cleared");
        has_ended(&ana, "logout").await;
        for other in [phone, tablet] {
            has_ended(&other, "revoked_by_user").await;
        }
        goes_on(&bob).await;
    }
}

#[tokio::test]
async fn the_previous_cookie_reaches_as_far_within_the_grace() {
    for scope in ["others", "global"] {
        let (service, [mut ana, phone, _], _) = three_devices().await;
        let previous = ana.clone();
        ana.refresh().await.expect(StatusCode::OK);
        service.later(30);
        let call = previous.post("/users/logout").with_cookies().with_csrf();
        let answer = reaching(call, scope).await;
        answer.expect(StatusCode::NO_CONTENT);
        phone.user().await.refused(401, "session_ended");
        assert_eq!(service.session_of(&ana).await.generation.0, 1);
    }
}

#[tokio::test]
async fn whoever_finds_a_superseded_cookie_signs_out_its_own_session_only() {
    for scope in ["others", "global"] {
        let (service, [mut ana, phone, tablet], _) = three_devices().await;
        let found = ana.clone();
        ana.refresh().await.expect(StatusCode::OK);
        service.later(31);
        let call = found.post("/users/logout").with_cookies().with_csrf();
        let answer = reaching(call, scope).await;
        answer.refused(401, "refresh_reused");
        has_ended(&ana, "reuse_detected").await;
        goes_on(&phone).await;
        goes_on(&tablet).await;
    }
}

#[tokio::test]
async fn the_cookie_or_token_of_a_session_that_has_ended_signs_nobody_else_out() {
    for scope in ["others", "global"] {
        let (service, [mut ana, phone, tablet], _) = three_devices().await;
        let held = ana.clone();
        ana.logout().await.expect(StatusCode::NO_CONTENT);
        for call in [
            held.post("/users/logout").with_cookies(),
            held.post("/users/logout").with_token(),
            held.post("/users/logout").with_token().with_cookies(),
        ] {
            let ended = reaching(call.with_csrf(), scope).await;
            let ended = ended.refused(401, "session_ended");
            assert_eq!(ended.json["end_reason"], "logout");
        }
        goes_on(&phone).await;
        goes_on(&tablet).await;
        service.later(7 * 24 * 3_600);
        let call = held.post("/users/logout").with_cookies().with_csrf();
        let answer = reaching(call, scope).await;
        answer.refused(401, "refresh_expired");
    }
}

#[tokio::test]
async fn whoever_has_no_credential_or_junk_reaches_nobody() {
    let (_service, [ana, phone, _], _) = three_devices().await;
    for scope in ["others", "global"] {
        let call = ana.post("/users/logout").with_csrf();
        let answer = reaching(call, scope).await;
        answer.refused(401, "credentials_missing");
        let junk = ana.post("/users/logout").with_csrf();
        let junk = junk.header("cookie", "refreshtoken=junk");
        let answer = reaching(junk, scope).await;
        answer.refused(401, "refresh_invalid");
        let junk = ana.post("/users/logout").with_csrf().bearer("junk");
        let answer = reaching(junk, scope).await;
        answer.refused(401, "token_malformed");
    }
    goes_on(&ana).await;
    goes_on(&phone).await;
}

#[tokio::test]
async fn an_expired_access_token_is_no_hindrance_beside_a_good_cookie() {
    let (service, [ana, phone, _], _) = three_devices().await;
    service.later(300);
    let call = ana.post("/users/logout").with_token().with_csrf();
    let answer = reaching(call, "others").await;
    answer.refused(401, "token_expired");
    let call = ana.post("/users/logout").with_token().with_cookies();
    let answer = reaching(call.with_csrf(), "others").await;
    answer.expect(StatusCode::NO_CONTENT);
    let ended = phone.clone().refresh().await;
    ended.refused(401, "session_ended");
    ana.clone().refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn reaching_further_shows_the_csrf_token_as_well() {
    let (_service, [ana, phone, tablet], _) = three_devices().await;
    let others = phone.csrf_token.as_deref().unwrap();
    for scope in ["others", "global"] {
        for (shown, code) in [("", "csrf_missing"), (others, "csrf_invalid")] {
            for call in [
                ana.post("/users/logout").with_cookies(),
                ana.post("/users/logout").with_token(),
            ] {
                let call = call.header("x-csrftoken", shown);
                reaching(call, scope).await.refused(403, code);
            }
        }
        let call = ana.post("/users/logout").with_cookies().with_csrf();
        let answer = reaching(call.on_page(FOREIGN), scope).await;
        answer.refused(403, "origin_denied");
    }
    for device in [ana, phone, tablet] {
        goes_on(&device).await;
    }
}

#[tokio::test]
async fn a_cookie_of_somebody_elses_session_is_left_alone() {
    let (service, [ana, ..], bob) = three_devices().await;
    // Ana's page in a browser in which Bob is signed in.
    let mut mixed = bob.clone();
    mixed.access_token.clone_from(&ana.access_token);
    mixed.csrf_token.clone_from(&ana.csrf_token);
    let call = mixed.post("/users/logout").with_token().with_cookies();
    let answer = reaching(call.with_csrf(), "global").await;
    let answer = answer.expect(StatusCode::NO_CONTENT);
    assert!(answer.set_cookies().is_empty(), "Bob's cookie is his");
    has_ended(&ana, "logout").await;
    goes_on(&bob).await;

    let again = service.signed_in("ana").await;
    mixed.access_token.clone_from(&again.access_token);
    mixed.csrf_token.clone_from(&again.csrf_token);
    let path = format!("/users/sessions/{}", again.session_id());
    let call = mixed.delete(&path).with_token().with_cookies().with_csrf();
    let answer = call.send().await.expect(StatusCode::NO_CONTENT);
    assert!(answer.set_cookies().is_empty(), "Bob's cookie is his");
    has_ended(&again, "logout").await;
    goes_on(&bob).await;
}

#[tokio::test]
async fn a_dead_cookie_keeps_nobody_from_signing_out() {
    let (_service, [ana, phone, _], _) = three_devices().await;
    phone.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let mut mixed = ana.clone();
    mixed.cookies.clone_from(&phone.cookies);
    let call = mixed.post("/users/logout").with_token().with_cookies();
    call.with_csrf().send().await.expect(StatusCode::NO_CONTENT);
    has_ended(&ana, "logout").await;
}
