//! `GET` and `PATCH /users/user`

use crate::harness::{FOREIGN, LISTED, Setup, service_with_ana};
use http::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn an_access_token_tells_who_it_speaks_for() {
    let (_service, _, ana) = service_with_ana().await;
    let answer = ana.user().await.expect(StatusCode::OK);
    insta::assert_json_snapshot!(answer.json);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.set_cookies().is_empty());
}

#[tokio::test]
async fn no_answer_holds_anything_of_the_password() {
    let (service, mut visitor, ana) = service_with_ana().await;
    let stored = service
        .store
        .find_credentials("ana")
        .await
        .unwrap()
        .unwrap();
    let login = visitor.login("ana", crate::harness::PASSWORD).await;
    for answer in [login, ana.user().await] {
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(!body.contains("argon2") && !body.contains("\"password\""));
        assert!(!body.contains(stored.password.as_str()));
    }
}

#[tokio::test]
async fn the_answer_is_of_now_and_not_of_the_tokens_time() {
    let (service, _, ana) = service_with_ana().await;
    let elsewhere = service.signed_in("ana").await;
    let change = json!({"first_name": "Ana"});
    let call = elsewhere.patch("/users/user").with_token().with_csrf();
    call.json(&change).send().await.expect(StatusCode::OK);
    let answer = ana.user().await.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["first_name"], "Ana");
}

#[tokio::test]
async fn without_a_token_nobody_is_told_anything() {
    let (_service, visitor, ana) = service_with_ana().await;
    let answer = visitor.get("/users/user").send().await;
    let answer = answer.refused(401, "credentials_missing");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    // The cookie refreshes; it authenticates nobody.
    let answer = ana.get("/users/user").with_cookies().with_csrf();
    answer.send().await.refused(401, "credentials_missing");
}

#[tokio::test]
async fn a_token_lives_five_minutes() {
    let (service, _, ana) = service_with_ana().await;
    service.later(299);
    ana.user().await.expect(StatusCode::OK);
    service.later(1);
    let answer = ana.user().await.refused(401, "token_expired");
    assert_eq!(
        answer.header("www-authenticate"),
        r#"Bearer error="invalid_token""#
    );
}

#[tokio::test]
async fn a_user_changes_their_names() {
    let (_service, _, ana) = service_with_ana().await;
    let change = async |body: Value| {
        let call = ana.patch("/users/user").with_token().with_csrf();
        let answer = call.json(&body).send().await.expect(StatusCode::OK);
        answer.json["user"].clone()
    };
    let user = change(json!({"first_name": " Ana ", "last_name": "Lima"})).await;
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("Ana"), &json!("Lima"))
    );
    // What is left out stays, and an empty name is a name.
    let user = change(json!({"last_name": ""})).await;
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("Ana"), &json!(""))
    );
    assert_eq!(change(json!({})).await, user);
    let longest = "é".repeat(150);
    let user = change(json!({"first_name": longest})).await;
    assert_eq!(user["first_name"], json!(longest));
    assert_eq!(ana.user().await.json["user"], user);
}

#[tokio::test]
async fn nobody_changes_more_of_themselves_than_their_names() {
    let (service, _, ana) = service_with_ana().await;
    let before = ana.user().await.json;
    let wish = json!({
        "id": 99, "username": "root", "email": "root@example.org", "is_staff": true,
        "is_superuser": true, "is_active": false, "password": "x", "date_joined": "2000-01-01",
        "groups": [1], "_method": "DELETE",
    });
    let call = ana.patch("/users/user").with_token().with_csrf();
    let answer = call.json(&wish).send().await.expect(StatusCode::OK);
    assert_eq!(answer.json, before);
    let stored = service.auth.find_user("ana").await.unwrap();
    assert!(!stored.is_superuser && !stored.is_staff && stored.is_active);
    service.signed_in("ana").await;
}

