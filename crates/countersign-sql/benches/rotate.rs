//! Durable rotations and point reads, as ratios to a bare connection on the same disk.
//!
//! `cargo bench -p countersign-sql --bench rotate`; `COUNTERSIGN_BENCH_DIRECTORY` says on which
//! disk. Rounds of each kind alternate, and what is printed are their medians.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::clock::SystemRandomness;
use countersign_core::password::EncodedPassword;
use countersign_core::session::{Generation, Session, SessionId};
use countersign_core::store::{OpenSession, Rotation, Store};
use countersign_core::user::{Email, NewUser, PersonName, UserId, Username};
use countersign_sql::{SqliteOptions, SqliteStore};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const SESSIONS: usize = 10_000;

fn main() {
    let place =
        env::var_os("COUNTERSIGN_BENCH_DIRECTORY").map_or_else(env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(place).expect("a directory");
    let path = directory.path().join("countersign.db");
    let runtime = Runtime::new().expect("a runtime");
    let store = Arc::new(SqliteStore::open(&SqliteOptions::new(&path)).expect("a database"));
    let sessions: Arc<[SessionId]> = runtime.block_on(fill(&store)).into();

    // Each client rotates a session of its own, and goes on where the round before it stopped.
    let mut generations = [0; 33];
    let mut bare_generation = 0;
    let kinds = [
        "rotate, bare, one transaction each",
        "rotate, 1 client",
        "rotate, 32 clients",
        "find_session, bare statement",
        "find_session, 1 client",
        "find_session, 32 clients",
    ];
    let mut rates = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        rates[0].push(bare_rotations(&path, sessions[100], &mut bare_generation));
        rates[1].push(rotations(
            &runtime,
            &store,
            &sessions[32..33],
            &mut generations[32..],
        ));
        rates[2].push(rotations(
            &runtime,
            &store,
            &sessions[..32],
            &mut generations[..32],
        ));
        rates[3].push(bare_reads(&path, &sessions));
        rates[4].push(reads(&runtime, &store, &sessions, 1));
        rates[5].push(reads(&runtime, &store, &sessions, 32));
    }
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("{:36} {:>12} {:>10}", "", "per second", "to bare");
    for (index, (kind, rate)) in kinds.iter().zip(medians).enumerate() {
        let bare = medians[index / 3 * 3];
        println!("{kind:36} {rate:>12.0} {:>9.2}x", rate / bare);
    }
}

async fn fill(store: &Arc<SqliteStore>) -> Vec<SessionId> {
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
    let user = store
        .create_user(&user, &Trail::default())
        .await
        .expect("made")
        .id;
    let ids: Vec<SessionId> = (0..SESSIONS)
        .map(|_| SessionId::new(now, &SystemRandomness))
        .collect();
    for ids in ids.chunks(500) {
        let mut openings = JoinSet::new();
        for id in ids {
            let session = session(*id, user, now);
            let (store, verified) = (Arc::clone(store), password.clone());
            let opening = OpenSession {
                session,
                verified,
                upgraded: None,
                replaced: None,
                most: None,
                trail: Trail::default(),
            };
            openings.spawn(async move { store.open_session(&opening).await.expect("opened") });
        }
        openings.join_all().await;
    }
    ids
}

fn session(id: SessionId, user_id: UserId, now: Timestamp) -> Session {
    Session {
        id,
        user_id,
        generation: Generation::FIRST,
        opened_at: now,
        rotated_at: now,
        remember: true,
        address: Some("2001:db8::1".parse().expect("an address")),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101".to_owned()),
        end: None,
    }
}

/// Rotations of all clients together, per second.
fn rotations(
    runtime: &Runtime,
    store: &Arc<SqliteStore>,
    sessions: &[SessionId],
    generations: &mut [u32],
) -> f64 {
    let start = Instant::now();
    let done = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for (client, (session, generation)) in sessions.iter().zip(&*generations).enumerate() {
            let (store, session, first) = (Arc::clone(store), *session, *generation);
            clients.spawn(async move {
                let mut generation = first;
                while start.elapsed() < ROUND {
                    let rotation = Rotation {
                        session,
                        from: Generation(generation),
                        at: Timestamp::UNIX_EPOCH,
                    };
                    assert!(store.rotate(&rotation).await.expect("the store works"));
                    generation += 1;
                }
                (client, generation)
            });
        }
        clients.join_all().await
    });
    let elapsed = start.elapsed();
    let mut count = 0;
    for (client, generation) in done {
        count += generation - generations[client];
        generations[client] = generation;
    }
    f64::from(count) / elapsed.as_secs_f64()
}

/// The same statement on a connection of its own.
fn bare_rotations(path: &Path, session: SessionId, generation: &mut u32) -> f64 {
    let connection = Connection::open(path).expect("the database opens");
    connection
        .pragma_update(None, "synchronous", "FULL")
        .expect("a known setting");
    let mut statement = connection
        .prepare(
            "UPDATE countersign_session SET generation = ?3, rotated_at = ?4
             WHERE id = ?1 AND generation = ?2 AND ended_at IS NULL
                 AND EXISTS (SELECT 1 FROM auth_user WHERE auth_user.id = user_id AND is_active)",
        )
        .expect("a good statement");
    let start = Instant::now();
    let before = *generation;
    while start.elapsed() < ROUND {
        let id = session.0.as_bytes().as_slice();
        let changed = statement.execute(params![id, *generation, *generation + 1, 0]);
        assert_eq!(changed, Ok(1));
        *generation += 1;
    }
    f64::from(*generation - before) / start.elapsed().as_secs_f64()
}

/// Reads of all clients together, per second.
fn reads(
    runtime: &Runtime,
    store: &Arc<SqliteStore>,
    sessions: &Arc<[SessionId]>,
    clients: usize,
) -> f64 {
    let start = Instant::now();
    let done = runtime.block_on(async {
        let mut reading = JoinSet::new();
        for client in 0..clients {
            let (store, sessions) = (Arc::clone(store), Arc::clone(sessions));
            reading.spawn(async move {
                let mut count = 0_u32;
                let mine = sessions.iter().cycle().skip(client * 300).step_by(7);
                for session in mine {
                    let found = store.find_session(*session).await.expect("the store works");
                    assert!(found.is_some());
                    count += 1;
                    if count.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                        if start.elapsed() >= ROUND {
                            break;
                        }
                    }
                }
                count
            });
        }
        reading.join_all().await
    });
    f64::from(done.into_iter().sum::<u32>()) / start.elapsed().as_secs_f64()
}

/// The same rows by a prepared statement, without making anything of them.
fn bare_reads(path: &Path, sessions: &[SessionId]) -> f64 {
    let connection = Connection::open(path).expect("the database opens");
    let mut statement = connection
        .prepare(
            "SELECT * FROM countersign_session
             LEFT JOIN auth_user ON auth_user.id = countersign_session.user_id
             WHERE countersign_session.id = ?1",
        )
        .expect("a good statement");
    let start = Instant::now();
    let mut count = 0_u32;
    for session in sessions.iter().cycle().step_by(7) {
        let id = session.0.as_bytes().as_slice();
        assert_eq!(statement.query_row([id], |_| Ok(())), Ok(()));
        count += 1;
        if count.is_multiple_of(64) && start.elapsed() >= ROUND {
            break;
        }
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}
