//! The first start makes everything it needs, and nothing twice.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{PASSWORD, Place, login, send, try_get};

fn mode(place: &Place, name: &str) -> u32 {
    fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_makes_database_and_secret_for_its_owner_alone_and_answers() {
    let place = Place::new();
    let service = place.serve();
    assert_eq!(mode(&place, "countersign.secret"), 0o600);
    assert_eq!(mode(&place, "countersign.db") & 0o077, 0);
    assert_eq!(place.read("countersign.secret").trim().len(), 43);

    let port = place.port;
    assert_eq!(try_get(port, "/.well-known/jwks.json").unwrap().status, 200);
    assert_eq!(try_get(port, "/docs").unwrap().status, 200);
    assert_eq!(try_get(port, "/healthz").unwrap().status, 404);
    assert_eq!(
        try_get(place.operations_port, "/healthz").unwrap().status,
        200
    );

    let said = service.stdout();
    assert!(
        said.contains(&format!("http://127.0.0.1:{port}/docs")),
        "{said}"
    );
    assert!(said.contains("countersign createsuperuser"), "{said}");
}

#[test]
fn the_second_start_goes_on_where_the_first_stopped() {
    let place = Place::new();
    place.add_user("ana");
    let service = place.serve();
    let secret = place.read("countersign.secret");
    let reply = login(place.port, "ana", PASSWORD);
    assert_eq!(reply.status, 200, "{reply:?}");
    let bearer = reply.json()["access_token"].as_str().unwrap().to_owned();
    service.stop();

    let service = place.serve();
    assert_eq!(place.read("countersign.secret"), secret);
    let headers = format!("Authorization: Bearer {bearer}\r\n");
    assert_eq!(
        send(place.port, "GET /users/user", &headers, "").status,
        200
    );
    assert!(
        !service.stdout().contains("createsuperuser"),
        "{}",
        service.stdout()
    );
}

#[test]
fn two_that_start_together_agree_on_the_secret() {
    let place = Place::new();
    let add = |name| {
        let mut command = place.command(&["user", "add", name, "--no-password"]);
        command.spawn().unwrap()
    };
    let together: Vec<_> = ["ana", "bob", "eva", "kim"].map(add).into_iter().collect();
    for command in together {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let said = place.run(&["user", "list"]);
    assert_eq!(
        (said.status, said.stdout.lines().count()),
        (Some(0), 4),
        "{said:?}"
    );
}

#[test]
fn a_lost_secret_is_not_replaced_in_silence() {
    let place = Place::new();
    place.add_user("ana");
    fs::remove_file(place.path("countersign.secret")).unwrap();
    let said = place.run(&["serve"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr.contains("restore that file from its backup"),
        "{said:?}"
    );
    assert!(!place.path("countersign.secret").exists());
}

#[test]
fn another_secret_than_the_databases_is_refused() {
    let place = Place::new();
    place.add_user("ana");
    let other = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJAJm4FwQ2";
    let said = place.run_with(&[("COUNTERSIGN_SECRET", other)], &["serve"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("secret"), "{said:?}");
    assert!(!said.stderr.contains(other));
}

#[test]
fn an_empty_secret_file_is_refused_and_left_alone() {
    let place = Place::new();
    place.write("countersign.secret", "");
    fs::set_permissions(
        place.path("countersign.secret"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let said = place.run(&["serve"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(said.stderr.contains("openssl rand -base64 32"), "{said:?}");
    assert_eq!(place.read("countersign.secret"), "");
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let place = Place::new();
    place.add_user("ana");
    fs::set_permissions(
        place.path("countersign.secret"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let said = place.run(&["serve"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr.contains("chmod 600 countersign.secret"),
        "{said:?}"
    );
}

#[test]
fn looking_at_users_makes_no_database() {
    let place = Place::new();
    let said = place.run(&["user", "list"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("--database"), "{said:?}");
    assert!(!place.path("countersign.db").exists());
}