#[tokio::test]
async fn wrong_names_are_refused_all_at_once_and_nothing_is_changed() {
    let (_service, _, ana) = service_with_ana().await;
    let before = ana.user().await.json;
    for (body, errors) in [
        (
            json!({"first_name": "x".repeat(151), "last_name": "a\nb"}),
            ["first_name:too_long", "last_name:invalid"],
        ),
        (
            json!({"first_name": ["Ana"], "last_name": 7}),
            ["first_name:wrong_type", "last_name:wrong_type"],
        ),
        (
            json!({"first_name": "a\u{0}", "last_name": {"$ne": ""}}),
            ["first_name:invalid", "last_name:wrong_type"],
        ),
    ] {
        let call = ana.patch("/users/user").with_token().with_csrf();
        let answer = call.json(&body).send().await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), errors);
    }
    let half = json!({"first_name": "Ana", "last_name": 7});
    let call = ana.patch("/users/user").with_token().with_csrf();
    call.json(&half)
        .send()
        .await
        .refused(400, "validation_failed");
    assert_eq!(ana.user().await.json, before);
}

#[tokio::test]
async fn a_change_shows_the_csrf_token_of_the_tokens_session() {
    let (service, visitor, ana) = service_with_ana().await;
    let change = json!({"first_name": "Mallory"});
    let other = service.signed_in("ana").await;
    let others = other.csrf_token.as_deref().unwrap();
    for (shown, code) in [("", "csrf_missing"), (others, "csrf_invalid")] {
        let call = ana.patch("/users/user").with_token().json(&change);
        let answer = call.header("x-csrftoken", shown).send().await;
        answer.refused(403, code);
    }
    let anonymous = visitor.patch("/users/user").json(&change);
    let answer = anonymous.send().await;
    answer.refused(401, "credentials_missing");
    assert_eq!(ana.user().await.json["user"]["first_name"], "");
}

#[tokio::test]
async fn an_api_that_no_browser_calls_can_do_without_csrf_tokens() {
    let mut setup = Setup::development();
    setup.http.csrf_for_bearer = false;
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let call = ana.patch("/users/user").with_token();
    let answer = call.json(&json!({"first_name": "Ana"})).send().await;
    answer.expect(StatusCode::OK);
    // What comes with the cookie is another matter.
    let call = ana.post("/users/refresh_token").with_cookies();
    call.send().await.refused(403, "csrf_missing");
    let call = ana.patch("/users/user").with_token().on_page(FOREIGN);
    let answer = call.json(&json!({"first_name": "Eve"})).send().await;
    answer.refused(403, "origin_denied");
}

#[tokio::test]
async fn a_listed_page_reads_and_changes_the_user() {
    let (_service, _, ana) = service_with_ana().await;
    let call = ana.get("/users/user").with_token().on_page(LISTED);
    let answer = call.send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
    let call = ana.patch("/users/user").with_token().with_csrf();
    let call = call.on_page(LISTED).json(&json!({"first_name": "Ana"}));
    let answer = call.send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), LISTED);
}

#[tokio::test]
async fn the_proof_comes_before_the_body() {
    let (_service, visitor, ana) = service_with_ana().await;
    let junk = visitor.patch("/users/user").body("text/plain", "junk");
    junk.send().await.refused(401, "credentials_missing");
    let call = ana.patch("/users/user").with_token();
    let answer = call.body("application/json", "{").send().await;
    answer.refused(403, "csrf_missing");
}

#[tokio::test]
async fn whoever_is_deleted_is_gone_at_once() {
    use countersign::core::session::EndedBy;
    let (service, mut visitor, mut ana) = service_with_ana().await;
    let user = service.auth.find_user("ana").await.unwrap();
    let by = EndedBy::CommandLine;
    service.auth.delete_user(user.id, by).await.unwrap();
    let ended = ana.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "user_deleted");
    ana.refresh().await.refused(401, "session_ended");
    // Whoever gets the name next is someone else.
    let next = service.make_user("ana").await;
    assert_ne!(next.id, user.id);
    ana.user().await.refused(401, "session_ended");
    visitor
        .login("ana", crate::harness::PASSWORD)
        .await
        .expect(StatusCode::OK);
    assert_eq!(visitor.claims()["sub"], next.id.to_string());
}

#[tokio::test]
async fn null_leaves_a_field_as_it_is() {
    let (_service, _, ana) = service_with_ana().await;
    let change = async |body| {
        let call = ana.patch("/users/user").with_token().with_csrf();
        call.json(&body).send().await.expect(StatusCode::OK).json["user"].clone()
    };
    change(json!({"first_name": "Ana", "last_name": "Lima"})).await;
    let user = change(json!({"first_name": null, "last_name": "Souza"})).await;
    assert_eq!(user["first_name"], "Ana");
    assert_eq!(user["last_name"], "Souza");
}
