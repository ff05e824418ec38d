//! Durable rotations and point reads in PostgreSQL, as ratios to the bare statements on a pool of as
//! many connections; and how long an end takes to be heard of on another node.
//!
//! `cargo bench -p countersign-sql --bench rotate_postgres`; `TMPDIR` says on which disk the
//! throw-away server is. Rounds of each kind alternate, and what is printed are their medians.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::clock::SystemRandomness;
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, Generation, Session, SessionEnd, SessionId};
use countersign_core::store::{Change, Listener, OpenSession, Rotation, Store};
use countersign_core::user::{Email, NewUser, PersonName, Username};
use countersign_sql::{PostgresOptions, PostgresStore};
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::bare_pool::BarePool;

#[path = "support/bare_pool.rs"]
mod bare_pool;
#[path = "../tests/postgres/server.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod server;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const CLIENTS: [usize; 2] = [1, 32];
const CONNECTIONS: usize = 8;

fn main() {
    let server = server::Server::new();
    let url = server.url("postgres");
    let runtime = Runtime::new().expect("a runtime");
    let options = PostgresOptions::new(&url).expect("a good URL");
    let options = options.pool_size(CONNECTIONS);
    let store = runtime
        .block_on(async { Arc::new(PostgresStore::open(&options).await.expect("a database")) });
    let sessions = runtime.block_on(fill(&store));
    let pool = runtime.block_on(BarePool::open(&url, CONNECTIONS));

    let mut rates: Vec<(String, Vec<f64>)> = Vec::new();
    for clients in CLIENTS {
        for what in ["rotate, bare", "rotate", "read, bare", "read"] {
            rates.push((format!("{what}, {clients} clients"), Vec::new()));
        }
    }
    for _ in 0..ROUNDS {
        let mut kinds = rates.iter_mut().map(|(_, rates)| rates);
        let mut note = |rate| kinds.next().expect("one for each").push(rate);
        for clients in CLIENTS {
            let sessions = &sessions[..clients];
            note(
                runtime.block_on(round(sessions, &pool, |pool, session| async move {
                    pool.rotate(session.id, session.next()).await;
                })),
            );
            note(
                runtime.block_on(round(sessions, &store, |store, session| async move {
                    session.rotate(&store).await;
                })),
            );
            note(
                runtime.block_on(round(sessions, &pool, |pool, session| async move {
                    pool.read(session.id).await;
                })),
            );
            note(
                runtime.block_on(round(sessions, &store, |store, session| async move {
                    let found = store.find_session(session.id).await;
                    assert!(found.expect("the store works").is_some());
                })),
            );
        }
    }
    println!("{:36} {:>12} {:>10}", "", "per second", "to bare");
    let mut bare = 0.0;
    for (index, (what, mut rates)) in rates.into_iter().enumerate() {
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        if index.is_multiple_of(2) {
            bare = median;
        }
        println!("{what:36} {median:>12.0} {:>9.2}x", median / bare);
    }
    for (how, options) in [
        ("listening", options.clone()),
        ("looking", options.pooled(true)),
    ] {
        let mut delays = runtime.block_on(delays(&store, &options, &sessions));
        delays.sort_unstable();
        let at = |hundredth: usize| delays[(delays.len() - 1) * hundredth / 100];
        println!(
            "an end is heard, {how}: median {:?}, p99 {:?}",
            at(50),
            at(99)
        );
    }
}

/// From an end's answer on one node to when another has heard of it; zero if it was faster.
async fn delays(
    one: &PostgresStore,
    options: &PostgresOptions,
    sessions: &[Arc<Rotating>],
) -> Vec<Duration> {
    let other = PostgresStore::open(options).await.expect("a database");
    let mut there = Listener::of(&other);
    let mut delays = Vec::new();
    for session in sessions {
        let end = SessionEnd {
            reason: EndReason::Logout,
            at: Timestamp::UNIX_EPOCH,
            by: EndedBy::Service,
        };
        let ended = one.end_session(session.id, end, &Trail::default()).await;
        if !ended.expect("the store works") {
            continue;
        }
        let answered = Instant::now();
        loop {
            match there.next(Duration::from_secs(5)).await {
                Some(Change::SessionEnded(ended)) if ended.id == session.id => break,
                heard => assert!(heard.is_some(), "not heard"),
            }
        }
        delays.push(answered.elapsed());
        if delays.len() == 300 {
            break;
        }
    }
    delays
}

/// A session of one client's.
struct Rotating {
    id: SessionId,
    generation: AtomicU32,
}

impl Rotating {
    /// The generation that is to be rotated.
    fn next(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }

    async fn rotate(&self, store: &PostgresStore) {
        let rotation = Rotation {
            session: self.id,
            from: Generation(self.next()),
            at: Timestamp::UNIX_EPOCH,
        };
        assert!(store.rotate(&rotation).await.expect("the store works"));
    }
}

/// What all clients do together, per second.
async fn round<Shared, Doing>(
    sessions: &[Arc<Rotating>],
    shared: &Arc<Shared>,
    what: fn(Arc<Shared>, Arc<Rotating>) -> Doing,
) -> f64
where
    Shared: Send + Sync + 'static,
    Doing: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for session in sessions {
        let (session, shared) = (Arc::clone(session), Arc::clone(shared));
        clients.spawn(async move {
            let mut count = 0_u32;
            while start.elapsed() < ROUND {
                what(Arc::clone(&shared), Arc::clone(&session)).await;
                count += 1;
            }
            count
        });
    }
    let done: u32 = clients.join_all().await.into_iter().sum();
    f64::from(done) / start.elapsed().as_secs_f64()
}

async fn fill(store: &PostgresStore) -> Vec<Arc<Rotating>> {
    let now = Timestamp::from_second(1_795_341_600).expect("a date in 2026");
    let password = EncodedPassword::new("argon2$bench");
    let user = NewUser {
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        username: Username::parse("ana").expect("a good name"),
        email: Email::parse("ana@example.org").expect("a good address"),
        password: password.clone(),
        is_staff: false,
        is_superuser: false,
        date_joined: now,
    };
    let user_id = store
        .create_user(&user, &Trail::default())
        .await
        .expect("made")
        .id;
    let mut sessions = Vec::new();
    for _ in 0..2_000 {
        let id = SessionId::new(now, &SystemRandomness);
        let opening = OpenSession {
            session: Session {
                id,
                user_id,
                generation: Generation::FIRST,
                opened_at: now,
                rotated_at: now,
                remember: true,
                address: Some("2001:db8::1".parse().expect("an address")),
                user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:145.0)".to_owned()),
                end: None,
            },
            verified: password.clone(),
            upgraded: None,
            replaced: None,
            most: None,
            trail: Trail::default(),
        };
        store.open_session(&opening).await.expect("opened");
        sessions.push(Arc::new(Rotating {
            id,
            generation: AtomicU32::new(0),
        }));
    }
    sessions
}
