//! Versions of the schema, and what stands in the tables.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;
use std::thread;

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::session::{EndReason, EndedBy, SessionEnd};
use countersign_core::store::{EndedAt, Store as _};
use countersign_core::user::UserId;
use countersign_sql::{Migrations, SchemaVersions, SqliteStore};
use jiff::Timestamp;
use support::{Place, ana, assert_corrupt, assert_unavailable, rotate, start, with_ana};

const VERSION: u32 = 8;

fn message<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    answer.expect_err("refused").to_string()
}

#[test]
fn the_version_is_told_and_nothing_is_changed() {
    let place = Place::new();
    let pending = SchemaVersions {
        current: 0,
        wanted: VERSION,
    };
    assert_eq!(
        SqliteStore::schema_versions(&place.options()).unwrap(),
        pending
    );
    assert!(!place.path().exists());

    // An empty file, or somebody else's database.
    fs::write(place.path(), "").unwrap();
    assert_eq!(
        SqliteStore::schema_versions(&place.options()).unwrap(),
        pending
    );
    assert!(pending.is_pending());
    assert_eq!(fs::metadata(place.path()).unwrap().len(), 0);

    assert_eq!(SqliteStore::migrate(&place.options()).unwrap(), pending);
    let done = SchemaVersions {
        current: VERSION,
        wanted: VERSION,
    };
    assert_eq!(SqliteStore::migrate(&place.options()).unwrap(), done);
    assert_eq!(
        SqliteStore::schema_versions(&place.options()).unwrap(),
        done
    );
    assert!(!done.is_pending());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_version_keeps_its_sessions_and_keys() {
    let place = Place::new();
    drop(place.of_the_first_version());
    let store = place.open();
    let session = "0199c0de-7b1c-7000-8000-0123456789ab".parse().unwrap();
    let (session, user) = store.find_session(session).await.unwrap().unwrap();
    assert_eq!((session.generation.0, session.end), (3, None));
    assert_eq!(user.unwrap().username, "ana");
    let keys = store.signing_keys().await.unwrap();
    assert_eq!((keys.len(), keys[0].state_since), (1, start()));
    assert!(rotate(&store, session.id, 3).await.unwrap());
}

#[test]
fn a_database_that_was_not_migrated_is_refused_where_that_is_required() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    let required = place.options().migrations(Migrations::Require);
    let refused = message(SqliteStore::open(&required));
    assert!(refused.contains("run `countersign migrate`"), "{refused}");
    SqliteStore::migrate(&place.options()).unwrap();
    SqliteStore::open(&required).unwrap();
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let place = Place::new();
    drop(place.open());
    place
        .stranger()
        .execute("UPDATE countersign_meta SET schema_version = 999", [])
        .unwrap();
    let before = fs::read(place.path()).unwrap();
    for refused in [
        message(SqliteStore::open(&place.options())),
        message(SqliteStore::open(
            &place.options().migrations(Migrations::Require),
        )),
        message(SqliteStore::migrate(&place.options())),
    ] {
        assert!(
            refused.contains("999") && refused.contains("newer"),
            "{refused}"
        );
    }
    assert_eq!(
        SqliteStore::schema_versions(&place.options())
            .unwrap()
            .current,
        999
    );
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn threads_that_start_together_migrate_once() {
    for _ in 0..20 {
        let place = Place::new();
        let together = Barrier::new(4);
        let options = place.options().timeout(std::time::Duration::from_secs(10));
        let migrated = thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    together.wait();
                    SqliteStore::migrate(&options)
                        .expect("it waits for the others")
                        .is_pending()
                })
            });
            threads
                .map(|thread| thread.join().unwrap())
                .iter()
                .filter(|did| **did)
                .count()
        });
        assert_eq!(migrated, 1);
        place.open();
    }
}

#[test]
fn the_file_is_its_owners_only() {
    let place = Place::new();
    let _store = place.open();
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", place.path().display());
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{suffix}"
        );
    }
}

