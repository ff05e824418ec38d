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
    assert_eq!(rows, 3);
}
