//! A database in a directory of its own, and who lives in it.

#![expect(dead_code, reason = "each test file uses some of this")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::clock::SystemRandomness;
use countersign_core::error::StoreError;
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, Generation, Session, SessionEnd, SessionId};
use countersign_core::store::{OpenOutcome, OpenSession, Rotation, Store};
use countersign_core::user::{Email, NewUser, PersonName, User, Username};
use countersign_sql::{SqliteOptions, SqliteStore};
use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

/// Ten o'clock on a day in 2026.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_795_341_600).expect("a date in 2026")
}

/// A directory for one database, deleted with this.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("countersign.db")
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.path())
            .timeout(Duration::from_millis(300))
            .readers(2)
    }

    pub(crate) fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.options()).expect("the database opens")
    }

    /// A connection of somebody else's.
    pub(crate) fn stranger(&self) -> Connection {
        Connection::open(self.path()).expect("the database opens")
    }

    /// How a table was made; empty if there is none.
    pub(crate) fn schema_of(&self, table: &str) -> String {
        let sql = "SELECT coalesce(max(sql), '') FROM sqlite_schema WHERE name = ?1";
        let schema = self.stranger().query_row(sql, [table], |row| row.get(0));
        schema.expect("SQL of ours")
    }

    /// Makes a database of the first version, in which Ana (7) has a session of generation 3. Gives a
    /// connection to it.
    pub(crate) fn of_the_first_version(&self) -> Connection {
        let first = concat!(
            include_str!("../../src/sqlite/migrations/auth_user.sql"),
            include_str!("../../src/sqlite/migrations/0001_initial.sql")
        );
        let stranger = self.stranger();
        stranger.execute_batch(first).expect("SQL of ours");
        stranger
            .execute_batch(
                "CREATE TABLE countersign_meta (
                     singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
                     schema_version INTEGER NOT NULL,
                     created_at INTEGER NOT NULL,
                     checked_at INTEGER NOT NULL);
                 INSERT INTO countersign_meta VALUES (1, 1, 0, 0);
                 INSERT INTO auth_user VALUES
                     (7, '!', NULL, 0, 'ana', '', '', 0, 1, '2026-11-22 10:00:00', '');
                 INSERT INTO countersign_session VALUES
                     (x'0199c0de7b1c700080000123456789ab', 7, 3, 1795341600000, 1795341660000, 1,
                      NULL, NULL, NULL, NULL, NULL);
                 INSERT INTO countersign_signing_key VALUES
                     (1, 'kid', 'ES256', 'current', x'01', 1795341600000);",
            )
            .expect("SQL of ours");
        stranger
    }

    /// A store whose directory nobody is left to delete but the system.
    pub(crate) fn keep_until_the_process_ends(self) -> Arc<SqliteStore> {
        let store = Arc::new(self.open());
        // The file must stay while the store is used, and the test only holds the store.
        std::mem::forget(self);
        store
    }
}

pub(crate) fn ana() -> NewUser {
    NewUser {
        first_name: PersonName::default(),
        last_name: PersonName::default(),
        username: Username::parse("ana").expect("a good name"),
        email: Email::parse("ana@example.org").expect("a good address"),
        password: EncodedPassword::new("argon2$test$ana"),
        is_staff: false,
        is_superuser: false,
        date_joined: start(),
    }
}

pub(crate) async fn sign_in(store: &dyn Store, user: &User) -> Session {
    let session = Session {
        id: SessionId::new(start(), &SystemRandomness),
        user_id: user.id,
        generation: Generation::FIRST,
        opened_at: start(),
        rotated_at: start(),
        remember: true,
        address: None,
        user_agent: Some("curl/8".to_owned()),
        end: None,
    };
    let opening = OpenSession {
        session: session.clone(),
        verified: EncodedPassword::new("argon2$test$ana"),
        upgraded: None,
        replaced: None,
        most: None,
        trail: Trail::default(),
    };
    let outcome = store.open_session(&opening).await.expect("the store works");
    assert!(matches!(outcome, OpenOutcome::Opened { .. }), "{outcome:?}");
    session
}

/// A store in which Ana is signed in.
pub(crate) async fn with_ana(place: &Place) -> (SqliteStore, User, Session) {
    let store = place.open();
    let ana = store
        .create_user(&ana(), &Trail::default())
        .await
        .expect("the name is free");
    let session = sign_in(&store, &ana).await;
    (store, ana, session)
}

pub(crate) async fn rotate(
    store: &dyn Store,
    session: SessionId,
    from: u32,
) -> Result<bool, StoreError> {
    store
        .rotate(&Rotation {
            session,
            from: Generation(from),
            at: start(),
        })
        .await
}

pub(crate) async fn generation(store: &dyn Store, session: SessionId) -> u32 {
    let found = store.find_session(session).await.expect("the store works");
    found.expect("the session is there").0.generation.0
}

pub(crate) fn logout() -> SessionEnd {
    SessionEnd {
        reason: EndReason::Logout,
        at: start(),
        by: EndedBy::CommandLine,
    }
}

/// Tries until it is true, for five seconds.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_so().await {
        assert!(Instant::now() < deadline, "never came to pass: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn assert_unavailable<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
}

pub(crate) fn assert_corrupt<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
}
