//! Moving from SQLite: everything arrives as it was, or nothing does.

use std::path::PathBuf;
use std::time::Duration;

use countersign_core::audit::{AuditQuery, Trail};
use countersign_core::error::StoreError;
use countersign_core::session::EndReason;
use countersign_core::store::{SessionQuery, Store as _, UserQuery};
use countersign_core::user::UserId;
use countersign_sql::{
    MoveError, Moved, PostgresStore, SqliteOptions, SqliteStore, move_to_postgres, reopen,
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::harness::{Database, ana, end_of, logout, rotate, sign_in, signed_in_ana};

/// A SQLite file of a test's own, and a database to move to.
struct House {
    directory: TempDir,
    target: Database,
}

impl House {
    async fn new() -> Self {
        let house = Self {
            directory: tempfile::tempdir().expect("a directory"),
            target: Database::new().await,
        };
        SqliteStore::migrate(&house.options()).expect("it is made");
        house
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("countersign.db")
    }

    fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.path()).timeout(Duration::from_millis(200))
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.options()).expect("it opens")
    }

    /// As anyone may who can write to the file.
    fn execute(&self, sql: &str) {
        let connection = Connection::open(self.path()).expect("a database");
        connection.execute_batch(sql).expect(sql);
    }

    async fn move_out(&self) -> Result<Moved, MoveError> {
        move_to_postgres(&self.options(), &self.target.options(), |_| true).await
    }

    async fn assert_nothing_moved(&self) {
        for table in [
            "auth_user",
            "countersign_session",
            "countersign_signing_key",
        ] {
            let count = format!("SELECT count(*) FROM {table}");
            assert_eq!(self.target.ask(&count).await, ["0"], "{table}");
        }
        // The file goes on as before.
        self.store();
    }
}

fn refused(outcome: Result<Moved, MoveError>) -> String {
    outcome.expect_err("refused").to_string()
}

