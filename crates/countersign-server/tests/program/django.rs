//! `django`: a Django site's database is looked at, taken over where it stands, and given back.

use serde_json::Value;

use crate::harness::{Place, Said, login};

/// `auth_user` as Django 3.2 to 6.1 make it.
const AUTH_USER: &str = include_str!("../../../countersign-sql/tests/django/sqlite.sql");

/// What the users below have for a password, and how Django 3.2 stored it.
const PASSWORD: &str = "correct horse battery staple";
const PBKDF2: &str =
    "pbkdf2_sha256$260000$z1O3AR4jGjZtk4hfDK5SVM$87QfFcf8AAiRDf69Mb56e8Zl/gA8fouT1oWkCP7CiYw=";
const MD5: &str = "md5$zstR0KoUIgXdp0Kmqj0Y8w$e93f01d8491baaf866749401ab25f34c";

/// A Django site with these users and how their passwords are stored.
fn site(users: &[(&str, &str)]) -> Place {
    let place = Place::new();
    let django = place.stranger();
    django.execute_batch(AUTH_USER).unwrap();
    for (name, password) in users {
        let sql = "INSERT INTO auth_user (password, is_superuser, username, last_name, email,
                       is_staff, is_active, date_joined, first_name)
                   VALUES (?2, 0, ?1, '', '', 0, 1, '2026-11-22 10:00:00.000001', '')";
        django.execute(sql, [name, password]).unwrap();
    }
    place
}

fn stored(place: &Place, name: &str) -> String {
    let sql = "SELECT password FROM auth_user WHERE username = ?1";
    let django = place.stranger();
    django.query_row(sql, [name], |row| row.get(0)).unwrap()
}

fn tables(place: &Place) -> Vec<String> {
    let django = place.stranger();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut statement = django.prepare(sql).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_site_that_is_in_order_is_told_so_and_left_alone() {
    let place = site(&[("ana", PBKDF2), ("ben", MD5), ("cleo", "!")]);
    let said = place.run(&["django", "check", "--json"]);
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "{said:?}"
    );
    let found = json(&said);
    assert_eq!(
        (&found["ok"], &found["adopted"]),
        (&true.into(), &false.into())
    );
    assert_eq!(found["users"], 3);
    assert_eq!(found["passwords"]["pbkdf2_sha256"]["verified"], 1);
    let codes: Vec<_> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| &finding["code"])
        .collect();
    assert_eq!(
        codes,
        ["password_weak", "email_not_unique", "email_not_indexed"]
    );
    let told = place.done(&["django", "check"]);
    assert!(
        told.contains("password_weak: 1 user has a password"),
        "{told}"
    );
    assert!(told.contains("table auth_user: 3 users"), "{told}");
    assert_eq!(tables(&place), ["auth_user"]);
}

#[test]
fn what_will_not_work_is_told_with_the_reason_and_no_password() {
    let place = site(&[
        ("ana", "sha1$salt$0123"),
        ("Ana", "hunter2"),
        ("ben", PBKDF2),
    ]);
    let said = place.run(&["django", "check"]);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stderr.contains("see the problems above"), "{said:?}");
    assert!(said.stderr.contains("adopt` may go on"), "{said:?}");
    for expected in [
        "problem  password_not_verified: 2 users have",
        "NOT verified",
        "user 1, 2",
        "warning  username_double: 2 users have",
    ] {
        assert!(
            said.stdout.contains(expected),
            "{expected}: {}",
            said.stdout
        );
    }
    assert!(!said.stdout.contains("hunter2"), "{}", said.stdout);
    let said = place.run(&["django", "check", "--json"]);
    assert_eq!((said.status, &json(&said)["ok"]), (Some(1), &false.into()));
}

#[test]
fn users_sign_in_with_the_passwords_that_django_stored() {
    let place = site(&[("ana", PBKDF2), ("ben", MD5)]);
    let told = place.done(&["django", "adopt"]);
    assert!(told.contains("switched to its write-ahead log"), "{told}");
    assert!(told.contains("DROP TABLE countersign_session;"), "{told}");
    let told = place.done(&["django", "adopt"]);
    assert!(told.contains("nothing to do"), "{told}");

    let service = place.serve();
    for name in ["ana", "ben"] {
        assert_eq!(login(place.port, name, "wrong").status, 401);
        assert_eq!(login(place.port, name, PASSWORD).status, 200);
        assert!(stored(&place, name).starts_with("argon2$argon2id$v=19$"));
        assert_eq!(login(place.port, name, PASSWORD).status, 200);
    }
    service.stop();

    let way_back = place.done(&["django", "adopt", "--way-back"]);
    place
        .stranger()
        .execute_batch(&way_back)
        .unwrap_or_else(|error| panic!("{error}: {way_back}"));
    assert_eq!(tables(&place), ["auth_user"]);
    assert!(stored(&place, "ana").starts_with("argon2$"));
}

