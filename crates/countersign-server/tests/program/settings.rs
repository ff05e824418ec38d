//! Settings that cannot be stop the start with status 78 and the way out (attacks, group M).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::harness::{Place, Said};

/// What the program says to this settings file.
fn check(text: &str) -> Said {
    let place = Place::new();
    place.write("countersign.toml", text);
    fs::set_permissions(
        place.path("countersign.toml"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    place.run(&["config", "check"])
}

const HTTPS: &str = "server.public_url = \"https://auth.example.org\"\n\
                     server.trusted_proxies = [\"127.0.0.1\"]\n";

#[expect(clippy::too_many_lines, reason = "it is a table")]
#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    for (text, key, way_out) in [
        // M04: plain http beyond this machine.
        (
            "server.listen = \"0.0.0.0:8000\"",
            "server.public_url",
            "https://auth.example.org",
        ),
        (
            "server.public_url = \"http://auth.example.org\"",
            "server.public_url",
            "write https://auth.example.org, and set server.tls.cert",
        ),
        (
            "server.public_url = \"https://auth.example.org\"",
            "server.public_url",
            "set server.tls.cert and server.tls.key, or server.trusted_proxies",
        ),
        (
            "server.listen = \"0.0.0.0:8000\"\nserver.public_url = \"http://localhost:8000\"",
            "server.public_url",
            "listen on 127.0.0.1",
        ),
        (
            "server.public_url = \"https://auth.example.org/users\"",
            "server.public_url",
            "host and port only",
        ),
        (
            "server.public_url = \"https://a:b@auth.example.org\"",
            "server.public_url",
            "host and port only",
        ),
        (
            "server.listen = \"8000\"",
            "server.listen",
            "127.0.0.1:8000",
        ),
        (
            "server.operations_listen = \"127.0.0.1:8000\"",
            "server.operations_listen",
            "own port",
        ),
        (
            "server.trusted_proxies = [\"0.0.0.0/0\"]",
            "server.trusted_proxies",
            "own network",
        ),
        (
            "server.trusted_proxies = [\"proxy\"]",
            "server.trusted_proxies",
            "10.0.0.0/8",
        ),
        (
            "server.tls.cert = \"cert.pem\"",
            "server.tls.key",
            "set this as well",
        ),
        (
            "server.tls.cert = \"cert.pem\"\nserver.tls.key = \"key.pem\"",
            "server.tls.cert",
            "cert.pem cannot be read",
        ),
        (
            "database.url = \"postgres://u:CANARY@db/x?sslmode=disable\"",
            "database.url",
            "verify-full",
        ),
        (
            "database.url = \"postgres://u:CANARY@db\"",
            "database.url",
            "name the host and the database",
        ),
        (
            "mail.transport = \"smtp://u:CANARY@mail.example.org/x\"",
            "mail.transport",
            "host and port only",
        ),
        (
            "mail.transport = \"smtps://u:CANARY@mail.example.org\"",
            "mail.from",
            "write an address like no-reply@example.org",
        ),
        (
            "mail.transport = \"smtps://u:CANARY@mail.example.org\"\nmail.password = \"CANARY\"",
            "mail.password",
            "keep one of the two",
        ),
        (
            "mail.transport = \"smtps://u@mail.example.org\"",
            "mail.password",
            "set this",
        ),
        (
            "mail.password = \"CANARY\"",
            "mail.password",
            "smtp://user@host",
        ),
        ("mail.transport = \"file:\"", "mail.transport", "file:mail"),
        (
            "mail.from = \"example.org\"",
            "mail.from",
            "no-reply@example.org",
        ),
        (
            "mail.templates = \"words\"",
            "mail.templates",
            "words cannot be read",
        ),
        (
            "database.url = \"mysql://u:CANARY@db/x\"",
            "database.url",
            "postgres://",
        ),
        // Each node would make one of its own.
        (
            "database.url = \"postgres://u:CANARY@db/x\"",
            "secrets.root_file",
            "openssl rand -base64 32",
        ),
        (
            "database.url = \"postgres://u:CANARY@db/x\"\ndatabase.pool_size = 0",
            "database.pool_size",
            "from 1 to 1000",
        ),
        (
            "database.url = \"postgres://u:CANARY@db/x\"\ndatabase.listen_url = \"postgres://u:CANARY@db/x\"",
            "database.listen_url",
            "database.pooled",
        ),
        (
            "database.pooled = true",
            "database.pooled",
            "leave this out",
        ),
        (
            "database.url = \"sqlite://:memory:\"",
            "database.url",
            "name a file",
        ),
        (
            "database.timeout = \"0s\"",
            "database.timeout",
            "between 100ms and 1m",
        ),
        // M01: weak secrets.
        (
            "secrets.root = \"changeme\"",
            "secrets.root",
            "openssl rand -base64 32",
        ),
        (
            "secrets.root = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
            "secrets.root",
            "openssl",
        ),
        (
            "tokens.algorithm = \"HS256\"",
            "tokens.shared_secret",
            "openssl rand -base64 32",
        ),
        (
            "tokens.algorithm = \"HS256\"\ntokens.shared_secret = \"secret\"",
            "tokens.shared_secret",
            "the shared secret has 6 bytes",
        ),
        (
            "tokens.shared_secret = \"x\"",
            "tokens.shared_secret",
            "leave this out",
        ),
        (
            "tokens.algorithm = \"none\"",
            "tokens.algorithm",
            "ES256, EdDSA, Ed25519 or HS256",
        ),
        (
            "tokens.algorithm = \"RS256\"",
            "tokens.algorithm",
            "take ES256",
        ),
        (
            "tokens.user_claims = [\"user_name\"]",
            "tokens.user_claims",
            "did you mean username",
        ),
        (
            "tokens.header_schemes = []",
            "tokens.header_schemes",
            "at least one",
        ),
        (
            "tokens.header_schemes = [\"Basic\"]",
            "tokens.header_schemes",
            "leave it out",
        ),
        // M07: lifetimes.
        (
            "tokens.access_lifetime = \"24h\"",
            "tokens.access_lifetime",
            "between 10s and 1h",
        ),
        (
            "tokens.access_lifetime = \"5s\"",
            "tokens.access_lifetime",
            "between 10s and 1h",
        ),
        (
            "tokens.access_lifetime = \"300\"",
            "tokens.access_lifetime",
            "unit",
        ),
        (
            "tokens.leeway = \"10m\"",
            "tokens.leeway",
            "between 0s and 2m",
        ),
        ("sessions.absolute = \"366d\"", "sessions.absolute", "365d"),
        (
            "sessions.idle = \"31d\"",
            "sessions.idle",
            "sessions.absolute",
        ),
        (
            "sessions.grace = \"1h\"",
            "sessions.grace",
            "between 0s and 5m",
        ),
        // M08: cookies.
        ("cookies.cross_site = true", "cookies.cross_site", "https"),
        (
            "cookies.refresh_name = \"__Host-refresh\"",
            "cookies.refresh_name",
            "leave it out",
        ),
        (
            "cookies.refresh_name = \"csrftoken\"",
            "cookies.csrf_name",
            "each its own",
        ),
        (
            "cookies.csrf_name = \"csrf token\"",
            "cookies.csrf_name",
            "letters, digits",
        ),
        (
            "cookies.domain = \"example.org\"",
            "cookies.domain",
            "IP address",
        ),
        (
            &format!("{HTTPS}cookies.domain = \"org\""),
            "cookies.domain",
            "add a label",
        ),
        (
            &format!("{HTTPS}cookies.domain = \".example.org\""),
            "cookies.domain",
            "leave out the dot",
        ),
        (
            &format!("{HTTPS}cookies.domain = \"ample.org\""),
            "cookies.domain",
            "parent",
        ),
        (
            &format!("{HTTPS}cookies.domain = \"example.com\""),
            "cookies.domain",
            "parent",
        ),
        (
            &format!("{HTTPS}cookies.csrf_name = \"__Http-csrf\""),
            "cookies.csrf_name",
            "prefix",
        ),
        // CORS.
        ("cors.origins = [\"*\"]", "cors.origins", "list each one"),
        (
            "cors.origins = [\"null\"]",
            "cors.origins",
            "list real origins",
        ),
        (
            "cors.origins = [\"https://*.example.org\"]",
            "cors.origins",
            "list each one",
        ),
        (
            "cors.origins = [\"https://app.example.org/\"]",
            "cors.origins",
            "no slash at the end",
        ),
        (
            "cors.origins = [\"https://App.example.org\"]",
            "cors.origins",
            "lower case",
        ),
        (
            &format!("{HTTPS}cors.origins = [\"http://app.example.org\"]"),
            "cors.origins",
            "https",
        ),
        (
            "cors.origins = \"https://app.example.org\"",
            "cors.origins",
            "write a list",
        ),
        (
            "csrf.require_for_bearer = \"no\"",
            "csrf.require_for_bearer",
            "true or false",
        ),
        ("password.min_length = 4", "password.min_length", "8 to 64"),
        (
            "password.min_length_staff = 7",
            "password.min_length_staff",
            "password.min_length",
        ),
        // M10: the cost of a hash.
        (
            "password.argon2.memory = 8\npassword.argon2.passes = 1",
            "password.argon2.memory",
            "7MiB",
        ),
        (
            "password.argon2.passes = 1",
            "password.argon2.passes",
            "at least 2 passes",
        ),
        (
            "password.argon2.memory = \"4GiB\"",
            "password.argon2",
            "at most 256 MiB",
        ),
        (
            "password.argon2.memory = \"19MB\"",
            "password.argon2.memory",
            "19MiB",
        ),
        (
            "password.argon2.lanes = 0",
            "password.argon2",
            "1 to 16 lanes",
        ),
        (
            "django.tokens = \"allauth\"",
            "django.tokens",
            "take none, recipe or simplejwt",
        ),
        (
            "django.tokens = \"recipe\"\ndjango.tokens_until = \"2027-01-31\"",
            "django.secret_key",
            "the key that the site signs its refresh tokens with",
        ),
        (
            "django.tokens = \"recipe\"\ndjango.tokens_until = \"2027-01-31\"\n\
             django.secret_key = \"django-insecure-x7!k2@q9#w4$e6%r8^t1&y3*u5(i0)o-p_a=s+d\"",
            "django.secret_key",
            "let people sign in again",
        ),
        (
            "django.tokens = \"simplejwt\"\n\
             django.secret_key = \"x7!k2@q9#w4$e6%r8^t1&y3*u5(i0)o-p_a=s+df\"",
            "django.tokens_until",
            "needs an end",
        ),
        (
            "django.tokens = \"recipe\"\ndjango.tokens_until = \"20270131\"\n\
             django.secret_key = \"x7!k2@q9#w4$e6%r8^t1&y3*u5(i0)o-p_a=s+df\"",
            "django.tokens_until",
            "write it like 2027-01-31",
        ),
        (
            "django.tokens = \"recipe\"\ndjango.tokens_until = \"9999-01-31\"\n\
             django.secret_key = \"x7!k2@q9#w4$e6%r8^t1&y3*u5(i0)o-p_a=s+df\"",
            "django.tokens_until",
            "more than 400 days ahead",
        ),
        (
            "django.tokens_until = \"2027-01-31\"",
            "django.tokens_until",
            "no tokens are exchanged",
        ),
        (
            "django.cookie = \"csrftoken\"",
            "django.cookie",
            "the name of the CSRF cookie",
        ),
        (
            "password.hashing_threads = 0",
            "password.hashing_threads",
            "1 to 256",
        ),
        (
            "password.hashing_threads = -1",
            "password.hashing_threads",
            "not negative",
        ),
        ("log.level = \"verbose\"", "log.level", "info"),
        ("log.format = \"jason\"", "log.format", "did you mean json"),
        // M11: names that are none.
        (
            "cors.allowed_origin = \"x\"",
            "cors.allowed_origin",
            "did you mean cors.origins?",
        ),
        (
            "tokens.acess_lifetime = \"5m\"",
            "tokens.acess_lifetime",
            "did you mean tokens.access_lifetime?",
        ),
        ("[sesions]\nidle = \"1d\"", "sesions", "no such setting"),
        ("server = 8000", "server", "write [server]"),
    ] {
        let said = check(text);
        assert_eq!(said.status, Some(78), "{text}: {said:?}");
        let of_key = format!("- {key} (countersign.toml): ");
        let of_default = format!("- {key}: ");
        let line = said
            .stderr
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(&of_key) || line.starts_with(&of_default));
        let line = line.unwrap_or_else(|| panic!("{text}: nothing about {key} in {}", said.stderr));
        assert!(line.contains(way_out), "{text}: {line}");
        assert!(!said.stderr.contains("CANARY"), "{text}: {said:?}");
    }
}

