//! `POST /users/password`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Answer, Client, FOREIGN, PASSWORD, Setup, service_with_ana};
use countersign::core::password::{BreachedHash, BreachedPasswords, BreachedUnavailable};
use countersign::core::session::EndedBy;
use http::StatusCode;
use serde_json::{Value, json};

const NEW: &str = "a quiet river under old stars";

fn change_to(new: &str) -> Value {
    json!({"current_password": PASSWORD, "new_password": new})
}

async fn change(client: &Client, body: &Value) -> Answer {
    let call = client.post("/users/password").with_token().with_csrf();
    call.json(body).send().await
}

#[tokio::test]
async fn a_change_ends_every_other_session_and_this_one_goes_on() {
    let (service, mut visitor, mut ana) = service_with_ana().await;
    let others = [
        service.signed_in("ana").await,
        service.signed_in("ana").await,
    ];
    service.make_user("bob").await;
    let bob = service.signed_in("bob").await;
    let answer = change(&ana, &change_to(NEW)).await;
    let answer = answer.expect(StatusCode::NO_CONTENT);
    assert!(answer.bytes.is_empty());
    assert!(
        answer.set_cookies().is_empty(),
        "it keeps the tokens it has"
    );
    let user = service.auth.find_user("ana").await.unwrap();
    for mut other in others {
        for answer in [other.user().await, other.refresh().await] {
            let ended = answer.refused(401, "session_ended");
            assert_eq!(ended.json["end_reason"], "password_changed");
        }
        let end = service.session_of(&other).await.end.unwrap();
        assert_eq!(end.by, EndedBy::User(user.id));
    }
    ana.user().await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
    ana.user().await.expect(StatusCode::OK);
    bob.user().await.expect(StatusCode::OK);
    let answer = visitor.login("ana", PASSWORD).await;
    answer.refused(401, "invalid_credentials");
    visitor.login("ana", NEW).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn with_a_wrong_current_password_nothing_changes() {
    let (service, mut visitor, ana) = service_with_ana().await;
    let other = service.signed_in("ana").await;
    for wrong in ["another password", "x", "correct horse battery staple "] {
        let body = json!({"current_password": wrong, "new_password": NEW});
        let answer = change(&ana, &body).await;
        let answer = answer.refused(401, "invalid_credentials");
        assert!(answer.set_cookies().is_empty());
    }
    ana.user().await.expect(StatusCode::OK);
    other.user().await.expect(StatusCode::OK);
    let answer = visitor.login("ana", NEW).await;
    answer.refused(401, "invalid_credentials");
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn what_the_policy_refuses_is_told_about_the_new_password() {
    let (service, _, _) = service_with_ana().await;
    service.make_user("anamaria").await;
    let ana = service.signed_in("anamaria").await;
    let other = service.signed_in("anamaria").await;
    for (new, error) in [
        ("short", "new_password:password_too_short"),
        ("Anamaria 2026", "new_password:password_too_similar"),
        ("aabbaabbaabb", "new_password:password_too_simple"),
        ("Football1", "new_password:password_too_common"),
        ("sommer2026", "new_password:password_too_weak"),
    ] {
        let answer = change(&ana, &change_to(new)).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), [error], "{new}");
    }
    other.user().await.expect(StatusCode::OK);
    service.signed_in("anamaria").await;
}

#[tokio::test]
async fn what_every_breach_begins_with_is_refused() {
    let (_service, _, ana) = service_with_ana().await;
    for common in [
        "password1",
        "PASSWORD1",
        "qwertyuiop",
        "iloveyou1",
        "12345678910",
    ] {
        let answer = change(&ana, &change_to(common)).await;
        let answer = answer.refused(400, "validation_failed");
        let errors = answer.field_errors();
        assert_eq!(errors, ["new_password:password_too_common"], "{common}");
    }
}

