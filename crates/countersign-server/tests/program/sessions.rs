//! `session`: who is signed in is listed, and what is ended at the command line is refused by the
//! running service.

use serde_json::Value;

use crate::harness::{Place, Said, SignedIn, eventually};

const NOBODYS: &str = "0199c0de-7b1c-7000-8000-0123456789ab";

fn place() -> Place {
    let place = Place::new();
    for name in ["ana", "bob"] {
        place.add_user(name);
    }
    place
}

fn listed(place: &Place, words: &[&str]) -> Vec<Value> {
    let words = [&["session", "list", "--json"], words].concat();
    serde_json::from_str(&place.done(&words)).unwrap()
}

fn refused(said: &Said, with: &str) {
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(said.stdout, "", "{said:?}");
    assert!(said.stderr.contains(with), "{said:?}");
}

/// The service accepts everything of it.
fn assert_alive(place: &Place, who: &SignedIn) {
    assert_eq!(who.user(place.port).status, 200);
    assert_eq!(who.refresh(place.port).status, 200);
}

/// The running service hears of the end in a moment, and tells the client who did it.
fn assert_ended_by_an_admin(place: &Place, who: &SignedIn) {
    eventually("the access token is refused", || {
        who.user(place.port).status != 200
    });
    for reply in [who.user(place.port), who.refresh(place.port)] {
        let problem = reply.refused(401, "session_ended");
        assert_eq!(problem["end_reason"], "revoked_by_admin");
    }
}

#[test]
fn sessions_are_listed_with_their_users_and_how_they_ended() {
    let place = place();
    let _service = place.serve();
    let none = place.run(&["session", "list"]);
    assert_eq!((none.status, none.stdout.as_str()), (Some(0), ""));
    assert_eq!(none.stderr, "There are no such sessions.\n");
    assert_eq!(listed(&place, &[]), Vec::<Value>::new());
    let [ana, bob, later] = ["ana", "bob", "ana"].map(|name| SignedIn::new(place.port, name));
    assert_eq!(ana.refresh(place.port).status, 200);

    let text = place.done(&["session", "list"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    // In the order in which they were opened.
    for (line, (who, name)) in lines
        .iter()
        .zip([(&ana, "ana"), (&bob, "bob"), (&later, "ana")])
    {
        let start = format!("{}  {name}  opened 20", who.session);
        assert!(line.starts_with(&start), "{line}");
        assert!(line.contains("127.0.0.1"), "{line}");
    }
    for secret in [&ana.cookie, &ana.access, &ana.csrf] {
        assert!(!text.contains(secret.as_str()));
    }

    let of_ana = listed(&place, &["ana"]);
    let ids: Vec<_> = of_ana.iter().map(|session| &session["id"]).collect();
    assert_eq!(ids, [ana.session.as_str(), later.session.as_str()]);
    assert_eq!(of_ana[0]["username"], "ana");
    assert_eq!(of_ana[0]["generation"], 1);
    assert_eq!(of_ana[0]["ip"], "127.0.0.1");
    assert_eq!(of_ana[0]["end"], Value::Null);

    place.done(&["session", "end", &later.session]);
    assert_eq!(listed(&place, &["ana"]).len(), 1);
    assert_eq!(listed(&place, &[]).len(), 2);
    let all = listed(&place, &["ana", "--all"]);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1]["end"]["reason"], "revoked_by_admin");
    assert_eq!(all[1]["end"]["by"], "command_line");
    let text = place.done(&["session", "list", "--all"]);
    let end = text.lines().last().unwrap();
    assert!(end.starts_with("    ended 20"), "{text}");
    assert!(
        end.ends_with("revoked_by_admin  by the command line"),
        "{text}"
    );

    refused(&place.run(&["session", "list", "eva"]), "user list");
}

#[test]
fn sessions_are_ended_by_their_names_and_others_go_on() {
    let place = place();
    let _service = place.serve();
    let [one, two, other] = ["ana", "ana", "ana"].map(|name| SignedIn::new(place.port, name));
    let said = place.done(&["session", "end", &one.session, &two.session]);
    let expected = format!("{} ended.\n{} ended.\n", one.session, two.session);
    assert_eq!(said, expected);
    assert_ended_by_an_admin(&place, &one);
    assert_ended_by_an_admin(&place, &two);
    assert_alive(&place, &other);

    let said = place.done(&["session", "end", &one.session]);
    assert_eq!(said, format!("{} had ended before.\n", one.session));
}

#[test]
fn a_session_that_is_none_is_named_with_the_way_out_and_a_slip_of_the_pen_ends_nothing() {
    let place = place();
    let _service = place.serve();
    let ana = SignedIn::new(place.port, "ana");
    for nonsense in ["nonsense", "", "0199c0de", "%", "0199c0de\u{1b}[31m"] {
        let said = place.run(&["session", "end", &ana.session, nonsense]);
        refused(&said, "countersign session list");
        assert!(!said.stderr.contains('\u{1b}'), "{said:?}");
    }
    let said = place.run(&["session", "end", NOBODYS]);
    refused(&said, NOBODYS);
    refused(
        &place.run(&["session", "end", "--user", "eva"]),
        "user list",
    );
    for words in [
        &["session", "end"][..],
        &["session", "end", &ana.session, "--everybody"],
        &["session", "end", "--user", "ana", "--everybody"],
    ] {
        assert_eq!(place.run(words).status, Some(2), "{words:?}");
    }
    assert_alive(&place, &ana);
}

#[test]
fn all_sessions_of_a_user_are_ended_and_nobody_elses() {
    let place = place();
    let _service = place.serve();
    let [one, two, bob] = ["ana", "ana", "bob"].map(|name| SignedIn::new(place.port, name));
    let said = place.done(&["session", "end", "--user", "ana"]);
    assert_eq!(said, "2 sessions of ana ended.\n");
    assert_ended_by_an_admin(&place, &one);
    assert_ended_by_an_admin(&place, &two);
    assert_alive(&place, &bob);
    let said = place.done(&["session", "end", "--user", "ana"]);
    assert_eq!(said, "0 sessions of ana ended.\n");
    // She may sign in again.
    assert_alive(&place, &SignedIn::new(place.port, "ana"));
}

#[test]
fn everybodys_sessions_are_ended() {
    let place = place();
    let _service = place.serve();
    let everybody = ["ana", "bob", "bob"].map(|name| SignedIn::new(place.port, name));
    let said = place.done(&["session", "end", "--everybody"]);
    assert_eq!(said, "3 sessions ended.\n");
    for who in &everybody {
        assert_ended_by_an_admin(&place, who);
    }
    assert_eq!(listed(&place, &[]), Vec::<Value>::new());
    assert_eq!(listed(&place, &["--all"]).len(), 3);
    assert_alive(&place, &SignedIn::new(place.port, "ana"));
}
