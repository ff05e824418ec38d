//! A database of a test's own, and who lives in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::clock::SystemRandomness;
use countersign_core::error::StoreError;
use countersign_core::password::EncodedPassword;
use countersign_core::session::{EndReason, EndedBy, Generation, Session, SessionEnd, SessionId};
use countersign_core::store::{OpenOutcome, OpenSession, Rotation, Store};
use countersign_core::user::{Email, NewUser, PersonName, User, Username};
use countersign_sql::{PostgresOptions, PostgresStore};
use jiff::Timestamp;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::server;

/// Ten o'clock on a day in 2026.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_795_341_600).expect("a date in 2026")
}

/// Longer than any test: users that others may have changed are not looked for.
const NEVER: Duration = Duration::from_hours(1);

/// A database on the server that all share.
pub(crate) struct Database {
    url: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let port = server::shared();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{count}", std::process::id());
        let at = |database: &str| format!("postgres://countersign@127.0.0.1:{port}/{database}");
        ask(&at("postgres"), &format!("CREATE DATABASE {name}")).await;
        Self { url: at(&name) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        options(&self.url)
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        open(&self.options()).await
    }

    pub(crate) async fn store(&self) -> Arc<PostgresStore> {
        Arc::new(self.open().await)
    }

    pub(crate) async fn store_as_behind_a_pooler(&self) -> Arc<PostgresStore> {
        Arc::new(open(&self.options().pooled(true)).await)
    }

    /// With the sessions in partitions, as `docs/scaling.md` says how.
    pub(crate) async fn store_with_partitions(&self) -> Arc<PostgresStore> {
        PostgresStore::migrate(&self.options())
            .await
            .expect("it is made");
        let partition = include_str!("../../../../docs/sql/partition-sessions.sql");
        self.ask(partition).await;
        let count = "SELECT count(*) FROM pg_inherits
             WHERE inhparent = 'countersign_session'::regclass";
        assert_eq!(self.ask(count).await, ["16"]);
        self.store().await
    }

    /// Asks it something, as anyone may: the first column of the rows.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<String> {
        let messages = ask(&self.url, sql).await;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        rows.collect()
    }
}

/// Asks a database something, as anyone may.
pub(crate) async fn ask(url: &str, sql: &str) -> Vec<SimpleQueryMessage> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a server");
    let attending = tokio::spawn(connection);
    let answer = client.simple_query(sql).await.expect(sql);
    drop(client);
    let _ = attending.await;
    answer
}

pub(crate) fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url)
        .expect("a good URL")
        .users_age(NEVER)
        .pool_size(8)
}

pub(crate) async fn open(options: &PostgresOptions) -> PostgresStore {
    PostgresStore::open(options).await.expect("it opens")
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

pub(crate) fn opening(user: &User) -> OpenSession {
    OpenSession {
        session: Session {
            id: SessionId::new(start(), &SystemRandomness),
            user_id: user.id,
            generation: Generation::FIRST,
            opened_at: start(),
            rotated_at: start(),
            remember: true,
            address: None,
            user_agent: Some("curl/8".to_owned()),
            end: None,
        },
        verified: EncodedPassword::new("argon2$test$ana"),
        upgraded: None,
        replaced: None,
        most: None,
        trail: Trail::default(),
    }
}

pub(crate) async fn sign_in(store: &dyn Store, user: &User) -> Session {
    let opening = opening(user);
    let outcome = store.open_session(&opening).await.expect("the store works");
    assert!(matches!(outcome, OpenOutcome::Opened { .. }), "{outcome:?}");
    opening.session
}

/// Ana, signed in.
pub(crate) async fn signed_in_ana(store: &dyn Store) -> (User, Session) {
    let ana = store
        .create_user(&ana(), &Trail::default())
        .await
        .expect("the name is free");
    let session = sign_in(store, &ana).await;
    (ana, session)
}

pub(crate) async fn rotate(
    store: &dyn Store,
    session: SessionId,
    from: u32,
) -> Result<bool, StoreError> {
    let rotation = Rotation {
        session,
        from: Generation(from),
        at: start(),
    };
    store.rotate(&rotation).await
}

pub(crate) async fn end_of(store: &dyn Store, session: SessionId) -> Option<EndReason> {
    let found = store.find_session(session).await.expect("the store works");
    let session = found.expect("the session is there").0;
    session.end.map(|end| end.reason)
}

pub(crate) fn logout() -> SessionEnd {
    SessionEnd {
        reason: EndReason::Logout,
        at: start(),
        by: EndedBy::CommandLine,
    }
}

/// Tries until it is true, for ten seconds. Gives how long it took.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so().await {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "never came to pass: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

pub(crate) fn assert_unavailable<T: std::fmt::Debug>(answer: &Result<T, StoreError>) {
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
}

pub(crate) fn message<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    answer.expect_err("refused").to_string()
}
