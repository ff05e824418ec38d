//! Who attempts too often waits: strangers, and not the owner.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Answer, Client, PASSWORD, Service, Setup, service_with_ana};
use crate::troubled_store::{Trouble, TroubledStore};
use countersign::core::auth::AuthSettings;
use countersign::core::password::{HashingSettings, Password};
use countersign::core::session::EndedBy;
use countersign::core::throttle::Limit;
use countersign::core::user::Email;
use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

const WRONG: &str = "not the password";

async fn wrong(visitor: &Client, username: &str) -> Answer {
    visitor.clone().login(username, WRONG).await
}

/// That so many wrong passwords are looked at, and the next one is not.
async fn looks_at(visitor: &Client, username: &str, times: usize) {
    for _ in 0..times {
        let answer = wrong(visitor, username).await;
        answer.refused(401, "invalid_credentials");
    }
    wrong(visitor, username).await.refused(429, "throttled");
}

/// A production service behind a proxy, and a client that comes through it.
async fn behind_a_proxy() -> (Service, Client) {
    let service = Setup::behind_a_proxy().start().await;
    service.make_user("ana").await;
    let mut client = service.visitor();
    client.peer = "10.0.0.1:40000".parse().unwrap();
    (service, client)
}

/// A wrong password, forwarded with these headers.
async fn forwarded(client: &Client, forwarded_for: &[&str]) -> Answer {
    let body = json!({"username": "ana", "password": WRONG});
    let mut call = client.post("/users/login").json(&body);
    call = call.header("x-forwarded-proto", "https");
    for value in forwarded_for {
        call = call.add_header("x-forwarded-for", value.as_bytes());
    }
    call.send().await
}

#[tokio::test]
async fn after_five_wrong_passwords_also_the_right_one_waits() {
    let (service, mut visitor, _) = service_with_ana().await;
    for _ in 0..5 {
        let answer = wrong(&visitor, "ana").await;
        let answer = answer.refused(401, "invalid_credentials");
        assert_eq!(answer.header("retry-after"), "");
    }
    let answer = wrong(&visitor, "ana").await.refused(429, "throttled");
    assert_eq!(answer.header("retry-after"), "30");
    let answer = visitor.login("ana", PASSWORD).await;
    assert_eq!(answer.refused(429, "throttled").header("retry-after"), "30");
    service.later(29);
    let answer = visitor.login("ana", PASSWORD).await;
    assert_eq!(answer.refused(429, "throttled").header("retry-after"), "1");
    service.later(1);
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_wait_grows_and_is_never_longer_than_a_quarter_of_an_hour() {
    let (service, visitor, _) = service_with_ana().await;
    looks_at(&visitor, "ana", 5).await;
    let mut told = Vec::new();
    for _ in 0..10 {
        let answer = wrong(&visitor, "ana").await.refused(429, "throttled");
        let wait = answer.header("retry-after").parse().unwrap();
        service.later(wait);
        let answer = wrong(&visitor, "ana").await;
        answer.refused(401, "invalid_credentials");
        told.push(wait);
    }
    assert_eq!(told[..4], [30, 60, 120, 240]);
    assert!(told.iter().all(|wait| *wait <= 900), "{told:?}");
    assert!(told[6..].iter().all(|wait| *wait >= 450), "{told:?}");
}

#[tokio::test]
async fn whether_an_account_exists_is_told_by_no_count() {
    let (service, visitor, _) = service_with_ana().await;
    let mut answers = Vec::new();
    for name in ["ana", "nobody", "Nobody At All"] {
        let stranger = visitor.elsewhere(answers.len().try_into().unwrap());
        let mut told = Vec::new();
        for _ in 0..8 {
            let mut answer = wrong(&stranger, name).await;
            answer.headers.remove("x-request-id");
            let headers = format!("{:?}", answer.headers);
            told.push((answer.status, headers, answer.bytes));
        }
        assert_eq!(told[4].0, StatusCode::UNAUTHORIZED);
        assert_eq!(told[5].0, StatusCode::TOO_MANY_REQUESTS);
        answers.push(told);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    drop(service);
}

#[tokio::test]
async fn a_name_is_counted_once_however_it_is_spelt() {
    let (_service, visitor, _) = service_with_ana().await;
    for name in ["ana", "Ana", "ANA", "\u{ff41}na", "aNa"] {
        let answer = wrong(&visitor, name).await;
        answer.refused(401, "invalid_credentials");
    }
    for name in ["ana", "anA"] {
        wrong(&visitor, name).await.refused(429, "throttled");
    }
}

/// However many come at once: an attempt is reserved before anything is hashed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_wrong_passwords_at_once_five_are_hashed() {
    let mut setup = Setup::development();
    // Whatever reached the pool beyond these would be 503.
    setup.auth.hashing = HashingSettings {
        threads: 1,
        queue: 5,
        ..HashingSettings::CHEAP
    };
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut attempts = JoinSet::new();
    for _ in 0..200 {
        let visitor = service.visitor();
        attempts.spawn(async move { wrong(&visitor, "ana").await.status.as_u16() });
    }
    let mut statuses = attempts.join_all().await;
    statuses.sort_unstable();
    let (hashed, refused) = statuses.split_at(5);
    assert_eq!(hashed, [401; 5]);
    assert!(refused.iter().all(|status| *status == 429), "{statuses:?}");
}

#[tokio::test]
async fn a_full_counter_is_asked_once_in_a_second() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(store.clone()).start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    looks_at(&visitor, "ana", 5).await;
    // Nothing can be counted now, and nothing has to be.
    store.have(Trouble::ReadOnly);
    for _ in 0..3 {
        let answer = wrong(&visitor, "ana").await.refused(429, "throttled");
        assert_eq!(answer.header("retry-after"), "30");
    }
    let other = visitor.elsewhere(1);
    let answer = wrong(&other, "ana").await;
    answer.refused(503, "storage_unavailable");
    service.later(1);
    let answer = wrong(&visitor, "ana").await;
    answer.refused(503, "storage_unavailable");
    store.recover();
    let answer = wrong(&visitor, "ana").await.refused(429, "throttled");
    assert_eq!(answer.header("retry-after"), "29");
}

