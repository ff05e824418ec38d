//! From SQLite to PostgreSQL: nobody is signed out, nothing is lost, and there never are two services
//! that both go on.

use std::process::Command;

use serde_json::Value;

use crate::harness::{
    LOGOUT, PASSWORD, Place, REFRESH, Said, SignedIn, eventually, login, send, try_get,
};
use crate::nodes::server::{Server, programs};

/// Passwords as cheap as they may be, and a database that nobody waits for.
const SETTINGS: &str = "password.argon2.memory = \"7MiB\"\n\
                        password.argon2.passes = 5\n\
                        database.timeout = \"300ms\"";

const FROM: &str = "sqlite://countersign.db";

/// A place where ana lives.
fn home() -> Place {
    let place = Place::new();
    place.settings(SETTINGS);
    place.add_user("ana");
    place
}

/// Tells the place that its database is the one on the server.
fn go_over(place: &Place, server: &Server) {
    place.settings(&format!(
        "{SETTINGS}\ndatabase.url = \"{}\"",
        server.url("postgres")
    ));
}

fn move_out(place: &Place, server: &Server) -> Said {
    place.run(&["migrate", "--from", FROM, "--to", &server.url("postgres")])
}

#[track_caller]
fn refused(said: &Said, status: i32, why: &str) {
    assert_eq!(said.status, Some(status), "{said:?}");
    assert!(said.stderr.contains(why), "{why} is not in {said:?}");
}

fn jwks(place: &Place) -> Value {
    let keys = send(place.port, "GET /.well-known/jwks.json", "", "");
    assert_eq!(keys.status, 200, "{keys:?}");
    keys.json()
}

