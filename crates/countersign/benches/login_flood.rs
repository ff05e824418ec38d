//! Hundreds of connections that try wrong passwords all the time, and what others notice of it.
//!
//! `cargo bench -p countersign --bench login_flood`. First two hundred at one account, whose counter is soon
//! full; then five hundred, each at an account of its own and with limits that hold nobody back, so that all
//! that can be hashed is. The limits of the first are the defaults, but for the refreshes of the one session
//! that is measured, which are more than any page makes. Each of the others asks about a thousand times a
//! second, on a connection of its own.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

#[path = "support/figures.rs"]
mod figures;
#[path = "support/load.rs"]
mod load;
#[path = "support/service.rs"]
#[expect(dead_code, reason = "other benches use the rest")]
mod service;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::core::auth::{AuthSettings, Grant};
use countersign::core::throttle::Limit;
use serde_json::json;

use crate::figures::{Effort, cores, median};
use crate::load::{Answer, Caller, Conversation, drive};
use crate::service::{Disk, Server, Service, runtime};

const WIDE: Limit = Limit::steady(1_000_000, Duration::from_millis(1));

fn main() {
    let effort = Effort::asked();
    effort
        .announce("connections with wrong passwords, SQLite; load generator: our own, one thread");
    service::log();
    let mut settings = AuthSettings::default();
    settings.throttle.refresh = WIDE;
    println!("two hundred at one account");
    flood(&effort, settings.clone(), 200, |_| "user-0".to_owned());
    settings.throttle.login_account_from_address = WIDE;
    settings.throttle.login_address = WIDE;
    println!("five hundred, each at an account of its own, with no limit but the pool's");
    flood(&effort, settings, 500, |number| format!("nobody-{number}"));
}

fn flood(effort: &Effort, settings: AuthSettings, number: usize, name: impl Fn(usize) -> String) {
    let own = runtime(1);
    let disk = Disk::new();
    let service = own.block_on(Service::start_with(disk.store(), settings, 1));
    let server = Server::start(service.router.clone(), cores());
    let grant = own.block_on(service.sign_in(0));
    let mut strangers: Vec<_> = (0..number)
        .map(|number| Caller::connect(server.address, Guess::at(&name(number)), true))
        .collect();

    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let mut others = Others::new(server.address, &grant);
    let mut guesses_per_second = Vec::new();
    for _ in 0..effort.rounds {
        quiet.push(others.latencies_while(|| thread::sleep(effort.turn)));
        busy.push(others.latencies_while(|| {
            guesses_per_second.push(drive(&mut strangers, effort.turn));
        }));
    }
    let count = |status: &str| {
        let of_each = strangers.iter().map(|one| one.conversation.count(status));
        of_each.sum::<usize>()
    };
    println!(
        "{:.0} guesses per second: {} hashed in all, {} told to wait (429), {} too many (503)",
        median(guesses_per_second),
        count("401"),
        count("429"),
        count("503")
    );
    let over = |rounds: &[[f64; 2]], which: usize| median(rounds.iter().map(|p99| p99[which]));
    for (which, name) in ["POST /users/refresh_token", "GET /.well-known/jwks.json"]
        .into_iter()
        .enumerate()
    {
        println!(
            "{name:28} p99 {:>6.2} ms, while they guess {:>6.2} ms",
            over(&quiet, which),
            over(&busy, which)
        );
    }
}

/// A stranger who tries one wrong password after the other.
struct Guess {
    request: String,
    statuses: Vec<[u8; 3]>,
}

impl Guess {
    fn at(username: &str) -> Self {
        let body = json!({"username": username, "password": "not the password"}).to_string();
        let request = format!(
            "POST /users/login HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            request,
            statuses: Vec::new(),
        }
    }

    fn count(&self, status: &str) -> usize {
        let alike = |other: &&[u8; 3]| *other == status.as_bytes();
        self.statuses.iter().filter(alike).count()
    }
}

impl Conversation for Guess {
    fn request(&mut self) -> Option<&[u8]> {
        Some(self.request.as_bytes())
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        let status = answer.head.as_bytes().get(9..12).unwrap();
        self.statuses.push(status.try_into().unwrap());
    }
}

/// Those who are signed in, or verify tokens.
struct Others {
    refreshing: [Caller<Refresh>; 1],
    reading: [Caller<Read>; 1],
}

struct Refresh {
    csrf: String,
    token: String,
    request: String,
}

impl Conversation for Refresh {
    fn request(&mut self) -> Option<&[u8]> {
        let Self { csrf, token, .. } = self;
        self.request = format!(
            "POST /users/refresh_token HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\
             content-length: 0\r\nx-csrftoken: {csrf}\r\ncookie: refreshtoken={token}\r\n\r\n"
        );
        Some(self.request.as_bytes())
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
        let (_, set) = answer.head.split_once("set-cookie: refreshtoken=").unwrap();
        set.split(';').next().unwrap().clone_into(&mut self.token);
    }
}

struct Read;

impl Conversation for Read {
    fn request(&mut self) -> Option<&[u8]> {
        Some(b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\r\n")
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        answer.must_be_ok();
    }
}

impl Others {
    fn new(address: SocketAddr, grant: &Grant) -> Self {
        let refresh = Refresh {
            csrf: grant.csrf_token.as_str().to_owned(),
            token: grant.refresh_token.as_str().to_owned(),
            request: String::new(),
        };
        Self {
            refreshing: [Caller::connect(address, refresh, true)],
            reading: [Caller::connect(address, Read, true)],
        }
    }

    /// In milliseconds, the 99th percentile of each while something else goes on.
    fn latencies_while(&mut self, else_goes_on: impl FnOnce()) -> [f64; 2] {
        let over = AtomicBool::new(false);
        let Self {
            refreshing,
            reading,
        } = self;
        thread::scope(|scope| {
            let refreshing = scope.spawn(|| p99_until(&over, refreshing));
            let reading = scope.spawn(|| p99_until(&over, reading));
            else_goes_on();
            over.store(true, Ordering::Relaxed);
            [refreshing.join().unwrap(), reading.join().unwrap()]
        })
    }
}

fn p99_until<C: Conversation>(over: &AtomicBool, caller: &mut [Caller<C>; 1]) -> f64 {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        drive(caller, Duration::ZERO);
        times.push(start.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(1));
    }
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}