#[tokio::test]
async fn who_was_told_to_wait_for_a_sign_in_that_has_succeeded_waits_no_longer() {
    let mut setup = Setup::development();
    setup.auth.throttle.login_account_from_address =
        Limit::growing(1, Duration::from_secs(30), Duration::from_mins(15));
    // A hash that takes long enough for the other to come meanwhile.
    setup.auth.hashing = AuthSettings::default().hashing;
    let service = setup.start().await;
    service.make_user("ana").await;
    let (mut one, mut other) = (service.visitor(), service.visitor());
    let (first, second) = tokio::join!(one.login("ana", PASSWORD), other.login("ana", PASSWORD));
    first.expect(StatusCode::OK);
    second.refused(429, "throttled");
    other.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn one_stranger_keeps_nobody_else_from_the_account() {
    let (service, visitor, _) = service_with_ana().await;
    let stranger = visitor.elsewhere(1);
    // For a day, as often as the stranger is let.
    for _ in 0..96 {
        while wrong(&stranger, "ana").await.code() == "invalid_credentials" {}
        service.later(15 * 60);
    }
    visitor
        .clone()
        .login("ana", PASSWORD)
        .await
        .expect(StatusCode::OK);
}

/// Many strangers from many networks exhaust the account for all but those who were there before.
#[tokio::test]
async fn however_many_strangers_try_the_owner_signs_in_on_a_known_device() {
    let (service, visitor, ana) = service_with_ana().await;
    for network in 0..40 {
        let stranger = visitor.elsewhere(network);
        for _ in 0..5 {
            wrong(&stranger, "ana").await;
        }
    }
    let answer = visitor.elsewhere(99).login("ana", PASSWORD).await;
    answer.refused(429, "throttled");
    // Also in a network that the strangers have used up.
    for network in [99, 1] {
        let mut owner = ana.elsewhere(network);
        owner.login("ana", PASSWORD).await.expect(StatusCode::OK);
        // And the device is known still.
        owner.logout().await.expect(StatusCode::NO_CONTENT);
        owner.login("ana", PASSWORD).await.expect(StatusCode::OK);
    }
    drop(service);
}

#[tokio::test]
async fn a_known_device_has_few_guesses_too() {
    let (service, _, ana) = service_with_ana().await;
    let thief = ana.elsewhere(7);
    looks_at(&thief, "ana", 5).await;
    // Another network is not another device.
    let answer = ana.elsewhere(8).login("ana", PASSWORD).await;
    assert_eq!(answer.refused(429, "throttled").header("retry-after"), "30");
    service.later(30);
    let answer = ana.elsewhere(8).login("ana", PASSWORD).await;
    answer.expect(StatusCode::OK);
}

/// Whoever knew the password once may have made any number of devices known.
#[tokio::test]
async fn all_known_devices_of_a_user_together_are_worth_what_the_account_is() {
    let (service, visitor, ana) = service_with_ana().await;
    let mut devices = Vec::new();
    for network in 0..8 {
        let mut device = visitor.elsewhere(network);
        device.login("ana", PASSWORD).await.expect(StatusCode::OK);
        devices.push(device);
    }
    let mut looked_at = 0;
    for device in &devices {
        for _ in 0..5 {
            let status = wrong(device, "ana").await.status;
            looked_at += u32::from(status == StatusCode::UNAUTHORIZED);
        }
    }
    assert_eq!(looked_at, 20);
    service.later(30);
    let answer = ana.elsewhere(99).login("ana", PASSWORD).await;
    answer.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_device_is_known_for_its_own_user_and_for_nobody_else() {
    let (service, visitor, ana) = service_with_ana().await;
    service.make_user("bob").await;
    let bob = service.signed_in("bob").await;
    looks_at(&visitor, "ana", 5).await;
    let device = |client: &Client| {
        let mut cookies = client.cookies.iter();
        let found = cookies.find(|(name, _)| name == "knowndevice");
        found.unwrap().1.clone()
    };
    let (anas, bobs) = (device(&ana), device(&bob));
    let forged = format!("{}A", &anas[..anas.len() - 1]);
    let with = async |cookie: String| {
        let body = json!({"username": "ana", "password": PASSWORD});
        let call = visitor.post("/users/login").header("cookie", &cookie);
        call.json(&body).send().await
    };
    for other in [
        format!("knowndevice={bobs}"),
        format!("knowndevice={forged}X"),
        "knowndevice=".to_owned(),
        format!("KnownDevice={anas}"),
        format!("__Host-Http-knowndevice={anas}"),
        // Two of them: one was planted.
        format!("knowndevice={anas}; knowndevice={bobs}"),
    ] {
        with(other).await.refused(429, "throttled");
    }
    let answer = with(format!("knowndevice={anas}")).await;
    answer.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_device_is_forgotten_after_half_a_year_and_never_known_if_it_shall_not_be_remembered() {
    let (service, visitor, ana) = service_with_ana().await;
    service.later(180 * 24 * 3_600);
    looks_at(&visitor, "ana", 5).await;
    let answer = ana.clone().login("ana", PASSWORD).await;
    answer.refused(429, "throttled");
    let body = json!({"username": "ana", "password": PASSWORD, "remember": false});
    let elsewhere = visitor.elsewhere(1);
    let answer = elsewhere.post("/users/login").json(&body).send().await;
    let answer = answer.expect(StatusCode::OK);
    assert!(
        answer
            .set_cookies()
            .iter()
            .all(|cookie| !cookie.contains("knowndevice"))
    );
}

#[tokio::test]
async fn one_address_that_tries_many_accounts_waits_after_twenty() {
    let (service, visitor, _) = service_with_ana().await;
    for number in 0..20 {
        let answer = wrong(&visitor, &format!("user{number}")).await;
        answer.refused(401, "invalid_credentials");
    }
    for number in 20..500 {
        let answer = wrong(&visitor, &format!("user{number}")).await;
        assert_eq!(answer.refused(429, "throttled").header("retry-after"), "30");
    }
    // Whoever comes from elsewhere does not notice.
    let elsewhere = visitor.elsewhere(1);
    let answer = wrong(&elsewhere, "user500").await;
    answer.refused(401, "invalid_credentials");
    drop(service);
}

#[tokio::test]
async fn ones_own_success_gives_nobody_new_guesses() {
    let (service, visitor, _) = service_with_ana().await;
    service.make_user("mallory").await;
    for _ in 0..4 {
        let answer = wrong(&visitor, "ana").await;
        answer.refused(401, "invalid_credentials");
        let answer = visitor.clone().login("mallory", PASSWORD).await;
        answer.expect(StatusCode::OK);
    }
    looks_at(&visitor, "ana", 1).await;
    // Nor does it give back the address's: five are used up, and fifteen are left.
    for number in 0..15 {
        let answer = visitor.clone().login("mallory", PASSWORD).await;
        answer.expect(StatusCode::OK);
        let answer = wrong(&visitor, &format!("user{number}")).await;
        answer.refused(401, "invalid_credentials");
    }
    let answer = visitor.clone().login("mallory", PASSWORD).await;
    answer.refused(429, "throttled");
}

#[tokio::test]
async fn signing_in_all_day_is_no_attempt_too_many() {
    let (service, visitor, _) = service_with_ana().await;
    for _ in 0..100 {
        let mut ana = visitor.clone();
        ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
        ana.logout().await.expect(StatusCode::NO_CONTENT);
    }
    looks_at(&visitor, "ana", 5).await;
    drop(service);
}

#[tokio::test]
async fn forwarded_addresses_are_nothing_where_no_proxy_is_trusted() {
    let (_service, visitor, _) = service_with_ana().await;
    for number in 0..5 {
        let answer = forwarded(&visitor, &[&format!("9.9.9.{number}")]).await;
        answer.refused(401, "invalid_credentials");
    }
    let answer = forwarded(&visitor, &["9.9.9.9"]).await;
    answer.refused(429, "throttled");
}

#[tokio::test]
async fn what_a_client_writes_left_of_its_address_makes_it_nobody_else() {
    let (_service, client) = behind_a_proxy().await;
    for number in 0..5 {
        let answer = forwarded(&client, &[&format!("1.2.3.{number}, 9.9.9.9")]).await;
        answer.refused(401, "invalid_credentials");
    }
    for spoofed in [&["1.2.3.9, 9.9.9.9"][..], &["1.2.3.9", "9.9.9.9"]] {
        forwarded(&client, spoofed).await.refused(429, "throttled");
    }
    let answer = forwarded(&client, &["9.9.9.9, 9.9.9.8"]).await;
    answer.refused(401, "invalid_credentials");
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_as_the_proxy_itself() {
    let (_service, client) = behind_a_proxy().await;
    let many = vec!["unknown"; 1_000].join(", ");
    for odd in ["unknown", "", "999.1.1.1", "[2001:db8::1", &many] {
        let answer = forwarded(&client, &[odd]).await;
        answer.refused(401, "invalid_credentials");
    }
    let answer = forwarded(&client, &["_hidden"]).await;
    answer.refused(429, "throttled");
}

#[tokio::test]
async fn a_network_is_one_client_and_an_address_has_one_form() {
    let (_service, client) = behind_a_proxy().await;
    for last in 1..=5 {
        let answer = forwarded(&client, &[&format!("2001:db8::{last}:{last}")]).await;
        answer.refused(401, "invalid_credentials");
    }
    let answer = forwarded(&client, &["2001:db8::ffff:1"]).await;
    answer.refused(429, "throttled");
    let answer = forwarded(&client, &["2001:db8:0:1::1"]).await;
    answer.refused(401, "invalid_credentials");
    for form in [
        "1.2.3.4",
        "::ffff:1.2.3.4",
        "1.2.3.4:80",
        "::ffff:102:304",
        "1.2.3.4",
    ] {
        let answer = forwarded(&client, &[form]).await;
        answer.refused(401, "invalid_credentials");
    }
    for form in ["1.2.3.4", "[::ffff:1.2.3.4]:80"] {
        forwarded(&client, &[form]).await.refused(429, "throttled");
    }
}

async fn change_password(client: &Client, current: &str, new: &str) -> Answer {
    let body = json!({"current_password": current, "new_password": new});
    let call = client.post("/users/password").with_token().with_csrf();
    call.json(&body).send().await
}

#[tokio::test]
async fn a_current_password_is_guessed_no_more_often_than_at_the_door() {
    const NEW: &str = "a quiet river under old stars";
    let (service, visitor, ana) = service_with_ana().await;
    for _ in 0..5 {
        let answer = change_password(&ana, WRONG, NEW).await;
        answer.refused(401, "invalid_credentials");
    }
    let answer = change_password(&ana, PASSWORD, NEW).await;
    assert_eq!(answer.refused(429, "throttled").header("retry-after"), "30");
    service.later(30);
    let answer = change_password(&ana, PASSWORD, NEW).await;
    answer.expect(StatusCode::NO_CONTENT);
    // It did not count at the door, nor does the door count here.
    looks_at(&visitor, "ana", 5).await;
    let answer = change_password(&ana, NEW, PASSWORD).await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_the_policy_refuses_is_no_guess() {
    let (_service, _, ana) = service_with_ana().await;
    for _ in 0..20 {
        let answer = change_password(&ana, WRONG, "short").await;
        answer.refused(400, "validation_failed");
    }
    let new = "a quiet river under old stars";
    let answer = change_password(&ana, PASSWORD, new).await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attempt_that_finds_the_queue_full_is_none() {
    let mut setup = Setup::development();
    setup.auth.hashing = AuthSettings::default().hashing;
    (setup.auth.hashing.threads, setup.auth.hashing.queue) = (1, 1);
    setup.auth.throttle.login_account = Limit::steady(10, Duration::from_secs(30));
    let service = setup.start().await;
    let mut attempts = JoinSet::new();
    for number in 0..30 {
        let visitor = service.visitor().elsewhere(number);
        attempts.spawn(async move { wrong(&visitor, "ana").await.status.as_u16() });
    }
    let mut statuses = attempts.join_all().await;
    assert!(statuses.contains(&503), "{statuses:?}");
    for number in 30..100 {
        let visitor = service.visitor().elsewhere(number);
        statuses.push(wrong(&visitor, "ana").await.status.as_u16());
        if statuses.ends_with(&[429]) {
            break;
        }
    }
    let hashed = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!(hashed, 10, "{statuses:?}");
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_attempted() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(store.clone()).start().await;
    service.make_user("ana").await;
    let mut ana = service.visitor();
    store.have(Trouble::ReadOnly);
    let answer = ana.login("ana", PASSWORD).await;
    answer.refused(503, "storage_unavailable");
    store.recover();
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_right_password_that_the_store_failed_is_no_guess() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(store.clone()).start().await;
    service.make_user("ana").await;
    let mut ana = service.visitor();
    store.have(Trouble::OpensNothing);
    for _ in 0..6 {
        let answer = ana.login("ana", PASSWORD).await;
        answer.refused(503, "storage_unavailable");
    }
    // A wrong one is, all the same.
    looks_at(&ana, "ana", 5).await;
    store.recover();
    service.later(30);
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_page_that_has_run_away_waits_and_stays_signed_in() {
    let (service, _, mut ana) = service_with_ana().await;
    let other = service.signed_in("ana").await;
    for _ in 0..300 {
        ana.refresh().await.expect(StatusCode::OK);
    }
    let answer = ana.refresh().await.refused(429, "throttled");
    assert_eq!(answer.header("retry-after"), "1");
    // Other sessions of the same user, from the same address, do not notice.
    other.clone().refresh().await.expect(StatusCode::OK);
    service.later(1);
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn whoever_shows_bad_tokens_waits_and_those_beside_them_do_not() {
    let (service, visitor, mut ana) = service_with_ana().await;
    for number in 0..300 {
        let (path, cookie) = ("/users/refresh_token", "refreshtoken=junk");
        let call = match number % 2 {
            0 => visitor.post(path).header("cookie", cookie),
            _ => visitor.get("/users/user").bearer("junk"),
        };
        call.send().await.expect(StatusCode::UNAUTHORIZED);
    }
    let junk = visitor.get("/users/user").bearer("junk").send().await;
    assert_eq!(junk.refused(429, "throttled").header("retry-after"), "1");
    let junk = visitor.delete("/users/sessions/1").bearer("junk").send();
    junk.await.refused(429, "throttled");
    // At the same address, with good ones.
    ana.user().await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
    // From elsewhere the same is what it is.
    let elsewhere = visitor.elsewhere(1);
    let junk = elsewhere.get("/users/user").bearer("junk").send().await;
    junk.refused(401, "token_malformed");
    drop(service);
}

#[tokio::test]
async fn an_expired_token_is_no_guess() {
    let (service, _, ana) = service_with_ana().await;
    service.later(600);
    for _ in 0..400 {
        ana.user().await.refused(401, "token_expired");
    }
}

#[tokio::test]
async fn questions_that_need_no_proof_are_counted_by_address() {
    let (service, visitor, _) = service_with_ana().await;
    for (path, times) in [("/users/csrf", 300), ("/.well-known/revocations", 600)] {
        for _ in 0..times {
            visitor.get(path).send().await.expect(StatusCode::OK);
        }
        let answer = visitor.get(path).send().await;
        assert_eq!(answer.refused(429, "throttled").header("retry-after"), "1");
        let elsewhere = visitor.elsewhere(1);
        elsewhere.get(path).send().await.expect(StatusCode::OK);
        service.later(1);
        visitor.get(path).send().await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn resource_servers_with_the_feeds_token_are_not_counted() {
    let mut setup = Setup::development();
    let token = countersign::FeedToken::new("for-resource-servers-only");
    setup.http.revocations_token = Some(token);
    let service = setup.start().await;
    let visitor = service.visitor();
    let ask = async |token| {
        let call = visitor.get("/.well-known/revocations").bearer(token);
        call.send().await
    };
    for _ in 0..700 {
        let answer = ask("for-resource-servers-only").await;
        answer.expect(StatusCode::OK);
    }
    for _ in 0..600 {
        ask("a guess").await.refused(401, "credentials_missing");
    }
    ask("a guess").await.refused(429, "throttled");
}

#[tokio::test]
async fn counters_are_kept_as_long_as_they_count() {
    let (service, visitor, _) = service_with_ana().await;
    wrong(&visitor, "ana").await;
    let removed = async || service.auth.do_upkeep().await.unwrap().throttles_removed;
    assert_eq!(removed().await, 0);
    service.later(60);
    // The address's, after half a minute.
    assert_eq!(removed().await, 1);
    service.later(15 * 60);
    // The account's, the account's from there, and that of all names of its user.
    assert_eq!(removed().await, 3);
}

#[tokio::test]
async fn limits_are_settings() {
    let mut setup = Setup::development();
    setup.auth.throttle.login_account_from_address =
        Limit::growing(2, Duration::from_secs(7), Duration::from_mins(1));
    let service = setup.start().await;
    let visitor = service.visitor();
    looks_at(&visitor, "ana", 2).await;
    let answer = wrong(&visitor, "ana").await;
    assert_eq!(answer.header("retry-after"), "7");
    let service = Setup::development().unthrottled().start().await;
    let visitor = service.visitor();
    for _ in 0..50 {
        let answer = wrong(&visitor, "ana").await;
        answer.refused(401, "invalid_credentials");
    }
}

/// Whoever takes turns with the two names of a user guesses no more often in all, and is not told that they
/// are one user's.
#[tokio::test]
async fn two_names_of_one_user_are_guessed_at_no_more_often_than_one() {
    let service = Setup::development().with_mail().start().await;
    service.make_user("ana").await;
    service.make_user("bob").await;
    let visitor = service.visitor();
    prove_anas_address(&service, &visitor).await;
    // Ten by each name, from four networks; and as many at an address that nobody has proven.
    for (first, second) in [("ana", "ana@example.org"), ("bob", "bob@example.org")] {
        for attempt in 0..10 {
            for name in [first, second] {
                let mut stranger = visitor.elsewhere(attempt / 5);
                let answer = stranger.login(name, "wrong").await;
                answer.refused(401, "invalid_credentials");
            }
        }
    }
    // One more of each is not told to wait, but is not looked at either: also the right one is wrong.
    for name in ["ana", "ana@example.org", "bob@example.org"] {
        let mut stranger = visitor.elsewhere(7);
        let answer = stranger.login(name, PASSWORD).await;
        answer.refused(401, "invalid_credentials");
    }
    // Bob's name has been guessed at ten times only.
    let mut bob = visitor.elsewhere(7);
    bob.login("bob", PASSWORD).await.expect(StatusCode::OK);
    // It passes, as every wait does.
    service.later(900);
    let mut ana = visitor.elsewhere(8);
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

/// Somebody has guessed at Ana's account by both names from everywhere, and she herself has tried, on her own
/// device and on a new one, what her password might be.
async fn guessed_at_by_everybody(service: &Service, device: &Client) -> Client {
    let home = service.visitor();
    for visitor in [device, &home] {
        looks_at(visitor, "ana", 5).await;
    }
    for attempt in 0..40 {
        for name in ["ana", "ana@example.org"] {
            wrong(&home.elsewhere(attempt / 4), name).await;
        }
    }
    // No other device and no other place helps.
    let mut new = service.visitor().elsewhere(99);
    let answer = new.login("ana@example.org", PASSWORD).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    home
}

async fn prove_anas_address(service: &Service, visitor: &Client) {
    let call = visitor.post("/users/email/verify/resend");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    let token = service.mailed_token().await;
    let call = visitor.post("/users/email/verify");
    let answer = call.json(&json!({"token": token})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
}

async fn service_with_ana_who_gets_mail() -> (Service, Client) {
    let service = Setup::development().with_mail().start().await;
    service.make_user("ana").await;
    let device = service.signed_in("ana").await;
    prove_anas_address(&service, &device).await;
    (service, device)
}

#[tokio::test]
async fn whoever_sets_a_new_password_by_mail_does_not_wait_for_guesses_at_the_old_one() {
    const NEW: &str = "a quiet river under old stars";
    let (service, mut device) = service_with_ana_who_gets_mail().await;
    let home = guessed_at_by_everybody(&service, &device).await;
    service.letters().await;
    let call = device.post("/users/password/reset");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::ACCEPTED);
    let token = service.mailed_token().await;
    let body = json!({"token": token, "new_password": NEW});
    let call = device.post("/users/password/reset/confirm").with_cookies();
    let answer = call.json(&body).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    for name in ["ana", "ana@example.org"] {
        for visitor in [&home, &service.visitor().elsewhere(99)] {
            let answer = visitor.clone().login(name, NEW).await;
            answer.expect(StatusCode::OK);
        }
        device.login(name, NEW).await.expect(StatusCode::OK);
    }
    // Guesses at the new one are counted as ever.
    looks_at(&home, "ana", 5).await;
}

#[tokio::test]
async fn whoever_has_been_given_a_new_password_waits_for_no_guesses_at_the_old_one() {
    const NEW: &str = "set at the command line";
    let (service, device) = service_with_ana_who_gets_mail().await;
    guessed_at_by_everybody(&service, &device).await;
    let ana = service.auth.find_user("ana").await.unwrap();
    let new = Password::new(NEW.to_owned()).unwrap();
    let by = EndedBy::CommandLine;
    service.auth.set_password(&ana, new, by).await.unwrap();
    for name in ["ana", "ana@example.org"] {
        let mut somewhere = service.visitor().elsewhere(99);
        somewhere.login(name, NEW).await.expect(StatusCode::OK);
    }
}

/// Bob says that Ana's address is his, and has not proven it: a new password of his opens nothing of hers.
#[tokio::test]
async fn a_new_password_forgets_no_guesses_at_an_address_that_its_user_has_not_proven() {
    let (service, _) = service_with_ana_who_gets_mail().await;
    service.make_user("bob").await;
    let by = EndedBy::CommandLine;
    let bob = service.auth.find_user("bob").await.unwrap();
    let anas = Email::parse("ana@example.org").unwrap();
    let bob = service.auth.set_email(&bob, anas, by).await.unwrap();
    let stranger = service.visitor();
    for attempt in 0..20 {
        wrong(&stranger.elsewhere(attempt / 5), "ana@example.org").await;
    }
    let new = Password::new("set at the command line".to_owned()).unwrap();
    service.auth.set_password(&bob, new, by).await.unwrap();
    let answer = wrong(&stranger.elsewhere(99), "ana@example.org").await;
    answer.refused(429, "throttled");
}
