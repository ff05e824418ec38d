//! Requests that meet on different nodes: one session, and several who want something of it at once.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::server::Server;
use super::{Node, UNHEARD, assert_refused_soon, generation, nodes};
use crate::harness::{LOGOUT, Line, REFRESH, Reply, SignedIn};

/// How many tabs wake at the same time.
const TABS: usize = 64;

/// How often a logout races a refresh.
const LOGOUTS: usize = 250;

/// How often a command does, which takes longer.
const COMMANDS: usize = 20;

/// Both at once, each on a connection that is there already.
fn at_once(one: impl FnOnce() -> Reply + Send, other: impl FnOnce() -> Reply) -> (Reply, Reply) {
    let both_are_ready = Barrier::new(2);
    thread::scope(|scope| {
        let one = scope.spawn(|| {
            both_are_ready.wait();
            one()
        });
        both_are_ready.wait();
        let other = other();
        (one.join().unwrap(), other)
    })
}

/// What may have come of a refresh that raced the end of its session.
fn successor(reply: &Reply) -> Option<SignedIn> {
    if reply.status == 200 {
        return Some(SignedIn::from_reply(reply));
    }
    reply.refused(401, "session_ended");
    None
}

/// No refresh token that there ever was does anything, on any node, from the moment of the answer.
#[track_caller]
fn assert_no_way_back(nodes: &[Node], shown: &[&SignedIn]) {
    for node in nodes {
        for who in shown {
            who.refresh(node.port()).refused(401, "session_ended");
        }
    }
}

/// No access token either, as soon as the nodes have heard of it. To be looked at first now and then: a node
/// that has refused a refresh token knows.
#[track_caller]
fn assert_no_way_in(nodes: &[Node], shown: &[&SignedIn], answered: Instant) {
    for node in nodes {
        for who in shown {
            assert_refused_soon(node, who, answered);
        }
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn sixty_four_refreshes_of_one_token_on_two_nodes_make_one_generation() {
    let server = Server::new();
    let nodes: [Node; 2] = nodes(&server, "");
    let mut ana = SignedIn::new(nodes[0].port(), "ana");
    for round in 1..=5 {
        let lines =
            std::array::from_fn::<_, TABS, _>(|tab| Line::connect(nodes[tab % 2].port()).unwrap());
        let all_are_ready = Barrier::new(TABS);
        let tabs = thread::scope(|scope| {
            let tabs = lines.map(|mut line| {
                let (all_are_ready, ana) = (&all_are_ready, &ana);
                scope.spawn(move || {
                    all_are_ready.wait();
                    let reply = line.ask(REFRESH, &ana.cookies(), "").unwrap();
                    SignedIn::from_reply(&reply)
                })
            });
            tabs.map(|tab| tab.join().unwrap())
        });
        let [first, ..] = &tabs;
        assert_ne!(first.cookie, ana.cookie);
        for (tab, other) in tabs.iter().zip([1, 0].iter().cycle()) {
            assert_eq!(tab.cookie, first.cookie, "one successor, to the byte");
            assert_eq!(tab.user(nodes[*other].port()).status, 200);
        }
        assert_eq!(generation(&server, &ana.session), round);
        ana = first.clone();
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn after_a_logout_on_one_node_that_races_a_refresh_on_another_nothing_goes_on() {
    let server = Server::new();
    let nodes: [Node; 2] = nodes(&server, "");
    let [one, other] = [0, 1].map(|node: usize| nodes[node].port());
    let (mut lost, mut over) = (0, Vec::new());
    for round in 0..LOGOUTS {
        let ana = SignedIn::new(nodes[round % 2].port(), "ana");
        let [mut leaving, mut staying] = [one, other].map(|port| Line::connect(port).unwrap());
        let (logout, refresh) = at_once(
            || leaving.ask(LOGOUT, &ana.cookies(), "").unwrap(),
            || staying.ask(REFRESH, &ana.cookies(), "").unwrap(),
        );
        assert_eq!(logout.status, 204, "{logout:?}");
        let successor = successor(&refresh);
        lost += usize::from(successor.is_none());
        let shown: Vec<_> = successor.iter().chain([&ana]).collect();
        if round % 2 == 0 {
            assert_no_way_in(&nodes, &shown, Instant::now());
        }
        assert_no_way_back(&nodes, &shown);
        for who in shown {
            who.user(one).refused(401, "session_ended");
            over.push(who.clone());
        }
    }
    thread::sleep(UNHEARD);
    for who in &over {
        for port in [one, other] {
            who.user(port).refused(401, "session_ended");
        }
    }
    println!("of {LOGOUTS} refreshes that a logout raced, {lost} came too late");
    // Or they have not raced.
    assert!(lost > 0 && lost < LOGOUTS, "{lost}");
}

/// While a command runs, somebody refreshes all the time, on one node after the other. Once it is done,
/// nothing of that session is worth anything.
fn nothing_survives(nodes: &[Node], command: &[&str], again: &[&str]) {
    for round in 0..COMMANDS {
        let ana = SignedIn::new(nodes[0].port(), "ana");
        let started = Barrier::new(2);
        let (mut shown, answered) = thread::scope(|scope| {
            let refreshing = scope.spawn(|| {
                let mut shown = vec![ana.clone()];
                started.wait();
                for turn in 0.. {
                    let last = &shown[shown.len() - 1];
                    match successor(&last.refresh(nodes[turn % 2].port())) {
                        Some(next) => shown.push(next),
                        None => break,
                    }
                }
                shown
            });
            started.wait();
            nodes[1].done(command);
            let answered = Instant::now();
            (refreshing.join().unwrap(), answered)
        });
        // The newest, the one before, and one that would be taken for stolen if the session lived.
        let first = shown.remove(0);
        let newest: Vec<_> = shown.iter().rev().take(2).chain([&first]).collect();
        assert!(newest.len() == 3, "the command came before anything");
        if round % 2 == 0 {
            assert_no_way_in(nodes, &newest, answered);
        }
        assert_no_way_back(nodes, &newest);
        assert_no_way_in(nodes, &newest, answered);
        if !again.is_empty() {
            nodes[0].done(again);
        }
        for node in nodes {
            newest[0].user(node.port()).refused(401, "session_ended");
        }
        assert_no_way_back(nodes, &newest);
    }
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn after_a_deactivation_that_races_refreshes_on_two_nodes_nothing_goes_on() {
    let server = Server::new();
    let nodes: [Node; 2] = nodes(&server, "");
    nodes[0].add_user("root");
    nothing_survives(
        &nodes,
        &["user", "deactivate", "ana"],
        &["user", "activate", "ana"],
    );
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn after_an_operator_ends_all_sessions_refreshes_on_two_nodes_come_to_nothing() {
    let server = Server::new();
    let nodes: [Node; 2] = nodes(&server, "");
    nothing_survives(&nodes, &["session", "end", "--user", "ana"], &[]);
}
