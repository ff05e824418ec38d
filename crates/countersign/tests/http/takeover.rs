//! Cut-over from a Django site: its refresh tokens are exchanged for sessions, once.

use std::convert::Infallible;

use crate::harness::{Answer, Client, PASSWORD, Service, Setup};
use aws_lc_rs::hmac;
use countersign::LegacyTransport;
use countersign::core::clock::{Clock as _, SystemRandomness};
use countersign::core::keys::{SharedSecret, SigningAlgorithm};
use countersign::core::refresh_token::{LegacyTokenKind, LegacyTokenSettings};
use countersign::core::secrets::RootSecret;
use countersign::core::session::{EndReason, EndedBy, Session};
use countersign::core::store::SessionQuery;
use countersign::core::user::UserId;
use countersign_token::jws;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const DAY: i64 = 24 * 3_600;

/// What signs the site's refresh tokens.
const SITE_KEY: &str = "k7#q2v!w9x@e4r%t6y^u8i&o0p*a1s(d3f)g5h_j-l=z+c$bn";

/// What the site's pages hold for `csrftoken`, and the same in the form of its templates.
const SITE_CSRF: &str = "jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV";
const SITE_CSRF_MASKED: &str = "wdMp6u4reXBIcaMtu7pM1vc7A1eNsM6FFCfkuq0iPu54bL3v7i4eTMRzdcDuUFxq";

fn taking_over(mut setup: Setup, kind: LegacyTokenKind) -> Setup {
    setup.auth.legacy_tokens = Some(LegacyTokenSettings {
        kind,
        key: SharedSecret::parse(SITE_KEY).unwrap(),
        until: setup.clock.now() + SignedDuration::from_hours(30 * 24),
    });
    setup.http.legacy = Some(LegacyTransport {
        cookie: "refreshtoken".to_owned(),
        in_body: kind == LegacyTokenKind::SimpleJwt,
    });
    setup
}

/// A service in production that takes the recipe's site over, and what the site gave Ana yesterday.
async fn service_with_ana_of_the_site() -> (Service, Client) {
    let setup = taking_over(Setup::production(), LegacyTokenKind::Recipe);
    let service = setup.start().await;
    let ana = service.make_user("ana").await;
    let token = recipe_token(&service, ana.id, |_| {});
    let ana = with_the_sites_cookies(&service, &token);
    (service, ana)
}

fn signed_with(key: &str, header: &str, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let sign = |input: &[u8]| Ok::<_, Infallible>(hmac::sign(&key, input));
    let Ok(token) = jws::sign_with(header, claims.to_string().as_bytes(), sign);
    token
}

