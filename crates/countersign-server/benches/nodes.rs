//! Several nodes over one PostgreSQL: how soon what one ends is refused by another, what a refresh costs
//! over the bare statement, and whether more nodes answer more.
//!
//! `cargo bench -p countersign-server --bench nodes`; `TMPDIR` says on which disk the throw-away server is.
//! The nodes are release programs, the load generator is our own and sleeps while it waits; all of them,
//! and PostgreSQL, share the cores. So what more nodes bring is told by the time that they spend on a core
//! for each answer.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

#[path = "../../countersign-sql/benches/support/bare_pool.rs"]
#[expect(dead_code, reason = "the store's own bench reads as well")]
mod bare_pool;
#[path = "../../countersign/benches/support/cpu.rs"]
#[expect(dead_code, reason = "others look at threads of their own")]
mod cpu;
#[path = "support/delays.rs"]
mod delays;
#[path = "../../countersign/benches/support/figures.rs"]
mod figures;
#[path = "../tests/program/harness.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod harness;
#[path = "../../countersign/benches/support/load.rs"]
mod load;
#[path = "../../countersign/benches/support/refreshes.rs"]
mod refreshes;
#[path = "../../countersign-sql/tests/postgres/server.rs"]
#[expect(dead_code, reason = "the store's own tests use all of it")]
mod server;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::bare_pool::BarePool;
use crate::delays::{Delays, Seen, until_refused};
use crate::figures::{Effort, median};
use crate::harness::{LOGOUT, Line, PASSWORD, Place, SignedIn};
use crate::load::{Answer, Caller, Conversation, drive};
use crate::refreshes::Refreshes;
use crate::server::Server;

/// Ends in a round.
const ENDS: usize = 50;

/// How many clients there are at a time.
const CLIENTS: [usize; 3] = [1, 32, 64];

/// How many connections to PostgreSQL transitions have: a node's, and the bare statement's.
const CONNECTIONS: usize = 8;

/// Who asks all the time who they are.
const READERS: usize = 32;

const SECRET: (&str, &str) = (
    "COUNTERSIGN_SECRET",
    "7Jq0m1hXo2TnWc5vY8bKd3RfGs6Lp9Ze4AuQxVyN0iE=",
);

fn main() {
    let effort = Effort::asked();
    effort.announce("three times countersign serve over one PostgreSQL, fsync on");
    let server = Server::new();
    let nodes: [Node; 3] = std::array::from_fn(|_| Node::start(&server));
    nodes[0].add_user();

    println!("{ENDS} ends in each round, in milliseconds:\n");
    let mut delays = [Delays::default(), Delays::default()];
    for _ in 0..effort.rounds {
        for _ in 0..ENDS {
            delays[0].note(&end(&nodes[0], &nodes[0]));
            delays[1].note(&end(&nodes[0], &nodes[1]));
        }
    }
    let [here, there] = delays;
    assert_eq!(here.accepted, 0, "the next request is refused");
    here.print("the node that ended it");
    there.print("another node");

    refreshes_against_the_bare_statement(&server, &nodes[0], effort);
    readers_of_more_and_more_nodes(&nodes, effort);
}

/// A node that runs.
struct Node {
    place: Place,
    service: harness::Service,
}

impl Node {
    fn start(server: &Server) -> Self {
        let place = Place::new();
        let url = server.url("postgres");
        place.settings(&format!(
            "database.url = \"{url}\"\n\
             database.pool_size = {CONNECTIONS}\n\
             tokens.issuer = \"http://auth.test\"\n\
             password.argon2.memory = \"7MiB\"\n\
             password.argon2.passes = 5\n\
             tokens.access_lifetime = \"1h\"\n\
             throttle.refresh = \"100000 then 1ms\"\n\
             log.level = \"error\""
        ));
        let owner_alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(place.path("countersign.toml"), owner_alone).unwrap();
        let service = place.serve_with(&[SECRET]);
        Self { place, service }
    }

    fn add_user(&self) {
        let words = ["createsuperuser", "--username", "ana", "--no-input"];
        let variables = [SECRET, ("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD)];
        let said = self.place.run_with(&variables, &words);
        assert_eq!(said.status, Some(0), "{said:?}");
    }

    fn sign_in(&self) -> SignedIn {
        SignedIn::new(self.place.port, "ana")
    }

    fn line(&self) -> Line {
        Line::connect(self.place.port).unwrap()
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.place.port).into()
    }

    /// The time that it has spent on a core.
    fn on_cpu(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.service.id());
        let tasks = fs::read_dir(tasks).unwrap().flatten();
        tasks
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .map(|schedstat| cpu::on_cpu(&schedstat))
            .sum()
    }
}

