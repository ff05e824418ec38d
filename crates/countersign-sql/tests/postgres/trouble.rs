//! The database goes away, is read-only, locked, silent: an answer in time, nothing half-done, and on
//! again without a restart when it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::audit::Trail;
use countersign_core::session::EndReason;
use countersign_core::store::{Change, Listener, Store};
use countersign_sql::PostgresStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_postgres::NoTls;

use crate::harness::{
    Database, ask, assert_unavailable, end_of, eventually, logout, open, options, rotate,
    signed_in_ana,
};
use crate::server::{self, Server};

const SOON: Duration = Duration::from_secs(5);

/// The next change of a kind.
async fn heard(listener: &mut Listener, expected: Change) -> Duration {
    let asked = Instant::now();
    while let Some(change) = listener.next(SOON).await {
        if change == expected {
            return asked.elapsed();
        }
    }
    panic!("never heard: {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_server_that_stops_is_noticed_and_used_again_when_it_is_back() {
    let mut server = Server::new();
    let store = open(&options(&server.url("postgres")).timeout(Duration::from_secs(2))).await;
    let (_, session) = signed_in_ana(&store).await;
    let mut listener = Listener::of(&store);

    for generation in 0..2 {
        if generation == 0 {
            server.stop();
        } else {
            server.stop_at_once();
        }
        heard(&mut listener, Change::Unheard).await;
        assert_unavailable(&store.find_session(session.id).await);
        assert_unavailable(&rotate(&store, session.id, generation).await);
        assert_unavailable(&store.check().await);
        server.start();
        heard(&mut listener, Change::HeardAgain).await;
        assert!(rotate(&store, session.id, generation).await.unwrap());
        store.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn backends_that_are_killed_are_replaced() {
    let database = Database::new().await;
    let store = database.open().await;
    let (_, session) = signed_in_ana(&store).await;
    let mut listener = Listener::of(&store);
    database
        .ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    heard(&mut listener, Change::Unheard).await;
    heard(&mut listener, Change::HeardAgain).await;
    assert!(rotate(&store, session.id, 0).await.unwrap());
    assert!(store.find_session(session.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_read_only_server_is_read() {
    let database = Database::new().await;
    let store = database.open().await;
    let (_, session) = signed_in_ana(&store).await;
    let name = database.url().rsplit('/').next().unwrap().to_owned();
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    database.ask(&set).await;
    database.ask(end_sessions).await;
    eventually("it is read", async || {
        store.find_session(session.id).await.is_ok()
    })
    .await;
    eventually("it is connected", async || {
        rotate(&store, session.id, 0)
            .await
            .is_err_and(|error| error.to_string().contains("read-only"))
    })
    .await;
    assert_unavailable(&store.check().await);
    assert_unavailable(
        &store
            .end_session(session.id, logout(), &Trail::default())
            .await,
    );
    assert_eq!(end_of(&store, session.id).await, None);

    let others = database.url().replace(&name, "postgres");
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    ask(&others, &reset).await;
    database.ask(end_sessions).await;
    eventually("it is written", async || {
        rotate(&store, session.id, 0)
            .await
            .is_ok_and(|rotated| rotated)
    })
    .await;
}

/// A lock that somebody holds on all sessions, until this is dropped.
struct Lock(tokio_postgres::Client);

impl Lock {
    async fn on(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls)
            .await
            .expect("the server works");
        tokio::spawn(connection);
        client
            .batch_execute("BEGIN; LOCK TABLE countersign_session IN EXCLUSIVE MODE")
            .await
            .expect("the server works");
        Self(client)
    }

    async fn let_go(self) {
        self.0
            .batch_execute("ROLLBACK")
            .await
            .expect("the server works");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_lock_is_waited_for_as_long_as_told_and_nothing_is_done_later() {
    let database = Database::new().await;
    for pooled in [false, true] {
        let limit = Duration::from_millis(600);
        let options = database.options().timeout(limit).pool_size(2);
        let store = Arc::new(open(&options.pooled(pooled)).await);
        let session = match store.find_credentials("ana").await.unwrap() {
            Some(found) => crate::harness::sign_in(&*store, &found.user).await,
            None => signed_in_ana(&*store).await.1,
        };
        let lock = Lock::on(database.url()).await;
        let asked = Instant::now();
        // More than there are connections.
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let store = Arc::clone(&store);
            waiting.spawn(async move { rotate(&*store, session.id, 0).await });
        }
        for answer in waiting.join_all().await {
            assert_unavailable(&answer);
        }
        assert!(asked.elapsed() < limit * 3, "{:?}", asked.elapsed());
        // Readers wait for nobody.
        assert_eq!(end_of(&*store, session.id).await, None);
        // Those that gave up are not done when the lock is free.
        tokio::time::sleep(limit * 3).await;
        lock.let_go().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(rotate(&*store, session.id, 0).await.unwrap());
    }
}

/// What gets lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    Nothing,
    Answers,
    Everything,
}

/// The way to a server, on which things can get lost until it is mended.
struct Way {
    url: String,
    lost: watch::Sender<Lost>,
}

impl Way {
    async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (before, database) = url.rsplit_once('/').expect("a URL");
        let (before, behind) = before.rsplit_once(':').expect("a URL");
        let behind: u16 = behind.parse().expect("a port");
        let (lost, now_lost) = watch::channel(Lost::Nothing);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", behind)).await;
                let (near, far) = (near.into_split(), far.expect("a server").into_split());
                tokio::spawn(carry(near.0, far.1, Lost::Everything, now_lost.clone()));
                tokio::spawn(carry(far.0, near.1, Lost::Answers, now_lost.clone()));
            }
        });
        Self {
            url: format!("{before}:{port}/{database}"),
            lost,
        }
    }

    fn loses(&self, lost: Lost) {
        self.lost.send_replace(lost);
    }
}

/// Carries bytes one way, while less than this is lost.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    stops_at: Lost,
    mut now_lost: watch::Receiver<Lost>,
) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let mended = now_lost.wait_for(|lost| *lost < stops_at).await.is_ok();
        if !mended || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_silent_network_is_noticed_and_answered_in_time() {
    let database = Database::new().await;
    let way = Way::to(database.url()).await;
    let limit = Duration::from_millis(800);
    let store = open(&options(&way.url).timeout(limit)).await;
    let (_, session) = signed_in_ana(&store).await;
    let mut listener = Listener::of(&store);

    way.loses(Lost::Everything);
    let asked = Instant::now();
    assert_unavailable(&store.find_session(session.id).await);
    assert_unavailable(
        &store
            .end_session(session.id, logout(), &Trail::default())
            .await,
    );
    assert!(asked.elapsed() < limit * 5, "{:?}", asked.elapsed());
    heard(&mut listener, Change::Unheard).await;
    // Nobody knows whether the session has been ended.
    heard(&mut listener, Change::Everything).await;

    way.loses(Lost::Nothing);
    heard(&mut listener, Change::HeardAgain).await;
    assert!(store.find_session(session.id).await.unwrap().is_some());
    store
        .end_session(session.id, logout(), &Trail::default())
        .await
        .unwrap();
    assert_eq!(end_of(&store, session.id).await, Some(EndReason::Logout));
}

