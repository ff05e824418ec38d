//! An end takes effect at the next request, and nothing is read for that.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{Client, PASSWORD, Service, Setup};
use crate::troubled_store::{Trouble, TroubledStore};
use countersign::core::password::Password;
use countersign::core::session::{EndReason, EndedBy};
use http::StatusCode;
use serde_json::json;

const BY: EndedBy = EndedBy::CommandLine;

/// Two processes of one service, each with its own way to the same tables.
struct Processes {
    here: Service,
    there: Service,
    /// The way that `here` goes.
    store: Arc<TroubledStore>,
    /// The way that `there` goes.
    store_there: Arc<TroubledStore>,
}

impl Processes {
    async fn start() -> Self {
        let mut setup = Setup::development();
        setup.auth.max_sessions_per_user = NonZeroU32::new(5);
        let store = Arc::new(TroubledStore::default());
        let here = setup.over(Arc::clone(&store) as _).start().await;
        let store_there = Arc::new(store.beside());
        let there = here.setup_beside().over(Arc::clone(&store_there) as _);
        let there = there.start().await;
        Self {
            here,
            there,
            store,
            store_there,
        }
    }

    /// How many reads there have been, either way.
    fn reads(&self) -> usize {
        self.store.reads() + self.store_there.reads()
    }

    /// Someone who has just signed in here and whom both processes know.
    async fn well_known(&self, name: &str) -> Client {
        let client = self.here.signed_in(name).await;
        self.both_accept(&client).await;
        client
    }

    async fn both_accept(&self, client: &Client) {
        client.user().await.expect(StatusCode::OK);
        let there = self.there.called_by(client);
        there.user().await.expect(StatusCode::OK);
    }

    async fn both_refuse(&self, client: &Client, reason: EndReason) {
        for answer in [
            client.user().await,
            self.there.called_by(client).user().await,
        ] {
            let ended = answer.refused(401, "session_ended");
            assert_eq!(ended.json["end_reason"], json!(reason.code()));
        }
    }
}

#[tokio::test]
async fn whoever_is_known_is_answered_without_reading_anything() {
    let processes = Processes::start().await;
    let mut everybody = Vec::new();
    for name in ["ana", "bob", "cem", "dora"] {
        processes.here.make_user(name).await;
        for _ in 0..3 {
            everybody.push(processes.here.signed_in(name).await);
        }
    }
    for client in &everybody {
        processes.both_accept(client).await;
    }
    let reads = processes.reads();
    for round in 0..25 {
        for client in &everybody {
            processes.both_accept(client).await;
        }
        processes.here.later(round % 2);
    }
    assert_eq!(processes.reads(), reads);
}

#[tokio::test]
async fn a_forged_expired_or_ended_token_costs_no_read_either() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    let mut ana = processes.well_known("ana").await;
    let ended = ana.clone();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    let reads = processes.reads();
    for _ in 0..100 {
        ended.user().await.refused(401, "session_ended");
        let junk = ended.get("/users/user").bearer("junk");
        junk.send().await.refused(401, "token_malformed");
    }
    processes.here.later(300);
    ended.user().await.refused(401, "token_expired");
    assert_eq!(processes.reads(), reads);
}

#[tokio::test]
async fn every_end_is_seen_at_the_next_request_by_every_process() {
    let processes = Processes::start().await;
    for &reason in EndReason::ALL {
        let name = format!("user-{reason}").replace('_', "-");
        let user = processes.here.make_user(&name).await;
        let holder = processes.well_known(&name).await;
        let elsewhere = processes.well_known(&name).await;
        processes.both_accept(&holder).await;
        let auth = &processes.here.auth;
        match reason {
            EndReason::Logout => {
                holder.clone().logout().await.expect(StatusCode::NO_CONTENT);
            }
            // The tokens say it themselves.
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
                let path = format!("/users/sessions/{}", holder.session_id());
                let call = elsewhere.delete(&path).with_token().with_csrf();
                call.send().await.expect(StatusCode::NO_CONTENT);
            }
            EndReason::RevokedByAdmin => {
                let ended = auth.revoke_sessions_of(user.id, BY).await.unwrap();
                assert_eq!(ended.len(), 2);
            }
            EndReason::TooManySessions => {
                processes.here.later(1);
                for _ in 0..5 {
                    drop(processes.here.signed_in(&name).await);
                }
            }
            EndReason::PasswordChanged => {
                let new = "a quiet river under old stars";
                let body = json!({"current_password": PASSWORD, "new_password": new});
                let call = elsewhere.post("/users/password").with_token().with_csrf();
                let answer = call.json(&body).send().await;
                answer.expect(StatusCode::NO_CONTENT);
                processes.both_accept(&elsewhere).await;
            }
            EndReason::UserDeactivated => processes.here.deactivate(&name).await,
            EndReason::UserDeleted => auth.delete_user(user.id, BY).await.unwrap(),
            EndReason::RolesChanged => {
                auth.set_roles(user.id, true, false, BY).await.unwrap();
            }
        }
        let reads = processes.reads();
        processes.both_refuse(&holder, reason).await;
        assert_eq!(processes.reads(), reads, "{reason}");
    }
}