#[tokio::test]
async fn a_password_opens_however_the_keyboard_writes_it_and_to_the_letter_otherwise() {
    let (_service, mut visitor, ana) = service_with_ana().await;
    let set = "  en stor bl\u{e5} b\u{e5}t \0 ";
    let answer = change(&ana, &change_to(set)).await;
    answer.expect(StatusCode::NO_CONTENT);
    for typed in [set, "  en stor bla\u{30a} ba\u{30a}t \0 "] {
        visitor.login("ana", typed).await.expect(StatusCode::OK);
    }
    for wrong in [
        set.trim(),
        &set.to_uppercase(),
        set.split('\0').next().unwrap_or_default(),
        &set.replace('\u{e5}', "a"),
    ] {
        let answer = visitor.login("ana", wrong).await;
        answer.refused(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn the_same_password_is_no_change() {
    let (service, _, ana) = service_with_ana().await;
    let elsewhere = service.signed_in("ana").await;
    let body = json!({"current_password": PASSWORD, "new_password": PASSWORD});
    let answer = change(&ana, &body).await.refused(400, "validation_failed");
    assert_eq!(answer.field_errors(), ["new_password:unchanged"]);
    elsewhere.user().await.expect(StatusCode::OK);
    // Whether it is the right one is not told.
    let body = json!({"current_password": "not the one", "new_password": "not the one"});
    let answer = change(&ana, &body).await.refused(400, "validation_failed");
    assert_eq!(answer.field_errors(), ["new_password:unchanged"]);
}

#[tokio::test]
async fn staff_need_a_longer_password() {
    let (service, _, _) = service_with_ana().await;
    let user = service.auth.find_user("ana").await.unwrap();
    let by = EndedBy::CommandLine;
    service
        .auth
        .set_roles(user.id, true, false, by)
        .await
        .unwrap();
    let ana = service.signed_in("ana").await;
    let answer = change(&ana, &change_to("fourteen chars")).await;
    let answer = answer.refused(400, "validation_failed");
    assert_eq!(answer.field_errors(), ["new_password:password_too_short"]);
    let answer = change(&ana, &change_to("fifteen  letters")).await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let (_service, _, ana) = service_with_ana().await;
    let long = "x".repeat(4_097);
    for (body, errors) in [
        (
            json!({}),
            ["current_password:required", "new_password:required"],
        ),
        (
            json!({"current_password": 7, "new_password": ["x"]}),
            ["current_password:wrong_type", "new_password:wrong_type"],
        ),
        (
            json!({"current_password": long, "new_password": long}),
            ["current_password:too_long", "new_password:too_long"],
        ),
    ] {
        let answer = change(&ana, &body).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), errors);
    }
    let longest = "blåbær med rømme og kake. Ja ".repeat(128);
    assert_eq!(longest.len(), 4_096);
    let answer = change(&ana, &change_to(&longest)).await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn unknown_fields_change_nothing() {
    let (service, _, ana) = service_with_ana().await;
    service.make_user("bob").await;
    let body = json!({
        "current_password": PASSWORD, "new_password": NEW, "new_password2": "other", "user": "bob",
        "user_id": 2, "username": "bob", "is_superuser": true, "scope": "global",
    });
    change(&ana, &body).await.expect(StatusCode::NO_CONTENT);
    service.signed_in("bob").await;
    let user = service.auth.find_user("ana").await.unwrap();
    assert!(!user.is_superuser);
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_change_needs_an_access_token_the_csrf_token_and_a_listed_page() {
    let (service, visitor, ana) = service_with_ana().await;
    let body = change_to(NEW);
    let anonymous = visitor.post("/users/password").json(&body);
    let answer = anonymous.send().await;
    answer.refused(401, "credentials_missing");
    // What comes with the cookie may have come without the page.
    let call = ana.post("/users/password").with_cookies().with_csrf();
    let answer = call.json(&body).send().await;
    answer.refused(401, "credentials_missing");
    let other = service.signed_in("ana").await;
    let others = other.csrf_token.as_deref().unwrap();
    for (shown, code) in [("", "csrf_missing"), (others, "csrf_invalid")] {
        let call = ana.post("/users/password").with_token().with_cookies();
        let call = call.header("x-csrftoken", shown).json(&body);
        call.send().await.refused(403, code);
    }
    let call = ana.post("/users/password").with_token().with_csrf();
    let answer = call.on_page(FOREIGN).json(&body).send().await;
    answer.refused(403, "origin_denied");
    service.signed_in("ana").await;
    other.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_session_that_has_ended_changes_nothing() {
    let (service, _, mut ana) = service_with_ana().await;
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    let ended = change(&ana, &change_to(NEW)).await;
    let ended = ended.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
    service.signed_in("ana").await;
}

#[tokio::test]
async fn the_old_password_is_worth_nothing_to_who_was_signed_in_with_it() {
    let (service, _, ana) = service_with_ana().await;
    change(&ana, &change_to(NEW))
        .await
        .expect(StatusCode::NO_CONTENT);
    let answer = change(&ana, &change_to("another quiet river")).await;
    answer.refused(401, "invalid_credentials");
    let back = json!({"current_password": NEW, "new_password": PASSWORD});
    change(&ana, &back).await.expect(StatusCode::NO_CONTENT);
    service.signed_in("ana").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_changes_at_once_one_wins() {
    let service = Arc::new(Setup::development().start().await);
    for round in 0..100 {
        let name = format!("ana{round}");
        service.make_user(&name).await;
        let holders = [
            (service.signed_in(&name).await, "the first new password"),
            (service.signed_in(&name).await, "the second new password"),
        ];
        let changing = holders.clone().map(|(client, new)| {
            tokio::spawn(async move { change(&client, &change_to(new)).await })
        });
        let mut winners = Vec::new();
        for (task, (client, new)) in changing.into_iter().zip(holders) {
            let answer = task.await.unwrap();
            if answer.status == StatusCode::NO_CONTENT {
                winners.push((client, new));
            } else if answer.code() == "session_ended" {
                assert_eq!(answer.json["end_reason"], "password_changed");
                client.user().await.refused(401, "session_ended");
            } else {
                answer.refused(401, "invalid_credentials");
                client.user().await.refused(401, "session_ended");
            }
        }
        let [(winner, password)] = &winners[..] else {
            panic!("{} have won", winners.len())
        };
        winner.user().await.expect(StatusCode::OK);
        let mut visitor = service.visitor();
        visitor.login(&name, password).await.expect(StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_changes_at_once_in_one_session_one_wins() {
    let service = Arc::new(Setup::development().start().await);
    for round in 0..100 {
        let name = format!("ana{round}");
        service.make_user(&name).await;
        let ana = service.signed_in(&name).await;
        let wishes = ["the first new password", "the second new password"];
        let changing = wishes.map(|new| {
            let ana = ana.clone();
            tokio::spawn(async move { change(&ana, &change_to(new)).await })
        });
        let mut won = Vec::new();
        for (task, new) in changing.into_iter().zip(wishes) {
            let answer = task.await.unwrap();
            if answer.status == StatusCode::NO_CONTENT {
                won.push(new);
            } else {
                answer.refused(401, "invalid_credentials");
            }
        }
        let [password] = won[..] else {
            panic!("{won:?} have won")
        };
        ana.user().await.expect(StatusCode::OK);
        let mut visitor = service.visitor();
        visitor.login(&name, password).await.expect(StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_change_and_a_logout_at_once_both_or_the_logout_come_true() {
    let service = Arc::new(Setup::development().start().await);
    for round in 0..100 {
        let name = format!("ana{round}");
        service.make_user(&name).await;
        let ana = service.signed_in(&name).await;
        let other = service.signed_in(&name).await;
        let (changing, mut leaving) = (ana.clone(), ana.clone());
        let changed = tokio::spawn(async move { change(&changing, &change_to(NEW)).await });
        let left = tokio::spawn(async move { leaving.logout().await });
        left.await.unwrap().expect(StatusCode::NO_CONTENT);
        let changed = changed.await.unwrap();
        ana.user().await.refused(401, "session_ended");
        let mut visitor = service.visitor();
        if changed.status == StatusCode::NO_CONTENT {
            other.user().await.refused(401, "session_ended");
            visitor.login(&name, NEW).await.expect(StatusCode::OK);
        } else {
            let ended = changed.refused(401, "session_ended");
            assert_eq!(ended.json["end_reason"], "logout");
            other.user().await.expect(StatusCode::OK);
            visitor.login(&name, PASSWORD).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_that_a_change_overtakes_opens_no_session() {
    let service = Arc::new(Setup::development().unthrottled().start().await);
    for round in 0..100 {
        let name = format!("ana{round}");
        service.make_user(&name).await;
        let ana = service.signed_in(&name).await;
        let mut arriving = service.visitor();
        let typed = name.clone();
        let login = tokio::spawn(async move {
            let answer = arriving.login(&typed, PASSWORD).await;
            (answer, arriving)
        });
        change(&ana, &change_to(NEW))
            .await
            .expect(StatusCode::NO_CONTENT);
        let (answer, mut arriving) = login.await.unwrap();
        if answer.status == StatusCode::OK {
            arriving.user().await.refused(401, "session_ended");
            arriving.refresh().await.refused(401, "session_ended");
        } else {
            answer.refused(401, "invalid_credentials");
        }
    }
}

/// A list of breached passwords on a disk that comes and goes.
#[derive(Debug, Default)]
struct List {
    is_away: AtomicBool,
}

impl BreachedPasswords for List {
    fn contains(&self, _: &BreachedHash) -> Result<bool, BreachedUnavailable> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(BreachedUnavailable(
                "/var/lib/list: no such file".to_owned(),
            ));
        }
        Ok(false)
    }
}

/// A check that is passed over in silence is none. Who signs in does not notice.
#[tokio::test]
async fn while_the_list_of_breached_passwords_is_away_no_new_password_is_accepted() {
    let list = Arc::new(List::default());
    let mut setup = Setup::development().with_registration();
    setup.auth.passwords.breached = Some(Arc::clone(&list) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut ana = service.signed_in("ana").await;
    let call = ana.post("/users/password/reset");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::ACCEPTED);
    let token = service.mailed_token().await;
    let reset = json!({"token": token, "new_password": NEW});
    let new = json!({"username": "zoe", "email": "zoe@example.org", "password": NEW});
    let ways = async || {
        [
            change(&ana, &change_to(NEW)).await,
            ana.post("/users/register").json(&new).send().await,
            ana.post("/users/password/reset/confirm")
                .json(&reset)
                .send()
                .await,
        ]
    };
    list.is_away.store(true, Ordering::Relaxed);
    for answer in ways().await {
        let answer = answer.refused(503, "storage_unavailable");
        assert_eq!(answer.header("retry-after"), "2");
        assert!(!answer.json.to_string().contains("/var/lib"));
    }
    service
        .visitor()
        .login("ana", PASSWORD)
        .await
        .expect(StatusCode::OK);
    list.is_away.store(false, Ordering::Relaxed);
    let [changed, registered, reset] = ways().await;
    changed.expect(StatusCode::NO_CONTENT);
    registered.expect(StatusCode::CREATED);
    // The password is another by now.
    reset.refused(400, "mailed_token_invalid");
    ana.login("ana", NEW).await.expect(StatusCode::OK);
}