#[test]
fn a_users_table_that_is_not_djangos_is_refused_and_nothing_is_made() {
    let place = Place::new();
    place
        .stranger()
        .execute("CREATE TABLE auth_user (id INTEGER, login TEXT)", [])
        .unwrap();
    let refused = message(SqliteStore::open(&place.options()));
    assert!(refused.contains("auth_user"), "{refused}");
    let tables: i64 = place
        .stranger()
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn instants_are_kept_as_django_keeps_them() {
    let place = Place::new();
    let (store, ana, _) = with_ana(&place).await;
    let stranger = place.stranger();
    let written: (String, String) = stranger
        .query_row("SELECT date_joined, last_login FROM auth_user", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let ten_o_clock = "2026-11-22 10:00:00";
    assert_eq!(written, (ten_o_clock.to_owned(), ten_o_clock.to_owned()));

    for (text, microsecond) in [("2026-11-22 10:00:00.000001", 1), (ten_o_clock, 0)] {
        stranger
            .execute("UPDATE auth_user SET last_login = ?1", [text])
            .unwrap();
        let user = store.find_user(ana.id).await.unwrap().unwrap();
        let expected = start().as_microsecond() + microsecond;
        assert_eq!(
            user.last_login,
            Some(Timestamp::from_microsecond(expected).unwrap())
        );
    }
}

#[tokio::test]
async fn ends_are_kept_in_words() {
    let place = Place::new();
    for (by, words) in [
        (EndedBy::User(UserId(5)), "user:5"),
        (EndedBy::CommandLine, "command_line"),
        (EndedBy::Service, "service"),
    ] {
        let store = place.open();
        let user = match store.find_user(UserId(1)).await.unwrap() {
            Some(user) => user,
            None => store.create_user(&ana(), &Trail::default()).await.unwrap(),
        };
        let session = support::sign_in(&store, &user).await;
        let end = SessionEnd {
            reason: EndReason::ReuseDetected,
            at: start(),
            by,
        };
        assert!(
            store
                .end_session(session.id, end, &Trail::default())
                .await
                .unwrap()
        );
        let written: (i64, String, String) = place
            .stranger()
            .query_row(
                "SELECT ended_at, end_reason, ended_by FROM countersign_session WHERE id = ?1",
                [session.id.0.as_bytes().as_slice()],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        let expected = (
            start().as_millisecond(),
            "reuse_detected".to_owned(),
            words.to_owned(),
        );
        assert_eq!(written, expected);
        let found = store.find_session(session.id).await.unwrap().unwrap().0;
        assert_eq!(found.end, Some(end));
    }
}

#[tokio::test]
async fn a_user_that_cannot_be_is_refused_when_read() {
    for wrong in [
        "is_active = 2",
        "is_staff = 'yes'",
        "date_joined = 'yesterday'",
        "last_login = 1795341600",
        "username = x'ff'",
        "email = CAST(x'ff' AS TEXT)",
    ] {
        let place = Place::new();
        let (store, ana, session) = with_ana(&place).await;
        place
            .stranger()
            .execute(&format!("UPDATE auth_user SET {wrong}"), [])
            .unwrap();
        assert_corrupt(&store.find_user(ana.id).await);
        assert_corrupt(&store.find_session(session.id).await);
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_when_read() {
    for wrong in [
        "generation = -1",
        "generation = 4294967296",
        "opened_at = 'then'",
        "rotated_at = 9223372036854775807",
        "remember = 7",
        "address = 'here'",
        "user_agent = 5",
        "ended_at = 5",
        "ended_at = 5, end_reason = 'bored', ended_by = 'service'",
        "ended_at = 5, end_reason = 'logout', ended_by = 'user:ana'",
    ] {
        let place = Place::new();
        let (store, _, session) = with_ana(&place).await;
        let stranger = place.stranger();
        stranger
            .pragma_update(None, "ignore_check_constraints", true)
            .unwrap();
        stranger
            .execute(&format!("UPDATE countersign_session SET {wrong}"), [])
            .unwrap();
        let read = store.find_session(session.id).await;
        // SQLite makes text of a number in a text column: that one can be.
        if wrong.starts_with("user_agent") {
            assert_eq!(read.unwrap().unwrap().0.user_agent.as_deref(), Some("5"));
        } else {
            assert_corrupt(&read);
        }
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_is_refused_when_read() {
    for wrong in ["'ES256', 'idle'", "'none', 'next'"] {
        let place = Place::new();
        let store = place.open();
        let insert = format!(
            "INSERT INTO countersign_signing_key (kid, algorithm, state, sealed, created_at)
             VALUES ('kid', {wrong}, x'00', 0)"
        );
        place.stranger().execute(&insert, []).unwrap();
        assert_corrupt(&store.signing_keys().await);
    }
}

/// Django's foreign keys hold only at the commit, which is shared by many.
#[tokio::test]
async fn a_user_of_a_django_site_is_deleted_as_django_does_it() {
    let place = Place::new();
    let (store, ana, session) = with_ana(&place).await;
    let stranger = place.stranger();
    stranger
        .execute_batch(
            "CREATE TABLE auth_user_groups (
                 id integer PRIMARY KEY,
                 user_id integer NOT NULL REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED
             );
             CREATE TABLE shop_order (
                 id integer PRIMARY KEY,
                 buyer_id integer REFERENCES auth_user (id) DEFERRABLE INITIALLY DEFERRED
             );
             INSERT INTO auth_user_groups (user_id) VALUES (1);
             INSERT INTO shop_order (buyer_id) VALUES (1);",
        )
        .unwrap();
    let ending = EndedAt {
        at: start(),
        by: EndedBy::CommandLine,
    };
    let refused = store.delete_user(ana.id, ending, &Trail::default()).await;
    assert!(
        message(refused.clone()).contains("shop_order.buyer_id"),
        "{refused:?}"
    );
    assert_unavailable(&refused);
    let groups = "SELECT count(*) FROM auth_user_groups";
    let count = || {
        stranger
            .query_row(groups, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count(), 1);
    assert_eq!(
        store.find_session(session.id).await.unwrap().unwrap().0.end,
        None
    );

    stranger.execute("DELETE FROM shop_order", []).unwrap();
    assert!(
        store
            .delete_user(ana.id, ending, &Trail::default())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(count(), 0);
}
