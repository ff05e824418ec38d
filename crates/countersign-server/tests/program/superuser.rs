//! `createsuperuser` without a terminal.

use crate::harness::{PASSWORD, Place, login};

#[test]
fn the_password_comes_from_the_environment_and_signs_in() {
    let place = Place::new();
    let words = [
        "createsuperuser",
        "--username",
        "root",
        "--email",
        "root@example.org",
        "--no-input",
    ];
    let said = place.run_with(&[("COUNTERSIGN_SUPERUSER_PASSWORD", PASSWORD)], &words);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (Some(0), "root is a superuser now.\n"),
        "{said:?}"
    );
    assert_eq!(said.stderr, "");

    let _service = place.serve();
    let reply = login(place.port, "root", PASSWORD);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["user"]["email"], "root@example.org");
    assert_eq!(login(place.port, "root", "wrong").status, 401);
}

#[test]
fn the_password_comes_from_standard_input_and_signs_in() {
    let place = Place::new();
    let service = place.serve();
    let words = ["createsuperuser", "--username", "root", "--password-stdin"];
    let said = place.run_with_input(&words, &format!("{PASSWORD}\n"));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(login(place.port, "root", PASSWORD).status, 200);
    let (_, log) = service.stop();
    assert!(!log.contains("CANARY"), "{log}");
}

#[test]
fn without_a_terminal_it_says_exactly_what_to_give() {
    let place = Place::new();
    let said = place.run(&["createsuperuser"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    for part in [
        "--username NAME",
        "COUNTERSIGN_SUPERUSER_PASSWORD",
        "--password-stdin",
    ] {
        assert!(said.stderr.contains(part), "{part}: {said:?}");
    }
    let said = place.run(&["createsuperuser", "--username", "root"]);
    assert!(
        said.status == Some(2) && !said.stderr.contains("--username"),
        "{said:?}"
    );
    assert!(!place.path("countersign.db").exists());
}

#[test]
fn a_weak_password_and_a_taken_name_are_refused() {
    let place = Place::new();
    let words = ["createsuperuser", "--username", "root", "--password-stdin"];
    let said = place.run_with_input(&words, "short");
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("at least 15 characters"), "{said:?}");

    assert_eq!(place.run_with_input(&words, PASSWORD).status, Some(0));
    let said = place.run_with_input(&words, PASSWORD);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("choose another"), "{said:?}");
}

#[test]
fn a_password_is_no_argument() {
    let place = Place::new();
    let said = place.run(&[
        "createsuperuser",
        "--username",
        "root",
        "--password",
        "CANARY",
    ]);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(!place.path("countersign.db").exists());
}
