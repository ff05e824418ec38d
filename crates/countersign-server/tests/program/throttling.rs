//! Wrong passwords, wherever they are tried.

use std::sync::Barrier;
use std::thread;

use crate::harness::{JSON, Line, PASSWORD, Place, Service, login, login_body};

/// Two hundred at once, half to each node: five are looked at, and the rest wait on both.
pub(crate) fn five_are_looked_at(nodes: [&Place; 2]) {
    const AT_ONCE: usize = 200;
    let all_are_ready = Barrier::new(AT_ONCE);
    let mut statuses = thread::scope(|scope| {
        let attempts: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let (node, all_are_ready) = (nodes[number % 2], &all_are_ready);
                scope.spawn(move || {
                    let mut line = Line::connect(node.port).unwrap();
                    let body = login_body("ana", "not the password");
                    all_are_ready.wait();
                    line.ask("POST /users/login", JSON, &body).unwrap().status
                })
            })
            .collect();
        let statuses = attempts.into_iter().map(|attempt| attempt.join().unwrap());
        statuses.collect::<Vec<_>>()
    });
    statuses.sort_unstable();
    assert_eq!(statuses[..5], [401; 5], "{statuses:?}");
    assert!(
        statuses[5..].iter().all(|status| *status == 429),
        "{statuses:?}"
    );
    for node in nodes {
        let reply = login(node.port, "ana", PASSWORD);
        reply.refused(429, "throttled");
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
    }
}

#[test]
fn wrong_passwords_are_counted_by_all_processes_on_one_file_together() {
    let one = Place::new();
    let other = Place::new();
    let file = one.path("countersign.db");
    other.settings(&format!(
        "database.url = \"sqlite://{}\"\nsecrets.root_file = \"{}\"",
        file.display(),
        one.path("countersign.secret").display()
    ));
    one.add_user("ana");
    let nodes = [one, other];
    let services = nodes.each_ref().map(Place::serve);
    five_are_looked_at(nodes.each_ref());
    // Nor is it forgotten by one that is started anew.
    drop(services.map(Service::stop));
    let _service = nodes[1].serve();
    login(nodes[1].port, "ana", PASSWORD).refused(429, "throttled");
    // What is kept tells nobody who tried, and where from.
    let rows: i64 = nodes[0]
        .stranger()
        .query_row(
            "SELECT count(*) FROM countersign_throttle WHERE length(key) = 16",
            [],
            |row| row.get(0),
        )
        .unwrap();
    // The account as typed, the address, both, and the user by whichever name.
    assert_eq!(rows, 4);
}

/// What the process holds of the machine's memory in KiB: now, or at most until now.
fn memory(service: &Service, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.unwrap().trim_start_matches(':').trim();
    number.trim_end_matches(" kB").parse().unwrap()
}

// Attack P05: each from an address of its own, and at an account of its own, so that no counter is full.
#[test]
fn of_five_hundred_sign_ins_at_once_few_are_hashed_at_a_time_and_few_wait() {
    const AT_ONCE: usize = 500;
    const THREADS: u64 = 2;
    const HASH_KIB: u64 = 19_456;
    let place = Place::new();
    place.settings(&format!(
        "server.trusted_proxies = [\"127.0.0.1\"]\npassword.hashing_threads = {THREADS}\n\
         password.hashing_queue = 32"
    ));
    let service = place.serve();
    let before = memory(&service, "VmRSS");
    let mut lines: Vec<_> = (0..AT_ONCE)
        .map(|_| Line::connect(place.port).unwrap())
        .collect();
    for (number, line) in lines.iter_mut().enumerate() {
        let from = format!("{JSON}X-Forwarded-For: 2001:db8:0:{number:x}::1\r\n");
        let body = login_body(&format!("nobody-{number}"), "not the password");
        line.say("POST /users/login", &from, &body).unwrap();
    }
    // What needs no hash is answered meanwhile, and before them.
    let mut other = Line::connect(place.port).unwrap();
    let keys = other.ask("GET /.well-known/jwks.json", "", "").unwrap();
    assert_eq!(keys.status, 200);
    let mut statuses = Vec::new();
    for line in &mut lines {
        let reply = line.hear().unwrap();
        if reply.status == 503 {
            reply.refused(503, "overloaded");
            assert!(reply.header("retry-after").is_some());
        }
        statuses.push(reply.status);
    }
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    assert_eq!(count(401) + count(503), AT_ONCE, "{statuses:?}");
    assert!(count(503) > 0 && count(401) >= 32, "{statuses:?}");
    let grown = memory(&service, "VmHWM") - before;
    // Beside the hashes, five hundred connections and what answers them.
    let most = THREADS * HASH_KIB + 32 * 1024;
    assert!(grown <= most, "{grown} KiB, of {most}");
}