/// Asks the database something, as anyone may: what `psql` prints.
fn ask(server: &Server, sql: &str) -> String {
    let output = Command::new(programs().join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .arg(server.url("postgres"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}: {told}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.trim_end().to_owned()
}

fn rows(server: &Server) -> String {
    ask(
        server,
        "SELECT (SELECT count(*) FROM auth_user), (SELECT count(*) FROM countersign_session),
             (SELECT count(*) FROM countersign_signing_key)",
    )
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn everybody_stays_signed_in() {
    let (place, server) = (home(), Server::new());
    place.add_user("bob");
    place.add_user("eve");
    place.done(&["user", "deactivate", "eve"]);
    let service = place.serve();
    let ana = SignedIn::from_reply(&SignedIn::new(place.port, "ana").refresh(place.port));
    let bob = SignedIn::new(place.port, "bob");
    assert_eq!(send(place.port, LOGOUT, &bob.cookies(), "").status, 204);
    let lost_reply = SignedIn::new(place.port, "ana");
    let renewed = SignedIn::from_reply(&lost_reply.refresh(place.port));
    let keys = jwks(&place);
    service.stop();

    let said = move_out(&place, &server);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "{said:?}"
    );
    for line in [
        "users                   3",
        "sessions                3",
        "signing keys            1",
    ] {
        assert!(said.stdout.contains(line), "{line} is not in {said:?}");
    }

    go_over(&place, &server);
    let _service = place.serve();
    assert_eq!(jwks(&place), keys);
    assert_eq!(ana.user(place.port).json()["user"]["username"], "ana");
    let ana = SignedIn::from_reply(&ana.refresh(place.port));
    assert_eq!(ana.user(place.port).status, 200);
    // Whose reply was lost before the move is given the same again after it, if it is soon enough.
    let again = SignedIn::from_reply(&lost_reply.refresh(place.port));
    assert_eq!(again.cookie, renewed.cookie);
    let over = bob.refresh(place.port).refused(401, "session_ended");
    assert_eq!(over["end_reason"], "logout");
    bob.user(place.port).refused(401, "session_ended");
    assert_eq!(login(place.port, "bob", PASSWORD).status, 200);
    login(place.port, "bob", "wrong").refused(401, "invalid_credentials");
    login(place.port, "eve", PASSWORD).refused(403, "user_inactive");
    place.add_user("zoe");
    let users: Value = serde_json::from_str(&place.done(&["user", "list", "--json"])).unwrap();
    let ids: Vec<_> = users
        .as_array()
        .unwrap()
        .iter()
        .map(|user| &user["id"])
        .collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn the_old_database_is_closed_and_can_be_reopened() {
    let (place, server) = (home(), Server::new());
    let service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    assert_eq!(move_out(&place, &server).status, Some(0));

    // Whoever forgot to stop it changes nothing any more, and says so.
    ana.refresh(place.port).refused(503, "storage_unavailable");
    login(place.port, "ana", PASSWORD).refused(503, "storage_unavailable");
    let ready = try_get(place.operations_port, "/readyz").unwrap();
    assert_eq!(ready.status, 503, "{ready:?}");
    service.await_log("have moved to postgres://127.0.0.1");
    service.stop();
    for words in [
        &["serve"][..],
        &["user", "list"],
        &["migrate"],
        &["migrate", "--check"],
    ] {
        let said = place.run(words);
        refused(&said, 1, "have moved to postgres://127.0.0.1");
        refused(&said, 1, "`countersign migrate --reopen`");
    }

    let said = place.done(&["migrate", "--reopen"]);
    assert!(said.contains("can be used again"), "{said}");
    let said = place.done(&["migrate", "--reopen"]);
    assert!(said.contains("have not moved"), "{said}");
    let _service = place.serve();
    assert_eq!(ana.refresh(place.port).status, 200);
    go_over(&place, &server);
    refused(&place.run(&["migrate", "--reopen"]), 2, "was never closed");
}

/// Nobody could open the keys where they went, and everybody would be signed out.
#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn nobody_moves_without_the_root_secret_of_the_old_service() {
    let (place, server) = (home(), Server::new());
    let url = server.url("postgres");
    let assert_untouched = || {
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename ~ '^(auth|countersign)_'";
        assert_eq!(ask(&server, tables), "0");
        place.done(&["user", "show", "ana"]);
    };
    let other = (
        "COUNTERSIGN_SECRET",
        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJAJm4FwQ2",
    );
    let said = place.run_with(&[other], &["migrate", "--from", FROM, "--to", &url]);
    refused(
        &said,
        1,
        "do not open with this root secret, so nothing was moved",
    );
    assert!(!said.stderr.contains(other.1), "{said:?}");
    assert_untouched();

    let elsewhere = ("COUNTERSIGN_SECRETS__ROOT_FILE", "elsewhere.secret");
    let into_settings = ("COUNTERSIGN_DATABASE__URL", url.as_str());
    for (settings, words) in [
        (&[elsewhere][..], &["--from", FROM, "--to", &url][..]),
        (&[elsewhere, into_settings], &["--from", FROM]),
    ] {
        let said = place.run_with(settings, &[&["migrate"], words].concat());
        refused(
            &said,
            78,
            "the root secret of the service that users move away from",
        );
        assert!(!said.stderr.contains("openssl"), "{said:?}");
        assert!(!place.path("elsewhere.secret").exists());
        assert_untouched();
    }

    let text = place.read("countersign.secret");
    let same = ("COUNTERSIGN_SECRET", text.trim());
    let said = place.run_with(
        &[elsewhere, same],
        &["migrate", "--from", FROM, "--to", &url],
    );
    assert_eq!(said.status, Some(0), "{said:?}");
}

/// The move sleeps when users and sessions are written and the keys are next.
#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn killed_half_way_nothing_has_moved_and_meanwhile_nothing_is_written() {
    let (place, server) = (home(), Server::new());
    let service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    go_over(&place, &server);
    place.done(&["migrate"]);
    place.settings(SETTINGS);
    ask(
        &server,
        "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
         CREATE TRIGGER doze BEFORE INSERT ON countersign_signing_key
             FOR EACH ROW EXECUTE FUNCTION doze()",
    );
    let to = server.url("postgres");
    let mut moving = place
        .command(&["migrate", "--from", FROM, "--to", &to])
        .spawn()
        .unwrap();
    let dozing = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    eventually("it is half-way", || ask(&server, dozing) == "1");
    for _ in 0..3 {
        ana.refresh(place.port).refused(503, "storage_unavailable");
        login(place.port, "ana", PASSWORD).refused(503, "storage_unavailable");
        assert_eq!(ana.user(place.port).status, 200);
    }
    refused(&move_out(&place, &server), 1, "locked");

    let killed = Command::new("kill")
        .args(["-9", &moving.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    moving.wait().unwrap();
    let renewed = SignedIn::from_reply(&ana.refresh(place.port));
    eventually("the server has noticed", || {
        ask(
            &server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        ask(&server, dozing) == "0"
    });
    assert_eq!(rows(&server), "0|0|0");

    ask(&server, "DROP TRIGGER doze ON countersign_signing_key");
    let said = move_out(&place, &server);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(rows(&server), "1|1|1");
    service.stop();
    go_over(&place, &server);
    let _service = place.serve();
    // What was answered before the move that came to its end holds after it.
    assert_eq!(renewed.refresh(place.port).status, 200);
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn who_goes_on_meanwhile_loses_nothing() {
    let (place, server) = (home(), Server::new());
    let service = place.serve();
    let mut ana = SignedIn::from_reply(&SignedIn::new(place.port, "ana").refresh(place.port));
    let to = server.url("postgres");
    let mut moving = place
        .command(&["migrate", "--from", FROM, "--to", &to])
        .spawn()
        .unwrap();
    let mut rotations = 1;
    let status = loop {
        let reply = send(place.port, REFRESH, &ana.cookies(), "");
        match reply.status {
            200 => {
                ana = SignedIn::from_reply(&reply);
                rotations += 1;
            }
            503 => {}
            other => panic!("{other}: {reply:?}"),
        }
        if let Some(status) = moving.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success(), "{status}");
    ana.refresh(place.port).refused(503, "storage_unavailable");
    service.stop();
    let generation = ask(&server, "SELECT generation FROM countersign_session");
    assert_eq!(generation, rotations.to_string());
    go_over(&place, &server);
    let _service = place.serve();
    assert_eq!(ana.refresh(place.port).status, 200);
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn what_cannot_be_moved_is_refused_in_words() {
    let (place, server) = (home(), Server::new());
    let to = server.url("postgres");
    let secret = to.replace("countersign@", "countersign:CANARY@");
    let elsewhere = "sqlite://elsewhere.db";
    for (words, status, why) in [
        (&["--from", FROM, "--to", FROM][..], 2, "one and the same"),
        (&["--from", FROM], 2, "one and the same"),
        (&["--to", elsewhere], 2, "and not from"),
        (&["--from", &to, "--to", FROM], 2, "and not from"),
        (
            &["--from", "mysql://db/x", "--to", &to],
            2,
            "write sqlite://",
        ),
        (
            &["--from", FROM, "--to", &secret],
            2,
            "COUNTERSIGN_DATABASE__URL",
        ),
        (
            &["--from", FROM, "--to", "postgres://localhost"],
            2,
            "name the host and the database",
        ),
        (
            &["--from", elsewhere, "--to", &to],
            1,
            "there is no database at",
        ),
        (
            &["--from", FROM, "--to", &to, "--check"],
            2,
            "cannot be used with",
        ),
        (&["--from", FROM, "--reopen"], 2, "cannot be used with"),
        (&["--json"], 2, "--from"),
    ] {
        let said = place.run(&[&["migrate"], words].concat());
        refused(&said, status, why);
        assert!(!said.stderr.contains("CANARY"), "{said:?}");
    }
    assert!(!place.path("elsewhere.db").exists());

    place
        .stranger()
        .execute_batch("UPDATE auth_user SET first_name = char(0)")
        .unwrap();
    refused(
        &move_out(&place, &server),
        1,
        "auth_user 1: first_name holds a NUL",
    );
    assert_eq!(rows(&server), "0|0|0");
    place
        .stranger()
        .execute_batch("UPDATE auth_user SET first_name = ''")
        .unwrap();
    assert_eq!(move_out(&place, &server).status, Some(0));
    place.done(&["migrate", "--reopen"]);
    refused(
        &move_out(&place, &server),
        1,
        "is not empty: it has users already",
    );
    // A service that is merely tried out makes a key.
    ask(
        &server,
        "DELETE FROM auth_user; DELETE FROM countersign_session",
    );
    refused(&move_out(&place, &server), 1, "it has signing keys already");
}

#[test]
#[ignore = "needs PostgreSQL's server programs"]
fn programs_read_json_and_a_password_comes_from_the_settings() {
    let (place, server) = (home(), Server::new());
    place
        .stranger()
        .execute_batch("CREATE TABLE django_session (x); INSERT INTO django_session VALUES (1)")
        .unwrap();
    let url = server
        .url("postgres")
        .replace("countersign@", "countersign:CANARY@");
    let said = place.run_with(
        &[("COUNTERSIGN_DATABASE__URL", &url)],
        &["migrate", "--from", FROM, "--json"],
    );
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "{said:?}"
    );
    assert!(!said.stdout.contains("CANARY"), "{said:?}");
    let moved: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(moved["tables"][0]["table"], "auth_user");
    assert_eq!(moved["tables"][0]["rows"], 1);
    assert_eq!(moved["tables"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(moved["left_behind"][0]["what"], "django_session");
    assert_eq!(moved["left_behind"][0]["rows"], 1);
}
