//! `POST /users/refresh_token`, end to end and durable, against the store's own rotations.
//!
//! `cargo bench -p countersign --bench refresh_route`. The server has as many threads as there are
//! cores; the writer of the store and the load generator, our own and of one thread (see
//! `support/load.rs`), share them.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/figures.rs"]
mod figures;
#[path = "support/load.rs"]
mod load;
#[path = "support/refreshes.rs"]
mod refreshes;
#[path = "support/service.rs"]
mod service;

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use countersign::core::auth::{Auth, Grant};
use countersign::core::clock::{Clock as _, SystemClock};
use countersign::core::password::HashingSettings;
use countersign::core::session::{Generation, SessionId};
use countersign::core::store::{Rotation, SharedStore};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::figures::{Effort, cores, median};
use crate::load::{Answer, Caller, Conversation, drive};
use crate::refreshes::Refreshes;
use crate::service::{Disk, SERVER_THREADS, Server, Service, runtime};

/// How many clients there are at a time.
const CLIENTS: [usize; 3] = [1, 32, 64];

/// The writer's name, as far as Linux keeps it.
const WRITER_THREAD: &str = "countersign-sql";

fn main() {
    let effort = Effort::asked();
    effort.announce(&format!(
        "POST /users/refresh_token, SQLite, synchronous=FULL, {} server threads; load generator: \
         our own, one thread",
        cores()
    ));
    let own = runtime(cores());
    service::log();
    let disk = Disk::new();
    let store = disk.store();
    let start = Service::start(Arc::clone(&store), HashingSettings::CHEAP, 1);
    let service = own.block_on(start);
    let server = Server::start(service.router.clone(), cores());
    let mut sizes = CLIENTS.map(|clients| {
        let sign_in = || own.block_on(service.sign_in(0));
        Size {
            clients,
            steps: (0..clients)
                .map(|_| own.block_on(step(&service, &sign_in())))
                .collect(),
            callers: (0..clients)
                .map(|_| {
                    let grant = sign_in();
                    let (token, csrf_token) = (grant.refresh_token, grant.csrf_token);
                    let refreshes = Refreshes::of(token.as_str(), csrf_token.as_str());
                    Caller::connect(server.address, refreshes, true)
                })
                .collect(),
            rounds: Vec::new(),
        }
    });
    let bare = Server::start(Router::new().route("/", get(async || "")), cores());
    let mut nothing = [Caller::connect(bare.address, Nothing, true)];
    let grant = own.block_on(service.sign_in(0));
    let rotating = rotating_route(&store, own.block_on(step(&service, &grant)));
    let rotating = Server::start(rotating, cores());
    let mut rotations = [Caller::connect(rotating.address, Nothing, true)];
    let (mut bare_rotations, mut syncs, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    let (mut replays, mut refreshes) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        syncs.push(sync_time(effort.turn / 10));
        empty.push(1e6 / drive(&mut nothing, effort.turn / 10));
        bare_rotations.push(1e6 / drive(&mut rotations, effort.turn / 2));
        replays.push(own.block_on(replay_time(&service, effort.turn / 10)));
        let start = own.block_on(service.sign_in(0));
        let refresh = refresh_time(Arc::clone(&service.auth), start, effort.turn / 2);
        refreshes.push(own.block_on(own.spawn(refresh)).unwrap());
        for size in &mut sizes {
            let store = rotate(&own, &store, &mut size.steps, effort.turn);
            let (server_before, writer_before) = spent();
            let start = Instant::now();
            let route = drive(&mut size.callers, effort.turn);
            let (server, writer) = spent();
            let share = |spent: Duration| spent.as_secs_f64() / start.elapsed().as_secs_f64();
            size.rounds.push(Round {
                store,
                route,
                server: share(server.saturating_sub(server_before)),
                writer: share(writer.saturating_sub(writer_before)),
            });
        }
    }
    print(&sizes);
    println!();
    for (what, microseconds) in [
        ("one write and fdatasync on this disk", syncs),
        ("a bare route on one connection", empty),
        ("a bare route that rotates, one connection", bare_rotations),
        ("Auth::refresh without a write (a replay)", replays),
        ("Auth::refresh, one client and no socket", refreshes),
    ] {
        println!("{what:42} {:>6.0} µs", median(microseconds));
    }
}

/// The clients of one number.
struct Size {
    clients: usize,
    steps: Vec<Step>,
    callers: Vec<Caller<Refreshes>>,
    rounds: Vec<Round>,
}

struct Round {
    store: f64,
    route: f64,
    /// Cores that the server's threads kept busy.
    server: f64,
    /// Cores that the store's writer kept busy.
    writer: f64,
}

fn spent() -> (Duration, Duration) {
    (
        cpu::of_threads(SERVER_THREADS),
        cpu::of_threads(WRITER_THREAD),
    )
}

