//! The log holds no secret at any level (attacks L01 and L02), and nobody writes lines into it.

use std::io::{Read as _, Write as _};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    JSON, Line, PASSWORD, Place, Reply, connect, eventually, login, login_body, read_reply, send,
    try_get,
};

/// Everything that a session is made of.
fn secrets_of(reply: &Reply) -> Vec<String> {
    let body = reply.json();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    vec![
        text("access_token"),
        text("csrf_token"),
        reply.cookie("refreshtoken").unwrap(),
    ]
}

/// Every byte of the database's files.
fn database(place: &Place) -> String {
    let files = ["countersign.db", "countersign.db-wal"].map(|name| place.path(name));
    let bytes = files
        .map(|file| std::fs::read(file).unwrap_or_default())
        .concat();
    assert!(bytes.len() > 4_096);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_secret_is_logged_at_any_level() {
    let place = Place::new();
    place.add_user("ana");
    for format in ["json", "pretty"] {
        let service = place.serve_with(&[
            ("COUNTERSIGN_LOG__LEVEL", "trace"),
            ("COUNTERSIGN_LOG__FORMAT", format),
        ]);
        let port = place.port;
        let mut secrets = vec![PASSWORD.to_owned(), place.read("countersign.secret")];
        let reply = login(port, "ana", PASSWORD);
        secrets.extend(secrets_of(&reply));
        assert_eq!(login(port, PASSWORD, PASSWORD).status, 401);
        assert_eq!(login(port, "ana", "CANARY wrong password").status, 401);
        assert_eq!(
            send(port, "POST /users/login", JSON, "{\"username\": \"CANARY").status,
            400
        );

        let csrf = &secrets[3];
        let session = format!(
            "X-CSRFToken: {csrf}\r\nCookie: refreshtoken={}; csrftoken={csrf}\r\n",
            secrets[4]
        );
        let refreshed = send(port, "POST /users/refresh_token", &session, "");
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        let bearer = format!("Authorization: Bearer {}\r\n", secrets[2]);
        assert_eq!(send(port, "GET /users/user", &bearer, "").status, 200);
        let forged = "Authorization: Bearer CANARY.CANARY.CANARY\r\nX-CSRFToken: CANARY\r\n";
        assert_eq!(
            send(port, "GET /users/user?token=CANARY", forged, "").status,
            401
        );
        let cookie = "Cookie: refreshtoken=CANARY\r\nX-CSRFToken: CANARY\r\n";
        assert_eq!(
            send(port, "POST /users/refresh_token", cookie, "").status,
            401
        );
        assert_eq!(send(port, "POST /users/logout", &session, "").status, 204);
        secrets.push(
            refreshed.json()["access_token"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        secrets.push(refreshed.cookie("refreshtoken").unwrap());

        let metrics = try_get(place.operations_port, "/metrics").unwrap().body;
        let (_, log) = service.stop();
        assert!(
            log.contains("login_succeeded") && log.contains("session_refreshed"),
            "{log}"
        );
        for secret in secrets.iter().map(|secret| secret.trim()).chain(["CANARY"]) {
            assert!(!log.contains(secret), "{format}: {secret} is in {log}");
            // A token's signature makes it a token.
            let signature = secret.rsplit('.').next().unwrap();
            assert!(
                !log.contains(signature),
                "{format}: {signature} is in {log}"
            );
            for (what, text) in [
                ("metrics", &metrics),
                ("audit log", &place.done(&["audit", "list", "--json"])),
                ("database", &database(&place)),
            ] {
                for part in [secret, signature] {
                    assert!(!text.contains(part), "{format}: {part} is in the {what}");
                }
            }
        }
    }
}

#[test]
fn nobody_writes_a_line_of_their_own() {
    let place = Place::new();
    for format in ["json", "pretty"] {
        let service = place.serve_with(&[
            ("COUNTERSIGN_LOG__LEVEL", "trace"),
            ("COUNTERSIGN_LOG__FORMAT", format),
        ]);
        let hostile = "x\n2026-01-01T00:00:00.000Z  INFO forged\r\n\u{1b}[2J\u{85}";
        assert!(matches!(
            login(place.port, hostile, hostile).status,
            400 | 401
        ));
        let escape = "User-Agent: x\u{1b}[2J\u{9b}31mforged\r\nX-Request-Id: a\u{1b}b\r\n";
        let _any = send(place.port, "GET /users/user?x=%0a%0dforged", escape, "");
        let _any = send(
            place.port,
            "POST /users/%0aforged",
            JSON,
            &login_body("ana", "x"),
        );
        let mut stream = connect(place.port);
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\x1b[2J\r\nforged\r\n\r\n")
            .unwrap();
        let _any = read_reply(&mut stream);

        service.signal("-TERM");
        let mut service = service;
        service.wait();
        let log = service.stderr();
        assert!(
            !log.contains(['\u{1b}', '\r', '\u{85}', '\u{9b}']),
            "{log:?}"
        );
        for line in log.lines() {
            let whole = match format {
                "json" => serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()),
                _ => line.starts_with("20") && !line.contains("INFO forged"),
            };
            assert!(whole, "{line:?}");
        }
    }
}

#[test]
fn a_request_is_known_by_the_same_id_in_answer_and_log() {
    let place = Place::new();
    let service = place.serve();
    let reply = login(place.port, "nobody", "some password");
    let id = reply
        .head
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap();
    let (_, log) = service.stop();
    let line = log
        .lines()
        .find(|line| line.contains("login_refused"))
        .unwrap();
    assert!(line.contains(id), "{line}");
}

#[test]
fn hangup_changes_the_level() {
    let place = Place::new();
    place.settings("log.level = \"error\"");
    let service = place.serve();
    assert!(
        !service.stderr().contains("started"),
        "{}",
        service.stderr()
    );
    place.settings("log.level = \"info\"");
    service.signal("-HUP");
    service.await_log("reloaded");

    // Refused settings change nothing and are told.
    place.settings("log.level = \"loud\"");
    service.signal("-HUP");
    service.await_log("reload_refused");
    let (status, log) = service.stop();
    assert!(status.success() && log.contains("stopped"), "{log}");
}

/// A service whose log nobody reads, yet.
struct Unread(Child);

impl Unread {
    /// With so many requests behind it that each left a line in the log.
    fn after_refusals(place: &Place, number: usize) -> Self {
        place.settings("log.format = \"json\"\nthrottle.refused_tokens = \"100000 then 1ms\"");
        let child = place.command(&["serve"]).spawn().unwrap();
        let service = Self(child);
        eventually("it is ready", || {
            try_get(place.operations_port, "/readyz").is_some_and(|reply| reply.status == 200)
        });
        let mut line = Line::connect(place.port).unwrap();
        for _ in 0..number {
            let bearer = "Authorization: Bearer a.b.c\r\n";
            let reply = line.ask("GET /users/user", bearer, "").unwrap();
            assert_eq!(reply.status, 401, "{reply:?}");
        }
        assert_eq!(try_get(place.port, "/docs").unwrap().status, 200);
        service
    }

    fn terminate(&self) {
        let process = self.0.id().to_string();
        let kill = std::process::Command::new("kill").arg(process).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

const REFUSALS: usize = 16_000;

#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() {
    let place = Place::new();
    let mut service = Unread::after_refusals(&place, REFUSALS);
    let mut stderr = service.0.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).map(|_| log).unwrap()
    });
    std::thread::sleep(Duration::from_millis(500));
    service.terminate();
    assert!(service.0.wait().unwrap().success());
    let log = reading.join().unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    let lost: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
    let lost = usize::try_from(lost).unwrap();
    assert!(lost > 0 && count("log_lines_lost") > 0, "nothing was lost");
    assert_eq!(count("access_token_refused") + lost, REFUSALS);
    assert_eq!(lines.last().unwrap()["event"], "stopped");
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_it_from_stopping() {
    let place = Place::new();
    let mut service = Unread::after_refusals(&place, REFUSALS);
    let began = Instant::now();
    service.terminate();
    assert!(service.0.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(10));
}
