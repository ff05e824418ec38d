//! `audit`: what happened is listed and followed; and it is kept with what it tells of, whoever dies when.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::chance::Chance;
use crate::harness::{
    JSON, LOGOUT, Line, PASSWORD, Place, SignedIn, eventually, login, login_body, send,
};

/// Passwords as cheap as they may be, and sign-ins that are not counted.
const BUSY: &str = "password.argon2.memory = \"7MiB\"\n\
                    password.argon2.passes = 5\n\
                    throttle.insecure_off = true\n\
                    log.level = \"error\"";

/// The log as programs read it, newest first.
pub(crate) fn listed(place: &Place, words: &[&str]) -> Vec<Value> {
    let words = [&["audit", "list", "--json"], words].concat();
    serde_json::from_str(&place.done(&words)).unwrap()
}

fn events(entries: &[Value]) -> Vec<&str> {
    let events = entries.iter().map(|entry| entry["event"].as_str().unwrap());
    events.collect()
}

#[test]
fn the_log_is_listed_for_people_and_for_programs() {
    let place = Place::new();
    let none = place.run(&["audit", "list"]);
    assert_eq!(none.status, Some(1), "there is no database yet: {none:?}");
    for name in ["ana", "bob"] {
        place.add_user(name);
    }
    let service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    let named = format!("{JSON}User-Agent: curl/8 \"x\"\r\n");
    let body = login_body("bob", "CANARY wrong password");
    assert_eq!(
        send(place.port, "POST /users/login", &named, &body).status,
        401
    );
    place.done(&["user", "deactivate", "ana"]);

    let all = listed(&place, &[]);
    let newest_first = [
        "session_ended",
        "active_set",
        "login_refused",
        "login_succeeded",
        "settings_in_force",
    ];
    let mut told = events(&all);
    // Those of one transaction have one time or two.
    told[..2].sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(told[..5], newest_first);
    let of_ana = listed(&place, &["--user", "ana"]);
    assert_eq!(of_ana.len(), 4, "{of_ana:?}");
    assert!(of_ana.iter().all(|entry| entry["username"] == "ana"));
    let of_session = listed(&place, &["--session", &ana.session]);
    let mut told = events(&of_session);
    told.sort_unstable();
    assert_eq!(told, ["login_succeeded", "session_ended"]);
    let refused = listed(
        &place,
        &["--event", "login_refused", "--since", "1h", "--limit", "1"],
    );
    let [refused] = &*refused else {
        panic!("not one: {refused:?}")
    };
    assert_eq!(
        (&refused["username"], &refused["ip"]),
        (&"bob".into(), &"127.0.0.1".into())
    );
    assert_eq!(refused["details"]["reason"], "wrong_password");
    assert_eq!(refused["by"], Value::Null);
    assert_eq!(refused["request_id"].as_str().map(str::len), Some(32));
    assert_eq!(
        listed(&place, &["--until", "2020-01-01"]),
        Vec::<Value>::new()
    );

    let text = place.done(&["audit", "list", "--limit", "3"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    for part in [
        "active_set",
        "ana",
        "active=false",
        "by the command line",
        "from 127.0.0.1",
        r#"agent="curl/8 \"x\""#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("CANARY"), "{text}");

    // A user who was deleted is found by number.
    let number = refused["user_id"].as_i64().unwrap().to_string();
    place.done(&["user", "delete", "bob", "--yes"]);
    let of_bob = listed(&place, &["--user", &number]);
    assert_eq!(
        events(&of_bob),
        ["user_deleted", "login_refused", "user_created"]
    );
    for wrong in [["--since", "yesterday"], ["--session", "x"]] {
        let said = place.run(&[&["audit", "list"], &wrong[..]].concat());
        assert_eq!(said.status, Some(2), "{said:?}");
    }
    let misspelt = place.run(&["audit", "list", "--event", "login_refusd"]);
    assert_eq!(misspelt.status, Some(2), "{misspelt:?}");
    assert!(
        misspelt.stderr.contains("did you mean login_refused?"),
        "{misspelt:?}"
    );
    let unknown = place.run(&["audit", "list", "--event", "nonsense"]);
    assert_eq!(unknown.status, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("login_refused"), "{unknown:?}");
    drop(service);
}

#[test]
fn each_start_says_with_which_settings_and_tells_no_secret() {
    let place = Place::new();
    place.settings("sessions.idle = \"3d\"");
    let digest = || {
        let entries = listed(&place, &["--event", "settings_in_force", "--limit", "1"]);
        let details = entries[0]["details"].clone();
        let set = details["set"].to_string();
        assert!(
            set.contains("\"sessions.idle\"") && !set.contains("\"sessions.grace\""),
            "{set}"
        );
        details["digest"].as_str().unwrap().to_owned()
    };
    drop(place.serve());
    let first = digest();
    drop(place.serve());
    assert_eq!(digest(), first);
    place.settings("sessions.idle = \"4d\"");
    drop(place.serve());
    assert_ne!(digest(), first);
}

/// Someone who follows the log.
struct Follower(Child);

impl Follower {
    fn start(place: &Place, variables: &[(&str, &str)]) -> Self {
        let mut command = place.command(&["audit", "tail", "--json"]);
        let mut child = command.envs(variables.iter().copied()).spawn().unwrap();
        // It has begun when it says so.
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with("Following"), "{line}");
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(child)
    }

    fn signal(&self, name: &str) {
        let process = self.0.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &process])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Ends it by a signal and gives the entries that it showed.
    fn stop(mut self, signal: &str) -> Vec<Value> {
        self.signal(signal);
        let mut text = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        let status = self.0.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn tail_shows_new_entries_until_a_signal_or_its_reader_goes() {
    let place = Place::new();
    place.add_user("ana");
    let _service = place.serve();
    for signal in ["-INT", "-TERM"] {
        let follower = Follower::start(&place, &[]);
        let ana = SignedIn::new(place.port, "ana");
        assert_eq!(
            login(place.port, "ana", "CANARY wrong password").status,
            401
        );
        thread::sleep(Duration::from_millis(1_200));
        let shown = follower.stop(signal);
        assert_eq!(events(&shown), ["login_succeeded", "login_refused"]);
        assert_eq!(shown[0]["session"], ana.session.as_str());
        assert_eq!(shown[0]["username"], "ana");
    }
    let mut follower = Follower::start(&place, &[]);
    drop(follower.0.stdout.take());
    SignedIn::new(place.port, "ana");
    eventually("it ends with its reader", || {
        follower.0.try_wait().unwrap().is_some()
    });
    assert_eq!(follower.0.wait().unwrap().code(), Some(0));
}

/// Gathered refusals are kept when the service stops.
#[test]
fn what_was_gathered_is_kept_at_the_stop() {
    let place = Place::new();
    let service = place.serve();
    for _ in 0..5 {
        let forged = "Authorization: Bearer CANARY\r\n";
        assert_eq!(send(place.port, "GET /users/user", forged, "").status, 401);
    }
    let (status, said) = service.stop();
    assert!(status.success(), "{said}");
    let gathered = listed(&place, &["--event", "access_token_refused"]);
    assert_eq!(gathered.len(), 1, "{gathered:?}");
    assert_eq!(
        (&gathered[0]["count"], &gathered[0]["ip"]),
        (&5.into(), &"127.0.0.1".into())
    );
}

/// Signs in and out until the service is gone.
fn come_and_go(port: u16) {
    let come = || {
        let mut line = Line::connect(port).ok()?;
        let body = login_body("ana", PASSWORD);
        loop {
            let reply = line.ask("POST /users/login", JSON, &body).ok()?;
            let ana = SignedIn::from_reply(&reply);
            line.ask(LOGOUT, &ana.cookies(), "").ok()?;
        }
    };
    let _gone: Option<()> = come();
}

/// A session is in the database with its entry, and each end with its own: after a `kill -9` at any instant.
#[test]
fn whoever_is_killed_leaves_both_the_change_and_its_entry_or_neither() {
    let place = Place::new();
    place.settings(BUSY);
    place.add_user("ana");
    let mut chance = Chance::of(Chance::seed());
    for _ in 0..8 {
        let service = place.serve();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| come_and_go(place.port));
            }
            thread::sleep(Duration::from_micros(100_000 + chance.below(200_000)));
            service.kill();
        });
        let database = place.stranger();
        let count = |sql: &str| -> i64 { database.query_row(sql, [], |row| row.get(0)).unwrap() };
        let sessions = count("SELECT count(*) FROM countersign_session");
        assert!(sessions > 0);
        for (event, condition) in [
            ("login_succeeded", "true"),
            ("session_ended", "ended_at IS NOT NULL"),
        ] {
            let of_sessions = count(&format!(
                "SELECT count(*) FROM countersign_session WHERE {condition}"
            ));
            let entries = count(&format!(
                "SELECT count(*) FROM countersign_audit WHERE event = '{event}'"
            ));
            let paired = count(&format!(
                "SELECT count(DISTINCT id) FROM countersign_session JOIN countersign_audit ON session = id
                 WHERE event = '{event}' AND {condition}"
            ));
            assert_eq!((entries, paired), (of_sessions, of_sessions), "{event}");
        }
    }
}

/// A follower of `place` sees exactly what is listed of this event, each once.
pub(crate) fn nothing_is_missed(place: &Place, variables: &[(&str, &str)], ports: [u16; 2]) {
    let follower = Follower::start(place, variables);
    thread::scope(|scope| {
        for port in ports.into_iter().cycle().take(6) {
            scope.spawn(move || {
                for _ in 0..20 {
                    SignedIn::new(port, "ana");
                }
            });
        }
    });
    thread::sleep(Duration::from_secs(2));
    let entries = follower.stop("-TERM");
    let mut shown: Vec<_> = entries
        .iter()
        .filter(|entry| entry["event"] == "login_succeeded")
        .map(|entry| entry["number"].as_i64().unwrap())
        .collect();
    let words = [
        "audit",
        "list",
        "--json",
        "--event",
        "login_succeeded",
        "--limit",
        "1000",
    ];
    let said = place.run_with(variables, &words);
    let listed: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    let mut there: Vec<_> = listed
        .iter()
        .map(|entry| entry["number"].as_i64().unwrap())
        .collect();
    shown.sort_unstable();
    there.sort_unstable();
    assert_eq!(there.len(), 120);
    assert_eq!(shown, there);
}
