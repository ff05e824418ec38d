//! Two nodes whose wall clocks are four minutes apart. Both decide by the database's.

use std::process::Command;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::server::Server;
use super::{CHEAP, Node, ask, generation};
use crate::harness::{Reply, SignedIn};

/// How far the clocks are off, either way.
const OFF: i32 = 120;

/// How far a node's clock may be from the database's, in seconds: the time that asking for it takes.
const ALLOWANCE: f64 = 0.2;

/// In seconds, as set below.
const GRACE: f64 = 3.0;

/// The shortest lives that may be set, and a grace that passes while the test waits.
const LIVES: &str = "tokens.access_lifetime = \"10s\"\n\
                     sessions.idle = \"10s\"\n\
                     sessions.grace = \"3s\"\n\
                     log.format = \"json\"";

/// A node whose wall clock is so many seconds ahead.
fn node(server: &Server, ahead: i32) -> Node {
    let mut node = Node::on(server, &format!("{CHEAP}{LIVES}"));
    let place = &node.place;
    place.write("wall_clock.c", include_str!("wall_clock.c"));
    let library = place.path("wall_clock.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &place.path("wall_clock.c")])
        .status()
        .expect("`cc` is there: without it nothing here is built");
    assert!(compiled.success());
    let library = library.to_str().unwrap().to_owned();
    node.variables.push(("LD_PRELOAD", library));
    node.variables.push(("WALL_CLOCK_AHEAD", ahead.to_string()));
    node.start();
    node
}

/// What the database's clock shows, in seconds since 1970.
fn database_clock(server: &Server) -> f64 {
    ask(server, "SELECT extract(epoch FROM clock_timestamp())")
        .parse()
        .unwrap()
}

/// How far the clock that a node's log shows is ahead of the database's, in seconds.
fn log_is_ahead(node: &Node, server: &Server) -> f64 {
    let log = node.service.as_ref().unwrap().stderr();
    let line: Value = serde_json::from_str(log.lines().next_back().unwrap()).unwrap();
    let shown: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    f64::from(u32::try_from(shown.as_second()).unwrap()) - database_clock(server)
}

/// Seconds since 1970 that a token claims.
fn claimed(token: &str, name: &str) -> f64 {
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims[name].as_f64().unwrap()
}

/// Sees something accepted before this time of the database's clock, and refused after it.
#[track_caller]
fn assert_ends_at(server: &Server, end: f64, is_accepted: impl Fn() -> bool) {
    let mut accepted = 0;
    loop {
        let before = database_clock(server);
        let is_accepted = is_accepted();
        let after = database_clock(server);
        if after + ALLOWANCE < end {
            assert!(is_accepted, "refused {} s too early", end - after);
            accepted += 1;
        }
        if before > end + ALLOWANCE {
            assert!(!is_accepted, "accepted {} s too late", before - end);
            break;
        }
    }
    assert!(accepted > 0, "it was over before it could be looked at");
}

/// Whether it was, and if not, whether that was for one of these reasons.
#[track_caller]
fn is_accepted(reply: &Reply, refusals: &[&str]) -> bool {
    if reply.status == 200 {
        return true;
    }
    let problem = reply.json();
    let is_expected = refusals.iter().any(|code| problem["code"] == *code);
    assert!(reply.status == 401 && is_expected, "{reply:?}");
    false
}

/// A node behind and one ahead, as wrong as they are meant to be.
fn behind_and_ahead(server: &Server) -> [Node; 2] {
    let nodes = [-OFF, OFF].map(|ahead| node(server, ahead));
    nodes[0].add_user("ana");
    for (node, off) in nodes.iter().zip([-OFF, OFF]) {
        // Which is told in the log.
        SignedIn::new(node.port(), "ana");
        let shown = log_is_ahead(node, server);
        assert!((shown - f64::from(off)).abs() < 30.0, "{shown}");
    }
    nodes
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn what_one_node_gives_out_the_other_accepts_and_both_refuse_when_the_database_says_so() {
    let server = Server::new();
    let nodes = behind_and_ahead(&server);
    thread::scope(|scope| {
        for (one, other) in [(0, 1), (1, 0)] {
            let (server, one, other) = (&server, &nodes[one], &nodes[other]);
            scope.spawn(move || {
                let ana = SignedIn::new(one.port(), "ana");
                let now = database_clock(server);
                let signed = claimed(&ana.access, "iat");
                assert!(
                    (now - signed).abs() < 5.0,
                    "signed at {signed}, it is {now}"
                );
                let renewed = SignedIn::from_reply(&ana.refresh(other.port()));
                for node in [one, other] {
                    assert_eq!(ana.user(node.port()).status, 200);
                    assert_eq!(renewed.user(node.port()).status, 200);
                }
                let end = claimed(&renewed.access, "exp");
                assert_ends_at(server, end, || {
                    let replies = [one, other].map(|node| renewed.user(node.port()));
                    let [first, second] =
                        replies.map(|reply| is_accepted(&reply, &["token_expired"]));
                    // Asked one after the other, so only this way round.
                    assert!(first || !second, "accepted by the second one only");
                    first && second
                });
            });
        }
    });
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn the_grace_and_the_end_of_a_session_left_alone_are_the_same_on_both() {
    let server = Server::new();
    let nodes = behind_and_ahead(&server);
    thread::scope(|scope| {
        for (one, other) in [(0, 1), (1, 0)] {
            let (server, one, other) = (&server, &nodes[one], &nodes[other]);
            // A reply that was lost is asked for again, at the node that has not sent it.
            scope.spawn(move || {
                let ana = SignedIn::new(one.port(), "ana");
                let renewed = SignedIn::from_reply(&ana.refresh(one.port()));
                let session = &ana.session;
                let rotated = format!(
                    "SELECT rotated_at / 1000.0 FROM countersign_session WHERE id = '{session}'"
                );
                let rotated: f64 = ask(server, &rotated).parse().unwrap();
                assert_ends_at(server, rotated + GRACE, || {
                    let reply = ana.refresh(other.port());
                    let refusals = ["refresh_reused", "session_ended"];
                    let is_accepted = is_accepted(&reply, &refusals);
                    if is_accepted {
                        assert_eq!(SignedIn::from_reply(&reply).cookie, renewed.cookie);
                        assert_eq!(generation(server, session), 1);
                    }
                    is_accepted
                });
            });
            scope.spawn(move || {
                let [used, left_alone] = [(); 2].map(|()| SignedIn::new(one.port(), "ana"));
                let end = claimed(&used.cookie, "exp");
                sleep_until(server, end - 1.0);
                assert_eq!(used.refresh(other.port()).status, 200);
                // By the whole second, or to the millisecond.
                sleep_until(server, end + 1.0 + ALLOWANCE);
                let reply = left_alone.refresh(other.port());
                assert!(!is_accepted(&reply, &["refresh_expired"]));
            });
        }
    });
}

fn sleep_until(server: &Server, end: f64) {
    let left = end - database_clock(server);
    assert!(left > 0.0, "too slow to tell");
    thread::sleep(Duration::from_secs_f64(left));
}
