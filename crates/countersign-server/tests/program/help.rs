//! What people read when they ask for help, and what they hear when they write something wrong.

use crate::harness::Place;

#[test]
fn help_texts() {
    let place = Place::new();
    for words in [
        &[][..],
        &["serve"],
        &["demo"],
        &["createsuperuser"],
        &["user"],
        &["user", "add"],
        &["user", "list"],
        &["user", "show"],
        &["user", "set-password"],
        &["user", "promote"],
        &["user", "delete"],
        &["session"],
        &["session", "list"],
        &["session", "end"],
        &["keys"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["keys", "revoke"],
        &["audit"],
        &["audit", "list"],
        &["audit", "tail"],
        &["migrate"],
        &["django"],
        &["django", "check"],
        &["django", "adopt"],
        &["doctor"],
        &["config"],
        &["config", "show"],
        &["config", "schema"],
        &["openapi"],
    ] {
        let said = place.run(&[words, &["--help"]].concat());
        assert_eq!(
            (said.status, said.stderr.as_str()),
            (Some(0), ""),
            "{words:?}"
        );
        let name = ["help", &words.join("_")]
            .join("_")
            .trim_end_matches('_')
            .to_owned();
        insta::assert_snapshot!(name, said.stdout);
    }
}

#[test]
fn wrong_use_is_status_2() {
    let place = Place::new();
    for words in [
        &[][..],
        &["sevre"],
        &["user"],
        &["user", "show"],
        &["serve", "--listen", "here"],
        &["serve", "--verbose"],
        &["user", "add", "ana", "--no-password", "--password-stdin"],
        &["session", "end"],
        &["session", "end", "--user", "ana", "--everybody"],
        &["keys", "revoke"],
        &["demo", "--write", "app", "--page-port", "3000"],
        &["doctor", "--page", "app.example.com"],
        &["doctor", "--password-stdin"],
    ] {
        let said = place.run(words);
        assert_eq!(said.status, Some(2), "{words:?}: {said:?}");
        assert!(
            said.stdout.is_empty() && !said.stderr.is_empty(),
            "{words:?}: {said:?}"
        );
    }
}

#[test]
fn openapi_describes_the_api() {
    let said = Place::new().run(&["openapi"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let description: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(
        description["paths"]["/users/login"]["post"].is_object(),
        "{description}"
    );
}