fn signed(claims: &Value) -> String {
    signed_with(SITE_KEY, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
}

fn recipe_claims(service: &Service, user: UserId) -> Value {
    let yesterday = service.clock.now().as_second() - DAY;
    json!({"user_id": user.0, "exp": yesterday + 7 * DAY, "iat": yesterday})
}

/// A refresh token as the recipe makes it.
fn recipe_token(service: &Service, user: UserId, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = recipe_claims(service, user);
    change(&mut claims);
    signed(&claims)
}

/// A browser that has signed in at the site.
fn with_the_sites_cookies(service: &Service, token: &str) -> Client {
    let mut client = service.visitor();
    client.cookies = vec![
        ("refreshtoken".to_owned(), token.to_owned()),
        ("csrftoken".to_owned(), SITE_CSRF.to_owned()),
    ];
    client.csrf_token = Some(SITE_CSRF_MASKED.to_owned());
    client
}

fn sites_token(client: &Client) -> &str {
    let mut cookies = client.cookies.iter();
    let found = cookies.find(|(name, _)| name == "refreshtoken");
    &found.expect("the site's cookie is there").1
}

/// The sessions that are recorded.
async fn sessions(service: &Service) -> Vec<Session> {
    let query = SessionQuery {
        user: None,
        live: false,
        after: None,
        limit: 10,
    };
    service.store.list_sessions(&query).await.unwrap()
}

async fn refused(client: &Client, status: u16, code: &str) -> Answer {
    let answer = client.clone().refresh().await;
    answer.refused(status, code)
}

#[tokio::test]
async fn the_sites_refresh_token_is_exchanged_for_a_session() {
    let (service, mut ana) = service_with_ana_of_the_site().await;
    let answer = ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(answer.json["expires_in"], 300);
    let [refresh, csrf, cleared] = answer.set_cookies()[..] else {
        panic!("not three cookies: {:?}", answer.set_cookies())
    };
    assert!(refresh.starts_with("__Host-Http-refreshtoken=ey"));
    assert!(csrf.starts_with("csrftoken="));
    assert_eq!(
        cleared,
        "refreshtoken=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0"
    );
    ana.user().await.expect(StatusCode::OK);
    let session = service.session_of(&ana).await;
    let signed_in_at = service.clock.now() - SignedDuration::from_hours(24);
    assert_eq!(session.opened_at, signed_in_at, "at the site");
    assert_eq!(session.generation.0, 1);

    // And it is a session like any other.
    service.later(60);
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(service.session_of(&ana).await.generation.0, 2);
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    ana.user().await.refused(401, "session_ended");
}

#[tokio::test]
async fn off_it_is_no_credential_at_all() {
    let service = Setup::production().start().await;
    let ana = service.make_user("ana").await;
    let ana = with_the_sites_cookies(&service, &recipe_token(&service, ana.id, |_| {}));
    refused(&ana, 401, "refresh_missing").await;
    let service = Setup::development().start().await;
    let ana = service.make_user("ana").await;
    let ana = with_the_sites_cookies(&service, &recipe_token(&service, ana.id, |_| {}));
    refused(&ana, 401, "refresh_invalid").await;
}

#[tokio::test]
async fn a_take_over_writes_nothing_about_the_user() {
    let (service, mut ana) = service_with_ana_of_the_site().await;
    let before = service.auth.find_user("ana").await.unwrap();
    ana.refresh().await.expect(StatusCode::OK);
    let after = service.auth.find_user("ana").await.unwrap();
    assert_eq!(before, after, "not even a sign-in");
}

#[tokio::test]
async fn in_development_both_cookies_have_one_name_and_either_is_told_from_the_other() {
    let setup = taking_over(Setup::development(), LegacyTokenKind::Recipe);
    let service = setup.start().await;
    let user = service.make_user("ana").await;
    let token = recipe_token(&service, user.id, |_| {});
    let mut ana = with_the_sites_cookies(&service, &token);
    let answer = ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(answer.set_cookies().len(), 2, "nothing is taken away again");
    assert_ne!(ana.refresh_token(), Some(&*token));
    ana.refresh().await.expect(StatusCode::OK);
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    assert_eq!(ana.refresh_token(), None);
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
    let forged = with_the_sites_cookies(&service, "eyJ.e30.x");
    refused(&forged, 401, "refresh_invalid").await;
}

#[tokio::test]
async fn a_lost_reply_is_given_again_and_two_tabs_end_up_with_one_token() {
    let (service, ana) = service_with_ana_of_the_site().await;
    let (mut first, mut second) = (ana.clone(), ana);
    first.refresh().await.expect(StatusCode::OK);
    service.later(30);
    second.refresh().await.expect(StatusCode::OK);
    assert_eq!(first.refresh_token(), second.refresh_token());
    assert_eq!(first.session_id(), second.session_id());
    assert_eq!(service.session_of(&first).await.generation.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_tabs_at_once_all_get_the_same_token() {
    let (service, ana) = service_with_ana_of_the_site().await;
    let mut tabs = JoinSet::new();
    for _ in 0..64 {
        let mut tab = ana.clone();
        tabs.spawn(async move {
            tab.refresh().await.expect(StatusCode::OK);
            tab
        });
    }
    let tabs = tabs.join_all().await;
    let token = |tab: &Client| {
        let own = tab.cookies.iter();
        let mut own = own.filter(|(name, _)| name == "__Host-Http-refreshtoken");
        own.next().unwrap().1.clone()
    };
    assert!(tabs.iter().all(|tab| token(tab) == token(&tabs[0])));
    assert_eq!(service.session_of(&tabs[0]).await.generation.0, 1);
    assert_eq!(sessions(&service).await.len(), 1);
}

#[tokio::test]
async fn after_the_grace_it_is_reuse_and_ends_the_session() {
    let (service, ana) = service_with_ana_of_the_site().await;
    let mut thief = ana.clone();
    thief.refresh().await.expect(StatusCode::OK);
    service.later(31);
    refused(&ana, 401, "refresh_reused").await;
    thief.user().await.refused(401, "session_ended");
    let answer = refused(&ana, 401, "session_ended").await;
    assert_eq!(answer.json["end_reason"], "reuse_detected");
}

#[tokio::test]
async fn within_the_grace_it_is_dead_once_its_successor_was_used() {
    let (_service, ana) = service_with_ana_of_the_site().await;
    let mut first = ana.clone();
    first.refresh().await.expect(StatusCode::OK);
    first.refresh().await.expect(StatusCode::OK);
    refused(&ana, 401, "refresh_reused").await;
}

#[tokio::test]
async fn it_stays_used_when_the_root_secret_is_replaced() {
    let (service, ana) = service_with_ana_of_the_site().await;
    ana.clone().refresh().await.expect(StatusCode::OK);
    let mut setup = service.setup_beside();
    let fresh = RootSecret::generate(&SystemRandomness);
    setup.previous_secrets = vec![std::mem::replace(&mut setup.secret, fresh)];
    let beside = setup.start().await;
    service.later(31);
    let ana = beside.called_by(&ana);
    refused(&ana, 401, "refresh_reused").await;
}

#[tokio::test]
async fn what_has_ended_long_ago_is_forgotten_only_after_the_token_has_expired() {
    let mut setup = taking_over(Setup::production(), LegacyTokenKind::Recipe);
    setup.auth.sessions.idle = std::time::Duration::from_hours(24);
    setup.auth.keep_ended_sessions = std::time::Duration::from_hours(3 * 24);
    let service = setup.start().await;
    let user = service.make_user("ana").await;
    // The site lets its tokens live for longer than ended sessions are kept.
    let token = recipe_token(&service, user.id, |claims| {
        claims["iat"] = service.clock.now().as_second().into();
        claims["exp"] = (service.clock.now().as_second() + 20 * DAY).into();
    });
    let ana = with_the_sites_cookies(&service, &token);
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    for _ in 0..20 {
        service.later(DAY / 2);
        service.auth.do_upkeep().await.unwrap();
        let answer = ana.clone().refresh().await;
        let is_dead = ["session_ended", "refresh_expired"].contains(&answer.code());
        assert!(is_dead, "{}", answer.json);
    }
    assert!(sessions(&service).await.is_empty(), "it was forgotten");
}

#[tokio::test]
async fn what_is_no_live_refresh_token_of_the_site_opens_nothing() {
    let (service, ana) = service_with_ana_of_the_site().await;
    let user = service.auth.find_user("ana").await.unwrap().id;
    let token = |change: fn(&mut Value)| recipe_token(&service, user, change);
    let claims = recipe_claims(&service, user);
    let now = service.clock.now().as_second();
    let expired = recipe_token(&service, user, |claims| claims["exp"] = now.into());
    let access = json!({"user_id": user.0, "exp": now + 300, "iat": now});
    let future = json!({"user_id": user.0, "exp": now + DAY, "iat": now + 1});
    let cases = [
        ("expired", expired, "refresh_expired"),
        (
            "an access token of the recipe",
            signed(&access),
            "refresh_invalid",
        ),
        ("of tomorrow", signed(&future), "refresh_invalid"),
        (
            "of another key",
            signed_with(&SITE_KEY.replace('k', "K"), r#"{"alg":"HS256"}"#, &claims),
            "refresh_invalid",
        ),
        (
            "without a signature",
            signed_with(SITE_KEY, r#"{"alg":"none"}"#, &claims),
            "refresh_invalid",
        ),
        (
            "nobody's",
            token(|claims| claims["user_id"] = 4_711.into()),
            "session_ended",
        ),
        (
            "simplejwt's",
            token(|claims| claims["token_type"] = "refresh".into()),
            "refresh_invalid",
        ),
        ("too long", "x".repeat(9_000), "refresh_invalid"),
        ("nothing", String::new(), "refresh_invalid"),
    ];
    for (what, token, code) in cases {
        let client = with_the_sites_cookies(&service, &token);
        let answer = client.clone().refresh().await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (401, code),
            "{what}"
        );
    }
    ana.clone().refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn our_own_tokens_under_the_sites_key_are_no_legacy_ones_nor_those_ours() {
    let mut setup = taking_over(Setup::production(), LegacyTokenKind::Recipe);
    setup.auth.tokens.algorithm = SigningAlgorithm::Hs256(SharedSecret::parse(SITE_KEY).unwrap());
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let client = with_the_sites_cookies(&service, ana.token());
    refused(&client, 401, "refresh_invalid").await;
    let client = with_the_sites_cookies(&service, ana.refresh_token().unwrap());
    refused(&client, 401, "refresh_invalid").await;

    let user = service.auth.find_user("ana").await.unwrap().id;
    let token = recipe_token(&service, user, |_| {});
    let call = service
        .visitor()
        .get("/users/user")
        .bearer(&token)
        .send()
        .await;
    call.refused(401, "token_invalid");
}

#[tokio::test]
async fn after_the_end_date_nothing_is_exchanged() {
    let (service, ana) = service_with_ana_of_the_site().await;
    service.later(30 * DAY);
    let user = service.auth.find_user("ana").await.unwrap().id;
    let fresh = with_the_sites_cookies(&service, &recipe_token(&service, user, |_| {}));
    refused(&fresh, 401, "refresh_invalid").await;
    refused(&ana, 401, "refresh_invalid").await;
}

#[tokio::test]
async fn whoever_may_not_sign_in_is_not_taken_over() {
    let (service, ana) = service_with_ana_of_the_site().await;
    service.deactivate("ana").await;
    let answer = refused(&ana, 401, "session_ended").await;
    assert_eq!(answer.json["end_reason"], "user_deactivated");
    let user = service.auth.find_user("ana").await.unwrap().id;
    service
        .auth
        .set_active(user, true, EndedBy::CommandLine)
        .await
        .unwrap();
    // Who was signed out signs in again; what the site gave them before is over.
    refused(&ana, 401, "refresh_invalid").await;

    let bob = service.make_user("bob").await;
    let token = recipe_token(&service, bob.id, |_| {});
    service
        .auth
        .delete_user(bob.id, EndedBy::CommandLine)
        .await
        .unwrap();
    let bob = with_the_sites_cookies(&service, &token);
    let answer = refused(&bob, 401, "session_ended").await;
    assert_eq!(answer.json["end_reason"], "user_deleted");
}

/// A refresh token that the site issues now.
fn issued_now(service: &Service, user: UserId) -> String {
    let now = service.clock.now().as_second();
    recipe_token(service, user, |claims| {
        claims["iat"] = json!(now);
        claims["exp"] = json!(now + 7 * DAY);
    })
}

#[tokio::test]
async fn a_stolen_token_of_the_site_ends_with_the_password() {
    let (service, thief) = service_with_ana_of_the_site().await;
    let user = service.auth.find_user("ana").await.unwrap().id;
    let ana = service.signed_in("ana").await;
    // Of the same second: nobody can tell whether it came before.
    let of_this_second = with_the_sites_cookies(&service, &issued_now(&service, user));
    let new = json!({"current_password": PASSWORD, "new_password": "walrus-4-teatime-anthem"});
    let call = ana.post("/users/password").with_token().with_csrf();
    let answer = call.json(&new).send().await;
    assert!(answer.status.is_success(), "{}", answer.json);
    refused(&thief, 401, "refresh_invalid").await;
    refused(&of_this_second, 401, "refresh_invalid").await;
    assert_eq!(sessions(&service).await.len(), 1, "hers, which goes on");
    ana.user().await.expect(StatusCode::OK);

    // Whoever signs in at the site afterwards is taken over as ever.
    service.later(1);
    let mut anew = with_the_sites_cookies(&service, &issued_now(&service, user));
    anew.refresh().await.expect(StatusCode::OK);
    anew.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn who_is_signed_out_everywhere_is_signed_out_of_the_site_too() {
    let (service, mut stolen) = service_with_ana_of_the_site().await;
    let ana = service.signed_in("ana").await;
    for scope in ["others", "global"] {
        let call = ana.post("/users/logout").with_token().with_csrf();
        let call = call.json(&json!({"scope": scope}));
        call.send().await.expect(StatusCode::NO_CONTENT);
        refused(&stolen, 401, "refresh_invalid").await;
    }
    let user = service.auth.find_user("ana").await.unwrap().id;
    service.later(1);
    stolen = with_the_sites_cookies(&service, &issued_now(&service, user));
    let by = EndedBy::CommandLine;
    let ended = service.auth.revoke_sessions_of(user, by).await.unwrap();
    assert_eq!(ended.len(), 0, "there was none, and yet");
    refused(&stolen, 401, "refresh_invalid").await;
}

#[tokio::test]
async fn the_csrf_token_of_the_site_or_of_the_session_to_be_must_come_along() {
    let (_service, ana) = service_with_ana_of_the_site().await;
    let call = || ana.post("/users/refresh_token").with_cookies();
    call().send().await.refused(403, "csrf_missing");
    for wrong in ["", "x", &SITE_CSRF.to_lowercase(), &SITE_CSRF.repeat(3)] {
        let code = if wrong.is_empty() {
            "csrf_missing"
        } else {
            "csrf_invalid"
        };
        let answer = call().header("x-csrftoken", wrong).send().await;
        answer.refused(403, code);
    }
    // Of two cookies one was planted.
    let planted = format!(
        "refreshtoken={}; csrftoken={SITE_CSRF}; csrftoken={}",
        sites_token(&ana),
        SITE_CSRF.to_lowercase()
    );
    let answer = call().header("cookie", &planted).with_csrf().send().await;
    answer.refused(403, "csrf_invalid");
    let foreign = call().with_csrf().on_page("https://evil.test").send().await;
    foreign.refused(403, "origin_denied");

    // A page that cannot read the site's cookie asks for the token of the session to be.
    let mut page = ana.clone();
    let answer = page.get("/users/csrf").with_cookies().send().await;
    page.cookies.retain(|(name, _)| name == "refreshtoken");
    page.csrf_token = answer.json["csrf_token"].as_str().map(str::to_owned);
    page.refresh().await.expect(StatusCode::OK);
    let given = page.csrf_token.clone();
    assert_eq!(answer.json["csrf_token"].as_str(), given.as_deref());

    // What the site's page shows is good for the exchange alone.
    let mut again = page.clone();
    again.cookies.retain(|(name, _)| name != "csrftoken");
    again
        .cookies
        .push(("csrftoken".to_owned(), SITE_CSRF.to_owned()));
    again.csrf_token = Some(SITE_CSRF_MASKED.to_owned());
    again.refresh().await.refused(403, "csrf_invalid");
}

#[tokio::test]
async fn two_of_the_sites_cookies_are_one_too_many() {
    let (_service, ana) = service_with_ana_of_the_site().await;
    let token = sites_token(&ana);
    let cookies = format!("refreshtoken={token}; refreshtoken={token}; csrftoken={SITE_CSRF}");
    for path in ["/users/refresh_token", "/users/logout"] {
        let call = ana.post(path).with_csrf().header("cookie", &cookies);
        call.send().await.refused(400, "malformed_request");
    }
}

#[tokio::test]
async fn ours_goes_first_and_a_broken_one_of_ours_is_in_nobodys_way() {
    let (service, ana) = service_with_ana_of_the_site().await;
    let own = service.signed_in("ana").await;
    let mut both = own.clone();
    both.cookies
        .push(("refreshtoken".to_owned(), sites_token(&ana).to_owned()));
    let answer = both.refresh().await.expect(StatusCode::OK);
    assert_eq!(both.session_id(), own.session_id());
    assert_eq!(
        answer.set_cookies().len(),
        2,
        "the site's token was not used"
    );

    let mut broken = ana.clone();
    let name = "__Host-Http-refreshtoken".to_owned();
    broken.cookies.push((name, "rubbish".to_owned()));
    broken.refresh().await.expect(StatusCode::OK);
    assert_ne!(broken.session_id(), own.session_id());
}

#[tokio::test]
async fn a_logout_uses_the_sites_token_up() {
    let (service, ana) = service_with_ana_of_the_site().await;
    let call = ana.post("/users/logout").with_cookies();
    call.send().await.refused(403, "csrf_missing");
    let answer = ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    assert!(
        answer
            .set_cookies()
            .contains(&"refreshtoken=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0")
    );
    let answer = refused(&ana, 401, "session_ended").await;
    assert_eq!(answer.json["end_reason"], "logout");
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);

    // Also one that has been exchanged, with its session.
    let bob = service.make_user("bob").await;
    let bob = with_the_sites_cookies(&service, &recipe_token(&service, bob.id, |_| {}));
    let mut exchanged = bob.clone();
    exchanged.refresh().await.expect(StatusCode::OK);
    bob.clone().logout().await.expect(StatusCode::NO_CONTENT);
    exchanged.user().await.refused(401, "session_ended");
}

#[tokio::test]
async fn a_login_uses_the_sites_token_up() {
    let (_service, ana) = service_with_ana_of_the_site().await;
    let mut anew = ana.clone();
    anew.login("ana", "wrong")
        .await
        .refused(401, "invalid_credentials");
    let answer = anew.login("ana", PASSWORD).await.expect(StatusCode::OK);
    // Ours, the device's, and the site's taken away.
    assert_eq!(answer.set_cookies().len(), 4);
    let answer = refused(&ana, 401, "session_ended").await;
    assert_eq!(answer.json["end_reason"], EndReason::ReplacedByLogin.code());
    anew.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn of_too_many_sessions_a_taken_over_one_is_one() {
    let mut setup = taking_over(Setup::production(), LegacyTokenKind::Recipe);
    setup.auth.max_sessions_per_user = std::num::NonZeroU32::new(1);
    let service = setup.start().await;
    let user = service.make_user("ana").await;
    let old = service.signed_in("ana").await;
    service.later(1);
    let mut ana = with_the_sites_cookies(&service, &recipe_token(&service, user.id, |_| {}));
    ana.refresh().await.expect(StatusCode::OK);
    let answer = old.user().await.refused(401, "session_ended");
    assert_eq!(answer.json["end_reason"], "too_many_sessions");
    ana.user().await.expect(StatusCode::OK);
}

mod simplejwt {
    use super::*;

    fn claims(service: &Service, user: UserId) -> Value {
        let now = service.clock.now().as_second();
        json!({"token_type": "refresh", "exp": now + DAY, "iat": now - 60,
            "jti": "0b5d1a", "user_id": user.to_string()})
    }

    async fn service_with_anas_token() -> (Service, String) {
        let setup = taking_over(Setup::production(), LegacyTokenKind::SimpleJwt);
        let service = setup.start().await;
        let ana = service.make_user("ana").await;
        let token = signed(&claims(&service, ana.id));
        (service, token)
    }

    #[tokio::test]
    async fn a_token_comes_in_the_body_and_needs_no_other_proof() {
        let (service, token) = service_with_anas_token().await;
        let mut ana = service.visitor();
        let call = || service.visitor();
        let answer = call();
        let answer = answer
            .post("/users/refresh_token")
            .json(&json!({"refresh": token}))
            .send()
            .await
            .expect(StatusCode::OK);
        ana.keep(&answer);
        ana.user().await.expect(StatusCode::OK);
        ana.refresh().await.expect(StatusCode::OK);
        service.later(31);
        let again = call();
        let again = again
            .post("/users/refresh_token")
            .json(&json!({"refresh": token}));
        again.send().await.refused(401, "refresh_reused");
    }

    #[tokio::test]
    async fn a_foreign_page_cannot_sign_a_visitor_in_with_its_own_token() {
        let (service, token) = service_with_anas_token().await;
        let visitor = service.visitor();
        let call = visitor
            .post("/users/refresh_token")
            .on_page(crate::harness::FOREIGN);
        let answer = call.json(&json!({"refresh": token})).send().await;
        answer.refused(403, "origin_denied");
        let call = visitor.post("/users/refresh_token");
        let form = call.body("text/plain", format!("{{\"refresh\": \"{token}\"}}"));
        form.send().await.refused(415, "unsupported_media_type");
    }

    #[tokio::test]
    async fn a_token_comes_in_the_cookie_too() {
        let (service, token) = service_with_anas_token().await;
        let mut ana = with_the_sites_cookies(&service, &token);
        let call = ana.post("/users/refresh_token").with_cookies();
        call.send().await.refused(403, "csrf_missing");
        ana.refresh().await.expect(StatusCode::OK);
    }

    #[tokio::test]
    async fn its_access_tokens_and_the_recipes_tokens_are_refused() {
        let (service, _) = service_with_anas_token().await;
        let user = service.auth.find_user("ana").await.unwrap().id;
        let mut access = claims(&service, user);
        access["token_type"] = "access".into();
        for token in [signed(&access), recipe_token(&service, user, |_| {})] {
            let visitor = service.visitor();
            let call = visitor.post("/users/refresh_token");
            let answer = call.json(&json!({"refresh": token})).send().await;
            answer.refused(401, "refresh_invalid");
        }
    }

    #[tokio::test]
    async fn bodies_that_are_none_of_it_are_no_token() {
        let (service, _) = service_with_anas_token().await;
        let visitor = service.visitor();
        let call = || visitor.post("/users/refresh_token");
        call().send().await.refused(401, "refresh_missing");
        let empty = call().json(&json!({})).send().await;
        empty.refused(401, "refresh_missing");
        let number = call().json(&json!({"refresh": 7})).send().await;
        number.refused(400, "validation_failed");
        let rubbish = call().json(&json!({"refresh": "x"})).send().await;
        rubbish.refused(401, "refresh_invalid");
    }

    #[tokio::test]
    async fn with_the_recipe_no_token_comes_in_the_body() {
        let setup = taking_over(Setup::production(), LegacyTokenKind::Recipe);
        let service = setup.start().await;
        let user = service.make_user("ana").await;
        let token = recipe_token(&service, user.id, |_| {});
        let visitor = service.visitor();
        let call = visitor.post("/users/refresh_token");
        let answer = call.json(&json!({"refresh": token})).send().await;
        answer.refused(401, "refresh_missing");
    }
}