#[tokio::test]
async fn whoever_is_activated_again_stays_signed_out() {
    let processes = Processes::start().await;
    let user = processes.here.make_user("ana").await;
    let ana = processes.well_known("ana").await;
    let auth = &processes.here.auth;
    auth.set_active(user.id, false, BY).await.unwrap();
    auth.set_active(user.id, true, BY).await.unwrap();
    processes
        .both_refuse(&ana, EndReason::UserDeactivated)
        .await;
    processes.well_known("ana").await;
}

#[tokio::test]
async fn a_password_set_by_an_operator_signs_the_user_out_everywhere() {
    let processes = Processes::start().await;
    let user = processes.here.make_user("ana").await;
    let ana = processes.well_known("ana").await;
    let new = Password::new("a quiet river under old stars".to_owned()).unwrap();
    let auth = &processes.there.auth;
    auth.set_password(&user, new, BY).await.unwrap();
    processes
        .both_refuse(&ana, EndReason::PasswordChanged)
        .await;
}

#[tokio::test]
async fn a_change_of_the_user_is_seen_at_the_next_request_by_every_process() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    let ana = processes.well_known("ana").await;
    let there = processes.there.called_by(&ana);
    for name in ["Ana", "Anna", ""] {
        let change = ana.patch("/users/user").with_token().with_csrf();
        let change = change.json(&json!({"first_name": name})).send().await;
        change.expect(StatusCode::OK);
        for client in [&ana, &there] {
            let answer = client.user().await.expect(StatusCode::OK);
            assert_eq!(answer.json["user"]["first_name"], name);
        }
    }
    processes.here.later(60);
    let phone = processes.here.signed_in("ana").await;
    let signed_in = processes.here.session_of(&phone).await.opened_at;
    for client in [&ana, &there] {
        let answer = client.user().await.expect(StatusCode::OK);
        let last_login = &answer.json["user"]["last_login"];
        assert_eq!(last_login, &json!(signed_in.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_was_read_before_a_change_is_not_remembered_after_it() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    let ana = processes.here.signed_in("ana").await;
    let there = processes.there.called_by(&ana);
    let barrier = processes.store_there.hold_up_after_finding_a_user();
    let reading = there.clone();
    let reading = tokio::spawn(async move { reading.user().await });
    barrier.wait().await;
    let change = ana.patch("/users/user").with_token().with_csrf();
    let change = change.json(&json!({"first_name": "Ana"})).send().await;
    change.expect(StatusCode::OK);
    barrier.wait().await;
    let answer = reading.await.unwrap().expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["first_name"], "", "it was read before");
    let answer = there.user().await.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["first_name"], "Ana");
}

#[tokio::test]
async fn a_process_that_hears_nothing_asks_the_store_each_time() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    let mut ana = processes.well_known("ana").await;
    let there = processes.there.called_by(&ana);
    processes.store_there.lose_the_feed();
    for _ in 0..3 {
        let reads = processes.store_there.reads();
        there.user().await.expect(StatusCode::OK);
        assert!(processes.store_there.reads() > reads);
    }
    let change = ana.patch("/users/user").with_token().with_csrf();
    let change = change.json(&json!({"first_name": "Ana"})).send().await;
    change.expect(StatusCode::OK);
    let answer = there.user().await.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["first_name"], "Ana");
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    let ended = there.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
}

