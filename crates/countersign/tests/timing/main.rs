//! Attack E: does the time of a refusal tell who has an account?
//!
//! Two kinds of requests are sent in random order on one connection, two thousand of each, and their times
//! compared by Welch's t-test. |t| below 4.5 is what is asked for: where there is no difference, one
//! comparison in a hundred thousand is beyond it, and that also on a busy machine, for whatever disturbs
//! one kind disturbs the other as likely. Times beyond the 90th percentile of both kinds together are left
//! out: they are the machine's. What is beyond 4.5 is looked at again, twice at most, and the smallest
//! counts, so that of a thousand million runs one fails without a reason; for that, a difference has to be
//! some six standard errors to be found, here some ten microseconds where a hash takes five hundred.
//!
//! A hash here costs a fortieth of a real one: what surrounds it shows the more. What remains, a row that is
//! read or is not, is a few microseconds, and disappears behind a real hash, whose time varies by
//! hundreds.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests are tests as well"
)]

mod statistics;

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt as _;
use countersign::core::auth::{Auth, AuthSettings, NewAccount};
use countersign::core::clock::{Randomness as _, SystemRandomness};
use countersign::core::password::{Argon2Cost, Password};
use countersign::core::secrets::RootSecret;
use countersign::core::session::EndedBy;
use countersign::core::user::{Email, Username};
use countersign::{App, HttpSettings};
use countersign_sql::{SqliteOptions, SqliteStore, UserColumn, UserTable};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::statistics::{trimmed, welch_t};

/// Of each kind.
const REQUESTS: usize = 2_000;
/// Connections, caches and branch predictors are cold at first.
const WARM_UP: usize = 200;
const LIMIT: f64 = 4.5;
const TRIALS: usize = 3;

const PASSWORD: &str = "correct horse battery staple";

/// A service on a real socket and a real database.
struct Service {
    address: SocketAddr,
    _runtime: Runtime,
    _directory: TempDir,
}

impl Service {
    /// With Ana, Carol who was deactivated, and Dave who has no password.
    fn start() -> Self {
        let username = |name: &str| name.to_owned();
        Self::of(username, SqliteOptions::new)
    }

    /// The same where the e-mail address is the name to sign in with.
    fn named_by_address() -> Self {
        const TABLE: &str = "CREATE TABLE accounts_user (
            id integer NOT NULL PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL,
            email varchar(254) NOT NULL UNIQUE, is_active bool NOT NULL)";
        Self::of(address, |file| {
            let connection = rusqlite::Connection::open(&file).unwrap();
            connection.execute_batch(TABLE).unwrap();
            let table = UserTable::named("accounts_user").unwrap();
            let table = table.column(UserColumn::Username, "email").unwrap();
            SqliteOptions::new(file).users(table)
        })
    }

    fn of(username: fn(&str) -> String, options: impl Fn(PathBuf) -> SqliteOptions) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&options(directory.path().join("db"))).unwrap();
        let mut settings = AuthSettings::default();
        settings.hashing.threads = 1;
        settings.hashing.cost = Argon2Cost {
            memory_kib: 1_024,
            passes: 1,
            lanes: 1,
        };
        // What is counted depends on the name as typed alone; its disk would only be noise here.
        settings.throttle.insecure_off = true;
        settings.registration.enabled = true;
        settings.queue_mail = true;
        let address = runtime.block_on(async {
            let root = RootSecret::generate(&SystemRandomness);
            let http = HttpSettings::new(settings.tokens.issuer.parse().unwrap());
            let auth = Auth::start(Arc::new(store), &root, settings).await;
            let auth = Arc::new(auth.unwrap());
            populate(&auth, username).await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
            let router = App::new(auth, http).router();
            let router = router.into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            address
        });
        Self {
            address,
            _runtime: runtime,
            _directory: directory,
        }
    }

    /// Compares two kinds of requests to a path, each of which is answered with this status.
    #[track_caller]
    fn cannot_be_told_apart(&self, path: &str, status: u16, kinds: [&dyn Fn() -> Value; 2]) {
        let mut line = Line::connect(self.address);
        let mut seen = Vec::new();
        for _ in 0..TRIALS {
            let times = line.interleaved(path, status, kinds);
            let [one, other] = trimmed(times);
            let t = welch_t(&one, &other);
            if t.abs() < LIMIT {
                return;
            }
            seen.push(t);
        }
        panic!("the time of the answer tells one from the other: t = {seen:?}");
    }
}

/// The address of whoever has this name.
fn address(name: &str) -> String {
    format!("{name}@example.org")
}