#[test]
fn what_can_be_is_accepted() {
    for text in [
        "",
        HTTPS,
        &format!("{HTTPS}server.listen = \"0.0.0.0:8000\"\ncookies.cross_site = true"),
        &format!(
            "{HTTPS}cookies.domain = \"example.org\"\ncors.origins = [\"https://app.example.org\"]"
        ),
        &format!("{HTTPS}cors.origins = [\"http://localhost:3000\"]"),
        "server.public_url = \"http://localhost:8000\"",
        "server.listen = \"[::1]:8000\"",
        "tokens.algorithm = \"EdDSA\"\ntokens.user_claims = [\"email\", \"is_staff\"]",
        "password.argon2 = { memory = \"46MiB\", passes = 1, lanes = 1 }",
        "password.argon2 = { memory = 9216, passes = 4 }",
        "log.level = \"info,countersign_core=debug\"\nlog.format = \"json\"",
        "database.url = \"sqlite:///var/lib/countersign/countersign.db\"",
        "tokens.header_schemes = [\"Bearer\", \"JWT\", \"token\"]",
    ] {
        let said = check(text);
        assert_eq!(said.status, Some(0), "{text}: {said:?}");
        assert!(
            said.stdout.starts_with("The settings are good for http"),
            "{text}: {said:?}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let said =
        check("sessions.grace = \"1h\"\ncors.origins = [\"*\"]\nlog.level = \"loud\"\nx = 1");
    assert_eq!(said.status, Some(78));
    assert!(
        said.stderr
            .starts_with("countersign: 4 settings are refused:\n"),
        "{said:?}"
    );
}

#[test]
fn a_cut_over_that_is_over_is_warned_about_with_what_to_take_out() {
    let said = check(
        "django.tokens = \"recipe\"\ndjango.tokens_until = \"2020-01-31\"\n\
         django.secret_key = \"x7!k2@q9#w4$e6%r8^t1&y3*u5(i0)o-p_a=s+df\"",
    );
    assert_eq!(said.status, Some(0), "{said:?}");
    let warned = "warning: django.tokens_until: 2020-01-31 is over and no tokens of the site are \
                  exchanged: take django.tokens, django.tokens_until and django.secret_key out";
    assert!(said.stderr.contains(warned), "{said:?}");
}

#[test]
fn an_account_that_one_address_can_use_up_is_warned_about() {
    let warned = "warning: throttle.login_account: no more attempts at once";
    let said = check("throttle.login_account = \"5 then 30s\"");
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stderr.contains(warned), "{said:?}");
    let said = check("throttle.login_account = \"6 then 30s\"");
    assert!(!said.stderr.contains(warned), "{said:?}");
}

#[test]
fn a_long_life_of_access_tokens_is_warned_about() {
    let said = check("tokens.access_lifetime = \"30m\"");
    assert_eq!(said.status, Some(0));
    assert!(
        said.stderr.contains("warning: tokens.access_lifetime"),
        "{said:?}"
    );
}

#[test]
fn the_strongest_place_wins_and_each_is_named() {
    let place = Place::new();
    place.settings("sessions.idle = \"1d\"\nsessions.absolute = \"2d\"\nlog.level = \"warn\"");
    let variables = [
        ("COUNTERSIGN_SESSIONS__IDLE", "12h"),
        ("COUNTERSIGN_DATABASE__URL", "sqlite://environment.db"),
        (
            "COUNTERSIGN_CORS__ORIGINS",
            "https://a.example.org, https://b.example.org",
        ),
        ("COUNTERSIGN_TOKENS__AUDIENCE", "[\"one\", \"two\"]"),
    ];
    let words = [
        "config",
        "show",
        "--json",
        "--database",
        "sqlite://command.db",
    ];
    let said = place.run_with(&variables, &words);
    assert_eq!(said.status, Some(0), "{said:?}");
    let shown: Value = serde_json::from_str(&said.stdout).unwrap();
    let find = |key: &str| {
        let entry = shown
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["key"] == key)
            .unwrap();
        (
            entry["value"].to_string(),
            entry["source"].as_str().unwrap().to_owned(),
        )
    };
    for (key, value, source) in [
        ("sessions.idle", "\"12h\"", "COUNTERSIGN_SESSIONS__IDLE"),
        ("sessions.absolute", "\"2d\"", "countersign.toml"),
        ("sessions.grace", "\"30s\"", "default"),
        ("database.url", "\"sqlite://command.db\"", "--database"),
        (
            "cors.origins",
            "[\"https://a.example.org\",\"https://b.example.org\"]",
            "COUNTERSIGN_CORS__ORIGINS",
        ),
        (
            "tokens.audience",
            "[\"one\",\"two\"]",
            "COUNTERSIGN_TOKENS__AUDIENCE",
        ),
    ] {
        assert_eq!(find(key), (value.to_owned(), source.to_owned()), "{key}");
    }
}