/// From the answer to a logout on one node until a node refuses the access token.
fn end(ended_by: &Node, seen_by: &Node) -> Seen {
    let who = ended_by.sign_in();
    let (mut one, mut other) = (ended_by.line(), seen_by.line());
    let mut is_refused = || {
        let reply = other.ask("GET /users/user", &who.bearer(), "").unwrap();
        if reply.status != 200 {
            reply.refused(401, "session_ended");
        }
        reply.status != 200
    };
    assert!(!is_refused());
    let reply = one.ask(LOGOUT, &who.cookies(), "").unwrap();
    let ended = Instant::now();
    assert_eq!(reply.status, 204, "{reply:?}");
    until_refused(ended, is_refused)
}

/// Refreshes per second through HTTP, and rotations by the bare statement, in turn.
fn refreshes_against_the_bare_statement(server: &Server, node: &Node, effort: Effort) {
    let runtime = Runtime::new().unwrap();
    let pool = runtime.block_on(BarePool::open(&server.url("postgres"), CONNECTIONS));
    println!(
        "\n{:>7} {:>12} {:>12} {:>7}   POST /users/refresh_token, one node",
        "clients", "bare/s", "route/s", "ratio"
    );
    for clients in CLIENTS {
        let mut callers: Vec<_> = (0..clients)
            .map(|_| {
                let who = node.sign_in();
                let refreshes = Refreshes::of(&who.cookie, &who.csrf);
                Caller::connect(node.address(), refreshes, true)
            })
            .collect();
        let mut bare: Vec<_> = (0..clients).map(|_| (node.sign_in(), 0)).collect();
        let mut rounds = Vec::new();
        for _ in 0..effort.rounds {
            let statement = runtime.block_on(rotate(&pool, &mut bare, effort.turn));
            let route = drive(&mut callers, effort.turn);
            rounds.push((statement, route));
        }
        let over = |value: fn(&(f64, f64)) -> f64| median(rounds.iter().map(value));
        println!(
            "{clients:>7} {:>12.0} {:>12.0} {:>7.3}",
            over(|(statement, _)| *statement),
            over(|(_, route)| *route),
            over(|(statement, route)| route / statement),
        );
    }
}

/// Every session rotated again and again for so long; how often all together in a second.
async fn rotate(pool: &Arc<BarePool>, sessions: &mut [(SignedIn, u32)], turn: Duration) -> f64 {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, (who, generation)) in sessions.iter().enumerate() {
        let (pool, session, first) = (Arc::clone(pool), who.session.parse().unwrap(), *generation);
        tasks.spawn(async move {
            let mut next = first;
            while start.elapsed() < turn {
                pool.rotate(session, next).await;
                next += 1;
            }
            (index, next)
        });
    }
    let mut rotations = 0;
    for (index, next) in tasks.join_all().await {
        rotations += next - sessions[index].1;
        sessions[index].1 = next;
    }
    f64::from(rotations) / start.elapsed().as_secs_f64()
}

/// Somebody who asks the same all the time.
struct Asks(String);

impl Conversation for Asks {
    fn request(&mut self) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}

/// `GET /users/user` over one node, over two, over three.
fn readers_of_more_and_more_nodes(nodes: &[Node; 3], effort: Effort) {
    println!(
        "\n{:>7} {:>12} {:>16}   GET /users/user, {READERS} connections",
        "nodes", "per second", "per core second"
    );
    let who = nodes[0].sign_in();
    let request = format!(
        "GET /users/user HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\r\n",
        who.access
    );
    let mut variants: Vec<_> = (1..=nodes.len())
        .map(|count| {
            let asked = nodes.iter().take(count).cycle().take(READERS);
            let callers: Vec<_> = asked
                .map(|node| Caller::connect(node.address(), Asks(request.clone()), true))
                .collect();
            (count, callers, Vec::new())
        })
        .collect();
    // Whatever is met for the first time.
    thread::sleep(Duration::from_millis(100));
    for (_, callers, _) in &mut variants {
        drive(callers, effort.turn / 10);
    }
    for _ in 0..effort.rounds {
        for (count, callers, rounds) in &mut variants {
            let on_cpu = || -> Duration { nodes[..*count].iter().map(Node::on_cpu).sum() };
            let (before, start) = (on_cpu(), Instant::now());
            let per_second = drive(callers, effort.turn);
            let answers = per_second * start.elapsed().as_secs_f64();
            let spent = on_cpu().saturating_sub(before).as_secs_f64();
            rounds.push((per_second, answers / spent));
        }
    }
    for (count, _, rounds) in variants {
        println!(
            "{count:>7} {:>12.0} {:>16.0}",
            median(rounds.iter().map(|(per_second, _)| *per_second)),
            median(rounds.iter().map(|(_, per_core)| *per_core)),
        );
    }
}
