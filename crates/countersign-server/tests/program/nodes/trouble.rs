//! The database goes away, may only be read, is locked, undoes what is done: what clients are told
//! meanwhile, and that all goes on by itself afterwards.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use super::server::Server;
use super::{CHEAP, Node, Stranger, ask, assert_refused_soon, generation};
use crate::harness::{JSON, LOGOUT, PASSWORD, Reply, SignedIn, eventually, login, send, try_get};

const TIMEOUT: &str = "database.timeout = \"1s\"\n";

/// A node, and Ana, who is signed in there.
fn node_and_ana(server: &Server, settings: &str) -> (Node, SignedIn) {
    let node = Node::running(server, &format!("{CHEAP}{TIMEOUT}{settings}"));
    node.add_user("ana");
    let ana = SignedIn::new(node.port(), "ana");
    assert_eq!(ana.user(node.port()).status, 200);
    (node, ana)
}

/// Come again: nobody is signed out by this, and no cookie is touched.
#[track_caller]
fn assert_come_again(reply: &Reply) {
    reply.refused(503, "storage_unavailable");
    let after: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&after), "{reply:?}");
    assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
}

/// What writes to a session is refused for now, whatever it is.
#[track_caller]
fn assert_no_session_is_written(node: &Node, ana: &SignedIn) {
    assert_come_again(&ana.refresh(node.port()));
    assert_come_again(&login(node.port(), "ana", PASSWORD));
    assert_come_again(&send(node.port(), LOGOUT, &ana.cookies(), ""));
}

/// Nor is what has nothing to do with sessions.
#[track_caller]
fn assert_nothing_is_written(node: &Node, ana: &SignedIn) {
    assert_no_session_is_written(node, ana);
    let headers = format!("{JSON}{}", ana.bearer());
    let name = "{\"first_name\": \"Ana\"}";
    assert_come_again(&send(node.port(), "PATCH /users/user", &headers, name));
}

/// It refreshes again, with the token that it had: the same process, and within a second or what a busy
/// machine makes of it.
#[track_caller]
fn goes_on(what: &str, node: &Node, ana: &SignedIn) -> SignedIn {
    let began = Instant::now();
    let mut reply = ana.refresh(node.port());
    while reply.status != 200 {
        assert_come_again(&reply);
        let since = began.elapsed();
        assert!(since < Duration::from_secs(5), "not after {since:?}");
        thread::sleep(Duration::from_millis(10));
        reply = ana.refresh(node.port());
    }
    println!("{what}: it goes on after {:?}", began.elapsed());
    let renewed = SignedIn::from_reply(&reply);
    assert_eq!(renewed.user(node.port()).status, 200);
    renewed
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn while_the_database_is_away_nothing_is_guessed_and_afterwards_it_goes_on() {
    let mut server = Server::new();
    let (mut node, mut ana) = node_and_ana(&server, "");
    for is_crash in [false, true] {
        if is_crash {
            server.stop_at_once();
        } else {
            server.stop();
        }
        assert_nothing_is_written(&node, &ana);
        // Nobody can say whether she has been signed out on another node.
        assert_come_again(&ana.user(node.port()));
        // What needs nobody goes on: forged tokens are refused, and resource servers verify.
        let forged = "Authorization: Bearer a.b.c\r\n";
        assert_eq!(send(node.port(), "GET /users/user", forged, "").status, 401);
        let keys = send(node.port(), "GET /.well-known/jwks.json", "", "");
        assert_eq!(keys.status, 200, "{keys:?}");
        assert_come_again(&send(node.port(), "GET /.well-known/revocations", "", ""));
        let operations = node.place.operations_port;
        assert_eq!(try_get(operations, "/healthz").unwrap().status, 200);
        assert_eq!(try_get(operations, "/readyz").unwrap().status, 503);

        server.start();
        ana = goes_on("a server that was stopped", &node, &ana);
        eventually("it is ready", || {
            try_get(operations, "/readyz").unwrap().status == 200
        });
    }
    assert_eq!(generation(&server, &ana.session), 2);
    let said = node.stop();
    assert!(!said.contains("CANARY"), "{said}");
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_server_that_may_only_be_read_is_read() {
    let server = Server::new();
    let (node, ana) = node_and_ana(&server, "");
    let read_only = |value: &str| {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value};");
        ask(
            &server,
            &format!("SET default_transaction_read_only = off;\n{set}\nSELECT pg_reload_conf();"),
        );
    };
    read_only("on");
    eventually("nothing is written", || {
        ana.refresh(node.port()).status == 503
    });
    assert_nothing_is_written(&node, &ana);
    assert_eq!(ana.user(node.port()).status, 200);
    read_only("off");
    goes_on("a read-only server", &node, &ana);
}

/// Such as a failover that has not come to its end. It may not have been told of ends yet.
#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_standby_is_not_believed() {
    let mut server = Server::new();
    let (node, ana) = node_and_ana(&server, "");
    server.stop();
    let signal = server.data().join("standby.signal");
    File::create(&signal).unwrap();
    server.start();
    assert_eq!(ask(&server, "SELECT pg_is_in_recovery()"), "t");
    for _ in 0..5 {
        assert_nothing_is_written(&node, &ana);
        assert_come_again(&ana.user(node.port()));
        thread::sleep(Duration::from_millis(200));
    }
    ask(&server, "SELECT pg_promote()");
    goes_on("a standby that was promoted", &node, &ana);
}