#[tokio::test]
async fn a_process_that_hears_nothing_and_cannot_ask_says_so_rather_than_guess() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    let mut ana = processes.well_known("ana").await;
    let there = processes.there.called_by(&ana);
    processes.store_there.have(Trouble::Unavailable);
    for _ in 0..2 {
        let answer = there.user().await.refused(503, "storage_unavailable");
        assert_eq!(answer.header("retry-after"), "2");
        // The other process hears and knows.
        ana.user().await.expect(StatusCode::OK);
    }
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    there.user().await.refused(503, "storage_unavailable");
    processes.store_there.recover();
    let ended = there.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
}

#[tokio::test]
async fn what_ended_while_nothing_was_heard_is_refused_afterwards() {
    let processes = Processes::start().await;
    let auth = &processes.here.auth;
    let mut clients = Vec::new();
    for name in ["ana", "bob", "cem", "dora", "emil"] {
        processes.here.make_user(name).await;
        clients.push(processes.well_known(name).await);
    }
    let [ana, bob, cem, dora, emil] = &clients[..] else {
        panic!("five")
    };
    processes.store_there.have(Trouble::Unavailable);
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    processes.here.deactivate("bob").await;
    let user = auth.find_user("cem").await.unwrap();
    auth.delete_user(user.id, BY).await.unwrap();
    let user = auth.find_user("dora").await.unwrap();
    auth.set_active(user.id, false, BY).await.unwrap();
    auth.set_active(user.id, true, BY).await.unwrap();
    let change = emil.patch("/users/user").with_token().with_csrf();
    let change = change.json(&json!({"last_name": "Berg"})).send().await;
    change.expect(StatusCode::OK);
    processes.here.later(200);
    processes.store_there.recover();
    for (client, reason) in [
        (ana, EndReason::Logout),
        (bob, EndReason::UserDeactivated),
        (cem, EndReason::UserDeleted),
        (dora, EndReason::UserDeactivated),
    ] {
        processes.both_refuse(client, reason).await;
    }
    let emil = processes.there.called_by(emil);
    let answer = emil.user().await.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["last_name"], "Berg");
    // And from then on nothing is read again.
    let reads = processes.reads();
    emil.user().await.expect(StatusCode::OK);
    assert_eq!(processes.reads(), reads);
}

#[tokio::test]
async fn a_process_that_starts_knows_what_ended_before() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    processes.here.make_user("bob").await;
    let ana = processes.well_known("ana").await;
    let bob = processes.well_known("bob").await;
    let still_here = processes.well_known("ana").await;
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    processes.here.deactivate("bob").await;
    processes.here.later(299);
    let started = processes.here.setup_beside().start().await;
    for (client, reason) in [(&ana, "logout"), (&bob, "user_deactivated")] {
        let ended = started.called_by(client).user().await;
        let ended = ended.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], reason);
    }
    let still_here = started.called_by(&still_here);
    still_here.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_nothing_live_that_has_ended() {
    let processes = Processes::start().await;
    processes.here.make_user("ana").await;
    let ana = processes.well_known("ana").await;
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    processes.here.later(3_600);
    // Either forgets what no living token can be of.
    for process in [&processes.here, &processes.there] {
        process.auth.do_upkeep().await.unwrap();
    }
    processes.here.later(-3_600);
    processes.both_refuse(&ana, EndReason::Logout).await;
}

#[tokio::test]
async fn a_shortened_life_is_that_short_for_the_tokens_from_before() {
    let mut setup = Setup::development();
    setup.auth.tokens.access_lifetime = std::time::Duration::from_hours(1);
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let mut ended = service.signed_in("ana").await;
    let held = ended.clone();
    ended.logout().await.expect(StatusCode::NO_CONTENT);

    let mut shorter = service.setup_beside();
    shorter.auth.tokens.access_lifetime = std::time::Duration::from_mins(5);
    let shorter = shorter.start().await;
    let (now_ana, held) = (shorter.called_by(&ana), shorter.called_by(&held));
    service.later(299);
    now_ana.user().await.expect(StatusCode::OK);
    held.user().await.refused(401, "session_ended");
    service.later(1);
    now_ana.user().await.refused(401, "token_expired");
    ana.user().await.expect(StatusCode::OK);
    // Its end is forgotten by now where it need not be remembered, and it is refused all the same.
    service.later(300);
    shorter.auth.do_upkeep().await.unwrap();
    held.user().await.refused(401, "token_expired");
}

