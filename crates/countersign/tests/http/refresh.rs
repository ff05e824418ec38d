//! `POST /users/refresh_token`: rotation, the grace, reuse, limits and races.

use std::sync::Arc;

use crate::harness::{PASSWORD, Setup, service_with_ana};
use crate::troubled_store::TroubledStore;
use countersign::core::session::EndReason;
use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

const DAY: i64 = 24 * 3_600;

#[tokio::test]
async fn a_refresh_answers_with_new_tokens_and_two_cookies() {
    let (_service, _, mut ana) = service_with_ana().await;
    let before = ana.clone();
    let answer = ana.refresh().await.expect(StatusCode::OK);
    insta::assert_json_snapshot!(answer.shape());
    assert_eq!(answer.header("cache-control"), "no-store");
    let [refresh, csrf] = answer.set_cookies()[..] else {
        panic!("not two cookies")
    };
    assert!(refresh.starts_with("refreshtoken=ey"), "{refresh}");
    assert!(refresh.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=604800"));
    let token = answer.json["csrf_token"].as_str().unwrap();
    assert_eq!(
        csrf,
        format!("csrftoken={token}; SameSite=Lax; Path=/; Max-Age=604800")
    );
    assert_ne!(before.refresh_token(), ana.refresh_token());
    assert_ne!(before.access_token, ana.access_token);
    assert_eq!(before.csrf_token, ana.csrf_token, "a session has one");
    assert_eq!(before.session_id(), ana.session_id());
}

#[tokio::test]
async fn the_refresh_token_is_never_in_a_body_and_the_access_token_never_in_a_cookie() {
    let (_service, mut visitor, _) = service_with_ana().await;
    let login = visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    let refresh_tokens = [visitor.refresh_token().unwrap().to_owned()];
    let refresh = visitor.refresh().await.expect(StatusCode::OK);
    let refresh_tokens = refresh_tokens
        .into_iter()
        .chain([visitor.refresh_token().unwrap().to_owned()]);
    let refresh_tokens: Vec<_> = refresh_tokens.collect();
    for answer in [&login, &refresh] {
        let body = String::from_utf8_lossy(&answer.bytes);
        assert!(!refresh_tokens.iter().any(|token| body.contains(token)));
        let access_token = answer.json["access_token"].as_str().unwrap();
        for (name, value) in &answer.headers {
            assert!(!value.to_str().unwrap().contains(access_token), "{name}");
        }
    }
}

#[tokio::test]
async fn each_refresh_gives_another_token_and_the_last_one_works() {
    let (service, _, mut ana) = service_with_ana().await;
    let mut tokens = vec![ana.refresh_token().unwrap().to_owned()];
    for generation in 1..=3 {
        service.later(300);
        ana.refresh().await.expect(StatusCode::OK);
        ana.user().await.expect(StatusCode::OK);
        assert_eq!(service.session_of(&ana).await.generation.0, generation);
        tokens.push(ana.refresh_token().unwrap().to_owned());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
}

#[tokio::test]
async fn without_the_cookie_there_is_nothing_to_refresh() {
    let (_service, visitor, ana) = service_with_ana().await;
    let answer = visitor.post("/users/refresh_token").send().await;
    answer.refused(401, "refresh_missing");
    // The access token is another thing, and so is the cookie in development's name elsewhere.
    let answer = ana
        .post("/users/refresh_token")
        .with_token()
        .with_csrf()
        .send()
        .await;
    answer.refused(401, "refresh_missing");
    let empty = ana
        .post("/users/refresh_token")
        .with_csrf()
        .header("cookie", "refreshtoken=");
    empty.send().await.refused(401, "refresh_invalid");
}

#[tokio::test]
async fn an_altered_token_is_refused_and_its_session_untouched() {
    let (service, _, mut ana) = service_with_ana().await;
    let token = ana.refresh_token().unwrap().to_owned();
    let flipped = |at: usize| {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let altered = (0..token.len()).map(flipped);
    let cut = (0..token.len()).map(|length| token[..length].to_owned());
    let longer = ["=", ".", "A", " A", "\u{2009}"].map(|end| format!("{token}{end}"));
    for (altered, number) in altered.chain(cut).chain(longer).zip(0..) {
        let thief = ana.elsewhere(number);
        let call = thief.post("/users/refresh_token").with_csrf();
        let answer = call.header("cookie", &format!("refreshtoken={altered}"));
        answer.send().await.refused(401, "refresh_invalid");
    }
    assert_eq!(service.session_of(&ana).await.generation.0, 0);
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_refresh_shows_the_csrf_token_of_its_own_session() {
    let (service, _, mut ana) = service_with_ana().await;
    let call = ana.post("/users/refresh_token").with_cookies();
    call.send().await.refused(403, "csrf_missing");
    let other = service.signed_in("ana").await;
    let call = ana.post("/users/refresh_token").with_cookies();
    let answer = call.header("x-csrftoken", other.csrf_token.as_deref().unwrap());
    answer.send().await.refused(403, "csrf_invalid");
    assert_eq!(service.session_of(&ana).await.generation.0, 0);
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn within_the_grace_the_previous_token_is_answered_with_the_same_successor() {
    let (service, _, ana) = service_with_ana().await;
    let (mut first, mut second) = (ana.clone(), ana);
    first.refresh().await.expect(StatusCode::OK);
    service.later(30);
    second.refresh().await.expect(StatusCode::OK);
    assert_eq!(first.refresh_token(), second.refresh_token());
    assert_eq!(service.session_of(&first).await.generation.0, 1);
    // And the two go on from there as one.
    first.refresh().await.expect(StatusCode::OK);
    second.refresh().await.expect(StatusCode::OK);
    assert_eq!(first.refresh_token(), second.refresh_token());
}

#[tokio::test]
async fn a_thousand_replays_within_the_grace_fork_nothing() {
    let service = Setup::development().unthrottled().start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let mut winner = ana.clone();
    winner.refresh().await.expect(StatusCode::OK);
    for _ in 0..1_000 {
        let mut replayed = ana.clone();
        replayed.refresh().await.expect(StatusCode::OK);
        assert_eq!(replayed.refresh_token(), winner.refresh_token());
    }
    assert_eq!(service.session_of(&winner).await.generation.0, 1);
}

#[tokio::test]
async fn reuse_after_the_grace_ends_the_session_and_its_access_tokens() {
    let (service, _, mut ana) = service_with_ana().await;
    let elsewhere = service.signed_in("ana").await;
    let mut thief = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    service.later(31);
    thief.refresh().await.refused(401, "refresh_reused");
    for mut holder in [ana, thief] {
        let ended = holder.user().await.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], "reuse_detected");
        let ended = holder.refresh().await.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], "reuse_detected");
    }
    elsewhere.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn when_the_thief_was_first_both_are_out() {
    let (service, _, mut ana) = service_with_ana().await;
    let mut thief = ana.clone();
    thief.refresh().await.expect(StatusCode::OK);
    service.later(200);
    ana.refresh().await.refused(401, "refresh_reused");
    thief.user().await.refused(401, "session_ended");
    thief.refresh().await.refused(401, "session_ended");
}

#[tokio::test]
async fn the_grace_closes_when_the_successor_is_used() {
    let (service, _, ana) = service_with_ana().await;
    let (mut client, mut retry) = (ana.clone(), ana);
    client.refresh().await.expect(StatusCode::OK);
    client.refresh().await.expect(StatusCode::OK);
    retry.refresh().await.refused(401, "refresh_reused");
    client.user().await.refused(401, "session_ended");
    assert_eq!(
        service.session_of(&client).await.end.unwrap().reason,
        EndReason::ReuseDetected
    );
}

#[tokio::test]
async fn a_grandparent_is_reuse_even_within_the_grace() {
    let (_service, _, ana) = service_with_ana().await;
    let (mut client, mut grandparent) = (ana.clone(), ana);
    for _ in 0..3 {
        client.refresh().await.expect(StatusCode::OK);
    }
    grandparent.refresh().await.refused(401, "refresh_reused");
    client.refresh().await.refused(401, "session_ended");
}

#[tokio::test]
async fn a_clock_that_goes_back_reopens_nothing() {
    let (service, _, mut ana) = service_with_ana().await;
    let old = ana.clone();
    service.later(3_600);
    ana.refresh().await.expect(StatusCode::OK);
    service.later(-3_600);
    // The current token goes on, whatever the clock says.
    let mut current = ana.clone();
    current.refresh().await.expect(StatusCode::OK);
    current.user().await.expect(StatusCode::OK);
    old.clone().refresh().await.refused(401, "refresh_reused");
    current.refresh().await.refused(401, "session_ended");
}

#[tokio::test]
async fn a_superseded_token_stays_superseded_when_the_clock_goes_back() {
    let (service, _, mut ana) = service_with_ana().await;
    let mut thief = ana.clone();
    service.later(7_200);
    ana.refresh().await.expect(StatusCode::OK);
    service.later(-3_600);
    thief.refresh().await.refused(401, "refresh_reused");
}

#[tokio::test]
async fn a_session_left_alone_for_a_week_has_expired() {
    let (service, _, ana) = service_with_ana().await;
    service.later(7 * DAY - 1);
    let mut in_time = ana.clone();
    in_time.refresh().await.expect(StatusCode::OK);
    service.later(7 * DAY);
    in_time.refresh().await.refused(401, "refresh_expired");
    in_time.user().await.refused(401, "token_expired");
}

#[tokio::test]
async fn a_session_used_daily_ends_after_thirty_days_and_its_cookies_know() {
    let (service, _, mut ana) = service_with_ana().await;
    let mut ages = Vec::new();
    for _ in 1..30 {
        service.later(DAY);
        let answer = ana.refresh().await.expect(StatusCode::OK);
        ages.extend(answer.set_cookies().iter().map(|cookie| max_age(cookie)));
    }
    // A week ahead, until the thirtieth day is nearer.
    let expected = (1..30).flat_map(|day| [(30 - day).min(7) * DAY; 2]);
    assert_eq!(ages, expected.collect::<Vec<_>>());

    service.later(DAY - 60);
    let answer = ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(max_age(answer.set_cookies()[0]), 60);
    assert_eq!(answer.json["expires_in"], 60, "no token outlives it either");
    service.later(59);
    ana.user().await.expect(StatusCode::OK);
    service.later(1);
    ana.user().await.refused(401, "token_expired");
    ana.refresh().await.refused(401, "refresh_expired");
}

fn max_age(cookie: &str) -> i64 {
    let (_, age) = cookie
        .rsplit_once("Max-Age=")
        .expect("a cookie with an age");
    age.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_refreshes_with_one_token_converge_on_one_successor() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    // All have read the session before any has rotated it: all but one must lose and look again.
    store.gather_before_rotating(64);
    let mut racers = JoinSet::new();
    for _ in 0..64 {
        let mut racer = ana.clone();
        racers.spawn(async move {
            racer.refresh().await.expect(StatusCode::OK);
            racer
        });
    }
    let racers = racers.join_all().await;
    assert_eq!(store.rotations(), 1);
    let successor = racers[0].refresh_token().unwrap().to_owned();
    assert_ne!(ana.refresh_token(), Some(&*successor));
    for racer in &racers {
        assert_eq!(racer.refresh_token(), Some(&*successor));
        racer.user().await.expect(StatusCode::OK);
    }
    assert_eq!(service.session_of(&ana).await.generation.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refresh_that_a_logout_overtakes_signs_nobody_in_again() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let barrier = store.gather_before_rotating(2);
    let mut refreshing = ana.clone();
    let refresh = tokio::spawn(async move { refreshing.refresh().await });
    // The refresh has found the session alive and is about to rotate.
    barrier.wait().await;
    let mut leaving = ana.clone();
    leaving.logout().await.expect(StatusCode::NO_CONTENT);
    barrier.wait().await;
    let ended = refresh.await.unwrap().refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
    assert_eq!(store.rotations(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_login_that_races_a_deactivation_no_token_works() {
    let service = Arc::new(Setup::development().start().await);
    for round in 0..100 {
        let name = format!("ana{round}");
        service.make_user(&name).await;
        let mut arriving = service.visitor().elsewhere(round);
        let (typed, operator) = (name.clone(), Arc::clone(&service));
        let login = tokio::spawn(async move {
            let answer = arriving.login(&typed, PASSWORD).await;
            (answer, arriving)
        });
        let deactivation = tokio::spawn(async move { operator.deactivate(&name).await });
        deactivation.await.unwrap();
        let (answer, mut arriving) = login.await.unwrap();
        if answer.status == StatusCode::OK {
            arriving.user().await.refused(401, "session_ended");
            arriving.refresh().await.refused(401, "session_ended");
        } else {
            answer.refused(403, "user_inactive");
        }
    }
}

#[tokio::test]
async fn every_end_of_a_session_is_told_with_its_reason() {
    use countersign::core::password::Password;
    use countersign::core::session::EndedBy;
    let mut setup = Setup::development();
    setup.auth.max_sessions_per_user = std::num::NonZeroU32::new(2);
    let service = setup.start().await;
    let by = EndedBy::CommandLine;
    for reason in EndReason::ALL {
        let name = format!("user-{reason}").replace('_', "-");
        let user = service.make_user(&name).await;
        let mut holder = service.signed_in(&name).await;
        let auth = &service.auth;
        match reason {
            EndReason::Logout => {
                holder.clone().logout().await.expect(StatusCode::NO_CONTENT);
            }
            // Told as `refresh_expired` and `token_expired`, by the tokens' own dates.
            EndReason::Expired => continue,
            EndReason::ReuseDetected => {
                let mut client = holder.clone();
                client.refresh().await.expect(StatusCode::OK);
                client.refresh().await.expect(StatusCode::OK);
                let mut thief = holder.clone();
                thief.refresh().await.refused(401, "refresh_reused");
            }
            EndReason::ReplacedByLogin => {
                let mut same_browser = holder.clone();
                let answer = same_browser.login(&name, PASSWORD).await;
                answer.expect(StatusCode::OK);
            }
            EndReason::RevokedByUser => {
                let elsewhere = service.signed_in(&name).await;
                let path = format!("/users/sessions/{}", holder.session_id());
                let call = elsewhere.delete(&path).with_token().with_csrf();
                call.send().await.expect(StatusCode::NO_CONTENT);
            }
            EndReason::RevokedByAdmin => {
                let id = holder.session_id().parse().unwrap();
                assert!(auth.revoke_session(id, by).await.unwrap());
            }
            EndReason::TooManySessions => {
                // Of sessions used last in the same instant, any may be the one.
                service.later(1);
                drop(service.signed_in(&name).await);
                drop(service.signed_in(&name).await);
            }
            EndReason::PasswordChanged => {
                let new = Password::new("another long passphrase".to_owned()).unwrap();
                auth.set_password(&user, new, by).await.unwrap();
            }
            EndReason::UserDeactivated => service.deactivate(&name).await,
            EndReason::UserDeleted => auth.delete_user(user.id, by).await.unwrap(),
            EndReason::RolesChanged => {
                auth.set_roles(user.id, true, false, by).await.unwrap();
            }
        }
        let of_access = holder.user().await.refused(401, "session_ended");
        let of_refresh = holder.refresh().await.refused(401, "session_ended");
        for answer in [of_access, of_refresh] {
            assert_eq!(answer.json["end_reason"], json!(reason.code()));
        }
    }
}