/// Has the database undo so many updates of sessions, as it does when transactions are in each other's
/// way. A sequence is not undone.
fn undo_updates(server: &Server, count: u32) {
    ask(
        server,
        &format!(
            "CREATE SEQUENCE IF NOT EXISTS tried;
             SELECT setval('tried', 1, false);
             CREATE OR REPLACE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('tried') <= {count} THEN
                     RAISE EXCEPTION 'in the way' USING ERRCODE = 'serialization_failure';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE OR REPLACE TRIGGER undo BEFORE UPDATE ON countersign_session
                 FOR EACH ROW EXECUTE FUNCTION undo();"
        ),
    );
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn what_the_database_undoes_is_tried_three_times() {
    let server = Server::new();
    let (node, ana) = node_and_ana(&server, "");
    let tried = || ask(&server, "SELECT last_value FROM tried");

    undo_updates(&server, 2);
    let ana = SignedIn::from_reply(&ana.refresh(node.port()));
    assert_eq!(tried(), "3");
    assert_eq!(generation(&server, &ana.session), 1);

    undo_updates(&server, 3);
    assert_come_again(&ana.refresh(node.port()));
    assert_eq!(tried(), "3", "not more often");
    assert_eq!(generation(&server, &ana.session), 1);
    let ana = goes_on("three undone transactions", &node, &ana);
    assert_eq!(generation(&server, &ana.session), 2);

    undo_updates(&server, 3);
    assert_come_again(&send(node.port(), LOGOUT, &ana.cookies(), ""));
    assert_eq!(ana.user(node.port()).status, 200, "it has not ended");
    let reply = send(node.port(), LOGOUT, &ana.cookies(), "");
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_refused_soon(&node, &ana, Instant::now());
}

const AT_ONCE: usize = 4;

/// Somebody holds a lock for as long as they like. So many statements wait for it at once, of four
/// requests that want to be served.
fn behind_a_lock(server: &Server, node: &Node, ana: &SignedIn, statements: usize) {
    let lock = Stranger::says(server, "LOCK TABLE countersign_session IN EXCLUSIVE MODE");
    let began = Instant::now();
    thread::scope(|scope| {
        let refreshes =
            [(); AT_ONCE].map(|()| scope.spawn(|| assert_come_again(&ana.refresh(node.port()))));
        let count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        eventually("they wait", || ask(server, count) == statements.to_string());
        let _all_came_in_time = refreshes.map(|refresh| refresh.join().unwrap());
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_no_session_is_written(node, ana);
    // Who reads waits for nobody.
    assert_eq!(ana.user(node.port()).status, 200);
    drop(lock);
    assert_eq!(generation(server, &ana.session), 0, "nothing is done later");
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn whoever_waits_too_long_for_the_only_connection_is_told_to_come_again() {
    let server = Server::new();
    let (node, ana) = node_and_ana(&server, "database.pool_size = 1\n");
    behind_a_lock(&server, &node, &ana, 1);
    goes_on("a pool of one connection", &node, &ana);
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn a_statement_that_takes_too_long_is_ended_by_the_server_and_not_done_later() {
    let server = Server::new();
    // Room for everybody: it is the statement that waits.
    let (node, ana) = node_and_ana(&server, "database.pool_size = 16\n");
    behind_a_lock(&server, &node, &ana, AT_ONCE);
    let log = std::fs::read_to_string(server.certificate_directory().join("log")).unwrap();
    assert!(
        log.contains("canceling statement due to statement timeout"),
        "{log}"
    );
    goes_on("statements that took too long", &node, &ana);
}