/// Somebody who reads the user again and again. Whoever begins to read after `ended` is set must be
/// refused; gives how many reads came before.
async fn read_until_ended(client: Client, ended: Arc<AtomicBool>) -> usize {
    let mut accepted = 0;
    loop {
        let must_be_refused = ended.load(Ordering::SeqCst);
        let answer = client.user().await;
        if must_be_refused {
            answer.refused(401, "session_ended");
            return accepted;
        }
        accepted += usize::from(answer.status == StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn once_an_end_is_answered_no_later_request_succeeds() {
    let processes = Arc::new(Processes::start().await);
    let user = processes.here.make_user("ana").await;
    let mut accepted = 0;
    for round in 0..1_000 {
        let ana = processes.here.signed_in("ana").await;
        let has_ended = Arc::new(AtomicBool::new(false));
        let there = processes.there.called_by(&ana);
        let readers = [ana.clone(), there]
            .map(|client| tokio::spawn(read_until_ended(client, Arc::clone(&has_ended))));
        tokio::task::yield_now().await;
        let auth = &processes.here.auth;
        match round % 4 {
            0 => {
                let answer = ana.clone().logout().await;
                answer.expect(StatusCode::NO_CONTENT);
            }
            1 => {
                let id = ana.session_id().parse().unwrap();
                assert!(processes.there.auth.revoke_session(id, BY).await.unwrap());
            }
            2 => {
                auth.set_active(user.id, false, BY).await.unwrap();
            }
            _ => {
                let is_staff = round % 8 == 3;
                auth.set_roles(user.id, is_staff, false, BY).await.unwrap();
            }
        }
        has_ended.store(true, Ordering::SeqCst);
        for reader in readers {
            accepted += reader.await.unwrap();
        }
        if round % 4 == 2 {
            auth.set_active(user.id, true, BY).await.unwrap();
        }
    }
    assert!(accepted > 0, "nobody read before an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_does_one_while_the_feed_comes_and_goes() {
    let processes = Arc::new(Processes::start().await);
    processes.here.make_user("ana").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let flapping = {
        let (processes, is_over) = (Arc::clone(&processes), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                processes.store_there.lose_the_feed();
                tokio::task::yield_now().await;
                processes.store_there.recover();
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..500 {
        let ana = processes.here.signed_in("ana").await;
        let has_ended = Arc::new(AtomicBool::new(false));
        let there = processes.there.called_by(&ana);
        let reader = tokio::spawn(read_until_ended(there, Arc::clone(&has_ended)));
        tokio::task::yield_now().await;
        ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
        has_ended.store(true, Ordering::SeqCst);
        reader.await.unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    flapping.await.unwrap();
}

#[tokio::test]
async fn a_session_of_a_clock_that_was_ahead_stays_ended_when_its_time_has_come() {
    const HOUR: i64 = 3_600;
    let service = Setup::development().start().await;
    service.make_user("ana").await;
    service.later(HOUR);
    let ana = service.signed_in("ana").await;
    service.later(-HOUR);
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    // Signed in the future, as it now looks.
    ana.user().await.refused(401, "token_invalid");
    service.later(HOUR + 1);
    service.auth.do_upkeep().await.unwrap();
    let ended = ana.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "logout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn once_a_change_is_answered_no_later_request_tells_the_old_state() {
    let processes = Arc::new(Processes::start().await);
    processes.here.make_user("ana").await;
    let ana = processes.well_known("ana").await;
    let told = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let readers = [ana.clone(), processes.there.called_by(&ana)].map(|client| {
        let (told, is_over) = (Arc::clone(&told), Arc::clone(&is_over));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let least = told.load(Ordering::SeqCst);
                let answer = client.user().await.expect(StatusCode::OK);
                let name = answer.json["user"]["first_name"].as_str().unwrap();
                let shown: usize = name.parse().unwrap_or_default();
                assert!(shown >= least, "{shown} after {least}");
            }
        })
    });
    for round in 1..=1_000 {
        let change = json!({"first_name": round.to_string()});
        let call = ana.patch("/users/user").with_token().with_csrf();
        let answer = call.json(&change).send().await;
        answer.expect(StatusCode::OK);
        told.store(round, Ordering::SeqCst);
    }
    is_over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}
