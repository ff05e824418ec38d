//! A node whose process was stopped goes on. It must not go on with what it knew.

use std::thread;
use std::time::Duration;

use super::nodes;
use super::server::Server;
use crate::harness::{LOGOUT, Line, SignedIn, send};

/// Longer than a node relies on what it knows without having heard anything.
const PAUSE: Duration = Duration::from_millis(400);

const ROUNDS: u32 = 10;

/// Requests that wait for the node when it goes on. What it has to hear waits as well; whichever comes
/// first must not matter.
const WAITING: usize = 8;

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_node_that_stood_still_accepts_nothing_that_ended_meanwhile() {
    let server = Server::new();
    let [one, other] = nodes(&server, "");
    for round in 0..ROUNDS {
        let ana = SignedIn::new(one.port(), "ana");
        assert_eq!(ana.user(other.port()).status, 200);
        let mut waiting = [(); WAITING].map(|()| Line::connect(other.port()).unwrap());
        // Each connection has been taken up.
        for line in &mut waiting {
            let reply = line.ask("GET /users/user", &ana.bearer(), "").unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
        }

        other.signal("-STOP");
        let reply = send(one.port(), LOGOUT, &ana.cookies(), "");
        assert_eq!(reply.status, 204, "{reply:?}");
        thread::sleep(PAUSE);
        for line in &mut waiting {
            line.say("GET /users/user", &ana.bearer(), "").unwrap();
        }
        other.signal("-CONT");
        for mut line in waiting {
            let reply = line.hear().unwrap();
            assert_eq!(reply.status, 401, "round {round}: {reply:?}");
        }
        ana.user(other.port()).refused(401, "session_ended");
    }
}
