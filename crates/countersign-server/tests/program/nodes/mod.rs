//! The service as several processes over one PostgreSQL, and what may stand before them or go wrong
//! beneath.

mod balancer;
mod balancers;
mod chaos;
mod clocks;
mod mail;
mod races;
mod stopped;
mod trouble;
mod two_nodes;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../../../../countersign-sql/tests/postgres/server.rs"]
#[expect(dead_code, reason = "the store's own tests use all of it")]
pub(crate) mod server;

use self::server::Server;
use crate::harness::{PASSWORD, Place, Service, SignedIn};

const SECRET: &str = "7Jq0m1hXo2TnWc5vY8bKd3RfGs6Lp9Ze4AuQxVyN0iE=";

/// Passwords as cheap as they may be: nobody's are tried here.
const CHEAP: &str = "password.argon2.memory = \"7MiB\"\npassword.argon2.passes = 5\n";

/// How long after an end was answered another node may accept what belongs to it: it relies on what it
/// knows for a quarter of a second, in which it hears of the end or asks the database. And a little for
/// counting in milliseconds.
const UNHEARD: Duration = Duration::from_millis(255);

/// A node: where it runs, and its process while it does. All have one root secret.
struct Node {
    place: Place,
    service: Option<Service>,
    variables: Vec<(&'static str, String)>,
}

impl Node {
    /// One that does not run yet, with settings of its own.
    fn on(server: &Server, settings: &str) -> Self {
        let place = Place::new();
        let url = server
            .url("postgres")
            .replace("countersign@", "countersign:CANARY@");
        let issuer = "tokens.issuer = \"http://auth.test\"\n";
        let issuer = if settings.contains("public_url") {
            ""
        } else {
            issuer
        };
        place.settings(&format!("database.url = \"{url}\"\n{issuer}{settings}"));
        let owner_alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(place.path("countersign.toml"), owner_alone).unwrap();
        Self {
            place,
            service: None,
            variables: vec![("COUNTERSIGN_SECRET", SECRET.to_owned())],
        }
    }

    /// One that runs.
    fn running(server: &Server, settings: &str) -> Self {
        let mut node = Self::on(server, settings);
        node.start();
        node
    }

    fn port(&self) -> u16 {
        self.place.port
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        let variables = self.variables.iter();
        variables
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }

    /// Starts it and waits until it is ready.
    fn start(&mut self) {
        self.service = Some(self.place.serve_with(&self.variables()));
    }

    /// As `kill -9` does. It must have been running.
    fn kill(&mut self) -> String {
        self.service.take().unwrap().kill()
    }

    /// As a service manager does. Gives what it has said.
    fn stop(&mut self) -> String {
        let (status, said) = self.service.take().unwrap().stop();
        assert!(status.success(), "{said}");
        said
    }

    fn signal(&self, name: &str) {
        self.service.as_ref().unwrap().signal(name);
    }

    /// Runs a command there, which must do what it is asked.
    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let said = self.place.run_with(&self.variables(), words);
        assert_eq!(said.status, Some(0), "{said:?}");
        said.stdout
    }

    /// Makes a user with [`PASSWORD`].
    fn add_user(&self, name: &str) {
        let mut variables = self.variables();
        variables.push(("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD));
        let words = ["createsuperuser", "--username", name, "--no-input"];
        let said = self.place.run_with(&variables, &words);
        assert_eq!(said.status, Some(0), "{said:?}");
    }
}

/// Shows an access token of a session whose end was answered then, until it is refused for that.
#[track_caller]
fn assert_refused_soon(node: &Node, who: &SignedIn, answered: Instant) {
    loop {
        let asked = Instant::now();
        let reply = who.user(node.port());
        if reply.status != 200 {
            reply.refused(401, "session_ended");
            return;
        }
        let since = asked - answered;
        assert!(since < UNHEARD, "accepted {since:?} after its end");
    }
}

/// So many nodes that run, over a database in which there is Ana.
fn nodes<const COUNT: usize>(server: &Server, settings: &str) -> [Node; COUNT] {
    let nodes = [(); COUNT].map(|()| Node::running(server, &format!("{CHEAP}{settings}")));
    nodes[0].add_user("ana");
    nodes
}

/// `psql`, with which an administrator would look.
fn psql(server: &Server) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .arg(server.url("postgres"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What an administrator does, or asks, in the database.
#[track_caller]
fn ask(server: &Server, sql: &str) -> String {
    let mut child = psql(server).spawn().expect("psql is there");
    let mut input = child.stdin.take().unwrap();
    input.write_all(sql.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How often a session has been rotated, as it stands in the database.
#[track_caller]
fn generation(server: &Server, session: &str) -> u32 {
    let sql = format!("SELECT generation FROM countersign_session WHERE id = '{session}'");
    ask(server, &sql).parse().unwrap()
}

/// A transaction of somebody else's, open until this is dropped.
struct Stranger(Child);

impl Stranger {
    /// Begins one and has it say something.
    fn says(server: &Server, sql: &str) -> Self {
        let mut child = psql(server).spawn().expect("psql is there");
        let said = format!("BEGIN; {sql}; \\echo done\n");
        let input = child.stdin.as_mut().unwrap();
        input.write_all(said.as_bytes()).unwrap();
        let output = child.stdout.as_mut().unwrap();
        let mut line = [0; 5];
        output.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"done\n");
        Self(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // At the end of its input it leaves, and the transaction is undone.
        drop(self.0.stdin.take());
        let _status = self.0.wait();
    }
}