#[test]
fn the_way_back_needs_no_secret() {
    let place = site(&[("ana", PBKDF2)]);
    place.done(&["django", "adopt"]);
    place.settings(
        "django.tokens = \"recipe\"\ndjango.tokens_until = \"2027-01-31\"\ntokens.algorithm = \"HS256\"",
    );
    let refused = place.run(&["django", "adopt"]);
    assert_eq!(refused.status, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("django.secret_key"), "{refused:?}");
    let way_back = place.done(&["django", "adopt", "--way-back"]);
    place.stranger().execute_batch(&way_back).unwrap();
    assert_eq!(tables(&place), ["auth_user"]);
}

#[test]
fn the_way_back_refuses_settings_that_may_have_named_another_database() {
    let place = site(&[("ana", PBKDF2)]);
    place.done(&["django", "adopt"]);
    for (settings, named) in [
        ("databse.url = \"sqlite://other.db\"", "databse"),
        ("django.user_table = \"no table\"", "django.user_table"),
    ] {
        place.settings(settings);
        let refused = place.run(&["django", "adopt", "--way-back"]);
        assert_eq!(refused.status, Some(78), "{refused:?}");
        assert_eq!(refused.stdout, "", "{refused:?}");
        assert!(refused.stderr.contains(named), "{refused:?}");
    }
}

#[test]
fn djangos_own_encoding_is_kept_where_it_shall_be() {
    let place = site(&[("ana", PBKDF2), ("ben", MD5)]);
    let settings = "password.write_as = \"pbkdf2_sha256\"\npassword.pbkdf2_iterations = 600000";
    place.settings(settings);
    let _service = place.serve();
    for name in ["ana", "ben"] {
        assert_eq!(login(place.port, name, PASSWORD).status, 200);
        assert!(stored(&place, name).starts_with("pbkdf2_sha256$600000$"));
        assert_eq!(login(place.port, name, PASSWORD).status, 200);
    }
}

#[test]
fn an_own_user_model_is_named_in_the_settings() {
    let place = Place::new();
    let own = AUTH_USER
        .replace("\"auth_user\"", "\"accounts_user\"")
        .replace("\"username\" varchar(150) NOT NULL UNIQUE, ", "")
        .replace(
            "\"email\" varchar(254) NOT NULL",
            "\"email\" varchar(254) NOT NULL UNIQUE",
        );
    place.stranger().execute_batch(&own).unwrap();
    let insert = format!(
        "INSERT INTO accounts_user VALUES (1, '{MD5}', NULL, 0, '', 'ana@example.org', 0, 1,
             '2026-11-22 10:00:00', '')"
    );
    place.stranger().execute_batch(&insert).unwrap();
    let said = place.run(&["django", "check"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("django.user_table"), "{said:?}");
    place.settings("django.user_table = \"accounts_user\"");
    let said = place.run(&["django", "check"]);
    assert!(said.stderr.contains("django.columns.username"), "{said:?}");

    place.settings("django.user_table = \"accounts_user\"\ndjango.columns.username = \"email\"");
    place.done(&["django", "adopt"]);
    let _service = place.serve();
    let reply = login(place.port, "ana@example.org", PASSWORD);
    assert_eq!(reply.json()["user"]["email"], "ana@example.org");
    assert!(!tables(&place).contains(&"auth_user".to_owned()));
}

#[test]
fn names_that_are_none_are_refused() {
    let place = Place::new();
    place.settings("django.user_table = \"users; DROP TABLE users\"\ndjango.columns.email = \"e-mail\"\ndjango.last_login = \"sometimes\"");
    let said = place.run(&["config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    for key in [
        "django.user_table",
        "django.columns.email",
        "django.last_login",
    ] {
        assert!(said.stderr.contains(key), "{key}: {said:?}");
    }
}
