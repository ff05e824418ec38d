//! A refresh against whatever ends its session, at once: when both have been answered, nobody goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Client, PASSWORD, Service, Setup};
use countersign::core::audit::Trail;
use countersign::core::password::{EncodedPassword, Password};
use countersign::core::session::EndedBy;
use countersign::core::store::{AccountChange, AccountChangeKind, EndedAt};
use countersign_sql::{SqliteOptions, SqliteStore};
use http::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

const ROUNDS: usize = 1_000;
const BY: EndedBy = EndedBy::CommandLine;

async fn over_memory() -> Arc<Service> {
    Arc::new(Setup::development().start().await)
}

async fn over_sqlite() -> (Arc<Service>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(directory.path().join("countersign.db"));
    let store = SqliteStore::open(&options).unwrap();
    let service = Setup::development().over(Arc::new(store)).start().await;
    (Arc::new(service), directory)
}

/// How often the refresh was the first of the two, and how long it lets the other go ahead: longer
/// after it was the first, shorter after it was the second, so that they meet. In steps that grow with
/// it: on a busy machine they meet after milliseconds.
#[derive(Debug, Default)]
struct Tally {
    first: usize,
    second: usize,
    head_start: Duration,
}

impl Tally {
    const LEAST_STEP: Duration = Duration::from_micros(20);

    fn step(&self) -> Duration {
        Self::LEAST_STEP.max(self.head_start / 8)
    }

    fn refresh_was_first(&mut self) {
        self.first += 1;
        self.head_start += self.step();
    }

    fn refresh_was_second(&mut self) {
        self.second += 1;
        self.head_start = self.head_start.saturating_sub(self.step());
    }

    /// Both orders have been seen: it was a race.
    fn shows_a_race(&self) {
        let fewest = self.first.min(self.second);
        assert!(fewest > ROUNDS / 20, "{self:?}");
    }
}

