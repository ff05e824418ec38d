//! `GET /users/user` with all its checks against a bare axum route that answers the same bytes.
//!
//! `cargo bench -p countersign --bench user_route`. Both are served alike, over keep-alive
//! connections on loopback, by one thread each; the load generator is our own, on another thread of
//! this process, and never sleeps (see `support/load.rs`). While `server busy` is near 100 %, the
//! server is what was measured, and not the generator.
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
#[path = "support/service.rs"]
mod service;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use countersign::core::auth::Grant;
use countersign::core::password::HashingSettings;
use countersign::core::store::SharedStore;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tracing::subscriber::NoSubscriber;

use crate::figures::{Effort, median};
use crate::load::{Answer, Caller, Conversation, drive};
use crate::service::{Disk, SERVER_THREADS, Server, Service, runtime};

const CONNECTIONS: usize = 32;

/// Tokens made for a second of tokens that are seen for the first time: more than can be checked.
const NEW_TOKENS_PER_SECOND: u128 = 30_000;

fn main() {
    let effort = Effort::asked();
    effort.announce(&format!(
        "GET /users/user, SQLite, {CONNECTIONS} connections, one server thread; load generator: \
         our own, one thread"
    ));
    let own = runtime(1);
    service::log();
    let disk = Disk::new();
    let store = disk.store();
    let start = Service::start(Arc::clone(&store), HashingSettings::CHEAP, CONNECTIONS);
    let service = own.block_on(start);
    let people: Vec<Grant> = (0..CONNECTIONS)
        .map(|number| own.block_on(service.sign_in(number)))
        .collect();
    let usual: Vec<Vec<u8>> = people
        .iter()
        .map(|person| request(person.access_token.as_str()))
        .collect();
    let (headers, body) = own.block_on(answer_of(&service, &people[0]));

    let ours = Server::start(service.router.clone(), 1);
    let same_bytes = Server::start(bare(headers, body.clone()), 1);
    let same_body = Server::start(bare(json_only(), body), 1);

    let mut variants = [
        ("a bare route, the same bytes", &same_bytes, false),
        ("a bare route, the same body only", &same_body, false),
        ("GET /users/user", &ours, false),
        ("GET /users/user, every token new", &ours, true),
    ]
    .map(|(name, server, new_tokens)| Variant {
        name,
        new_tokens,
        callers: usual
            .iter()
            .map(|request| {
                Caller::connect(server.address, Requests::always(request.clone()), false)
            })
            .collect(),
        rounds: Vec::new(),
    });
    for _ in 0..effort.rounds {
        for variant in &mut variants {
            if variant.new_tokens {
                own.block_on(renew(&service, variant, effort.turn));
            }
            variant.drive(effort.turn);
        }
    }
    print(&variants);
    drop((ours, same_bytes, same_body));
    own.block_on(alone(&service, &store, &people[0], effort));
}

fn request(access_token: &str) -> Vec<u8> {
    format!(
        "GET /users/user HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: application/json\r\n\
         authorization: Bearer {access_token}\r\n\r\n"
    )
    .into_bytes()
}

/// Gives the callers of a variant tokens that nobody has shown yet.
///
/// A refresh token that was just superseded is answered with new access tokens, and nothing is
/// written.
async fn renew(service: &Service, variant: &mut Variant<'_>, turn: Duration) {
    let callers = variant.callers.len();
    let each = NEW_TOKENS_PER_SECOND * turn.as_millis() / 1_000 / callers as u128 + 1;
    for (number, caller) in variant.callers.iter_mut().enumerate() {
        let superseded = service.sign_in(number).await;
        let refresh_token = superseded.refresh_token.as_str();
        let csrf_token = Some(superseded.csrf_token.as_str());
        let nobody = countersign::core::audit::Caller::default();
        let mut all = Vec::new();
        for _ in 0..each {
            let grant = service
                .auth
                .refresh(refresh_token, csrf_token, &nobody)
                .await;
            all.push(request(grant.unwrap().access_token.as_str()));
        }
        caller.conversation = Requests {
            all,
            next: 0,
            again: false,
        };
    }
}

/// The answer as the router gives it.
async fn answer_of(service: &Service, person: &Grant) -> (HeaderMap, Bytes) {
    let response = service.router.clone().oneshot(as_request(person)).await;
    let (mut parts, body) = response.unwrap().into_parts();
    assert!(parts.status.is_success(), "{parts:?}");
    parts.headers.remove(header::CONTENT_LENGTH);
    (parts.headers, body.collect().await.unwrap().to_bytes())
}