async fn populate(auth: &Auth, username: fn(&str) -> String) {
    let mut users = Vec::new();
    for (name, password) in [
        ("ana", Some(PASSWORD)),
        ("carol", Some(PASSWORD)),
        ("dave", None),
    ] {
        let account = NewAccount {
            username: Username::parse(&username(name)).unwrap(),
            email: Email::parse(&address(name)).unwrap(),
            password: password.map(|text| Password::new(text.to_owned()).unwrap()),
            is_staff: false,
            is_superuser: false,
        };
        users.push(
            auth.create_user(account, EndedBy::CommandLine)
                .await
                .unwrap(),
        );
    }
    auth.set_active(users[1].id, false, EndedBy::CommandLine)
        .await
        .unwrap();
}

/// One client's connection.
struct Line(BufReader<TcpStream>);

impl Line {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    /// The times of both kinds, in seconds.
    fn interleaved(
        &mut self,
        path: &str,
        status: u16,
        kinds: [&dyn Fn() -> Value; 2],
    ) -> [Vec<f64>; 2] {
        let mut order: Vec<_> = (0..2 * REQUESTS).map(|number| number % 2).collect();
        shuffle(&mut order);
        for kind in &order[..WARM_UP] {
            self.time(path, status, &kinds[*kind]());
        }
        let mut times = [const { Vec::new() }; 2];
        for kind in order {
            let took = self.time(path, status, &kinds[kind]());
            times[kind].push(took.as_secs_f64());
        }
        times
    }

    fn time(&mut self, path: &str, status: u16, body: &Value) -> Duration {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:8000\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let began = Instant::now();
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        self.0.read_line(&mut head).unwrap();
        let took = began.elapsed();
        assert_eq!(head.split(' ').nth(1).unwrap(), status.to_string());
        self.pass_over_the_rest();
        took
    }

    fn pass_over_the_rest(&mut self) {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
    }
}

fn shuffle(order: &mut [usize]) {
    for last in (1..order.len()).rev() {
        let mut random = [0; 8];
        SystemRandomness.fill(&mut random);
        let other = usize::from_be_bytes(random) % (last + 1);
        order.swap(last, other);
    }
}

/// A sign-in that is refused.
fn login(username: &str) -> Value {
    json!({"username": username, "password": "not the password"})
}

#[test]
#[ignore = "needs the machine to itself for half a minute"]
fn the_time_of_a_refused_sign_in_does_not_tell_who_has_an_account() {
    let service = Service::start();
    for known in ["ana", "carol", "dave"] {
        service.cannot_be_told_apart("/users/login", 401, [&|| login(known), &|| login("nobody")]);
    }
}

/// The next of many names, no two of which resemble each other.
fn next_name(number: &Cell<usize>) -> String {
    const LETTERS: [char; 8] = ['b', 'c', 'd', 'f', 'g', 'h', 'k', 't'];
    let next = number.get() + 1;
    number.set(next);
    let digits = (0..5).map(|place| LETTERS[next >> (3 * place) & 7]);
    digits.chain("-newcomer".chars()).collect()
}

#[test]
#[ignore = "needs the machine to itself for half a minute"]
fn the_time_of_a_registration_does_not_tell_who_has_an_address() {
    let service = Service::start();
    let number = Cell::new(0);
    let register = |email: &str| json!({"username": next_name(&number), "email": email, "password": "violet umbrella in june"});
    service.cannot_be_told_apart(
        "/users/register",
        201,
        [&|| register("ana@example.org"), &|| {
            register("nobody@example.org")
        }],
    );
}

#[test]
#[ignore = "needs the machine to itself for half a minute"]
fn the_time_of_a_forgotten_password_does_not_tell_who_has_an_address() {
    let service = Service::start();
    let reset = |email: &str| json!({ "email": email });
    for known in ["ana", "carol", "dave"] {
        let known = format!("{known}@example.org");
        service.cannot_be_told_apart(
            "/users/password/reset",
            202,
            [&|| reset(&known), &|| reset("nobody@example.org")],
        );
    }
}

#[test]
#[ignore = "needs the machine to itself for half a minute"]
fn the_time_of_a_registration_does_not_tell_whose_name_the_address_is() {
    let service = Service::named_by_address();
    let register = |email: &str| json!({"email": email, "password": "violet umbrella in june"});
    service.cannot_be_told_apart(
        "/users/register",
        201,
        [&|| register("ana@example.org"), &|| {
            register("eva@example.org")
        }],
    );
}