#[test]
fn what_is_shown_is_a_settings_file() {
    let place = Place::new();
    let shown = place.run(&["config", "show"]).stdout;
    place.write("again.toml", &shown);
    let again = place.run(&["--config", "again.toml", "config", "show"]);
    assert_eq!(again.status, Some(0), "{again:?}");
    assert!(again.stdout.contains("# again.toml"), "{again:?}");
}

#[test]
fn a_variable_that_is_none_is_refused_or_warned_about() {
    let place = Place::new();
    let said = place.run_with(&[("COUNTERSIGN_SERVER__LISTN", "x")], &["config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr
            .contains("COUNTERSIGN_SERVER__LISTEN in the environment"),
        "{said:?}"
    );

    let said = place.run_with(&[("COUNTERSIGN_SERVER_LISTEN", "x")], &["config", "check"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(
        said.stderr
            .contains("did you mean COUNTERSIGN_SERVER__LISTEN?"),
        "{said:?}"
    );

    // What Kubernetes gives every pod beside a service of that name.
    let said = place.run_with(
        &[("COUNTERSIGN_SERVICE_HOST", "10.0.0.1")],
        &["config", "check"],
    );
    assert_eq!(
        (said.status, said.stderr.as_str()),
        (Some(0), ""),
        "{said:?}"
    );
}

#[test]
fn the_root_secret_is_shared_with_nobody() {
    const SECRET: &str = "CANARYq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRW";
    let place = Place::new();
    let variables = [
        ("COUNTERSIGN_SECRET", SECRET),
        ("COUNTERSIGN_TOKENS__ALGORITHM", "HS256"),
        ("COUNTERSIGN_TOKENS__SHARED_SECRET", SECRET),
    ];
    let said = place.run_with(&variables, &["config", "check"]);
    assert!(said.stderr.contains("is a root secret"), "{said:?}");
    assert!(!format!("{said:?}").contains("CANARY"), "{said:?}");
}

#[test]
fn no_secret_is_ever_shown() {
    const SECRET: &str = "CANARYq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRW";
    const SHARED: &str = "CANARYm2TgXw9LcBd7RhPz4KvYs1NfQe6UaJo0iZx5WbGt";
    let place = Place::new();
    let settings = format!("tokens.algorithm = \"HS256\"\ntokens.shared_secret = \"{SHARED}\"");
    place.settings(&settings);
    fs::set_permissions(
        place.path("countersign.toml"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let variables = [
        ("COUNTERSIGN_SECRET", SECRET),
        ("COUNTERSIGN_SUPERUSER_PASSWORD", "CANARY2"),
    ];
    for words in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["config", "schema"],
        &["openapi"],
        &["--help"],
        &["migrate", "--check"],
    ] {
        let said = place.run_with(&variables, words);
        assert!(
            !format!("{said:?}").contains("CANARY"),
            "{words:?}: {said:?}"
        );
    }
    let shown = place.run_with(&variables, &["config", "show"]).stdout;
    assert!(
        shown.contains("root = \"(set)\"") && shown.contains("# COUNTERSIGN_SECRET"),
        "{shown}"
    );
    let check = place.run_with(&variables, &["config", "check"]);
    assert!(check.stderr.contains("secrets.root_file"), "{check:?}");

    // Broken in every way: what is refused is not quoted either.
    for broken in [
        format!("secrets.root = \"{SECRET}"),
        format!("secrets.root = [\"{SECRET}\"]"),
        format!("secrets.rot = \"{SECRET}\""),
        format!("secrets = \"{SECRET}\""),
    ] {
        let said = check_text(&place, &broken);
        assert_eq!(said.status, Some(78), "{said:?}");
        assert!(!format!("{said:?}").contains("CANARY"), "{said:?}");
    }
}

fn check_text(place: &Place, text: &str) -> Said {
    place.write("countersign.toml", text);
    place.run(&["config", "check"])
}

#[test]
fn a_settings_file_with_a_secret_is_for_its_owner_alone() {
    let root = "secrets.root = \"m0tq8vVxYw3Zc7LhQ2nJ5kRf9sDp1uGbEaXiTzOyWdM\"";
    let database = "database.url = \"postgres://u:CANARY@localhost/d\"";
    for (secret, elsewhere) in [
        (root, ("NOTHING", "")),
        (
            database,
            (
                "COUNTERSIGN_SECRET",
                "m0tq8vVxYw3Zc7LhQ2nJ5kRf9sDp1uGbEaXiTzOyWdM",
            ),
        ),
    ] {
        let place = Place::new();
        place.settings(secret);
        let allow = |mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(place.path("countersign.toml"), permissions).unwrap();
            place.run_with(&[elsewhere], &["config", "check"])
        };
        let said = allow(0o644);
        assert_eq!(said.status, Some(78), "{said:?}");
        assert!(
            said.stderr.contains("chmod 600 countersign.toml"),
            "{said:?}"
        );
        assert_eq!(allow(0o600).status, Some(0));
    }
}

#[test]
fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let place = Place::new();
    let secret = (
        "COUNTERSIGN_SECRET",
        "m0tq8vVxYw3Zc7LhQ2nJ5kRf9sDp1uGbEaXiTzOyWdM",
    );
    let url = "postgres://u:CANARY@localhost/d";
    let said = place.run_with(&[secret], &["--database", url, "config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr.contains("COUNTERSIGN_DATABASE__URL"),
        "{said:?}"
    );
    assert!(!format!("{said:?}").contains("CANARY"), "{said:?}");
    let variables = [secret, ("COUNTERSIGN_DATABASE__URL", url)];
    let said = place.run_with(&variables, &["config", "show"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(
        said.stdout.contains("postgres://(hidden)@localhost/d"),
        "{said:?}"
    );
    assert!(!format!("{said:?}").contains("CANARY"), "{said:?}");
}

#[test]
fn a_settings_file_that_only_names_the_file_of_a_secret_may_be_read_by_others() {
    let place = Place::new();
    place.write(
        "old.secret",
        "m0tq8vVxYw3Zc7LhQ2nJ5kRf9sDp1uGbEaXiTzOyWdM\n",
    );
    let allow = |name, mode| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
        place.run(&["config", "check"])
    };
    place.settings("secrets.previous = [\"file:old.secret\"]");
    allow("old.secret", 0o600);
    let said = allow("countersign.toml", 0o644);
    assert_eq!(said.status, Some(0), "{said:?}");
    let said = allow("old.secret", 0o644);
    assert!(said.stderr.contains("chmod 600 old.secret"), "{said:?}");
    allow("old.secret", 0o600);
    place.settings(
        "secrets.previous = [\"file:old.secret\", \"q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA\"]",
    );
    let said = allow("countersign.toml", 0o644);
    assert!(
        said.stderr.contains("chmod 600 countersign.toml"),
        "{said:?}"
    );
}

#[test]
fn two_variables_for_one_setting_contradict_each_other() {
    let place = Place::new();
    let secret = "m0tq8vVxYw3Zc7LhQ2nJ5kRf9sDp1uGbEaXiTzOyWdM";
    let variables = [
        ("COUNTERSIGN_SECRET", secret),
        ("COUNTERSIGN_SECRETS__ROOT", secret),
    ];
    let said = place.run_with(&variables, &["config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr.contains("COUNTERSIGN_SECRET sets it too"),
        "{said:?}"
    );
}

#[test]
fn a_named_file_must_be_there() {
    let said = Place::new().run(&["--config", "nowhere.toml", "config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.stderr.contains("nowhere.toml cannot be read"),
        "{said:?}"
    );
}

#[test]
fn serve_refuses_as_config_check_does() {
    let place = Place::new();
    place.settings("cors.origins = [\"*\"]");
    let said = place.run(&["serve"]);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (Some(78), ""),
        "{said:?}"
    );
    assert!(!place.path("countersign.db").exists() && !place.path("countersign.secret").exists());
}
