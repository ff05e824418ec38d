//! Through HAProxy and through nginx, as `deploy/` configures them.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::balancer::{BEHIND, Balancer, Browser, CLIENT, HOST, Kind};
use super::server::Server;
use super::{Node, nodes};
use crate::harness::{JSON, PASSWORD, SignedIn, eventually, login_body};

/// What a client may say of itself, and is not believed.
const CLAIMS: &str = "X-Forwarded-For: 198.51.100.7\r\n\
                      X-Forwarded-Proto: http\r\n\
                      Forwarded: for=198.51.100.7;proto=http\r\n\
                      X-Forwarded-Host: evil.example\r\n\
                      X-Real-IP: 198.51.100.7\r\n\
                      X-Request-Id: chosen\r\n";

/// How many browsers are at work while nodes are taken away.
const BROWSERS: usize = 4;

/// A database, three nodes, and a balancer before them.
fn site(kind: Kind) -> (Server, [Node; 3], Balancer) {
    let server = Server::new();
    let nodes = nodes(&server, BEHIND);
    let balancer = Balancer::before(kind, &nodes);
    (server, nodes, balancer)
}

fn a_browser_comes_and_goes(kind: Kind) {
    let (_server, nodes, balancer) = site(kind);
    let mut browser = Browser::of(&balancer);
    let reply = browser.login(CLAIMS).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_ne!(reply.header("x-request-id"), Some("chosen"));
    let cookies: Vec<_> = reply.headers("set-cookie").collect();
    let mut names = Vec::new();
    for cookie in cookies {
        assert!(cookie.contains("; Secure"), "{cookie}");
        names.extend(cookie.split('=').next());
    }
    let expected = [
        "__Host-Http-refreshtoken",
        "csrftoken",
        "__Host-Http-knowndevice",
    ];
    assert_eq!(names, expected, "{reply:?}");
    let mut ana = SignedIn::from_reply(&reply);

    // The client's address, and not the balancer's or what the client says.
    let listed = nodes[0].done(&["session", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["ip"], CLIENT.to_string(), "{listed}");

    // On whichever node.
    for _ in 0..12 {
        assert_eq!(browser.user(&ana).unwrap().status, 200);
        ana = SignedIn::from_reply(&browser.refresh(&ana).unwrap());
    }
    let reply = browser.logout(&ana).unwrap();
    assert_eq!(reply.status, 204, "{reply:?}");
    browser.refresh(&ana).unwrap().refused(401, "session_ended");
    thread::sleep(super::UNHEARD);
    for _ in 0..6 {
        browser.user(&ana).unwrap().refused(401, "session_ended");
    }
}

fn plain_http_is_refused(kind: Kind) {
    let (_server, _nodes, balancer) = site(kind);
    for claims in ["", "X-Forwarded-Proto: https\r\n"] {
        let headers = format!("{JSON}{claims}");
        let body = login_body("ana", PASSWORD);
        let reply = balancer
            .http_line()
            .ask("POST /users/login", &headers, &body)
            .unwrap();
        reply.refused(403, "https_required");
        for header in ["set-cookie", "location"] {
            assert_eq!(reply.header(header), None, "{reply:?}");
        }
    }
}

/// Nodes are stopped as for an update and killed, one after the other. Whoever is signed in sees nothing
/// of it.
fn nodes_are_taken_away(kind: Kind) {
    let (_server, mut nodes, balancer) = site(kind);
    let is_over = AtomicBool::new(false);
    let signed_in = [(); BROWSERS].map(|()| {
        let mut browser = Browser::of(&balancer);
        let me = SignedIn::from_reply(&browser.login("").unwrap());
        (browser, me)
    });
    let answers = thread::scope(|scope| {
        let browsers = signed_in.map(|(mut browser, mut me)| {
            let (balancer, is_over) = (&balancer, &is_over);
            scope.spawn(move || {
                let mut answers = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let reply = browser.user(&me).unwrap();
                    assert_eq!(reply.status, 200, "{reply:?}\n{}", balancer.log());
                    let reply = browser.refresh(&me).unwrap();
                    assert_eq!(reply.status, 200, "{reply:?}\n{}", balancer.log());
                    me = SignedIn::from_reply(&reply);
                    answers += 2;
                }
                answers
            })
        });
        for turn in 0..6 {
            let node = &mut nodes[turn % 3];
            if turn < 3 {
                node.stop();
            } else {
                node.kill();
            }
            thread::sleep(Duration::from_millis(400));
            node.start();
            // Until the balancer has seen that it is back.
            thread::sleep(Duration::from_millis(800));
        }
        is_over.store(true, Ordering::Relaxed);
        browsers.map(|browser| browser.join().unwrap())
    });
    let answers: u32 = answers.iter().sum();
    println!("{answers} answers while six nodes were taken away and came back");
    assert!(answers > 500, "{answers}");
}

/// Requests that two readers may read differently.
const AMBIGUOUS: [&str; 6] = [
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Content-Length: 4\r\nContent-Length: 40\r\n",
    "Content-Length: +4\r\n",
    "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n",
];

