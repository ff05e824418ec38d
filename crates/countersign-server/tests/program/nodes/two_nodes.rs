//! Two services on one PostgreSQL: what one does holds on the other.

use std::time::Instant;

use super::server::Server;
use super::{CHEAP, Node, assert_refused_soon, nodes};
use crate::audit::nothing_is_missed;
use crate::harness::{LOGOUT, SignedIn, send};
use crate::throttling::five_are_looked_at;

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_session_goes_from_node_to_node_and_ends_on_all() {
    let server = Server::new();
    let [mut one, mut other] = [(); 2].map(|()| Node::on(&server, CHEAP));
    let migrated = one.done(&["migrate"]);
    assert!(migrated.contains("from schema version 0"), "{migrated}");
    one.start();
    other.start();
    one.add_user("ana");

    for _ in 0..3 {
        let ana = SignedIn::new(one.port(), "ana");
        assert_eq!(ana.user(other.port()).status, 200);
        let ana = SignedIn::from_reply(&ana.refresh(other.port()));
        for node in [&one, &other] {
            assert_eq!(ana.user(node.port()).status, 200);
        }
        let reply = send(one.port(), LOGOUT, &ana.cookies(), "");
        assert_eq!(reply.status, 204, "{reply:?}");
        let answered = Instant::now();
        ana.user(one.port()).refused(401, "session_ended");
        assert_refused_soon(&other, &ana, answered);
        let reply = ana.refresh(other.port());
        reply.refused(401, "session_ended");
    }
    for mut node in [one, other] {
        let said = node.stop();
        assert!(!said.contains("CANARY"), "{said}");
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn wrong_passwords_are_counted_by_all_nodes_together() {
    let server = Server::new();
    let nodes: [Node; 2] = nodes(&server, "");
    five_are_looked_at(nodes.each_ref().map(|node| &node.place));
    for mut node in nodes {
        let said = node.stop();
        assert!(said.contains("throttled"), "{said}");
    }
}

/// Transactions of several nodes end in another order than they began.
#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn whoever_follows_the_audit_log_misses_nothing_of_any_node() {
    let server = Server::new();
    let nodes: [Node; 2] = nodes(&server, "throttle.insecure_off = true\n");
    let ports = nodes.each_ref().map(Node::port);
    nothing_is_missed(&nodes[0].place, &nodes[0].variables(), ports);
}
