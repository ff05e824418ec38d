//! The database is locked, or the disk is full: an answer in time that says when to come back, nobody
//! signed out, nothing half done, and on again when it is over.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::harness::{
    JSON, LOGOUT, PASSWORD, Place, REFRESH, Reply, SignedIn, eventually, login, send, try_get,
};

/// `database.timeout` of these services.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Longer takes no answer, on a machine that has other things to do as well.
const IN_TIME: Duration = Duration::from_secs(10);

/// Passwords as cheap as they may be: what takes time here is to be the database.
const SETTINGS: &str = "password.argon2.memory = \"7MiB\"\n\
                        password.argon2.passes = 5";

fn place() -> Place {
    let place = Place::new();
    let timeout = TIMEOUT.as_secs();
    place.settings(&format!("{SETTINGS}\ndatabase.timeout = \"{timeout}s\""));
    place.add_user("ana");
    place
}

/// What needs to write.
fn changes(place: &Place, ana: &SignedIn) -> Vec<Reply> {
    let (port, headers) = (place.port, format!("{JSON}{}", ana.bearer()));
    vec![
        ana.refresh(port),
        send(port, LOGOUT, &ana.cookies(), ""),
        login(port, "ana", PASSWORD),
        send(
            port,
            "PATCH /users/user",
            &headers,
            "{\"first_name\": \"Ana\"}",
        ),
    ]
}

fn assert_come_again(reply: &Reply) {
    reply.refused(503, "storage_unavailable");
    let later = reply.header("retry-after").unwrap();
    assert!(later.parse::<u32>().unwrap() > 0, "{reply:?}");
    assert_eq!(reply.header("set-cookie"), None, "the cookies stay");
}

/// What goes on without writing.
fn assert_reads_go_on(place: &Place, ana: &SignedIn) {
    let port = place.port;
    assert_eq!(ana.user(port).status, 200);
    for path in ["GET /users/sessions", "GET /users/csrf"] {
        let headers = format!("{}{}", ana.bearer(), ana.cookies());
        let reply = send(port, path, &headers, "");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    // A guess that cannot be counted is not made.
    assert_come_again(&login(port, "ana", "wrong"));
    let ready = try_get(place.operations_port, "/readyz").unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
}

/// Nothing was lost and nothing done: the session goes on from where it was.
fn assert_goes_on(place: &Place, ana: &SignedIn) {
    assert_eq!(place.generation(&ana.session), Some(0));
    let renewed = SignedIn::from_reply(&ana.refresh(place.port));
    assert_eq!(place.generation(&ana.session), Some(1));
    assert_eq!(renewed.user(place.port).json()["user"]["first_name"], "");
    eventually("it is ready", || {
        try_get(place.operations_port, "/readyz").is_some_and(|reply| reply.status == 200)
    });
    let reply = send(place.port, LOGOUT, &renewed.cookies(), "");
    assert_eq!(reply.status, 204, "{reply:?}");
}

#[test]
fn a_database_that_another_process_has_locked_is_an_outage_in_time_and_no_more() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let place = place();
        let _service = place.serve();
        let ana = SignedIn::new(place.port, "ana");
        let stranger = place.stranger();
        stranger.execute_batch(lock).unwrap();

        for _ in 0..3 {
            let asked = Instant::now();
            let refused = ana.refresh(place.port);
            assert_come_again(&refused);
            let waited = asked.elapsed();
            assert!(waited >= TIMEOUT && waited < IN_TIME, "{waited:?}");
        }
        // Many who wait, wait at the same time.
        let asked = Instant::now();
        let many: Vec<_> = thread::scope(|scope| {
            let asking: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| changes(&place, &ana)))
                .collect();
            asking
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(asked.elapsed() < IN_TIME * 2, "{:?}", asked.elapsed());
        many.iter().for_each(assert_come_again);
        assert_reads_go_on(&place, &ana);

        stranger.execute_batch("ROLLBACK").unwrap();
        assert_goes_on(&place, &ana);
        let of_ana = "SELECT count(*) FROM countersign_session";
        let sessions: u32 = stranger.query_row(of_ana, [], |row| row.get(0)).unwrap();
        assert_eq!(sessions, 1, "a sign-in that was refused has opened none");
    }
}

#[test]
fn a_lock_that_is_given_back_in_time_is_waited_for() {
    let place = Place::new();
    place.settings(&format!("{SETTINGS}\ndatabase.timeout = \"20s\""));
    place.add_user("ana");
    let _service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    let stranger = place.stranger();
    stranger.execute_batch("BEGIN EXCLUSIVE").unwrap();
    thread::scope(|scope| {
        let refresh = scope.spawn(|| send(place.port, REFRESH, &ana.cookies(), ""));
        thread::sleep(Duration::from_millis(300));
        assert!(!refresh.is_finished());
        stranger.execute_batch("ROLLBACK").unwrap();
        assert_eq!(refresh.join().unwrap().status, 200);
    });
    assert_eq!(place.generation(&ana.session), Some(1));
}

/// Set for the test that runs in a small file system: where that is.
const SMALL: &str = "COUNTERSIGN_TEST_SMALL_FILE_SYSTEM";

/// On a file system of its own, for others would feel it if theirs were full.
#[test]
#[ignore = "mounts a small file system: needs `unshare` (util-linux) and user namespaces"]
fn a_full_disk_is_an_outage_and_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = "mount -t tmpfs -o size=2m countersign \"$1\" && shift && exec \"$@\"";
    let ended = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-ec", mounted, "sh"])
        .arg(directory.path())
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "storage::on_a_disk_that_fills",
            "--ignored",
            "--nocapture",
        ])
        .env("TMPDIR", directory.path())
        .env(SMALL, directory.path())
        .status()
        .expect("`unshare` is installed");
    assert!(ended.success(), "{ended}");
}

#[test]
#[ignore = "runs within a_full_disk_is_an_outage_and_no_damage"]
fn on_a_disk_that_fills() {
    if env::var_os(SMALL).is_none() {
        return;
    }
    let place = place();
    let _service = place.serve();
    let mut ana = SignedIn::new(place.port, "ana");
    let mut ballast = File::create(place.path("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}

    // What the log has room for is still taken.
    let mut granted = 0;
    let refused = loop {
        let reply = ana.refresh(place.port);
        if reply.status != 200 {
            break reply;
        }
        ana = SignedIn::from_reply(&reply);
        granted += 1;
        assert!(granted < 10_000, "the disk never was full");
    };
    assert_come_again(&refused);
    changes(&place, &ana).iter().for_each(assert_come_again);
    assert_reads_go_on(&place, &ana);
    assert_eq!(place.generation(&ana.session), Some(granted));

    fs::remove_file(place.path("ballast")).unwrap();
    drop(ballast);
    assert_eq!(ana.refresh(place.port).status, 200);
    assert_eq!(place.generation(&ana.session), Some(granted + 1));
    assert_eq!(place.integrity(), "ok");
}
