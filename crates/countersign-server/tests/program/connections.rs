//! How many connections there may be, and who goes when there are too many.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{JSON, Line, Place, Said, Service, connect, eventually, try_get};

/// The program with no more than so many files open.
fn with_files(place: &Place, files: u32) -> std::process::Command {
    let mut shell = place.command(&[]);
    let program = shell.get_program().to_owned();
    shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", &format!("ulimit -n {files}; exec \"$0\" serve")])
        .arg(program)
        .current_dir(place.path(""))
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    shell
}

fn open_files(service: &Service) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", service.id()));
    open.unwrap().count()
}

/// Whether the other side has closed it.
fn is_closed(stream: &TcpStream) -> bool {
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    match (&*stream).read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// A sign-in whose body does not come.
fn busy(port: u16) -> TcpStream {
    let mut stream = connect(port);
    let head = format!(
        "POST /users/login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{JSON}Content-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out_and_no_file_is_opened_beyond_the_limit() {
    let place = Place::new();
    place.settings("server.max_connections_per_address = 10000");
    let mut command = with_files(&place, 256);
    let service = Service::start(&mut command, place.operations_port);
    let mut idle = Vec::new();
    for number in 0..1_000 {
        idle.push(connect(place.port));
        if number % 100 == 0 {
            let reply = try_get(place.port, "/docs").unwrap();
            assert_eq!(reply.status, 200);
            assert!(open_files(&service) < 256);
        }
    }
    let gone = idle.iter().filter(|stream| is_closed(stream)).count();
    assert!((700..1_000).contains(&gone), "{gone} have gone");
    // The operator asks elsewhere.
    assert_eq!(
        try_get(place.operations_port, "/readyz").unwrap().status,
        200
    );
    let (_, log) = service.stop();
    assert!(!log.contains("accept_failed"), "{log}");
}

#[test]
fn who_has_been_answered_goes_only_after_those_that_have_been_idle_longer() {
    let place = Place::new();
    place.settings("server.max_connections = 16");
    let _service = place.serve();
    let silent: Vec<_> = (0..15).map(|_| connect(place.port)).collect();
    // They are accepted in the order in which they came: all of them are there before this is answered.
    assert_eq!(try_get(place.port, "/docs").unwrap().status, 200);
    let mut kept = Line::connect(place.port).unwrap();
    assert_eq!(kept.ask("GET /docs", "", "").unwrap().status, 200);
    let _more: Vec<_> = (0..8).map(|_| connect(place.port)).collect();
    eventually("some make room", || silent.iter().any(is_closed));
    assert_eq!(kept.ask("GET /docs", "", "").unwrap().status, 200);
}

#[test]
fn an_address_that_keeps_all_its_connections_busy_gets_no_further_one() {
    let place = Place::new();
    place.settings("server.max_connections_per_address = 4\nlog.format = \"json\"");
    let service = place.serve();
    let idle: Vec<_> = (0..4).map(|_| connect(place.port)).collect();
    // In the place of idle ones, the first of them first.
    assert_eq!(try_get(place.port, "/docs").unwrap().status, 200);
    eventually("the first has made room", || is_closed(&idle[0]));
    let mut at_work: Vec<_> = (0..4).map(|_| busy(place.port)).collect();
    eventually("all of them have", || idle.iter().all(is_closed));
    eventually("none is left", || is_closed(&connect(place.port)));
    service.await_log("connections_refused");
    service.await_log("server.max_connections_per_address");
    assert_eq!(
        try_get(place.operations_port, "/readyz").unwrap().status,
        200
    );
    // One that is done makes room.
    drop(at_work.pop());
    eventually("there is room again", || {
        try_get(place.port, "/docs").is_some_and(|reply| reply.status == 200)
    });
}

#[test]
fn a_trusted_proxy_has_as_many_as_it_needs() {
    let place = Place::new();
    place.settings(
        "server.max_connections_per_address = 1\nserver.trusted_proxies = [\"127.0.0.1\"]",
    );
    let _service = place.serve();
    let _busy: Vec<_> = (0..8).map(|_| busy(place.port)).collect();
    assert_eq!(try_get(place.port, "/docs").unwrap().status, 200);
}

#[test]
fn an_http2_connection_that_asks_for_nothing_is_closed() {
    let place = Place::new();
    let _service = place.serve();
    let mut stream = connect(place.port);
    let began = Instant::now();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let _end = stream.read_to_end(&mut Vec::new());
    let after = began.elapsed();
    assert!((9..25).contains(&after.as_secs()), "closed after {after:?}");
}

#[test]
fn more_connections_than_files_are_refused_with_the_way_out() {
    let place = Place::new();
    let refused = |files| {
        let output = with_files(&place, files).output().unwrap();
        let said = Said {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert_eq!(said.status, Some(78), "{said:?}");
        for part in ["server.max_connections", "LimitNOFILE="] {
            assert!(said.stderr.contains(part), "{said:?}");
        }
        said.stderr
    };
    assert!(!refused(100).contains("smaller number"));
    place.settings("server.max_connections = 500");
    assert!(refused(500).contains("smaller number"));
    place.settings("server.max_connections = 15");
    let said = place.run(&["serve"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(said.stderr.contains("15 is not between 16 and"), "{said:?}");
}
