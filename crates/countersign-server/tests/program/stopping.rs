//! SIGTERM and SIGINT: what is in flight is finished, and the end is a good one.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use crate::harness::{JSON, PASSWORD, Place, connect, login_body, read_reply, request, try_get};

#[test]
fn a_request_in_flight_is_finished() {
    let place = Place::new();
    place.add_user("ana");
    let mut service = place.serve();
    let host = format!("127.0.0.1:{}", place.port);
    let text = request(
        "POST /users/login",
        &host,
        JSON,
        &login_body("ana", PASSWORD),
    );
    let (before, after) = text.split_at(text.len() - 10);

    let mut slow = connect(place.port);
    slow.write_all(before.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(300));
    service.signal("-TERM");
    service.await_log("stopping");
    assert!(try_get(place.port, "/docs").is_none(), "it still accepts");
    slow.write_all(after.as_bytes()).unwrap();
    let reply = read_reply(&mut slow).unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");

    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    let place = Place::new();
    let mut service = place.serve();
    let mut idle = connect(place.port);
    let asked = format!(
        "GET /docs HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n",
        place.port
    );
    idle.write_all(asked.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(300));
    let began = std::time::Instant::now();
    service.signal("-INT");
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
