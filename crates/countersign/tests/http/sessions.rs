//! `GET /users/sessions` and `DELETE /users/sessions/{id}`

use std::num::NonZeroU32;

use crate::harness::{Answer, Client, FOREIGN, LISTED, PASSWORD, Setup, service_with_ana};
use countersign::core::session::{EndReason, EndedBy};
use http::StatusCode;
use serde_json::{Value, json};

const DAY: i64 = 24 * 3_600;

async fn listed(client: &Client) -> Vec<Value> {
    let answer = client.get("/users/sessions").with_token().send().await;
    let answer = answer.expect(StatusCode::OK);
    answer.json["sessions"].as_array().unwrap().clone()
}

async fn listed_ids(client: &Client) -> Vec<String> {
    let sessions = listed(client).await;
    let ids = sessions.iter().map(|session| session["id"].as_str());
    ids.map(|id| id.unwrap().to_owned()).collect()
}

async fn end(client: &Client, id: &str) -> Answer {
    let path = format!("/users/sessions/{id}");
    client.delete(&path).with_token().with_csrf().send().await
}

#[tokio::test]
async fn a_user_sees_where_they_are_signed_in() {
    let (service, mut phone, ana) = service_with_ana().await;
    service.later(60);
    phone.peer = "[2001:db8::7]:50000".parse().unwrap();
    let body = json!({"username": "ana", "password": PASSWORD});
    let call = phone.post("/users/login").json(&body);
    let answer = call.header("user-agent", "A Phone/1.0").send().await;
    phone.keep(&answer.expect(StatusCode::OK));
    service.later(60);

    let answer = ana.get("/users/sessions").with_token().send().await;
    let answer = answer.expect(StatusCode::OK);
    assert_eq!(answer.header("cache-control"), "no-store");
    let [here, there] = [&ana, &phone];
    let (here, there) = (
        service.session_of(here).await,
        service.session_of(there).await,
    );
    assert_eq!(
        answer.json,
        json!({"sessions": [
            {
                "id": phone.session_id(),
                "created_at": there.opened_at.to_string(),
                "last_seen_at": there.rotated_at.to_string(),
                "ip": "2001:db8::7",
                "user_agent": "A Phone/1.0",
                "current": false,
            },
            {
                "id": ana.session_id(),
                "created_at": here.opened_at.to_string(),
                "last_seen_at": here.rotated_at.to_string(),
                "ip": "192.0.2.7",
                "user_agent": null,
                "current": true,
            },
        ]})
    );
}

#[tokio::test]
async fn the_session_used_last_comes_first() {
    let (service, _, mut first) = service_with_ana().await;
    service.later(60);
    let mut second = service.signed_in("ana").await;
    service.later(60);
    let third = service.signed_in("ana").await;
    let ids = [&third, &second, &first].map(Client::session_id);
    assert_eq!(listed_ids(&third).await, ids);

    service.later(60);
    first.refresh().await.expect(StatusCode::OK);
    service.later(60);
    second.refresh().await.expect(StatusCode::OK);
    let ids = [&second, &first, &third].map(Client::session_id);
    assert_eq!(listed_ids(&second).await, ids);
    let sessions = listed(&second).await;
    assert_ne!(sessions[0]["last_seen_at"], sessions[0]["created_at"]);
    assert_eq!(sessions[2]["last_seen_at"], sessions[2]["created_at"]);
}

#[tokio::test]
async fn sessions_that_have_ended_or_expired_and_those_of_others_are_not_listed() {
    let (service, _, mut ana) = service_with_ana().await;
    service.make_user("bob").await;
    let bob = service.signed_in("bob").await;
    let left_alone = service.signed_in("ana").await;
    let mut signed_out = service.signed_in("ana").await;
    signed_out.logout().await.expect(StatusCode::NO_CONTENT);
    let (here, there) = (ana.session_id(), left_alone.session_id());
    let mut both = listed_ids(&ana).await;
    both.sort_unstable();
    let mut expected = [here.clone(), there];
    expected.sort_unstable();
    assert_eq!(both, expected);
    assert_eq!(listed_ids(&bob).await, [bob.session_id()]);

    service.later(6 * DAY);
    ana.refresh().await.expect(StatusCode::OK);
    service.later(DAY);
    // The other's idle limit has passed, and upkeep has not come by yet.
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(listed_ids(&ana).await, [here]);
}

