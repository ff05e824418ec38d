//! How soon after a session has ended its access token is refused.
//!
//! `cargo bench -p countersign-server --bench revocation` starts the release program and ends sessions
//! in four ways: by a request to the service itself; in the database by another process, here this one,
//! with the store that the command line writes with; a user's, by deactivating the user in the same way;
//! and by a request to the service, seen from a resource server that follows it. The clock runs from the
//! moment at which whoever ended it knows that it has ended, until the answer that refuses has been
//! read. Meanwhile the token is shown all the time.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin shall stop"
)]

#[path = "support/delays.rs"]
mod delays;
#[path = "../../countersign/benches/support/figures.rs"]
mod figures;
#[path = "../tests/program/harness.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod harness;

use std::thread;
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::clock::{Clock as _, SystemClock};
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, SessionEnd};
use countersign_core::store::{AccountChange, AccountChangeKind, EndedAt, Store as _};
use countersign_core::user::{Email, NewUser, PersonName, UserId, Username};
use countersign_sql::{SqliteOptions, SqliteStore};
use countersign_token::remote::RemoteVerifier;
use tokio::runtime::Runtime;

use crate::delays::{Delays, Seen, until_refused};
use crate::figures::Effort;
use crate::harness::{LOGOUT, Line, Place, SignedIn};

/// Ends of each kind in a round.
const ENDS: usize = 30;

/// Passwords as cheap as they may be: nobody measures them here.
const SETTINGS: &str = "password.argon2.memory = \"7MiB\"\n\
                        password.argon2.passes = 5\n\
                        log.level = \"error\"";

fn main() {
    let effort = Effort::asked();
    effort.announce("countersign serve, SQLite: from the end of a session to its refusal");
    println!("of all rounds together, {ENDS} ends of each kind in each, in milliseconds:\n");
    let bench = Bench::start();
    let mut here = Delays::default();
    let mut another = Delays::default();
    let mut deactivated = Delays::default();
    let mut resource_server = Delays::default();
    for _ in 0..effort.rounds {
        for end in 0..ENDS {
            here.note(&bench.end_here());
            // At any moment of the service's looking around.
            thread::sleep(Duration::from_millis(u64::try_from(end * 37 % 75).unwrap()));
            another.note(&bench.end_in_another_process());
            thread::sleep(Duration::from_millis(u64::try_from(end * 53 % 75).unwrap()));
            deactivated.note(&bench.deactivate_in_another_process());
            resource_server.note(&bench.end_seen_from_a_resource_server());
        }
    }
    assert_eq!(here.accepted, 0, "the next request is refused");
    here.print("the service itself, by its next answer");
    another.print("the service, ended by another process");
    deactivated.print("the service, user deactivated there");
    resource_server.print("a resource server, ended at the service");
}

/// A service, another process on its database, and a resource server.
struct Bench {
    place: Place,
    _service: harness::Service,
    runtime: Runtime,
    store: SqliteStore,
    verifier: RemoteVerifier,
    password: EncodedPassword,
}

impl Bench {
    fn start() -> Self {
        // On the disk that the build is on: `/tmp` may be in memory, where nothing is durable.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = Place::at(directory);
        place.settings(SETTINGS);
        place.add_user("ana");
        let service = place.serve();
        let runtime = Runtime::new().unwrap();
        let store = SqliteStore::open(&SqliteOptions::new(place.path("countersign.db"))).unwrap();
        let credentials = runtime.block_on(store.find_credentials("ana"));
        let verifier = RemoteVerifier::builder(format!("http://127.0.0.1:{}", place.port));
        let verifier = runtime.block_on(verifier.start()).unwrap();
        Self {
            place,
            _service: service,
            password: credentials.unwrap().unwrap().password,
            runtime,
            store,
            verifier,
        }
    }

    fn line(&self) -> Line {
        Line::connect(self.place.port).unwrap()
    }

    /// Somebody who is signed in, and whose token is accepted.
    fn sign_in(&self, name: &str) -> SignedIn {
        let who = SignedIn::new(self.place.port, name);
        assert!(!is_refused(&mut self.line(), &who));
        who
    }

    fn log_out(line: &mut Line, who: &SignedIn) -> Instant {
        let reply = line.ask(LOGOUT, &who.cookies(), "").unwrap();
        let ended = Instant::now();
        assert_eq!(reply.status, 204, "{reply:?}");
        ended
    }

    fn end_here(&self) -> Seen {
        let who = self.sign_in("ana");
        let (mut one, mut other) = (self.line(), self.line());
        assert!(!is_refused(&mut other, &who));
        let ended = Self::log_out(&mut one, &who);
        until_refused(ended, || is_refused(&mut other, &who))
    }

    fn end_in_another_process(&self) -> Seen {
        let who = self.sign_in("ana");
        let mut line = self.line();
        assert!(!is_refused(&mut line, &who));
        let end = SessionEnd {
            reason: EndReason::RevokedByAdmin,
            at: SystemClock.now(),
            by: EndedBy::CommandLine,
        };
        let session = who.session.parse().unwrap();
        let done = self
            .runtime
            .block_on(self.store.end_session(session, end, &Trail::default()));
        let ended = Instant::now();
        assert!(done.unwrap());
        until_refused(ended, || is_refused(&mut line, &who))
    }

    fn deactivate_in_another_process(&self) -> Seen {
        let (id, name) = self.make_user();
        let who = self.sign_in(&name);
        let mut line = self.line();
        assert!(!is_refused(&mut line, &who));
        let change = AccountChange {
            mail: None,
            user: id,
            kind: AccountChangeKind::Active(false),
            ending: EndedAt {
                at: SystemClock.now(),
                by: EndedBy::CommandLine,
            },
            trail: Trail::default(),
        };
        let done = self.runtime.block_on(self.store.change_account(&change));
        let ended = Instant::now();
        assert!(done.unwrap().is_some());
        until_refused(ended, || is_refused(&mut line, &who))
    }

    fn end_seen_from_a_resource_server(&self) -> Seen {
        let who = self.sign_in("ana");
        let mut line = self.line();
        self.verifier.verify(&who.access).unwrap();
        let ended = Self::log_out(&mut line, &who);
        until_refused(ended, || self.verifier.verify(&who.access).is_err())
    }

    /// A user of her own, with Ana's password: hashing one is slow.
    fn make_user(&self) -> (UserId, String) {
        let joined = SystemClock.now();
        let name = format!("user-{}", joined.as_nanosecond());
        let user = NewUser {
            first_name: PersonName::default(),
            last_name: PersonName::default(),
            username: Username::parse(&name).unwrap(),
            email: Email::parse("").unwrap(),
            password: self.password.clone(),
            is_staff: false,
            is_superuser: false,
            date_joined: joined,
        };
        let user = self
            .runtime
            .block_on(self.store.create_user(&user, &Trail::default()))
            .unwrap();
        (user.id, name)
    }
}

fn is_refused(line: &mut Line, who: &SignedIn) -> bool {
    let reply = line.ask("GET /users/user", &who.bearer(), "").unwrap();
    if reply.status == 200 {
        return false;
    }
    reply.refused(401, "session_ended");
    true
}