/// Refreshes while `end` ends the session. Whatever the order was, afterwards neither the cookie from
/// before nor the one that the refresh gave refreshes, and neither access token is accepted.
async fn race(
    tally: &mut Tally,
    ana: Client,
    end: impl Future<Output = ()> + Send + 'static,
    reason: &str,
) {
    let mut refreshing = ana.clone();
    let head_start = tally.head_start;
    let refresh = tokio::spawn(async move {
        let begun = Instant::now();
        while begun.elapsed() < head_start {
            tokio::task::yield_now().await;
        }
        let answer = refreshing.refresh().await;
        (answer, refreshing)
    });
    let ended = tokio::spawn(end);
    ended.await.unwrap();
    let (answer, refreshed) = refresh.await.unwrap();
    if answer.status == StatusCode::OK {
        tally.refresh_was_first();
    } else {
        let ended = answer.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], reason);
        tally.refresh_was_second();
    }
    for mut holder in [ana, refreshed] {
        for answer in [holder.user().await, holder.refresh().await] {
            let ended = answer.refused(401, "session_ended");
            assert_eq!(ended.json["end_reason"], reason);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_logout_that_races_a_refresh_nothing_goes_on() {
    let service = over_memory().await;
    service.make_user("ana").await;
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        let ana = service.signed_in("ana").await;
        let leaving = ana.clone();
        let end = async move {
            let call = leaving.post("/users/logout").with_csrf();
            let call = if round % 2 == 0 {
                call.with_cookies()
            } else {
                call.with_token()
            };
            call.send().await.expect(StatusCode::NO_CONTENT);
        };
        race(&mut tally, ana, end, "logout").await;
    }
    tally.shows_a_race();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_change_of_password_that_races_a_refresh_nothing_goes_on() {
    let (service, _directory) = over_sqlite().await;
    service.make_user("ana").await;
    let mut tally = Tally::default();
    let passwords = [PASSWORD, "a quiet river under old stars"];
    let mut elsewhere = service.visitor();
    for round in 0..ROUNDS {
        let (current, new) = (passwords[round % 2], passwords[(round + 1) % 2]);
        if round == 0 {
            let answer = elsewhere.login("ana", current).await;
            answer.expect(StatusCode::OK);
        }
        let mut ana = service.visitor();
        ana.login("ana", current).await.expect(StatusCode::OK);
        let changing = elsewhere.clone();
        let end = async move {
            let body = json!({"current_password": current, "new_password": new});
            let call = changing.post("/users/password").with_token().with_csrf();
            let answer = call.json(&body).send().await;
            answer.expect(StatusCode::NO_CONTENT);
        };
        race(&mut tally, ana, end, "password_changed").await;
        elsewhere.user().await.expect(StatusCode::OK);
    }
    tally.shows_a_race();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_deactivation_that_races_a_refresh_nothing_goes_on() {
    let service = over_memory().await;
    let user = service.make_user("ana").await;
    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        let ana = service.signed_in("ana").await;
        let auth = Arc::clone(&service.auth);
        let end = async move {
            auth.set_active(user.id, false, BY).await.unwrap();
        };
        race(&mut tally, ana, end, "user_deactivated").await;
        let auth = &service.auth;
        auth.set_active(user.id, true, BY).await.unwrap();
    }
    tally.shows_a_race();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_revocation_that_races_a_refresh_nothing_goes_on() {
    let (service, _directory) = over_sqlite().await;
    let user = service.make_user("ana").await;
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        let ana = service.signed_in("ana").await;
        let id = ana.session_id().parse().unwrap();
        let auth = Arc::clone(&service.auth);
        let end = async move {
            if round % 2 == 0 {
                assert!(auth.revoke_session(id, BY).await.unwrap());
            } else {
                let ended = auth.revoke_sessions_of(user.id, BY).await.unwrap();
                assert_eq!(ended.len(), 1);
            }
        };
        race(&mut tally, ana, end, "revoked_by_admin").await;
    }
    tally.shows_a_race();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_logout_that_races_a_replay_nothing_goes_on() {
    let service = over_memory().await;
    service.make_user("ana").await;
    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        let previous = service.signed_in("ana").await;
        let mut ana = previous.clone();
        ana.refresh().await.expect(StatusCode::OK);
        let end = async move {
            ana.logout().await.expect(StatusCode::NO_CONTENT);
        };
        race(&mut tally, previous, end, "logout").await;
    }
    tally.shows_a_race();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_refreshes_with_one_token_give_sixty_four_access_tokens_and_one_successor() {
    let (service, _directory) = over_sqlite().await;
    service.make_user("ana").await;
    let mut ana = service.signed_in("ana").await;
    for generation in 1..=5 {
        let mut racers = JoinSet::new();
        for _ in 0..64 {
            let mut racer = ana.clone();
            racers.spawn(async move {
                racer.refresh().await.expect(StatusCode::OK);
                racer
            });
        }
        let mut racers = racers.join_all().await;
        for racer in &racers {
            assert_ne!(racer.refresh_token(), ana.refresh_token());
            assert_eq!(racer.refresh_token(), racers[0].refresh_token());
            racer.user().await.expect(StatusCode::OK);
        }
        let mut tokens: Vec<_> = racers.iter().map(Client::token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 64);
        assert_eq!(service.session_of(&ana).await.generation.0, generation);
        ana = racers.remove(63);
        service.later(60);
    }
}

/// [`PASSWORD`], as a Django of long ago stored it.
const DJANGOS: &str = "md5$zstR0KoUIgXdp0Kmqj0Y8w$e93f01d8491baaf866749401ab25f34c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_wins_over_a_login_that_brings_the_old_one_up_to_date() {
    let setup = Setup::development().unthrottled();
    let store = Arc::clone(&setup.store);
    let service = setup.start().await;
    let ana = service.make_user("ana").await;
    let outdated = AccountChange {
        user: ana.id,
        kind: AccountChangeKind::Password(EncodedPassword::new(DJANGOS)),
        mail: None,
        ending: EndedAt {
            at: ana.date_joined,
            by: BY,
        },
        trail: Trail::default(),
    };
    let mut visitor = service.visitor();
    for round in 0..100 {
        store.change_account(&outdated).await.unwrap();
        let new = format!("a quiet river under {round} old stars");
        let set = Password::new(new.clone()).unwrap();
        let mut racing = service.visitor();
        let (login, set) = tokio::join!(
            racing.login("ana", PASSWORD),
            service.auth.set_password(&ana, set, BY)
        );
        set.unwrap();
        assert!(
            [StatusCode::OK, StatusCode::UNAUTHORIZED].contains(&login.status),
            "round {round}: {login:?}"
        );
        visitor.login("ana", &new).await.expect(StatusCode::OK);
    }
}