#[tokio::test]
async fn a_session_ended_from_another_device_is_refused_at_once() {
    let (service, _, ana) = service_with_ana().await;
    let mut phone = service.signed_in("ana").await;
    let tablet = service.signed_in("ana").await;
    phone.user().await.expect(StatusCode::OK);
    let answer = end(&ana, &phone.session_id()).await;
    let answer = answer.expect(StatusCode::NO_CONTENT);
    assert!(answer.bytes.is_empty());
    assert!(answer.set_cookies().is_empty(), "this session goes on");
    for answer in [phone.user().await, phone.refresh().await] {
        let ended = answer.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], "revoked_by_user");
    }
    let stored = service.session_of(&phone).await.end.unwrap();
    let user = service.auth.find_user("ana").await.unwrap();
    assert_eq!(stored.by, EndedBy::User(user.id));
    ana.user().await.expect(StatusCode::OK);
    tablet.user().await.expect(StatusCode::OK);
    assert!(!listed_ids(&ana).await.contains(&phone.session_id()));
}

#[tokio::test]
async fn ending_the_session_that_asks_is_a_logout() {
    let (service, _, mut ana) = service_with_ana().await;
    let (elsewhere, held) = (service.signed_in("ana").await, ana.clone());
    let answer = end(&ana, &ana.session_id()).await;
    let answer = answer.expect(StatusCode::NO_CONTENT);
    assert_eq!(
        answer.set_cookies(),
        [
            "refreshtoken=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0",
            "csrftoken=; SameSite=Lax; Path=/; Max-Age=0"
        ]
    );
    ana.keep(&answer);
    assert_eq!(ana.session_cookies(), [""; 0]);
    let ended = held.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
    held.clone().refresh().await.refused(401, "session_ended");
    elsewhere.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn nobody_ends_a_session_of_somebody_else_or_learns_that_there_is_one() {
    let (service, _, ana) = service_with_ana().await;
    service.make_user("bob").await;
    let mut bob = service.signed_in("bob").await;
    let theirs = end(&ana, &bob.session_id()).await.refused(404, "not_found");
    let nobodys = "0199c0de-7b1c-7000-8000-0123456789ab";
    let nobodys = end(&ana, nobodys).await.refused(404, "not_found");
    assert_eq!(theirs.json, nobodys.json);
    bob.user().await.expect(StatusCode::OK);
    bob.refresh().await.expect(StatusCode::OK);
    // Nor one that has ended.
    bob.logout().await.expect(StatusCode::NO_CONTENT);
    end(&ana, &bob.session_id()).await.refused(404, "not_found");
    let stored = service.session_of(&bob).await.end.unwrap();
    assert_eq!(stored.reason, EndReason::Logout);
}

#[tokio::test]
async fn what_is_no_name_of_a_session_names_none() {
    let (_service, _, ana) = service_with_ana().await;
    let id = ana.session_id();
    for nonsense in [
        "1".to_owned(),
        "all".to_owned(),
        "*".to_owned(),
        id.to_uppercase(),
        id.replace('-', ""),
        format!("{{{id}}}").replace('{', "%7B").replace('}', "%7D"),
        format!("{id}%00"),
        format!("%20{id}"),
        "%ff%fe".to_owned(),
        "x".repeat(4_000),
    ] {
        end(&ana, &nonsense).await.refused(404, "not_found");
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn ending_a_session_twice_is_as_good_as_once() {
    let (service, _, ana) = service_with_ana().await;
    let mut phone = service.signed_in("ana").await;
    phone.logout().await.expect(StatusCode::NO_CONTENT);
    for _ in 0..2 {
        let answer = end(&ana, &phone.session_id()).await;
        answer.expect(StatusCode::NO_CONTENT);
    }
    let stored = service.session_of(&phone).await.end.unwrap();
    assert_eq!(stored.reason, EndReason::Logout, "the first end stands");
}

#[tokio::test]
async fn ending_a_session_shows_the_csrf_token_and_comes_from_a_listed_page() {
    let (service, visitor, ana) = service_with_ana().await;
    let phone = service.signed_in("ana").await;
    let path = format!("/users/sessions/{}", phone.session_id());
    // That of the session that is to end is not that of the one that asks.
    let others = phone.csrf_token.as_deref().unwrap();
    for (shown, code) in [("", "csrf_missing"), (others, "csrf_invalid")] {
        let call = ana.delete(&path).with_token();
        let answer = call.header("x-csrftoken", shown).send().await;
        answer.refused(403, code);
    }
    let call = ana.delete(&path).with_token().with_csrf();
    let answer = call.on_page(FOREIGN).send().await;
    answer.refused(403, "origin_denied");
    let call = visitor.delete(&path);
    call.send().await.refused(401, "credentials_missing");
    let call = ana.delete(&path).with_cookies().with_csrf();
    let answer = call.send().await;
    answer.refused(401, "credentials_missing");
    phone.user().await.expect(StatusCode::OK);

    let call = ana.delete(&path).with_token().with_csrf();
    let answer = call.on_page(LISTED).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    phone.user().await.refused(401, "session_ended");
}

#[tokio::test]
async fn the_list_is_for_who_shows_an_access_token_of_a_live_session() {
    let (_service, visitor, mut ana) = service_with_ana().await;
    let answer = visitor.get("/users/sessions").send().await;
    answer.refused(401, "credentials_missing");
    let call = ana.get("/users/sessions").with_cookies().with_csrf();
    call.send().await.refused(401, "credentials_missing");
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    let call = ana.get("/users/sessions").with_token();
    call.send().await.refused(401, "session_ended");
    let ended = end(&ana, &ana.session_id()).await;
    ended.refused(401, "session_ended");
}

#[tokio::test]
async fn the_name_of_a_session_opens_nothing() {
    let (service, visitor, ana) = service_with_ana().await;
    let id = listed_ids(&ana).await.remove(0);
    let call = visitor.get("/users/user").bearer(&id);
    call.send().await.refused(401, "token_malformed");
    let cookie = format!("refreshtoken={id}");
    let call = visitor.post("/users/refresh_token");
    let answer = call.header("cookie", &cookie).header("x-csrftoken", &id);
    answer.send().await.refused(401, "refresh_invalid");
    let call = ana.post("/users/refresh_token").with_cookies();
    let answer = call.header("x-csrftoken", &id).send().await;
    answer.refused(403, "csrf_invalid");
    assert_eq!(service.session_of(&ana).await.generation.0, 0);
}

#[tokio::test]
async fn of_too_many_sessions_the_one_used_least_recently_ends() {
    let mut setup = Setup::development();
    setup.auth.max_sessions_per_user = NonZeroU32::new(2);
    let service = setup.start().await;
    service.make_user("ana").await;
    service.make_user("bob").await;
    let bob = service.signed_in("bob").await;
    let mut first = service.signed_in("ana").await;
    service.later(10);
    let second = service.signed_in("ana").await;
    service.later(10);
    first.refresh().await.expect(StatusCode::OK);
    service.later(10);
    let third = service.signed_in("ana").await;
    let ended = second.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "too_many_sessions");
    let ids = [&third, &first].map(Client::session_id);
    assert_eq!(listed_ids(&third).await, ids);
    first.user().await.expect(StatusCode::OK);
    bob.user().await.expect(StatusCode::OK);

    // Who signs in anew where they were takes the place that they had.
    let mut again = third.clone();
    again.login("ana", PASSWORD).await.expect(StatusCode::OK);
    third.user().await.refused(401, "session_ended");
    first.user().await.expect(StatusCode::OK);
    again.user().await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_sign_in_at_once_no_more_sessions_live_than_are_allowed() {
    let mut setup = Setup::development();
    setup.auth.max_sessions_per_user = NonZeroU32::new(3);
    setup.auth.hashing.queue = 64;
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut arriving = tokio::task::JoinSet::new();
    for number in 0..16 {
        let mut visitor = service.visitor().elsewhere(number);
        arriving.spawn(async move {
            visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
            visitor
        });
    }
    let arrived = arriving.join_all().await;
    let mut alive = 0;
    for client in &arrived {
        let answer = client.user().await;
        if answer.status == StatusCode::OK {
            assert_eq!(listed_ids(client).await.len(), 3);
            alive += 1;
        } else {
            let ended = answer.refused(401, "session_ended");
            assert_eq!(ended.json["end_reason"], "too_many_sessions");
        }
    }
    assert_eq!(alive, 3);
}
