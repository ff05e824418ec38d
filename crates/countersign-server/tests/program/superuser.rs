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
fn the_policy_is_the_same_at_every_command() {
    let place = Place::new();
    let breached = place.path("breached.txt");
    // The SHA-1 of the last password below, between two others.
    let hashes = [
        "00000AFC3F1E9D3BE8B1C0A5B2C8C0F1F6B2A901:3",
        "1514AD324DE5C3D7528935C29E4C34FC313B3584:1",
        "FFFFF2A1C7E3B0D94857F6A1E0C2B3D4E5F60718:12",
    ];
    std::fs::write(&breached, hashes.join("\n")).unwrap();
    let variables = [
        (
            "COUNTERSIGN_PASSWORD__BREACHED_FILE",
            breached.to_str().unwrap(),
        ),
        ("COUNTERSIGN_PASSWORD__CONTEXT_WORDS", "initech"),
    ];
    place.add_user("ana");
    for words in [
        &["createsuperuser", "--username", "root", "--password-stdin"][..],
        &["user", "add", "bob", "--password-stdin"],
        &["user", "set-password", "ana", "--password-stdin"],
    ] {
        for (password, why) in [
            ("x", "at least"),
            ("123456789123456789", "most common passwords"),
            ("initech-Initech-1n1t3ch", "the name of this service"),
            ("password-password-1", "Add a word or two"),
            ("a quiet lake under old stars", "known from a breach"),
        ] {
            let said = place.run_with_input_and(&variables, words, password);
            assert_eq!(said.status, Some(1), "{words:?} {password}: {said:?}");
            assert!(said.stderr.contains(why), "{words:?} {password}: {said:?}");
        }
    }
}

#[test]
fn a_name_that_looks_like_anothers_is_refused() {
    let place = Place::new();
    place.add_user("ana");
    for words in [
        &["createsuperuser", "--username", "Ana", "--password-stdin"][..],
        &["user", "add", "\u{430}n\u{430}", "--password-stdin"],
    ] {
        let said = place.run_with_input(words, PASSWORD);
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.stderr.contains("looks like it"), "{said:?}");
    }
}

#[test]
fn a_list_of_breached_passwords_that_cannot_be_used_stops_the_start() {
    let place = Place::new();
    std::fs::write(place.path("breached.txt"), "password\nletmein\n").unwrap();
    for (file, why) in [
        ("breached.txt", "40 hexadecimal digits"),
        ("missing.txt", "name another file"),
    ] {
        let file = place.path(file);
        let variables = [(
            "COUNTERSIGN_PASSWORD__BREACHED_FILE",
            file.to_str().unwrap(),
        )];
        let said = place.run_with(&variables, &["config", "check"]);
        assert_eq!(said.status, Some(78), "{said:?}");
        assert!(
            said.stderr.contains("password.breached_file") && said.stderr.contains(why),
            "{said:?}"
        );
    }
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
