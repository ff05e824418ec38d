//! Where it listens, who may come in how, and how slow they may be.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{JSON, PASSWORD, Place, Service, connect, login, login_body, send, try_get};

#[test]
fn a_second_one_on_the_same_port_says_so() {
    let place = Place::new();
    let _service = place.serve();
    let said = place.run(&["serve"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    let port = place.port;
    assert!(
        said.stderr.contains(&format!("127.0.0.1:{port} is in use")),
        "{said:?}"
    );
    assert!(said.stderr.contains("--listen"), "{said:?}");

    let elsewhere = Place::new();
    elsewhere.write("countersign.toml", &place.read("countersign.toml"));
    let listen = format!("127.0.0.1:{}", elsewhere.port);
    let said = elsewhere.run(&["serve", "--listen", &listen]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("server.operations_listen"), "{said:?}");
    assert!(
        !elsewhere.path("countersign.db").exists(),
        "it changed something"
    );
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let place = Place::new();
    place.settings(
        "server.public_url = \"https://auth.example.org\"\nserver.trusted_proxies = [\"10.0.0.1\"]",
    );
    let said = place.run(&["serve", "--listen", "192.0.2.1:8000"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("not an address of this machine"),
        "{said:?}"
    );
}

#[test]
fn the_command_line_chooses_the_address() {
    let place = Place::new();
    let other = Place::new();
    let listen = format!("127.0.0.1:{}", other.port);
    let mut command = place.command(&["serve", "--listen", &listen]);
    let service = Service::start(&mut command, place.operations_port);
    assert_eq!(try_get(other.port, "/docs").unwrap().status, 200);
    assert!(service.stdout().contains(&format!("http://{listen}/docs")));
}

// Attack C10: in production nothing is answered over plain http.
#[test]
fn plain_http_is_refused_unless_a_trusted_proxy_has_ended_tls() {
    let place = Place::new();
    let behind = |proxy: &str| {
        place.settings(&format!(
            "server.public_url = \"https://auth.example.org\"\nserver.trusted_proxies = [\"{proxy}\"]"
        ));
    };
    behind("127.0.0.1");
    place.add_user("ana");
    let service = place.serve();
    let body = login_body("ana", PASSWORD);
    let from_proxy = format!("{JSON}X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7\r\n");
    let reply = send(place.port, "POST /users/login", &from_proxy, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        reply.head.contains("__Host-Http-refreshtoken="),
        "{reply:?}"
    );
    let reply = login(place.port, "ana", PASSWORD);
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(!reply.head.contains("set-cookie"), "{reply:?}");
    service.stop();

    behind("10.0.0.1");
    let _service = place.serve();
    let reply = send(place.port, "POST /users/login", &from_proxy, &body);
    assert!(
        reply.status >= 400 && !reply.head.contains("set-cookie"),
        "{reply:?}"
    );
}

#[test]
fn a_service_manager_gives_the_socket_and_is_told_of_start_and_stop() {
    let place = Place::new();
    // The port that is configured is taken: only with the socket given can it start.
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, place.port)).unwrap();
    let told = UnixDatagram::bind(place.path("notify")).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg("exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve")
        .arg(env!("CARGO_BIN_EXE_countersign"))
        .current_dir(place.path(""))
        .env_clear()
        .env("NOTIFY_SOCKET", place.path("notify"))
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let service = Service::start(&mut shell, place.operations_port);
    assert_eq!(try_get(place.port, "/docs").unwrap().status, 200);

    let mut message = [0; 64];
    let mut next = || {
        let length = told.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length])
            .trim()
            .to_owned()
    };
    assert_eq!(next(), "READY=1");
    service.stop();
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn a_slow_head_is_cut_and_an_idle_connection_is_kept() {
    let place = Place::new();
    let _service = place.serve();
    let port = place.port;
    let slow = thread::spawn(move || {
        let mut stream = connect(port);
        let began = Instant::now();
        stream
            .write_all(b"GET /docs HTTP/1.1\r\nHost: 127")
            .unwrap();
        // One byte a second keeps nobody waiting.
        let mut writer = stream.try_clone().unwrap();
        thread::spawn(move || {
            while writer.write_all(b"0").is_ok() {
                thread::sleep(Duration::from_secs(1));
            }
        });
        let _cut = stream.read_to_end(&mut Vec::new());
        began.elapsed()
    });
    let silent = thread::spawn(move || {
        let mut stream = connect(port);
        let began = Instant::now();
        let _cut = stream.read_to_end(&mut Vec::new());
        began.elapsed()
    });
    let mut idle = connect(port);
    let asked = format!("GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    for _ in 0..2 {
        idle.write_all(asked.as_bytes()).unwrap();
        let mut start = [0; 15];
        idle.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        drain(&mut idle);
        thread::sleep(Duration::from_secs(11));
    }
    for cut in [slow, silent] {
        let after = cut.join().unwrap();
        assert!((9..15).contains(&after.as_secs()), "cut after {after:?}");
    }
}

/// Reads what there is.
fn drain(stream: &mut std::net::TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
}