fn as_request(person: &Grant) -> Request<Body> {
    let token = person.access_token.as_str();
    Request::get("/users/user")
        .header("host", "127.0.0.1:8000")
        .header("accept", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap()
}

fn json_only() -> HeaderMap {
    HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    )])
}

/// A router with one route, which answers this.
fn bare(headers: HeaderMap, body: Bytes) -> Router {
    let answer = move || {
        let answer = (headers.clone(), body.clone());
        async move { answer }
    };
    Router::new().route("/users/user", get(answer))
}

/// What a connection asks for, one after the other.
struct Requests {
    all: Vec<Vec<u8>>,
    next: usize,
    again: bool,
}

impl Requests {
    fn always(request: Vec<u8>) -> Self {
        Self {
            all: vec![request],
            next: 0,
            again: true,
        }
    }
}

impl Conversation for Requests {
    fn request(&mut self) -> Option<&[u8]> {
        if self.again {
            self.next = 0;
        }
        self.next += 1;
        self.all.get(self.next - 1).map(Vec::as_slice)
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}

struct Variant<'a> {
    name: &'a str,
    new_tokens: bool,
    callers: Vec<Caller<Requests>>,
    rounds: Vec<Round>,
}

struct Round {
    per_second: f64,
    busy: f64,
}

impl Variant<'_> {
    fn drive(&mut self, turn: Duration) {
        let (start, before) = (Instant::now(), cpu::of_threads(SERVER_THREADS));
        let per_second = drive(&mut self.callers, turn);
        let spent = cpu::of_threads(SERVER_THREADS).saturating_sub(before);
        self.rounds.push(Round {
            per_second,
            busy: spent.as_secs_f64() / start.elapsed().as_secs_f64(),
        });
    }
}

fn print(variants: &[Variant<'_>]) {
    println!(
        "{:34} {:>10} {:>7} {:>14} {:>7} {:>12}",
        "", "requests/s", "ratio", "server CPU µs", "ratio", "server busy"
    );
    let first = &variants[0].rounds;
    let cpu_time = |round: &Round| round.busy / round.per_second * 1e6;
    for Variant { name, rounds, .. } in variants {
        let of_first = |value: &dyn Fn(&Round) -> f64| {
            median(rounds.iter().zip(first).map(|(r, f)| value(r) / value(f)))
        };
        println!(
            "{name:34} {:>10.0} {:>7.3} {:>14.2} {:>7.3} {:>10.0} %",
            median(rounds.iter().map(|round| round.per_second)),
            of_first(&|round| round.per_second),
            median(rounds.iter().map(cpu_time)),
            of_first(&cpu_time),
            median(rounds.iter().map(|round| round.busy * 100.0)),
        );
    }
}

/// The same work without a socket, from the outside in.
async fn alone(service: &Service, store: &SharedStore, person: &Grant, effort: Effort) {
    let (headers, body) = answer_of(service, person).await;
    let bare = bare(headers, body);
    let token = person.access_token.as_str();
    let nobody = countersign::core::audit::Caller::default();
    let session = service
        .auth
        .authenticate(token, &nobody)
        .await
        .unwrap()
        .session();
    println!("\n{:34} {:>10}", "without a socket", "µs");
    let mut times = [const { Vec::new() }; 5];
    for _ in 0..effort.rounds {
        let turn = effort.turn / 4;
        let whole = async || oneshot(&service.router, person).await;
        times[0].push(microseconds(turn, async || oneshot(&bare, person).await).await);
        times[1].push(microseconds(turn, whole).await);
        let no_log = tracing::subscriber::set_default(NoSubscriber::default());
        times[2].push(microseconds(turn, whole).await);
        drop(no_log);
        let authenticate = async || {
            black_box(service.auth.authenticate(token, &nobody).await.unwrap());
        };
        times[3].push(microseconds(turn, authenticate).await);
        let find_session = async || {
            black_box(store.find_session(session).await.unwrap());
        };
        times[4].push(microseconds(turn, find_session).await);
    }
    let names = [
        "a bare route, the same bytes",
        "GET /users/user",
        "  the same without a log",
        "  of which Auth::authenticate",
        "    of which Store::find_session",
    ];
    for (name, times) in names.into_iter().zip(times) {
        println!("{name:34} {:>10.2}", median(times));
    }
}

async fn oneshot(router: &Router, person: &Grant) {
    let response = router.clone().oneshot(as_request(person)).await.unwrap();
    black_box(response.into_body().collect().await.unwrap().to_bytes());
}

/// What one call takes on average.
async fn microseconds(turn: Duration, call: impl AsyncFn()) -> f64 {
    let (start, mut calls) = (Instant::now(), 0_u32);
    while start.elapsed() < turn {
        for _ in 0..16 {
            call().await;
        }
        calls += 16;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}