/// Every kind of row, and of what may stand in it.
const ODD_ROWS: &str = "
    INSERT INTO auth_user VALUES
        (7, 'pbkdf2_sha256$1$a$b', NULL, 1, 'émile', '', '', 1, 0, '2026-11-22 10:00:00', 'É'),
        (9, '!', '1999-12-31 23:59:59.999999', 0, '🦊 \"; DROP', 'x', 'a@b', 0, 1,
         '0001-01-01 00:00:00.000001', ' ');
    INSERT INTO countersign_session VALUES
        (x'0199c0de7b1c70008000000000000001', 7, 4294967295, 1, 2, 0, '2001:db8::1', 'curl/8',
         NULL, NULL, NULL),
        (x'0199c0de7b1c70008000000000000000', 4711, 0, 1, 250000000000000, 1, NULL, NULL,
         3, 'reuse_detected', 'user:7');
    INSERT INTO countersign_signing_key VALUES
        (3, 'newest', 'ES256', 'next', x'00ff', 30, 31),
        (2, 'older', 'EdDSA', 'current', x'', 20, 21);
    INSERT INTO countersign_outbox VALUES
        (x'0199c0de7b1c70008000000000000002', 'a@b', 'ana', 'password_changed user:7', 1, 2, 3);
    INSERT INTO countersign_cut_off VALUES (7, 1795341600123);
    INSERT INTO countersign_mailed_token VALUES
        (x'0199c0de7b1c70008000000000000003', 'reset_password', 7, 'a@b', zeroblob(32), 1, 2);
    INSERT INTO countersign_registration VALUES
        (x'0199c0de7b1c70008000000000000004', 'zoë', zeroblob(16), zeroblob(16), 'Z@b', 'z@b', '!',
         '', 'É', 1, 2);
    INSERT INTO countersign_email VALUES (7, 'A@b', 'a@b', 3);
    INSERT INTO countersign_audit VALUES
        (7, 1, 'login_refused', NULL, NULL, NULL, NULL, NULL, NULL, '{}', 1),
        (9, 2, 'of a later version', 4711, x'0199c0de7b1c70008000000000000000', 'user:7',
         '2001:db8::1', 'curl/8 🦊', '7f3a', '{\"reason\":\"a \\\"b\\\"\"}', 4294967295);";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn every_row_arrives_as_it_was() {
    let house = House::new().await;
    let old = house.store();
    let (ana, session) = signed_in_ana(&old).await;
    assert!(rotate(&old, session.id, 0).await.unwrap());
    let over = sign_in(&old, &ana).await;
    assert!(
        old.end_session(over.id, logout(), &Trail::default())
            .await
            .unwrap()
    );
    drop(old);
    house.execute(ODD_ROWS);
    // A number that was given to somebody who is no more.
    house.execute("UPDATE sqlite_sequence SET seq = 41 WHERE name = 'auth_user'");
    let created_at = "UPDATE countersign_meta SET created_at = 1234567890123";
    house.execute(created_at);
    let old = house.store();
    let all_users = UserQuery {
        search: None,
        after: None,
        limit: 100,
    };
    let everyone = old.list_users(&all_users).await.unwrap();
    let all = SessionQuery {
        user: None,
        live: false,
        after: None,
        limit: 100,
    };
    let sessions = old.list_sessions(&all).await.unwrap();
    let keys = old.signing_keys().await.unwrap();
    let everything = AuditQuery {
        user: None,
        session: None,
        event: None,
        since: None,
        until: None,
        after: None,
        limit: 100,
    };
    let log = old.list_audit(&everything).await.unwrap();
    let passwords = async |store: &dyn countersign_core::store::Store| {
        let mut passwords = Vec::new();
        for user in &everyone {
            let found = store.find_credentials(&user.username).await.unwrap();
            passwords.push(found.unwrap().password);
        }
        passwords
    };
    let old_passwords = passwords(&old).await;
    drop(old);

    let moved = house.move_out().await.unwrap();
    let rows: Vec<_> = moved.tables.iter().map(|table| table.rows).collect();
    assert_eq!(
        (rows, moved.left_behind),
        (vec![3, 4, 2, 1, 1, 1, 1, 1, 3], vec![])
    );
    let new = house.target.open().await;
    assert_eq!(new.list_users(&all_users).await.unwrap(), everyone);
    assert_eq!(new.list_sessions(&all).await.unwrap(), sessions);
    assert_eq!(new.signing_keys().await.unwrap(), keys);
    assert_eq!(new.list_audit(&everything).await.unwrap(), log);
    assert_eq!(passwords(&new).await, old_passwords);
    assert_eq!(end_of(&new, over.id).await, Some(EndReason::Logout));
    assert!(!rotate(&new, session.id, 0).await.unwrap());
    assert!(rotate(&new, session.id, 1).await.unwrap());
    let cut_off = "SELECT at FROM countersign_cut_off WHERE user_id = 7";
    assert_eq!(house.target.ask(cut_off).await, ["1795341600123"]);
    let made = "SELECT created_at FROM countersign_meta";
    assert_eq!(house.target.ask(made).await, ["1234567890123"]);
    let mut bob = self::ana();
    bob.username = countersign_core::user::Username::parse("bob").unwrap();
    assert_eq!(
        new.create_user(&bob, &Trail::default()).await.unwrap().id,
        UserId(42)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_database_whose_users_have_moved_is_closed_until_it_is_reopened() {
    let house = House::new().await;
    let running = house.store();
    let (_, session) = signed_in_ana(&running).await;
    house.move_out().await.unwrap();

    // Whoever had it open cannot write any more, and is not ready.
    for (what, answer) in [
        ("rotate", rotate(&running, session.id, 0).await.map(|_| ())),
        (
            "end",
            running
                .end_session(session.id, logout(), &Trail::default())
                .await
                .map(|_| ()),
        ),
        ("check", running.check().await),
    ] {
        let Err(StoreError::Unavailable(why)) = &answer else {
            panic!("{what}: {answer:?}");
        };
        assert!(why.contains("have moved to postgres://127.0.0.1"), "{why}");
    }
    // Others too.
    let django = Connection::open(house.path()).unwrap();
    for sql in [
        "UPDATE auth_user SET is_active = 0",
        "DELETE FROM auth_user",
        "INSERT INTO auth_user SELECT 5, password, last_login, 0, 'x', '', '', 0, 1, date_joined, ''
             FROM auth_user",
    ] {
        let error = django.execute_batch(sql).expect_err(sql).to_string();
        assert!(error.contains("have moved"), "{error}");
    }
    // Who comes later is told, and moves nothing a second time.
    let error = SqliteStore::open(&house.options())
        .expect_err("closed")
        .to_string();
    assert!(error.contains("countersign migrate --reopen"), "{error}");
    assert!(refused(house.move_out().await).contains("have moved"));

    let target = reopen(&house.options()).unwrap();
    assert!(target.unwrap().contains("postgres://127.0.0.1"));
    assert_eq!(reopen(&house.options()).unwrap(), None);
    assert!(rotate(&running, session.id, 0).await.unwrap());
    running.check().await.unwrap();
    let told = refused(house.move_out().await);
    assert!(
        told.contains("is not empty: it has users already"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_target_with_anything_in_it_is_refused() {
    for (insert, called) in [
        (
            "INSERT INTO auth_user VALUES
                 (DEFAULT, '!', NULL, false, 'ana', '', '', '', false, true, now())",
            "users",
        ),
        (
            "INSERT INTO countersign_session VALUES
                 (gen_random_uuid(), 1, 0, 1, 1, true, NULL, NULL, NULL, NULL, NULL)",
            "sessions",
        ),
        (
            "INSERT INTO countersign_signing_key (kid, algorithm, state, sealed, created_at)
                 VALUES ('k', 'ES256', 'next', '', 1)",
            "signing keys",
        ),
        ("INSERT INTO countersign_cut_off VALUES (1, 1)", "cut-offs"),
        (
            "INSERT INTO countersign_audit (at, event, details, count) VALUES (1, 'x', '{}', 1)",
            "audit entries",
        ),
    ] {
        let house = House::new().await;
        PostgresStore::migrate(&house.target.options())
            .await
            .unwrap();
        house.target.ask(insert).await;
        let told = refused(house.move_out().await);
        assert!(told.contains(&format!("it has {called} already")), "{told}");
        house.store();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn values_that_postgresql_cannot_keep_are_all_told_before_anything_is_written() {
    let house = House::new().await;
    house.execute(ODD_ROWS);
    house.execute(
        "UPDATE auth_user SET first_name = 'nu' || char(0) || 'l',
                email = CAST(x'ff40' AS TEXT) WHERE id = 7;
         UPDATE auth_user SET id = 3000000000, username = printf('%0200d', 1) WHERE id = 9;
         UPDATE countersign_session SET user_agent = char(0)
             WHERE id = x'0199c0de7b1c70008000000000000001'",
    );
    let told = refused(house.move_out().await);
    for line in [
        "cannot keep 4 of the values",
        "\n  auth_user 7: email is no UTF-8",
        "\n  auth_user 3000000000: id is a number of more than 32 bits",
        "\n  auth_user 3000000000: username is longer than 150 characters",
        "\n  countersign_session 0199c0de-7b1c-7000-8000-000000000001: user_agent holds a NUL",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    house.assert_nothing_moved().await;

    house.execute("UPDATE auth_user SET email = ''");
    let told = refused(house.move_out().await);
    assert!(
        told.contains("auth_user 7: first_name holds a NUL"),
        "{told}"
    );
    house.execute(
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 129)
        INSERT INTO auth_user SELECT i, '!', 'never', 0, i, '', '', 0, 1, 'never', '' FROM n",
    );
    let told = refused(house.move_out().await);
    assert_eq!(told.lines().count(), 22, "{told}");
    assert!(told.ends_with("and 14 more"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_target_that_changes_what_it_is_given_is_found_out() {
    let house = House::new().await;
    house.execute(ODD_ROWS);
    PostgresStore::migrate(&house.target.options())
        .await
        .unwrap();
    house
        .target
        .ask(
            "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN NEW.first_name := trim(NEW.first_name); RETURN NEW; END $$;
             CREATE TRIGGER tidy BEFORE INSERT ON auth_user
                 FOR EACH ROW EXECUTE FUNCTION tidy();",
        )
        .await;
    let outcome = house.move_out().await;
    assert!(
        matches!(outcome, Err(MoveError::Differs("auth_user"))),
        "{outcome:?}"
    );
    house.assert_nothing_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn what_is_not_carried_is_told() {
    let house = House::new().await;
    house.execute(
        "CREATE TABLE django_session (session_key TEXT);
         CREATE TABLE auth_group (name TEXT);
         CREATE TABLE \"odd \"\" name\" (x);
         INSERT INTO django_session VALUES ('a'), ('b');
         INSERT INTO \"odd \"\" name\" VALUES (1);
         ALTER TABLE auth_user ADD COLUMN phone TEXT;",
    );
    let moved = house.move_out().await.unwrap();
    let left: Vec<_> = moved
        .left_behind
        .iter()
        .map(|left| (left.what.as_str(), left.rows))
        .collect();
    let expected = [
        ("auth_user.phone", None),
        ("django_session", Some(2)),
        ("odd \" name", Some(1)),
    ];
    assert_eq!(left, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_database_of_a_newer_version_is_left_alone_on_either_side() {
    let house = House::new().await;
    PostgresStore::migrate(&house.target.options())
        .await
        .unwrap();
    let newer = "UPDATE countersign_meta SET schema_version = 999";
    house.target.ask(newer).await;
    assert!(refused(house.move_out().await).contains("a newer Countersign"));
    house.store();
    house.execute(newer);
    assert!(refused(house.move_out().await).contains("a newer Countersign"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn who_moves_waits_for_nobody_longer_than_the_timeout() {
    let house = House::new().await;
    let other = Connection::open(house.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let outcome = house.move_out().await;
    let is_locked = matches!(outcome, Err(MoveError::Store(StoreError::Unavailable(_))));
    assert!(is_locked, "{outcome:?}");
    other.execute_batch("ROLLBACK").unwrap();
    house.move_out().await.unwrap();
}