/// What is hidden behind an ambiguous request reaches nobody else's connection.
fn no_request_is_smuggled(kind: Kind) {
    let (_server, _nodes, balancer) = site(kind);
    let mut browser = Browser::of(&balancer);
    let ana = SignedIn::from_reply(&browser.login("").unwrap());
    for ambiguous in AMBIGUOUS {
        let hidden = format!("GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\nX-Rest: ");
        let text = format!(
            "POST /users/login HTTP/1.1\r\nHost: {HOST}\r\n{JSON}{ambiguous}\r\n0\r\n\r\n{hidden}"
        );
        let mut stream = balancer.line().unwrap().into_stream();
        stream.write_all(text.as_bytes()).unwrap();
        stream
            .sock
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut bytes = Vec::new();
        // Closed, or waiting for the rest of what is hidden, which is the sender's own then.
        let _end = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let is_refused = ["HTTP/1.1 4", "HTTP/1.1 501 "]
            .iter()
            .any(|start| text.starts_with(start));
        assert!(
            is_refused && !text.contains(" 200 "),
            "{ambiguous:?}: {text}"
        );
        // The connections to the nodes are used again, and each answer is to what was asked.
        for _ in 0..9 {
            assert_eq!(browser.user(&ana).unwrap().status, 200, "{ambiguous:?}");
            let keys = browser.ask("GET /.well-known/jwks.json", "", "").unwrap();
            assert!(keys.json()["keys"].is_array(), "{ambiguous:?}: {keys:?}");
        }
    }
}

/// Whoever waits for revocations waits as long as they may, and is woken through the balancer.
fn waiting_is_not_cut_short(kind: Kind) {
    let (_server, _nodes, balancer) = site(kind);
    let mut browser = Browser::of(&balancer);
    let ana = SignedIn::from_reply(&browser.login("").unwrap());
    let feed = browser.ask("GET /.well-known/revocations", "", "").unwrap();
    let known = format!("If-None-Match: {}\r\n", feed.header("etag").unwrap());
    let wait = "GET /.well-known/revocations?wait=25";
    let began = Instant::now();
    let reply = browser.ask(wait, &known, "").unwrap();
    assert_eq!(reply.status, 304, "{reply:?}");
    assert!(began.elapsed() > Duration::from_secs(20), "it waits");

    let began = Instant::now();
    let mut line = balancer.line().unwrap();
    line.say(wait, &known, "").unwrap();
    let reply = browser.logout(&ana).unwrap();
    assert_eq!(reply.status, 204, "{reply:?}");
    let news = line.hear().unwrap();
    assert!(news.body.contains(&ana.session), "{news:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "it is woken");
}

/// Without a database nobody is ready, and whoever lives says so; without a node the balancer does.
fn nobody_can_answer(kind: Kind) {
    let (mut server, mut nodes, balancer) = site(kind);
    let mut browser = Browser::of(&balancer);
    let ana = SignedIn::from_reply(&browser.login("").unwrap());
    server.stop();
    // Long enough for the balancer to notice.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let reply = browser.refresh(&ana).unwrap();
        reply.refused(503, "storage_unavailable");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        thread::sleep(Duration::from_millis(50));
    }
    let keys = browser.ask("GET /.well-known/jwks.json", "", "").unwrap();
    assert_eq!(keys.status, 200, "{keys:?}");
    server.start();
    eventually("it goes on", || {
        browser.refresh(&ana).unwrap().status == 200
    });

    for node in &mut nodes {
        node.kill();
    }
    for _ in 0..5 {
        let mut browser = Browser::of(&balancer);
        let reply = browser.refresh(&ana).unwrap();
        assert_eq!(reply.json()["code"], "overloaded", "{reply:?}");
        assert_eq!(reply.json()["status"], reply.status, "{reply:?}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(reply.header("set-cookie"), None, "{reply:?}");
    }
    nodes[1].start();
    eventually("one is enough", || {
        let mut browser = Browser::of(&balancer);
        browser.refresh(&ana).unwrap().status == 200
    });
    let log = balancer.log();
    assert!(
        !log.contains(&ana.cookie) && !log.contains(&ana.access),
        "{log}"
    );
}

/// The same for each balancer.
macro_rules! through_each {
    ($($test:ident: $haproxy:ident, $nginx:ident;)*) => {$(
        #[test]
        #[ignore = "needs PostgreSQL's server programs and HAProxy"]
        fn $haproxy() {
            $test(Kind::HaProxy);
        }

        #[test]
        #[ignore = "needs PostgreSQL's server programs and nginx"]
        fn $nginx() {
            $test(Kind::Nginx);
        }
    )*};
}

through_each! {
    a_browser_comes_and_goes:
        a_browser_comes_and_goes_through_haproxy, a_browser_comes_and_goes_through_nginx;
    plain_http_is_refused:
        plain_http_is_refused_through_haproxy, plain_http_is_refused_through_nginx;
    nodes_are_taken_away:
        haproxy_lets_nobody_see_that_nodes_are_taken_away,
        nginx_lets_nobody_see_that_nodes_are_taken_away;
    no_request_is_smuggled:
        no_request_is_smuggled_through_haproxy, no_request_is_smuggled_through_nginx;
    waiting_is_not_cut_short:
        waiting_is_not_cut_short_by_haproxy, waiting_is_not_cut_short_by_nginx;
    nobody_can_answer:
        haproxy_says_when_to_come_again, nginx_says_when_to_come_again;
}
