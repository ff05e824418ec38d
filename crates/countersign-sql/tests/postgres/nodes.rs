//! Several nodes on one database: what one does holds on all, and they get in nobody's way.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::audit::Trail;
use countersign_core::session::{EndReason, EndedBy, EndedSession};
use countersign_core::store::{
    AccountChange, AccountChangeKind, Change, EndedAt, Listener, OpenSession, SessionQuery, Store,
};
use countersign_core::user::{ProfileChange, User, UserId};
use countersign_sql::PostgresStore;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::harness::{
    Database, ask, end_of, logout, open, opening, options, sign_in, signed_in_ana, start,
};
use crate::server::Server;

const SOON: Duration = Duration::from_secs(5);

/// Two nodes that listen, and two that cannot.
async fn pairs(database: &Database) -> [(PostgresStore, PostgresStore); 2] {
    let pooled = database.options().pooled(true);
    [
        (database.open().await, database.open().await),
        (open(&pooled).await, open(&pooled).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn an_end_on_one_node_is_heard_on_the_other_and_told_once_on_the_first() {
    for pair in 0..2 {
        let database = Database::new().await;
        let [listening, looking] = pairs(&database).await;
        let (one, other) = [listening, looking].into_iter().nth(pair).unwrap();
        let (ana, session) = signed_in_ana(&one).await;
        let (mut here, mut there) = (Listener::of(&one), Listener::of(&other));
        // Whatever was said before is not what this is about.
        tokio::time::sleep(Duration::from_millis(200)).await;
        there.heard();

        assert!(
            one.end_session(session.id, logout(), &Trail::default())
                .await
                .unwrap()
        );
        let ended = Change::SessionEnded(EndedSession {
            id: session.id,
            user: ana.id,
            end: logout(),
        });
        assert_eq!(there.next(SOON).await, Some(ended));
        // By now an echo would have come back, too.
        let change = ProfileChange {
            first_name: None,
            last_name: None,
        };
        other
            .update_profile(ana.id, &change, &Trail::default())
            .await
            .unwrap();
        assert_eq!(there.next(SOON).await, Some(Change::UserChanged(ana.id)));
        assert_eq!(here.next(SOON).await, Some(ended));
        assert_eq!(here.next(SOON).await, Some(Change::UserChanged(ana.id)));
        assert_eq!(here.heard(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn nothing_is_lost_of_what_many_do_at_once() {
    let database = Database::new().await;
    for (one, other) in pairs(&database).await {
        let ana = match one.find_credentials("ana").await.unwrap() {
            Some(found) => found.user,
            None => signed_in_ana(&one).await.0,
        };
        let mut sessions = Vec::new();
        for _ in 0..40 {
            sessions.push(sign_in(&one, &ana).await.id);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut there = Listener::of(&other);
        let one = Arc::new(one);
        let mut ending = JoinSet::new();
        for session in sessions.clone() {
            let one = Arc::clone(&one);
            ending.spawn(async move {
                one.end_session(session, logout(), &Trail::default())
                    .await
                    .unwrap()
            });
        }
        assert!(ending.join_all().await.into_iter().all(|ended| ended));
        let mut heard = Vec::new();
        while heard.len() < sessions.len() {
            match there.next(SOON).await {
                Some(Change::SessionEnded(ended)) => heard.push(ended.id),
                other => panic!("{other:?} after {} of them", heard.len()),
            }
        }
        heard.sort_unstable();
        sessions.sort_unstable();
        assert_eq!(heard, sessions);
    }
}

/// Whoever looks cannot go by the rows' numbers: one that was written first may be committed last.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn what_was_written_first_and_committed_last_is_found_by_those_who_look() {
    let database = Database::new().await;
    let store = open(&database.options().pooled(true)).await;
    let mut told = Listener::of(&store);
    let (slow, connection) = tokio_postgres::connect(database.url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let write = |number: u32| {
        format!("INSERT INTO countersign_change (origin, said) VALUES (0, 'user_changed {number}')")
    };
    slow.batch_execute(&format!("BEGIN; {}", write(1)))
        .await
        .unwrap();
    database.ask(&write(2)).await;
    assert_eq!(told.next(SOON).await, Some(Change::UserChanged(UserId(2))));
    tokio::time::sleep(Duration::from_millis(200)).await;
    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!(told.next(SOON).await, Some(Change::UserChanged(UserId(1))));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(told.heard(), [], "it was told twice");
}

/// No trigger of ours is on Django's table.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn what_another_program_does_to_users_is_noticed() {
    // On a server where nobody else does anything.
    let server = Server::new();
    let url = server.url("postgres");
    for pooled in [false, true] {
        let options = options(&url).users_age(Duration::from_secs(3));
        let store = open(&options.pooled(pooled)).await;
        let mut told = Listener::of(&store);
        // What opening it wrote is noticed by now.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        told.heard();
        assert_eq!(told.next(Duration::from_millis(1_500)).await, None);
        let insert = "INSERT INTO auth_user (password, is_superuser, username, first_name,
                 last_name, email, is_staff, is_active, date_joined)
             VALUES ('!', false, gen_random_uuid()::text, '', '', '', false, true, now())";
        // The second one so soon that it must wait for its turn.
        for _ in 0..2 {
            ask(&url, insert).await;
            assert_eq!(told.next(SOON).await, Some(Change::UsersChanged));
        }
    }
}

fn deactivation(user: &User) -> AccountChange {
    AccountChange {
        mail: None,
        user: user.id,
        kind: AccountChangeKind::Active(false),
        ending: EndedAt {
            at: start(),
            by: EndedBy::Service,
        },
        trail: Trail::default(),
    }
}

async fn live_sessions(store: &PostgresStore, user: &User) -> usize {
    let query = SessionQuery {
        user: Some(user.id),
        live: true,
        after: None,
        limit: 100,
    };
    store
        .list_sessions(&query)
        .await
        .expect("the store works")
        .len()
}

/// A statement does not see what was committed while it waited for a lock: whoever ends sessions by
/// what it saw before it waited misses one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn no_login_slips_through_a_deactivation() {
    let database = Database::new().await;
    let (one, other) = (database.store().await, database.store().await);
    let (ana, _) = signed_in_ana(&*one).await;
    for round in 0..40 {
        let activation = AccountChange {
            mail: None,
            kind: AccountChangeKind::Active(true),
            ..deactivation(&ana)
        };
        one.change_account(&activation).await.unwrap().unwrap();
        let mut logins = JoinSet::new();
        for _ in 0..4 {
            let (one, opening) = (Arc::clone(&one), opening(&ana));
            logins.spawn(async move { one.open_session(&opening).await.unwrap() });
        }
        tokio::time::sleep(Duration::from_micros(100 * round)).await;
        other.change_account(&deactivation(&ana)).await.unwrap();
        logins.join_all().await;
        assert_eq!(live_sessions(&one, &ana).await, 0, "in round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn logins_at_once_on_two_nodes_leave_no_more_sessions_than_allowed() {
    let database = Database::new().await;
    let (one, other) = (database.store().await, database.store().await);
    let (ana, _) = signed_in_ana(&*one).await;
    let mut logins = JoinSet::new();
    for index in 0..24 {
        let node = Arc::clone(if index % 2 == 0 { &one } else { &other });
        let opening = OpenSession {
            most: NonZeroU32::new(3),
            ..opening(&ana)
        };
        logins.spawn(async move { node.open_session(&opening).await.unwrap() });
    }
    logins.join_all().await;
    assert_eq!(live_sessions(&one, &ana).await, 3);
}

/// What was done must be told to those who keep a copy, whoever is left to wait for the answer.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_transition_whose_caller_goes_away_is_finished_and_told() {
    let database = Database::new().await;
    let store = database.open().await;
    let (_, session) = signed_in_ana(&store).await;
    let mut told = Listener::of(&store);
    let trail = Trail::default();
    let ending = store.end_session(session.id, logout(), &trail);
    // Long enough to have begun, and not to be done.
    let gone = tokio::time::timeout(Duration::from_micros(1), ending).await;
    let heard = told.next(SOON).await;
    assert!(
        matches!(heard, Some(Change::SessionEnded(ended)) if ended.id == session.id),
        "{heard:?}, {gone:?}"
    );
    assert_eq!(end_of(&store, session.id).await, Some(EndReason::Logout));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn the_clock_is_the_databases() {
    let database = Database::new().await;
    let store = database.open().await;
    let clock = store.clock();
    let before = clock.now();
    let told = database
        .ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        .await;
    let after = clock.now();
    let told = Timestamp::from_microsecond(told[0].parse().unwrap()).unwrap();
    // To the millisecond that a clock is cut to, and what the answer's way may hide.
    let slack = jiff::SignedDuration::from_millis(50);
    assert!(before - slack <= told && told <= after + slack);
}