/// Where a session stands that is rotated without HTTP.
#[derive(Clone, Copy)]
struct Step {
    session: SessionId,
    generation: Generation,
}

impl Step {
    fn rotation(self) -> Rotation {
        Rotation {
            session: self.session,
            from: self.generation,
            at: SystemClock.now(),
        }
    }
}

async fn step(service: &Service, grant: &Grant) -> Step {
    let nobody = countersign::core::audit::Caller::default();
    let current = service
        .auth
        .authenticate(grant.access_token.as_str(), &nobody)
        .await;
    Step {
        session: current.unwrap().session(),
        generation: Generation::FIRST,
    }
}

/// Rotations per second, one task for each session.
fn rotate(runtime: &Runtime, store: &SharedStore, steps: &mut [Step], turn: Duration) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = steps
        .iter()
        .map(|step| {
            let (store, mut step) = (Arc::clone(store), *step);
            runtime.spawn(async move {
                let mut rotations = 0_u32;
                while start.elapsed() < turn {
                    let rotation = step.rotation();
                    assert!(store.rotate(&rotation).await.unwrap());
                    step.generation = rotation.from.next();
                    rotations += 1;
                }
                (step, rotations)
            })
        })
        .collect();
    let mut all = 0;
    for (step, task) in steps.iter_mut().zip(tasks) {
        let (moved, rotations) = runtime.block_on(task).unwrap();
        *step = moved;
        all += rotations;
    }
    f64::from(all) / start.elapsed().as_secs_f64()
}

/// A bare route with nothing in it but the store's rotation: what HTTP over a durable write costs,
/// whoever does it.
fn rotating_route(store: &SharedStore, step: Step) -> Router {
    let state = (Arc::clone(store), Arc::new(Mutex::new(step)));
    let rotate = async |State((store, step)): State<(SharedStore, Arc<Mutex<Step>>)>| {
        let mut step = step.lock().await;
        let rotation = step.rotation();
        assert!(store.rotate(&rotation).await.unwrap());
        step.generation = rotation.from.next();
        ""
    };
    Router::new().route("/", get(rotate)).with_state(state)
}

/// All of a refresh but the write, in microseconds: a token that was just superseded is answered
/// with its successor and a new access token.
async fn replay_time(service: &Service, turn: Duration) -> f64 {
    let superseded = service.sign_in(0).await;
    let refresh_token = superseded.refresh_token.as_str();
    let csrf_token = Some(superseded.csrf_token.as_str());
    let nobody = countersign::core::audit::Caller::default();
    let (start, mut replays) = (Instant::now(), 0_u32);
    while start.elapsed() < turn || replays == 0 {
        let answer = service
            .auth
            .refresh(refresh_token, csrf_token, &nobody)
            .await;
        drop(black_box(answer.unwrap()));
        replays += 1;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(replays)
}

/// One refresh after the other, in microseconds.
async fn refresh_time(auth: Arc<Auth>, mut grant: Grant, turn: Duration) -> f64 {
    let nobody = countersign::core::audit::Caller::default();
    let (start, mut refreshes) = (Instant::now(), 0_u32);
    while start.elapsed() < turn {
        let refresh_token = grant.refresh_token.as_str();
        let next = auth.refresh(refresh_token, Some(grant.csrf_token.as_str()), &nobody);
        grant = next.await.unwrap();
        refreshes += 1;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(refreshes)
}

/// Someone who asks for nothing.
struct Nothing;

impl Conversation for Nothing {
    fn request(&mut self) -> Option<&[u8]> {
        Some(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}

fn print(sizes: &[Size]) {
    println!(
        "{:>7} {:>12} {:>12} {:>7} {:>10} {:>10} {:>9} {:>12} {:>12}",
        "clients",
        "store/s",
        "route/s",
        "ratio",
        "store µs",
        "route µs",
        "over µs",
        "server cores",
        "writer cores"
    );
    for Size {
        clients, rounds, ..
    } in sizes
    {
        let over = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value));
        let waits = f64::from(u32::try_from(*clients).unwrap()) * 1e6;
        println!(
            "{clients:>7} {:>12.0} {:>12.0} {:>7.3} {:>10.0} {:>10.0} {:>9.0} {:>12.2} {:>12.2}",
            over(&|round| round.store),
            over(&|round| round.route),
            over(&|round| round.route / round.store),
            over(&|round| waits / round.store),
            over(&|round| waits / round.route),
            over(&|round| waits / round.route - waits / round.store),
            over(&|round| round.server),
            over(&|round| round.writer),
        );
    }
}

/// What the disk takes to make a page durable, in microseconds.
fn sync_time(turn: Duration) -> f64 {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut file = File::create(directory.path().join("page")).unwrap();
    let (start, mut syncs) = (Instant::now(), 0_u32);
    while start.elapsed() < turn || syncs == 0 {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(syncs)
}
