//! What people are told of sign-ins to their accounts.

use countersign::core::audit::AuditQuery;
use countersign::core::mail::Message;
use countersign::core::notices::NoticeSettings;
use http::StatusCode;
use serde_json::json;

use crate::harness::{Client, PASSWORD, Service, Setup};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A service that tells people, with Ana who has signed in before. Throttling is about something else.
async fn service_that_tells(notices: NoticeSettings) -> (Service, Client) {
    let mut setup = Setup::development().unthrottled();
    setup.auth.queue_mail = true;
    setup.auth.notices = notices;
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    (service, ana)
}

async fn service_with_notices() -> (Service, Client) {
    service_that_tells(NoticeSettings::default()).await
}

/// What has been told since somebody last asked.
async fn told(service: &Service) -> Vec<Message> {
    let letters = service.letters().await;
    for letter in &letters {
        assert_eq!(letter.to, "ana@example.org");
    }
    let messages = letters.into_iter().map(|letter| letter.message);
    messages.collect()
}

/// Signs in without being remembered.
async fn passing_through(client: &Client, user_agent: &str) {
    let body = json!({"username": "ana", "password": PASSWORD, "remember": false});
    let call = client.post("/users/login").json(&body);
    let answer = call.header("user-agent", user_agent).send().await;
    answer.expect(StatusCode::OK);
}

async fn wrong(client: &Client, times: usize) {
    for _ in 0..times {
        let answer = client.clone().login("ana", "not the password").await;
        answer.refused(401, "invalid_credentials");
    }
}

/// How many entries of an event the audit log has.
async fn events(service: &Service, name: &str) -> usize {
    let query = AuditQuery {
        user: None,
        session: None,
        event: Some(name.to_owned()),
        since: None,
        until: None,
        after: None,
        limit: 100,
    };
    service.store.list_audit(&query).await.unwrap().len()
}

#[tokio::test]
async fn the_first_sign_in_of_all_is_no_news() {
    let (service, _) = service_with_notices().await;
    assert_eq!(told(&service).await, []);
}

#[tokio::test]
async fn a_sign_in_on_a_new_device_is_told_with_what_is_needed_to_judge_it() {
    let (service, ana) = service_with_notices().await;
    service.later(60);
    // With the cookie, wherever she goes.
    let mut travelling = ana.elsewhere(1);
    let answer = travelling.login("ana", PASSWORD).await;
    answer.expect(StatusCode::OK);
    assert_eq!(told(&service).await, []);

    let stranger = service.visitor().elsewhere(2);
    passing_through(&stranger, FIREFOX).await;
    let [message] = told(&service).await.try_into().unwrap();
    let Message::NewDevice { address, client } = message else {
        panic!("{message:?}");
    };
    assert_eq!(address, Some(stranger.peer.ip()));
    assert_eq!(client.to_string(), "Firefox on Linux");
}

#[tokio::test]
async fn whoever_is_not_remembered_is_known_by_network_and_browser() {
    let (service, _) = service_with_notices().await;
    let library = service.visitor().elsewhere(1);
    passing_through(&library, FIREFOX).await;
    assert_eq!(told(&service).await.len(), 1);
    let newer = FIREFOX.replace("140", "141");
    for user_agent in [FIREFOX, &newer] {
        passing_through(&library, user_agent).await;
    }
    assert_eq!(told(&service).await, []);
    passing_through(&library, "curl/8").await;
    assert_eq!(told(&service).await.len(), 1);
}

#[tokio::test]
async fn a_sign_in_that_is_refused_is_not_told_and_nor_is_one_of_somebody_else() {
    let (service, ana) = service_with_notices().await;
    service.make_user("bob").await;
    let stranger = service.visitor().elsewhere(1);
    wrong(&stranger, 3).await;
    // Bob is known by nothing of Ana's.
    let mut bob = ana.elsewhere(2);
    bob.login("bob", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(told(&service).await, []);
    service.deactivate("ana").await;
    let answer = stranger.clone().login("ana", PASSWORD).await;
    answer.refused(403, "user_inactive");
    assert_eq!(told(&service).await, []);
}

#[tokio::test]
async fn eight_failures_then_a_success_are_one_event_and_one_letter() {
    let (service, mut ana) = service_with_notices().await;
    let stranger = service.visitor().elsewhere(1);
    wrong(&stranger, 7).await;
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(events(&service, "login_after_failures").await, 0);
    assert_eq!(told(&service).await, []);

    service.later(60);
    wrong(&stranger, 6).await;
    wrong(&ana, 2).await;
    service.later(60);
    let answer = stranger.clone().login("ana", PASSWORD).await;
    answer.expect(StatusCode::OK);
    assert_eq!(events(&service, "login_after_failures").await, 1);
    // It says where from as well: that the device is new is not told besides.
    let [message] = told(&service).await.try_into().unwrap();
    let from = Some(stranger.peer.ip());
    assert!(
        matches!(message, Message::LoginAfterFailures { failures: 8, address, .. } if address == from),
        "{message:?}"
    );

    service.later(60);
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(events(&service, "login_after_failures").await, 1);
    assert_eq!(told(&service).await, []);
}

#[tokio::test]
async fn what_is_switched_off_is_not_told() {
    let (service, mut ana) = service_that_tells(NoticeSettings {
        new_device: false,
        password_changed: false,
        email_changed: false,
        failures_before_success: 0,
    })
    .await;
    wrong(&ana, 20).await;
    let stranger = service.visitor().elsewhere(1);
    passing_through(&stranger, FIREFOX).await;
    let body = json!({"current_password": PASSWORD, "new_password": "another horse altogether"});
    let call = ana.post("/users/password").with_token().with_csrf();
    call.json(&body).send().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(told(&service).await, []);
    assert_eq!(events(&service, "login_after_failures").await, 0);
    let answer = ana.login("ana", "another horse altogether").await;
    answer.expect(StatusCode::OK);
}

/// Either may be a stranger's: none goes untold because of the other.
#[tokio::test]
async fn of_two_sign_ins_at_once_on_new_devices_each_is_told() {
    let (service, _) = service_with_notices().await;
    service.later(60);
    let strangers = [2, 3].map(|number| service.visitor().elsewhere(number));
    tokio::join!(
        passing_through(&strangers[0], FIREFOX),
        passing_through(&strangers[1], FIREFOX),
    );
    let mut from: Vec<_> = told(&service).await.into_iter().collect();
    assert_eq!(from.len(), 2, "{from:?}");
    from.retain(|message| {
        let Message::NewDevice { address, .. } = message else {
            panic!("{message:?}");
        };
        strangers.iter().all(|it| *address != Some(it.peer.ip()))
    });
    assert_eq!(from, []);
}