/// What listens hears of it as of one's own, which is passed over; then it turns out that nobody was
/// told.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_commit_whose_answer_is_lost_makes_the_node_read_anew() {
    let database = Database::new().await;
    let way = Way::to(database.url()).await;
    let options = options(&way.url)
        .timeout(Duration::from_millis(800))
        .pooled(true);
    let store = open(&options.listen_url(database.url()).unwrap()).await;
    let (_, session) = signed_in_ana(&store).await;
    let mut listener = Listener::of(&store);

    way.loses(Lost::Answers);
    assert_unavailable(
        &store
            .end_session(session.id, logout(), &Trail::default())
            .await,
    );
    let ended = format!(
        "SELECT end_reason FROM countersign_session WHERE id = '{}'",
        session.id
    );
    assert_eq!(database.ask(&ended).await, ["logout"]);
    heard(&mut listener, Change::Everything).await;

    way.loses(Lost::Nothing);
    eventually("it is read", async || {
        store.find_session(session.id).await.is_ok()
    })
    .await;
    assert!(
        !store
            .end_session(session.id, logout(), &Trail::default())
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn a_database_that_cannot_be_reached_is_refused_in_time() {
    let unreachable = "postgres://countersign@127.0.0.1:1/d";
    let nobody = PostgresStore::open(&options(unreachable)).await;
    assert_unavailable(&nobody.map(|_| ()));
    let port = server::shared();
    let missing = format!("postgres://countersign@127.0.0.1:{port}/nowhere");
    let missing = PostgresStore::open(&options(&missing)).await;
    assert_unavailable(&missing.map(|_| ()));
    let stranger = format!("postgres://nobody@127.0.0.1:{port}/postgres");
    let stranger = PostgresStore::open(&options(&stranger)).await;
    assert_unavailable(&stranger.map(|_| ()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL's server programs"]
async fn sessions_are_ended_for_each_other_without_a_deadlock() {
    let database = Database::new().await;
    let (one, other) = (database.store().await, database.store().await);
    let (ana, _) = signed_in_ana(&*one).await;
    let trail = Trail::default();
    for _ in 0..10 {
        for _ in 0..20 {
            crate::harness::sign_in(&*one, &ana).await;
        }
        let (first, second) = tokio::join!(
            one.end_sessions(ana.id, None, logout(), &trail),
            other.end_sessions(ana.id, None, logout(), &trail)
        );
        let ended = first.unwrap().len() + second.unwrap().len();
        assert!(ended >= 20, "{ended}");
    }
}
