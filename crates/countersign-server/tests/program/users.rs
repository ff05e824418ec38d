//! `user` and `migrate`: what is changed at the command line holds in the running service at once.

use serde_json::Value;

use crate::harness::{PASSWORD, Place, Said, eventually, login, send};

fn done(said: &Said) {
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "{said:?}"
    );
}

fn shown(place: &Place, name: &str) -> Value {
    let said = place.run(&["user", "show", name, "--json"]);
    done(&said);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_user_is_made_changed_and_deleted() {
    let place = Place::new();
    let _service = place.serve();
    let words = [
        "user",
        "add",
        "ana",
        "--email",
        "Ana@Example.ORG",
        "--password-stdin",
    ];
    done(&place.run_with_input(&words, PASSWORD));
    let user = shown(&place, "ana");
    assert_eq!(user["email"], "Ana@example.org");
    assert_eq!(
        (&user["is_active"], &user["is_staff"]),
        (&Value::Bool(true), &Value::Bool(false))
    );

    let reply = login(place.port, "ana", PASSWORD);
    let bearer = reply.json()["access_token"].as_str().unwrap().to_owned();
    let headers = format!("Authorization: Bearer {bearer}\r\n");
    let me = || send(place.port, "GET /users/user", &headers, "").status;
    assert_eq!(me(), 200);

    done(&place.run(&["user", "deactivate", "ana"]));
    // The running service hears of it in a moment.
    eventually("the access token is refused", || me() == 401);
    assert_eq!(login(place.port, "ana", PASSWORD).status, 403);
    done(&place.run(&["user", "activate", "ana"]));
    assert_eq!(login(place.port, "ana", PASSWORD).status, 200);

    let words = ["user", "set-password", "ana", "--password-stdin"];
    done(&place.run_with_input(&words, "another horse altogether\n"));
    assert_eq!(login(place.port, "ana", PASSWORD).status, 401);
    assert_eq!(
        login(place.port, "ana", "another horse altogether").status,
        200
    );

    done(&place.run(&["user", "promote", "ana", "--staff"]));
    assert_eq!(shown(&place, "ana")["is_superuser"], false);
    done(&place.run(&["user", "promote", "ana"]));
    assert_eq!(shown(&place, "ana")["is_superuser"], true);
    done(&place.run(&["user", "demote", "ana"]));
    assert_eq!(shown(&place, "ana")["is_staff"], false);

    done(&place.run(&["user", "delete", "ana", "--yes"]));
    assert_eq!(place.run(&["user", "show", "ana"]).status, Some(1));
    assert_eq!(
        login(place.port, "ana", "another horse altogether").status,
        401
    );
}

#[test]
fn users_are_listed_and_found() {
    let place = Place::new();
    for name in ["ana", "bob", "eva"] {
        done(&place.run(&["user", "add", name, "--no-password"]));
    }
    done(&place.run(&["user", "deactivate", "bob"]));
    let said = place.run(&["user", "list"]);
    done(&said);
    assert_eq!(
        said.stdout,
        "     1  ana\n     2  bob  inactive\n     3  eva\n"
    );

    let said = place.run(&["user", "list", "--search", "V", "--json"]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["username"], "eva");
}

#[test]
fn someone_who_is_not_there_is_named_with_the_way_out() {
    let place = Place::new();
    done(&place.run(&["user", "add", "ana", "--no-password"]));
    for words in [
        &["user", "show", "bob"][..],
        &["user", "activate", "bob"],
        &["user", "promote", "bob"],
        &["user", "delete", "bob", "--yes"],
    ] {
        let said = place.run(words);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.stderr.contains("countersign user list"), "{said:?}");
    }
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let place = Place::new();
    let said = place.run(&["user", "add", "ana"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("--password-stdin"), "{said:?}");
    done(&place.run(&["user", "add", "ana", "--no-password"]));
    let said = place.run(&["user", "set-password", "ana"]);
    assert!(
        said.status == Some(2) && said.stderr.contains("--password-stdin"),
        "{said:?}"
    );
    let said = place.run(&["user", "delete", "ana"]);
    assert!(
        said.status == Some(2) && said.stderr.contains("--yes"),
        "{said:?}"
    );
    assert_eq!(shown(&place, "ana")["id"], 1);
}

#[test]
fn migrate_says_what_it_did_and_check_changes_nothing() {
    let place = Place::new();
    let said = place.run(&["migrate", "--check"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("run `countersign migrate`"),
        "{said:?}"
    );
    assert!(!place.path("countersign.db").exists());

    let said = place.run(&["migrate"]);
    done(&said);
    assert!(said.stdout.contains("from schema version 0 to"), "{said:?}");
    done(&place.run(&["migrate", "--check"]));
    let said = place.run(&["migrate"]);
    done(&said);
    assert!(said.stdout.contains("nothing to do"), "{said:?}");
}

#[test]
fn a_database_that_is_none_is_refused() {
    let place = Place::new();
    place.write("countersign.db", &"this is no database\n".repeat(100));
    for words in [&["serve"][..], &["migrate"], &["user", "list"]] {
        let said = place.run(words);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.stderr.contains("database"), "{said:?}");
    }
}
